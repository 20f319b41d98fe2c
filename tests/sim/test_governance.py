"""What devices do by themselves for the clan's trust, and how several admins decide together: whole cores."""

from collections.abc import Callable

import pytest

from clanmesh_protocol.errors import UnauthorizedError
from clanmesh_protocol.keys import NodeId, RecordId, fingerprint_slot
from clanmesh_protocol.records import (
    SINGLE_SLOT,
    AdminAdd,
    AdminRemove,
    Checkpoint,
    Credential,
    Head,
    Kind,
    Revocation,
    Setting,
    SignerAdd,
    SignerRemove,
    Thresholds,
)
from clanmeshd.core.authority import Authority
from clanmeshd.core.credentials import LIFE_SETTING, amended, lapsing
from clanmeshd.core.limits import RESAID_AGE_S_MAX, UPKEEP_S
from clanmeshd.core.resaying import withdrawal
from tests.core.worlds import Clan, found
from tests.sim.world import World

RECOVERY = bytes(range(32))
SIGNER = "ssh-ed25519 AAAAalice alice"
DAY_S = 86_400


def formed(size: int, admins: int, seed: int = 1, clan: Clan | None = None) -> World:
    clan = clan or found(size, seed, admins=admins, recovery=RECOVERY)
    world = World(size, seed, clan=clan)
    assert world.run_until(lambda: len(world.alive) == size and world.all_up() and world.roots_equal(), 60.0)
    return world


def everywhere(world: World, holds: Callable[[Authority], bool]) -> Callable[[], bool]:
    return lambda: all(holds(world.mesh(index).authority) for index in world.alive)


def operate(world: World, index: int, operation: object) -> bytes:
    record = world.mesh(index).publish_operation(operation, world.now(index))  # type: ignore[arg-type]
    world.settle(index)
    return record.id


def test_a_sole_admin_never_notices_and_what_it_says_is_final_everywhere() -> None:
    world = formed(3, 1)
    head = operate(world, 0, SignerAdd(SIGNER))
    assert world.mesh(0).authority.head == head
    assert world.run_until(everywhere(world, lambda authority: authority.final == head), 5.0)
    assert {device.anchor for device in world.devices} == {head}


def test_two_admins_sign_together() -> None:
    world = formed(3, 2)
    proposed = operate(world, 0, SignerAdd(SIGNER))
    assert world.run_until(everywhere(world, lambda a: [p.id for p in a.pending] == [proposed]), 5.0)
    with pytest.raises(UnauthorizedError):
        world.mesh(2).approve(proposed, world.now(2))  # type: ignore[arg-type]
    world.mesh(1).approve(proposed, world.now(1))  # type: ignore[arg-type]
    world.settle(1)
    assert world.run_until(everywhere(world, lambda a: a.final == proposed and a.signers == (SIGNER,)), 5.0)


def test_everybody_hears_what_is_proposed_and_what_was_decided_and_by_whom() -> None:
    world = formed(3, 2)
    proposed = operate(world, 0, SignerAdd(SIGNER))
    assert world.run_until(everywhere(world, lambda a: [p.id for p in a.pending] == [proposed]), 5.0)
    world.mesh(1).approve(proposed, world.now(1))  # type: ignore[arg-type]
    world.settle(1)
    assert world.run_until(everywhere(world, lambda a: a.final == proposed), 5.0)
    author = world.mesh(0).authority.members[world.devices[0].node].name
    for device in world.devices:
        told = [
            (said.kind, said.text) for _, said in device.events if said.kind in ("proposal", "operation", "fork")
        ]
        assert told == [
            ("proposal", f"{author} proposes: let alice sign commits (`clanctl admin pending`)"),
            ("operation", f"{author} decided: let alice sign commits"),
        ]


def test_two_halves_of_a_clan_agree_again_and_nobodys_word_is_lost() -> None:
    world = formed(4, 4)
    world.partition([0, 1], [2, 3])
    operate(world, 0, Checkpoint("main", bytes(20)))
    operate(world, 2, Checkpoint("other", bytes(20)))
    world.run(10.0)
    assert len({world.mesh(index).authority.head for index in range(4)}) == 2
    world.heal()
    refs = {"main", "other"}
    assert world.run_until(everywhere(world, lambda a: {ref for ref, _ in a.checkpoints} == refs), 60.0)
    assert world.run_until(lambda: len({world.mesh(i).authority.final for i in range(4)}) == 1, 30.0)
    assert world.mesh(0).authority.final == world.mesh(0).authority.head


def test_a_proposal_that_the_head_passed_by_is_made_again() -> None:
    world = formed(3, 2)
    operate(world, 0, SignerAdd(SIGNER))
    world.run(1.0)
    operate(world, 1, Setting("colour", "green"))
    pending = everywhere(
        world,
        lambda a: (
            a.chain.settings.get("colour") == "green" and [p.operation for p in a.pending] == [SignerAdd(SIGNER)]
        ),
    )
    assert world.run_until(pending, 10.0)


def approve(world: World, index: int, operation: bytes) -> None:
    assert world.run_until(lambda: operation in {each.id for each in world.mesh(index).authority.pending}, 5.0), (
        "the proposal did not come"
    )
    world.mesh(index).approve(RecordId(operation), world.now(index))
    world.settle(index)


def signers(world: World, index: int) -> list[int]:
    """How many have signed each proposal that waits."""
    return [len(each.signers) for each in world.mesh(index).authority.pending]


def test_who_approved_a_proposal_approves_it_again_when_it_is_said_again() -> None:
    world = formed(5, 5)
    proposed = operate(world, 0, SignerAdd(SIGNER))
    approve(world, 1, proposed)
    for colour in ("green", "blue"):
        operate(world, 2, Setting("colour", colour))
        passed = everywhere(
            world,
            lambda a, colour=colour: (  # type: ignore[misc]
                a.chain.settings.get("colour") == colour
                and [(p.operation, len(p.signers)) for p in a.pending] == [(SignerAdd(SIGNER), 2)]
            ),
        )
        assert world.run_until(passed, 15.0), [signers(world, index) for index in range(5)]
    approve(world, 3, world.mesh(3).authority.pending[0].id)
    assert world.run_until(everywhere(world, lambda a: a.signers == (SIGNER,)), 5.0)
    for device in world.devices:
        assert [said.kind for _, said in device.events].count("proposal") == 1


def test_who_did_not_approve_does_not_by_itself() -> None:
    world = formed(5, 5)
    operate(world, 0, SignerAdd(SIGNER))
    world.run(1.0)
    operate(world, 2, Setting("colour", "green"))
    world.run(3 * UPKEEP_S)
    assert [signers(world, index) for index in range(5)] == [[1]] * 5


def test_an_approval_ends_with_what_was_decided_about_the_same_thing() -> None:
    world = formed(5, 5)
    proposed = operate(world, 0, Thresholds(4, 2))
    approve(world, 1, proposed)
    other = operate(world, 2, Thresholds(5, 1))
    for index in (1, 3):
        approve(world, index, other)
    assert world.run_until(everywhere(world, lambda a: (a.chain.govern, a.chain.routine) == (5, 1)), 5.0)
    world.run(3 * UPKEEP_S)
    assert [signers(world, index) for index in range(5)] == [[1]] * 5


def test_an_approval_ends_when_it_was_heeded_or_the_proposal_was_taken_back() -> None:
    world = formed(5, 5)
    proposed = operate(world, 0, SignerAdd(SIGNER))
    for index in (1, 2):
        approve(world, index, proposed)
    assert world.run_until(everywhere(world, lambda a: a.final == proposed), 5.0)
    gone = operate(world, 3, SignerRemove(SIGNER))
    for index in (1, 2):
        approve(world, index, gone)
    assert world.run_until(everywhere(world, lambda a: a.final == gone), 5.0)
    again = operate(world, 0, SignerAdd(SIGNER))
    world.run(3 * UPKEEP_S)
    assert [signers(world, index) for index in range(5)] == [[1]] * 5
    approve(world, 1, again)
    operate(world, 4, withdrawal(RecordId(again)))
    assert world.run_until(everywhere(world, lambda a: not a.pending), 5.0)
    operate(world, 0, SignerAdd(SIGNER))
    world.run(3 * UPKEEP_S)
    assert [signers(world, index) for index in range(5)] == [[1]] * 5


def test_an_approval_is_no_older_than_a_proposal_lives() -> None:
    world = formed(5, 5)
    approve(world, 1, operate(world, 0, SignerAdd(SIGNER)))
    for colour in ("green", "blue"):  # said again, and so younger each time; the person's word is not
        world.sleep(RESAID_AGE_S_MAX * 0.6)
        world.run(10.0)
        operate(world, 2, Setting("colour", colour))
        assert world.run_until(everywhere(world, lambda a: len(a.pending) == 1), 15.0)
        world.run(3 * UPKEEP_S)
        assert [signers(world, index) for index in range(5)] == [[2 if colour == "green" else 1]] * 5


@pytest.mark.parametrize("rests", [True, False])
def test_a_removal_is_not_approved_again_while_somebody_rests_on_who_goes(rests: bool) -> None:
    world = World(5, 1, clan=found(5, 1, admins=4, credentialed=4))
    world.run(10.0)
    leaving, late = world.devices[3].node, world.devices[4].node
    approve(world, 1, operate(world, 0, AdminRemove(leaving)))
    by = world.mesh(3 if rests else 2)
    by.publish(Credential(late, "late", (), 0, None), slot=fingerprint_slot(late), now=world.now(0))
    world.settle(3 if rests else 2)
    assert world.run_until(lambda: all(late in world.mesh(index).authority.members for index in range(4)), 5.0)
    operate(world, 2, Setting("colour", "green"))
    world.run(3 * UPKEEP_S)
    assert [signers(world, index) for index in range(4)] == [[1 if rests else 2]] * 4


def test_what_its_author_takes_back_is_not_said_again_before_others_agree() -> None:
    world = formed(4, 4)
    approve(world, 1, operate(world, 0, Thresholds(0, 2)))
    for index in (2,):
        approve(world, index, world.mesh(index).authority.pending[0].id)
    assert world.run_until(everywhere(world, lambda a: a.chain.routine == 2), 5.0)
    proposed = operate(world, 0, SignerAdd(SIGNER))
    operate(world, 0, withdrawal(RecordId(proposed)))
    assert world.run_until(everywhere(world, lambda a: len(a.pending) == 2), 5.0)
    approve(world, 3, operate(world, 2, Setting("colour", "green")))
    world.run(3 * UPKEEP_S)
    assert [signers(world, index) for index in range(4)] == [[]] * 4


def test_a_withdrawal_by_another_admin_holds_for_what_was_said_again_meanwhile() -> None:
    world = formed(4, 4)
    first = operate(world, 0, Thresholds(0, 2))
    for index in (1, 2):
        approve(world, index, first)
    assert world.run_until(everywhere(world, lambda a: a.chain.routine == 2), 5.0)
    proposed = operate(world, 0, SignerAdd(SIGNER))
    assert world.run_until(everywhere(world, lambda a: len(a.pending) == 1), 5.0)
    operate(world, 1, withdrawal(RecordId(proposed)))
    assert world.run_until(everywhere(world, lambda a: len(a.pending) == 2), 5.0)
    approve(world, 3, operate(world, 2, Setting("colour", "green")))
    assert world.run_until(everywhere(world, lambda a: "colour" in a.chain.settings and len(a.pending) == 2), 15.0)
    back = next(each for each in world.mesh(2).authority.pending if each.operation != SignerAdd(SIGNER))
    approve(world, 2, back.id)
    world.run(3 * UPKEEP_S)
    assert [signers(world, index) for index in range(4)] == [[]] * 4


def test_a_device_signs_one_of_several_changes_of_the_admins_and_may_take_its_own_back() -> None:
    world = formed(4, 2)
    mine = operate(world, 0, AdminAdd(world.devices[2].node, 1))
    other = operate(world, 1, AdminAdd(world.devices[3].node, 1))
    assert world.run_until(everywhere(world, lambda a: {p.id for p in a.pending} == {mine, other}), 5.0)
    with pytest.raises(UnauthorizedError):
        world.mesh(0).approve(other, world.now(0))  # type: ignore[arg-type]
    with pytest.raises(UnauthorizedError):
        operate(world, 0, AdminRemove(world.devices[1].node))
    operate(world, 0, withdrawal(mine))  # type: ignore[arg-type]
    again = everywhere(world, lambda a: [p.operation for p in a.pending] == [AdminAdd(world.devices[3].node, 1)])
    assert world.run_until(again, 10.0)
    world.mesh(0).approve(world.mesh(0).authority.pending[0].id, world.now(0))
    world.settle(0)
    assert world.run_until(everywhere(world, lambda a: a.is_admin(world.devices[3].node)), 5.0)
    assert not world.mesh(0).authority.is_admin(world.devices[2].node)


def resign(world: World, index: int, admin: NodeId) -> None:
    """Let one admin stand for whom another has vouched for."""
    mesh = world.mesh(index)
    for credential in lapsing(mesh.ledger, mesh.authority, admin).credentials:
        mesh.publish(credential, slot=fingerprint_slot(credential.node), now=world.now(index))


def test_a_majority_thrown_out_stays_out_after_restarts() -> None:
    world = formed(4, 3)
    out = operate(world, 0, AdminRemove(world.devices[2].node))
    world.run(1.0)
    world.mesh(1).approve(out, world.now(1))  # type: ignore[arg-type]
    world.settle(1)
    gone = everywhere(world, lambda a: not a.is_admin(world.devices[2].node))
    assert world.run_until(gone, 5.0)
    with pytest.raises(UnauthorizedError):
        world.mesh(2).publish_operation(SignerAdd(SIGNER), world.now(2))
    for index in (0, 1, 3):
        world.kill(index)
        world.start(index)
    world.run(10.0)
    assert gone()


def test_the_recovery_key_makes_a_member_an_admin() -> None:
    world = formed(3, 1)
    world.kill(0)
    nas = world.devices[1].node
    with pytest.raises(UnauthorizedError):
        world.mesh(1).recover(bytes(32), AdminAdd(nas, 1), world.now(1))
    world.mesh(1).recover(RECOVERY, AdminAdd(nas, 1), world.now(1))
    resign(world, 1, world.devices[0].node)
    world.mesh(1).recover(RECOVERY, AdminRemove(world.devices[0].node), world.now(1))
    world.settle(1)
    assert world.run_until(everywhere(world, lambda a: a.admins == (nas,)), 5.0)
    world.start(0)
    assert world.run_until(everywhere(world, lambda a: a.admins == (nas,)), 10.0)
    assert all(world.devices[2].node in world.mesh(index).authority.members for index in range(3))


def test_who_leaves_stays_out_by_an_admins_word_too() -> None:
    world = formed(3, 1)
    node = world.devices[2].node
    world.mesh(2).publish(Revocation(node, "sold"), slot=fingerprint_slot(node), now=world.now(2))
    world.settle(2)
    assert world.run_until(lambda: all(node in world.mesh(i).authority.revoked for i in (0, 1)), 5.0)

    def countersigned() -> bool:
        slot = fingerprint_slot(node)
        return world.mesh(1).ledger.get(world.devices[0].node, Kind.REVOCATION, slot) is not None

    assert world.run_until(countersigned, 5.0)


def test_nobody_else_can_say_that_somebody_left() -> None:
    world = formed(3, 1)
    node = world.devices[2].node
    with pytest.raises(UnauthorizedError):
        world.mesh(1).publish(Revocation(node, "no"), slot=fingerprint_slot(node), now=world.now(1))


def expires(world: World, index: int) -> int:
    return world.mesh(0).authority.members[world.devices[index].node].expires_unix_s


def test_credentials_get_the_clans_term_and_are_renewed_in_time_while_the_device_is_there() -> None:
    world = formed(3, 1)
    world.kill(2)
    assert world.run_until(lambda: world.state(0, 2) == "down", 60.0)
    operate(world, 0, Setting(LIFE_SETTING, "1"))
    assert world.run_until(lambda: all(expires(world, index) for index in range(3)), 3 * UPKEEP_S)
    first = [expires(world, index) for index in range(3)]
    world.sleep(DAY_S * 0.68)
    world.run(60.0)
    assert expires(world, 1) > first[1]
    assert expires(world, 2) == first[2]  # it did not answer: it falls out
    operate(world, 0, Setting(LIFE_SETTING, "0"))
    assert world.run_until(lambda: not expires(world, 1), 3 * UPKEEP_S)


def test_they_are_renewed_in_time_by_an_admin_whose_clock_was_years_ahead_for_a_moment() -> None:
    """What it says from then on is dated by its own newest record, so the date is not when it was said."""
    world = formed(3, 1)
    world.kill(0)
    world.start(0, wall_offset_s=2 * 365 * DAY_S)
    world.run(10.0)
    world.kill(0)
    world.start(0, wall_offset_s=0.0)
    world.run(10.0)
    operate(world, 0, Setting(LIFE_SETTING, "1"))
    assert world.run_until(lambda: all(expires(world, index) for index in range(3)), 3 * UPKEEP_S)
    first = [expires(world, index) for index in range(3)]
    world.run(3 * UPKEEP_S)
    assert [expires(world, index) for index in range(3)] == first, "not before it is time"
    world.sleep(DAY_S * 0.68)
    world.run(60.0)
    assert all(expires(world, index) > first[index] for index in range(3))


def test_an_amended_credential_goes_before_that_of_a_more_senior_admin() -> None:
    world = formed(3, 2)
    mesh, node = world.mesh(1), world.devices[2].node
    content = amended(mesh.ledger, mesh.authority, mesh.node, node, name="attic")
    mesh.publish(content, slot=fingerprint_slot(node), now=world.now(1))
    world.settle(1)
    assert world.run_until(everywhere(world, lambda a: a.members[node].name == "attic"), 5.0)


def test_somebody_publishes_the_proof_of_an_equivocation_and_all_have_it() -> None:
    world = formed(4, 1)
    author = world.devices[3]
    seq = 2**60
    twins = [world.clan.sign(3, Head(None, bytes([n]) * 20, b""), slot="main", seq=seq) for n in (1, 2)]
    for data, index in zip(twins, (0, 1), strict=True):
        world.mesh(index).receive_record(data, author.node, world.now(index))
        world.settle(index)

    def proofs(index: int) -> list[NodeId]:
        entries = world.mesh(index).ledger.of_kind(Kind.EQUIVOCATION)
        return [entry.value.author for entry in entries]

    assert world.run_until(lambda: all(proofs(index) for index in range(4)), 30.0)
    world.run(30.0)
    assert {len(proofs(index)) for index in range(4)} == {1}
    assert any(event.kind == "equivocation" for device in world.devices for _, event in device.events)


def test_one_key_on_two_machines_is_noticed_by_the_others() -> None:
    clan = found(4, 5, credentialed=3)
    world = World(4, 5, clan=clan)
    world.devices[3].keys = clan.keys[2]
    world.run(1.0)
    assert world.run_until(lambda: clan.keys[2].node in world.mesh(0).clones, 120.0)
    assert "clone" in [event.kind for _, event in world.devices[0].events]


def test_a_restart_is_no_clone() -> None:
    world = formed(3, 1)
    for _ in range(6):
        world.kill(2)
        world.run(3.0)
        world.start(2)
        world.run(10.0)
    assert [dict(world.mesh(index).clones) for index in (0, 1)] == [{}, {}]


def test_the_credential_of_a_successor_puts_its_former_key_out() -> None:
    clan = found(4, 3, credentialed=3, recovery=RECOVERY)
    world = formed(3, 1, clan=clan)
    mesh, old, new = world.mesh(0), clan.keys[2].node, clan.keys[3].node
    content = Credential(new, "node-2", (), 0, None, succeeds=old)
    mesh.publish(content, slot=fingerprint_slot(new), now=world.now(0))
    world.settle(0)
    assert old in mesh.authority.revoked
    assert mesh.authority.members[new].name == "node-2"
    assert mesh.ledger.get(old, Kind.NODE, SINGLE_SLOT) is None
