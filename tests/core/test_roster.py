"""Who is a member when several admins have their say: what replaces what, who succeeds whom, and what lapses."""

import pytest

from clanmesh_protocol.keys import NodeId, signing_public, verify_detached_untrusted
from clanmesh_protocol.limits import FORERUNNERS_MAX
from clanmesh_protocol.records import AdminRemove, Credential, Record, Revocation
from clanmesh_protocol.signing import Verified
from clanmeshd.core import roster
from clanmeshd.core.authority import Authority, fold
from clanmeshd.core.credentials import amended, lapsing
from tests.core.authors import NOW_UNIX_S, Family, ledger_of

SEED = bytes(range(32))
INVITE_KEY = NodeId(signing_public(SEED))


def of(family: Family, *records: Verified[Record]) -> Authority:
    """The authority that both orders of arrival give."""
    authority = family.authority(*records)
    assert authority == fold(ledger_of(family.clan, [*reversed(records), family.genesis]))
    return authority


def without(family: Family, admin: str, *approvers: str) -> list[Verified[Record]]:
    """The removal of an admin by the others."""
    first, *others = approvers
    removal = family[first].operation(AdminRemove(family[admin].node), family.authority())
    return [removal, *(family[other].approval(removal) for other in others)]


def test_whoever_leaves_by_its_own_word_is_out_but_an_admin_is_not() -> None:
    family = Family(["desk"], ["nas"])
    desk, nas = family["desk"], family["nas"]
    authority = of(family, desk.credential(nas), nas.revocation(nas), desk.revocation(desk))
    assert authority.revoked == {nas.node}
    assert authority.is_member(desk.node)


def test_nobody_leaves_by_anothers_word() -> None:
    family = Family(["desk"], ["nas", "phone"])
    desk, nas, phone = (family[name] for name in ("desk", "nas", "phone"))
    assert of(family, desk.credential(nas), desk.credential(phone), phone.revocation(nas)).is_member(nas.node)


def test_any_admin_withdraws_anothers_invite_and_confirmed_uses_stay() -> None:
    family = Family(["desk", "attic"], ["nas", "phone"])
    desk, attic, nas, phone = (family[name] for name in ("desk", "attic", "nas", "phone"))
    invite = desk.invite(SEED, uses=2)
    used = desk.redemption(invite, SEED, nas)
    records = [invite, used, desk.credential(nas, redemption=used.value.id)]
    late = attic.redemption(invite, SEED, phone)
    assert of(family, *records, late).is_member(phone.node)
    withdrawn = attic.write(Revocation(INVITE_KEY, "withdrawn"))
    authority = of(family, *records, late, withdrawn)
    assert not authority.invites
    assert authority.is_member(nas.node)
    assert not authority.is_member(phone.node)


def test_a_member_withdraws_no_invite() -> None:
    family = Family(["desk"], ["nas"])
    desk, nas = family["desk"], family["nas"]
    authority = of(family, desk.credential(nas), desk.invite(SEED), nas.write(Revocation(INVITE_KEY, "mine")))
    assert len(authority.invites) == 1


def test_what_a_credential_replaces_gives_way_to_it_and_else_seniority_decides() -> None:
    family = Family(["desk", "attic"], ["nas"])
    desk, attic, nas = (family[name] for name in ("desk", "attic", "nas"))
    first = desk.credential(nas, name="nas")
    beside = attic.credential(nas, name="box")
    assert of(family, first, beside).members[nas.node].name == "nas"
    ledger = family.ledger(first)
    content = amended(ledger, fold(ledger), attic.node, nas.node, name="box", tags=["tv"])
    assert content.replaces == (first.value.id,)
    second = attic.write(content)
    assert of(family, first, second).members[nas.node].name == "box"
    third = desk.write(amended(ledger, fold(ledger), desk.node, nas.node, name="vault"))
    assert of(family, third, second).members[nas.node].name == "vault"  # attic had not seen this one


def test_a_rename_keeps_what_closed_an_invite() -> None:
    family = Family(["desk"], ["nas"])
    desk, nas = family["desk"], family["nas"]
    invite = desk.invite(SEED)
    used = desk.redemption(invite, SEED, nas)
    ledger = family.ledger(invite, used, desk.credential(nas, redemption=used.value.id))
    assert amended(ledger, fold(ledger), desk.node, nas.node, name="vault").redemption == used.value.id


def test_a_successor_has_the_name_and_the_former_key_is_out() -> None:
    family = Family(["desk"], ["old", "new"])
    desk, old, new = (family[name] for name in ("desk", "old", "new"))
    succession = desk.write(Credential(new.node, "nas", (), 0, None, succeeds=old.node))
    authority = of(family, desk.credential(old, name="nas"), succession)
    assert authority.revoked == {old.node}
    assert authority.members[new.node].name == "nas"
    ledger = family.ledger(desk.credential(old, name="nas"), succession)
    renamed = desk.write(amended(ledger, fold(ledger), desk.node, new.node, name="vault"))
    assert of(family, desk.credential(old, name="nas"), renamed).revoked == {old.node}


def test_nobody_succeeds_an_admin_by_a_credential() -> None:
    family = Family(["desk", "attic"], ["new"])
    desk, attic, new = (family[name] for name in ("desk", "attic", "new"))
    authority = of(family, desk.write(Credential(new.node, "attic", (), 0, None, succeeds=attic.node)))
    assert authority.is_admin(attic.node)
    assert authority.is_member(attic.node)


def test_what_a_removed_admin_vouched_for_and_put_out_lapses_unless_another_has_signed_it_too() -> None:
    family = Family(["desk", "attic", "loft"], ["nas", "phone", "lost"])
    desk, attic, loft = (family[name] for name in ("desk", "attic", "loft"))
    nas, phone, lost = (family[name] for name in ("nas", "phone", "lost"))
    said = [loft.credential(nas), loft.credential(phone), desk.credential(lost), loft.revocation(lost)]
    said.append(loft.invite(SEED))
    ledger = family.ledger(*said)
    lapse = lapsing(ledger, fold(ledger), loft.node)
    assert {credential.node for credential in lapse.credentials} == {nas.node, phone.node}
    assert [revocation.node for revocation in lapse.revocations] == [lost.node]
    assert len(lapse.invites) == 1
    removal = without(family, "loft", "desk", "attic")
    authority = of(family, *said, *removal)
    assert not authority.is_member(nas.node)
    assert authority.is_member(lost.node)
    again = [attic.write(credential) for credential in lapse.credentials if credential.node == nas.node]
    authority = of(family, *said, *again, *map(attic.write, lapse.revocations), *removal)
    assert authority.is_member(nas.node)
    assert not authority.is_member(phone.node)
    assert authority.revoked == {lost.node}


def test_what_was_said_later_than_a_time_can_be_left_out() -> None:
    family = Family(["desk", "attic"], ["nas", "phone"])
    attic = family["attic"]
    early = attic.write(Credential(family["nas"].node, "nas", (), 0, None), seq=(NOW_UNIX_S * 1000) << 16)
    late = attic.write(
        Credential(family["phone"].node, "phone", (), 0, None), seq=((NOW_UNIX_S + 60) * 1000) << 16
    )
    ledger = family.ledger(early, late)
    lapse = lapsing(ledger, fold(ledger), attic.node, NOW_UNIX_S + 30)
    assert [credential.name for credential in lapse.credentials] == ["nas"]


def test_the_proofs_of_a_redemption_are_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[bytes] = []

    def check(key: bytes, message: bytes, signature: bytes) -> None:
        checked.append(key)
        verify_detached_untrusted(key, message, signature)

    monkeypatch.setattr(roster, "verify_detached_untrusted", check)
    family = Family(["desk"], ["nas", "tv"])
    desk, nas, tv = family["desk"], family["nas"], family["tv"]
    invite = desk.invite(SEED, uses=2)
    good, bad = desk.redemption(invite, SEED, nas), desk.redemption(invite, SEED, tv)
    forged = desk.redemption(invite, bytes(32), tv)
    ledger = family.ledger(invite, good, bad)
    for entry in (good, bad):
        roster.prove(ledger, entry)
    assert len(checked) == 4, "before any fold"
    for _ in range(3):
        assert fold(ledger).members.keys() == {desk.node, nas.node, tv.node}
        roster.prove(ledger, good)
    assert len(checked) == 4
    assert fold(family.ledger(invite, good, bad)).is_member(tv.node), (
        "what comes from a disk is checked by the fold"
    )
    assert len(checked) == 8
    assert not fold(family.ledger(invite, forged)).is_member(tv.node)


def test_a_long_line_of_keys_costs_no_more_than_its_newest() -> None:
    family = Family(["desk"])
    desk, keys = family["desk"], [NodeId(number.to_bytes(32, "big")) for number in range(3 * FORERUNNERS_MAX)]
    words = [
        desk.write(Credential(key, f"n{number}", (), 0, None, succeeds=keys[number - 1] if number else None))
        for number, key in enumerate(keys)
    ]
    authority = of(family, *words)
    assert authority.members.keys() == {desk.node, keys[-1]}
    assert authority.members[keys[-1]].forerunners == frozenset(keys[-1 - FORERUNNERS_MAX : -1])
