"""Clans find themselves, every record reaches everyone, and roots are equal soon after faults stop."""

from dataclasses import replace
from random import Random

import pytest

from clanmesh_protocol.records import Record
from tests.core.test_mesh_records import secret
from tests.core.worlds import Clan, found
from tests.seeds import seeds
from tests.sim.world import World


def publish_at_random(world: World, rng: Random, records: list[Record], kinds: int) -> None:
    """Let some device that runs publish something, sometimes too large for a datagram."""
    index = rng.choice(world.alive)
    size = rng.choice([10, 200, 600, 3000])
    record = world.mesh(index).publish(secret(size), slot=f"s{rng.randrange(kinds)}", now=world.now(index))
    records.append(record)
    world.settle(index)


@pytest.mark.parametrize(("size", "seed"), [(3, 1), (3, 2), (10, 3), (20, 4)])
def test_a_minute_of_writing_under_loss(size: int, seed: int) -> None:
    print(f"size {size} seed {seed}")
    world = World(size, seed, loss=0.05, duplication=0.02, latency_s=(0.0005, 0.05))
    rng = Random(seed)
    assert world.run_until(lambda: len(world.alive) == size and world.all_up(), 10.0)
    records: list[Record] = []
    for moment in range(30):
        world.at(world.now_s + moment * 1.9, lambda: publish_at_random(world, rng, records, 1000))
    world.run(60.0)
    world.loss = world.duplication = 0.0
    assert world.run_until(world.roots_equal, 10.0)
    assert len(records) == 30
    latest = {record.register: record for record in records}
    assert all(world.holds(index, record) for index in range(size) for record in latest.values())


@pytest.mark.parametrize("seed", seeds(6))
def test_a_partition_heals_by_itself(seed: int) -> None:
    print(f"seed {seed}")
    world = World(10, seed, loss=0.02)
    rng = Random(seed)
    assert world.run_until(lambda: len(world.alive) == 10 and world.all_up() and world.roots_equal(), 10.0)
    order = list(range(10))
    rng.shuffle(order)
    cut = rng.randrange(1, 6)
    world.partition(order[:cut], order[cut:])
    records: list[Record] = []
    for moment in range(20):
        world.at(world.now_s + moment, lambda: publish_at_random(world, rng, records, 1000))
    world.run(60.0)
    assert not world.roots_equal()
    world.heal()
    assert world.run_until(lambda: world.all_up() and world.roots_equal(), 15.0)
    latest = {record.register: record for record in records}
    assert all(world.holds(index, record) for index in range(10) for record in latest.values())


@pytest.mark.parametrize("seed", seeds(10))
def test_any_faults_and_then_agreement(seed: int) -> None:
    """Kills, restarts, pauses, one-way cuts, partitions and clock jumps at random; then they stop."""
    print(f"seed {seed}")
    rng = Random(seed)
    size = rng.choice([2, 3, 5, 8])
    world = World(size, seed, loss=rng.choice([0.0, 0.1, 0.25]), latency_s=(0.0005, rng.choice([0.003, 0.2])))
    world.run(3.0)
    records: list[Record] = []
    for _ in range(25):
        trouble(world, rng, records)
        world.run(rng.uniform(0.1, 4.0))
    world.heal()
    world.loss = 0.0
    for device in world.devices:
        if device.mesh is None:
            world.start(device.index)
    assert world.run_until(lambda: world.all_up() and world.roots_equal(), 45.0)
    # What was acknowledged (its effects performed) is there, unless its author wrote over it.
    stored = {record.register: record for record in sorted(records, key=lambda record: record.order)}
    assert all(world.holds(index, record) for index in range(size) for record in stored.values())


def trouble(world: World, rng: Random, records: list[Record]) -> None:
    """One fault or one write."""
    size = len(world.devices)
    index = rng.randrange(size)
    running = world.devices[index].mesh is not None
    match rng.randrange(8):
        case 0 if running:
            world.kill(index)
        case 1 | 2 if not running:
            world.start(index, wall_offset_s=rng.choice([0.0, 0.0, -3600.0, 7200.0]))
        case 3:
            world.cut.add((index, rng.randrange(size)))
        case 4:
            world.heal()
        case 5:
            split = rng.randrange(size + 1)
            world.partition(range(split), range(split, size))
        case 6 if running:
            world.pause(index, rng.uniform(0.5, 12.0))
        case _ if world.alive:
            publish_at_random(world, rng, records, 5)


def test_one_seed_is_one_history() -> None:
    def history() -> str:
        world = World(5, 42, loss=0.1, duplication=0.05, latency_s=(0.001, 0.1))
        rng = Random(42)
        records: list[Record] = []
        for _ in range(12):
            trouble(world, rng, records)
            world.run(1.5)
        return world.trace()

    assert history() == history()


def test_other_seeds_are_others() -> None:
    traces = set()
    for seed in range(3):
        world = World(3, seed)
        world.run(3.0)
        traces.add(world.trace())
    assert len(traces) == 3


def test_two_devices_with_one_key_argue_within_bounds() -> None:
    # A disk image that was copied: devices 3 and 2 are both "node-2", at two addresses.
    world = World(4, 6, clan=cloned(found(4)))
    world.run(60.0)
    before = [device.bytes_sent for device in world.devices]
    world.run(120.0)
    rates = [(device.bytes_sent - sent) / 120.0 for device, sent in zip(world.devices, before, strict=True)]
    assert max(rates) <= 3000.0
    assert {world.state(0, 1), world.state(1, 0)} == {"up"}


def cloned(clan: Clan) -> Clan:
    """A clan whose last device has the keys of the one before."""
    return replace(clan, keys=(*clan.keys[:-1], clan.keys[-2]))
