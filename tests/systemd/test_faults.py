"""Faults in the midst of activations: whatever dies, hangs or is full, the machine has a daemon and a way back.

Twenty-four of them here, from all steps and kinds; `tests/systemd/faults.py` runs hundreds.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.systemd import disk
from tests.systemd.faults import Fault, all_faults, try_fault
from tests.systemd.machines import machines
from tests.systemd.upgrades import try_broken_upgrade, upgrade
from tests.systemd.world import World

UPGRADES = 4
MACHINES = 3  # side by side: most of the time they wait for systemd's pauses

# Each step that is recorded with each victim, and each kind at least once in a good and in a bad revision.
FAULTS = [
    [
        Fault("test", "kill daemon", is_bad=False),
        Fault("health", "kill activator", is_bad=False),
        Fault("rollback", "kill both", is_bad=True),
        Fault("commit", "power cut", is_bad=False),
        Fault("test-end", "kill guard", is_bad=False),
        Fault("hook", "kill worker", is_bad=True),
        Fault("health", "full disk", is_bad=False),
        Fault("build", "kill daemon", is_bad=False),
    ],
    [
        Fault("test", "kill both", is_bad=False),
        Fault("commit-end", "kill worker", is_bad=False),
        Fault("rollback-end", "power cut", is_bad=True),
        Fault("health", "hang activator", is_bad=False),
        Fault("hook", "kill activator", is_bad=False),
        Fault("rollback", "full disk", is_bad=True),
        Fault("commit", "kill guard", is_bad=False),
        Fault("health", "hang script", is_bad=False),
    ],
    [
        Fault("test", "power cut", is_bad=False),
        Fault("rollback", "kill worker", is_bad=True),
        Fault("commit", "kill both", is_bad=False),
        Fault("health", "kill daemon", is_bad=False),
        Fault("rollback-end", "kill activator", is_bad=True),
        Fault("hook", "power cut", is_bad=False),
        Fault("test", "kill worker", is_bad=False),
        Fault("build", "hang script", is_bad=False),
    ],
]


@pytest.fixture(scope="module")
def worlds(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[World]]:
    """Machines that are copies of one."""
    if disk.lacking():
        pytest.skip(disk.lacking())
    with machines(lambda: tmp_path_factory.mktemp("world"), wheels, MACHINES) as made:
        yield made


def test_no_fault_leaves_a_machine_without_daemon_network_or_good_revision(worlds: list[World]) -> None:
    """On each machine one after the other: what a fault leaves behind is what the next one meets."""
    assert sum(map(len, FAULTS)) == 24
    with ThreadPoolExecutor(MACHINES) as pool:
        found = [line for lines in pool.map(_try_all, worlds, FAULTS) for line in lines]
    assert found == []


def _try_all(world: World, faults: list[Fault]) -> list[str]:
    found = []
    for number, fault in enumerate(faults):
        troubles = try_fault(world, fault, f"fault {number}")
        found += [f"{fault}: {trouble}" for trouble in troubles]
        if troubles:
            break  # what follows would only repeat it
    return found


def test_the_daemon_upgrades_itself(worlds: list[World]) -> None:
    """Its unit, its program, its unit, its program: no result is lost, each hook runs once, it runs the newest."""
    assert [line for number in range(1, 1 + UPGRADES) for line in upgrade(worlds[0], number)] == []


def test_an_upgrade_that_does_not_start_is_undone(worlds: list[World]) -> None:
    """The daemon of before is back by itself, and has the result."""
    assert try_broken_upgrade(worlds[1]) == []


def test_the_campaign_knows_each_of_them() -> None:
    """Those above are a sample of what the long run takes one after the other."""
    known = all_faults()
    assert [fault for faults in FAULTS for fault in faults if fault not in known] == []
    assert len(known) >= 60
