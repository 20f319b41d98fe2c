"""One record of thousands is older at one device: what it takes until that is found and mended."""

import os
import subprocess
import sys
from pathlib import Path

from clanmesh_protocol.signing import read_untrusted
from tests.core.test_mesh_records import secret
from tests.core.worlds import START_SEQ, found
from tests.sim.world import World

RECORDS = 5000
AUTHORS = 6  # of whom two run
LATENCY_S = 0.01
STEP_S = 0.001
BYTES_MAX = 2500  # beside the record itself, with IP and UDP headers, of both
ROUND_TRIPS_MAX = 4
ROOT = Path(__file__).resolve().parents[2]


def test_one_stale_record_of_five_thousand() -> None:
    clan = found(AUTHORS)
    each = RECORDS // AUTHORS
    words = [
        read_untrusted(clan.sign(author, secret(10), slot=f"s{number}", seq=START_SEQ + 5000), clan.id)
        for author in range(AUTHORS)
        for number in range(each)
    ]
    world = World(AUTHORS, 3, clan=clan, latency_s=(LATENCY_S, LATENCY_S), begins=False)
    for index in (0, 1):
        world.devices[index].disk += words
        world.start(index)
    assert world.run_until(lambda: world.all_up((0, 1)) and world.roots_equal((0, 1)), 10.0)
    world.run(90.0)  # what was said at the start is not news any more
    newer = read_untrusted(clan.sign(3, secret(10), slot="s7", seq=START_SEQ + 6000), clan.id)
    assert len(world.mesh(0).ledger.records()) >= RECORDS
    world.mesh(0).ledger.apply(newer, world.now_s)
    _wait_for_datagram(world)
    world.run(5 * LATENCY_S)  # a probe and its answer, which go each second anyway, have told that the sets differ
    before = sum(device.bytes_sent for device in world.devices)
    began_s = _wait_for_datagram(world)
    while not world.holds(1, newer.value):
        world.run(STEP_S)
        assert world.now_s < began_s + 1.0, "mended before the next probe"
    spent = sum(device.bytes_sent for device in world.devices) - before - len(newer.value.data)
    trips = (world.now_s - began_s) / (2 * LATENCY_S)
    print(f"one stale record of {RECORDS}: {spent} bytes beside it, {trips:.1f} round trips")
    assert spent <= BYTES_MAX
    assert trips <= ROUND_TRIPS_MAX
    assert world.roots_equal((0, 1))


def _wait_for_datagram(world: World) -> float:
    """Let time pass in small steps until a datagram is sent; when that was."""
    sent = sum(device.datagrams_sent for device in world.devices)
    while sum(device.datagrams_sent for device in world.devices) == sent:
        world.run(STEP_S)
    return world.now_s


def test_one_seed_is_one_history_whatever_the_hashes_of_this_process() -> None:
    story = (
        "from tests.sim.settled import settled\n"
        "from tests.sim.test_convergence import trouble\n"
        "from random import Random\n"
        "world, rng = settled(8, 5, loss=0.1), Random(5)\n"
        "for _ in range(15):\n"
        "    trouble(world, rng, [])\n"
        "    world.run(1.0)\n"
        "print(world.trace())\n"
    )
    traces = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT}:{ROOT / 'protocol'}"}
        done = subprocess.run(
            [sys.executable, "-c", story], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        traces.add(done.stdout)
    assert len(traces) == 1
