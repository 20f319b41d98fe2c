"""What can go wrong with an activation, where, and whom it hits; and one trial of it.

    python -m tests.systemd.faults FIRST --count N [--minutes M] [--machines K]

runs the faults number FIRST to FIRST + N - 1; the last line says where to go on.
"""

import os
import random
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from tests.clock import wait_until
from tests.systemd.container import folder_of_wheels
from tests.systemd.machines import Numbers, campaign, temporary_machines
from tests.systemd.world import ROLLOUT_TIMEOUT_S, STATE, UNIT, World

# Points of the scripts at which a fault strikes: within each step that is recorded, at its beginning or its end.
POINTS_GOOD: Final = ("build", "test", "test-end", "health", "commit", "commit-end", "hook")
POINTS_BAD: Final = ("rollback", "rollback-end", "hook")
KINDS: Final = (
    "kill daemon",
    "kill guard",
    "kill worker",
    "kill activator",
    "kill both",
    "hang script",
    "hang activator",
    "power cut",
    "full disk",
)
FULL_S: Final = 8.0  # that the disk stays full, if it is not over before
RESTART_S: Final = 30.0  # until systemd has started an activator again, which waits for the lock of what is left
DELAY_S_MAX: Final = 0.05  # between the point and the fault, in the campaign


@dataclass(frozen=True)
class Fault:
    """One fault: `is_bad` says that the revision is not healthy, so that it is undone."""

    point: str
    kind: str
    is_bad: bool

    def __str__(self) -> str:
        return f"{self.kind} at {self.point} of a {'bad' if self.is_bad else 'good'} revision"


def all_faults() -> list[Fault]:
    """Every point with every kind that can strike there."""
    found = []
    for is_bad, points in ((False, POINTS_GOOD), (True, POINTS_BAD)):
        for point in points:
            # Before the activation there is no activator, and a hook that hangs is bounded by a minute.
            for kind in KINDS:
                if point == "build" and ("guard" in kind or "worker" in kind or "activator" in kind):
                    continue
                if kind == "hang script" and point in ("hook", "rollback", "rollback-end"):
                    continue  # a way back that hangs is no way back: the revision was not good
                if kind == "hang activator" and point == "hook":
                    continue  # the result is there, and nothing to go back from
                found.append(Fault(point, kind, is_bad))
    return found


def try_fault(world: World, fault: Fault, name: str, delay_s: float = 0.0) -> list[str]:
    """Push a revision, strike, and wait for the end. Gives what is not well then."""
    if fault.is_bad:
        world.write({"unwell": name})
    else:
        world.remove("unwell")
    world.write({"also": "#!/bin/sh\nsystemctl stop other.service\n"}) if fault.is_bad else world.remove("also")
    world.hold_at(fault.point)
    commit = world.push(name)
    if not wait_until(world.is_held, ROLLOUT_TIMEOUT_S):
        return [f"it never came to {fault.point}: {world.status()}"]
    time.sleep(delay_s)
    _strike(world, fault)
    if not world.has_ended(commit):
        return [f"it did not end: {world.status()}"]
    found = [*world.troubles(commit), *_troubles_of_hooks(world, fault, commit)]
    if world.status().get("commit") == commit:
        world.good = commit
    return found


def _strike(world: World, fault: Fault) -> None:
    match fault.kind.split():
        case ["kill", who]:
            _kill(_victims(world, who), signal.SIGKILL)
            world.release()
        case ["hang", "script"]:
            assert wait_until(lambda: not _is_held(world), ROLLOUT_TIMEOUT_S)
            world.release()
        case ["hang", "activator"]:
            _kill(world.activators(), signal.SIGSTOP)
            timer = _dead_man(world)
            # What the timer would start when the time is up, minutes from now.
            world.machine.run("systemctl", "start", "--no-block", timer.replace(".timer", ".service"))
            assert wait_until(lambda: not _is_held(world), ROLLOUT_TIMEOUT_S)
            world.release()
        case ["power", "cut"]:
            world.power_cut()
        case ["full", "disk"]:
            world.disk.fill()
            world.release()
            # It must end while the disk is full: how, it can say only afterwards.
            wait_until(lambda: not world.activators(), FULL_S)
            world.disk.relieve()
        case _:
            raise AssertionError(fault.kind)


def _victims(world: World, who: str) -> list[int]:
    activators = world.activators()
    daemon = world.machine.processes(UNIT)
    return {
        "daemon": daemon,
        "guard": activators[:1],
        "worker": activators[1:],
        "activator": activators,
        "both": [*activators, *daemon],
    }[who]


def _kill(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _dead_man(world: World) -> str:
    told = world.machine.run("systemctl", "list-units", "--plain", "--no-legend", "clanmesh-guard-*.timer")
    # One for nas, and one for the peer while that is at work as well: the state has the number of ours.
    state = (world.disk.place / STATE / "activation.state.json").read_text()
    names = [line.split()[0] for line in told.splitlines() if line.split()[0][15:-6] in state]
    assert len(names) == 1, told
    return names[0]


def _is_held(world: World) -> bool:
    """The script that has come to the point is still there."""
    return bool(world.machine.processes_with(b"/opt/faults/point"))


def _troubles_of_hooks(world: World, fault: Fault, commit: str) -> list[str]:
    """Each outcome is told, and once."""
    state = {"current": "good", "rolled-back": "rolled-back"}.get(str(world.status().get("state")), "failed")
    if twice := world.told_twice():
        return [f"the hook was told twice of {twice}"]
    if wait_until(lambda: world.outcomes(commit) == [state], RESTART_S):
        return []
    told = world.outcomes(commit)
    if told == [] and fault.point == "hook" and fault.kind == "full disk":
        return []  # it could not write what it was told
    return [f"the hook was told {told}, and it is {state}"]


def main() -> int:
    """Run a part of the campaign. Gives the exit status."""
    parser = campaign("Faults during activations.", "fault", 200)
    parser.add_argument("--machines", type=int, default=2, help="side by side")
    arguments = parser.parse_args()
    numbers = Numbers(arguments.first, arguments.first + arguments.count, arguments.minutes)
    many = arguments.machines
    with temporary_machines(folder_of_wheels(), many) as worlds, ThreadPoolExecutor(many) as pool:
        list(pool.map(partial(_try_many, numbers), worlds))
    for number in numbers.failed:
        print(f"faults: again: python -m tests.systemd.faults {number} --count 1", file=sys.stderr)
    print(f"faults: {'some failed' if numbers.failed else 'all well'}; go on with {numbers.next}")
    return 1 if numbers.failed else 0


def _try_many(numbers: Numbers, world: World) -> None:
    faults = all_faults()
    for number in numbers:
        dice = random.Random(number)
        fault = faults[number % len(faults)]
        started = time.monotonic()
        try:
            found = try_fault(world, fault, f"fault {number}", dice.uniform(0, DELAY_S_MAX))
        except AssertionError as error:
            found = [str(error)]
        if found:
            numbers.fail(number)
        seconds = time.monotonic() - started
        print(f"fault {number}: {fault}: {'; '.join(found) or 'well'} ({seconds:.1f} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
