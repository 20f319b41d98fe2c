"""What 10,000 useless datagrams a second cost a daemon, and whether anybody is disturbed by them.

A stranger on the LAN of a clan of three floods one of them, with one kind of junk after the other, while the two
others set secrets that have to reach it and each other. CPU is the scheduler's own count of the flooded daemon,
less what it takes with the same secrets and no flood, watched before each kind. An update has crossed once the
logs on all three disks hold it. All of it is done twice: with the receive buffer that CAP_NET_ADMIN gives, and
with the one that a system grants without it.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.figures import Figure, run
from bench.flood import Flood, Flooded
from bench.junk import forged, ids, recorded
from bench.processes import read_usage
from bench.record_logs import RecordLogs
from bench.world import all_up, clan, enter
from clanctl.demo.lab import Lab, Node
from clanctl.demo.network import INTERFACE, names
from clanctl.demo.processes import wait_until
from clanmesh_protocol.keys import ClanId
from clanmesh_protocol.limits import PORT_DEFAULT

RATE_PER_S: Final = 10_000.0
SECONDS: Final = 6.0  # of each flood; without one it is half of that
RECORDING_S: Final = 6.0  # of honest traffic: some 30 datagrams
CPU_PERCENT_TARGET: Final = 10.0
LATER_MS_TARGET: Final = 50.0  # the median update: two pauses of the port and a turn of 256
ROUND_TRIP_MS_TARGET: Final = 50.0
REPLIED_RATIO_TARGET: Final = 1.0
UNSENT_PERCENT_TARGET: Final = 3.0  # above, the flooder had too little of the machine for the figures to count
BUFFERS: Final = {"large": "clanmeshd", "small": "bench.small_buffer"}  # the target's program

_SIZE: Final = 3
_UPDATE_EVERY_S: Final = 0.25
_UPDATES: Final = 8  # names that take turns: what a daemon holds must not grow from one flood to the next
_CROSSING_S_MAX: Final = 5.0  # then it is lost
_SETTLE_S: Final = 20.0
_POLL_S: Final = 0.001
_SECRET_BYTES: Final = 64


@dataclass(slots=True)
class Watched:
    """What was seen of the clan for some seconds."""

    cpu_percent: float = 0.0
    crossings_s: list[float] = field(default_factory=list)  # until an update was with all
    lost: int = 0
    doubts: int = 0  # times that one was seen in another state than up
    round_trip_ms: float = 0.0  # the longest of the flooded one's estimates, at the end
    dropped: int = 0  # datagrams that the kernel had no room for


class Exchange:
    """Three machines of which the first two, in turn, say something that all have to hear."""

    def __init__(self, lab: Lab, nodes: Sequence[Node]) -> None:
        *self.authors, self.target = nodes
        self._lab = lab
        self._number = 0
        membership = lab.call(self.target, "status")["clan"]
        states = {node.name: node.instance.state_directory for node in nodes}
        self._logs = RecordLogs(ClanId(bytes.fromhex(membership["id"])), states)

    def watch(self, seconds: float) -> Watched:
        """Let them, for some seconds. The CPU is the third one's."""
        pid = self.target.daemon_pid
        seen, begun, before_ns = Watched(), time.monotonic(), read_usage(pid, INTERFACE).cpu_ns
        dropped = _dropped(pid)
        due_s = begun
        while due_s < begun + seconds:
            self._update(seen)
            due_s = max(due_s + _UPDATE_EVERY_S, time.monotonic())
            time.sleep(max(0.0, due_s - time.monotonic()))
        cpu_ns, elapsed_s = read_usage(pid, INTERFACE).cpu_ns - before_ns, time.monotonic() - begun
        seen.cpu_percent = 100 * cpu_ns / 1e9 / elapsed_s
        seen.dropped = _dropped(pid) - dropped
        peers = self._lab.call(self.target, "peers")["peers"]
        seen.round_trip_ms = max((peer["path"]["rtt_ms"] or 0.0 for peer in peers), default=0.0)
        seen.doubts += sum(peer["state"] != "up" for peer in peers)
        return seen

    def _update(self, seen: Watched) -> None:
        self._number += 1
        author, other = self.authors[:: 1 if self._number % 2 else -1]
        name, value = f"update-{self._number % _UPDATES}", self._number.to_bytes(_SECRET_BYTES, "big")
        # For the author's own device: a secret for others has each of them start a process to put it in place.
        args = {"name": name, "value": value, "for": [author.name], "owner": "root", "group": "root"}
        begun = time.monotonic()
        self._lab.call(author, "secrets-set", args | {"mode": 0o400})
        while not self._is_everywhere() and time.monotonic() < begun + _CROSSING_S_MAX:
            time.sleep(_POLL_S)
        took_s = time.monotonic() - begun
        if took_s < _CROSSING_S_MAX:
            seen.crossings_s.append(took_s)
        else:
            seen.lost += 1
        peers = self._lab.call(other, "peers")["peers"]
        seen.doubts += sum(peer["state"] != "up" for peer in peers)

    def _is_everywhere(self) -> bool:
        self._logs.refresh()
        return self._logs.equal()


def _dropped(pid: int) -> int:
    """What the kernel had no room for at a process's UDP ports, by the last column of its tables."""
    tables = ((Path("/proc") / str(pid) / "net" / name).read_text().splitlines()[1:] for name in ("udp", "udp6"))
    return sum(int(line.split()[-1]) for table in tables for line in table)


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """One clan for each size of the buffer."""
    return [figure for buffer in arguments.buffer or BUFFERS for figure in _measure(buffer, arguments)]


def _measure(buffer: str, arguments: argparse.Namespace) -> Iterator[Figure]:
    """One flood after the other."""
    dice = random.Random(arguments.seed)
    with clan(_SIZE, 'overlay = "none"\n', programs={names(_SIZE)[-1]: BUFFERS[buffer]}) as (lab, nodes):
        stranger, target = lab.add_node("stranger"), nodes[-1]
        known = ids(lab, nodes)
        members = [node for name, node in known.items() if name != target.name]
        kinds = forged(known[target.name], members, dice) | recorded(lab, target, RECORDING_S)
        if not wait_until(lambda: all_up(lab, nodes), _SETTLE_S):
            sys.exit("the clan is not whole after one of it was started anew")
        exchange = Exchange(lab, nodes)
        exchange.watch(1.0)
        where = target.place.ipv4.partition("/")[0], PORT_DEFAULT
        for name in [name for name in kinds if not arguments.kind or name in arguments.kind]:
            quiet = exchange.watch(arguments.seconds / 2)
            flood = Flood.begin(lab, stranger, where, kinds[name], arguments.rate, arguments.seconds + 1.0)
            seen = exchange.watch(arguments.seconds)
            yield from _figures(f"{buffer} buffer, {name}", seen, quiet, flood.finish(), arguments.rate)


def _figures(name: str, seen: Watched, quiet: Watched, flooded: Flooded, rate: float) -> list[Figure]:
    unsent = 100 * max(0.0, 1 - flooded.sent / (rate * flooded.seconds))
    dropped = 100 * seen.dropped / max(1, flooded.sent)
    later_ms = _median_ms(seen) - _median_ms(quiet)
    return [
        Figure(f"{name}: CPU with no flood", round(quiet.cpu_percent, 2), "%"),
        Figure(f"{name}: CPU", round(seen.cpu_percent - quiet.cpu_percent, 2), "%", CPU_PERCENT_TARGET),
        Figure(f"{name}: update with no flood, median", _median_ms(quiet), "ms"),
        Figure(f"{name}: update later, median", round(later_ms, 1), "ms", LATER_MS_TARGET),
        Figure(f"{name}: updates lost", seen.lost, "", 0),
        Figure(f"{name}: doubts of the living", seen.doubts, "", 0),
        Figure(f"{name}: round trip", round(seen.round_trip_ms, 1), "ms", ROUND_TRIP_MS_TARGET),
        Figure(f"{name}: bytes back for each sent", round(flooded.worst_ratio, 6), "", REPLIED_RATIO_TARGET),
        Figure(f"{name}: dropped by the kernel", round(dropped, 2), "%"),
        Figure(f"{name}: not sent", round(unsent, 1), "%", UNSENT_PERCENT_TARGET),
    ]


def _median_ms(seen: Watched) -> float:
    return round(1000 * statistics.median(seen.crossings_s), 1) if seen.crossings_s else float("inf")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.garbage", description=__doc__)
    parser.add_argument("--rate", type=float, default=RATE_PER_S, help="datagrams a second")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long each flood is watched")
    parser.add_argument("--kind", action="append", help="only this kind of junk (may be repeated)")
    parser.add_argument("--buffer", action="append", choices=BUFFERS, help="only this one")
    parser.add_argument("--seed", type=int, default=1, help="of what is random in the junk")
    enter()
    sys.exit(run("garbage", measure, parser))
