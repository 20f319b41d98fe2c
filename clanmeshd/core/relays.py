"""Indirect probes that this node does for others: ping the target, tell the asker."""

from math import inf
from typing import NamedTuple

from clanmesh_protocol.keys import NodeId
from clanmeshd.core.limits import RELAYS_EACH_MAX, RELAYS_MAX


class Relayed(NamedTuple):
    """An answer that is due: to whom, about which of their numbers, and what it is."""

    asker: NodeId
    number: int
    reached: bool


class Relays:
    """Bounded; what is asked beyond that gets no answer, which the asker takes as our being busy."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[NodeId, int], tuple[NodeId, float]] = {}  # (asker, number) -> (target, until)

    def ask(self, asker: NodeId, number: int, target: NodeId, until_s: float) -> bool:
        """Begin; False when there are too many."""
        own = sum(1 for waiting, _ in self._waiting if waiting == asker)
        if own >= RELAYS_EACH_MAX or len(self._waiting) >= RELAYS_MAX:
            return False
        self._waiting[asker, number] = (target, until_s)
        return True

    def heard(self, target: NodeId) -> list[Relayed]:
        """The target answered us: give the good news that is due."""
        if not self._waiting:
            return []
        return self._finish([key for key, (node, _) in self._waiting.items() if node == target], reached=True)

    def lapse(self, now_s: float) -> list[Relayed]:
        """Give the bad news that is due."""
        return self._finish(
            [key for key, (_, until_s) in self._waiting.items() if until_s <= now_s], reached=False
        )

    def next_deadline(self) -> float:
        """When `lapse` has something to say; infinity for never."""
        return min(until_s for _, until_s in self._waiting.values()) if self._waiting else inf

    def _finish(self, keys: list[tuple[NodeId, int]], *, reached: bool) -> list[Relayed]:
        for key in keys:
            del self._waiting[key]
        return [Relayed(asker, number, reached) for asker, number in keys]
