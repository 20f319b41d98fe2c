"""Where junk floods a relay's port, the kernel drops most of it: by what the pair knows of itself. Pure.

A packet that goes nowhere costs 16 us here, and 50,000 of them a second a whole core. The shape does not tell them
from others; who sends it, and which index it names, does. So once much of a kind went nowhere, that kind is
*guarded* for a while. What comes from the pair's two addresses is never held back; of the rest,

- data passes if it names an index that a handshake of the pair has told: other data moves nobody, and is dropped
  in any case, so nothing is lost by it;
- of handshakes only cryptography can tell, so one of many passes, at random; of Binds and cookies likewise. An
  honest one from a new address has to be lucky or patient, as long as the flood lasts.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from clanmeshd.overlay.wireguard_packets import DATA

JUNK_MAX: Final = 200  # useless packets of a kind in the time below: 3 ms of work; a pair in trouble sends few
WINDOW_S: Final = 1.0
GUARD_S: Final = 10.0  # then it is looked anew, at JUNK_MAX more
_KIND_BYTES: Final = 4


class Rules(NamedTuple):
    """What a filter is to do beyond shapes."""

    addresses: frozenset[tuple[bytes, int]]  # of the pair, packed ip and port: all passes
    indexes: frozenset[bytes]  # that data may name
    thinned: frozenset[bytes]  # kinds of which one of many passes
    guards_data: bool


class Guard:
    """Of one port. Bounded: the port's own filter passes five kinds."""

    def __init__(self) -> None:
        self._junk: Counter[bytes] = Counter()
        self._since_s = 0.0
        self._until_s: dict[bytes, float] = {}

    @property
    def is_on(self) -> bool:
        """Whether anything is guarded."""
        return bool(self._until_s)

    def blame(self, packet: bytes, now_s: float) -> None:
        """A packet of no use came."""
        if now_s >= self._since_s + WINDOW_S:
            self._since_s = now_s
            self._junk.clear()
        kind = packet[:_KIND_BYTES]
        self._junk[kind] += 1
        if self._junk[kind] > JUNK_MAX:
            self._until_s[kind] = now_s + GUARD_S

    def expire(self, now_s: float) -> None:
        """Look anew at what was guarded for long."""
        self._until_s = {kind: until_s for kind, until_s in self._until_s.items() if now_s < until_s}

    def rules(self, addresses: Iterable[tuple[bytes, int]], indexes: Iterable[bytes]) -> Rules | None:
        """What the filter is to do now, by what the pair knows; None: nothing beyond shapes."""
        if not self._until_s:
            return None
        thinned = frozenset(self._until_s) - {DATA}
        return Rules(frozenset(addresses), frozenset(indexes), thinned, DATA in self._until_s)
