"""What is said of a packet is what the kernel does with it: rule sets in a real nftables, and real packets."""

import ipaddress
import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest

from clanctl.demo import network
from clanctl.demo.lab import Lab, Node
from clanmeshd.checkup.firewall import iptables, nftables
from clanmeshd.checkup.firewall.fate import Answer, fate
from clanmeshd.checkup.firewall.packets import Wire, incoming, outgoing
from clanmeshd.checkup.firewall.rules import Ruleset
from tests.clock import wait_until
from tests.net import iptables_rules
from tests.net.firewall_rules import INCOMING, OUTGOING, rule_set
from tests.net.test_wireguard import pytestmark as pytestmark
from tests.seeds import seeds

PRINTED = Path(__file__).parents[1] / "core" / "firewalls"
NAMES = ("early", "fail2ban", "firewalld", "lan", "libvirt", "nixos", "nixos-closed", "odd", "openwrt", "server")
OUT_NAMES = ("firewalld-strict", "kill-switch", "strict")
UDP = (68, 137, 1024, 1025, 51_871, 51_872, 51_873)
TCP = (1, 22, 1025, 8080, 50_999, 51_000, 51_871, 51_872)
PATIENCE_S = 20.0
RULE_SETS = 40  # random ones
ORDER = ("metainfo", "table", "chain", "set", "map", "rule")  # elements of maps name chains

HEARER = """
import json, select, socket, sys
heard = []
def opened(kind, port):
    made = socket.socket(socket.AF_INET6, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("::", port))
    if kind == socket.SOCK_STREAM:
        made.listen(16)
    return made
udp = {opened(socket.SOCK_DGRAM, port): port for port in json.loads(sys.argv[1])}
tcp = [opened(socket.SOCK_STREAM, port) for port in json.loads(sys.argv[2])]
print("ready", flush=True)
for line in sys.stdin:
    for each in select.select(list(udp), [], [], 0)[0]:
        while select.select([each], [], [], 0)[0]:
            data, (address, *_) = each.recvfrom(100)
            heard.append([data.decode(), 4 if address.startswith("::ffff:") else 6, udp[each]])
    print(json.dumps(heard), flush=True)
"""

SENDER = """
import errno, json, select, socket, sys
word, hosts, udp, tcp = sys.argv[1], sys.argv[2:4], json.loads(sys.argv[4]), json.loads(sys.argv[5])
waiting, reached = {}, []
for host in hosts:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in udp:  # from the same port each, as members do
        sender = socket.socket(family, socket.SOCK_DGRAM)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sender.bind(("", port))
        try:
            sender.sendto(word.encode(), (host, port))
        except PermissionError:  # a rule of this machine's
            pass
        sender.close()
    for port in tcp:
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setblocking(False)
        if made.connect_ex((host, port)) == errno.EPERM:
            continue
        waiting[made] = [6 if ":" in host else 4, port]
while waiting:
    done = select.select([], list(waiting), [], 0.4)[1]
    for each in done or list(waiting):
        place = waiting.pop(each)
        if each in done and each.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            reached.append(place)
print(json.dumps(reached))
"""


class Hearer:
    """Sockets on a machine, and what came to them."""

    def __init__(self, lab: Lab, node: Node) -> None:
        words = [*network.enter_words(node.pid), sys.executable, "-c", HEARER, json.dumps(UDP), json.dumps(TCP)]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", env=lab.environment(node)
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def heard(self, word: str) -> set[tuple[int, int]]:
        """Families and ports that datagrams with a word came to."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found = json.loads(self._process.stdout.readline())
        return {(family, port) for said, family, port in found if said == word}

    def end(self) -> None:
        """Close them."""
        self._process.communicate()


class Machines(NamedTuple):
    """One that filters what comes in, one that filters what it sends, and a neighbour; and what is heard.

    They are two, since what one sent after it heard something would be an answer.
    """

    lab: Lab
    neighbour: Node
    inward: Node
    outward: Node
    outside: Hearer
    inside: Hearer

    def filtering(self, *, is_outgoing: bool) -> Node:
        """The one that filters."""
        return self.outward if is_outgoing else self.inward


Key: TypeAlias = tuple[str, int, int]  # protocol, version, port


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with Lab(tmp_path_factory.mktemp("fate")) as lab:
        neighbour, inward, outward = (lab.add_node(name) for name in ("neighbour", "inward", "outward"))
        made = Machines(lab, neighbour, inward, outward, Hearer(lab, neighbour), Hearer(lab, inward))
        yield made
        made.outside.end()
        made.inside.end()


def wire(here: str, there: str) -> Wire:
    """By their addresses with the length of the prefix."""
    own, neighbour = (ipaddress.ip_interface(each).ip.packed for each in (here, there))
    return Wire(network.INTERFACE, own, neighbour)


def wires(filtering: Node, neighbour: Node) -> tuple[Wire, Wire]:
    """Of the machine that filters, by IPv4 and by IPv6."""
    here, there = filtering.place, neighbour.place
    return wire(here.ipv4, there.ipv4), wire(here.ipv6, there.ipv6)


def passed(
    machines: Machines, word: str, expected: set[tuple[int, int]], *, tcp: Sequence[int], is_outgoing: bool
) -> set[Key]:
    """Send to all ports; what got through, once `expected` of UDP did."""
    sender, target = machines.neighbour, machines.inward
    if is_outgoing:
        sender, target = machines.outward, machines.neighbour
    hearer = machines.outside if is_outgoing else machines.inside
    hosts = [each.partition("/")[0] for each in (target.place.ipv4, target.place.ipv6)]
    words = [sys.executable, "-c", SENDER, word, *hosts, json.dumps(UDP), json.dumps(tcp)]
    done = machines.lab.exec(sender, words)
    assert done.returncode == 0, done.stderr
    assert wait_until(lambda: hearer.heard(word) >= expected, PATIENCE_S), expected - hearer.heard(word)
    connected = {("tcp", version, port) for version, port in json.loads(done.stdout)}
    return connected | {("udp", version, port) for version, port in hearer.heard(word)}


def load(lab: Lab, filtering: Node, objects: list[dict[str, Any]]) -> bool:
    """Put rules in the place of all others; whether nft takes them."""
    assert lab.exec(filtering, ["nft", "flush", "ruleset"]).returncode == 0
    done = lab.exec(filtering, ["nft", "-j", "-f", "-"], stdin=json.dumps({"nftables": objects}))
    return done.returncode == 0


def compare(
    machines: Machines,
    word: str,
    printed: str,
    ruleset: Ruleset,
    *,
    tcp: Sequence[int] = (),
    is_outgoing: bool = False,
) -> Counter[Answer]:
    """Whether what is said of packets is what becomes of them; how much was said."""
    made = outgoing if is_outgoing else incoming
    said = {
        (protocol, each.version, port): fate(ruleset, made(each, protocol, port, "neighbour", "new")).answer
        for each in wires(machines.filtering(is_outgoing=is_outgoing), machines.neighbour)
        for protocol, ports in (("udp", UDP), ("tcp", tcp))
        for port in ports
    }
    accepted = {key for key, answer in said.items() if answer is Answer.ACCEPTED}
    dropped = {key for key, answer in said.items() if answer is Answer.DROPPED}
    heard = {key[1:] for key in accepted if key[0] == "udp"}
    got = passed(machines, word, heard, tcp=tcp, is_outgoing=is_outgoing)
    assert (accepted - got, dropped & got) == (set(), set()), printed
    return Counter(said.values())


@pytest.mark.parametrize(
    ("name", "is_outgoing"), [*((name, False) for name in NAMES), *((name, True) for name in OUT_NAMES)]
)
def test_the_kernel_does_what_is_said(machines: Machines, name: str, is_outgoing: bool) -> None:
    printed = (PRINTED / f"{name}.json").read_text()
    objects: list[dict[str, Any]] = json.loads(printed)["nftables"]
    objects.sort(key=lambda each: ORDER.index(next(iter(each))))
    assert load(machines.lab, machines.filtering(is_outgoing=is_outgoing), objects)
    said = compare(machines, name, printed, nftables.read(printed), tcp=TCP, is_outgoing=is_outgoing)
    print(said)
    assert said[Answer.NOT_UNDERSTOOD] <= said.total() // 2


@pytest.mark.parametrize("hooks", [INCOMING, OUTGOING], ids=lambda hooks: hooks[0])
def test_the_kernel_does_what_is_said_of_any_rules(machines: Machines, hooks: tuple[str, str]) -> None:
    is_outgoing = hooks == OUTGOING
    lab, filtering = machines.lab, machines.filtering(is_outgoing=is_outgoing)
    (seed,) = seeds(1)
    print(f"seed {seed}")
    rng = random.Random(seed)
    said: Counter[Answer] = Counter()
    for number in range(RULE_SETS):
        if load(lab, filtering, rule_set(rng, UDP, hooks)):  # not those of which nft says that they are absurd
            printed = lab.exec(filtering, ["nft", "-j", "list", "ruleset"]).stdout
            word, ruleset = f"{hooks} {seed} {number}", nftables.read(printed)
            said += compare(machines, word, printed, ruleset, is_outgoing=is_outgoing)
    print(said)
    assert min(said[Answer.ACCEPTED], said[Answer.DROPPED]) > RULE_SETS
    assert said[Answer.NOT_UNDERSTOOD] == 0


@pytest.mark.skipif(shutil.which("iptables-nft-restore") is None, reason="missing: apt install iptables")
@pytest.mark.parametrize("base", ["INPUT", "OUTPUT"])
def test_the_kernel_does_what_is_said_of_any_rules_of_iptables(machines: Machines, base: str) -> None:
    lab, filtering = machines.lab, machines.filtering(is_outgoing=base == "OUTPUT")
    (seed,) = seeds(1)
    print(f"seed {seed}")
    rng = random.Random(seed)
    said: Counter[Answer] = Counter()
    assert load(lab, filtering, [])
    for number in range(RULE_SETS):
        done = lab.exec(filtering, ["iptables-nft-restore"], stdin=iptables_rules.rule_set(rng, UDP, base))
        assert done.returncode == 0, done.stderr
        printed = lab.exec(filtering, ["iptables-nft-save"]).stdout
        word, ruleset = f"{base} {seed} {number}", iptables.read(printed, "ip")
        said += compare(machines, word, printed, ruleset, is_outgoing=base == "OUTPUT")
    print(said)
    assert min(said[Answer.ACCEPTED], said[Answer.DROPPED]) > RULE_SETS
    assert said[Answer.NOT_UNDERSTOOD] < said.total() // 10
