"""A sliding window over datagram counters: each is accepted once, late ones within reason (as in RFC 6479)."""

from clanmeshd.core.limits import REPLAY_WINDOW_BITS

_MASK = (1 << REPLAY_WINDOW_BITS) - 1


class ReplayWindow:
    """Bit i of the map stands for the counter `highest - i`."""

    __slots__ = ("_map", "highest")

    def __init__(self, first: int = -1) -> None:
        self.highest = first  # it is marked, where there is one
        self._map = int(first >= 0)

    def accept(self, counter: int) -> bool:
        """Say whether this counter is new, and mark it. Call it for authentic datagrams only."""
        if counter > self.highest:
            shift = counter - self.highest
            # A shift past the window would build a number of `shift` bits: a hostile counter is 64 bits wide.
            self._map = 1 if shift >= REPLAY_WINDOW_BITS else ((self._map << shift) | 1) & _MASK
            self.highest = counter
            return True
        behind = self.highest - counter
        if behind >= REPLAY_WINDOW_BITS or self._map >> behind & 1:
            return False
        self._map |= 1 << behind
        return True
