"""`events`: what happened, and a wait for the next; alarms are told when they begin and when they end."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from clanmeshd.alerting import SETTLE_S, Alerting, standing_alarms
from clanmeshd.events import EVENTS_MAX, Events
from tests.core.households import Household


@pytest.fixture
async def house(tmp_path: Path) -> Household:
    return Household(tmp_path)


async def test_what_happened_is_told_in_order_and_once(house: Household) -> None:
    await house.join("nas")
    told = await house["desk"].call("events")
    kinds = [each["kind"] for each in told["events"]]
    assert "member-joined" in kinds
    ids = [each["id"] for each in told["events"]]
    assert ids == sorted(set(ids))
    assert told["newest"] == ids[-1]
    assert (await house["desk"].call("events", after=told["newest"]))["events"] == []
    assert (await house["desk"].call("events", after=ids[0]))["events"] == told["events"][1:]


async def test_a_wait_ends_with_an_event(house: Household) -> None:
    newest = (await house["desk"].call("events"))["newest"]
    answers = []

    async def wait() -> None:
        answers.append(await house["desk"].call("events", after=newest, wait_s=25))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            house["desk"].clan.driver.events.add("test", "something")
    assert [each["text"] for each in answers[0]["events"]] == ["something"]


async def test_a_wait_ends_without_one_and_waits_are_few(house: Household, autojump_clock: MockClock) -> None:
    newest = (await house["desk"].call("events"))["newest"]
    before = trio.current_time()
    assert (await house["desk"].call("events", after=newest, wait_s=20))["events"] == []
    assert trio.current_time() - before == pytest.approx(20)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(lambda: house["desk"].call("events", after=newest, wait_s=20))
        await trio.sleep(1)
        fault = await house["desk"].refused("events", after=newest, wait_s=20)
    assert fault.kind == "refused"
    assert (await house["desk"].refused("events", wait_s=26)).kind == "usage"


async def test_the_ring_is_bounded_and_ids_of_another_run_give_all() -> None:
    events = Events()
    for number in range(EVENTS_MAX + 5):
        events.add("test", str(number))
    assert len(list(events)) == EVENTS_MAX
    assert [event.text for event in events.since(events.newest - 1)] == [str(EVENTS_MAX + 4)]
    assert len(events.since(events.newest + 1)) == EVENTS_MAX


async def test_an_alarm_is_told_when_it_begins_and_when_it_ends(house: Household) -> None:
    desk = house["desk"]
    alerting = Alerting(desk.clan.driver)
    alerting.tell(standing_alarms(desk.mesh))
    newest = desk.clan.driver.events.newest
    await desk.call("admin-propose", operation="recovery", none=True)
    for _ in range(2):
        alerting.tell(standing_alarms(desk.mesh))
    told = [each for each in (await desk.call("events", after=newest))["events"] if each["kind"] == "alarm"]
    assert len(told) == 1
    assert "no recovery key" in told[0]["text"]
    await desk.call("admin-propose", operation="recovery")
    alerting.tell(standing_alarms(desk.mesh))
    assert [each["kind"] for each in (await desk.call("events", after=newest))["events"]][-1] == "alarm-over"


def told(house: Household, name: str, *kinds: str) -> list[str]:
    """What a device told of some kinds, in order."""
    return [event.text for event in house[name].clan.driver.events if event.kind in kinds]


async def test_a_proposal_that_is_said_again_is_told_once(house: Household) -> None:
    await house.join("nas", "phone", "lamp")
    await house.admins("nas", "phone")
    proposed = await house["desk"].call("admin-propose", operation="thresholds", govern=3)
    await house.share()
    alerting = Alerting(house["nas"].clan.driver)
    for value in ("1", "2"):
        alerting.tell(standing_alarms(house["nas"].mesh))
        await house["phone"].call("admin-propose", operation="setting", name="x-n", value=value)
        await house.share()
    (again,) = (await house["nas"].call("admin-pending"))["pending"]
    assert again["id"] != proposed["id"]
    assert again["operation"] == proposed["operation"]
    for name in ("nas", "lamp"):
        assert len([text for text in told(house, name, "proposal") if "need a weight" in text]) == 1
    assert told(house, "nas", "alarm", "alarm-over") == []
    await house["desk"].call("admin-propose", operation="withdrawal", id=again["id"])
    await house.share()
    assert told(house, "lamp", "operation")[-1] == (
        f"desk decided: take back the proposal {again['id'][:10]} "
        "to need a weight of 3 to govern and 1 for routine"
    )
    await house["desk"].call("admin-propose", operation="thresholds", govern=3)
    await house.share()
    assert len([text for text in told(house, "lamp", "proposal") if "need a weight" in text]) == 2


async def test_who_is_put_out_is_named_and_by_whom_and_why(house: Household) -> None:
    await house.join("nas", "phone", "lamp")
    await house["desk"].call("remove", node="phone", reason="sold to Bob")
    await house["desk"].call("remove", node="lamp")
    await house.share("desk", "nas")
    assert sorted(told(house, "nas", "member-left")) == [
        "lamp is no member any more: desk removed it",
        "phone is no member any more: desk removed it (sold to Bob)",
    ]
    nodes = [
        each["node"] for each in (await house["nas"].call("events"))["events"] if each["kind"] == "member-left"
    ]
    assert sorted(nodes) == ["lamp", "phone"]


async def test_a_recovery_names_whom_it_put_out(house: Household) -> None:
    await house.join("nas", "phone")
    key = house.recovery
    await house["nas"].call("admin-recover", key=key, add="nas", remove="desk", new_key=True)
    await house.share("nas", "phone")
    for name in ("nas", "phone"):
        assert told(house, name, "operation") == [
            "the recovery key decided: make nas an admin of weight 1",
            "the recovery key decided: end desk being an admin",
            "the recovery key decided: replace the recovery key",
        ]
        gone = "desk is no member any more: nas removed it (removed with the recovery key)"
        assert gone in told(house, name, "member-left")


async def test_what_becomes_of_members_and_invites_is_told(house: Household) -> None:
    await house.join("nas", "phone")
    newest = len(told(house, "nas", "member-joined", "invite-made"))
    await house["desk"].call("rename", node="phone", name="handy")
    await house["desk"].call("tag", node="handy", add=["backup", "media"], remove=[])
    await house.share()
    await house["desk"].call("tag", node="handy", add=["kids"], remove=["media"])
    made = await house["desk"].call("invite", tags=["kids"], uses=2)
    await house.share()
    (invite,) = [key.hex() for key, each in house["desk"].mesh.authority.invites.items() if each.invite.uses == 2]
    await house["desk"].call("invite-revoke", id=invite)
    await house.share()
    assert made
    assert newest
    assert told(house, "nas", "member-renamed", "member-tagged") == [
        "phone is called handy now, by the word of desk",
        "handy is tagged +backup +media, by the word of desk",
        "handy is tagged +kids -media, by the word of desk",
    ]
    assert told(house, "nas", "invite-made", "invite-ended")[-2:] == [
        f"desk made the invite {invite[:10]}, for 2 devices +kids",
        f"the invite {invite[:10]} of desk was withdrawn",
    ]
    assert "by the invite" in told(house, "desk", "member-joined")[-1]


async def test_alarms_are_watched(house: Household, autojump_clock: MockClock) -> None:
    desk = house["desk"]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Alerting(desk.clan.driver).run)
        await trio.sleep(SETTLE_S + 2)
        await desk.call("admin-propose", operation="recovery", none=True)
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    told = [event for event in desk.clan.driver.events if event.kind == "alarm"]
    assert ["no recovery key" in event.text for event in told] == [True]
