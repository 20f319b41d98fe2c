"""A small record is soon at the last device of a large clan, at whatever loss, and not at the price of a flood."""

import pytest

from tests.seeds import seeds
from tests.sim.wave import Wave

UPDATES = 25
PAUSE_S = 1.0
SENDS_MAX = 4.2  # of a whole record, for each device


@pytest.mark.parametrize(
    ("size", "loss", "last_s"),
    [
        (300, 0.01, 0.8),
        (300, 0.05, 0.8),
        (300, 0.1, 0.8),
        (300, 0.25, 4.0),
        (9, 0.1, 0.8),
        (8, 0.1, 0.8),
        (3, 0.1, 0.8),
    ],
)
def test_the_last_one_has_it_in_time(size: int, loss: float, last_s: float) -> None:
    for seed in seeds(1):
        wave = Wave(size, seed, loss=loss)
        times, sends = [], []
        for _ in range(UPDATES):
            record, seconds = wave.publish(60.0)
            wave.run(PAUSE_S)
            times.append(seconds)
            sends.append(wave.sends[record.id[:8]] / size)
        told = wave.told / UPDATES / size
        print(f"{size} at {loss:.0%}, seed {seed}: {max(times):.2f} s, {max(sends):.2f} sends, {told:.1f} told")
        assert max(times) <= last_s
        assert max(sends) <= SENDS_MAX
