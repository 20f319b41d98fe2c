"""A bound on how often: so much at once, so much a second after that."""


class Allowance:
    """`burst` uses that come back at `per_s`. Times are monotonic seconds, told by the caller."""

    def __init__(self, per_s: float, burst: float, now_s: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = burst
        self._at_s = now_s

    def take(self, now_s: float, uses: int = 1) -> bool:
        """Use so many, if there are as many."""
        self._left = min(self._burst, self._left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._left < uses:
            return False
        self._left -= uses
        return True
