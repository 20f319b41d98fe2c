"""For hours one datagram of ten is lost, and nobody is ever said to be down.

20 node-hours in `make test`; `tests/soak` goes through as many as one likes, with other seeds.
"""

from typing import Final

import pytest

from tests.seeds import seeds
from tests.sim.settled import settled

SIZE: Final = 20
HOURS_S: Final = 1800.0
LOSS: Final = 0.1


@pytest.mark.parametrize("seed", seeds(2))
def test_nobody_is_down_for_a_tenth_of_all_datagrams(seed: int) -> None:
    world = settled(SIZE, seed, loss=LOSS)
    world.run(HOURS_S)
    downs = [event for device in world.devices for _, event in device.events if event.kind == "member-down"]
    rate = sum(device.bytes_sent for device in world.devices) / SIZE / HOURS_S
    hours = SIZE * HOURS_S / 3600
    print(f"seed {seed}: {hours:.0f} node-hours, {len(downs)} false verdicts, {rate:.0f} B/s sent by a node")
    assert downs == []
    assert world.all_up()
    assert world.roots_equal()
