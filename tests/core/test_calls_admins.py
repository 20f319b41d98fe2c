"""`admin-*`: proposing, approving, listing; operations that one admin decides, and those that need several."""

from pathlib import Path

import pytest

from clanmesh_protocol.tokens import decode_recovery_untrusted
from clanmeshd.driver import instant
from tests.core.households import Household

SIGNER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIalice alice"


@pytest.fixture
async def house(tmp_path: Path) -> Household:
    made = Household(tmp_path)
    await made.join("nas", "phone")
    return made


async def test_the_first_admins_word_is_enough(house: Household) -> None:
    listed = await house["desk"].call("admin-list")
    assert [(each["name"], each["weight"], each["self"]) for each in listed["admins"]] == [("desk", 1, True)]
    assert listed["admins"][0]["agrees"]
    assert (listed["needed"], listed["stale"], listed["pending"]) == ({"govern": 1, "routine": 1}, False, 0)
    assert listed["final"] == {"id": listed["head"], "number": 0}
    done = await house["desk"].call("admin-propose", operation="add", node="nas", weight=2)
    assert (done["state"], done["number"], done["signed_by"], done["approvers"]) == ("done", 1, ["desk"], [])
    assert done["operation"] == "make nas an admin of weight 2"
    await house.share()
    seen = await house["phone"].call("admin-list")
    assert [each["name"] for each in seen["admins"]] == ["desk", "nas"]
    assert seen["needed"]["govern"] == 2


async def test_two_admins_are_told_what_that_means(house: Household) -> None:
    answer = await house["desk"].call("admin-propose", operation="add", node="nas")
    assert "both" in answer["note"]


async def test_a_threshold_that_needs_every_admin_is_no_surprise(house: Household) -> None:
    await house.admins("nas", "phone")
    answer = await house["desk"].call("admin-propose", operation="thresholds", govern=3)
    assert "one of them is lost" in answer["note"]
    answer = await house["desk"].call("admin-propose", operation="thresholds", routine=3)
    assert answer["note"] is None


async def test_a_proposal_waits_is_shown_and_is_completed(house: Household) -> None:
    await house.admins("nas")
    proposed = await house["desk"].call("admin-propose", operation="setting", name="x-colour", value="green")
    assert proposed["state"] == "done"  # routine
    proposed = await house["desk"].call("admin-propose", operation="thresholds", govern=2)
    assert (proposed["state"], proposed["approvers"], proposed["needed"]) == ("pending", ["nas"], 2)
    assert proposed["note"] is None, "two have to agree anyway"
    await house.share()
    (mine,) = (await house["nas"].call("admin-pending"))["pending"]
    (theirs,) = (await house["desk"].call("admin-pending"))["pending"]
    assert (mine["mine"], theirs["mine"]) == (True, False)
    assert mine["signed_by"] == ["desk"]
    notices = (await house["nas"].call("status"))["notices"]
    assert [each["kind"] for each in notices] == ["approval"]
    assert proposed["id"][:10] in notices[0]["remedy"]
    denied = await house["phone"].refused("admin-approve", id=proposed["id"])
    assert (denied.kind, denied.remedy) == ("denied", "do it on desk or nas")
    done = await house["nas"].call("admin-approve", id=proposed["id"][:6])
    assert (done["state"], done["signed_by"], done["weight"]) == ("done", ["desk", "nas"], 2)
    await house.share()
    assert (await house["desk"].call("admin-list"))["thresholds"]["govern"] == 2
    assert (await house["nas"].refused("admin-approve", id=proposed["id"])).kind == "not-found"


async def test_approving_twice_changes_nothing(house: Household) -> None:
    await house.admins("nas", "phone")
    proposed = await house["desk"].call("admin-propose", operation="remove", node="phone")
    again = await house["desk"].call("admin-approve", id=proposed["id"])
    assert (again["state"], again["weight"]) == ("pending", 1)
    repeated = await house["desk"].call("admin-propose", operation="remove", node="phone")
    assert repeated["id"] == proposed["id"]


@pytest.mark.parametrize(
    ("args", "kind"),
    [
        ({"operation": "crown", "node": "nas"}, "usage"),
        ({"operation": "add"}, "usage"),
        ({"operation": "add", "node": "toaster"}, "not-found"),
        ({"operation": "add", "node": "desk"}, "refused"),
        ({"operation": "add", "node": "nas", "weight": 0}, "usage"),
        ({"operation": "remove", "node": "nas"}, "refused"),
        ({"operation": "remove", "node": "desk"}, "refused"),
        ({"operation": "replace", "node": "desk", "by": "nas"}, "refused"),
        ({"operation": "replace", "node": "nas", "by": "phone"}, "refused"),
        ({"operation": "thresholds"}, "usage"),
        ({"operation": "thresholds", "govern": 9}, "refused"),
        ({"operation": "thresholds", "govern": 0, "routine": 1}, "refused"),
        ({"operation": "setting", "name": "Colour", "value": "x"}, "usage"),
        ({"operation": "setting", "name": "x-colour", "value": "x" * 257}, "usage"),
        ({"operation": "setting", "name": "x-colour", "value": ""}, "refused"),
        ({"operation": "setting", "name": "colour", "value": "green"}, "usage"),
        ({"operation": "setting", "name": "withdrawn", "value": "ab" * 8, "force": True}, "usage"),
        ({"operation": "setting", "name": "tunnel-key-days", "value": "99999"}, "usage"),
        ({"operation": "setting", "name": "credential-days", "value": "a month"}, "usage"),
        ({"operation": "checkpoint", "commit": "00" * 20}, "usage"),
        ({"operation": "checkpoint", "commit": "main"}, "usage"),
    ],
)
async def test_what_cannot_be_decided(house: Household, args: dict[str, object], kind: str) -> None:
    fault = await house["desk"].refused("admin-propose", **args)
    assert fault.kind == kind, str(fault)
    assert house["desk"].mesh.authority.number == 0


async def test_a_setting_that_nobody_heeds_is_taken_for_a_typo(house: Household) -> None:
    fault = await house["desk"].refused("admin-propose", operation="setting", name="credential-day", value="30")
    assert "if you mean credential-days" in fault.remedy
    fault = await house["desk"].refused("admin-propose", operation="setting", name="colour", value="green")
    assert "credential-days and tunnel-key-days" in fault.remedy
    args = {"operation": "setting", "name": "credential-day", "value": "30"}
    assert (await house["desk"].call("admin-propose", **args, force=True))["state"] == "done"
    taken = await house["desk"].call("admin-propose", operation="setting", name="credential-day", value="")
    assert taken["state"] == "done"  # what is there can be taken back
    assert house["desk"].mesh.authority.chain.settings == {}


async def test_a_checkpoint_that_the_repository_does_not_know_is_taken_for_a_typo(
    house: Household, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = bytes.fromhex("ab" * 20)

    async def knows(commit: bytes) -> bool:
        return commit == known

    monkeypatch.setattr(house["desk"].clan.rollout, "head", known)
    monkeypatch.setattr(house["desk"].clan.rollout, "knows", knows, raising=False)
    args = {"operation": "checkpoint", "commit": "cd" * 20}
    fault = await house["desk"].refused("admin-propose", **args)
    assert (fault.kind, "no such commit" in fault.why, "--force" in fault.remedy) == ("not-found", True, True)
    assert house["desk"].mesh.authority.number == 0
    assert (await house["desk"].call("admin-propose", **args, force=True))["state"] == "done"
    assert (await house["desk"].call("admin-propose", operation="checkpoint", commit=known.hex()))[
        "state"
    ] == "done"


async def test_a_recovery_key_is_not_in_force_before_enough_have_approved(house: Household) -> None:
    await house.admins("nas")
    answer = await house["desk"].call("admin-propose", operation="recovery")
    assert answer["state"] == "pending"
    assert "only proposed" in answer["note"]
    assert f"admin approve {answer['id'][:10]}` on nas" in answer["note"]
    await house.share()
    for name in ("desk", "phone"):
        fault = await house[name].refused("admin-recover", key=answer["recovery"], drill=True)
        assert "not in force" in fault.why
        assert answer["id"][:10] in fault.remedy
    assert (await house["desk"].call("admin-recover", key=house.recovery, drill=True))["holds"]
    await house["nas"].call("admin-approve", id=answer["id"])
    assert (await house["nas"].call("admin-recover", key=answer["recovery"], drill=True))["holds"]


async def test_only_admins_propose(house: Household) -> None:
    fault = await house["nas"].refused("admin-propose", operation="add", node="nas")
    assert (fault.kind, "desk" in fault.remedy) == ("denied", True)


async def test_who_is_an_admin_no_more_stays_a_member_and_never_is_one_again(house: Household) -> None:
    await house.admins("nas", "phone")
    await house.join("lamp", by="phone")
    proposed = await house["desk"].call("admin-propose", operation="remove", node="phone")
    assert proposed["kept"]["credentials"] == ["lamp"]
    await house.share()
    await house["phone"].call("admin-approve", id=proposed["id"])
    await house.share()
    assert house["nas"].members() == {"desk", "nas", "phone", "lamp"}
    assert [each["name"] for each in (await house["nas"].call("admin-list"))["admins"]] == ["desk", "nas"]
    fault = await house["desk"].refused("admin-propose", operation="add", node="phone")
    assert "before" in fault.why


async def test_who_agrees_to_go_takes_nobody_along(house: Household) -> None:
    await house.admins("nas")
    proposed = await house["desk"].call("admin-propose", operation="remove", node="nas")
    await house.share()
    await house.join("lamp", by="nas")
    fault = await house["nas"].refused("admin-approve", id=proposed["id"])
    assert "lamp" in fault.why
    assert "on desk again" in fault.remedy
    again = await house["desk"].call("admin-propose", operation="remove", node="nas")
    assert (again["id"], again["kept"]["credentials"]) == (proposed["id"], ["lamp"])
    await house.share()
    assert (await house["nas"].call("admin-approve", id=proposed["id"]))["state"] == "done"
    await house.share()
    assert house["desk"].members() == {"desk", "nas", "phone", "lamp"}


async def test_one_device_takes_the_place_of_another_among_the_admins(house: Household) -> None:
    await house.admins("nas")
    await house.join("tower", by="nas")
    proposed = await house["desk"].call("admin-propose", operation="replace", node="nas", by="phone")
    await house.share()
    await house["nas"].call("admin-approve", id=proposed["id"])
    await house.share()
    assert [each["name"] for each in (await house["tower"].call("admin-list"))["admins"]] == ["desk", "phone"]
    assert house["desk"].members() == {"desk", "nas", "phone", "tower"}


async def test_the_recovery_key_is_replaced_and_shown_once(house: Household) -> None:
    answer = await house["desk"].call("admin-propose", operation="recovery")
    assert answer["state"] == "done"
    assert len(decode_recovery_untrusted(answer["recovery"])) == 32
    assert (await house["desk"].call("admin-recover", key=answer["recovery"], drill=True))["holds"]
    gone = await house["desk"].call("admin-propose", operation="recovery", none=True)
    assert gone["recovery"] is None
    assert (await house["desk"].call("admin-list"))["recovery"] is None
    status = await house["desk"].call("status")
    assert [each["kind"] for each in status["notices"]] == ["recovery-key"]


async def test_signers_of_a_clan_with_two_admins(house: Household) -> None:
    alone = await house["desk"].call("signer-add", line=SIGNER)
    assert (alone["decision"]["state"], alone["signers"]) == ("done", [SIGNER])
    assert (await house["desk"].call("signer-add", line=SIGNER))["decision"] is None
    await house.admins("nas")
    pending = await house["desk"].call("signer-remove", line="alice")
    assert (pending["decision"]["state"], pending["signers"]) == ("pending", [SIGNER])
    assert pending["decision"]["operation"] == "let alice sign commits no more"
    await house.share()
    done = await house["nas"].call("signer-remove", line="alice")
    assert (done["decision"]["state"], done["signers"]) == ("done", [])


async def test_a_checkpoint_is_routine(house: Household) -> None:
    await house.admins("nas")
    answer = await house["nas"].call("repo-checkpoint", commit="ab" * 20)
    assert answer["decision"]["state"] == "done"
    assert (await house["nas"].call("repo-checkpoint", commit="ab" * 20))["decision"] is None
    await house["nas"].call("admin-propose", operation="checkpoint", commit="cd" * 20)
    await house.share()
    assert [commit.hex()[:2] for _, commit in house["desk"].mesh.authority.checkpoints] == ["ab", "cd"]


async def test_one_change_of_the_admins_at_a_time_and_how_to_take_it_back(house: Household) -> None:
    await house.admins("nas", "phone")
    await house.join("lamp")
    first = await house["desk"].call("admin-propose", operation="remove", node="phone")
    root = house["desk"].mesh.ledger.root()
    fault = await house["desk"].refused("admin-propose", operation="add", node="lamp")
    assert f"admin withdraw {first['id'][:10]}" in fault.remedy
    assert "phone" in fault.why
    await house["desk"].refused("remove", node="nas")
    assert house["desk"].mesh.ledger.root() == root  # nothing was signed on the way to a refusal
    await house.share()
    withdrawn = await house["desk"].call("admin-propose", operation="withdrawal", id=first["id"][:8])
    assert (withdrawn["state"], withdrawn["operation"]) == (
        "done",
        f"take back the proposal {first['id'][:10]} to end phone being an admin",
    )
    assert withdrawn["note"] is None
    assert (await house["desk"].call("admin-list"))["settings"] == {}
    await house.share()
    for device in house:
        assert (await device.call("admin-pending"))["pending"] == []
    assert (await house["desk"].call("admin-propose", operation="add", node="lamp"))["state"] == "pending"
    fault = await house["desk"].refused("admin-propose", operation="withdrawal", id=first["id"])
    assert fault.kind == "not-found"


async def test_where_routine_needs_two_a_withdrawal_waits_as_well(house: Household) -> None:
    await house.admins("nas", "phone")
    proposed = await house["desk"].call("admin-propose", operation="thresholds", routine=2)
    await house.share()
    await house["nas"].call("admin-approve", id=proposed["id"])
    await house.share()
    proposed = await house["desk"].call("admin-propose", operation="setting", name="x-a", value="1")
    back = await house["desk"].call("admin-propose", operation="withdrawal", id=proposed["id"])
    assert (back["state"], "still approve" in back["note"]) == ("pending", True)
    assert back["operation"] == f"take back the proposal {proposed['id'][:10]} to set x-a to '1'"
    await house.share()
    assert (await house["nas"].call("admin-approve", id=back["id"]))["state"] == "done"
    await house.share()
    for device in house:
        assert (await device.call("admin-pending"))["pending"] == []
    assert "x-a" not in house["desk"].mesh.authority.chain.settings


async def test_what_lost_a_race_and_was_said_again_is_not_shown_as_lost(house: Household) -> None:
    await house.admins("nas")
    for name in ("desk", "nas"):  # neither hears of the other
        answer = await house[name].call("admin-propose", operation="setting", name=f"x-{name}", value="1")
        assert answer["state"] == "done"
    await house.share()
    for _ in range(3):  # an admin's device says one thing again at a time, when it is its turn
        for device in house:
            device.mesh.handle_deadline(instant())
        await house.share()
    for device in house:
        assert set(device.mesh.authority.chain.settings) == {"x-desk", "x-nas"}
        assert device.mesh.authority.lost, "it is there still, on a branch that nobody follows"
        assert (await device.call("admin-pending"))["lost"] == []
