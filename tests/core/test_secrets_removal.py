"""Secrets when a device is removed: what it could read gets a new epoch that it cannot, and that comes to rest."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import DISCOVERY_BYTES, RECIPIENTS_MAX
from clanmesh_protocol.records import SINGLE_SLOT, Secret
from clanmesh_protocol.tokens import decode_token_untrusted
from clanmeshd.core.audience import EVERYONE, recipients
from clanmeshd.core.mesh import Mesh
from clanmeshd.core.roster import Member
from clanmeshd.core.wanted import DISCOVERY_NAME, node_record
from clanmeshd.driver import Driver, instant
from clanmeshd.nearby import FORMER_MAX, FORMER_S, former_secrets, renewed, told_secret
from clanmeshd.resealing import CHECK_S, REPLACED_S_MAX, REROLL_PAUSE_S, Keeper, settled_secret
from clanmeshd.secrets.grants import MARK, MARKS_MAX, TURN_S, Onlooker, exposed_to, holders, marked
from tests.core.households import Device, Household
from tests.core.keepers import Keepers, item_of, opened


@pytest.fixture
async def house(tmp_path: Path) -> Household:
    """Four devices: desk and nas are admins."""
    made = Household(tmp_path)
    await made.join("nas", "phone", "tv")
    await made.admins("nas")
    return made


async def set_secret(device: Device, name: str, **more: Any) -> Any:
    """Set one for all."""
    given = more if "random" in more else {"value": b"hunter2", **more}
    return await device.call("secrets-set", name=name, **{"for": ["all"], **given})


def in_turn(house: Household) -> list[str]:
    """The devices in the order in which they are to do something."""
    return sorted(house.devices, key=lambda name: house[name].keys.node)


async def remove(house: Household, name: str, by: str = "desk") -> Device:
    """Throw a device out; it never hears of it. Gives it."""
    await house[by].call("remove", node=name)
    expelled = house.devices.pop(name)
    await house.share()
    return expelled


async def test_a_random_secret_is_replaced_by_one_device_and_the_removed_reads_nothing(house: Household) -> None:
    await set_secret(house["phone"], "db", random=24)
    await house.share()
    before = item_of(house["desk"], "db")
    old = opened(house["phone"], before)
    expelled = await remove(house, "phone")
    keepers = Keepers(house)
    await keepers.rest()
    for device in house:
        item = item_of(device, "db")
        assert (item.secret.epoch, item.secret.predecessor) == (before.secret.epoch + 2, before.record_id)
        value = opened(device, item)
        assert value != old
        assert value is not None
        assert len(value) == 32, "24 bytes are 32 letters"
        assert item.secret.random_bytes == 24
        assert opened(expelled, item) is None
        assert expelled.keys.node not in {wrap.node for wrap in item.secret.wraps}
        assert (await device.call("secrets-list"))["secrets"][0]["exposed"] == []
    assert await keepers.rest() == 0


async def test_a_persons_secret_is_sealed_again_and_shown_as_exposed_until_it_is_replaced(
    house: Household,
) -> None:
    await set_secret(house["desk"], "wifi")
    await house.share()
    before = item_of(house["desk"], "wifi")
    expelled = await remove(house, "phone")
    await Keepers(house).rest()
    item = item_of(house["nas"], "wifi")
    assert item.secret.epoch == before.secret.epoch + 1
    assert opened(expelled, item) is None
    assert {opened(device, item) for device in house} == {b"hunter2"}
    assert [wrap.sealed for wrap in item.secret.wraps if wrap.node == expelled.keys.node] == [MARK]
    [row] = (await house["nas"].call("secrets-list"))["secrets"]
    assert row["exposed"]
    assert row["remedy"] == "clanctl secrets rotate wifi"
    assert sorted(row["recipients"]) == ["desk", "nas", "tv"]
    await house["tv"].refused("secrets-rotate", name="wifi")
    answer = await house["tv"].call("secrets-rotate", name="wifi", value=b"hunter3")
    assert answer["recipients"] == ["desk", "nas", "tv"]
    await house.share()
    assert (await house["nas"].call("secrets-list"))["secrets"][0]["exposed"] == []
    assert opened(house["desk"], item_of(house["desk"], "wifi")) == b"hunter3"
    assert opened(expelled, item_of(house["desk"], "wifi")) is None


async def test_the_mark_outlasts_a_member_that_comes_later(house: Household) -> None:
    await set_secret(house["desk"], "wifi")
    await house.share()
    expelled = await remove(house, "phone")
    keepers = Keepers(house)
    await keepers.rest()
    await house.join("radio")
    await keepers.rest()
    item = item_of(house["radio"], "wifi")
    assert opened(house["radio"], item) == b"hunter2"
    assert exposed_to(item, house["desk"].mesh.authority.revoked) == {expelled.keys.node}


async def test_two_that_do_it_at_once_come_to_rest(house: Household) -> None:
    await set_secret(house["desk"], "db", random=16)
    await set_secret(house["desk"], "wifi")
    await house.share()
    expelled = await remove(house, "phone")
    keepers = Keepers(house)
    made = [keepers.keep(name, [name]) for name in house.devices]  # each sees nobody else up
    assert min(made) >= 2, "all of them do it"
    await house.share()
    await keepers.rest()
    items = {name: item_of(house[name], "db") for name in house.devices}
    assert len({item.record_id for item in items.values()}) == 1
    assert len({opened(house[name], item) for name, item in items.items()}) == 1
    assert opened(expelled, items["desk"]) is None


async def test_removals_on_both_sides_of_a_cut_come_to_rest(house: Household) -> None:
    await set_secret(house["desk"], "db", random=16)
    await house.share()
    for admin, gone, beside in (("desk", "phone", "tv"), ("nas", "tv", "phone")):
        await house[admin].call("remove", node=gone)
        await house.share(admin, beside)
        await Keepers(house).rest(admin, beside)
        assert opened(house[gone], item_of(house[admin], "db")) is None
    expelled = [house.devices.pop(name) for name in ("phone", "tv")]
    await house.share()
    await Keepers(house).rest()
    [item] = {item_of(device, "db") for device in house}
    assert holders(item) == {device.keys.node for device in house}
    assert [opened(device, item) for device in expelled] == [None, None]
    assert None not in {opened(device, item) for device in house}


async def test_what_is_set_where_the_removal_is_unknown_is_replaced_when_it_becomes_known(
    house: Household,
) -> None:
    await house["desk"].call("remove", node="phone")
    expelled = house["phone"]
    await set_secret(house["tv"], "db", random=16)  # tv has not heard
    await house.share("tv", "phone")
    assert opened(expelled, item_of(house["tv"], "db")) is not None
    house.devices.pop("phone")
    await house.share()
    await Keepers(house).rest()
    assert opened(expelled, item_of(house["tv"], "db")) is None
    assert len({item_of(device, "db").record_id for device in house}) == 1


@pytest.mark.parametrize("idle", [1, 2])
async def test_who_does_nothing_is_passed_over_turn_by_turn(house: Household, idle: int) -> None:
    """Whether it is stuck, or a member that wants a removed one to know the secrets."""
    await set_secret(house["desk"], "db", random=16)
    await set_secret(house["desk"], "wifi")
    await house.share()
    expelled = await remove(house, "phone")
    keepers = Keepers(house)
    order = in_turn(house)
    for turn in range(idle):
        assert [keepers.keep(name, house.devices) for name in order[idle:]] == [0] * (len(order) - idle), turn
        keepers.later_s += TURN_S
    for name in order[idle:]:
        keepers.keep(name, house.devices)
        await house.share()
    for name in ("db", "wifi", DISCOVERY_NAME):
        assert opened(expelled, item_of(house["desk"], name)) is None
    await keepers.rest(*order[idle:])


async def test_a_member_that_nothing_can_be_sealed_to_keeps_nobody_busy(house: Household) -> None:
    """It says that its key is a point of small order: what is sealed again is not for it either, ever."""
    await set_secret(house["desk"], "wifi")
    await house.join("radio")
    radio = house["radio"]
    said = node_record(radio.mesh.ledger, radio.keys.node)
    assert said is not None
    for point in (bytes(32), bytes([1]) + bytes(31)):
        radio.mesh.publish(replace(said, sealing_key=point), slot=SINGLE_SLOT, now=instant())
        await house.share()
        assert await Keepers(house).rest() == 0
    assert opened(house["tv"], item_of(house["tv"], "wifi")) == b"hunter2"


async def test_nobody_replaces_what_it_may_not_read(house: Household) -> None:
    await set_secret(house["desk"], "db", random=16, **{"for": ["nas", "phone"]})
    await house.share()
    await remove(house, "phone")
    keepers = Keepers(house)
    await keepers.rest("desk", "tv")
    assert item_of(house["desk"], "db").secret.epoch == 2, "they wait for the nas"
    await keepers.rest()
    item = item_of(house["desk"], "db")
    assert item.secret.epoch == 4
    assert holders(item) == {house["nas"].keys.node}
    assert opened(house["desk"], item) is None


async def test_what_the_removed_has_set_is_nobodys_word(house: Household) -> None:
    await set_secret(house["phone"], "poison")
    await house.share()
    await remove(house, "phone")
    await Keepers(house).rest()
    item = item_of(house["desk"], "poison")
    assert item.author in house["desk"].mesh.authority.revoked
    assert (await house["desk"].call("secrets-list"))["secrets"][0]["exposed"]


async def test_a_flood_of_exposed_values_is_answered_slowly(house: Household) -> None:
    await set_secret(house["desk"], "db", random=16)
    await house.share()
    await remove(house, "phone")
    device = house["desk"]
    keeper = Keeper(device.mesh, device.keys)
    own = {device.keys.node}
    exposed = item_of(device, "db")
    assert keeper.keep(own, instant(), has_arrived=True)
    again = replace(exposed.secret, epoch=item_of(device, "db").secret.epoch + 2)
    house["tv"].mesh.publish(again, slot="db", now=instant())
    await house.share()
    now = instant()
    assert not keeper.keep(own, now, has_arrived=True), "it waits"
    assert item_of(device, "db").author == house["tv"].keys.node
    later = now._replace(monotonic_s=now.monotonic_s + REROLL_PAUSE_S + 1)
    assert keeper.keep(own, later, has_arrived=True)
    assert item_of(device, "db").author == device.keys.node


# --- the discovery secret ------------------------------------------------------------------------------


async def test_the_discovery_secret_changes_with_each_removal(house: Household) -> None:
    keepers = Keepers(house)
    await keepers.rest()
    assert {told_secret(device.mesh, device.keys) for device in house} == {None}
    told: list[bytes | None] = []
    for name in ("phone", "tv"):
        expelled = await remove(house, name)
        await keepers.rest()
        [secret] = {told_secret(device.mesh, device.keys) for device in house}
        told.append(secret)
        assert secret is not None
        assert len(secret) == DISCOVERY_BYTES
        assert opened(expelled, item_of(house["desk"], DISCOVERY_NAME)) is None
    assert told[0] != told[1]
    assert (await house["desk"].call("secrets-list"))["secrets"] == [], "it is none of the people's"
    assert await keepers.rest() == 0


@dataclass
class Inviting:
    """A driver as far as an invite asks for news: with each, the clan's secrets are kept."""

    keepers: Keepers
    mesh: Mesh
    among: tuple[str, ...] = ()  # who keeps them; all, if it is not said
    news: trio.Event = field(default_factory=trio.Event)
    asked: int = 0

    async def quiet(self, news: trio.Event, within_s: float, pause_s: float) -> None:
        self.asked += 1
        await self.keepers.rest(*self.among)
        await trio.sleep(within_s)

    async def settle(self) -> None:
        """What was published is sent at once."""


async def invited(house: Household, keepers: Keepers, *among: str) -> tuple[bytes, int]:
    """What the desk gives in a token, and how often it waited for others."""
    desk = house["desk"]
    driver = Inviting(keepers, desk.mesh, among)
    secret = await settled_secret(cast(Driver, driver), keepers.of("desk"), lambda: desk.clan.membership)
    return secret, driver.asked


async def test_who_is_invited_right_after_a_removal_gets_the_new_one(house: Household) -> None:
    desk, keepers = house["desk"], Keepers(house)
    for name in ("phone", "tv"):
        former = told_secret(desk.mesh, desk.keys) or desk.clan.membership.discovery
        await remove(house, name)
        secret, asked = await invited(house, keepers)
        assert asked == 1
        assert secret == told_secret(desk.mesh, desk.keys) != former


async def test_who_is_invited_right_after_another_invite_was_withdrawn_gets_the_new_one(house: Household) -> None:
    """No record says that somebody knows the old one: who looked on does."""
    desk, keepers = house["desk"], Keepers(house)
    await remove(house, "phone")
    await keepers.rest()
    for _ in range(2):
        former = told_secret(desk.mesh, desk.keys)
        token = await desk.call("invite")
        await desk.call("invite-revoke", id=token["id"])
        secret, asked = await invited(house, keepers)
        assert asked >= 1
        assert secret == told_secret(desk.mesh, desk.keys) != former
    assert (await invited(house, keepers))[1] == 0, "nobody waits for anything without a reason"


async def test_where_nobody_replaces_it_who_invites_does(house: Household, autojump_clock: MockClock) -> None:
    """Whose turn it is has just started, is stuck, or has replaced one a moment ago and pauses."""
    desk, keepers = house["desk"], Keepers(house)
    await remove(house, "phone")
    await keepers.rest()
    gone = await desk.call("invite")
    await desk.call("invite-revoke", id=gone["id"])
    former, begun_s = told_secret(desk.mesh, desk.keys), trio.current_time()
    secret, _ = await invited(house, keepers, "tv" if in_turn(house)[0] != "tv" else "nas")
    assert secret == told_secret(desk.mesh, desk.keys) != former
    assert trio.current_time() - begun_s <= REPLACED_S_MAX + CHECK_S
    await house.share()
    assert {told_secret(device.mesh, device.keys) for device in house} == {secret}


async def test_a_second_token_for_a_place_has_the_secret_that_follows_the_first_ones_withdrawal(
    house: Household, autojump_clock: MockClock
) -> None:
    desk = house["desk"]
    await remove(house, "phone")
    desk.clan.keeper.keep({desk.keys.node}, instant(), has_arrived=True)
    told = []
    for _ in range(2):
        answer = await desk.call("invite", succeeds="tv")
        told.append(decode_token_untrusted(answer["token"]).discovery)
    assert len(answer["withdrawn"]) == 1
    assert told[1] == told_secret(desk.mesh, desk.keys) != told[0]


async def test_a_withdrawn_invite_changes_it_too_and_later_members_get_it(house: Household) -> None:
    token = await house["desk"].call("invite")
    await house["desk"].call("invite-revoke", id=token["id"])
    await house.share()
    keepers = Keepers(house)
    await keepers.rest()
    await house.join("radio")
    await keepers.rest()
    told = {told_secret(device.mesh, device.keys) for device in house}
    assert len(told) == 1
    assert None not in told


async def test_who_is_told_of_it_and_removed_before_it_is_sealed_to_them_knows_the_next_one_no_more(
    house: Household,
) -> None:
    keepers = Keepers(house)
    await keepers.rest()
    await remove(house, "phone")
    await keepers.rest()
    told = told_secret(house["desk"].mesh, house["desk"].keys)
    await house.join("guest")
    await remove(house, "guest")
    assert await keepers.rest() >= 1
    [secret] = {told_secret(device.mesh, device.keys) for device in house}
    assert secret not in (None, told)
    assert await keepers.rest() == 0


async def test_it_changes_with_each_invite_that_is_withdrawn(house: Household) -> None:
    keepers = Keepers(house)
    told: list[bytes | None] = []
    for _ in range(3):
        await keepers.rest()
        told.append(told_secret(house["nas"].mesh, house["nas"].keys))
        token = await house["desk"].call("invite")
        await house["desk"].call("invite-revoke", id=token["id"])
        await house.share()
    assert len(set(told)) == 3
    assert told[0] is None


async def test_if_the_one_whose_turn_it_is_has_not_looked_on_another_does_it_later(house: Household) -> None:
    keepers = Keepers(house)
    await remove(house, "phone")
    await keepers.rest()
    told = told_secret(house["desk"].mesh, house["desk"].keys)
    token = await house["desk"].call("invite")
    await house["desk"].call("invite-revoke", id=token["id"])
    await house.share()
    _, *others = in_turn(house)
    assert [keepers.keep(name, house.devices) for name in others] == [0] * len(others)
    keepers.later_s += TURN_S
    assert [keepers.keep(name, house.devices) for name in reversed(others)] == [0] * (len(others) - 1) + [1]
    await house.share()
    await keepers.rest(*others)
    [secret] = {told_secret(device.mesh, device.keys) for device in house}
    assert secret not in (None, told)


async def test_what_was_removed_before_a_device_looked_on_is_history(house: Household) -> None:
    await remove(house, "phone")
    await Keepers(house).rest()
    assert await Keepers(house).rest() == 0, "all have restarted"


async def test_a_restart_between_a_withdrawal_and_what_follows_from_it(house: Household) -> None:
    """Of all devices at once: a power cut. Else whoever has the token would know the secret for good."""
    await remove(house, "phone")
    keepers = Keepers(house)
    await keepers.rest()
    told = told_secret(house["desk"].mesh, house["desk"].keys)
    token = await house["desk"].call("invite")
    assert await keepers.rest() == 0
    await house["desk"].call("invite-revoke", id=token["id"])
    await house.share()
    for _ in range(2):  # nor do restarts in a row have it forgotten
        keepers = keepers.restarted()
        for name in in_turn(house)[1:]:
            assert keepers.keep(name, house.devices) == 0
    assert await keepers.rest() == 1
    [secret] = {told_secret(device.mesh, device.keys) for device in house}
    assert secret not in (None, told)
    assert await keepers.restarted().rest() == 0


def test_a_value_that_comes_with_the_removal_is_the_one_after_it() -> None:
    """And one that the removed may know stays outdated until another takes its place, whatever else is seen."""
    onlooker, out = Onlooker(), [NodeId(bytes([number]) * 32) for number in range(3)]
    assert not onlooker.look(frozenset(out[:1]), b"first")
    assert not onlooker.look(frozenset(out[:2]), b"second")
    assert onlooker.look(frozenset(out), b"second")
    assert onlooker.look(frozenset(out), b"second")
    assert not onlooker.look(frozenset(out), b"third")
    assert onlooker.look(frozenset(out), b"second")
    assert not onlooker.look(frozenset(), b"third"), "a device that is back"
    assert not onlooker.look(frozenset(out), None)
    assert "second" not in repr(onlooker)


async def test_names_of_our_own_are_not_set_by_people(house: Household) -> None:
    fault = await house["desk"].refused("secrets-set", name=DISCOVERY_NAME, value=b"x", **{"for": ["all"]})
    assert fault.kind == "usage"


async def test_former_secrets_are_few_and_end(house: Household) -> None:
    membership = house["desk"].clan.membership
    first, now = membership.discovery, 1_800_000_000.0
    fresh = [os.urandom(DISCOVERY_BYTES) for _ in range(FORMER_MAX + 2)]
    for secret in fresh:
        membership = renewed(membership, secret, now)
    assert membership.discovery == fresh[-1]
    assert former_secrets(membership, now) == tuple(reversed(fresh[1:-1]))
    assert first not in former_secrets(membership, now)
    assert former_secrets(membership, now + FORMER_S) == ()
    back = renewed(membership, fresh[-2], now)
    assert fresh[-2] not in former_secrets(back, now)
    assert former_secrets(back, now)[0] == fresh[-1]


# --- who it is for -------------------------------------------------------------------------------------


def test_expired_members_are_no_recipients() -> None:
    nodes = [NodeId(bytes([number]) * 32) for number in range(3)]
    members = {
        node: Member(node, f"n{number}", (), expires, "credential")
        for number, (node, expires) in enumerate(zip(nodes, (0, 2000, 5000), strict=True))
    }
    assert recipients(EVERYONE, members, 1999) == set(nodes)
    assert recipients(EVERYONE, members, 4000) == {nodes[0], nodes[2]}


def test_marks_have_only_the_room_that_recipients_leave() -> None:
    gone = [NodeId(number.to_bytes(32, "big")) for number in range(100)]
    assert len(marked(gone, [])) == MARKS_MAX
    crowd = [NodeId(number.to_bytes(32, "little")) for number in range(1, RECIPIENTS_MAX)]
    assert len(marked(gone, crowd)) == 1
    assert {wrap.sealed for wrap in marked(gone, crowd)} == {MARK}


async def test_random_values_are_text_and_have_a_bound(house: Household) -> None:
    desk = house["desk"]
    answer = await set_secret(desk, "db", random=32)
    assert answer["random_bytes"] == 32
    value = (await desk.call("secrets-show", name="db"))["value"]
    assert len(value) == 43
    assert value.decode().isascii()
    rotated = await desk.call("secrets-rotate", name="db")
    assert rotated["epoch"] == answer["epoch"] + 2
    assert (await desk.call("secrets-show", name="db"))["value"] != value
    for wrong in ({"random": 0}, {"random": 30_000}, {"random": 8, "value": b"x"}, {}):
        await desk.refused("secrets-set", name="db", **{"for": ["all"], **wrong})
    await desk.refused("secrets-rotate", name="none")
    content = item_of(desk, "db").secret
    assert isinstance(content, Secret)
    assert content.targets == ("all",)
