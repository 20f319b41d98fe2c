"""`remove`, `rename`, `tag`, `renew`: what an admin's word does, and what is refused with a remedy."""

import time
from pathlib import Path

import pytest

from clanmesh_protocol.keys import node_text
from clanmesh_protocol.tokens import decode_token_untrusted
from tests.core.households import Household


@pytest.fixture
async def house(tmp_path: Path) -> Household:
    made = Household(tmp_path)
    await made.join("nas", "phone")
    return made


async def test_a_removed_device_is_out_everywhere(house: Household) -> None:
    answer = await house["desk"].call("remove", node="phone", reason="lost on a train")
    assert (answer["state"], answer["decision"], answer["name"]) == ("done", None, "phone")
    await house.share()
    for device in house:
        assert device.members() == {"desk", "nas"}
    status = await house["phone"].call("status")
    assert [problem["kind"] for problem in status["problems"]] == ["expelled"]
    assert status["self"] is None
    again = await house["desk"].call("remove", node=node_text(house["phone"].node))
    assert again["state"] == "done"


async def test_who_may_not_remove_and_what_is_no_member(house: Household) -> None:
    assert (await house["nas"].refused("remove", node="phone")).kind == "denied"
    fault = await house["desk"].refused("remove", node="desk")
    assert fault.kind == "refused"
    assert "leave" in fault.remedy
    assert (await house["desk"].refused("remove", node="toaster")).kind == "not-found"
    assert (await house["desk"].refused("remove", node="phone", reason="x" * 200)).kind == "usage"


async def test_of_several_admins_one_goes_by_the_word_of_the_others(house: Household) -> None:
    await house.admins("nas", "phone")
    await house.join("lamp", by="phone")
    await house["phone"].call("tag", node="lamp", add=["kitchen"])
    await house.share()
    answer = await house["desk"].call("remove", node="phone")
    assert answer["state"] == "pending"
    assert answer["decision"]["approvers"] == ["nas"]
    assert (answer["decision"]["weight"], answer["decision"]["needed"]) == (1, 2)
    assert answer["kept"]["credentials"] == ["lamp"]
    await house.share()
    assert house["nas"].members() == {"desk", "nas", "phone", "lamp"}
    done = await house["nas"].call("remove", node="phone")  # the same again is an approval
    assert done["state"] == "done"
    await house.share()
    for device in house:
        assert device.members() == {"desk", "nas", "lamp"}
        lamp = device.mesh.authority.named("lamp")
        assert lamp is not None
        assert lamp.tags == ("kitchen",)
        assert not device.mesh.authority.is_admin(house["phone"].keys.node)


async def test_what_a_thief_vouched_for_is_not_taken_over(house: Household) -> None:
    await house.admins("nas", "phone")
    await house.join("burglar", by="phone")
    answer = await house["desk"].call("remove", node="phone", distrust_s=3600)
    assert answer["kept"]["dropped"] == ["burglar"]
    await house.share()
    assert "burglar" not in house["nas"].members()
    await house["nas"].call("admin-approve", id=answer["decision"]["id"][:8])
    await house.share()
    assert house["desk"].members() == {"desk", "nas"}


async def test_who_approves_takes_over_what_the_proposer_had_not_heard(house: Household) -> None:
    await house.admins("nas", "phone")
    token = decode_token_untrusted((await house["phone"].call("invite", tags=["kitchen"]))["token"])
    house.redeem("lamp", token, "phone")  # desk does not hear of it
    answer = await house["desk"].call("admin-propose", operation="remove", node="phone")
    assert answer["kept"]["credentials"] == []
    await house.share()
    await house["phone"].call("tag", node="nas", add=["servers"])  # a last word, which does not count
    await house.share()
    await house["nas"].call("admin-approve", id=answer["id"])
    await house.share()
    assert house["lamp"].members() == {"desk", "nas", "phone", "lamp"}
    tags = {member.name: member.tags for member in house["desk"].mesh.authority.members.values()}
    assert (tags["lamp"], tags["nas"]) == (("kitchen",), ())


async def test_of_two_admins_none_can_remove_the_other_alone(house: Household) -> None:
    await house.admins("nas")
    fault = await house["desk"].refused("remove", node="nas")
    assert "admin recover" in fault.remedy
    assert house["desk"].members() == {"desk", "nas", "phone"}


async def test_a_new_name_keeps_the_device(house: Household) -> None:
    before = house["nas"].mesh.authority.named("phone")
    answer = await house["desk"].call("rename", node="phone", name="mobile")
    assert (answer["before"], answer["name"]) == ("phone", "mobile")
    await house.share()
    after = house["nas"].mesh.authority.named("mobile")
    assert before is not None
    assert after is not None
    assert after.node == before.node
    assert (await house["desk"].refused("rename", node="mobile", name="nas")).kind == "conflict"
    assert (await house["desk"].refused("rename", node="mobile", name="Not a name")).kind == "usage"
    assert (await house["nas"].refused("rename", node="nas", name="attic")).kind == "denied"


async def test_tags_come_and_go(house: Household) -> None:
    assert (await house["desk"].call("tag", node="nas", add=["backup", "attic"]))["tags"] == ["attic", "backup"]
    assert (await house["desk"].call("tag", node="nas", remove=["attic"]))["tags"] == ["backup"]
    await house.share()
    peers = (await house["phone"].call("peers"))["peers"]
    assert {peer["name"]: peer["tags"] for peer in peers}["nas"] == ["backup"]
    assert (await house["nas"].refused("tag", node="nas", add=["admin"])).kind == "denied"
    assert (await house["desk"].refused("tag", node="nas")).kind == "usage"
    many = [f"tag-{number}" for number in range(17)]
    assert (await house["desk"].refused("tag", node="nas", add=many)).kind == "refused"


async def test_a_membership_is_prolonged(house: Household) -> None:
    answer = await house["desk"].call("renew", node="nas", days=30)
    assert 29 * 86_400 < answer["expires_unix_s"] - time.time() <= 30 * 86_400
    assert (await house["desk"].call("renew", node="nas"))["expires_unix_s"] == 0
    await house["desk"].call("admin-propose", operation="setting", name="credential-days", value="90")
    ruled = await house["desk"].call("renew", node="nas")
    assert 89 * 86_400 < ruled["expires_unix_s"] - time.time() <= 90 * 86_400
    assert (await house["desk"].refused("renew", node="nas", days=-1)).kind == "usage"
