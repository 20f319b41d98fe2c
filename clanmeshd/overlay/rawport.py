"""A raw socket beside WireGuard's: sends from WireGuard's own UDP port, and picks our probes of what comes there.

WireGuard has its port to itself, and no other port has the same mapping in a router. So packets are made here with
that port as their source, and a filter in the kernel passes up only those of our shape, for this port and for this
device: WireGuard's own never wake us, and a stranger must know our id to. WireGuard gets a copy of ours and drops
them by their first byte. It makes no difference whether it is the kernel's or a program.

The machine's firewall is in the way of these packets as in WireGuard's, which is what they are to find out. Needs
CAP_NET_RAW; without it there is a refusal to show, and nothing else is worse.

Listening is not free: the kernel copies the head of every UDP packet to this machine before it asks the filter,
0.3 us each and more where the machine is busy: two that exchange 500 Mbit/s lose 3 to 4 % by it. Whoever has no
use for it need not listen; sending goes on.
"""

import socket
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final, NamedTuple

import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.probes import PROBE_BYTES
from clanmeshd.core.buckets import TokenBucket
from clanmeshd.filters import attach_filter
from clanmeshd.overlay.rawpackets import (
    Arrival,
    ancillary,
    probe_filter,
    read_ipv4_untrusted,
    read_ipv6_untrusted,
    udp_packet,
)
from clanmeshd.sockets import Closing, errno_name, family_of, prepared

RECEIVED_PER_S: Final = 500.0  # packets of our shape for our id, 30 us each: 1.5 % of a core
RECEIVED_BURST: Final = 200.0  # a clan of 100 that looks for paths to us at once
BATCH_MAX: Final = 32  # of one loop turn: 1 ms
PAUSE_S: Final = 0.05  # of a flood, in which the socket's buffer fills and the kernel drops the rest
RECEIVE_BUFFER_BYTES: Final = 65_536  # the kernel doubles it, and counts up to 2.3 kB for a packet: 55 of them

_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(20)


class NoRawPort(NamedTuple):
    """Why there is none, for a person: what, why and what can be done about it."""

    what: str
    why: str
    remedy: str


class RawPort(Closing):
    """WireGuard's port, shared. Close it in the end, and what listens to it before.

    `counters` counts by name what did not get through: `no-family`, `malformed` and errno names, those of reading
    behind `receive-`; `paused` counts how often reading rested because too much came.
    """

    def __init__(self, port: int, node: NodeId, senders: dict[int, socket.socket]) -> None:
        self.port = port
        self.counters: Counter[str] = Counter()
        self._node = node
        self._senders = senders  # by length of a packed address: 4, 16

    def send(
        self, data: bytes, destination: Endpoint, *, ttl: int | None = None, local: bytes | None = None
    ) -> None:
        """Send once, never blocking and never failing. `ttl`: of an opener; `local`: from this own address."""
        sender = self._senders.get(len(destination.ip))
        if sender is None:
            self.counters["no-family"] += 1
            return
        try:
            source = local or _source_towards(destination)
            packet = udp_packet(data, source, self.port, destination)
            sender.sendmsg([packet], ancillary(source, ttl), 0, (destination.host, 0))
        except OSError as error:
            self.counters[errno_name(error)] += 1

    def listen(self) -> "Listener":
        """Begin to hear what comes: a context, whose `run` hands it over. Raises OSError."""
        with ExitStack() as opening:
            families = [sender.family for sender in self._senders.values()]
            receivers = [opening.enter_context(_open_receiver(each, self.port, self._node)) for each in families]
            opening.pop_all()
        return Listener(self.port, self.counters, receivers)

    def close(self) -> None:
        """Send no more."""
        for opened in self._senders.values():
            opened.close()


class Listener(Closing):
    """Hears what the filter passes. Close it when `run` has ended."""

    def __init__(self, port: int, counters: Counter[str], receivers: Sequence[socket.socket]) -> None:
        self._port = port
        self._counters = counters
        self._receivers = receivers

    async def run(self, deliver: Callable[[Arrival], None]) -> None:
        """Hand over what arrives, for ever, at a bounded rate."""
        async with trio.open_nursery() as nursery:
            for receiver in self._receivers:
                nursery.start_soon(self._receive, receiver, deliver)

    async def _receive(self, receiver: socket.socket, deliver: Callable[[Arrival], None]) -> None:
        allowance = TokenBucket(RECEIVED_PER_S, RECEIVED_BURST, trio.current_time())
        while True:
            await trio.lowlevel.wait_readable(receiver)
            for _ in range(BATCH_MAX):
                if not self._read(receiver, deliver):
                    break
                if not allowance.take(trio.current_time()):
                    self._counters["paused"] += 1
                    await trio.sleep(PAUSE_S)
                    break

    def _read(self, receiver: socket.socket, deliver: Callable[[Arrival], None]) -> bool:
        """Hand over one packet; False when none waits."""
        try:
            packet, ancillary, _, address = receiver.recvmsg(PROBE_BYTES + 128, _ANCILLARY_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            self._counters[f"receive-{errno_name(error)}"] += 1
            return False
        if receiver.family == socket.AF_INET:
            arrival = read_ipv4_untrusted(packet, self._port)
        else:
            arrival = read_ipv6_untrusted(packet, self._port, address[0], ancillary)
        if arrival is None:
            self._counters["malformed"] += 1  # came before the filter was there
        else:
            deliver(arrival)
        return True

    def close(self) -> None:
        """Let WireGuard have its port alone again."""
        for opened in self._receivers:
            opened.close()


def open_raw_port(port: int, node: NodeId) -> RawPort | NoRawPort:
    """Share WireGuard's port, for packets to this device. Opens no port; WireGuard may come and go."""
    senders: dict[int, socket.socket] = {}
    refused: OSError | None = None
    for family, ip_bytes, nowhere in ((socket.AF_INET, 4, "127.0.0.1"), (socket.AF_INET6, 16, "::1")):
        try:
            senders[ip_bytes] = _open_sender(family, nowhere)
        except OSError as error:
            refused = error  # one family may be switched off; permission is lacking in both
    if senders:
        return RawPort(port, node, senders)
    assert refused is not None
    if isinstance(refused, PermissionError):
        why, remedy = "no permission for raw sockets", "run clanmeshd as root, or give it CAP_NET_RAW"
    else:
        why, remedy = refused.strerror or str(refused), "see the log"
    return NoRawPort("probing from WireGuard's port", why, remedy)


def _open_sender(family: socket.AddressFamily, nowhere: str) -> socket.socket:
    """A raw socket that the kernel passes over when packets come: it is connected, to where none come from."""
    with prepared(_open(family)) as opened:
        opened.connect((nowhere, 0))
        return opened


def _open_receiver(family: socket.AddressFamily, port: int, node: NodeId) -> socket.socket:
    with prepared(_open(family)) as opened:
        attach_filter(opened, probe_filter(family, port, node))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        return opened


def _open(family: socket.AddressFamily) -> socket.socket:
    return socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_UDP)


def _source_towards(destination: Endpoint) -> bytes:
    """The own address that the route to it begins with. Sends nothing. Raises OSError where there is no route."""
    family = family_of(destination.ip)
    with socket.socket(family, socket.SOCK_DGRAM) as scout:
        scout.connect((destination.host, destination.port))
        return socket.inet_pton(family, scout.getsockname()[0])
