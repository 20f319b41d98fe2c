"""One key on two machines, in virtual time: who learns of it and how soon, and what looks like it and is not."""

import pytest

from clanmesh_protocol.endpoints import Endpoint
from tests.core.worlds import found
from tests.sim.world import World

NOTICED_S = 60.0  # by everybody, the two themselves too
SEEDS = range(3)


def copied(size: int, seed: int, *, loss: float = 0.0, duplication: float = 0.0) -> World:
    """A clan that runs; the last machine is off, and its disk is a copy of the one before."""
    world = World(size, seed, clan=found(size, seed, credentialed=size - 1), loss=loss, duplication=duplication)
    world.run(1.0)
    world.kill(size - 1)
    world.run(20.0)
    original, copy = world.devices[-2:]
    copy.keys, copy.disk = original.keys, list(original.disk)
    return world


def knowing(world: World) -> set[int]:
    """Those who say that the key of the last machine runs twice."""
    node = world.devices[-1].node
    return {index for index in world.alive if node in world.mesh(index).clones}


def suspected(world: World) -> list[int]:
    """Those who say that any key runs twice."""
    return [index for index in world.alive if world.mesh(index).clones]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [3, 4, 7, 12])
def test_both_twins_and_a_third_notice(size: int, seed: int) -> None:
    world = copied(size, seed)
    assert not suspected(world)
    world.start(size - 1)
    twins = {size - 2, size - 1}
    assert world.run_until(lambda: twins | {0} <= knowing(world), NOTICED_S), (seed, knowing(world))
    told = [event for _, event in world.devices[-1].events if event.kind == "clone"]
    assert [event.node for event in told] == [world.devices[-1].node]
    assert world.devices[-1].node in world.mesh(0).authority.members
    assert {node for index in world.alive for node in world.mesh(index).clones} == {world.devices[-1].node}


@pytest.mark.parametrize("seed", SEEDS)
def test_they_notice_with_a_fifth_lost(seed: int) -> None:
    world = copied(4, seed, loss=0.2, duplication=0.1)
    world.start(3)
    assert world.run_until(lambda: knowing(world) == {0, 1, 2, 3}, 2 * NOTICED_S), (seed, knowing(world))


def test_they_notice_when_both_say_the_same_of_themselves() -> None:
    # Behind two routers that give out the same private addresses: no record of theirs ever differs.
    world = copied(4, 1)
    world.start(3)
    world.mesh(3).set_endpoints([world.devices[2].at], world.now(3))
    world.settle(3)
    assert world.run_until(lambda: knowing(world) == {0, 1, 2, 3}, NOTICED_S), knowing(world)


def test_they_notice_when_they_meet_again() -> None:
    world = copied(5, 1)
    world.start(4)
    world.partition([0, 1, 3], [2, 4])
    world.run(120.0)
    world.heal()
    assert world.run_until(lambda: knowing(world) == {0, 1, 2, 3, 4}, NOTICED_S), knowing(world)


@pytest.mark.parametrize("seed", SEEDS)
def test_roaming_between_two_networks_is_none(seed: int) -> None:
    world = World(4, seed, loss=0.05, duplication=0.1, latency_s=(0.001, 0.2))
    world.run(5.0)
    homes = [world.devices[3].at, Endpoint(bytes([10, 9, 9, 9]), world.devices[3].at.port)]
    for turn in range(20):
        world.move(3, homes[turn % 2])
        world.run(4.0)
    assert not suspected(world)


@pytest.mark.parametrize("pause_s", [0.5, 3.0, 20.0])
def test_restarts_one_after_another_are_none(pause_s: float) -> None:
    world = World(4, 2, loss=0.05, duplication=0.1, latency_s=(0.001, 0.2))
    world.run(5.0)
    for turn in range(12):
        world.kill(2 + turn % 2)
        world.run(pause_s)
        world.start(2 + turn % 2)
        world.run(pause_s)
    assert not suspected(world)


def test_a_neighbour_that_starts_again_and_again_is_none() -> None:
    world = World(2, 2, loss=0.1, duplication=0.1, latency_s=(0.001, 0.2))
    world.run(5.0)
    for _ in range(20):
        world.kill(1)
        world.start(1)
        world.run(2.0)
    assert not suspected(world)


@pytest.mark.parametrize("wall_offset_s", [0.0, -86_400.0])
def test_a_restored_snapshot_is_none(wall_offset_s: float) -> None:
    world = World(4, 3)
    world.run(5.0)
    snapshot = list(world.devices[2].disk)
    world.move(2, Endpoint(bytes([10, 9, 9, 9]), world.devices[2].at.port))
    for _ in range(5):
        world.run(20.0)
        world.kill(2)
        world.devices[2].disk = list(snapshot)
        world.start(2, wall_offset_s=wall_offset_s)
    world.run(120.0)
    assert not suspected(world)


def test_a_device_that_slept_is_none() -> None:
    world = World(3, 4)
    world.run(5.0)
    for seconds in (2.0, 30.0, 600.0, 5.0, 60.0, 3.0):
        world.pause(2, seconds)
        world.run(seconds + 10.0)
    assert not suspected(world)


def test_a_partition_that_comes_and_goes_is_none() -> None:
    world = World(5, 5, loss=0.1)
    world.run(5.0)
    for _ in range(12):
        world.partition([0, 1], [2, 3, 4])
        world.run(6.0)
        world.heal()
        world.run(6.0)
    assert not suspected(world)


def test_only_the_twins_are_named() -> None:
    # Whoever talks to both sees two tokens of one peer in turn, and is no twin for that.
    world = copied(4, 2)
    world.start(3)
    world.run(300.0)
    assert set(world.mesh(0).clones) == {world.devices[3].node}
