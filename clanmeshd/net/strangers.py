"""Addresses that send nothing but junk in a flood: most of what comes from them is dropped before a look at it.

To look at a datagram with a member's name on it takes 5 us of cryptography, also when a stranger wrote the name.
So who judges datagrams tells the port of each address whether it was of use. One from which a member was proven to
speak is read in full; of any other one that only sends junk, a part: somebody may be behind the same router as who
floods us, and proves itself by one of its datagrams that gets through.
"""

from math import inf
from typing import Final

JUDGED_S: Final = 1.0  # a verdict is good for so long, then all begin anew
JUNK_MAX: Final = 64  # useless datagrams of one address in that time: a member that forgot its keys sends a few
LET_THROUGH: Final = (
    8  # one of so many of an address that is muted: a hundredth of a core in a flood of 10,000 a second
)
ADDRESSES_MAX: Final = 1024  # that are counted at once; a flood from more of them is read in full
PROVEN_S: Final = 300.0  # how long an address counts as a member's, at least: a quiet one pings several times
PROVEN_MAX: Final = 4096  # of them; beyond that the time is shorter


class Strangers:
    """What is known of the addresses (packed, 4 or 16 bytes) that datagrams come from. Bounded."""

    def __init__(self) -> None:
        self._junk: dict[bytes, int] = {}
        self._muted: set[bytes] = set()
        self._proven: set[bytes] = set()
        self._proven_before: set[bytes] = set()
        self._judged_s = -inf  # since when these verdicts are collected
        self._proven_s = -inf
        self._met = 0  # datagrams of muted addresses
        self.dropped = 0  # of these

    def turn(self, now_s: float) -> None:
        """Forget what is too old to count."""
        if now_s >= self._judged_s + JUDGED_S:
            self._judged_s = now_s
            self._junk.clear()
            self._muted.clear()
        if now_s >= self._proven_s + PROVEN_S or len(self._proven) >= PROVEN_MAX:
            self._proven_s = now_s
            self._proven, self._proven_before = set(), self._proven

    def prove(self, ip: bytes) -> None:
        """A member was proven to speak from this address."""
        self._proven.add(ip)
        self._muted.discard(ip)

    def blame(self, ip: bytes) -> None:
        """A datagram from this address was nobody's."""
        count = self._junk.get(ip, 0) + 1
        if count > 1 or len(self._junk) < ADDRESSES_MAX:
            self._junk[ip] = count
        if count >= JUNK_MAX and ip not in self._proven and ip not in self._proven_before:
            self._muted.add(ip)

    def lets_in(self, ip: bytes) -> bool:
        """Whether the next datagram from this address is to be looked at."""
        if ip not in self._muted:
            return True
        self._met += 1
        is_let_in = self._met % LET_THROUGH == 0
        self.dropped += not is_let_in
        return is_let_in
