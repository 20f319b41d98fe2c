"""`ping` at the daemon: whom it refuses, and how long it may go on. Answers come in the net tier."""

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from tests.core.households import Household


@pytest.fixture
async def house(tmp_path: Path) -> Household:
    made = Household(tmp_path)
    await made.join("nas")
    return made


async def test_whom_nobody_can_ping(house: Household) -> None:
    desk = house["desk"]
    assert (await desk.refused("ping", node="toaster")).kind == "not-found"
    itself = await desk.refused("ping", node="desk")
    assert (itself.kind, itself.why) == ("usage", "that is this device itself")
    assert (await desk.refused("ping")).kind == "usage"


async def test_without_a_tunnel_it_says_so_and_what_to_do(house: Household) -> None:
    desk = house["desk"]
    desk.clan.overlay.remedy = "wait a moment"
    assert "only just" in (await desk.refused("ping", node="nas")).why
    desk.clan.overlay.failure, desk.clan.overlay.remedy = "no permission", "run it as root"
    fault = await desk.refused("ping", node="nas")
    assert ("no permission" in fault.why, fault.remedy) == (True, "run it as root")
    desk.clan.config = replace(desk.clan.config, overlay="none")
    assert "switched off" in (await desk.refused("ping", node="nas")).why


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("count", 0),
        ("count", 10_001),
        ("interval_ms", 99),
        ("interval_ms", 60_001),
        ("within_s", 0),
        ("count", "5"),
    ],
)
async def test_what_is_out_of_bounds_is_refused(house: Household, key: str, value: object) -> None:
    fault = await house["desk"].refused("ping", node="nas", **{key: value})
    assert (fault.kind, fault.what) == ("usage", f"argument {key!r}")


async def test_few_go_on_at_once(house: Household) -> None:
    desk = house["desk"]
    desk.clan.overlay.backend = object()
    limiter = desk._daemon.watchers
    for number in range(int(limiter.total_tokens)):
        limiter.acquire_on_behalf_of_nowait(number)
    with trio.fail_after(20):
        assert (await desk.refused("ping", node="nas")).what == "watching"
