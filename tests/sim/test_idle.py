"""What it costs to be in a clan where nothing happens."""

import pytest

from tests.sim.world import World

IDLE_BYTES_PER_S_MAX = 300.0  # sent by a node, with the IP and UDP headers of each datagram
MEASURED_S = 620.0  # two refreshes of every status


@pytest.mark.parametrize("size", [2, 3, 10])
def test_an_idle_node_sends_little(size: int) -> None:
    world = World(size, 11)
    assert world.run_until(lambda: len(world.alive) == size and world.all_up() and world.roots_equal(), 10.0)
    world.run(30.0)
    before = [device.bytes_sent for device in world.devices]
    world.run(MEASURED_S)
    rates = [(device.bytes_sent - sent) / MEASURED_S for device, sent in zip(world.devices, before, strict=True)]
    print(f"size {size}: {max(rates):.0f} B/s at most, {sum(rates) / size:.0f} on average")
    assert max(rates) <= IDLE_BYTES_PER_S_MAX


def test_a_node_alone_among_the_lost_sends_little_too() -> None:
    world = World(3, 11)
    assert world.run_until(lambda: len(world.alive) == 3 and world.all_up(), 10.0)
    world.kill(1)
    world.kill(2)
    world.run(60.0)
    before = world.devices[0].bytes_sent
    world.run(600.0)
    assert (world.devices[0].bytes_sent - before) / 600.0 <= IDLE_BYTES_PER_S_MAX
