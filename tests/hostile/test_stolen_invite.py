"""A token in the wrong hands: photographed, found later, altered, passed round."""

from random import Random

import pytest

from clanmesh_protocol.keys import NodeId, RecordId, fingerprint_slot, sign_detached, signing_public
from clanmesh_protocol.records import Invite, Kind, Record, Redemption, Revocation, redemption_input
from clanmesh_protocol.streams import Join
from clanmeshd.core.admission import Refusal
from clanmeshd.core.effects import Instant
from clanmeshd.core.limits import ARRIVAL_S_MAX
from tests.core.worlds import instant, pass_time
from tests.hostile.rules import hostile
from tests.hostile.stage import NOW, TOKEN, Stage

THIEF, OWNER = 4, 3


def stage_with_token(**invite: object) -> tuple[Stage, Record]:
    """Three members and an open invite; 3 and 4 are no members yet."""
    stage = Stage(5, credentialed=3)
    return stage, stage.invite(**invite)  # type: ignore[arg-type]


def request(stage: Stage, invite: RecordId, subject: int, name: str, seed: bytes = TOKEN) -> Join:
    """What a device says at the door."""
    keys = stage.clan.keys[subject]
    statement = redemption_input(stage.clan.id, invite, keys.node, name)
    proofs = sign_detached(seed, statement), sign_detached(keys.identity_seed, statement)
    return Join(invite, signing_public(seed), keys.node, name, *proofs)


def refused(stage: Stage, join: Join, code: str, at_s: float = 1.0) -> None:
    """The door stays shut, and nothing is left of the attempt."""
    before = stage.trace()
    with pytest.raises(Refusal) as refusal:
        stage.mesh.admit(join, instant(at_s))
    assert refusal.value.code == code
    assert stage.trace() == before


def kept_busy(stage: Stage, at: Instant) -> None:
    """A member calls for a fold again and again, until there is no time left for the next one."""
    for number in range(400):
        seed = number.to_bytes(32, "big")
        lie = Redemption(RecordId(bytes(32)), signing_public(seed), node_of(seed), "x", 1, bytes(64), bytes(64))
        stage.mesh.receive_record(stage.says(1, lie), stage.node(1), at)


@hostile("Joining", "join/used")
def test_a_photographed_token_after_its_use() -> None:
    stage, invite = stage_with_token()
    stage.mesh.admit(request(stage, invite.id, OWNER, "tv"), NOW)
    refused(stage, request(stage, invite.id, THIEF, "tv2"), "used")
    assert stage.node(OWNER) in stage.authority.members


@hostile("Who may say what", "authority/over-use")
def test_two_who_come_at_two_doors_at_once_wait_for_an_admin() -> None:
    stage, invite = stage_with_token()
    theirs = stage.redemption(1, invite, THIEF, "tv"), stage.redemption(2, invite, OWNER, "tv")
    stage.hears(theirs[0])
    stage.hears(theirs[1])
    assert len({stage.node(THIEF), stage.node(OWNER)} & set(stage.authority.members)) <= 1


@hostile("Invites, redemptions and names", "authority/over-use")
def test_a_member_that_keeps_an_admins_device_busy_while_it_comes_back() -> None:
    """What it has heard and not worked out yet counts, too, when it says whom it confirms."""
    stage, invite = stage_with_token()
    stage.restarts()
    stage.hears(stage.redemption(1, invite, THIEF, "tv"))
    late = instant(NOW.monotonic_s + ARRIVAL_S_MAX - 0.01)
    kept_busy(stage, late)
    stage.mesh.receive_record(stage.redemption(2, invite, OWNER, "tv2"), stage.node(2), late)
    assert not stage.authority.suspended, "it was not worked out yet"
    pass_time(stage.mesh, late.monotonic_s, late.monotonic_s + 0.02)
    assert stage.mesh.has_arrived
    assert stage.authority.suspended == {stage.node(THIEF), stage.node(OWNER)}


@hostile("Joining", "join/used")
def test_a_photographed_token_at_a_door_that_a_member_keeps_busy() -> None:
    """What the door has heard counts, though it has not worked it out yet."""
    stage, invite = stage_with_token()
    kept_busy(stage, NOW)
    stage.mesh.receive_record(stage.redemption(1, invite, OWNER, "tv"), stage.node(1), NOW)
    assert stage.node(OWNER) not in stage.authority.members, "it was not worked out yet"
    with pytest.raises(Refusal) as refusal:
        stage.mesh.admit(request(stage, invite.id, THIEF, "tv2"), NOW)
    assert refusal.value.code == "used"
    assert stage.node(OWNER) in stage.authority.members


@hostile("Joining", "join/withdrawn")
def test_a_withdrawn_token_at_a_door_that_a_member_keeps_busy() -> None:
    stage = Stage(5, credentialed=3, admins=2, attacked=2)
    made = stage.says(0, Invite(signing_public(TOKEN), None, (), 1, 1 << 40))
    stage.takes(made)
    kept_busy(stage, NOW)
    stage.hears(stage.says(0, Revocation(NodeId(signing_public(TOKEN)), "stolen")))
    assert stage.read(made).id in stage.authority.invites, "it was not worked out yet"
    with pytest.raises(Refusal) as refusal:
        stage.mesh.admit(request(stage, stage.read(made).id, THIEF, "tv"), NOW)
    assert refusal.value.code == "unknown-invite"


@hostile("Joining", "join/expired")
def test_a_token_found_later() -> None:
    stage, invite = stage_with_token(ttl_s=60)
    refused(stage, request(stage, invite.id, THIEF, "tv"), "expired", at_s=3600.0)


@hostile("Joining", "join/withdrawn")
def test_a_token_that_was_withdrawn() -> None:
    stage, invite = stage_with_token()
    key = signing_public(TOKEN)
    stage.mesh.publish(Revocation(NodeId(key), "stolen"), slot=fingerprint_slot(key), now=NOW)
    refused(stage, request(stage, invite.id, THIEF, "tv"), "unknown-invite")


@hostile("Joining", "join/other-key")
def test_an_invites_id_without_its_seed() -> None:
    stage, invite = stage_with_token()
    refused(stage, request(stage, invite.id, THIEF, "tv", seed=bytes(32)), "malformed")


@hostile("Signed statements", "join/other-node")
def test_another_devices_proof() -> None:
    stage, invite = stage_with_token()
    owners, thiefs = (request(stage, invite.id, who, "tv") for who in (OWNER, THIEF))
    lie = Join(invite.id, owners.invite_key, thiefs.node, "tv", owners.invite_proof, thiefs.node_proof)
    refused(stage, lie, "malformed")


@hostile("Signed statements", "join/other-name")
def test_another_name_than_was_signed() -> None:
    stage, invite = stage_with_token()
    good = request(stage, invite.id, THIEF, "tv")
    lie = Join(good.invite, good.invite_key, good.node, "node-0", good.invite_proof, good.node_proof)
    refused(stage, lie, "malformed")


@hostile("Joining", "join/revoked")
def test_one_who_was_put_out_comes_with_a_new_token() -> None:
    stage, invite = stage_with_token()
    node = stage.node(2)
    stage.mesh.publish(Revocation(node, "lost"), slot=fingerprint_slot(node), now=NOW)
    refused(stage, request(stage, invite.id, 2, "again"), "revoked")


@hostile("Who may say what", "authority/redemption-by-a-stranger")
def test_strangers_who_admit_each_other() -> None:
    stage, invite = stage_with_token(uses=5)
    stage.refuses(
        stage.redemption(THIEF, invite, OWNER, "a"),
        stage.redemption(OWNER, invite, THIEF, "b"),
        code="unauthorized",
    )
    assert not {stage.node(THIEF), stage.node(OWNER)} & set(stage.authority.members)


@hostile("Joining", "join/unknown-invite")
def test_an_invite_that_nobody_made() -> None:
    stage, _ = stage_with_token()
    refused(stage, request(stage, RecordId(bytes(32)), THIEF, "tv"), "unknown-invite")


@hostile("Who may say what", "authority/invite-by-no-admin")
def test_an_invite_by_a_member() -> None:
    stage, _ = stage_with_token()
    content = Invite(signing_public(bytes(32)), None, ("admin",), 9, 1 << 40)
    stage.refuses(stage.says(1, content), code="unauthorized")
    refused(stage, request(stage, RecordId(bytes(32)), THIEF, "tv", seed=bytes(32)), "unknown-invite")


@hostile("Invites, redemptions and names", "authority/use-closed-for-good")
def test_a_member_who_lets_in_one_after_the_other_by_one_use() -> None:
    stage, invite = stage_with_token()
    first = stage.redemption(1, invite, THIEF, "tv")
    stage.hears(first)
    assert stage.node(THIEF) in stage.authority.members
    slot = stage.read(first).slot
    stage.refuses(stage.says(1, None, kind=Kind.REDEMPTION, slot=slot), code="malformed")
    late = Redemption(invite.id, signing_public(TOKEN), stage.node(THIEF), "tv", 1 << 40, bytes(64), bytes(64))
    stage.hears(stage.says(1, late))
    stage.hears(stage.redemption(1, invite, OWNER, "radio"))
    assert stage.node(OWNER) not in stage.authority.members
    assert stage.authority.invites[invite.id].uses_left == 0


@hostile("Invites, redemptions and names", "authority/redemption-by-the-newest")
def test_who_has_just_come_lets_nobody_in() -> None:
    """As a member sees it whose clan has no admin's device on that could confirm anybody."""
    stage = Stage(5, credentialed=3, attacked=2)
    made = stage.says(0, Invite(signing_public(TOKEN), None, (), 9, 1 << 40))
    invite = stage.read(made)
    stage.takes(made, stage.redemption(1, invite, OWNER, "tv"))
    assert stage.node(OWNER) in stage.authority.members
    stage.hears(stage.redemption(OWNER, invite, THIEF, "tv2"))
    assert stage.node(THIEF) not in stage.authority.roster.known


@hostile("Invites, redemptions and names", "authority/redemption-by-the-newest")
def test_keys_that_let_one_another_in_are_not_many() -> None:
    stage, invite = stage_with_token()
    stage.hears(stage.redemption(1, invite, OWNER, "tv"))
    crowd = [Random(number).randbytes(32) for number in range(20)]
    statements = [redemption_input(stage.clan.id, invite.id, node_of(seed), "x") for seed in crowd]
    for seed, statement in zip(crowd, statements, strict=True):
        proofs = sign_detached(TOKEN, statement), sign_detached(seed, statement)
        stage.hears(stage.says(1, Redemption(invite.id, signing_public(TOKEN), node_of(seed), "x", 1, *proofs)))
    assert not {node_of(seed) for seed in crowd} & stage.authority.roster.known
    stage.refuses(stage.says(crowd[0], Revocation(node_of(crowd[0]), "left")), code="unauthorized")
    mine = [entry for entry in stage.mesh.ledger.of_kind(Kind.REVOCATION) if entry.value.author == stage.node(0)]
    assert mine == [], "an admin signs nothing for keys that no admin ever vouched for"


def node_of(seed: bytes) -> NodeId:
    """The identity that a seed is of."""
    return NodeId(signing_public(seed))
