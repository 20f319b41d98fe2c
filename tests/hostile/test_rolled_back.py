"""A device that forgot: a restored disk, an older record set, a peer that shows only what was."""

import pytest

from clanmesh_protocol.errors import StaleError
from clanmesh_protocol.records import AdminRemove, Checkpoint, Kind, Setting, Status
from clanmesh_protocol.tokens import Token
from clanmeshd.core.admission import open_bundle_untrusted
from tests.core.worlds import UNIX_S, found, instant, status
from tests.hostile.rules import hostile
from tests.hostile.stage import NOW, RECOVERY, Stage
from tests.sim.world import World

OUT = 2


def grown(admins: int = 3) -> World:
    """Four whole cores that know of each other."""
    world = World(4, 7, clan=found(4, 7, admins=admins, recovery=RECOVERY))
    assert world.run_until(lambda: len(world.alive) == 4 and world.all_up() and world.roots_equal(), 60.0)
    return world


def throw_out(world: World) -> bytes:
    """Devices 0 and 1 throw the third admin out."""
    record = world.mesh(0).publish_operation(AdminRemove(world.devices[OUT].node), world.now(0))
    world.settle(0)
    assert world.run_until(lambda: bool(world.mesh(1).authority.pending), 10.0)
    world.mesh(1).approve(record.id, world.now(1))
    world.settle(1)
    assert world.run_until(
        lambda: all(world.mesh(index).authority.final == record.id for index in (0, 1, 3)), 10.0
    )
    return record.id


@hostile("Who may say what", "authority/final-pins-first")
def test_a_restart_forgets_no_removal() -> None:
    stage = Stage(4, admins=3)
    kept = stage.governs(AdminRemove(stage.node(OUT)), 1)
    stage.restarts()
    assert stage.authority.final == kept.id
    stage.hears_in_vain(stage.operation(OUT, AdminRemove(stage.node(0)), stage.genesis))


@hostile("Who may say what", "authority/final-unheld")
def test_a_lost_anchor_is_found_again_in_the_records() -> None:
    stage = Stage(4, admins=3)
    kept = stage.governs(AdminRemove(stage.node(OUT)), 1)
    stage.restarts(anchored=False)
    assert stage.authority.final == kept.id


@hostile("Comparing record sets", "root/ok-one")
def test_a_restored_device_learns_that_it_is_out() -> None:
    world = grown()
    backup, anchor = list(world.devices[OUT].disk), world.devices[OUT].anchor
    world.kill(OUT)
    removed = throw_out(world)
    world.devices[OUT].disk, world.devices[OUT].anchor = backup, anchor
    world.start(OUT)
    world.run(20.0)
    heads = {world.mesh(index).authority.head for index in (0, 1, 3)}
    assert heads == {removed}


@hostile("Registers", "ledger/older")
def test_a_restored_device_takes_nothing_back_that_it_said() -> None:
    world = grown()
    backup = list(world.devices[1].disk)
    world.mesh(1).set_status(status(5), world.now(1))
    world.settle(1)
    node = world.devices[1].node

    def newest() -> tuple[int, Status]:
        entry = world.mesh(0).ledger.get(node, Kind.STATUS, "self")
        assert entry is not None
        assert isinstance(entry.content, Status)
        return entry.value.seq, entry.content

    assert world.run_until(lambda: newest()[1].secrets_epoch == 5, 10.0)
    before = newest()[0]
    world.kill(1)
    world.devices[1].disk = backup
    world.start(1, wall_offset_s=-86_400.0)
    assert world.run_until(lambda: world.all_up() and newest()[0] > before, 60.0)


@hostile("Joining", "join/unknown-invite")
def test_a_joiner_is_shown_the_clan_as_it_was() -> None:
    stage = Stage(4, admins=3)
    older = stage.mesh.ledger.bundle()
    kept = stage.governs(AdminRemove(stage.node(OUT)), 1)
    token = Token(
        clan=stage.clan.id,
        clan_name="family",
        invite_seed=bytes(32),
        invite_id=kept.id,
        authority_head=kept.id,
        inviter=stage.node(0),
        floor=0,
        discovery=bytes(16),
        expires_unix_s=int(UNIX_S) + 60,
        endpoints=(),
    )
    with pytest.raises(StaleError):
        open_bundle_untrusted(token, stage.node(3), older)


@hostile("Who may say what", "authority/final-further-on")
def test_an_older_record_set_takes_nothing_away() -> None:
    stage = Stage(4, admins=3)
    older = [record.data for record in stage.mesh.ledger.records()]
    kept = stage.governs(Checkpoint("main", bytes(20)), 1)
    stage.hears(*older)
    assert stage.authority.head == stage.authority.final == kept.id


@hostile("Registers", "ledger/older")
def test_a_clock_that_was_set_back_moves_no_head() -> None:
    stage = Stage()
    stage.governs(Setting("a", "1"))
    earlier = instant(2.0, wall_offset_s=-1e9)
    record = stage.mesh.publish_operation(Setting("a", "2"), earlier)
    assert stage.authority.head == record.id
    assert stage.authority.chain.settings["a"] == "2"
    assert NOW.monotonic_s < earlier.monotonic_s
