"""Admins against each other: whoever wins, all devices agree, and nobody wins by lying."""

from itertools import permutations

import pytest

from clanmesh_protocol.records import AdminRemove, Checkpoint, Revocation, Setting, SignerAdd
from tests.core.worlds import found
from tests.hostile.rules import hostile
from tests.hostile.stage import NOW, RECOVERY, SIGNER, Stage
from tests.sim.world import World


def parted(admins: int, *groups: list[int]) -> World:
    """A clan of four whose devices cannot all reach each other."""
    world = World(4, 11, clan=found(4, 11, admins=admins, recovery=RECOVERY))
    assert world.run_until(lambda: len(world.alive) == 4 and world.all_up() and world.roots_equal(), 60.0)
    world.partition(*groups)
    return world


def says(world: World, index: int, operation: object) -> bytes:
    """A person at a device decides."""
    record = world.mesh(index).publish_operation(operation, world.now(index))  # type: ignore[arg-type]
    world.settle(index)
    return record.id


def approves(world: World, index: int, operation: bytes) -> None:
    """A person at a device agrees."""
    world.mesh(index).approve(operation, world.now(index))  # type: ignore[arg-type]
    world.settle(index)


def agree(world: World) -> bool:
    """All follow one history."""
    return len({world.mesh(index).authority.head for index in world.alive}) == 1


@hostile("Who may say what", "authority/mutual-removal")
def test_two_who_throw_each_other_out_at_once() -> None:
    world = parted(2, [0, 2], [1, 3])
    says(world, 0, AdminRemove(world.devices[1].node))
    says(world, 1, AdminRemove(world.devices[0].node))
    world.heal()
    world.run(30.0)
    assert agree(world)
    assert len(world.mesh(2).authority.admins) == 2  # neither had over half


@hostile("Who may say what", "authority/mutual-removal-one-stands")
def test_the_one_with_a_friend_stays() -> None:
    world = parted(3, [0, 2, 3], [1])
    out = says(world, 0, AdminRemove(world.devices[1].node))
    says(world, 1, AdminRemove(world.devices[0].node))
    assert world.run_until(lambda: bool(world.mesh(2).authority.pending), 10.0)
    approves(world, 2, out)
    world.heal()
    world.run(30.0)
    assert agree(world)
    assert not world.mesh(3).authority.is_admin(world.devices[1].node)
    assert world.mesh(3).authority.is_admin(world.devices[0].node)


@hostile("Who may say what", "authority/fork-in-a-fork")
def test_both_halves_keep_working_and_come_together() -> None:
    world = parted(4, [0, 1], [2, 3])
    for number in range(5):
        says(world, 0, Setting("mine", str(number)))
        says(world, 2, Checkpoint("main", bytes([number]) * 20))
        world.run(2.0)
    world.heal()
    assert world.run_until(lambda: agree(world) and world.roots_equal(), 120.0)


@hostile("Who may say what", "authority/mutual-removal-acknowledged")
@pytest.mark.parametrize("order", list(permutations(range(4))), ids=lambda order: "".join(map(str, order)))
def test_the_order_in_which_a_duel_is_heard_of_decides_nothing(order: tuple[int, ...]) -> None:
    def heard(places: tuple[int, ...]) -> Stage:
        stage = Stage(5, admins=4)
        one = stage.operation(1, AdminRemove(stage.node(2)), stage.genesis)
        other = stage.operation(2, AdminRemove(stage.node(1)), stage.genesis)
        said = [one, stage.approval(3, one), other, stage.approval(3, other)]
        stage.hears(*[said[place] for place in places])
        return stage

    assert heard(order).authority.chain == heard((0, 1, 2, 3)).authority.chain


@hostile("Who may say what", "authority/pin-beats-weight")
def test_a_removal_counts_against_the_heavier_branch_of_the_one_removed() -> None:
    stage = Stage(5, admins=4)
    heavy = stage.operation(3, SignerAdd(SIGNER), stage.genesis)
    stage.takes(heavy, stage.approval(1, heavy), stage.approval(2, heavy))
    stage.mesh.approve(stage.read(heavy).id, NOW)
    assert stage.authority.head == stage.read(heavy).id
    out = stage.operation(1, AdminRemove(stage.node(3)), stage.genesis)
    stage.takes(out, stage.approval(2, out))
    stage.mesh.approve(stage.read(out).id, NOW)
    assert stage.authority.follows(stage.read(out).id)
    assert not stage.authority.is_admin(stage.node(3))


@hostile("Pins and the choice between histories", "authority/mutual-removal-chain")
def test_who_is_thrown_out_takes_nobody_along() -> None:
    """1 throws out 2, and 2 throws out 3 elsewhere: what 2 signed is void, so 3's own branch stands."""
    stage = Stage(6, admins=5)
    first = stage.operation(1, AdminRemove(stage.node(2)), stage.genesis)
    void = stage.operation(2, AdminRemove(stage.node(3)), stage.genesis)
    heavy = stage.operation(3, SignerAdd(SIGNER), stage.genesis)
    approvals = [stage.approval(by, said) for said in (first, void, heavy) for by in (0, 4)]
    stage.hears(first, void, heavy, *approvals, stage.approval(1, heavy))
    stage.rests()
    assert stage.authority.head == stage.read(heavy).id
    assert len(stage.authority.admins) == 5


@hostile("Pins and the choice between histories", "authority/fork-acknowledged-beats-weight")
def test_more_names_told_later_do_not_undo_what_most_admins_follow() -> None:
    stage = Stage(6, admins=5)
    followed = stage.operation(4, Setting("x-a", "b"), stage.genesis)
    stage.takes(followed, *(stage.acknowledgement(by, followed) for by in (1, 2, 3)))
    heavier = stage.operation(1, SignerAdd(SIGNER), stage.genesis)
    stage.takes(heavier, *(stage.approval(by, heavier) for by in (0, 2, 3)))
    stage.rests()
    assert stage.authority.head == stage.read(followed).id


@hostile("Who may say what", "authority/revocation-of-an-admin")
def test_a_revocation_is_no_way_round() -> None:
    stage = Stage(4, admins=2)
    stage.hears(stage.says(1, Revocation(stage.node(0), "mine now")))
    assert stage.authority.is_admin(stage.node(0))
    assert stage.node(0) in stage.authority.members


@hostile("Who may say what", "authority/settled-newest-counts")
def test_an_admin_who_acknowledges_both_sides_has_one_voice() -> None:
    stage = Stage(4, admins=3)
    one = stage.operation(1, Setting("a", "1"), stage.genesis)
    other = stage.operation(2, Setting("a", "2"), stage.genesis)
    stage.takes(one, other)
    words = [stage.acknowledgement(2, data) for data in (one, other) * 5]
    stage.hears(*words)
    standing = [entry for entry in stage.mesh.ledger.of_kind(13) if entry.value.author == stage.node(2)]
    assert [entry.value.id for entry in standing] == [stage.read(words[-1]).id]
