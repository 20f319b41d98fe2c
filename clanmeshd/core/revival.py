"""Members that are down are tried for ever: one of them now and then, and each once when another comes back.

What took one away has often taken many, and they come back together. So they are tried at a pace for few, and at a
faster one where it would take long: after a partition half of a large clan waits.
"""

from collections.abc import Collection, Iterable, Sequence
from math import inf
from random import Random  # noqa: TID251

from clanmesh_protocol.keys import NodeId
from clanmeshd.core.limits import DOWN_INTERVAL_S, REVIVAL_INTERVAL_S, REVIVAL_S


class Revival:
    """When to try whom. Bounded by the members."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._waiting: dict[NodeId, None] = {}  # for their one try, in order
        self._next_s = inf  # for the first of them
        self._again_s = inf  # for any that is down

    def retain(self, members: Collection[NodeId]) -> None:
        """Forget all others."""
        self._waiting = {node: None for node in self._waiting if node in members}

    def lose(self, now_s: float) -> None:
        """Somebody is down from now on."""
        if self._again_s == inf:
            self._again_s = now_s + DOWN_INTERVAL_S * self._rng.random()  # not in step with all who lost it now

    def begin(self, nodes: Iterable[NodeId], now_s: float) -> None:
        """Somebody came back: have these tried soon, those that wait already when their turn comes."""
        was_idle = not self._waiting
        self._waiting.update(dict.fromkeys(nodes))
        if was_idle:
            self._rest(now_s)

    def next_deadline(self) -> float:
        """When `take` has something to do; infinity for never."""
        return min(self._next_s, self._again_s)

    def take(self, down: Sequence[NodeId], now_s: float) -> list[NodeId]:
        """Give whom to try now, of those that are down."""
        due = []
        if self._again_s <= now_s:
            due += [self._rng.choice(down)] if down else []
            self._again_s = now_s + DOWN_INTERVAL_S if down else inf
        if self._next_s <= now_s:
            due += self._first(down)
            self._rest(now_s)
        return due

    def _first(self, down: Sequence[NodeId]) -> list[NodeId]:
        while self._waiting:
            node = next(iter(self._waiting))
            del self._waiting[node]
            if node in down:
                return [node]
        return []

    def _rest(self, now_s: float) -> None:
        pause_s = min(REVIVAL_INTERVAL_S, REVIVAL_S / max(1, len(self._waiting)))
        self._next_s = now_s + pause_s if self._waiting else inf
