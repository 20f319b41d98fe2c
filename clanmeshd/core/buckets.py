"""Token buckets: how much of our work one peer may cause."""

from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class TokenBucket:
    """`per_s` tokens a second, `burst` at most."""

    __slots__ = ("_at_s", "_burst", "_level", "_per_s")

    def __init__(self, per_s: float, burst: float, now_s: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._level = burst
        self._at_s = now_s

    def take(self, now_s: float, count: float = 1.0) -> bool:
        """Take `count` tokens, or none when there are fewer."""
        self._level = min(self._burst, self._level + max(0.0, now_s - self._at_s) * self._per_s)
        self._at_s = max(self._at_s, now_s)
        if self._level < count:
            return False
        self._level -= count
        return True


class Buckets(Generic[Key]):
    """A bucket for each peer. Bounded by the members: `retain` drops the rest."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._buckets: dict[Key, TokenBucket] = {}

    def take(self, key: Key, now_s: float, count: float = 1.0) -> bool:
        """Take from the bucket of `key`."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._per_s, self._burst, now_s)
        return bucket.take(now_s, count)

    def retain(self, keys: frozenset[Key]) -> None:
        """Forget the buckets of all others."""
        for key in [key for key in self._buckets if key not in keys]:
            del self._buckets[key]
