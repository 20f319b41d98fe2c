"""How far an opener goes: behind the own routers, however many there are, and no further.

With a TTL of 2 it passes one router. Where that is not the last (a carrier's translates once more), the next one
says that the packet died with it (ICMP time exceeded), by an address of its inner side. Then the TTL is one more,
and the opener leaves again at once. Routers that say nothing leave it as it is. What they say proves nothing: a
liar has some more small packets sent to where they were sent before.
"""

import socket
import struct
from typing import Final, NamedTuple

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmeshd.core.sightings import is_outer
from clanmeshd.sockets import prepared

TTL_MIN: Final = 2  # a router at home
TTL_MAX: Final = 5  # two more of a carrier's, and one at random: beyond it the other side may be near
OPENERS_MAX: Final = 64  # that may be told of, the newest

_SOL_RAW: Final = 255
_ICMP_FILTER: Final = 1
_TIME_EXCEEDED: Final = 11
_IPV4_HEADER_BYTES: Final = 20
_ICMP_HEADER_BYTES: Final = 8
_UDP_PORTS: Final = struct.Struct("!HH")


class Died(NamedTuple):
    """A packet of ours that went no further than a router, which says so of itself."""

    router: bytes  # packed
    destination: Endpoint


class _Opener(NamedTuple):
    node: NodeId
    ttl: int


class Openers:
    """The TTL of openers, and which were sent."""

    def __init__(self) -> None:
        self.ttl = TTL_MIN
        self._sent: dict[Endpoint, _Opener] = {}  # oldest first

    def sent(self, node: NodeId, destination: Endpoint) -> None:
        """Remember an opener that left with the TTL of now."""
        self._sent.pop(destination, None)
        self._sent[destination] = _Opener(node, self.ttl)
        if len(self._sent) > OPENERS_MAX:
            del self._sent[next(iter(self._sent))]

    def died(self, died: Died) -> NodeId | None:
        """Learn of a router; the member that another opener should go to, if that one did not leave our side."""
        opener = self._sent.get(died.destination)
        if opener is None or is_outer(died.router):
            return None
        self.ttl = max(self.ttl, min(opener.ttl + 1, TTL_MAX))
        return opener.node if opener.ttl < self.ttl else None

    def moved(self) -> None:
        """This device is on another network: begin anew."""
        self.ttl = TTL_MIN
        self._sent.clear()


def open_died_socket() -> socket.socket:
    """A raw socket that hears of IPv4 packets that died under way, and of nothing else. Raises OSError."""
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP)
    with prepared(raw) as opened:
        opened.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", 0xFFFF_FFFF ^ 1 << _TIME_EXCEEDED))
        return opened


def read_died_untrusted(packet: bytes, port: int) -> Died | None:
    """Read an ICMP packet from its IP header on. None unless a UDP packet from `port` died of its TTL."""
    at = 4 * (packet[0] & 0xF) if packet else 0
    quoted = packet[at + _ICMP_HEADER_BYTES :]
    if len(quoted) < _IPV4_HEADER_BYTES or packet[at : at + 2] != bytes([_TIME_EXCEEDED, 0]):
        return None
    header_bytes = 4 * (quoted[0] & 0xF)
    if quoted[9] != socket.IPPROTO_UDP or len(quoted) < header_bytes + _UDP_PORTS.size:
        return None
    source_port, destination_port = _UDP_PORTS.unpack_from(quoted, header_bytes)
    if source_port != port or not destination_port:
        return None
    return Died(packet[12:16], Endpoint(quoted[16:20], destination_port))
