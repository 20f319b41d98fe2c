"""Token buckets: how much of our work one peer, or one author, may cause."""

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

_FULL_KEPT: Final = 64  # buckets before those that are full again are looked for: such a one says nothing


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
        if self.level(now_s) < count:
            return False
        self._level -= count
        return True

    def level(self, now_s: float) -> float:
        """How many tokens there are."""
        self._level = min(self._burst, self._level + max(0.0, now_s - self._at_s) * self._per_s)
        self._at_s = max(self._at_s, now_s)
        return self._level

    def is_full(self, now_s: float) -> bool:
        """Whether it is as good as new."""
        return self.level(now_s) >= self._burst


class Budget(TokenBucket):
    """One of which what is spent is known only afterwards, so that there may be a debt."""

    __slots__ = ()

    def has_room(self, now_s: float) -> bool:
        """Whether anything is left now."""
        return self.level(now_s) > 0

    def spend(self, count: float) -> None:
        """So much was used."""
        self._level -= count


class Buckets(Generic[Key]):
    """A bucket for each key. Bounded by those that took of theirs lately; `retain` drops others at once."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._buckets: dict[Key, TokenBucket] = {}
        self._kept_max = _FULL_KEPT

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._buckets)

    def take(self, key: Key, now_s: float, count: float = 1.0) -> bool:
        """Take from the bucket of `key`."""
        bucket = self._buckets.get(key)
        if bucket is None:
            self._drop_full(now_s)
            bucket = self._buckets[key] = TokenBucket(self._per_s, self._burst, now_s)
        return bucket.take(now_s, count)

    def has(self, key: Key, now_s: float) -> bool:
        """Whether `key` could take a token."""
        bucket = self._buckets.get(key)
        return bucket is None or bucket.level(now_s) >= 1.0

    def _drop_full(self, now_s: float) -> None:
        if len(self._buckets) >= self._kept_max:
            self._buckets = {key: kept for key, kept in self._buckets.items() if not kept.is_full(now_s)}
            self._kept_max = max(_FULL_KEPT, 2 * len(self._buckets))

    def retain(self, keys: frozenset[Key]) -> None:
        """Forget the buckets of all others."""
        for key in [key for key in self._buckets if key not in keys]:
            del self._buckets[key]
