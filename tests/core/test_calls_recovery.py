"""`admin-recover`: the drill, and what the recovery key does when the admins cannot."""

from pathlib import Path

import pytest

from clanmesh_protocol.tokens import encode_recovery
from tests.core.households import Household
from tests.core.keepers import item_of, opened


@pytest.fixture
async def house(tmp_path: Path) -> Household:
    made = Household(tmp_path)
    await made.join("nas", "phone")
    return made


async def test_the_drill_changes_nothing_and_any_device_can_do_it(house: Household) -> None:
    before = house["nas"].mesh.ledger.root()
    answer = await house["nas"].call("admin-recover", key=house.recovery, drill=True)
    assert (answer["drill"], answer["holds"], answer["decisions"]) == (True, True, [])
    assert house["nas"].mesh.ledger.root() == before
    fault = await house["nas"].refused("admin-recover", key=house.recovery, drill=True, add="nas")
    assert fault.kind == "usage"


@pytest.mark.parametrize("key", ["", "hello", encode_recovery(bytes(32)), encode_recovery(bytes(32))[:-1]])
async def test_another_key_is_refused(house: Household, key: str) -> None:
    fault = await house["desk"].refused("admin-recover", key=key, drill=True)
    assert fault.kind == "refused"
    assert house.recovery not in str(fault)


async def test_a_lost_admin_is_put_out_from_the_device_that_takes_its_place(house: Household) -> None:
    key = house.recovery
    fault = await house["nas"].refused("admin-recover", key=key, remove="desk")
    assert "--add" in fault.remedy
    fault = await house["nas"].refused("admin-recover", key=key, remove="desk", add="phone")
    assert "nas" in fault.remedy
    answer = await house["nas"].call("admin-recover", key=key, add="nas", remove="desk", new_key=True)
    assert [each["state"] for each in answer["decisions"]] == ["done"] * 3
    assert {each["author"] for each in answer["decisions"]} == {"the recovery key"}
    assert answer["kept"]["credentials"] == ["nas", "phone"]
    await house.share()
    for device in house:
        assert device.members() == {"nas", "phone"}
        assert device.mesh.authority.admins == (house["nas"].keys.node,)
    fault = await house["phone"].refused("admin-recover", key=key, drill=True)
    assert "replaced" in fault.why
    assert (await house["phone"].call("admin-recover", key=answer["recovery"], drill=True))["holds"]


async def test_nothing_to_do_and_nothing_possible(house: Household) -> None:
    key = house.recovery
    assert (await house["desk"].refused("admin-recover", key=key)).kind == "usage"
    assert (await house["desk"].refused("admin-recover", key=key, remove="nas")).kind == "refused"
    assert (await house["desk"].refused("admin-recover", key=key, remove="desk")).kind == "refused"
    assert (await house["desk"].refused("admin-recover", key=key, add="desk")).kind == "refused"
    assert (await house["desk"].refused("admin-recover", key=key, add="toaster")).kind == "not-found"
    assert house["desk"].mesh.authority.number == 0


async def test_a_new_admin_beside_the_old_one(house: Household) -> None:
    answer = await house["phone"].call("admin-recover", key=house.recovery, add="phone")
    assert answer["recovery"] is None
    await house.share()
    assert house["desk"].mesh.authority.admins == (house["desk"].keys.node, house["phone"].keys.node)


async def test_an_admin_that_is_named_again_hinders_nothing(house: Household) -> None:
    assert (await house["desk"].call("admin-recover", key=house.recovery, add="nas"))["decisions"]
    await house.share()
    answer = await house["nas"].call("admin-recover", key=house.recovery, add="nas", remove="desk")
    assert [each["operation"] for each in answer["decisions"]] == ["end desk being an admin"]
    await house.share()
    assert house["phone"].mesh.authority.admins == (house["nas"].keys.node,)


async def test_secrets_stay_when_the_admin_who_set_them_is_put_out(house: Household) -> None:
    desk, nas = house["desk"], house["nas"]
    await desk.call("secrets-set", name="key", value=b"hunter2", **{"for": ["nas"]})
    await house.share()
    await desk.call("remove", node="phone")
    await house.share()
    await nas.call("admin-recover", key=house.recovery, add="nas", remove="desk")
    await house.share()
    assert opened(nas, item_of(nas, "key")) == b"hunter2"
    assert nas.mesh.authority.former == {house["desk"].node: "desk", house["phone"].node: "phone"}
