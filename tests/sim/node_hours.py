"""Hours of quiet clans in which a tenth of all datagrams is lost: nobody may be said to be down.

python -m tests.sim.node_hours 17               one hour of one device, as 17 chooses it
python -m tests.sim.node_hours 0 --count 1000   a thousand from 0 on, on all processors; 1 when any failed
"""

import argparse
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Final

from tests.sim.settled import settled
from tests.sim.world import World

SIZES: Final = (2, 3, 5, 10, 20, 40)  # by turns
LOSS: Final = 0.1
HOUR_S: Final = 3600.0  # of all devices together
PROGRESS_S: Final = 30.0
AGAIN: Final = "PYTHONPATH=protocol .venv/bin/python -m tests.sim.node_hours"


def downs(world: World) -> int:
    """How often anybody was said to be down."""
    return sum(1 for device in world.devices for _, event in device.events if event.kind == "member-down")


def false_downs(seed: int) -> int:
    """Let one clan lose datagrams for one node-hour; how often anybody was said to be down."""
    size = SIZES[seed % len(SIZES)]
    world = settled(size, seed, loss=LOSS)
    world.run(HOUR_S / size)
    return downs(world)


def campaign(seeds: Iterable[int]) -> list[int]:
    """Run many side by side; give the seeds that failed."""
    failed: list[int] = []
    said_s = time.monotonic()
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("spawn")) as pool:
        for seed, wrong in zip(seeds, pool.map(false_downs, seeds), strict=True):
            if wrong:
                failed.append(seed)
                print(f"seed {seed}: {wrong} false verdicts; again: {AGAIN} {seed}", flush=True)
            if time.monotonic() >= said_s + PROGRESS_S:
                said_s = time.monotonic()
                print(f"up to {seed}: {len(failed)} of them failed", flush=True)
    return failed


def main() -> int:
    """Run what is asked for."""
    options = argparse.ArgumentParser(prog="tests.sim.node_hours", description="Node-hours under loss.")
    options.add_argument("seed", type=int, help="the first one")
    options.add_argument("--count", type=int, default=1, help="how many node-hours, one a seed [1]")
    arguments = options.parse_args()
    first, count = arguments.seed, arguments.count
    failed = campaign(range(first, first + count))
    print(
        f"{count} node-hours from seed {first} on: {len(failed)} with false verdicts; go on with {first + count}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
