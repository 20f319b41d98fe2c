"""Whose turn it is to be probed: of those who wait for one, who was heard or tried longest ago.

Kept in a heap by the moment at which a member was put in. That moment only grows when somebody is heard, so what a
member was put in with is never too late: who comes to the front too early is put back with what holds now.

Those whom this device watches and all others have turns of their own, and the rota goes from one to the other.
"""

from collections.abc import Mapping
from heapq import heappop, heappush
from math import inf
from random import Random  # noqa: TID251
from typing import TypeAlias

from clanmesh_protocol.keys import NodeId
from clanmeshd.core.limits import (
    PROBE_GREETING_INTERVAL_S,
    PROBE_GREETING_INTERVAL_S_MIN,
    PROBE_GREETING_S,
    PROBE_GREETING_SOON_S,
    SWEEP_EVERY,
)
from clanmeshd.core.subjects import Subject
from clanmeshd.core.watching import watched_by

_Entry: TypeAlias = tuple[float, float, NodeId, Subject]  # a random number decides between equal moments


class Turns:
    """The order of probing. Members of one moment, all of them after a start, come in a random order."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._heap: list[_Entry] = []
        self._entered: dict[NodeId, _Entry] = {}  # a member's one entry that holds

    def enter(self, subject: Subject) -> None:
        """Let a member take part, if it waits for a turn; again when its moment may have become an earlier one."""
        if not subject.awaits_turn:
            return
        held, turn = self._entered.get(subject.node), subject.turn
        if held is None or turn < held[0]:
            entry = self._entered[subject.node] = (turn, self._rng.random(), subject.node, subject)
            heappush(self._heap, entry)

    def anybody(self) -> bool:
        """Whether somebody waits for a turn; whose it is need not be found out for that."""
        return bool(self._heap) and (self._heap[0][3].awaits_turn or self._front() is not None)

    def has_untried(self) -> bool:
        """Whether somebody waits who was never heard nor tried."""
        if not self._heap or self._heap[0][0] > -inf:
            return False  # nor is any other: moments only grow
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


class Rota:
    """Who of all members is probed next: mostly one of those that are watched, now and then another."""

    def __init__(self, own: NodeId, rng: Random) -> None:
        self._own = own
        self._rng = rng
        self._members = 0
        self._watched: frozenset[NodeId] = frozenset()
        self._turns = Turns(rng)  # of the watched
        self._sweep = Turns(rng)  # of all others
        self._taken = 0

    def assign(self, subjects: Mapping[NodeId, Subject]) -> None:
        """Take the set of all members, and forget whom it lacks."""
        self._members = len(subjects)
        self._watched = watched_by(self._own, subjects)
        self._turns, self._sweep = Turns(self._rng), Turns(self._rng)
        for subject in subjects.values():
            self.enter(subject)

    def enter(self, subject: Subject) -> None:
        """Let a member take part, if it waits for a turn; again when its moment may have become an earlier one."""
        (self._turns if subject.node in self._watched else self._sweep).enter(subject)

    def anybody(self) -> bool:
        """Whether somebody waits for a turn."""
        return self._turns.anybody() or self._sweep.anybody()

    def greeting_pause_s(self) -> float:
        """How soon to probe while somebody waits who was never heard nor tried, in seconds; else infinity."""
        if self._turns.has_untried() or self._sweep.has_untried():
            soon_s = max(PROBE_GREETING_INTERVAL_S_MIN, PROBE_GREETING_SOON_S / self._members)
            return min(PROBE_GREETING_INTERVAL_S, soon_s, PROBE_GREETING_S / self._members)
        return inf

    def next(self) -> Subject | None:
        """Take out whose turn it is; it enters again when it waits again."""
        self._taken += 1
        first, second = self._turns, self._sweep
        if self._sweep_is_first():
            first, second = second, first
        return first.next() or second.next()

    def _sweep_is_first(self) -> bool:
        untried = self._sweep.has_untried()
        if untried != self._turns.has_untried():
            return untried
        return self._taken % SWEEP_EVERY == 0
