"""What a daemon does when there is nothing to do, and what it does not load to be there at all."""

import ast
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from clanmesh_protocol.records import Kind
from clanmeshd.alerting import Alerting
from clanmeshd.driver import instant
from clanmeshd.nearby import follow_secret
from clanmeshd.resealing import keep_sealed
from tests.core.households import Household

ROOT = Path(__file__).resolve().parents[2]
QUIET_S = 600
STEPS_PER_MINUTE_MAX = 3  # a look at what only time brings, with its pause

# Each costs 1 to 12 MB of resident memory, or is an event loop beside the one that there is.
NEVER_LOADED = (
    "asyncio",
    "cryptography",
    "OpenSSL",
    "click",
    "email",
    "http",
    "multiprocessing",
    "pyroute2.iproute",
    "pyroute2.netlink.rtnl",
    "pyroute2.ndb",
    "rich",
    "segno",
    "sqlite3",
    "unittest",
    "xml",
    "zeroconf",
)


class Steps(trio.abc.Instrument):
    """Counts how often each task was run."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """A task goes on."""
        self.of[task.name.rpartition(".")[2]] += 1


@pytest.fixture
async def house(tmp_path: Path) -> Household:
    return Household(tmp_path)


async def test_who_waits_for_news_sleeps_until_there_are_some(house: Household, autojump_clock: MockClock) -> None:
    clan = house["desk"].clan
    steps = Steps()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_sealed, clan.driver, clan.keeper)
        nursery.start_soon(follow_secret, clan.driver, clan.keys, lambda: clan.membership, lambda adopted: None)
        nursery.start_soon(Alerting(clan.driver).run)
        await trio.sleep(60)
        trio.lowlevel.add_instrument(steps)
        await trio.sleep(QUIET_S)
        trio.lowlevel.remove_instrument(steps)
        nursery.cancel_scope.cancel()
    steps.of.pop("<Root>", None)
    watching = {name: count for name, count in steps.of.items() if name in ("keep_sealed", "follow_secret", "run")}
    assert all(count <= STEPS_PER_MINUTE_MAX * QUIET_S / 60 for count in watching.values()), steps.of


async def test_news_are_told_when_records_change_and_not_before(house: Household) -> None:
    driver = house["desk"].clan.driver
    await driver.settle()
    news = driver.news
    await driver.settle()
    assert driver.news is news
    driver.mesh.withdraw(Kind.SECRET, "gone", instant())
    await driver.settle()
    assert news.is_set()
    assert not driver.news.is_set()


async def test_news_are_waited_for_and_then_a_little(house: Household, autojump_clock: MockClock) -> None:
    driver = house["desk"].clan.driver
    began_s = trio.current_time()
    await driver.quiet(driver.news, 60.0, 1.0)
    assert trio.current_time() - began_s == pytest.approx(61.0)
    news = driver.news
    driver.mesh.withdraw(Kind.SECRET, "gone", instant())
    await driver.settle()
    began_s = trio.current_time()
    await driver.quiet(news, 60.0, 1.0)
    assert trio.current_time() - began_s == pytest.approx(1.0)


def test_a_daemon_loads_nothing_that_it_can_be_without() -> None:
    script = "import sys, clanmeshd.daemon; print(sorted(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protocol'}"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=30, check=True
    )
    loaded = set(ast.literal_eval(done.stdout))
    assert "clanmeshd.net.radio" in loaded  # all that runs is there
    assert loaded.isdisjoint(NEVER_LOADED)
