"""What a change of keys costs those who talk meanwhile, when every device of a clan changes its keys at once.

Real daemons with WireGuard overlays. Between each two of them a ping passes ten times a second, from either side.
All are told to rotate at once; a ping is lost when it was not answered within the second that `ping` gives it.
"""

import argparse
import itertools
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from bench.figures import Figure, load, median, run
from bench.world import clan, enter
from clanctl.demo.lab import Lab, Node
from clanctl.demo.network import network_words
from clanctl.demo.processes import wait_until

NODES: Final = 3
LOST_TARGET: Final = 1  # of a stream, for each rotation of the whole clan
INTERVAL_S: Final = 0.1
ANSWER_S: Final = 1  # a ping that takes longer is lost for most who wait for it
FLOW_TIMEOUT_S: Final = 60.0  # of the first handshakes of all pairs
ROTATED_TIMEOUT_S: Final = 120.0
STEADY_S: Final = 3.0  # before the rotation, and after it: thirty pings that must not be lost either

_REPLY: Final = re.compile(r"icmp_seq=(\d+) ttl=\d+ time=([\d.]+) ms")
_COUNTS: Final = re.compile(r"(\d+) packets transmitted, (\d+) received")

Pair = tuple[Node, Node]


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """Rotate the keys of a whole clan at once, several times, under a load of pings."""
    busy = load("before")
    with clan(arguments.nodes) as (lab, nodes):
        addresses = {node.name: lab.address(node) for node in nodes}
        _await_flow(lab, nodes, addresses)
        rounds = [_round(lab, nodes, addresses) for _ in range(arguments.rounds)]
    lost = [max(each.values()) for each, _, _ in rounds]
    total = [sum(each.values()) for each, _, _ in rounds]
    return [
        Figure(f"pings lost by one stream, worst of {arguments.rounds} rotations", max(lost), "", LOST_TARGET),
        Figure("pings lost by all streams of a rotation, median", median(total), ""),
        Figure("slowest ping of a rotation, worst", round(max(slowest for _, slowest, _ in rounds), 1), "ms"),
        Figure("from the command to the last new key, worst", round(max(each for *_, each in rounds), 1), "s"),
        busy,
    ]


def _round(lab: Lab, nodes: Sequence[Node], addresses: dict[str, str]) -> tuple[dict[str, int], float, float]:
    """Rotate once: lost pings by stream, the slowest answer (ms), and how long it took (s)."""
    before = {node.name: _public_key(lab, node) for node in nodes}
    pairs = list(itertools.permutations(nodes, 2))
    with _pings(pairs, addresses) as streams:
        time.sleep(STEADY_S)
        begun_s = time.monotonic()
        for node in nodes:
            lab.call(node, "rotate", {})
        if not wait_until(lambda: _all_new(lab, nodes, before), ROTATED_TIMEOUT_S):
            sys.exit("bench.rotation: not every device has a new key")
        took_s = time.monotonic() - begun_s
        time.sleep(STEADY_S)
        told = {f"{a.name}-{b.name}": _ended(stream) for (a, b), stream in zip(pairs, streams, strict=True)}
    return {name: _lost(text) for name, text in told.items()}, max(map(_slowest_ms, told.values())), took_s


def _public_key(lab: Lab, node: Node) -> str:
    """The interface's own key, as WireGuard says it."""
    return lab.exec(node, ["wg", "show", "all", "public-key"]).stdout.split()[-1]


def _all_new(lab: Lab, nodes: Iterable[Node], before: dict[str, str]) -> bool:
    return all(_public_key(lab, node) != before[node.name] for node in nodes)


def _await_flow(lab: Lab, nodes: Sequence[Node], addresses: dict[str, str]) -> None:
    def flows() -> bool:
        return all(_answers(lab, a, addresses[b.name]) for a, b in itertools.permutations(nodes, 2))

    if not wait_until(flows, FLOW_TIMEOUT_S):
        sys.exit("bench.rotation: not all devices can ping one another")


def _answers(lab: Lab, node: Node, address: str) -> bool:
    return lab.exec(node, ["ping", "-6", "-n", "-c", "1", "-W", "1", address]).returncode == 0


@contextmanager
def _pings(pairs: Iterable[Pair], addresses: dict[str, str]) -> "Iterator[list[subprocess.Popen[str]]]":
    streams = []
    try:
        for source, target in pairs:
            words = ["ping", "-6", "-n", "-i", str(INTERVAL_S), "-W", str(ANSWER_S), addresses[target.name]]
            entering = network_words(source.pid)  # this alone: it is ping that we signal
            streams.append(subprocess.Popen([*entering, *words], stdout=subprocess.PIPE, text=True))
        yield streams
    finally:
        for stream in streams:
            stream.kill()
            stream.wait()


def _ended(stream: "subprocess.Popen[str]") -> str:
    """End one stream as a person would; all that it said."""
    stream.send_signal(signal.SIGINT)
    said, _ = stream.communicate()
    return said


def _lost(said: str) -> int:
    """Pings without an answer, or with one that came too late; the last may still be under way."""
    sent, _ = map(int, _COUNTS.findall(said)[-1])
    in_time = {number for number, ms in _REPLY.findall(said) if float(ms) <= 1000 * ANSWER_S}
    return sum(str(number) not in in_time for number in range(1, sent))


def _slowest_ms(said: str) -> float:
    return max(float(ms) for _, ms in _REPLY.findall(said))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.rotation", description=__doc__)
    parser.add_argument("--nodes", type=int, default=NODES, help="daemons, all of which change their keys")
    parser.add_argument("--rounds", type=int, default=3, help="how often they do")
    enter()
    sys.exit(run("rotation", measure, parser))
