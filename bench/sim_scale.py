"""Large clans in the simulator: whole cores with real cryptography, on a virtual clock, on one core.

`python -m bench.sim_scale [--nodes 1000] [--parts steady,partition,loss,cold] [--seed 1] [--json] [--check]`.

- steady: what a clan that is quiet costs, for a minute of its time; sessions begin in it.
- partition: two halves that have taken each other for down long ago, and write 100 records each; how long after
  they can reach each other again each record is everywhere.
- loss: small records by devices chosen at random, at 1, 5 and 25 % loss: how long until the last device has each,
  and how often its bytes were sent for each device.
- cold: all start at once, with nothing but who is a member, and the address of one.
"""

import argparse
import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Final

from bench.figures import Figure, median, run
from bench.pages import collapse
from clanmesh_protocol.keys import NodeId, RecordId
from clanmesh_protocol.records import Record
from clanmeshd.core.gossip import Gossip
from tests.core.test_mesh_records import secret
from tests.sim.settled import part, settled
from tests.sim.world import World

STEADY_S: Final = 60.0
UPDATES: Final = 20  # of each rate of loss: the p99 of so few is the worst one
UPDATE_BYTES: Final = 64
UPDATE_EVERY_S: Final = 2.0
LOOK_EVERY_S: Final = 0.02
LOSSES: Final = ((0.01, 0.8, 4.2), (0.05, 0.8, 4.2), (0.25, 4.0, None))  # rate, target s, target sends
SPREAD_S_MAX: Final = 60.0
DIFFERENCES: Final = 100  # of each half
PARTED_S: Final = 10.0  # in which each half has agreed on its own
COLD_S_MAX: Final = 120.0
NODES_OF_TARGETS: Final = 1000

PARTS: Final = ("steady", "partition", "loss", "cold")


class Sends:
    """How often each record was sent in whole."""

    def __init__(self) -> None:
        self.of: dict[RecordId, int] = {}

    @contextmanager
    def counting(self) -> Iterator["Sends"]:
        """Count in all cores of this process."""
        push = Gossip.push

        def counted(gossip: Gossip, node: NodeId, record: Record) -> None:
            self.of[record.id] = self.of.get(record.id, 0) + 1
            push(gossip, node, record)

        Gossip.push = counted  # type: ignore[assignment,method-assign]
        try:
            yield self
        finally:
            Gossip.push = push  # type: ignore[method-assign]


def say(text: str) -> None:
    """Tell who waits how far it is."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def write(world: World, index: int, slot: str) -> Record:
    """Let a device publish something small."""
    record = world.mesh(index).publish(secret(UPDATE_BYTES), slot=slot, now=world.now(index))
    world.settle(index)
    return record


def reach(world: World, records: list[Record], seconds: float) -> list[float]:
    """After how many seconds each device had each record; infinity where it did not in time."""
    began_s = world.now_s
    missing = {(index, number) for index in world.alive for number in range(len(records))}
    times: list[float] = []
    while missing and world.now_s < began_s + seconds:
        world.run(LOOK_EVERY_S)
        there = {(index, number) for index, number in missing if world.holds(index, records[number])}
        missing -= there
        times += [round(world.now_s - began_s, 2)] * len(there)
    return times + [float("inf")] * len(missing)


def percentile(values: list[float], share: float) -> float | None:
    """The value that a share of all do not exceed; None of nothing, or when it is infinite."""
    if not values:
        return None
    value = sorted(values)[min(len(values) - 1, int(len(values) * share))]
    return value if value < float("inf") else None


def steady(world: World, target: bool) -> Iterator[Figure]:
    """A minute in which nothing happens."""
    began_s, delivered = time.process_time(), world.delivered
    sent = sum(device.bytes_sent for device in world.devices)
    world.run(STEADY_S)
    took_s, count = time.process_time() - began_s, len(world.devices)
    yield Figure("steady: CPU for 60 s of all", round(took_s, 1), "s", 15.0 if target else None)
    yield Figure("steady: CPU a datagram", round(took_s * 1e6 / max(1, world.delivered - delivered)), "us")
    rate = (sum(device.bytes_sent for device in world.devices) - sent) / STEADY_S / count
    yield Figure("steady: sent by a node", round(rate), "B/s")


def spread(
    world: World, rng: Random, rate: float, target_s: float | None, sends: float | None
) -> Iterator[Figure]:
    """Small records, one after the other, while a share of all datagrams is lost."""
    world.loss, count = rate, len(world.devices)
    times, lasts, copies = [], [], []
    with Sends().counting() as sent:
        for number in range(UPDATES):
            record = write(world, rng.randrange(count), f"loss{rate}-{number}")
            times += (reached := reach(world, [record], SPREAD_S_MAX))
            lasts.append(max(reached))
            world.run(UPDATE_EVERY_S)
            copies.append(sent.of[record.id] / count)
    world.loss = 0.0
    name = f"{rate:.0%} loss"
    yield Figure(f"{name}: at a node, median", percentile(times, 0.5), "s")
    yield Figure(f"{name}: at a node, p99", percentile(times, 0.99), "s")
    yield Figure(f"{name}: at the last node, median of {UPDATES}", percentile(lasts, 0.5), "s")
    yield Figure(f"{name}: at the last node, p99 of {UPDATES}", percentile(lasts, 0.99), "s", target_s)
    yield Figure(f"{name}: whole sends for a node", median([round(each, 2) for each in copies]), "", sends)


def partition(world: World, rng: Random, target: bool) -> Iterator[Figure]:
    """Two halves that have taken each other for down; then they meet."""
    count = len(world.devices)
    halves = (range(count // 2), range(count // 2, count))
    part(world, *halves)
    records = [write(world, rng.choice(half), f"part-{n}") for half in halves for n in range(DIFFERENCES)]
    world.run(PARTED_S)
    say("they meet")
    world.heal()
    began_s, began_cpu_s = world.now_s, time.process_time()
    there = reach(world, records, SPREAD_S_MAX)
    name = f"partition of {count // 2}/{count - count // 2}"
    yield Figure(f"{name}: a record at a node, p99", percentile(there, 0.99), "s")
    yield Figure(f"{name}: all of {len(records)} at all", percentile(there, 1.0), "s", 10.0 if target else None)
    yield Figure(f"{name}: CPU until then", round(time.process_time() - began_cpu_s), "s")
    whole = world.run_until(world.all_up, SPREAD_S_MAX)
    yield Figure(f"{name}: everybody sees all again", round(world.now_s - began_s, 1) if whole else None, "s")


def cold(size: int, seed: int, target: bool) -> Iterator[Figure]:
    """All begin at once, and know one address."""
    began_s = time.process_time()
    world = World(size, seed)
    done = world.run_until(lambda: len(world.alive) == size and world.all_up(), COLD_S_MAX)
    at_s = round(world.now_s, 1) if done else None
    yield Figure("cold start: everybody sees all", at_s, "s", 30.0 if target else None)
    yield Figure("cold start: CPU of it", round(time.process_time() - began_s), "s")


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """Do the parts that are asked for."""
    size, seed = arguments.nodes, arguments.seed
    target = size >= NODES_OF_TARGETS
    parts = arguments.parts.split(",")
    figures: list[Figure] = []

    def keep(some: Iterator[Figure]) -> None:
        for figure in some:
            say(f"{figure.name}: {figure.value} {figure.unit}")
            figures.append(figure)

    def do(name: str, part: Callable[[], Iterator[Figure]]) -> None:
        if name in parts:
            say(f"{name}, {size} nodes, seed {seed}")
            keep(part())

    if set(parts) - {"cold"}:
        say(f"setting up {size} nodes")
        gc.disable()  # a thousand cores in one process are a thousand times what one has to look through
        world, rng = settled(size, seed), Random(f"scale {seed}")
        gc.freeze()
        gc.enable()
        say(f"{collapse() >> 20} MiB in huge pages")
        do("steady", lambda: steady(world, target))
        do("partition", lambda: partition(world, rng, target))  # before loss, of which suspicions are left
        for rate, target_s, sends in LOSSES:
            if "loss" in parts:
                say(f"{rate:.0%} loss")
                keep(spread(world, rng, rate, target_s if target else None, sends if target else None))
    do("cold", lambda: cold(size, seed, target))
    return figures


def main() -> int:
    """Run the benchmark."""
    options = argparse.ArgumentParser(prog="bench.sim_scale", description="Large clans in the simulator.")
    options.add_argument("--nodes", type=int, default=NODES_OF_TARGETS, help="how many devices [1000]")
    options.add_argument("--seed", type=int, default=1, help="of every die [1]")
    options.add_argument("--parts", default=",".join(PARTS), help="which of them, with commas")
    return run("sim_scale", measure, options)


if __name__ == "__main__":
    sys.exit(main())
