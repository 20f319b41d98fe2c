"""Tunnels that sleep, between real daemons behind routers: the first packet into one is answered within a second.

As in a clan of hundreds, which `awake = 0` makes of four. Their routers forward the port for gossip, or that would
go through the tunnels and keep them awake. They sleep after seconds, and have sessions then once they met.
"""

import os
import re
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from bench.nat_world import NatWorld
from bench.wireguards import read_wireguard
from clanctl.demo.lab import Node
from tests.clock import Stopwatch, wait_until
from tests.net.nat_lab import NatLab
from tests.net.nat_models import Model

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root: run `sudo make test`")

CONFIGURATION = "awake = 0\nmdns = false\nport_mapping = false\n"
CONTROL_PORT = 51871
PATIENCE_S = 20.0
WAKE_S_MAX = 1.0
SLEEPING = "nothing to send"
BUSY = 2.0  # times that a machine that does other things may take

FAR = ("other",)  # a machine takes what is on a network of its own endpoints for near, and such do not sleep
# Who is sent to first by whom, and how the packets can go.
PAIRS = (("easy", "public"), ("public", "hard"), ("easy", "other"), ("hard", "easy"))


@pytest.fixture(scope="module")
def clan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NatWorld, dict[str, Node]]]:
    """A clan of a public machine, which relays, two behind common routers, and one behind a symmetric one."""
    directory = tmp_path_factory.mktemp("sleepers")
    with NatLab() as nats, NatWorld(directory, nats) as world:
        models = {"public": None, "easy": Model.EASY, "other": Model.EASY, "hard": Model.HARD}
        nodes = {name: start(world, nats, name, model) for name, model in models.items()}
        for node in nodes.values():
            world.wait_ready(node)
        founder = nodes["public"]
        world.call(founder, "init", {"name": "family", "node_name": "public", "signers": []})
        world.call(founder, "tag", {"node": "public", "add": ["relay"], "remove": []})
        for name in ("easy", "other", "hard"):
            token = world.call(founder, "invite", {"tags": [], "uses": 1, "ttl_s": 600})["token"]
            world.call(nodes[name], "join", {"token": token, "name": name})
        assert wait_until(lambda: all_know(world, nodes), PATIENCE_S)
        yield world, nodes
    for log in Path(directory).glob("*/daemon.log"):
        assert "Traceback" not in log.read_text(), log.parent.name


def start(world: NatWorld, nats: NatLab, name: str, model: Model | None) -> Node:
    """A machine with a daemon, at a place of its own."""
    site = nats.site(model, is_elsewhere=name in FAR) if model is not None else None
    settings = world.directory / f"{name}.toml"
    settings.write_text(CONFIGURATION)
    if site is not None:
        nats.forward(site, CONTROL_PORT)
        settings.write_text(f'{CONFIGURATION}endpoints = ["{site.outside}:{CONTROL_PORT}"]\n')
    return world.start_at(name, site, "tests.net.sleepy_daemon", "--config", str(settings))


def knows_all(world: NatWorld, node: Node, count: int) -> bool:
    """Whether a machine knows so many members, itself among them, and WireGuard has all others."""
    peers = world.call(node, "peers")["peers"]
    return len(peers) == count and len(read_wireguard(node).peers) == count - 1


def all_know(world: NatWorld, nodes: dict[str, Node]) -> bool:
    """Whether each machine does."""
    return all(knows_all(world, node, len(nodes)) for node in nodes.values())


def sleeps(world: NatWorld, node: Node, other: Node) -> bool:
    """Whether a machine's tunnel to another one sleeps."""
    (peer,) = (each for each in world.call(node, "peers")["peers"] if each["name"] == other.name)
    return str(peer["path"]["why_not_direct"]).startswith(SLEEPING)


def first_reply_s(world: NatWorld, node: Node, other: Node) -> float:
    """How long the first packet to another machine takes, there and back; infinity where it is lost."""
    address = world.address(other)
    done = world.exec(node, ["ping", "-6", "-n", "-c", "1", "-W", str(PATIENCE_S), address])
    found = re.search(r"time=([\d.]+) ms", done.stdout)
    return float(found[1]) / 1000 if found is not None else inf


def forget_sessions(world: NatWorld, nodes: dict[str, Node]) -> None:
    """Take all peers from each machine's WireGuard; its daemon gives them back."""
    for node in nodes.values():
        _forget(world, node)
    assert wait_until(lambda: all_know(world, nodes), PATIENCE_S)


def _forget(world: NatWorld, node: Node) -> None:
    script = "for peer in $(wg show clan0 peers); do wg set clan0 peer $peer remove; done"
    done = world.exec(node, ["sh", "-ec", script])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("has_session", [True, False])
def test_the_first_packet_wakes_both(clan: tuple[NatWorld, dict[str, Node]], has_session: bool) -> None:
    """Without a session it begins one; with one it does not say for whom it is."""
    world, nodes = clan
    pairs = [(nodes[one], nodes[other]) for one, other in PAIRS]

    def all_sleep() -> bool:
        return all(sleeps(world, one, other) and sleeps(world, other, one) for one, other in pairs)

    assert wait_until(all_sleep, PATIENCE_S)
    while not has_session:
        with Stopwatch() as watch:
            forget_sessions(world, nodes)
        if all_sleep():
            break
        assert watch.paused_s, "what is given back sleeps, unless somebody was missed meanwhile and looked for"
        assert wait_until(all_sleep, PATIENCE_S)
    for one, other in pairs:
        with Stopwatch() as watch:
            taken_s = first_reply_s(world, one, other)
        if taken_s > WAKE_S_MAX * BUSY and (watch.paused_s or taken_s < inf):
            print(f"{one.name} to {other.name}: {taken_s:.2f} s at first, {watch.paused_s:.2f} s of them paused")
            assert wait_until(all_sleep, PATIENCE_S)
            taken_s = first_reply_s(world, one, other)  # a machine that pauses in between does so once
        print(f"{one.name} to {other.name}, {'with' if has_session else 'without'} a session: {taken_s:.2f} s")
        assert taken_s <= WAKE_S_MAX * BUSY
