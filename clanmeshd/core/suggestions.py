"""Addresses where somebody of the clan may be, nobody knows who: knocked at for a while.

Only the pair's key opens a datagram, so a suggested address is tried with one for each of a few lost members, the
next few each time, until all had their turn some times. Whoever is there answers, and the suggestion has done its
work.
"""

from collections.abc import Collection, Sequence
from math import inf

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.records import Record
from clanmeshd.core.limits import (
    SUGGESTION_INTERVAL_S,
    SUGGESTION_MEMBERS_MAX,
    SUGGESTION_PASSES_MAX,
    SUGGESTIONS_MAX,
)
from clanmeshd.core.membership import Membership
from clanmeshd.core.traffic import Traffic


class Suggestions:
    """Bounded in number, passes over the lost members, and members tried at once; each pass is slower."""

    def __init__(self) -> None:
        self._waiting: dict[Endpoint, tuple[int, float]] = {}  # endpoint -> (rounds so far, when next)

    def hear(self, endpoint: Endpoint, now_s: float) -> bool:
        """Take a suggestion; False when it is being tried already or there are too many."""
        if endpoint in self._waiting or len(self._waiting) >= SUGGESTIONS_MAX:
            return False
        self._waiting[endpoint] = (0, now_s)
        return True

    def settle(self, endpoint: Endpoint) -> None:
        """Somebody proved to be there."""
        self._waiting.pop(endpoint, None)

    def next_deadline(self) -> float:
        """When `due` gives something; infinity for never."""
        return min(when_s for _, when_s in self._waiting.values()) if self._waiting else inf

    def due(
        self, lost: Sequence[NodeId], admins: Collection[NodeId], now_s: float
    ) -> list[tuple[Endpoint, list[NodeId]]]:
        """Give the addresses to knock at now, and for whom: admins first, who let others in and are mostly on."""
        knocks = []
        lost = sorted(lost, key=lambda node: node not in admins) if self._waiting else lost
        ways = -(-len(lost) // SUGGESTION_MEMBERS_MAX)  # rounds of one pass
        for endpoint, (rounds, when_s) in list(self._waiting.items()):
            if when_s > now_s:
                continue
            if not lost or rounds >= ways * SUGGESTION_PASSES_MAX:
                del self._waiting[endpoint]
                continue
            self._waiting[endpoint] = (rounds + 1, now_s + SUGGESTION_INTERVAL_S * 2 ** (rounds // ways))
            start = rounds % ways * SUGGESTION_MEMBERS_MAX
            knocks.append((endpoint, list(lost[start : start + SUGGESTION_MEMBERS_MAX])))
        return knocks


def knock(
    suggestions: Suggestions,
    membership: Membership,
    admins: Collection[NodeId],
    traffic: Traffic,
    record: Record | None,
    root: bytes,
    now_s: float,
) -> None:
    """Ping those of the lost whose turn it is at each suggested address, and show them this device's record."""
    for endpoint, nodes in suggestions.due(membership.lost(), admins, now_s):
        for node in nodes:
            traffic.ping(node, membership.issue_number(node, now_s), root, [endpoint])
            traffic.hello(node, record, [endpoint], now_s)
