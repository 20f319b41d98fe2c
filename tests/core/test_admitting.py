"""A member that is asked to let a device in: what it answers, also when it is not the one who may."""

import os
from pathlib import Path
from typing import Any

import pytest
import trio.testing

from clanmesh_protocol.keys import DeviceKeys, make_device_keys
from clanmesh_protocol.streams import Bundle, End, Frame, Join, Refuse, Welcome
from clanmesh_protocol.tokens import Token, decode_token_untrusted
from clanmeshd.admitting import admit
from clanmeshd.core.admission import open_bundle_untrusted
from clanmeshd.core.limits import ARRIVAL_S_MAX
from clanmeshd.driver import instant
from clanmeshd.joining import make_join
from tests.core.households import Device, Household, ago


class Channel:
    """One stream with a joining device, which has asked already."""

    def __init__(self, request: Join, keys: DeviceKeys) -> None:
        self.peer = keys.node
        self.sent: list[Frame] = []
        self._request = request

    async def receive(self) -> Frame:
        return self._request

    async def send(self, frame: Frame) -> None:
        self.sent.append(frame)


@pytest.fixture
async def house(tmp_path: Path) -> Household:
    """desk is the admin; nas and phone are members."""
    made = Household(tmp_path)
    await made.join("nas", "phone")
    return made


def fresh_keys() -> DeviceKeys:
    return make_device_keys(os.urandom, int(instant().unix_s))


async def invite(house: Household, **args: Any) -> Token:
    """A token of the desk's, of which all have heard."""
    token = decode_token_untrusted((await house["desk"].call("invite", **args))["token"])
    await house.share()
    return token


async def asked(device: Device, token: Token, keys: DeviceKeys, name: str = "tv") -> list[Frame]:
    """What a member answers to a device that asks."""
    channel = Channel(make_join(token, keys, name), keys)
    await admit(device.clan.driver, device.clan.membership, channel)  # type: ignore[arg-type]
    return channel.sent


async def refusal(device: Device, token: Token, keys: DeviceKeys, name: str = "tv") -> str:
    """The sentence of a refusal, with its code in front."""
    [frame] = await asked(device, token, keys, name)
    assert isinstance(frame, Refuse)
    assert "\n" not in frame.why
    return f"{frame.code}: {frame.why}"


async def test_a_member_that_is_no_admin_admits_and_its_word_holds(house: Household) -> None:
    token, keys = await invite(house), fresh_keys()
    welcome, *rest = await asked(house["nas"], token, keys)
    assert isinstance(welcome, Welcome)
    assert rest[-1] == End()
    data = [record for frame in rest if isinstance(frame, Bundle) for record in frame.records]
    assert open_bundle_untrusted(token, keys.node, data, server=house["nas"].keys.node)
    await house.share()
    member = house["desk"].mesh.authority.members[keys.node]
    assert member.name == "tv"
    assert member.confirmed


async def test_refusals_are_one_clear_line_at_every_member(house: Household) -> None:
    used, withdrawn, named = await invite(house), await invite(house), await invite(house)
    expired = await invite(house, ttl_s=1)
    await asked(house["nas"], used, fresh_keys())
    await house["desk"].call("invite-revoke", id=withdrawn.invite_id.hex()[:16])
    await house.share()
    late = instant()._replace(unix_s=expired.expires_unix_s + 1.0)
    for device in house:
        assert await refusal(device, used, fresh_keys()) == "used: the invite was used already"
        assert await refusal(device, withdrawn, fresh_keys()) == "unknown-invite: the invite was withdrawn"
        assert (await refusal(device, named, fresh_keys(), "nas")).startswith("name-taken: the name nas")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("clanmeshd.admitting.instant", lambda: late)
            assert await refusal(device, expired, fresh_keys()) == "expired: the invite has expired"


async def test_one_that_comes_back_hears_first_what_was_withdrawn(house: Household) -> None:
    """Else whoever has an old token would ask those that have just been switched on."""
    token = await invite(house)
    house.restart("nas", "phone")
    nas, answers = house["nas"], list[str]()

    async def ask() -> None:
        answers.append(await refusal(nas, token, fresh_keys()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert not answers
        await house["desk"].call("invite-revoke", id=token.invite_id.hex()[:16])
        await house.share()
        nas.mesh.handle_deadline(ago(-2 * ARRIVAL_S_MAX))
        await nas.clan.driver.settle()
        assert nas.mesh.has_arrived
    assert answers == ["unknown-invite: the invite was withdrawn"]


async def test_one_that_was_removed_says_so_instead_of_admitting(house: Household) -> None:
    token = await invite(house)
    await house["desk"].call("remove", node="phone")
    await house.share()
    assert (await refusal(house["phone"], token, fresh_keys())).startswith("denied: this device is no member")


async def test_two_redemptions_of_one_use_are_judged_alike_everywhere(house: Household) -> None:
    token, one, other = await invite(house), fresh_keys(), fresh_keys()
    await asked(house["nas"], token, one, "one")
    await asked(house["phone"], token, other, "other")
    await house.share("nas", "phone")
    for name in ("nas", "phone"):
        authority = house[name].mesh.authority
        assert authority.suspended == {one.node, other.node}
        assert (await refusal(house[name], token, one, "one")).startswith("used: more devices than it allows")
        assert (await refusal(house[name], token, fresh_keys(), "third")).startswith("used: ")


async def test_a_removed_device_does_not_come_back_by_any_member(house: Household) -> None:
    token, keys = await invite(house, uses=2), house["phone"].keys
    await house["desk"].call("remove", node="phone")
    house.devices.pop("phone")
    await house.share()
    for device in house:
        assert (await refusal(device, token, keys, "phone")).startswith("revoked: ")


async def test_a_join_in_anothers_name_is_malformed(house: Household) -> None:
    token, keys, other = await invite(house), fresh_keys(), fresh_keys()
    channel = Channel(make_join(token, keys, "tv"), other)
    await admit(house["nas"].clan.driver, house["nas"].clan.membership, channel)  # type: ignore[arg-type]
    [frame] = channel.sent
    assert isinstance(frame, Refuse)
    assert frame.code == "malformed"
