"""Streams through tunnels of a laboratory's machines: as much as goes over one of TCP, and one of UDP at a rate.

    python -m bench.streams receive ADDRESS PORT SECONDS
    python -m bench.streams send ADDRESS PORT BITS_PER_S SECONDS

are the two ends of the second kind. Each prints one JSON object when it is done.
"""

import json
import select
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any, Final, Self

from clanctl.demo.lab import Lab, Node
from clanctl.demo.network import enter_words
from clanctl.demo.processes import LabError
from clanmeshd.sockets import RECEIVED, enlarge

PORT: Final = 5201
DATAGRAM_BYTES: Final = 1200
TICK_S: Final = 0.002  # ten datagrams of 50 Mbit/s
QUIET_S: Final = 1.0  # after the last datagram may still come
BUFFER_BYTES: Final = 8 << 20  # what the receiving program is too late for is no fault of the tunnel
_NUMBER_BYTES: Final = 8
_READY: Final = "ready"


def start(lab: Lab, node: Node, module: str, *words: str) -> "subprocess.Popen[str]":
    """Start a module on a machine, whose lines are to be read."""
    return subprocess.Popen(
        [*enter_words(node.pid), sys.executable, "-m", module, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env=lab.environment(node),
        start_new_session=True,
    )


def line(process: "subprocess.Popen[str]") -> str:
    """The next line of a program. Raises LabError when it has ended."""
    assert process.stdout is not None
    said = process.stdout.readline().strip()
    if not said:
        raise LabError(f"a program ended with {process.wait()}: {process.args!r}")
    return said


def bulk(lab: Lab, one: Node, other: Node, address: str, seconds: float) -> float:
    """Send as much as goes over one TCP stream to an address of the other's; bits a second."""
    with start(lab, other, "tests.net.bulk", "serve", address, str(PORT)) as server:
        line(server)
        with start(lab, one, "tests.net.bulk", "send", address, str(PORT), str(seconds)) as sender:
            sender.wait()
        return float(line(server))


@dataclass(frozen=True, slots=True)
class Carried:
    """What became of a stream of datagrams."""

    sent: int
    received: int

    @property
    def lost_percent(self) -> float:
        """Of those that were sent."""
        return 100 * (1 - self.received / self.sent)


class Paced:
    """A stream of UDP on its way."""

    def __init__(self, receiver: "subprocess.Popen[str]", sender: "subprocess.Popen[str]") -> None:
        self._receiver = receiver
        self._sender = sender

    @classmethod
    def begin(cls, lab: Lab, one: Node, other: Node, address: str, bits_per_s: float, seconds: float) -> Self:
        """Send from one machine to an address of the other's at an even rate. Raises LabError."""
        receiver = start(lab, other, "bench.streams", "receive", address, str(PORT), str(seconds))
        line(receiver)
        words = ("send", address, str(PORT), str(bits_per_s), str(seconds))
        return cls(receiver, start(lab, one, "bench.streams", *words))

    def sent(self) -> int:
        """Wait until all is sent; how many datagrams that were. Raises LabError."""
        with self._sender:
            return int(json.loads(line(self._sender))["sent"])

    def received(self) -> int:
        """Wait until the last may have come; how many did. Raises LabError."""
        with self._receiver:
            return int(json.loads(line(self._receiver))["received"])


def send(address: str, port: int, bits_per_s: float, seconds: float) -> dict[str, Any]:
    """Send numbered datagrams at an even rate; how many."""
    per_s, sent, padding = bits_per_s / 8 / DATAGRAM_BYTES, 0, bytes(DATAGRAM_BYTES - _NUMBER_BYTES)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
        sender.connect((address, port))
        began_s = time.monotonic()
        while (passed_s := time.monotonic() - began_s) < seconds:
            for number in range(sent, int(passed_s * per_s)):
                sender.send(number.to_bytes(_NUMBER_BYTES, "big") + padding)
            sent = max(sent, int(passed_s * per_s))
            time.sleep(TICK_S)
    return {"sent": sent}


def receive(address: str, port: int, seconds: float) -> dict[str, Any]:
    """Count the datagrams of one stream, each once."""
    seen = set[bytes]()
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as receiver:
        enlarge(receiver, BUFFER_BYTES, RECEIVED)
        receiver.bind((address, port))
        print(_READY, flush=True)
        patience_s = seconds + 10 * QUIET_S  # until the first one
        while select.select([receiver], [], [], patience_s)[0]:
            seen.add(receiver.recv(2 * DATAGRAM_BYTES)[:_NUMBER_BYTES])
            patience_s = QUIET_S
    return {"received": len(seen)}


def main(words: list[str]) -> None:
    """Be one end."""
    if words[0] == "send":
        print(json.dumps(send(words[1], int(words[2]), float(words[3]), float(words[4]))))
    else:
        print(json.dumps(receive(words[1], int(words[2]), float(words[3]))))


if __name__ == "__main__":
    main(sys.argv[1:])
