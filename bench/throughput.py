"""What a tunnel between two real daemons carries, directly and through a relay, beside two bare wireguard-go.

A clan of five on one LAN: one relays, two have a tunnel, and two more can reach each other only by way of the
first. Beside them are two machines with wireguard-go and nothing else. One TCP stream at a time, in turn, in an
order that changes with each round. Ratios are of neighbours in time: their median is what counts.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.figures import Figure, median, run
from bench.lines import Line, lines_of_clan
from bench.processes import read_usage
from bench.streams import bulk
from bench.wireguards import bare_pair
from bench.world import enter
from clanctl.demo.lab import Lab
from clanctl.demo.network import INTERFACE

DIRECT_RATIO_TARGET: Final = 0.97
RELAYED_BIT_S_TARGET: Final = 300e6  # or half of what goes directly, whichever is less
ROUNDS: Final = 8
SECONDS: Final = 6.0  # of each stream: the daemons need one or two to see that much goes through
KINDS: Final = ("bare", "direct", "relayed")


@dataclass(slots=True)
class Streams:
    """What was measured of one kind: bits a second, and the share of a core that its daemons took, each round."""

    bit_s: list[float] = field(default_factory=list)
    daemons_percent: list[float] = field(default_factory=list)


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """Form the clan, and send."""
    with lines_of_clan() as (lab, lines):
        (bare, beside), addresses = bare_pair(lab, ("bare1", "bare2"))
        lines["bare"] = Line(bare, beside, addresses[1])
        found = {kind: Streams() for kind in KINDS}
        for number in range(arguments.rounds):
            for kind in KINDS[:: 1 if number % 2 else -1]:
                _stream(lab, lines[kind], found[kind], arguments.seconds)
    return figures(found)


def _stream(lab: Lab, line: Line, found: Streams, seconds: float) -> None:
    before_ns = sum(read_usage(pid, INTERFACE).cpu_ns for pid in line.daemons)
    found.bit_s.append(bulk(lab, line.one, line.other, line.address, seconds))
    used_ns = sum(read_usage(pid, INTERFACE).cpu_ns for pid in line.daemons) - before_ns
    found.daemons_percent.append(100 * used_ns / 1e9 / seconds)


def figures(found: dict[str, Streams]) -> list[Figure]:
    """Medians; ratios are those of single rounds."""
    middle = {kind: median(streams.bit_s) or 0.0 for kind, streams in found.items()}
    ratio = _ratio(found["direct"], found["bare"])
    needed_bit_s = min(RELAYED_BIT_S_TARGET, middle["direct"] / 2)
    return [
        Figure("bare wireguard-go", round(middle["bare"] / 1e6), "Mbit/s"),
        Figure("direct, between daemons", round(middle["direct"] / 1e6), "Mbit/s"),
        Figure("direct, of bare", round(ratio, 3), "", DIRECT_RATIO_TARGET, is_floor=True),
        Figure("CPU of both daemons meanwhile", _middle(found["direct"].daemons_percent), "%"),
        Figure("relayed", round(middle["relayed"] / 1e6), "Mbit/s", round(needed_bit_s / 1e6), is_floor=True),
        Figure("relayed, of direct", round(_ratio(found["relayed"], found["direct"]), 3), ""),
        Figure("CPU of the relay's daemon meanwhile", _middle(found["relayed"].daemons_percent), "%"),
    ]


def _ratio(streams: Streams, others: Streams) -> float:
    return median([a / b for a, b in zip(streams.bit_s, others.bit_s, strict=True)]) or 0.0


def _middle(values: Sequence[float]) -> float:
    return round(median(values) or 0.0, 2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.throughput", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each stream")
    enter()
    sys.exit(run("throughput", measure, parser))
