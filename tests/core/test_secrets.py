"""Secrets: sealed to their recipients and to nobody else, and passed on to those who come later."""

import os
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings

from clanmesh_protocol.encoding import UINT64_MAX
from clanmesh_protocol.keys import DeviceKeys, NodeId, RecordId, exchange_public, make_device_keys
from clanmesh_protocol.limits import RECIPIENTS_MAX, SECRET_VALUE_BYTES_MAX, TAG_BYTES_MAX
from clanmesh_protocol.records import Secret, Wrap
from clanmesh_protocol.signing import read_untrusted
from clanmeshd.core.audience import Audience, recipients
from clanmeshd.core.effects import WantedSecret
from clanmeshd.core.roster import Member, Via
from clanmeshd.secrets.grants import missing_recipients, resealers, reseals
from clanmeshd.secrets.sealing import SealedError, open_secret, seal, seal_again
from tests.core.authors import NOW_UNIX_S, Family

FAMILY = Family(["desk"], ["nas", "phone"])
DESK, NAS, PHONE = (FAMILY[name] for name in ("desk", "nas", "phone"))
SMALL_ORDER = bytes(32)


def sealing_key(keys: DeviceKeys) -> bytes:
    return exchange_public(keys.sealing_private)


def sealed(value: bytes = b"hunter2", **changes: object) -> Secret:
    given: dict[str, object] = {
        "clan": FAMILY.clan,
        "author": DESK.node,
        "name": "db",
        "epoch": 3,
        "predecessor": RecordId(bytes(32)),
        "value": value,
        "owner": "root",
        "group": "root",
        "mode": 0o400,
        "audience": Audience(frozenset({"backup", "all"})),
        "recipients": {author.node: sealing_key(author.keys) for author in (NAS, DESK)},
        "entropy": os.urandom,
    }
    return seal(**(given | changes))  # type: ignore[arg-type]


def wanted(secret: Secret, name: str = "db", author: NodeId = DESK.node) -> WantedSecret:
    return WantedSecret(name, author, RecordId(bytes(32)), secret)


# --- sealing -------------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_recipients_open_what_was_sealed_and_others_do_not(value: bytes) -> None:
    item = wanted(sealed(value))
    assert open_secret(NAS.keys, FAMILY.clan, item) == value
    assert open_secret(DESK.keys, FAMILY.clan, item) == value
    with pytest.raises(SealedError, match="not sealed to this device"):
        open_secret(PHONE.keys, FAMILY.clan, item)


def test_a_sealed_value_travels_as_a_record() -> None:
    secret = sealed(os.urandom(SECRET_VALUE_BYTES_MAX))
    record = DESK.write(secret, slot="db")
    assert read_untrusted(record.value.data, FAMILY.clan).content == secret
    assert secret.targets == ("all", "backup")
    assert [wrap.node for wrap in secret.wraps] == sorted([NAS.node, DESK.node])


def test_two_sealings_of_one_value_have_nothing_in_common() -> None:
    one, other = sealed(), sealed()
    assert one.ciphertext != other.ciphertext
    assert one.nonce != other.nonce
    assert {wrap.sealed for wrap in one.wraps}.isdisjoint(wrap.sealed for wrap in other.wraps)


def test_the_value_is_not_in_the_record() -> None:
    value = b"correct horse battery staple"
    assert value not in DESK.write(sealed(value), slot="db").value.data
    assert value.decode() not in repr(sealed(value))


FAULTS: dict[str, Callable[[WantedSecret], WantedSecret]] = {
    "another name": lambda item: replace(item, name="web"),
    "another author": lambda item: replace(item, author=PHONE.node),
    "another epoch": lambda item: replace(item, secret=replace(item.secret, epoch=4)),
    "ciphertext": lambda item: replace(
        item, secret=replace(item.secret, ciphertext=b"\0" + item.secret.ciphertext[1:])
    ),
    "cut ciphertext": lambda item: replace(item, secret=replace(item.secret, ciphertext=b"")),
    "nonce": lambda item: replace(item, secret=replace(item.secret, nonce=bytes(24))),
    "wrap": lambda item: replace(item, secret=replace(item.secret, wraps=(Wrap(NAS.node, bytes(80)),))),
    "another's wrap": lambda item: replace(
        item,
        secret=replace(
            item.secret, wraps=tuple(Wrap(NAS.node, w.sealed) for w in item.secret.wraps if w.node == DESK.node)
        ),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_was_changed_does_not_open(fault: str) -> None:
    with pytest.raises(SealedError) as caught:
        open_secret(NAS.keys, FAMILY.clan, FAULTS[fault](wanted(sealed())))
    assert "\n" not in str(caught.value)


def test_a_wrapped_key_of_a_wrong_length_does_not_open() -> None:
    item = wanted(sealed())
    wrap = Wrap(NAS.node, bindings.crypto_box_seal(bytes(31), sealing_key(NAS.keys)))
    with pytest.raises(SealedError):
        open_secret(NAS.keys, FAMILY.clan, replace(item, secret=replace(item.secret, wraps=(wrap,))))


def test_a_value_of_another_clan_does_not_open() -> None:
    with pytest.raises(SealedError):
        open_secret(NAS.keys, Family(["desk"], name="other").clan, wanted(sealed()))


@pytest.mark.parametrize(
    "changes",
    [
        {"value": bytes(SECRET_VALUE_BYTES_MAX + 1)},
        {"recipients": {}},
        {"recipients": {NAS.node: SMALL_ORDER}},
        {"recipients": {NodeId(n.to_bytes(32, "big")): sealing_key(NAS.keys) for n in range(RECIPIENTS_MAX + 1)}},
        {"epoch": UINT64_MAX + 1},
        {
            "value": bytes(SECRET_VALUE_BYTES_MAX),
            "recipients": {NodeId(n.to_bytes(32, "big")): sealing_key(NAS.keys) for n in range(RECIPIENTS_MAX)},
            "audience": Audience(frozenset(f"{n:0{TAG_BYTES_MAX}d}" for n in range(RECIPIENTS_MAX))),
        },
    ],
    ids=["value", "nobody", "small order", "recipients", "epoch", "record"],
)
def test_what_cannot_be_sealed_is_said_in_a_sentence(changes: dict[str, object]) -> None:
    with pytest.raises(SealedError):
        sealed(**changes)  # type: ignore[arg-type]


def test_a_member_with_a_bad_key_keeps_the_secret_from_nobody_else() -> None:
    secret = sealed(recipients={PHONE.node: SMALL_ORDER, NAS.node: sealing_key(NAS.keys)})
    assert [wrap.node for wrap in secret.wraps] == [NAS.node]


def test_a_holder_seals_the_same_value_again_to_one_who_came_later() -> None:
    before = wanted(sealed(b"hunter2"))
    everyone = {author.node: sealing_key(author.keys) for author in (DESK, NAS, PHONE)}
    secret = seal_again(NAS.keys, FAMILY.clan, before, everyone, os.urandom)
    assert (secret.epoch, secret.predecessor) == (4, before.record_id)
    assert (secret.owner, secret.group, secret.mode, secret.targets) == ("root", "root", 0o400, ("all", "backup"))
    assert open_secret(PHONE.keys, FAMILY.clan, wanted(secret, author=NAS.node)) == b"hunter2"
    with pytest.raises(SealedError):
        seal_again(PHONE.keys, FAMILY.clan, before, everyone, os.urandom)


# --- grants --------------------------------------------------------------------------------------------


def member(name: str, *tags: str, via: Via = "credential") -> Member:
    return Member(FAMILY[name].node, name, tags, 0, via)


def members(*several: Member) -> dict[NodeId, Member]:
    return {one.node: one for one in several}


@pytest.mark.parametrize(
    ("tags", "nodes", "names"),
    [
        (["all"], [], {"desk", "nas"}),
        (["backup"], [], {"nas"}),
        ([], ["nas"], {"nas"}),
        (["backup"], ["desk"], {"desk", "nas"}),
        ([], ["phone"], set()),
        (["nobody"], [], set()),
        ([], [], set()),
        (["nas"], [], set()),  # a name is no tag: whoever joins chooses one
    ],
)
def test_a_secret_is_for_tags_and_devices_and_the_unconfirmed_read_nothing(
    tags: list[str], nodes: list[str], names: set[str]
) -> None:
    clan = members(member("desk", "admin"), member("nas", "backup"), member("phone", "backup", via="redemption"))
    audience = Audience(frozenset(tags), frozenset(FAMILY[name].node for name in nodes))
    assert {clan[node].name for node in recipients(audience, clan, NOW_UNIX_S)} == names


def test_who_takes_a_devices_place_takes_its_secrets() -> None:
    audience = Audience(frozenset(), frozenset({FAMILY["nas"].node}))
    heir = replace(member("phone"), forerunners=frozenset({FAMILY["nas"].node}))
    assert recipients(audience, members(member("desk"), heir), NOW_UNIX_S) == {PHONE.node}


def test_later_members_that_match_are_missing() -> None:
    clan = members(member("desk"), member("nas"), member("phone"))
    item = wanted(sealed())
    everyone = frozenset(clan)
    assert missing_recipients(item, clan, everyone, NOW_UNIX_S) == {PHONE.node}
    assert missing_recipients(item, clan, everyone - {PHONE.node}, NOW_UNIX_S) == frozenset(), (
        "nothing can be sealed to it yet"
    )
    assert missing_recipients(item, members(member("desk"), member("nas")), everyone, NOW_UNIX_S) == frozenset()


def test_exactly_one_holder_seals_again() -> None:
    clan = members(member("desk"), member("nas"), member("phone"))
    item = wanted(sealed())
    everyone = frozenset(clan)
    for up in (everyone, {DESK.node, PHONE.node}, {NAS.node}):
        doing = [
            node
            for node in everyone
            if node in up
            for task in reseals([item], clan, own=node, up=up, sealing_keys=everyone, now_unix_s=NOW_UNIX_S)
            if task.rank == 0
        ]
        assert doing == resealers(item, clan, up, NOW_UNIX_S)[:1] == [min(up & {DESK.node, NAS.node})]
    assert resealers(item, clan, {PHONE.node}, NOW_UNIX_S) == [], "who holds no key cannot"
    [task] = reseals(
        [item],
        clan,
        own=resealers(item, clan, everyone, NOW_UNIX_S)[1],
        up=everyone,
        sealing_keys=everyone,
        now_unix_s=NOW_UNIX_S,
    )
    assert task.recipients == everyone
    assert task.rank == 1, "if the first one does nothing"


@pytest.mark.parametrize(("gone", "left"), [("desk", "nas"), ("nas", "desk")])
def test_a_removed_holder_seals_nothing_again(gone: str, left: str) -> None:
    clan = members(member(left), member("phone"))
    up = {FAMILY[name].node for name in (gone, left, "phone")}
    assert resealers(wanted(sealed()), clan, up, NOW_UNIX_S) == [FAMILY[left].node]


def test_nothing_is_sealed_again_when_nobody_is_missing_or_too_many_match() -> None:
    clan = members(member("desk"), member("nas"))
    assert (
        reseals([wanted(sealed())], clan, own=min(clan), up=clan, sealing_keys=clan, now_unix_s=NOW_UNIX_S) == []
    )
    crowd = dict(clan)
    for number in range(RECIPIENTS_MAX):
        node = make_device_keys(lambda count, n=number: n.to_bytes(count, "big"), 0).node  # type: ignore[misc]
        crowd[node] = Member(node, f"n{number}", (), 0, "credential")
    assert (
        reseals([wanted(sealed())], crowd, own=min(clan), up=clan, sealing_keys=crowd, now_unix_s=NOW_UNIX_S) == []
    )
