"""Whom a secret is for: what the words of `--for` mean, and that nobody comes by a secret through a name."""

from pathlib import Path
from typing import Any

import pytest

from clanmesh_protocol.control import Fault
from clanmesh_protocol.tokens import decode_token_untrusted
from clanmeshd.core.admission import Refusal
from clanmeshd.core.wanted import secrets
from clanmeshd.secrets.grants import holders
from tests.core.households import Device, Household
from tests.core.keepers import Keepers, item_of, items_of, opened

pytestmark = pytest.mark.trio


async def set_for(device: Device, *words: str, name: str = "key", value: bytes = b"hunter2") -> list[str]:
    answer = await device.call("secrets-set", name=name, value=value, **{"for": list(words)})
    return list(answer["recipients"])


async def row_of(device: Device, name: str = "key") -> dict[str, Any]:
    rows = (await device.call("secrets-list"))["secrets"]
    return next(row for row in rows if row["name"] == name)


async def test_who_joins_under_a_tag_or_a_former_name_reads_nothing(tmp_path: Path) -> None:
    house = Household(tmp_path)
    await house.join("cellar", tags=["servers"])
    desk = house["desk"]
    assert await set_for(desk, "servers", name="for-tag") == ["cellar"]
    assert await set_for(desk, "cellar", name="for-name") == ["cellar"]
    await desk.call("rename", node="cellar", name="attic")
    token = decode_token_untrusted((await desk.call("invite"))["token"])
    with pytest.raises(Refusal, match="one of the clan's tags"):
        house.redeem("servers", token, "desk")
    former = house["cellar"]
    guest = house.redeem("guest", token, "desk")
    await house.share()
    await desk.call("rename", node="guest", name="cellar")
    await house.share()
    await Keepers(house).rest()
    assert guest.members() == {"desk", "attic", "cellar"}
    for item in items_of(guest).values():
        assert holders(item) == {former.node}, item.name
        assert opened(guest, item) is None
    assert (await row_of(desk, "for-name"))["targets"] == ["attic"], "it went with the device, not with the name"


async def test_a_word_that_is_a_tag_and_a_device_has_to_say_which(tmp_path: Path) -> None:
    house = Household(tmp_path)
    await house.join("nas", "phone")
    desk = house["desk"]
    await desk.call("tag", node="phone", add=["nas"], remove=[])
    fault = await desk.refused("secrets-set", name="key", value=b"x", **{"for": ["nas"]})
    assert (fault.kind, fault.remedy) == ("conflict", "write --for tag:nas or --for node:nas")
    assert await set_for(desk, "tag:nas") == ["phone"]
    assert (await row_of(desk))["targets"] == ["nas"]
    assert await set_for(desk, "node:nas") == ["nas"]
    assert (await row_of(desk))["targets"] == ["node:nas"], "in words that can be given again"


async def test_what_would_be_refused_is_refused_before_there_is_a_value(tmp_path: Path) -> None:
    house = Household(tmp_path)
    desk = house["desk"]
    wrong: list[dict[str, Any]] = [{"name": "a b"}, {"for": ["nsa"]}, {"owner": "no one"}, {"mode": 0o1000}]
    for each in wrong:
        await desk.refused("secrets-set", **{"name": "key", "for": ["all"], "check": True, **each})
    assert await desk.call("secrets-set", name="key", check=True, **{"for": ["all"]}) == {"name": "key"}
    assert (await desk.refused("secrets-rotate", name="key", check=True)).kind == "not-found"
    assert await set_for(desk, "all") == ["desk"]
    before = await row_of(desk)
    assert await desk.call("secrets-rotate", name="key", check=True) == {"name": "key"}
    assert await row_of(desk) == before


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["nobody"], "not-found"),
        (["desk", "tpyo"], "not-found"),  # one that is right does not hide one that is not
        (["tag:Nobody"], "usage"),
        (["tag:nobody"], "not-found"),
        (["node:nobody"], "not-found"),
        (["a word"], "not-found"),
        ([], "usage"),
    ],
)
async def test_words_that_mean_nobody_are_refused(tmp_path: Path, words: list[str], kind: str) -> None:
    house = Household(tmp_path)
    fault = await house["desk"].refused("secrets-set", name="key", value=b"x", **{"for": words})
    assert fault.kind == kind


async def test_a_tag_that_nobody_has_yet_can_be_given_beside_others(tmp_path: Path) -> None:
    house = Household(tmp_path)
    assert await set_for(house["desk"], "desk", "tag:servers") == ["desk"]
    await house.join("nas", tags=["servers"])
    await Keepers(house).rest()
    assert opened(house["nas"], item_of(house["nas"], "key")) == b"hunter2"


@pytest.mark.parametrize("call", [("rename", {"node": "desk", "name": "all"}), ("invite", {"name": "all"})])
async def test_all_is_nobodys_name(tmp_path: Path, call: tuple[str, dict[str, Any]]) -> None:
    fault = await Household(tmp_path)["desk"].refused(call[0], **call[1])
    assert "every device" in fault.why


async def test_all_is_nobodys_tag(tmp_path: Path) -> None:
    desk = Household(tmp_path)["desk"]
    assert (await desk.refused("tag", node="desk", add=["all"], remove=[])).kind == "usage"
    assert (await desk.refused("invite", tags=["all"])).kind == "usage"


async def test_who_takes_a_devices_place_gets_what_was_for_it(tmp_path: Path) -> None:
    house = Household(tmp_path)
    await house.join("nas")
    desk = house["desk"]
    await set_for(desk, "nas", "desk")
    for again in ("nas-two", "nas-three"):
        await house.join(again, succeeds="nas")
        await house.share()
    await Keepers(house).rest()
    assert opened(house["nas-three"], item_of(desk, "key")) == b"hunter2"
    assert (await row_of(desk))["targets"] == ["desk", "nas"]


async def test_a_secret_is_removed_and_can_be_set_anew(tmp_path: Path) -> None:
    house = Household(tmp_path)
    await house.join("nas")
    await set_for(house["desk"], "all")
    await house.share()
    assert (await house["nas"].call("secrets-remove", name="key"))["recipients"] == []
    await house.share()
    await Keepers(house).rest()
    for device in house:
        assert items_of(device) == {}
        assert secrets(device.mesh.authority, device.mesh.ledger, device.keys.node).secrets == ()
        fault = await device.refused("secrets-show", name="key")
        assert fault.kind == "not-found"
    await set_for(house["desk"], "nas", value=b"second")
    await house.share()
    assert opened(house["nas"], item_of(house["nas"], "key")) == b"second"


async def test_a_secret_whose_device_is_gone_says_what_can_be_done(tmp_path: Path) -> None:
    house = Household(tmp_path)
    await house.join("nas")
    desk = house["desk"]
    await set_for(desk, "nas")
    await desk.call("remove", node="nas")
    row = await row_of(desk)
    assert row["remedy"] == "clanctl secrets remove key"
    fault = await desk.refused("secrets-rotate", name="key", value=b"x")
    assert fault.remedy == "`clanctl secrets set key --for DEVICE`, or `clanctl secrets remove key`"
    await desk.call("secrets-remove", name="key")
    assert (await desk.call("secrets-list"))["secrets"] == []


async def test_there_is_nothing_to_remove_under_other_names(tmp_path: Path) -> None:
    desk = Household(tmp_path)["desk"]
    for name, kind in (("key", "not-found"), ("clanmesh-discovery", "usage"), ("a/b", "usage")):
        with pytest.raises(Fault) as caught:
            await desk.call("secrets-remove", name=name)
        assert caught.value.kind == kind, name


async def test_on_a_full_disk_what_changes_anything_is_refused_and_the_rest_is_not(tmp_path: Path) -> None:
    desk = Household(tmp_path)["desk"]
    assert await set_for(desk, "all") == ["desk"]
    desk.clan.driver.disk_failure = "/var/lib/clanmesh: No space left on device"
    for call, args in (("secrets-set", {"name": "b", "value": b"x", "for": ["all"]}), ("invite", {})):
        fault = await desk.refused(call, **args)
        assert (fault.kind, "No space left on device" in fault.why) == ("failed", True)
    assert (await desk.call("secrets-show", name="key"))["value"] == b"hunter2"
    assert (await row_of(desk))["name"] == "key"


async def test_what_could_not_be_placed_is_a_problem_with_its_remedy(tmp_path: Path) -> None:
    desk = Household(tmp_path)["desk"]
    for failure, what, remedy in (
        ("secret z: this machine has no user x; make one", "secret z: this machine has no user x", "make one"),
        ("mounting a tmpfs there", "secrets: mounting a tmpfs there", "see `journalctl -u clanmeshd`"),
    ):
        desk.clan.placement_failure = failure
        (problem,) = (await desk.call("status"))["problems"]
        assert (problem["what"], problem["remedy"]) == (what, remedy)
