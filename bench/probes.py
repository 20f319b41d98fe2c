"""A steady stream of small packets over the overlay, between one machine and each of the others, both ways.

One thread sends and receives for all machines: a socket belongs to the network namespace that it was made in,
whoever holds it. So all times are of one clock.
"""

import ipaddress
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from clanctl.demo.lab import Node
from clanctl.demo.network import network_words

INTERVAL_S: Final = 0.05  # 20 a second and direction: twice as fine as a tenth of a second
_PACKET: Final = b"?"
_READ_BYTES: Final = 64
_READS_MAX: Final = 64  # of one socket before the others have their turn

_MAKE_SOCKET: Final = (
    "import socket, sys\n"
    "made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n"
    "made.bind(('::', int(sys.argv[1])))\n"
    "socket.send_fds(socket.socket(fileno=0), [b'.'], [made.fileno()])\n"
)


@dataclass(slots=True)
class Seen:
    """What arrived of one stream: how many packets, and when the newest did (monotonic s)."""

    count: int = 0
    last_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Station:
    """A machine as the probes see it."""

    name: str
    address: str  # of the overlay, as text
    socket: socket.socket


@dataclass(slots=True)
class Probes:
    """Streams between the machine `target` and each other one, while the context lasts."""

    target: Station
    others: Mapping[str, Station]  # by address
    port: int
    heard: dict[str, Seen] = field(default_factory=dict)  # by name: packets of the target that arrived there
    answered: dict[str, Seen] = field(default_factory=dict)  # by name: packets from there that reached the target
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.heard = {station.name: Seen() for station in self.others.values()}
        self.answered = {station.name: Seen() for station in self.others.values()}
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join()
        for station in (self.target, *self.others.values()):
            station.socket.close()

    def last_s(self, name: str) -> float:
        """When the newest packet passed between the target and a machine, either way; 0 for never (monotonic)."""
        return max(self.heard[name].last_s, self.answered[name].last_s)

    def count(self) -> int:
        """How many packets have passed between the target and the others, both ways."""
        return sum(seen.count for seen in (*self.heard.values(), *self.answered.values()))

    def passing(self, names: Iterable[str], within_s: float) -> bool:
        """Whether packets pass both ways between the target and each of some machines."""
        since_s = time.monotonic() - within_s
        return all(min(self.heard[name].last_s, self.answered[name].last_s) > since_s for name in names)

    def _run(self) -> None:
        poll = select.poll()
        stations = {station.socket.fileno(): station for station in (self.target, *self.others.values())}
        for descriptor in stations:
            poll.register(descriptor, select.POLLIN)
        due_s = time.monotonic()
        while not self._stop.is_set():
            now_s = time.monotonic()
            if now_s >= due_s:
                self._send()
                due_s = max(due_s + INTERVAL_S, now_s)
            for descriptor, _ in poll.poll(max(0.0, 1000 * (due_s - now_s))):
                self._drain(stations[descriptor])

    def _send(self) -> None:
        for address, station in self.others.items():
            self._send_one(self.target, address)
            self._send_one(station, self.target.address)

    def _send_one(self, sender: Station, address: str) -> None:
        try:
            sender.socket.sendto(_PACKET, (address, self.port))
        except OSError:
            return  # no route, no key, no room: what does not leave does not arrive either

    def _drain(self, station: Station) -> None:
        for _ in range(_READS_MAX):
            try:
                _, source = station.socket.recvfrom(_READ_BYTES)
            except BlockingIOError:
                return
            self._note(station, source[0])

    def _note(self, station: Station, source: str) -> None:
        if station is self.target:
            seen = self.answered[self.others[source].name] if source in self.others else None
        else:
            seen = self.heard[station.name] if source == self.target.address else None
        if seen is not None:
            seen.count += 1
            seen.last_s = time.monotonic()


def between(target: Node, others: Iterable[Node], addresses: Mapping[str, str], port: int) -> Probes:
    """Streams between one machine and others. `addresses`: the overlay's, by name. `port`: of these alone."""
    first = _station(target, addresses, port)
    made = [_station(node, addresses, port) for node in others]
    return Probes(first, {station.address: station for station in made}, port)


def _station(node: Node, addresses: Mapping[str, str], port: int) -> Station:
    return Station(node.name, _plain(addresses[node.name]), _socket_in(node, port))


def _plain(address: str) -> str:
    """An address in the form in which the kernel's answers come."""
    return str(ipaddress.IPv6Address(address))


def _socket_in(node: Node, port: int) -> socket.socket:
    """A UDP socket of another network namespace, which only a process in it can make."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        words = [*network_words(node.pid), sys.executable, "-S", "-c", _MAKE_SOCKET, str(port)]
        subprocess.run(words, stdin=theirs.fileno(), check=True)
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    made = socket.socket(fileno=descriptors[0])
    made.setblocking(False)
    os.set_inheritable(made.fileno(), False)
    return made
