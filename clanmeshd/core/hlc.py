"""The hybrid logical clock that numbers this device's own records.

`seq` is milliseconds since 1970 in the upper 48 bits and a counter in the lower 16. It only ever grows: past
what this device wrote, and past what peers show it of its own records, so a clock that was set back or a disk
that was restored costs nothing but a look at the peers. No other device's seq is ever compared with ours.
"""

from typing import Final

from clanmesh_protocol.encoding import UINT64_MAX

COUNTER_BITS: Final = 16


def unix_s_of(seq: int) -> float:
    """The time that a sequence number tells, by its author's clock."""
    return (seq >> COUNTER_BITS) / 1000


class HybridClock:
    """Gives strictly growing sequence numbers."""

    def __init__(self) -> None:
        self.last = 0

    def observe(self, seq: int) -> None:
        """Take note of a number that this device has used, in this life or an earlier one."""
        self.last = max(self.last, seq)

    def next(self, now_unix_s: float) -> int:
        """Give a number above all used ones. Saturates at the last one, 8900 years ahead."""
        wall = max(0, int(now_unix_s * 1000)) << COUNTER_BITS
        self.last = min(max(self.last + 1, wall), UINT64_MAX)
        return self.last
