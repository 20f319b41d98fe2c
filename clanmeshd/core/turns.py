"""Whose turn it is to be probed: of those who wait for one, who was heard or tried longest ago.

Kept in a heap by the moment at which a member was put in. That moment only grows when somebody is heard, so what a
member was put in with is never too late: who comes to the front too early is put back with what holds now.
"""

from collections.abc import Container
from heapq import heappop, heappush
from math import inf
from random import Random  # noqa: TID251
from typing import TypeAlias

from clanmesh_protocol.keys import NodeId
from clanmeshd.core.subjects import Subject

_Entry: TypeAlias = tuple[float, float, NodeId, Subject]  # a random number decides between equal moments


class Turns:
    """The order of probing. Members of one moment, all of them after a start, come in a random order."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._heap: list[_Entry] = []
        self._entered: dict[NodeId, _Entry] = {}  # a member's one entry that holds

    def retain(self, members: Container[NodeId]) -> None:
        """Forget all others."""
        self._entered = {node: entry for node, entry in self._entered.items() if node in members}

    def enter(self, subject: Subject) -> None:
        """Let a member take part, if it waits for a turn; again when its moment may have become an earlier one."""
        if not subject.awaits_turn:
            return
        held, turn = self._entered.get(subject.node), subject.turn
        if held is None or turn < held[0]:
            entry = self._entered[subject.node] = (turn, self._rng.random(), subject.node, subject)
            heappush(self._heap, entry)

    def anybody(self) -> bool:
        """Whether somebody waits for a turn."""
        return self._front() is not None

    def has_untried(self) -> bool:
        """Whether somebody waits who was never heard nor tried."""
        front = self._front()
        return front is not None and front.turn == -inf

    def next(self) -> Subject | None:
        """Take out whose turn it is; it enters again when it waits again."""
        subject = self._front()
        if subject is not None:
            heappop(self._heap)
            del self._entered[subject.node]
        return subject

    def _front(self) -> Subject | None:
        while self._heap:
            entry = self._heap[0]
            at_s, _, node, subject = entry
            holds = self._entered.get(node) is entry
            if holds and subject.awaits_turn and subject.turn == at_s:
                return subject
            heappop(self._heap)
            if holds:
                del self._entered[node]
                self.enter(subject)
        return None
