"""An admin who was thrown out and kept its keys, and whatever it signed in store."""

import pytest

from clanmesh_protocol.keys import signing_public
from clanmesh_protocol.limits import VOID_RECORDS_MAX
from clanmesh_protocol.records import (
    AdminAdd,
    AdminRemove,
    AdminReplace,
    Invite,
    Kind,
    RecoveryReplace,
    Revocation,
    Setting,
    SignerAdd,
    Thresholds,
)
from tests.core.worlds import UNIX_S, status
from tests.hostile.rules import hostile
from tests.hostile.stage import NOW, RECOVERY, SIGNER, TOKEN, Stage, stays_small

OUT = 2  # the one who is thrown out


def evicted() -> Stage:
    """Three admins; two have thrown the third out, and that is final."""
    stage = Stage(5, admins=3)
    stage.governs(AdminRemove(stage.node(OUT)), 1)
    return stage


@hostile("Who may say what", "authority/pin-behind-the-removal")
@pytest.mark.parametrize(
    "operation",
    [Setting("a", "b"), SignerAdd(SIGNER), Thresholds(0, 1), RecoveryReplace(bytes(32))],
    ids=lambda operation: type(operation).__name__,
)
def test_no_operation_counts(operation: Setting) -> None:
    stage = evicted()
    stage.hears_in_vain(stage.operation(OUT, operation), stage.operation(OUT, operation, stage.genesis))


@hostile("Who may say what", "authority/pin-with-what-rests-on-it")
def test_no_branch_of_its_own_counts_however_long() -> None:
    stage = evicted()
    behind = stage.genesis
    branch = []
    for number in range(20):
        branch.append(stage.operation(OUT, Setting("a", str(number)), behind))
        behind = stage.read(branch[-1])
    branch.append(stage.acknowledgement(OUT, branch[-1]))
    stage.hears_in_vain(*branch)


@hostile("Who may say what", "authority/final-pins-first")
def test_a_friend_among_the_admins_cannot_turn_the_removal_round_when_it_is_final() -> None:
    stage = evicted()
    kept = stage.head
    back = stage.operation(OUT, AdminRemove(stage.node(0)), stage.genesis)
    stage.keeps_head(
        back, stage.approval(1, back), stage.acknowledgement(1, back), stage.acknowledgement(OUT, back)
    )
    stage.restarts()
    assert stage.head == kept
    assert stage.authority.is_admin(stage.node(0))


@hostile("Who may say what", "authority/pin-approval")
def test_its_name_helps_nobody() -> None:
    stage = evicted()
    proposed = stage.operation(1, AdminAdd(stage.node(3), 1))
    stage.takes(proposed)
    stage.hears_in_vain(stage.approval(OUT, proposed))
    assert [pending.weight for pending in stage.authority.pending] == [1]


@hostile("Who may say what", "authority/pin-not-added-again")
def test_it_is_not_made_an_admin_again() -> None:
    stage = evicted()
    again = stage.operation(1, AdminAdd(stage.node(OUT), 1000))
    stage.takes(again, stage.says(1, Setting("x", "y"), slot="00000009"))
    stage.mesh.approve(stage.read(again).id, NOW)
    assert not stage.authority.is_admin(stage.node(OUT))


@hostile("Who may say what", "authority/pin-no-successor")
def test_it_does_not_come_back_in_anothers_place() -> None:
    stage = evicted()
    swap = stage.operation(1, AdminReplace(stage.node(1), stage.node(OUT)))
    stage.takes(swap)
    stage.mesh.approve(stage.read(swap).id, NOW)
    assert stage.authority.is_admin(stage.node(1))
    assert not stage.authority.is_admin(stage.node(OUT))


@hostile("Who may say what", "authority/credentials-by-no-admin")
def test_it_makes_no_members_and_puts_nobody_out() -> None:
    stage = Stage(5, admins=3, credentialed=4)
    stage.governs(AdminRemove(stage.node(OUT)), 1)
    invite = Invite(signing_public(TOKEN), None, (), 1, int(UNIX_S) + 60)
    stage.refuses(
        stage.credential(OUT, 4, "mine"),
        stage.says(OUT, Revocation(stage.node(0), "no")),
        stage.says(OUT, Revocation(stage.node(3), "no")),
        stage.says(OUT, invite),
        code="unauthorized",
    )


@hostile("Who may say what", "authority/lapse-credential")
def test_what_it_vouched_for_goes_with_it() -> None:
    stage = Stage(5, admins=3, credentialed=4)
    stage.takes(stage.credential(OUT, 4, "mole"))
    assert stage.node(4) in stage.authority.members
    stage.governs(AdminRemove(stage.node(OUT)), 1)
    assert stage.node(4) not in stage.authority.members
    stage.refuses(stage.says(4, status(1)), code="unauthorized")


@hostile("Who may say what", "authority/pin-recovery-not-back")
def test_a_recovery_key_that_was_replaced() -> None:
    stage = Stage(4, admins=3)
    stage.governs(RecoveryReplace(bytes(range(100, 132))), 1)
    out = AdminRemove(stage.node(0))
    stage.hears_in_vain(stage.operation(RECOVERY, out), stage.operation(RECOVERY, out, stage.genesis))


@hostile("Who may say what", "authority/pin-beats-weight")
def test_the_heavier_one_goes_all_the_same() -> None:
    stage = Stage(4, admins=3)
    stage.governs(AdminAdd(stage.node(OUT), 2), 1, OUT)  # it weighs as much as the two others now
    out = stage.operation(1, AdminRemove(stage.node(OUT)))
    stage.takes(out)
    stage.mesh.approve(stage.read(out).id, NOW)
    assert stage.authority.is_admin(stage.node(OUT))  # half is no majority
    stage.mesh.recover(RECOVERY, AdminRemove(stage.node(OUT)), NOW)
    assert not stage.authority.is_admin(stage.node(OUT))
    stage.keeps_head(stage.operation(OUT, AdminRemove(stage.node(0)), stage.genesis))


@hostile("Who may say what", "authority/pin-behind-the-removal")
def test_a_flood_by_it_fills_its_corner_and_no_more() -> None:
    stage = evicted()
    kept = stage.authority.head
    flood = [stage.operation(OUT, Setting("a", str(number))) for number in range(VOID_RECORDS_MAX + 30)]
    stage.restarts(*flood[:VOID_RECORDS_MAX])
    stays_small(stage, flood[VOID_RECORDS_MAX:])
    stage.rests()
    assert len(stage.mesh.ledger.of_kind(Kind.AUTHORITY)) <= VOID_RECORDS_MAX + 2
    assert stage.authority.head == kept


@hostile("What is kept", "authority/pin-behind-the-removal")
def test_two_of_them_with_a_crowd_behind_them_do_not_keep_the_sets_moving() -> None:
    """They make a third one an admin, where nobody looks; its words must not push out what gives it its say."""
    stage = Stage(5, admins=3)
    for number in (1, 2):
        stage.mesh.recover(RECOVERY, AdminRemove(stage.node(number)), NOW)
    elevated = stage.operation(1, AdminAdd(stage.node(4), 1), stage.genesis)
    crowd = [
        stage.says(4, Setting("z", str(number)), behind=stage.read(elevated))
        for number in range(VOID_RECORDS_MAX + 30)
    ]
    stage.restarts(elevated, approved := stage.approval(2, elevated), *crowd)
    settled = stage.trace()
    assert all(stage.mesh.ledger.known(stage.read(data).id) for data in (elevated, approved))
    assert len(stage.mesh.ledger.of_kind(Kind.AUTHORITY)) > VOID_RECORDS_MAX
    stage.hears(*crowd[-40:], elevated, *crowd[:10])
    assert stage.trace()[:2] == settled[:2]
    assert stage.node(4) not in stage.authority.admins
