"""What an idle daemon costs: memory, CPU, bytes on the wire, in clans of 3 and of 10; and how fast it answers.

The overlay is off, so that the traffic is the daemon's own. Traffic is counted at the machine's one interface,
less the Ethernet headers: gossip and mDNS, with their IP and UDP headers.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

from bench.figures import Figure, median, rounded, run
from bench.processes import Usage, read_usage
from bench.world import clan, enter
from clanctl.demo.lab import Lab, Node
from clanctl.demo.network import INTERFACE

SETTLE_S = 30.0  # mDNS announces itself three times, the newest records still travel
IDLE_S = 30.0
RESIDENT_MB_TARGET = 45.0
CPU_PERCENT_TARGET = 0.4
SENT_BYTES_PER_S_TARGET = 300.0
READY_S_TARGET = 1.0
PEERS_S_TARGET = 0.3
PEERS_RUNS = 11
READY_RUNS = 5
_ETHERNET_BYTES = 14
_MB = 1e6


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """Measure clans of each size, and the answers in the last of them."""
    figures: list[Figure] = []
    for size in arguments.nodes:
        with clan(size, 'overlay = "none"\n') as (lab, nodes):
            time.sleep(SETTLE_S)
            figures += _idle(nodes, arguments.seconds)
            if size == min(arguments.nodes):
                figures += [_ready(lab, nodes[-1]), _peers(lab, nodes[0])]
    return figures


def _idle(nodes: Sequence[Node], seconds: float) -> list[Figure]:
    pids = [node.daemon_pid for node in nodes]
    before = [read_usage(pid, INTERFACE) for pid in pids]
    begun = time.monotonic()
    time.sleep(seconds)
    after = [read_usage(pid, INTERFACE) for pid in pids]
    elapsed = time.monotonic() - begun
    label = f"clan of {len(nodes)}: "
    cpu = [100 * (b.cpu_ns - a.cpu_ns) / 1e9 / elapsed for a, b in zip(before, after, strict=True)]
    sent = [_sent(a, b) / elapsed for a, b in zip(before, after, strict=True)]
    return [
        Figure(f"{label}resident", _worst([u.resident_bytes / _MB for u in after]), "MB", RESIDENT_MB_TARGET),
        Figure(f"{label}proportional (PSS)", _worst([u.proportional_bytes / _MB for u in after]), "MB"),
        Figure(f"{label}idle CPU", round(statistics.mean(cpu), 3), "%", CPU_PERCENT_TARGET),
        Figure(f"{label}idle traffic", round(statistics.mean(sent), 1), "B/s", SENT_BYTES_PER_S_TARGET),
    ]


def _sent(before: Usage, after: Usage) -> int:
    packets = after.sent_packets - before.sent_packets
    return after.sent_bytes - before.sent_bytes - packets * _ETHERNET_BYTES


def _worst(values: Sequence[float]) -> float:
    return round(max(values), 1)


def _ready(lab: Lab, node: Node) -> Figure:
    """From starting the process to the first answer on its control socket, with its clan loaded."""
    times = []
    for _ in range(READY_RUNS):
        lab.kill(node)
        begun = time.monotonic()
        lab.start_daemon(node)
        times.append(time.monotonic() - begun)
    return Figure("daemon start to ready", rounded(median(times)), "s", READY_S_TARGET)


def _peers(lab: Lab, node: Node) -> Figure:
    times = []
    for _ in range(PEERS_RUNS):
        begun = time.monotonic()
        lab.ctl(node, "peers")
        times.append(time.monotonic() - begun)
    return Figure("clanctl peers", rounded(median(times)), "s", PEERS_S_TARGET)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.footprint", description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[3, 10], help="sizes of the clans")
    parser.add_argument("--seconds", type=float, default=IDLE_S, help="how long to watch each")
    enter()
    sys.exit(run("footprint", measure, parser))
