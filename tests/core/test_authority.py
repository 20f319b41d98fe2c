"""Who may say what: the chain, the roster, and that both are functions of the record set alone."""

import pytest

from clanmesh_protocol.errors import UnauthorizedError
from clanmesh_protocol.keys import ClanId
from clanmesh_protocol.records import (
    AuthorityOp,
    Checkpoint,
    Head,
    Invite,
    Kind,
    Record,
    Revocation,
    SignerAdd,
    SignerRemove,
)
from clanmesh_protocol.signing import Verified
from clanmeshd.core.authority import fold
from clanmeshd.core.chain import CHECKPOINTS_MAX
from tests.core.authors import NOW_UNIX_S, SIGNER, Author, Family, ledger_of

SEED = bytes(range(32))
OTHER_SEED = bytes(range(1, 33))
LINE = "ssh-ed25519 AAAAsecond second@desk"


def head(author: Author, slot: str = "main") -> Verified[Record]:
    return author.write(Head(None, bytes(20), b""), slot=slot)


# --- the chain -----------------------------------------------------------------------------------------


def test_genesis_names_the_clan_its_admins_and_signers() -> None:
    family = Family(["desk", "attic"])
    authority = family.authority()
    assert authority.clan_name == "family"
    assert authority.admins == (family["desk"].node, family["attic"].node)
    assert authority.signers == (SIGNER,)
    assert authority.head == family.genesis.value.id
    assert authority.next_slot == "00000001"


def test_operations_take_effect_in_the_order_of_the_chain() -> None:
    family = Family()
    desk = family["desk"]
    records: list[Verified[Record]] = []
    operations: list[AuthorityOp] = [
        SignerAdd(LINE),
        SignerAdd(LINE + " again"),
        SignerRemove(SIGNER),
        Checkpoint("main", bytes(20)),
    ]
    for operation in operations:
        records.append(desk.operation(operation, family.authority(*records)))
    authority = family.authority(*reversed(records))
    assert authority.signers == (LINE,)
    assert authority.checkpoints == (("main", bytes(20)),)
    assert authority.head == records[-1].value.id
    assert authority.number == 4


def test_a_signer_is_removed_whatever_the_comment_of_the_line() -> None:
    family = Family()
    removal = family["desk"].operation(SignerRemove("ssh-ed25519 AAAAfounder somebody@else"), family.authority())
    assert family.authority(removal).signers == ()


def test_checkpoints_are_bounded() -> None:
    family = Family()
    records: list[Verified[Record]] = []
    for number in range(CHECKPOINTS_MAX + 2):
        operation = Checkpoint("main", bytes([number]) * 20)
        records.append(family["desk"].operation(operation, family.authority(*records)))
    checkpoints = family.authority(*records).checkpoints
    assert [commit[0] for _, commit in checkpoints] == list(range(2, CHECKPOINTS_MAX + 2))


def test_an_operation_by_a_stranger_or_out_of_its_place_counts_for_nothing() -> None:
    family = Family(["desk"], ["nas"])
    desk, before = family["desk"], family.authority()
    stranger = family["nas"].operation(SignerAdd(LINE), before)
    wrong_slot = desk.write(SignerAdd(LINE), slot="00000002", prev=before.head)
    no_parent = desk.write(SignerAdd(LINE), slot="00000001", prev=None)
    unknown_parent = desk.write(SignerAdd(LINE), slot="00000001", prev=stranger.value.id)
    assert family.authority(stranger, wrong_slot, no_parent, unknown_parent).chain == before.chain


@pytest.mark.parametrize(("weights", "winner"), [((1, 1), "desk"), ((1, 2), "attic")])
def test_of_two_branches_weight_wins_then_seniority(weights: tuple[int, ...], winner: str) -> None:
    for number in range(4):  # the ids come out differently: neither rule may look at them
        family = Family(["desk", "attic"], weights=weights)
        before = family.authority()
        both = {
            name: family[name].operation(Checkpoint(name, bytes([number]) * 20), before)
            for name in ("desk", "attic")
        }
        authority = family.authority(*both.values())
        assert authority.head == both[winner].value.id
        loser = {"desk": "attic", "attic": "desk"}[winner]
        assert [lost.operation for lost in authority.lost] == [both[loser].content]
        again = family[loser].operation(Checkpoint(loser, bytes([number]) * 20), authority)
        healed = fold(family.ledger(*both.values(), again))
        assert [ref for ref, _ in healed.checkpoints] == [winner, loser]


def test_of_two_operations_of_one_admin_the_lower_id_goes_on() -> None:
    family = Family()
    before = family.authority()
    both = [family["desk"].operation(SignerAdd(f"ssh-ed25519 {n}"), before) for n in range(2)]
    assert family.authority(*both).head == min(record.value.id for record in both)


def test_without_a_genesis_nobody_is_anything_and_nothing_is_dropped() -> None:
    family = Family(["desk"], ["nas"])
    ledger = ledger_of(family.clan, [family["desk"].credential(family["nas"])])
    authority = fold(ledger)
    assert not authority.members
    assert ledger.retain(authority.lets_stay) == []
    authority.may_author(family.genesis.value)
    with pytest.raises(UnauthorizedError):
        authority.may_author(head(family["nas"]).value)


# --- members -------------------------------------------------------------------------------------------


def test_admins_are_members_and_a_credential_names_them() -> None:
    family = Family(["desk"])
    node = family["desk"].node
    assert family.authority().members[node].name.startswith("admin-")
    member = family.authority(family["desk"].credential(family["desk"], tags=("admin",))).members[node]
    assert (member.name, member.tags, member.via) == ("desk", ("admin",), "admin")


def test_an_admins_credential_makes_a_member_and_a_members_does_not() -> None:
    family = Family(["desk"], ["nas", "phone"])
    vouched = family["desk"].credential(family["nas"], tags=("backup",))
    claimed = family["nas"].credential(family["phone"])
    authority = family.authority(vouched, claimed)
    assert authority.members[family["nas"].node].tags == ("backup",)
    assert not authority.is_member(family["phone"].node)
    with pytest.raises(UnauthorizedError):
        authority.may_author(claimed.value)


def test_the_most_senior_issuers_credential_counts() -> None:
    family = Family(["desk", "attic"], ["nas"])
    records = [family["attic"].credential(family["nas"], name="junior")]
    records.append(family["desk"].credential(family["nas"], name="senior"))
    records.append(family["attic"].credential(family["nas"], name="later"))
    assert family.authority(*records).members[family["nas"].node].name == "senior"


def test_a_revocation_wins_over_every_credential_and_cannot_be_withdrawn() -> None:
    family = Family(["desk", "attic"], ["nas"])
    desk, nas = family["desk"], family["nas"]
    records = [desk.credential(nas), family["attic"].revocation(nas), desk.credential(nas)]
    authority = family.authority(*records)
    assert not authority.is_member(nas.node)
    assert authority.revoked == {nas.node}
    with pytest.raises(UnauthorizedError):
        authority.may_author(nas.node_record().value)


def test_a_members_revocation_means_nothing() -> None:
    family = Family(["desk"], ["nas", "phone"])
    records = [family["desk"].credential(family[name]) for name in ("nas", "phone")]
    authority = family.authority(*records, family["nas"].revocation(family["phone"]))
    assert authority.is_member(family["phone"].node)


def test_admins_cannot_throw_each_other_out_by_a_race() -> None:
    family = Family(["desk", "attic"])
    desk, attic = family["desk"], family["attic"]
    authority = family.authority(desk.revocation(attic), attic.revocation(desk))
    assert authority.is_member(desk.node)
    assert authority.is_member(attic.node)
    assert not authority.revoked


def test_equal_names_are_told_apart_the_same_way_everywhere() -> None:
    family = Family(["desk"], ["one", "two", "three", "four"])
    desk = family["desk"]
    first = desk.credential(family["one"], name="nas")
    second = desk.credential(family["two"], name="nas")
    own = desk.credential(family["three"], name="nas-2")
    long = [desk.credential(family[name], name="n" * 32) for name in ("four", "desk")]
    for records in ([first, second, own, *long], [*long, own, second, first]):
        members = family.authority(*records).members
        assert members[family["one"].node].name == "nas"
        assert members[family["two"].node].name == "nas-3", "nas-2 is somebody's own name"
        assert members[family["three"].node].name == "nas-2"
        assert members[family["desk"].node].name == "n" * 30 + "-2"


# --- redemptions ---------------------------------------------------------------------------------------


def test_a_redeemed_invite_makes_a_member_with_its_tags() -> None:
    family = Family(["desk"], ["nas"])
    invite = family["desk"].invite(SEED, tags=("backup",))
    redemption = family["desk"].redemption(invite, SEED, family["nas"])
    authority = family.authority(invite, redemption)
    member = authority.members[family["nas"].node]
    assert (member.name, member.tags, member.via, member.confirmed) == ("nas", ("backup",), "redemption", False)
    assert member.redemption == redemption.value.id
    assert authority.invites[invite.value.id].uses_left == 0


def test_an_invites_name_goes_before_the_devices_wish() -> None:
    family = Family(["desk"], ["nas"])
    invite = family["desk"].invite(SEED, name="cellar")
    authority = family.authority(invite, family["desk"].redemption(invite, SEED, family["nas"]))
    assert authority.members[family["nas"].node].name == "cellar"


def test_members_admit_others_once_an_admin_has_vouched_for_them() -> None:
    family = Family(["desk"], ["a", "b", "c"])
    invite = family["desk"].invite(SEED, uses=3)
    chain = [
        family["desk"].redemption(invite, SEED, family["a"]),
        family["a"].redemption(invite, SEED, family["b"]),
        family["b"].redemption(invite, SEED, family["c"]),
    ]
    authority = family.authority(invite, *chain)
    assert len(authority.members) == 2, "else one token lets in any number of keys that let one another in"
    assert family["b"].node not in authority.roster.known
    words = [family["desk"].credential(family[name]) for name in "ab"]
    assert len(family.authority(invite, *chain, *words).members) == 4
    assert len(family.authority(invite, *chain[1:]).members) == 1, "whom a stranger admits is a stranger"


@pytest.mark.parametrize(
    "fault", ["proof", "late", "withdrawn", "not an admin's", "another's key", "another clan's", "another name"]
)
def test_a_redemption_that_does_not_hold_makes_nobody_a_member(fault: str) -> None:
    family = Family(["desk"], ["nas", "phone"])
    desk, nas, phone = family["desk"], family["nas"], family["phone"]
    vouched = desk.credential(phone)
    invite = (phone if fault == "not an admin's" else desk).invite(SEED)
    good = desk.redemption(invite, SEED, nas, at=NOW_UNIX_S + (3601 if fault == "late" else 0))
    changes: dict[str, dict[str, object]] = {
        "proof": {"node_proof": bytes(64)},
        "another's key": {"invite_key": phone.node},
        "another name": {"name": "desk"},
    }
    records = [vouched, invite, good]
    if fault in changes:
        values = {name: getattr(good.content, name) for name in type(good.content).__slots__} | changes[fault]
        records = [vouched, invite, desk.write(type(good.content)(**values))]  # type: ignore[arg-type]
    if fault == "withdrawn":
        records.append(desk.write(None, kind=Kind.INVITE, slot=invite.value.slot))
    if fault == "another clan's":
        desk.clan = ClanId(bytes(range(16)))
        elsewhere = desk.redemption(invite, SEED, nas).content
        desk.clan = family.clan
        records = [vouched, invite, desk.write(elsewhere)]  # type: ignore[arg-type]
    control = family.authority(vouched, desk.invite(OTHER_SEED), invite, good)
    assert control.is_member(nas.node) == (fault not in {"late", "not an admin's"}), "the case itself must be good"
    authority = family.authority(*records)
    assert not authority.is_member(nas.node)
    assert nas.node not in authority.roster.known


def test_with_more_redemptions_than_uses_the_unconfirmed_wait_for_an_admin() -> None:
    family = Family(["desk"], ["owner", "thief", "nas"])
    desk = family["desk"]
    records = [desk.credential(family["nas"]), desk.invite(SEED)]
    records.append(mine := desk.redemption(records[1], SEED, family["owner"]))
    records.append(family["nas"].redemption(records[1], SEED, family["thief"]))
    authority = family.authority(*records)
    both = {family["owner"].node, family["thief"].node}
    assert authority.suspended == both
    assert not both & set(authority.members)
    records.append(desk.credential(family["owner"], redemption=mine.value.id))
    authority = family.authority(*records)
    assert authority.is_member(family["owner"].node)
    assert authority.suspended == {family["thief"].node}


def test_two_members_that_admit_one_device_take_one_use() -> None:
    family = Family(["desk"], ["nas", "phone"])
    desk = family["desk"]
    records = [desk.credential(family["nas"]), desk.invite(SEED)]
    records += [family[name].redemption(records[1], SEED, family["phone"]) for name in ("desk", "nas")]
    assert family.authority(*records).is_member(family["phone"].node)


def test_removing_a_member_takes_back_whom_it_let_in_but_not_whom_an_admin_confirmed() -> None:
    family = Family(["desk"], ["nas", "sure", "unsure"])
    desk, nas = family["desk"], family["nas"]
    records = [desk.credential(nas), desk.invite(SEED, uses=2)]
    records.append(sure := nas.redemption(records[1], SEED, family["sure"]))
    records.append(nas.redemption(records[1], SEED, family["unsure"]))
    came_by = records[1].value.id
    records.append(desk.credential(family["sure"], redemption=sure.value.id, invite=came_by))
    records.append(desk.revocation(nas))
    authority = family.authority(*records)
    assert authority.is_member(family["sure"].node)
    assert not authority.is_member(family["unsure"].node)
    assert authority.invites[records[1].value.id].redeemed_by == {family["sure"].node}, (
        "a confirmed use stays used"
    )


def test_who_is_revoked_does_not_come_back_by_an_invite() -> None:
    family = Family(["desk"], ["nas"])
    desk, nas = family["desk"], family["nas"]
    invite = desk.invite(SEED)
    authority = family.authority(desk.revocation(nas), invite, desk.redemption(invite, SEED, nas))
    assert not authority.is_member(nas.node)
    assert authority.suspended == frozenset()


# --- what may be written, and what stays ---------------------------------------------------------------


@pytest.mark.parametrize("kind", [Kind.AUTHORITY, Kind.CREDENTIAL, Kind.REVOCATION, Kind.INVITE])
def test_admins_kinds_are_for_admins(kind: Kind) -> None:
    family = Family(["desk"], ["nas", "phone"])
    desk, nas = family["desk"], family["nas"]
    authority = family.authority(desk.credential(nas))

    def written(author: Author) -> Record:
        match kind:
            case Kind.AUTHORITY:
                return author.operation(SignerAdd(LINE), authority).value
            case Kind.CREDENTIAL:
                return author.credential(nas).value
            case Kind.REVOCATION:
                return author.revocation(family["phone"]).value
        return author.write(Invite(bytes(32), None, (), 1, 0)).value

    authority.may_author(written(desk))
    with pytest.raises(UnauthorizedError):
        authority.may_author(written(nas))


def test_members_write_the_rest_unknown_kinds_too_and_strangers_nothing() -> None:
    family = Family(["desk"], ["nas", "stranger"])
    authority = family.authority(family["desk"].credential(family["nas"]))
    for author, may in ((family["nas"], True), (family["stranger"], False)):
        for record in (author.node_record(), head(author), author.write(None, kind=77, slot="x")):
            assert authority.lets_stay(record.value) == may


def test_a_removed_device_sets_no_secret_any_more() -> None:
    family = Family(["desk"], ["nas"])
    desk, nas = family["desk"], family["nas"]
    before = nas.write(None, kind=Kind.SECRET, slot="before", seq=desk.seq + 1)
    out = desk.write(Revocation(nas.node, "lost"), seq=desk.seq + 2)
    after = nas.write(None, kind=Kind.SECRET, slot="after", seq=out.value.seq + 1)
    authority = fold(family.ledger(desk.credential(nas), out))
    assert authority.lets_stay(before.value)
    assert not authority.lets_stay(after.value)


def test_a_removed_devices_claims_stay_and_all_else_of_it_goes() -> None:
    family = Family(["desk"], ["nas"])
    desk, nas = family["desk"], family["nas"]
    claim = head(nas)
    ledger = family.ledger(desk.credential(nas), nas.node_record(), claim)
    ledger.apply(desk.revocation(nas))
    dropped = ledger.retain(fold(ledger).lets_stay)
    assert [record.kind for record in dropped] == [Kind.NODE]
    assert ledger.known(claim.value.id)
