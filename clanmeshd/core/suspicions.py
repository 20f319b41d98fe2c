"""Who suspects whom: the newest signed suspicion of each member, how many it takes, and this device's own.

A vote names an incarnation, which is the seq of the subject's status record. It counts only while it names the
incarnation held here: an older one was refuted by the subject's own signature, and a higher one was never shown
to us, so nobody can vote against a future that the subject could not refute.
"""

from collections.abc import Iterable, Mapping
from math import inf

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import SUSPICIONS_MAX
from clanmeshd.core.limits import (
    SUSPICION_INTERVAL_S,
    SUSPICION_REPEAT_S,
    SUSPICION_TTL_S,
    WITHDRAWAL_S,
    WITNESSES_MAX,
)

Votes = tuple[tuple[NodeId, int], ...]


def quorum(members: int) -> int:
    """How many distinct suspicions it takes in a clan of so many members that are not down."""
    return max(1, min(WITNESSES_MAX, members // 2))  # members // 2 is half of the others, rounded up


class Suspicions:
    """The votes of all other authors. Bounded: one record each, of at most SUSPICIONS_MAX subjects."""

    def __init__(self) -> None:
        self._votes: dict[NodeId, tuple[Mapping[NodeId, int], float]] = {}

    def hear(self, author: NodeId, suspects: Iterable[tuple[NodeId, int]], now_s: float) -> None:
        """Replace what `author` suspects. Votes against oneself are none."""
        votes = {node: incarnation for node, incarnation in suspects if node != author}
        if votes:
            self._votes[author] = (votes, now_s + SUSPICION_TTL_S)
        else:
            self._votes.pop(author, None)

    def against(self, node: NodeId, incarnation: int, now_s: float) -> int:
        """Count the members whose standing vote is against this incarnation of `node`."""
        return sum(
            1 for votes, lapses_s in self._votes.values() if votes.get(node) == incarnation and now_s < lapses_s
        )

    def retain(self, members: frozenset[NodeId]) -> None:
        """Forget the votes of all others."""
        self._votes = {author: votes for author, votes in self._votes.items() if author in members}


class Ballot:
    """This device's own votes, and when they are to be published."""

    def __init__(self) -> None:
        self._votes: dict[NodeId, tuple[int, float]] = {}  # node -> (incarnation, until when it is said)
        self._standing: set[NodeId] = set()  # suspected still: said again and again
        self._changed = False
        self._withdrawn = False
        self._published_s = -inf

    def cast(self, node: NodeId, incarnation: int, now_s: float) -> None:
        """Suspect a member from now on."""
        self._standing.add(node)
        self._say(node, incarnation, now_s)

    def support(self, node: NodeId, incarnation: int, now_s: float) -> None:
        """Say once more, for another who asks, that a member is down; a vote that is out already is enough."""
        before = self._votes.get(node)
        if before is None or before[0] != incarnation or before[1] <= now_s + SUSPICION_REPEAT_S:
            self._say(node, incarnation, now_s)

    def _say(self, node: NodeId, incarnation: int, now_s: float) -> None:
        self._votes[node] = (incarnation, now_s + SUSPICION_TTL_S)
        self._changed = True

    def rest(self, node: NodeId) -> None:
        """The verdict stands: the vote need not be said again, and lapses."""
        self._standing.discard(node)

    def withdraw(self, node: NodeId) -> None:
        """Suspect a member no more."""
        self._standing.discard(node)
        if self._votes.pop(node, None) is not None:
            self._withdrawn = True

    def stands(self, node: NodeId) -> bool:
        """Say whether this device suspects a member now."""
        return node in self._standing

    def next_deadline(self) -> float:
        """When `take` will give something; infinity for never."""
        if self._changed:
            return self._published_s + SUSPICION_INTERVAL_S
        if self._withdrawn:
            return self._published_s + WITHDRAWAL_S
        return self._published_s + SUSPICION_REPEAT_S if self._standing else inf

    def take(self, now_s: float) -> Votes | None:
        """Give the votes to publish if it is time; the newest when a record cannot hold all."""
        if now_s < self.next_deadline():
            return None
        for node in self._standing:
            self._votes[node] = (self._votes[node][0], now_s + SUSPICION_TTL_S)
        self._votes = {node: vote for node, vote in self._votes.items() if vote[1] > now_s}
        self._changed = self._withdrawn = False
        self._published_s = now_s
        newest = sorted(self._votes.items(), key=lambda item: (-item[1][1], item[0]))[:SUSPICIONS_MAX]
        return tuple(sorted((node, incarnation) for node, (incarnation, _) in newest))
