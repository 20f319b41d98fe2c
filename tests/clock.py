"""Time as a test may judge it: without what the machine has taken from everybody.

One on which others work stands still now and then, for seconds. A thread that does nothing but sleep notices: what
it oversleeps by more than a busy machine explains is a pause, in which nothing that is tested could get on either.
"""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

TICK_S: Final = 0.02
PAUSE_S_MIN: Final = 0.2  # ten times what a thread waits for its turn where two others want each processor


class Stopwatch:
    """Runs while its block does. Times are of the monotonic clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._begun_s = self._looked_s = time.monotonic()
        self._paused_s = 0.0
        self._ticking = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        self._begun_s = self._looked_s = time.monotonic()
        self._ticking.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._look()
        self._ended.set()
        self._ticking.join()

    @property
    def paused_s(self) -> float:
        """How long the machine has stood still so far."""
        self._look()
        return self._paused_s

    @property
    def passed_s(self) -> float:
        """The seconds since the begin of the block, up to its end, without those."""
        self._look()
        return self._looked_s - self._begun_s - self._paused_s

    def _tick(self) -> None:
        while not self._ended.wait(TICK_S):
            self._look()

    def _look(self) -> None:
        with self._lock:
            if self._ended.is_set():
                return
            now_s = time.monotonic()
            overslept_s = now_s - self._looked_s - TICK_S
            if overslept_s > PAUSE_S_MIN:
                self._paused_s += overslept_s
            self._looked_s = now_s


def wait_until(holds: Callable[[], object], within_s: float) -> bool:
    """Poll until something holds; False when it does not within the time. Pauses of the machine do not count."""
    with Stopwatch() as watch:
        while not holds():
            if watch.passed_s > within_s:
                return False
            threading.Event().wait(TICK_S)
    return True


def seconds_until(holds: Callable[[], object], within_s: float) -> float:
    """How long it takes until something holds, without pauses of the machine. It has to, within the time."""
    with Stopwatch() as watch:
        assert wait_until(holds, within_s), f"not within {within_s} s"
        return watch.passed_s
