"""Ways that take less than 1500 bytes: found by real daemons, and what is sent in bulk arrives.

desk --+-- the LAN, whose cable to `dark` drops what has more than 1400 bytes, without a word
dark --+
gate --+-- a network of 1400 bytes -- far        gate routes, and says what is too big
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from clanctl.demo.lab import Lab, Node
from clanctl.demo.network import enter_words
from clanmesh_protocol.endpoints import endpoint
from clanmeshd.overlay.scouting import outer_mtu, send_ahead
from tests.clock import wait_until
from tests.net.clan_of_daemons import Clan

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root: run `sudo make test`")

ROOT = Path(__file__).resolve().parents[2]
NARROW = 1400
BY_IPV4 = 1328  # the largest multiple of 16 with its headers in that
DARK = range(1312, 1345, 16)  # likewise by either family; and a cable forgives 4 bytes, for a tag of a VLAN
FOUND_S = 12.0
BULK_S, BULK_BITS_MIN = 1.0, 5e6  # a way that loses large packets moves nothing
TRIES = 3
FAR = "198.51.100"


@pytest.fixture(scope="module")
def clan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clan]:
    directory = tmp_path_factory.mktemp("mtu")
    with Lab(directory) as lab:
        made = Clan(lab, "mdns = false\n", "desk", "nas")
        dark, gate, far = (lab.add_node(name) for name in ("dark", "gate", "far"))
        lab.configure(lab._switch.pid, f"link set {dark.place.port} mtu {NARROW}\n")
        _part(lab, gate, far)
        for node in (made.founder, made.nodes[1]):
            lab.configure(node.pid, f"route add {FAR}.0/24 via {_ipv4(gate)}\n")
        for node in (dark, far):
            node.arguments = ("--config", str(directory / "clan.toml"))
            lab.start_daemon(node)
            made.join(node, made.token())
            made.nodes.append(node)
        yield made
    for log in directory.glob("*/daemon.log"):
        assert "Traceback" not in log.read_text(), log.read_text()


def _ipv4(node: Node) -> str:
    return str(IPv4Interface(node.place.ipv4).ip)


def _part(lab: Lab, gate: Node, far: Node) -> None:
    """Move a machine behind another one, on a network that takes less."""
    lab.configure(far.pid, "link delete eth0\n")
    lab.configure(
        gate.pid,
        f"link add narrow mtu {NARROW} type veth peer name eth0 mtu {NARROW} netns {far.pid}\n"
        f"address add {FAR}.1/24 dev narrow\nlink set narrow up\n",
    )
    lab.configure(
        far.pid, f"address add {FAR}.2/24 dev eth0\nlink set eth0 up\nroute add default via {FAR}.1 dev eth0\n"
    )
    done = lab.exec(gate, ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
    assert done.returncode == 0, done.stderr


def sizes(clan: Clan, node: Node) -> dict[str, int | None]:
    """What a machine has found of the ways to the others."""
    peers = clan.lab.call(node, "peers")["peers"]
    return {str(peer["name"]): peer["path"]["mtu"] for peer in peers if peer["path"]["kind"] != "self"}


def routed(clan: Clan, node: Node, other: Node) -> int:
    """The largest packet that a machine's system sends to another one through the tunnel."""
    said = clan.lab.exec(node, ["ip", "-6", "route", "get", clan.address(other)]).stdout.split()
    return int(said[said.index("mtu") + 1])


def bulk(clan: Clan, one: Node, other: Node) -> float:
    """Bits a second of one TCP stream through the tunnel."""
    address = clan.address(other)

    def start(node: Node, *words: str) -> "subprocess.Popen[str]":
        argv = [*enter_words(node.pid), sys.executable, "-m", "tests.net.bulk", *words]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, encoding="utf-8", env=clan.lab.environment(node))

    with start(other, "serve", address, "9000") as server:
        assert server.stdout is not None
        assert server.stdout.readline().strip() == "ready"
        with start(one, "send", address, "9000", str(BULK_S)):
            return float(server.stdout.readline())


def test_each_finds_what_its_ways_take(clan: Clan) -> None:
    desk, nas, dark, far = clan.nodes
    assert wait_until(lambda: None not in sizes(clan, desk).values(), FOUND_S), sizes(clan, desk)
    found = sizes(clan, desk)
    print(found)
    assert found["nas"] == 1420
    assert found["dark"] in DARK
    assert found["far"] == BY_IPV4
    assert wait_until(lambda: sizes(clan, far)["desk"] == BY_IPV4, FOUND_S), sizes(clan, far)
    assert wait_until(lambda: sizes(clan, dark)["desk"] in DARK, FOUND_S), sizes(clan, dark)
    for node, size in ((dark, found["dark"]), (nas, 1420), (far, BY_IPV4)):
        assert wait_until(lambda node=node, size=size: routed(clan, desk, node) == size, FOUND_S), node.name


@pytest.mark.parametrize("name", ["dark", "far"])
def test_bulk_passes_both_ways(clan: Clan, name: str) -> None:
    desk = clan.founder
    other = next(node for node in clan.nodes if node.name == name)
    for one, two in ((desk, other), (other, desk)):
        bits_s = [bulk(clan, one, two)]
        while bits_s[-1] <= BULK_BITS_MIN and len(bits_s) < TRIES:
            bits_s.append(bulk(clan, one, two))  # the machine may have stood still all that second
        print(f"{one.name} to {two.name}: {bits_s[-1] / 1e6:.0f} Mbit/s")
        assert bits_s[-1] > BULK_BITS_MIN, bits_s


def test_doctor_and_peers_say_it(clan: Clan) -> None:
    desk = clan.founder
    said = clan.lab.ctl(desk, "doctor").stdout
    assert f"packets in the tunnel to far have {BY_IPV4} bytes at most, not 1420" in said
    assert "packets of 1420 bytes pass in the tunnel to nas" in said


def test_what_a_router_says_is_known_to_the_system(clan: Clan) -> None:
    """One packet that must not be cut has it said; without one, WireGuard of the kernel's would never hear."""
    desk = clan.founder
    assert clan.lab.exec(desk, ["ip", "route", "flush", "cache"]).returncode == 0
    words = "import sys; from tests.net.test_path_mtu import heard; print(heard(sys.argv[1]))"
    done = clan.lab.exec(desk, [sys.executable, "-c", words, f"{FAR}.2"], directory=ROOT)
    assert done.stdout.split() == ["1500", str(NARROW)], done.stderr


def heard(address: str) -> str:
    """What the system of this machine knows of a way, before and after."""
    at = endpoint(address, 51_999)
    before = outer_mtu(at)
    send_ahead(at, 1480)
    wait_until(lambda: outer_mtu(at) != before, FOUND_S)
    return f"{before} {outer_mtu(at)}"
