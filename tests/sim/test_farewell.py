"""Who is put out learns it from those who know first, before nobody answers it any more: whole cores."""

import pytest

from clanmesh_protocol.keys import fingerprint_slot
from clanmesh_protocol.records import AdminAdd, AdminRemove, Credential, Revocation
from tests.core.worlds import found
from tests.seeds import seeds
from tests.sim.world import World

SIZE = 5


def _formed(seed: int, admins: int) -> World:
    world = World(SIZE, seed, clan=found(SIZE, seed, admins=admins))
    assert world.run_until(lambda: len(world.alive) == SIZE and world.all_up() and world.roots_equal(), 60.0)
    return world


def _put_out(world: World, by: int, whom: int) -> None:
    node = world.devices[whom].node
    world.mesh(by).publish(Revocation(node, "lost"), slot=fingerprint_slot(node), now=world.now(by))
    world.settle(by)


def _knows(world: World, index: int) -> bool:
    return world.devices[index].node in world.mesh(index).authority.revoked


@pytest.mark.parametrize("seed", seeds(5))
def test_a_member_that_is_removed_knows_it(seed: int) -> None:
    world = _formed(seed, admins=1)
    _put_out(world, 0, 3)
    assert world.run_until(lambda: _knows(world, 3), 2.0), seed


@pytest.mark.parametrize("size", [3, 6, 14])
def test_who_removes_a_member_knows_soon_that_all_have_heard(size: int) -> None:
    world = World(size, 1, loss=0.02)
    assert world.run_until(lambda: len(world.alive) == size and world.all_up() and world.roots_equal(), 60.0)
    world.kill(size - 1)
    gone, away = world.devices[1].node, world.devices[size - 1].node
    word = world.mesh(0).publish(Revocation(gone, "lost"), slot=fingerprint_slot(gone), now=world.now(0))
    expected = {device.node for device in world.devices} - {gone, away}

    def all_heard() -> bool:
        heard = world.mesh(0).holders(word.id, world.now(0))
        world.settle(0)
        return expected <= heard

    assert world.run_until(all_heard, 1.0)
    assert away not in world.mesh(0).holders(word.id, world.now(0))


@pytest.mark.parametrize("seed", seeds(5))
def test_an_admin_that_others_vote_out_knows_it(seed: int) -> None:
    """Its revocation came first, void as long as it was an admin: the last approval is what it must hear."""
    world = _formed(seed, admins=3)
    proposed = world.mesh(0).publish_operation(AdminRemove(world.devices[2].node), world.now(0))
    _put_out(world, 0, 2)
    world.run(2.0)
    assert not _knows(world, 2)
    world.mesh(1).approve(proposed.id, world.now(1))
    world.settle(1)
    assert world.run_until(lambda: _knows(world, 2), 2.0), seed
    assert not world.mesh(2).authority.is_admin(world.devices[2].node)


@pytest.mark.parametrize("seed", seeds(5))
def test_a_member_that_was_away_when_it_was_removed_is_told_when_it_knocks(seed: int) -> None:
    world = _formed(seed, admins=2)
    world.kill(3)
    world.run(20.0)
    added = world.mesh(0).publish_operation(AdminAdd(world.devices[2].node, 1), world.now(0))
    world.run(1.0)
    world.mesh(1).approve(added.id, world.now(1))
    world.settle(1)
    world.run(1.0)
    _put_out(world, 2, 3)  # by an admin of whom it never heard as one
    world.run(5.0)
    world.start(3)
    assert world.run_until(lambda: _knows(world, 3), 120.0), seed
    world.run(10.0)
    assert not world.mesh(3).authority.is_member(world.devices[3].node)


@pytest.mark.parametrize("seed", seeds(5))
def test_an_admin_that_was_away_when_it_was_voted_out_is_told_when_it_knocks(seed: int) -> None:
    """It is no member any more when it stops being an admin, and is put out only after that."""
    world = _formed(seed, admins=3)
    for index in (1, 2, 3, 4):
        node = world.devices[index].node
        content = Credential(node, f"node-{index}", (), 0, None)
        world.mesh(1).publish(content, slot=fingerprint_slot(node), now=world.now(1))
    world.settle(1)
    world.kill(0)
    world.run(20.0)
    removed = world.mesh(1).publish_operation(AdminRemove(world.devices[0].node), world.now(1))
    world.settle(1)
    world.run(1.0)
    world.mesh(2).approve(removed.id, world.now(2))
    world.settle(2)
    world.run(2.0)
    assert not world.mesh(1).authority.is_member(world.devices[0].node)
    _put_out(world, 1, 0)
    world.run(5.0)
    world.start(0)
    assert world.run_until(lambda: _knows(world, 0), 120.0), seed
