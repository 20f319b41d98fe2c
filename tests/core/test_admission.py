"""Coming in: what a member refuses and why, what an admin confirms, what a joiner believes."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from clanmesh_protocol.errors import (
    LimitError,
    MalformedError,
    ProtocolError,
    SignatureError,
    StaleError,
    UnauthorizedError,
)
from clanmesh_protocol.limits import STREAM_RECORDS_MAX
from clanmesh_protocol.records import Kind, Record, Redemption, SignerAdd, parse_untrusted
from clanmesh_protocol.signing import Verified
from clanmesh_protocol.streams import Join
from clanmesh_protocol.tokens import Token
from clanmeshd.core.admission import Refusal, make_invite, open_bundle_untrusted, redeem
from clanmeshd.core.authority import Authority, fold
from clanmeshd.core.credentials import confirmation
from tests.core.authors import NOW_UNIX_S, Family, join_request

SEED = bytes(range(32))


@pytest.fixture
def family() -> Family:
    return Family(["desk"], ["nas", "phone", "guest"])


def request_of(family: Family, invite: Verified[Record], name: str = "nas", wish: str | None = None) -> Join:
    return join_request(family.clan, invite.value.id, SEED, family[name], wish)


def refused(authority: Authority, request: Join, now_unix_s: float = NOW_UNIX_S) -> str:
    with pytest.raises(Refusal) as caught:
        redeem(authority, authority.admins[0], request, now_unix_s)
    why = caught.value.why
    assert why
    assert "\n" not in why
    assert len(why.encode()) < 256, "one sentence that a refusal frame can carry"
    return caught.value.code


# --- inviting ------------------------------------------------------------------------------------------


def test_an_admin_invites(family: Family) -> None:
    invite = make_invite(
        family.authority(),
        family["desk"].node,
        key=bytes(32),
        name="nas",
        tags=["tv", "backup", "tv"],
        uses=1,
        expires_unix_s=5,
    )
    assert (invite.name, invite.tags, invite.uses, invite.expires_unix_s) == ("nas", ("backup", "tv"), 1, 5)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"name": "desk"}, "name-taken"),
        ({"name": "Desk"}, "malformed"),
        ({"name": "nas", "uses": 2}, "malformed"),
        ({"uses": 0}, "malformed"),
        ({"uses": 1001}, "malformed"),
        ({"tags": ["_"]}, "malformed"),
        ({"tags": [f"t{n}" for n in range(17)]}, "malformed"),
    ],
)
def test_an_invite_that_cannot_work_is_not_made(family: Family, change: dict[str, object], code: str) -> None:
    authority = family.authority(family["desk"].credential(family["desk"]))
    given: dict[str, object] = {"key": bytes(32), "name": None, "tags": [], "uses": 1, "expires_unix_s": 5}
    with pytest.raises(Refusal) as caught:
        make_invite(authority, family["desk"].node, **(given | change))  # type: ignore[arg-type]
    assert caught.value.code == code


def test_a_member_that_is_no_admin_does_not_invite(family: Family) -> None:
    authority = family.authority(family["desk"].credential(family["nas"]))
    with pytest.raises(Refusal, match="denied"):
        make_invite(authority, family["nas"].node, key=bytes(32), name=None, tags=[], uses=1, expires_unix_s=5)


# --- redeeming -----------------------------------------------------------------------------------------


def test_a_redeemed_invite_admits(family: Family) -> None:
    invite = family["desk"].invite(SEED)
    content = redeem(family.authority(invite), family["desk"].node, request_of(family, invite), NOW_UNIX_S + 0.9)
    assert isinstance(content, Redemption)
    assert content.at_unix_s == NOW_UNIX_S
    authority = family.authority(invite, family["desk"].write(content))
    assert authority.members[family["nas"].node].name == "nas"


def test_a_device_that_lost_the_answer_asks_again_and_takes_no_second_use(family: Family) -> None:
    invite = family["desk"].invite(SEED)
    authority = family.authority(invite, family["desk"].redemption(invite, SEED, family["nas"]))
    assert redeem(authority, authority.admins[0], request_of(family, invite), NOW_UNIX_S + 9999) is None


def test_a_second_device_is_refused_and_the_first_stays(family: Family) -> None:
    invite = family["desk"].invite(SEED)
    authority = family.authority(invite, family["desk"].redemption(invite, SEED, family["nas"]))
    assert refused(authority, request_of(family, invite, "phone")) == "used"


def test_an_expired_invite_is_refused_from_the_next_second_on(family: Family) -> None:
    invite = family["desk"].invite(SEED, ttl_s=60)
    authority = family.authority(invite)
    assert redeem(authority, authority.admins[0], request_of(family, invite), NOW_UNIX_S + 60) is not None
    assert refused(authority, request_of(family, invite), NOW_UNIX_S + 61) == "expired"


def test_an_unknown_and_a_withdrawn_invite_are_refused(family: Family) -> None:
    invite = family["desk"].invite(SEED)
    withdrawal = family["desk"].write(None, kind=Kind.INVITE, slot=invite.value.slot)
    assert refused(family.authority(), request_of(family, invite)) == "unknown-invite"
    assert refused(family.authority(invite, withdrawal), request_of(family, invite)) == "unknown-invite"


def test_a_taken_name_is_refused_but_one_that_the_invite_gives_is_told_apart(family: Family) -> None:
    desk = family["desk"]
    own, free = desk.credential(desk, name="nas"), desk.invite(SEED)
    assert refused(family.authority(own, free), request_of(family, free, "phone", "nas")) == "name-taken"
    given = desk.invite(SEED, name="nas")
    content = redeem(family.authority(own, given), desk.node, request_of(family, given, "phone"), NOW_UNIX_S)
    assert content is not None
    assert family.authority(own, given, desk.write(content)).members[family["phone"].node].name == "nas-2"


def test_a_removed_device_is_refused_before_anything_else(family: Family) -> None:
    invite = family["desk"].invite(SEED)
    authority = family.authority(invite, family["desk"].revocation(family["nas"]))
    assert refused(authority, request_of(family, invite)) == "revoked"


@pytest.mark.parametrize("field", ["invite_key", "node", "name", "invite_proof", "node_proof"])
def test_a_request_that_was_tampered_with_is_refused(family: Family, field: str) -> None:
    invite = family["desk"].invite(SEED)
    values: dict[str, object] = {"node": family["phone"].node, "name": "phone", "invite_key": bytes(32)}
    request = replace(request_of(family, invite), **{field: values.get(field, bytes(64))})  # type: ignore[arg-type]
    assert refused(family.authority(invite), request) == "malformed"


def test_proofs_made_for_another_clan_are_refused(family: Family) -> None:
    invite, other = family["desk"].invite(SEED), Family(["desk"], name="other")
    request = join_request(other.clan, invite.value.id, SEED, family["nas"])
    assert refused(family.authority(invite), request) == "malformed"


def test_the_suspended_are_refused_as_long_as_no_admin_decided(family: Family) -> None:
    desk = family["desk"]
    invite = desk.invite(SEED)
    records = [desk.credential(family["phone"]), invite]
    records += [
        desk.redemption(invite, SEED, family["nas"]),
        family["phone"].redemption(invite, SEED, family["guest"]),
    ]
    assert refused(family.authority(*records), request_of(family, invite)) == "used"


# --- confirming ----------------------------------------------------------------------------------------


def test_admins_confirm_what_members_admitted_once(family: Family) -> None:
    desk = family["desk"]
    invite = desk.invite(SEED, tags=["tv"])
    records = [invite, redemption := desk.redemption(invite, SEED, family["nas"])]
    authority = family.authority(*records)
    credential = confirmation(authority, authority.members[family["nas"].node], NOW_UNIX_S)
    assert (credential.node, credential.name, credential.tags) == (family["nas"].node, "nas", ("tv",))
    assert credential.redemption == redemption.value.id
    after = family.authority(*records, desk.write(credential))
    assert after.members[family["nas"].node].confirmed


# --- the joiner ----------------------------------------------------------------------------------------


def token_of(family: Family, invite: Verified[Record], head: Verified[Record]) -> Token:
    """The desk's token for an invite, made when an operation was the head."""
    return Token(
        clan=family.clan,
        clan_name="family",
        invite_seed=SEED,
        invite_id=invite.value.id,
        authority_head=head.value.id,
        inviter=family["desk"].node,
        floor=invite.value.seq,
        discovery=bytes(16),
        expires_unix_s=NOW_UNIX_S + 3600,
        endpoints=(),
    )


def bundle(family: Family) -> tuple[Token, list[bytes]]:
    """A token of the desk's, and what the desk hands to the nas when it joins."""
    desk = family["desk"]
    operation = desk.operation(SignerAdd("ssh-ed25519 AAAA"), family.authority())
    records = [desk.credential(desk), operation, invite := desk.invite(SEED)]
    token = token_of(family, invite, operation)
    ledger = family.ledger(*records, desk.redemption(invite, SEED, family["nas"]))
    return token, [record.data for record in ledger.records()]


def test_a_joiner_takes_a_sound_bundle_whole(family: Family) -> None:
    token, data = bundle(family)
    records = open_bundle_untrusted(token, family["nas"].node, data)
    assert [record.value.data for record in records] == data
    assert fold(family.ledger(*records)).is_member(family["nas"].node)


def test_a_joiner_leaves_out_what_the_rules_do_not_let_in(family: Family) -> None:
    token, data = bundle(family)
    intruder = family["phone"].node_record()
    records = open_bundle_untrusted(token, family["nas"].node, [*data, intruder.value.data])
    assert [record.value.data for record in records] == data


def _without(kind: Kind, slot: str | None = None) -> Callable[[Family, list[bytes]], list[bytes]]:
    def change(family: Family, data: list[bytes]) -> list[bytes]:
        records = [parse_untrusted(record, family.clan) for record in data]
        return [r.data for r in records if r.kind != kind or (slot is not None and r.slot != slot)]

    return change


FAULTS: dict[str, tuple[Callable[[Family, list[bytes]], list[bytes]], type[ProtocolError]]] = {
    "empty": (lambda family, data: [], MalformedError),
    "too many": (lambda family, data: data * STREAM_RECORDS_MAX, LimitError),
    "genesis missing": (lambda family, data: data[1:], MalformedError),
    "genesis not in front": (lambda family, data: [*data[1:], data[0]], MalformedError),
    "another clan's": (
        lambda family, data: [Family(["desk"], name="other").genesis.value.data, *data],
        SignatureError,
    ),
    "a flipped bit": (lambda family, data: [*data[:-1], data[-1][:40] + b"\0" + data[-1][41:]], SignatureError),
    "a cut record": (lambda family, data: [*data[:-1], data[-1][:-1]], MalformedError),
    "older authority": (_without(Kind.AUTHORITY, "00000001"), StaleError),
    "no invite": (_without(Kind.INVITE), UnauthorizedError),
    "own admission missing": (_without(Kind.REDEMPTION), UnauthorizedError),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_joiner_refuses_a_faulty_bundle(family: Family, fault: str) -> None:
    change, error = FAULTS[fault]
    token, data = bundle(family)
    if fault == "own admission missing":  # the inviter's newest record is its admission: lower what is asked
        token = replace(token, floor=0)
    with pytest.raises(error):
        open_bundle_untrusted(token, family["nas"].node, change(family, data))


def test_a_joiner_refuses_records_from_before_the_token(family: Family) -> None:
    token, data = bundle(family)
    newest = max(parse_untrusted(record, family.clan).seq for record in data)
    assert open_bundle_untrusted(replace(token, floor=newest), family["nas"].node, data)
    with pytest.raises(StaleError):
        open_bundle_untrusted(replace(token, floor=newest + 1), family["nas"].node, data)


def test_a_joiner_refuses_an_inviter_that_is_no_member(family: Family) -> None:
    token, data = bundle(family)
    with pytest.raises(UnauthorizedError, match="made the token"):
        open_bundle_untrusted(replace(token, inviter=family["phone"].node, floor=0), family["nas"].node, data)


def test_a_joiner_takes_the_bundle_of_any_member_and_of_nobody_else(family: Family) -> None:
    token, data = bundle(family)
    nas, guest = family["nas"].node, family["guest"]
    data.append(family["desk"].credential(guest).value.data)
    assert open_bundle_untrusted(token, nas, data, server=guest.node)
    with pytest.raises(UnauthorizedError, match="that answered"):
        open_bundle_untrusted(token, nas, data, server=family["phone"].node)
    data.append(family["desk"].revocation(guest).value.data)
    with pytest.raises(UnauthorizedError, match="that answered"):
        open_bundle_untrusted(token, nas, data, server=guest.node)


def test_a_joiner_refuses_a_history_in_which_its_token_was_not_made() -> None:
    """The operation is among the records, but its branch is not the one that they make a device follow."""
    family = Family(["desk", "hall"], ["nas"], weights=(1, 3))
    desk, hall = family["desk"], family["hall"]
    here = family.authority()
    lost = desk.operation(SignerAdd("ssh-ed25519 AAAAdesk"), here)
    kept = hall.operation(SignerAdd("ssh-ed25519 AAAAhall"), here)
    invite = desk.invite(SEED)
    records = [family.genesis, lost, kept, invite, desk.redemption(invite, SEED, family["nas"])]
    data = [record.value.data for record in records]
    for head, is_followed in ((kept, True), (lost, False)):
        token = token_of(family, invite, head)
        if is_followed:
            assert open_bundle_untrusted(token, family["nas"].node, data)
        else:
            with pytest.raises(StaleError):
                open_bundle_untrusted(token, family["nas"].node, data)


def test_a_device_that_waits_for_an_admin_lets_nobody_in(family: Family) -> None:
    desk = family["desk"]
    invite = desk.invite(SEED, uses=2)
    authority = family.authority(invite, desk.redemption(invite, SEED, family["phone"]))
    assert authority.is_member(family["phone"].node)
    with pytest.raises(Refusal, match="another device of the clan"):
        redeem(authority, family["phone"].node, request_of(family, invite), NOW_UNIX_S)
    assert redeem(authority, desk.node, request_of(family, invite), NOW_UNIX_S) is not None
