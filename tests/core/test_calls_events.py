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
    await house.join("nas")
    await house.admins("nas")
    desk = house["desk"]
    alerting = Alerting(desk.clan.driver)
    alerting.tell(standing_alarms(desk.mesh))
    newest = desk.clan.driver.events.newest
    proposed = await house["nas"].call("admin-propose", operation="thresholds", govern=2)
    await house.share()
    for _ in range(2):
        alerting.tell(standing_alarms(desk.mesh))
    told = [each for each in (await desk.call("events", after=newest))["events"] if each["kind"] == "alarm"]
    assert len(told) == 1
    assert "nas proposes to" in told[0]["text"]
    await desk.call("admin-approve", id=proposed["id"])
    alerting.tell(standing_alarms(desk.mesh))
    assert [each["kind"] for each in (await desk.call("events", after=newest))["events"]][-1] == "alarm-over"


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
