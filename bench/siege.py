"""A stream of 50 Mbit/s through a tunnel while 50,000 useless packets a second come to one of its ports.

A clan of five real daemons, as for `bench.throughput`, and a stranger on their LAN, who sends one kind of junk
after the other: to the receiver's port of the gossip, to its WireGuard's, where probes arrive, too, and to that of
names; and to the port of the relay by which another pair's stream goes. The stranger knows the ids and public keys
that members know. All of it, the stranger too, shares the machine's cores, and no process is preferred.
"""

import argparse
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final

from bench.figures import Figure, median, run
from bench.flood import Flood, Flooded
from bench.junk import forged, ids
from bench.lines import Line, lines_of_clan
from bench.processes import read_usage
from bench.shapes import probe_kinds, tunnel_kinds
from bench.streams import Carried, Paced
from bench.wireguards import read_wireguard
from bench.world import enter
from clanctl.demo.lab import Lab, Node
from clanctl.demo.network import INTERFACE
from clanctl.demo.processes import LabError
from clanmesh_protocol.limits import PORT_DEFAULT, TUNNEL_PORT_DEFAULT

FLOOD_PER_S: Final = 50_000.0
STREAM_BIT_S: Final = 50e6
SECONDS: Final = 5.0  # of each stream; the flood begins before it and ends after it
AROUND_S: Final = 1.5
LOST_PERCENT_TARGET: Final = 1.0
SENT_PERCENT_TARGET: Final = 90.0  # of the flood: below, the stranger had too little of the machine
NAMES_PORT: Final = 53
RELAY_PORT: Final = TUNNEL_PORT_DEFAULT + 1
SOURCES: Final = "2001:db8:c1a:0:f::"  # of the LAN's own addresses, so that answers have a way
_STRANGER: Final = "stranger"


@dataclass(frozen=True, slots=True)
class Target:
    """Where one kind of junk goes, and the stream that it is to disturb."""

    name: str
    line: Line
    node: Node
    port: int
    datagrams: list[bytes]
    at: str = ""  # an address of the machine's that is none of the LAN's
    is_spread: bool = False  # over many sources, as whoever forges them has them


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one stream."""

    carried: Carried
    flooded: Flooded | None
    arrived_per_s: float  # packets of any kind at the flooded machine
    daemon_percent: float  # of a core, the flooded machine's daemon
    idle_percent: float  # of all cores


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """One kind after the other, each as often as is said."""
    dice = random.Random(arguments.seed)
    with lines_of_clan() as (lab, lines):
        stranger = _stranger(lab)
        targets = list(_targets(lab, lines, dice))
        figures = [_quiet(lab, kind, lines[kind], arguments) for kind in ("direct", "relayed")]
        for target in targets:
            if not arguments.kind or any(word in target.name for word in arguments.kind):
                figures += _besieged(lab, stranger, target, arguments)
        return figures


def _stranger(lab: Lab) -> Node:
    node = lab.add_node(_STRANGER)
    # So that runs are cut apart before they leave: whoever receives them gets packets, as from a real network.
    _run(lab, node, f"ip link set {INTERFACE} gso_max_segs 1 && ip -6 route add local {SOURCES}/112 dev lo")
    return node


def _run(lab: Lab, node: Node, script: str) -> None:
    done = lab.exec(node, ["sh", "-c", script])
    if done.returncode != 0:
        raise LabError(f"{node.name}: {done.stderr.strip()}")


def _targets(lab: Lab, lines: dict[str, Line], dice: random.Random) -> Iterator[Target]:
    direct, relayed = lines["direct"], lines["relayed"]
    target, relay = direct.other, next(iter(lab.nodes.values()))
    known = ids(lab, [node for node in lab.nodes.values() if node.name != _STRANGER])
    members = [node for name, node in known.items() if name != target.name]
    for kind, datagrams in forged(known[target.name], members, dice).items():
        yield Target(f"gossip, {kind}", direct, target, PORT_DEFAULT, sorted(datagrams, key=len))
        yield Target(
            f"gossip, {kind}, many sources", direct, target, PORT_DEFAULT, sorted(datagrams, key=len), "", True
        )
    for kind, datagrams in tunnel_kinds(_key(lab, target), dice).items():
        yield Target(f"WireGuard, {kind}", direct, target, TUNNEL_PORT_DEFAULT, datagrams)
    for kind, datagrams in probe_kinds(known[target.name], members, dice).items():
        yield Target(f"probes, {kind}", direct, target, TUNNEL_PORT_DEFAULT, datagrams)
    yield Target(
        "names", direct, target, NAMES_PORT, tunnel_kinds(bytes(32), dice)["random bytes"], direct.address
    )
    for kind, datagrams in tunnel_kinds(_key(lab, relayed.other), dice).items():
        yield Target(f"relay, {kind}", relayed, relay, RELAY_PORT, datagrams)


def _key(lab: Lab, node: Node) -> bytes:
    """The public key of a machine's WireGuard, as another's knows it."""
    address = IPv6Address(lab.address(node)).packed
    other = next(each for each in lab.nodes.values() if each.name not in (node.name, _STRANGER))
    peers = read_wireguard(other).peers
    return next(key for key, peer in peers.items() if address in {each.ip for each in peer.allowed})


def _quiet(lab: Lab, kind: str, line: Line, arguments: argparse.Namespace) -> Figure:
    outcomes = [_stream(lab, line, line.daemons[-1], arguments.seconds) for _ in range(arguments.rounds)]
    lost = median([outcome.carried.lost_percent for outcome in outcomes])
    return Figure(f"{kind}, no junk: lost", round(lost or 0.0, 2), "%")


def _besieged(lab: Lab, stranger: Node, target: Target, arguments: argparse.Namespace) -> list[Figure]:
    outcomes = []
    place, sources = target.node.place, SOURCES if target.is_spread else ""
    lan = (place.ipv6 if target.is_spread or target.at else place.ipv4).partition("/")[0]
    if target.at:
        _run(lab, stranger, f"ip -6 route replace {target.at}/128 via {lan} dev {INTERFACE}")
    for _ in range(arguments.rounds):
        seconds = arguments.seconds + 2 * AROUND_S
        how = (target.datagrams, arguments.rate, seconds)
        flood = Flood.begin(lab, stranger, (target.at or lan, target.port), *how, in_runs=True, sources=sources)
        pid = target.line.daemons[-1]
        outcomes.append(_stream(lab, target.line, pid, arguments.seconds, flood))
    lost = median([outcome.carried.lost_percent for outcome in outcomes]) or 0.0
    worst = max(outcome.carried.lost_percent for outcome in outcomes)
    sent = [100 * each.flooded.sent / each.flooded.seconds / arguments.rate for each in outcomes if each.flooded]
    return [
        Figure(f"{target.name}: lost", round(lost, 2), "%", LOST_PERCENT_TARGET),
        Figure(f"{target.name}: lost, worst", round(worst, 2), "%"),
        Figure(f"{target.name}: junk sent", round(min(sent), 1), "%", SENT_PERCENT_TARGET, is_floor=True),
        Figure(f"{target.name}: packets arrived", _middle([each.arrived_per_s for each in outcomes]), "/s"),
        Figure(f"{target.name}: CPU of the daemon", _middle([each.daemon_percent for each in outcomes]), "%"),
        Figure(f"{target.name}: cores idle", _middle([each.idle_percent for each in outcomes]), "%"),
    ]


def _stream(lab: Lab, line: Line, pid: int, seconds: float, flood: Flood | None = None) -> Outcome:
    stream = Paced.begin(lab, line.one, line.other, line.address, STREAM_BIT_S, seconds)
    began_s, before, (idle, total) = time.monotonic(), read_usage(pid, INTERFACE), _ticks()
    sent = stream.sent()
    passed_s, after = time.monotonic() - began_s, read_usage(pid, INTERFACE)
    idle_after, total_after = _ticks()
    return Outcome(
        Carried(sent, stream.received()),
        flood.finish() if flood is not None else None,
        (after.received_packets - before.received_packets) / passed_s,
        100 * (after.cpu_ns - before.cpu_ns) / 1e9 / passed_s,
        100 * (idle_after - idle) / (total_after - total),
    )


def _ticks() -> tuple[int, int]:
    """Of all cores together: idle, and all."""
    words = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    ticks = [int(word) for word in words[:8]]
    return ticks[3] + ticks[4], sum(ticks)


def _middle(values: list[float]) -> float:
    return round(median(values) or 0.0, 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.siege", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="streams for each kind of junk")
    parser.add_argument("--rate", type=float, default=FLOOD_PER_S, help="useless packets a second")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each stream")
    parser.add_argument("--kind", action="append", help="only kinds whose name has this in it (may be repeated)")
    parser.add_argument("--seed", type=int, default=1, help="of what is random in the junk")
    enter()
    sys.exit(run("siege", measure, parser))
