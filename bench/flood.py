"""Sends datagrams at an even pace, and counts what comes back: the flooder of `bench.garbage` and `bench.siege`.

It runs as a process of its own on a machine of the lab: `python -m bench.flood HOST PORT RATE SECONDS`, with the
datagrams to send in turn on its stdin, each behind its length (u16). It prints one JSON object when it is done.
With `--runs` those of one size that lie side by side are sent by one call, and cut apart by the kernel: a tenth of
the work for the sender, and the same packets on the wire. With `--sources` each call is from another address of a
network that is the machine's own.
"""

import argparse
import itertools
import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from ipaddress import IPv6Address
from typing import Final, NamedTuple, Self, TypeAlias

from bench.world import INSIDE
from clanctl.demo.lab import Lab, Node
from clanctl.demo.network import enter_words

TICK_S: Final = 0.001  # 10 datagrams of 10,000 a second
_LATE_S: Final = 0.1  # what a busy machine held up for longer is not caught up with: that would be a burst
RUN_DATAGRAMS_MAX: Final = 50  # of one call: what is due in a tick of 50,000 a second
RUN_BYTES_MAX: Final = 65_000
_READ_BYTES: Final = 2048
_SOL_UDP: Final = 17
_UDP_SEGMENT: Final = 103
_IPV6_FREEBIND: Final = 78  # Linux; none of the three is in the socket module
SOURCES: Final = 4096  # more than anybody keeps in mind
_Ancillary: TypeAlias = tuple[int, int, bytes]
_READY: Final = b"ready\n"


@dataclass(frozen=True, slots=True)
class Flooded:
    """What a flooder sent, and what came back to it, within some seconds."""

    sent: int
    sent_bytes: int
    heard: int
    heard_bytes: int
    seconds: float
    worst_ratio: float  # of the bytes heard to those sent, at the worst moment of a tick


class Flood:
    """A flooder under way on a machine. `finish` waits for its end."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    @classmethod
    def begin(
        cls,
        lab: Lab,
        node: Node,
        to: tuple[str, int],
        datagrams: Sequence[bytes],
        rate: float,
        seconds: float,
        *,
        in_runs: bool = False,
        sources: str = "",
    ) -> Self:
        """Start it, and return as it sends the first. `to`: address and port; `rate`: datagrams a second."""
        words = [sys.executable, "-m", "bench.flood", to[0], str(to[1]), str(rate), str(seconds)]
        words += (["--runs"] if in_runs else []) + (["--sources", sources] if sources else [])
        process = subprocess.Popen(
            [*enter_words(node.pid), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**lab.environment(node), INSIDE: "1"},
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"".join(len(data).to_bytes(2, "big") + data for data in datagrams))
        process.stdin.close()
        if process.stdout.readline() != _READY:
            process.kill()
            process.wait()
            raise OSError("the flooder did not start")
        return cls(process)

    def finish(self) -> Flooded:
        """Wait until it has sent everything. Raises OSError when it failed."""
        assert self._process.stdout is not None
        with self._process.stdout as answer:
            text = answer.read()
        if self._process.wait() != 0:
            raise OSError("the flooder failed")
        return Flooded(**json.loads(text))


class Run(NamedTuple):
    """What one call sends: datagrams of this size behind one another."""

    data: bytes
    size: int
    datagrams: int


def runs(datagrams: Sequence[bytes], longest: int) -> list[Run]:
    """Put neighbours of one size together, as many as may be sent by one call."""
    made: list[Run] = []
    for size, group in itertools.groupby(datagrams, key=len):
        each, most = list(group), max(1, min(longest, RUN_BYTES_MAX // max(1, size)))
        parts = (each[at : at + most] for at in range(0, len(each), most))
        made += (Run(b"".join(part), size, len(part)) for part in parts)
    return made


def flood(
    host: str, port: int, sent_in_turn: Sequence[Run], rate: float, seconds: float, sources: str = ""
) -> Flooded:
    """Send at an even pace, one run after the other and then from the first again."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    turns, origins = itertools.cycle(sent_in_turn), itertools.cycle(_origins(sources))
    sent = sent_bytes = heard = heard_bytes = 0
    worst_ratio = 0.0
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        if sources:
            sender.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        sender.connect((host, port))
        begun = time.monotonic()
        credited = 0.0  # datagrams that were held up too long to be sent still
        while (elapsed := time.monotonic() - begun) < seconds:
            due = int(elapsed * rate - credited)
            if due - sent > rate * _LATE_S:
                credited += due - sent - rate * TICK_S
                due = int(elapsed * rate - credited)
            while sent < due:
                run = next(turns)
                sent_bytes += _sent(sender, run, next(origins))
                sent += run.datagrams
            for size in _heard(sender):
                heard += 1
                heard_bytes += size
            if sent_bytes:
                worst_ratio = max(worst_ratio, heard_bytes / sent_bytes)
            time.sleep(TICK_S)
    return Flooded(sent, sent_bytes, heard, heard_bytes, elapsed, worst_ratio)


def _origins(network: str) -> list[list[_Ancillary]]:
    """What has a datagram come from each of so many addresses; once nothing, from the socket's own."""
    if not network:
        return [[]]
    first = int(IPv6Address(network))
    packed = (IPv6Address(first + number).packed for number in range(1, SOURCES + 1))
    return [[(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, ip + bytes(4))] for ip in packed]


def _sent(sender: socket.socket, run: Run, origin: list[_Ancillary]) -> int:
    size = [] if run.datagrams == 1 else [(_SOL_UDP, _UDP_SEGMENT, struct.pack("=H", run.size))]
    try:
        return sender.sendmsg([run.data], [*size, *origin]) if size or origin else sender.send(run.data)
    except (BlockingIOError, ConnectionRefusedError):
        return 0  # no room, or nobody there yet: as lost as on the way


def _heard(sender: socket.socket) -> list[int]:
    sizes = []
    while True:
        try:
            sizes.append(len(sender.recv(_READ_BYTES)))
        except (BlockingIOError, ConnectionRefusedError):
            return sizes


def _datagrams(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        found.append(data[at + 2 : end])
        at = end
    return found


def main() -> int:
    """Flood as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m bench.flood", description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("rate", type=float, help="datagrams a second")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--runs", action="store_true", help="send neighbours of one size by one call")
    parser.add_argument("--sources", default="", metavar="ADDRESS", help="the first of many to send from")
    arguments = parser.parse_args()
    made = runs(_datagrams(sys.stdin.buffer.read()), RUN_DATAGRAMS_MAX if arguments.runs else 1)
    sys.stdout.buffer.write(_READY)
    sys.stdout.flush()
    to = arguments.host, arguments.port
    print(json.dumps(asdict(flood(*to, made, arguments.rate, arguments.seconds, arguments.sources))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
