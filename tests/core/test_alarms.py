"""Alarms: each cause gives its own line with a remedy, only as long as it holds, and the same line each time."""

from dataclasses import replace

import pytest

from clanmesh_protocol.keys import NodeId, node_text, signing_public
from clanmesh_protocol.records import (
    Acknowledgement,
    AdminAdd,
    AdminRemove,
    Approval,
    Credential,
    Equivocation,
    Record,
    RecoveryReplace,
    Revocation,
    Secret,
    Setting,
    Thresholds,
    Wrap,
)
from clanmesh_protocol.signing import Verified
from clanmeshd.core.alarms import DAY_S, EACH_KIND_MAX, Alarm, Outlook, alarms
from clanmeshd.core.authority import fold
from clanmeshd.core.effects import Instant
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.limits import CLONE_FADES_S
from clanmeshd.core.phrases import called
from tests.core.authors import NOW_UNIX_S, Author, Family, fresh_seed

SEQ_NOW = NOW_UNIX_S * 1000 << 16


def at(seconds: float) -> int:
    """The seq of a record that is written so long after NOW."""
    return SEQ_NOW + (int(seconds * 1000) << 16)


def outlook(
    family: Family,
    own: str,
    *records: Verified[Record],
    later_s: float = 60.0,
    clones: dict[NodeId, float] | None = None,
) -> Outlook:
    """How the clan looks from a device some time after NOW."""
    ledger = family.ledger(*records)
    now = Instant(later_s, NOW_UNIX_S + later_s)
    return Outlook(family[own].node, ledger, fold(ledger), clones or {}, now)


def found(view: Outlook) -> dict[str, Alarm]:
    """The alarms by their kind; each has a remedy, one line, and comes twice alike."""
    standing = alarms(view)
    assert alarms(replace(view, now=Instant(view.now.monotonic_s + 7, view.now.unix_s + 7))) == standing
    for alarm in standing:
        assert alarm.remedy
        assert "\n" not in alarm.text + alarm.remedy
    assert len({alarm.key for alarm in standing}) == len(standing)
    return {alarm.kind: alarm for alarm in standing}


def vouched(family: Family, *names: str, by: str = "desk") -> list[Verified[Record]]:
    """An admin's word for some devices, and its devices' word that it follows the genesis."""
    return [family[by].credential(family[name]) for name in names] + [acknowledged(family, by)]


def acknowledged(family: Family, by: str, after_s: float = 0.0) -> Verified[Record]:
    """An admin's device follows the genesis."""
    return family[by].write(Acknowledgement(0, family.genesis.value.id), seq=at(after_s))


@pytest.fixture
def family() -> Family:
    return Family(("desk", "nas"), ("phone", "lamp"), recovery=True)


def test_a_clan_that_is_well_gives_none(family: Family) -> None:
    view = outlook(family, "phone", *vouched(family, "desk", "nas", "phone"))
    assert alarms(view) == ()
    nothing = Ledger(family.clan)
    assert alarms(Outlook(view.own, nothing, fold(nothing), {}, view.now)) == ()


def test_a_removed_device_is_told(family: Family) -> None:
    records = vouched(family, "desk", "nas", "phone")
    out = family["desk"].revocation(family["phone"])
    alarm = found(outlook(family, "phone", *records, out))["expelled"]
    assert (alarm.severity, alarm.subject) == ("problem", node_text(family["phone"].node))
    assert "removed" in alarm.text
    assert found(outlook(family, "lamp", *records))["expelled"].text.startswith("no admin vouches")
    assert "expelled" not in found(outlook(family, "desk", *records, out))


def test_silence_of_all_admins_is_told_after_two_days(family: Family) -> None:
    records = vouched(family, "desk", "nas", "phone")
    assert found(outlook(family, "phone", *records, later_s=1.9 * DAY_S)) == {}
    alarm = found(outlook(family, "phone", *records, later_s=3.1 * DAY_S))["stale-authority"]
    assert (alarm.severity, "3 days" in alarm.text) == ("problem", True)
    fresh = acknowledged(family, "nas", 2 * DAY_S)
    assert found(outlook(family, "phone", *records, fresh, later_s=3.1 * DAY_S)) == {}


def test_a_device_that_runs_twice_is_told_for_an_hour(family: Family) -> None:
    records = vouched(family, "desk", "nas", "phone")
    clones = {family["phone"].node: 50.0, family["lamp"].node: 50.0}
    alarm = found(outlook(family, "desk", *records, clones=clones))["clone"]
    assert alarm.subject == node_text(family["phone"].node)
    assert found(outlook(family, "desk", *records, clones=clones, later_s=50 + CLONE_FADES_S)) == {}
    own = found(outlook(family, "phone", *records, clones=clones))["clone"]
    assert own.text.startswith("this device")


def test_a_proof_of_equivocation_is_a_problem_for_a_day(family: Family) -> None:
    records = vouched(family, "desk", "nas", "phone")
    twins = [family["phone"].write(family["phone"].node_content([], port), seq=at(0)) for port in (1, 2)]
    lower, higher = sorted((twin.value for twin in twins), key=lambda each: each.id)
    proof = family["nas"].write(Equivocation(lower.data, higher.data), seq=at(0))
    alarm = found(outlook(family, "desk", *records, proof))["equivocation"]
    assert (alarm.severity, "clanctl remove phone" in alarm.remedy) == ("problem", True)
    fresh = acknowledged(family, "nas", 2 * DAY_S)
    later = found(outlook(family, "desk", *records, proof, fresh, later_s=2 * DAY_S))
    assert later["equivocation"].severity == "notice"
    out = family["desk"].revocation(family["phone"])
    assert "equivocation" not in found(outlook(family, "desk", *records, proof, out))


def test_a_proposal_asks_the_one_who_can_approve(family: Family) -> None:
    records = vouched(family, "desk", "nas", "phone")
    proposal = family["desk"].operation(AdminAdd(family["phone"].node, 1), family.authority())
    asked = found(outlook(family, "nas", *records, proposal))["approval"]
    assert asked.text.startswith("desk proposes to make phone an admin")
    assert asked.remedy.endswith(f"`clanctl admin approve {proposal.value.id.hex()[:10]}`")
    assert set(found(outlook(family, "desk", *records, proposal))) == {"proposal"}
    assert "1 of 2" in found(outlook(family, "phone", *records, proposal))["proposal"].text
    done = family["nas"].approval(proposal)
    assert found(outlook(family, "nas", *records, proposal, done)) == {}


def test_a_decision_that_lost_is_told_unless_it_was_made_again() -> None:
    family = Family(("desk",), ("phone", "lamp"), recovery=True)
    records = vouched(family, "desk", "phone", "lamp")
    mine = family["desk"].write(
        AdminAdd(family["phone"].node, 1), slot="00000001", prev=family.genesis.value.id, seq=at(1)
    )
    stronger = family.recovery.write(
        AdminAdd(family["lamp"].node, 1), slot="00000001", prev=family.genesis.value.id, seq=at(2)
    )
    view = outlook(family, "phone", *records, mine, stronger)
    alarm = found(view)["lost-operation"]
    assert (alarm.severity, alarm.subject) == ("notice", mine.value.id.hex())
    assert "make phone an admin" in alarm.text
    again = family.recovery.write(
        AdminAdd(family["phone"].node, 1), slot="00000002", prev=stronger.value.id, seq=at(3)
    )
    assert "lost-operation" not in found(outlook(family, "phone", *records, mine, stronger, again))


def test_rivals_for_an_invite_are_told(family: Family) -> None:
    records = vouched(family, "desk", "nas")
    seed = fresh_seed()
    invite = family["desk"].invite(seed)
    rivals = [family["desk"].redemption(invite, seed, family[name]) for name in ("phone", "lamp")]
    admin = found(outlook(family, "nas", *records, invite, *rivals))["contested-invite"]
    assert (admin.severity, admin.subject) == ("problem", invite.value.id.hex())
    short = invite.value.id.hex()[:10]
    choose = f"`clanctl invite list`, then `clanctl invite confirm {short} DEVICE`"
    revoke = f"`clanctl invite revoke {short}`"
    assert admin.remedy == f"on an admin's device: {choose}; if none of them is yours, {revoke}"
    waiting = found(outlook(family, "phone", *records, invite, *rivals))
    assert "choose" in waiting["expelled"].text
    assert "clanctl leave" in waiting["expelled"].remedy, "it hears nothing of a choice that fell on another"
    chosen = family["desk"].credential(family["phone"], redemption=rivals[0].value.id)
    one_is_in = found(outlook(family, "nas", *records, invite, *rivals, chosen))["contested-invite"]
    either = f"if phone may stay, {revoke}; else `clanctl remove` it, {choose}"
    assert one_is_in.remedy == f"on an admin's device: {either}"
    withdrawn = family["desk"].write(Revocation(NodeId(signing_public(seed)), "all its uses are given"))
    decided = [*records, invite, *rivals, chosen, withdrawn]
    assert found(outlook(family, "nas", *decided)) == {}
    assert "vouches" in found(outlook(family, "lamp", *decided))["expelled"].text


def test_two_that_two_admins_let_in_by_one_use_are_told(family: Family) -> None:
    """Each on its side of a broken network: both are members for good, and one of them had the other's token."""
    desk, nas = family["desk"], family["nas"]
    seed = fresh_seed()
    invite = desk.invite(seed)
    records = [*vouched(family, "desk", "nas"), invite]
    for admin, name in ((desk, "phone"), (nas, "lamp")):
        came = admin.redemption(invite, seed, family[name])
        content = Credential(family[name].node, name, (), 0, came.value.id, invite=invite.value.id)
        records += [came, admin.write(content)]
        first = found(outlook(family, "desk", *records))
    assert set(found(outlook(family, "desk", *records[:-2]))) == set()
    assert first["contested-invite"].text.startswith("2 devices came by the invite")
    short = invite.value.id.hex()[:10]
    either = f"if lamp and phone may stay, `clanctl invite revoke {short}`; else `clanctl remove` the wrong one"
    assert first["contested-invite"].remedy == f"on an admin's device: {either}"
    assert found(outlook(family, "nas", *records, desk.revocation(family["lamp"]))) == {}
    withdrawn = desk.write(Revocation(NodeId(signing_public(seed)), "both may stay"))
    assert found(outlook(family, "nas", *records, withdrawn)) == {}


@pytest.mark.parametrize(
    ("later_days", "kind"), [(1, None), (22, None), (23.2, "expiry"), (29.9, "expiry"), (31, "expired")]
)
def test_a_membership_that_nobody_renews(family: Family, later_days: float, kind: str | None) -> None:
    later_s = later_days * DAY_S
    expires = NOW_UNIX_S + 30 * int(DAY_S)
    lent = family["desk"].write(Credential(family["phone"].node, "phone", (), expires, None), seq=at(0))
    fresh = acknowledged(family, "nas", later_s)
    records = [*vouched(family, "desk", "nas", "lamp"), lent, fresh]
    if kind is None:
        assert found(outlook(family, "desk", *records, later_s=later_s)) == {}
        return
    severities = {}
    for own in ("desk", "phone", "lamp"):
        alarm = found(outlook(family, own, *records, later_s=later_s))[kind]
        assert "clanctl renew phone" in alarm.remedy
        severities[own] = alarm.severity
    assert severities == {"desk": "problem", "phone": "problem", "lamp": "notice"}


def test_a_secret_that_a_removed_device_could_read(family: Family) -> None:
    records = vouched(family, "desk", "nas", "phone")
    secret = sealed(family["desk"], 1, family["phone"], family["nas"])
    assert found(outlook(family, "desk", *records, secret)) == {}
    out = family["desk"].revocation(family["phone"])
    alarm = found(outlook(family, "desk", *records, secret, out))["exposed-secret"]
    assert (alarm.severity, alarm.subject) == ("problem", "wifi")
    fresh = sealed(family["nas"], 3, family["nas"])
    assert found(outlook(family, "desk", *records, secret, out, fresh)) == {}


def test_who_was_removed_is_named_as_it_was_called(family: Family) -> None:
    records = vouched(family, "desk", "nas", "phone", "lamp")
    secret = sealed(family["desk"], 1, family["phone"], family["nas"], family["lamp"])
    out = [family["desk"].revocation(family["phone"])]
    alarm = found(outlook(family, "desk", *records, secret, *out))["exposed-secret"]
    assert alarm.text.startswith("phone (removed) knows the secret wifi")
    out.append(family["desk"].revocation(family["lamp"]))
    alarm = found(outlook(family, "desk", *records, secret, *out))["exposed-secret"]
    assert alarm.text.startswith("lamp (removed) and phone (removed) know the secret wifi")


def test_a_key_that_another_one_took_the_place_of_is_called_so(family: Family) -> None:
    records = vouched(family, "desk", "nas", "phone")
    content = Credential(family["lamp"].node, "phone", (), 0, None, succeeds=family["phone"].node)
    view = outlook(family, "desk", *records, family["desk"].write(content))
    assert called(view.authority, family["phone"].node) == "phone (its former key)"
    assert called(view.authority, family["lamp"].node) == "phone"


def test_many_who_were_removed_are_counted() -> None:
    names = [f"n{number}" for number in range(5)]
    family = Family(("desk",), tuple(names), recovery=True)
    records = [*vouched(family, "desk", *names), *(family["desk"].revocation(family[name]) for name in names)]
    secret = sealed(family["desk"], 1, *(family[name] for name in names))
    alarm = found(outlook(family, "desk", *records, secret))["exposed-secret"]
    assert "(removed) and 2 more know the secret wifi" in alarm.text


def test_a_value_of_dice_has_an_hour_to_be_replaced(family: Family) -> None:
    records = vouched(family, "desk", "nas", "phone")
    secret = sealed(family["phone"], 1, family["nas"], random_bytes=32)
    out = family["desk"].write(Revocation(family["phone"].node, "lost"), seq=at(0))
    assert found(outlook(family, "desk", *records, secret, out, later_s=3500)) == {}
    assert "exposed-secret" in found(outlook(family, "desk", *records, secret, out, later_s=3700))


def sealed(author: Author, epoch: int, *readers: Author, random_bytes: int = 0) -> Verified[Record]:
    """A value for some devices; what is in it matters to nobody here."""
    wraps = tuple(Wrap(reader.node, bytes(80)) for reader in sorted(readers, key=lambda each: each.node))
    content = Secret(
        epoch=epoch,
        predecessor=None,
        owner="root",
        group="root",
        mode=0o400,
        targets=("all",),
        wraps=wraps,
        nonce=bytes(24),
        ciphertext=bytes(40),
        random_bytes=random_bytes,
    )
    return author.write(content, slot="wifi")


def test_without_a_majority_that_speaks(family: Family) -> None:
    records = [*vouched(family, "desk", "nas", "phone"), acknowledged(family, "nas")]
    late = acknowledged(family, "desk", 31 * DAY_S)
    alarm = found(outlook(family, "phone", *records, late, later_s=31.5 * DAY_S))["no-majority"]
    assert (alarm.severity, alarm.text.startswith("nas said nothing")) == ("notice", True)
    assert "`clanctl admin recover --add NODE --remove nas`" in alarm.remedy


def test_without_a_recovery_key_admins_are_told() -> None:
    family = Family(("desk",), ("phone",))
    records = vouched(family, "desk", "phone")
    assert set(found(outlook(family, "desk", *records))) == {"recovery-key"}
    assert found(outlook(family, "phone", *records)) == {}
    operation = family["desk"].operation(RecoveryReplace(bytes(family.recovery.node)), family.authority())
    assert found(outlook(family, "desk", *records, operation)) == {}


def test_a_settled_history_that_is_left_is_told(family: Family) -> None:
    view = outlook(family, "phone", *vouched(family, "desk", "nas", "phone"))
    elsewhere = replace(view.authority, final=type(view.authority.head)(bytes(31) + b"1"))
    assert set(found(replace(view, authority=elsewhere))) == {"fork"}


def test_an_admin_that_follows_another_history_is_told_when_it_stays_there() -> None:
    family = Family(("desk", "attic", "nas"), ("lamp", "tv"), recovery=True)
    records = vouched(family, "desk", "attic", "nas", "lamp", "tv")
    here = family["desk"].write(
        AdminAdd(family["lamp"].node, 1), slot="00000001", prev=family.genesis.value.id, seq=at(1)
    )
    there = family["nas"].write(
        Setting("colour", "green"), slot="00000001", prev=family.genesis.value.id, seq=at(2)
    )
    records += [here, family["attic"].write(Approval(here.value.id)), there]
    records.append(family["nas"].write(Acknowledgement(1, there.value.id), seq=at(3)))
    assert "split" not in found(outlook(family, "desk", *records))
    alarm = found(outlook(family, "desk", *records, later_s=400.0))["split"]
    assert (alarm.severity, alarm.subject) == ("problem", node_text(family["nas"].node))
    assert "stolen: `clanctl remove nas`" in alarm.remedy
    for own, where in (("nas", "on another admin's device"), ("tv", "on an admin's device")):
        split = found(outlook(family, own, *records, later_s=400.0))["split"]
        assert f"stolen: {where} `clanctl remove nas`" in split.remedy


def test_problems_stand_first_and_each_kind_is_bounded(family: Family) -> None:
    records = vouched(family, "desk", "nas")
    authority = family.authority()
    proposals = [
        family["desk"].operation(Thresholds(number, 1), authority) for number in range(1, EACH_KIND_MAX + 5)
    ]
    proposals.append(family["desk"].operation(AdminRemove(family["nas"].node), authority))
    view = outlook(family, "nas", *records, *proposals, later_s=3 * DAY_S)
    severities = [alarm.severity for alarm in alarms(view)]
    assert severities == ["problem"] + ["notice"] * EACH_KIND_MAX
