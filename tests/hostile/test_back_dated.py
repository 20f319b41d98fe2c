"""Operations that say to be older than they are, and clocks that lie."""

from clanmesh_protocol.keys import NodeId, fingerprint_slot, sign_detached, signing_public
from clanmesh_protocol.records import (
    SINGLE_SLOT,
    AdminAdd,
    AdminRemove,
    Checkpoint,
    Credential,
    Kind,
    Record,
    Redemption,
    Revocation,
    Secret,
    Setting,
    redemption_input,
)
from clanmeshd.core.wanted import newest_secrets
from tests.core.worlds import UNIX_S, status
from tests.hostile.rules import hostile
from tests.hostile.stage import NOW, TOKEN, Stage

LATEST = 2**64 - 1


@hostile("Who may say what", "authority/pin-back-dated")
def test_an_evicted_admin_tells_an_older_history() -> None:
    stage = Stage(4, admins=3)
    stage.governs(AdminRemove(stage.node(2)), 1)
    older = stage.says(2, AdminRemove(stage.node(0)), behind=stage.genesis, seq=1)
    stage.hears_in_vain(older, stage.says(2, Setting("a", "b"), behind=stage.genesis, seq=2))


@hostile("Who may say what", "authority/fork-acknowledged-beats-weight")
def test_a_senior_admins_older_operation_does_not_undo_what_is_final() -> None:
    stage = Stage(4, admins=3)
    kept = stage.governs(Checkpoint("main", bytes(20)), 1, 2)
    assert stage.authority.final == kept.id
    rival = stage.says(1, Setting("a", "b"), behind=stage.genesis, seq=1)
    stage.takes(rival)
    assert stage.authority.head == kept.id


@hostile("Registers", "record/seq-flipped")
def test_a_seq_from_the_end_of_time_hurts_its_author_alone() -> None:
    stage = Stage()
    stage.takes(stage.says(1, status(1), seq=LATEST))
    stage.refuses(stage.says(1, status(2)), code="stale")
    assert stage.mesh.publish(status(3), slot=SINGLE_SLOT, now=NOW).seq < LATEST // 2


@hostile("Who may say what", "authority/fork-hash-last")
def test_no_seq_decides_between_operations() -> None:
    stage = Stage(4, admins=2)
    first = stage.says(0, Setting("a", "b"), behind=stage.genesis, seq=LATEST)
    stage.takes(first)
    stage.takes(stage.says(1, Setting("c", "d"), behind=stage.genesis, seq=1))
    assert stage.authority.head == stage.read(first).id  # the more senior one's


@hostile("Joining", "join/withdrawn")
def test_a_use_that_is_dated_before_the_invite_was_withdrawn() -> None:
    stage = Stage(credentialed=3)
    invite = stage.invite()
    used = redeemed_at(stage, invite, int(UNIX_S) - 1000)
    key = signing_public(TOKEN)
    stage.mesh.publish(Revocation(NodeId(key), "stolen"), slot=fingerprint_slot(key), now=NOW)
    stage.hears(used)
    assert stage.node(3) not in stage.authority.members


@hostile("Joining", "authority/redemption-expired")
def test_a_use_after_the_invite_has_expired() -> None:
    stage = Stage(credentialed=3)
    invite = stage.invite(ttl_s=60)
    stage.hears(redeemed_at(stage, invite, int(UNIX_S) + 61))
    assert stage.node(3) not in stage.authority.members


def redeemed_at(stage: Stage, invite: Record, at_unix_s: int) -> bytes:
    """A use of an invite by device 3, vouched for by member 1, with whatever date."""
    node = stage.node(3)
    statement = redemption_input(stage.clan.id, invite.id, node, "tv")
    proofs = sign_detached(TOKEN, statement), sign_detached(stage.clan.keys[3].identity_seed, statement)
    return stage.says(1, Redemption(invite.id, signing_public(TOKEN), node, "tv", at_unix_s, *proofs))


@hostile("Who may say what", "authority/revoked-for-ever")
def test_a_credential_dated_after_the_revocation() -> None:
    stage = Stage()
    stage.mesh.publish(Revocation(stage.node(2), "lost"), slot=fingerprint_slot(stage.node(2)), now=NOW)
    stage.takes(stage.says(0, Credential(stage.node(2), "back", (), 0, None), seq=LATEST - 1))
    assert stage.node(2) not in stage.authority.members


@hostile("What is kept", "ledger/secret-after-removal")
def test_secrets_by_one_who_was_put_out() -> None:
    """Dated after the removal they are refused; dated before it they stand behind whatever a member has set."""
    stage = Stage()
    theirs = stage.says(1, secret(1), slot="key")
    stage.takes(theirs)
    out = stage.mesh.publish(Revocation(stage.node(2), "lost"), slot=fingerprint_slot(stage.node(2)), now=NOW)
    stage.refuses(stage.says(2, secret(9), slot="key", seq=out.seq + 1), code="unauthorized")
    stage.takes(stage.says(2, secret(9), slot="key", seq=out.seq - 1))
    assert [item.record_id for item in newest_secrets(stage.mesh.ledger, stage.authority)] == [
        stage.read(theirs).id
    ]


@hostile("Invites, redemptions and names", "authority/redemption-by-a-revoked")
def test_one_who_was_put_out_lets_others_in() -> None:
    stage = Stage(5, credentialed=4)
    invite = stage.invite(uses=5)
    stage.mesh.publish(Revocation(stage.node(2), "lost"), slot=fingerprint_slot(stage.node(2)), now=NOW)
    stage.hears(stage.redemption(2, invite, 4, "friend"))
    assert stage.node(4) not in stage.authority.roster.known


def secret(epoch: int) -> Secret:
    """A value that nobody can open."""
    return Secret(epoch, None, "root", "root", 0o400, ("all",), (), bytes(24), b"x")


@hostile("Who may say what", "authority/chain-number-skipped")
def test_an_operation_that_takes_a_later_number() -> None:
    stage = Stage()
    data = stage.says(0, AdminAdd(stage.node(1), 1), behind=stage.genesis, slot="00000005")
    stage.keeps_head(data)
    assert stage.mesh.ledger.get(stage.node(0), Kind.AUTHORITY, "00000005") is not None
    stage.governs(Setting("a", "b"))
