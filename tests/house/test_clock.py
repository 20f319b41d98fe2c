"""The clock of the tests: it counts what passes, and not what the machine took from everybody."""

import time

import pytest

from tests import clock
from tests.clock import PAUSE_S_MIN, Stopwatch, seconds_until, wait_until


class Time:
    """A clock that is set by hand, in the place of the machine's."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Time:
    """Nobody ticks but the test."""
    made = Time()
    monkeypatch.setattr(clock, "time", made)
    monkeypatch.setattr(Stopwatch, "_tick", lambda self: None)
    return made


def test_what_passes_counts_and_what_a_thread_overslept_does_not(hand: Time) -> None:
    with Stopwatch() as watch:
        for _ in range(100):
            hand.now_s += 0.1
            assert watch.paused_s == 0
        hand.now_s += 3.0
        assert watch.paused_s == pytest.approx(3.0 - clock.TICK_S)
        assert watch.passed_s == pytest.approx(10.0 + clock.TICK_S)
    hand.now_s += 1000.0
    assert watch.passed_s == pytest.approx(10.0 + clock.TICK_S), "it has stopped"


def test_who_waits_gives_up_in_time_and_takes_no_pause_for_it(hand: Time) -> None:
    looks = []

    def never(step_s: float) -> bool:
        looks.append(step_s)
        hand.now_s += step_s
        return False

    assert not wait_until(lambda: never(0.1), 1.0)
    assert 10 <= len(looks) <= 12
    looks.clear()
    assert wait_until(lambda: never(5.0) or len(looks) > 20, 1.0)


def test_the_real_one_runs() -> None:
    """Its thread looks: else all of it would be one pause."""
    begun_s = time.monotonic()
    taken_s = seconds_until(lambda: time.monotonic() > begun_s + 3 * PAUSE_S_MIN, 20.0)
    assert PAUSE_S_MIN < taken_s <= time.monotonic() - begun_s
    with pytest.raises(AssertionError, match="not within 0 s"):
        seconds_until(lambda: False, 0)
