"""What is due when: one moment for each of many keys, and the earliest of them at hand."""

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

_STALE_MAX: Final = 64  # entries that were set anew and still lie in the heap, beside as many as there are keys


class Agenda(Generic[Key]):
    """Moments of keys, in seconds of whatever clock the caller has. Asking for the earliest costs next to nothing.

    A heap in which entries that no longer hold stay until they come to the front; equal moments come in the order
    in which they were set, so that what is drawn from it is the same in every run.
    """

    def __init__(self) -> None:
        self._held: dict[Key, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._numbers = count()

    def __len__(self) -> int:
        """How many keys have a moment."""
        return len(self._held)

    def __contains__(self, key: Key) -> bool:
        """Whether a key has a moment."""
        return key in self._held

    def set(self, key: Key, at_s: float) -> None:
        """Give a key another moment; infinity takes it out."""
        held = self._held.get(key)
        if held is not None and held[0] == at_s:
            return
        if at_s == inf:
            self._held.pop(key, None)
            return
        entry = self._held[key] = (at_s, next(self._numbers))
        heappush(self._heap, (*entry, key))
        if len(self._heap) > 2 * len(self._held) + _STALE_MAX:
            self._heap = [(*held, key) for key, held in self._held.items()]
            heapify(self._heap)

    def drop(self, key: Key) -> None:
        """Take a key out, if it is there."""
        self._held.pop(key, None)

    def next_s(self) -> float:
        """The earliest moment; infinity when there is none."""
        heap = self._heap
        while heap and self._held.get(heap[0][2]) != heap[0][:2]:
            heappop(heap)
        return heap[0][0] if heap else inf

    def pop_due(self, now_s: float) -> list[Key]:
        """Take out the keys whose moment has come, the earliest first."""
        due: list[Key] = []
        while self._held and self.next_s() <= now_s:
            key = heappop(self._heap)[2]
            del self._held[key]
            due.append(key)
        return due
