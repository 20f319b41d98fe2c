"""The UDP ports of a relay: one for each pair, all of them drained by one task.

The task sleeps until any port has something, then takes up to a batch of each in turn: at 50,000 packets a second
a turn of trio's loop for each would cost more than the packets. What lies in no batch waits in the kernel, which
drops what exceeds the socket's buffer. A filter in the kernel drops what has the shape of none of WireGuard's
messages, so that junk wakes nobody; and, where much comes that has that shape and is of no use, most of it
(`relay_guard`). Packets are read into one buffer one behind the other, and sent from there.
"""

import errno
import select
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

import trio

from clanmesh_protocol.binds import BIND_MAGIC
from clanmesh_protocol.endpoints import endpoint
from clanmeshd.filters import attach_filter
from clanmeshd.overlay.relay import Relay
from clanmeshd.overlay.relay_filter import guarded_filter, port_filter
from clanmeshd.overlay.relay_guard import Guard, Rules
from clanmeshd.overlay.relay_pair import Address, Pair
from clanmeshd.overlay.relay_sending import Sender
from clanmeshd.sockets import RECEIVED, SENT, enlarge, errno_name, prepared

BATCH_PACKETS_MAX: Final = 128  # of one port in a turn: 1 ms
TURN_PORTS_MAX: Final = 4  # in a turn: the daemon's other tasks wait 4 ms at most
JUNK_PAUSE_S: Final = (
    0.002  # after a turn of which most was dropped: a flood is read in batches, if we keep up with it
)
TURN_BYTES_MAX: Final = 262_144  # of a port in a turn: a batch of full packets, and some room
PACKET_BYTES_MAX: Final = 9216  # jumbo frames; a larger one is cut, and no use to WireGuard
BUFFER_BYTES: Final = 4 << 20  # of a port, each way: 20 ms of a gigabit, as the kernel counts
PORTS_EACH: Final = 64  # numbers that are tried, from the first on: a person can open that many in a firewall

_Source: TypeAlias = tuple[Any, ...]  # as the socket says it: address, port and more


@runtime_checkable
class Carrier(Protocol):
    """A stream that carries one side's packets."""

    def __hash__(self) -> int:
        """Each is one of its own."""
        ...

    def offer(self, packet: bytes) -> None:
        """Send a packet if there is room, else drop it."""
        ...

    def end(self) -> None:
        """Its pair is no more."""
        ...


@dataclass(slots=True)
class _Port:
    socket: socket.socket
    pair: Pair
    sender: Sender
    guard: Guard = field(default_factory=Guard)
    rules: Rules | None = None  # of the filter that is there now


class RelayPorts:
    """The sockets of a relay's pairs. `counters` counts by errno's names what the network refused."""

    def __init__(self, relay: Relay, first_port: int) -> None:
        self.relay = relay
        self.counters: Counter[str] = Counter()
        self._first_port = first_port
        self._epoll = select.epoll()
        self._open: dict[int, _Port] = {}  # by file descriptor
        self._view = memoryview(bytearray(TURN_BYTES_MAX))

    @property
    def numbers(self) -> tuple[int, ...]:
        """The ports that are open, the oldest first."""
        return tuple(port.pair.port for port in self._open.values())

    def open(self, pair: Pair) -> None:
        """Give a pair its port, if it has none. Raises OSError when none is free."""
        if pair.port:
            return
        self.sweep()
        opened = self._bind_first_free()
        pair.port = opened.getsockname()[1]
        self._open[opened.fileno()] = _Port(opened, pair, Sender(opened, self.counters))
        self._epoll.register(opened.fileno(), select.EPOLLIN)

    def sweep(self) -> None:
        """Close the ports of pairs that are there no more."""
        alive, now_s = set(map(id, self.relay.pairs.values())), trio.current_time()
        for descriptor, port in list(self._open.items()):
            port.guard.expire(now_s)
            self._set_filter(port)
            if id(port.pair) not in alive:
                self._epoll.unregister(descriptor)
                port.socket.close()
                del self._open[descriptor]
                for side in port.pair.sides:
                    if isinstance(side.address, Carrier):
                        side.address.end()

    async def run(self) -> None:
        """Pass packets on until cancelled; closes all ports in the end."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                if not self._turn(trio.current_time()):
                    await trio.sleep(JUNK_PAUSE_S)
        finally:
            for port in self._open.values():
                port.socket.close()
            self._open.clear()
            self._epoll.close()

    def inject(self, pair: Pair, packet: bytes, carrier: Carrier, now_s: float) -> None:
        """Take a packet that a side has sent on its stream."""
        if not self.relay.has_room(pair, now_s):
            pair.dropped["quota"] += 1
            return
        to = pair.route(memoryview(packet), len(packet), carrier)
        sent = [(packet, to)] if to is not None else pair.receive(packet, carrier, None, now_s)
        passed = self._send_all(self._socket_of(pair), sent)
        if passed:
            self.relay.spend(pair, passed, now_s)

    def send(self, pair: Pair, sent: Sequence[tuple[bytes, Address]]) -> None:
        """Send what a pair has to be sent without a packet of its sides."""
        self._send_all(self._socket_of(pair), sent)

    def _turn(self, now_s: float) -> bool:
        """Pass on what waits, up to a batch of each port. False: it was mostly junk, and no more of it waits."""
        read = dropped = 0
        for descriptor, _ in self._epoll.poll(0, TURN_PORTS_MAX):
            port = self._open[descriptor]
            before = port.pair.dropped.total()
            read += self._drain(port, now_s)
            self._set_filter(port)
            dropped += port.pair.dropped.total() - before
        return 2 * dropped <= read or read >= BATCH_PACKETS_MAX

    def _drain(self, port: "_Port", now_s: float) -> int:
        """Pass on what waits at a port, up to a batch; how many packets were read."""
        view, pair, sender = self._view, port.pair, port.sender
        receive = port.socket.recvfrom_into
        passed = read = start = 0
        has_room = self.relay.has_room(pair, now_s)
        while read < BATCH_PACKETS_MAX and start <= TURN_BYTES_MAX - PACKET_BYTES_MAX:
            packet = view[start : start + PACKET_BYTES_MAX]
            try:
                size, source = receive(packet)
            except BlockingIOError:
                break
            except OSError as error:
                self.counters[errno_name(error)] += 1
                break
            read += 1
            if not has_room:
                pair.dropped["quota"] += 1
                continue
            to = pair.route(packet, size, source)
            if type(to) is tuple:
                sender.add(packet[:size], size, to)
                passed += size
                start += size
            else:
                sender.flush()
                passed += self._pass_seldom(port, source, to, packet[:size], now_s)
        sender.flush()
        if passed:
            self.relay.spend(pair, passed, now_s)
        return read

    def _pass_seldom(
        self, port: "_Port", source: _Source, to: Address | None, data: memoryview, now_s: float
    ) -> int:
        """All but data between two ports. Gives the bytes that went on: junk is none of the pair's."""
        packet = bytes(data)
        if isinstance(to, Carrier):
            to.offer(packet)
            return len(packet)
        seen = endpoint(source[0], source[1]) if packet.startswith(BIND_MAGIC) else None
        sent = port.pair.receive(packet, source, seen, now_s)
        if not sent:
            port.guard.blame(packet, now_s)
        return self._send_all(port.socket, sent)

    def _set_filter(self, port: "_Port") -> None:
        """Have the kernel filter as the guard wants it by now: nothing to do, mostly."""
        if not port.guard.is_on and port.rules is None:
            return
        addresses = [side.address for side in port.pair.sides if isinstance(side.address, tuple)]
        rules = port.guard.rules((endpoint(each[0], each[1]) for each in addresses), port.pair.indexes)
        if rules != port.rules:
            attach_filter(port.socket, port_filter() if rules is None else guarded_filter(rules))
            port.rules = rules

    def _send_all(self, opened: socket.socket | None, sent: Sequence[tuple[bytes, Address]]) -> int:
        for packet, to in sent:
            if isinstance(to, Carrier):
                to.offer(packet)
            elif opened is not None and isinstance(to, tuple):
                try:
                    opened.sendto(packet, to)
                except OSError as error:
                    self.counters[errno_name(error)] += 1
        return sum(len(packet) for packet, _ in sent)

    def _socket_of(self, pair: Pair) -> socket.socket | None:
        return next((port.socket for port in self._open.values() if port.pair is pair), None)

    def _bind_first_free(self) -> socket.socket:
        refused: OSError | None = None
        for port in range(self._first_port, min(self._first_port + PORTS_EACH, 65_536)):
            try:
                return _bind(port)
            except OSError as error:
                refused = error
        raise refused or OSError(errno.EADDRINUSE, "no port is left for relaying")


def _bind(port: int) -> socket.socket:
    """A socket for both families where the machine has both. Raises OSError."""
    try:
        opened = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    except OSError:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with prepared(opened):
        opened.setblocking(False)
        enlarge(opened, BUFFER_BYTES, RECEIVED, SENT)
        attach_filter(opened, port_filter())
        opened.bind(("", port))
    return opened
