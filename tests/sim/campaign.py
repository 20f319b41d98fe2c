"""Many schedules on all processors, or one to be looked at; see `schedules`.

python -m tests.sim.campaign 17              one schedule, step by step
python -m tests.sim.campaign 17 --shrink     the same, with as few steps as still fail in the same way
python -m tests.sim.campaign 0 --count 1000  a thousand from 0 on; ends with 1 when one failed
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import Final

from clanmesh_protocol.errors import ProtocolError
from tests.sim.honest import Device
from tests.sim.schedules import LIMIT, Broken, Schedule

BATCH: Final = 100  # schedules that a process is given at once: a second of work
WAITING_MAX: Final = 4  # batches for each process that are asked for ahead
FAILURES_MAX: Final = 10  # by then it is clear that something is wrong
PROGRESS_S: Final = 30.0
AGAIN: Final = "PYTHONPATH=protocol .venv/bin/python -m tests.sim.campaign"

Failure = tuple[int, str]  # seed, what was broken


def failure(
    seed: int,
    skipped: frozenset[int] = frozenset(),
    story: list[str] | None = None,
    device: type[Device] = Device,
) -> str | None:
    """Run one schedule; say what was broken. A crash of the code under test is a failure of this seed too."""
    try:
        Schedule(seed, story, skipped, device).run()
    except Broken as broken:
        return str(broken)
    except (ProtocolError, AssertionError, LookupError, ValueError, TypeError, AttributeError) as crash:
        return f"{type(crash).__name__}: {crash}"
    return None


def failures_of(seeds: range) -> list[Failure]:
    """Run some schedules one after the other."""
    found = ((seed, failure(seed)) for seed in seeds)
    return [(seed, what) for seed, what in found if what is not None]


def campaign(first: int, count: int, *, loud: bool = False) -> list[Failure]:
    """Run schedules side by side and give those that failed, the lowest seed first; stops after a few."""
    batches = iter([range(at, min(at + BATCH, first + count)) for at in range(first, first + count, BATCH)])
    found: list[Failure] = []
    processes = len(os.sched_getaffinity(0))
    done, said_s = 0, time.monotonic()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting: dict[Future[list[Failure]], int] = {}
        while sum(not what.startswith(LIMIT) for _, what in found) < FAILURES_MAX:
            for batch in _some(batches, processes * WAITING_MAX - len(waiting)):
                waiting[pool.submit(failures_of, batch)] = len(batch)
            if not waiting:
                break
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                done += waiting.pop(future)
                found += future.result()
            if loud and time.monotonic() > said_s + PROGRESS_S:
                said_s = time.monotonic()
                print(f"{done} schedules from {first} on: {_counts(found)}", flush=True)
        pool.shutdown(cancel_futures=True)
    return sorted(found)


def _counts(found: list[Failure]) -> str:
    failed = sum(not what.startswith(LIMIT) for _, what in found)
    return f"{failed} failed, {len(found) - failed} met a known limit"


def _some(batches: Iterator[range], count: int) -> Iterator[range]:
    for _ in range(count):
        batch = next(batches, None)
        if batch is None:
            return
        yield batch


def shrunk(seed: int, device: type[Device] = Device) -> frozenset[int]:
    """The steps of a failing schedule that can be left out without changing how it fails."""
    before = _kind(failure(seed, device=device))
    skipped: frozenset[int] = frozenset()
    steps = Schedule(seed).steps
    while True:
        known = skipped
        for size in (8, 4, 2, 1):
            for start in range(steps):
                fewer = skipped | frozenset(range(start, min(start + size, steps)))
                if fewer != skipped and _kind(failure(seed, fewer, device=device)) == before:
                    skipped = fewer
        if skipped == known:
            return skipped


def _kind(what: str | None) -> str | None:
    """How it failed, without the numbers in it."""
    return "".join(letter for letter in what if not letter.isdigit()) if what is not None else None


def show(seed: int, shrink: bool) -> bool:
    """Print a schedule's story; say whether it holds."""
    story: list[str] = []
    what = failure(seed, shrunk(seed) if shrink and failure(seed) else frozenset(), story)
    print("\n".join(story))
    print(f"schedule {seed}: {what or 'holds'}")
    return what is None


def main() -> int:
    """Read the command line. Gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.campaign", description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--count", type=int)
    parser.add_argument("--shrink", action="store_true")
    chosen = parser.parse_args()
    if chosen.count is None:
        return 0 if show(chosen.seed, chosen.shrink) else 1
    began_s = time.monotonic()
    found = campaign(chosen.seed, chosen.count, loud=True)
    for seed, what in found:
        print(f"seed {seed}: {what}; again: {AGAIN} {seed} --shrink", flush=True)
    rate = chosen.count / (time.monotonic() - began_s)
    failed = sum(not what.startswith(LIMIT) for _, what in found)
    print(f"{chosen.count} schedules from {chosen.seed} on: {_counts(found)}; {rate:.0f} a second", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
