"""What the system knows of the way to an address: the largest packet that leaves uncut, and how to have it learn.

For each address that something was sent to that must not be cut, the kernel keeps what routers told it ("packet
too big"). Its own WireGuard lets packets be cut, so nobody would tell: one that must not be goes ahead.
"""

import socket
from contextlib import suppress
from typing import Final

from clanmesh_protocol.endpoints import Endpoint
from clanmeshd.sockets import family_of, prepared

# Linux; not in the socket module. By the length of an address: level and option.
_MTU_DISCOVER: Final = {4: (socket.IPPROTO_IP, 10), 16: (socket.IPPROTO_IPV6, 23)}
_MTU: Final = {4: (socket.IPPROTO_IP, 14), 16: (socket.IPPROTO_IPV6, 24)}
_MUST_NOT_BE_CUT: Final = 2  # IP_PMTUDISC_DO
_HEADERS: Final = {4: 28, 16: 48}  # of IP and UDP


def outer_mtu(endpoint: Endpoint) -> int | None:
    """The largest packet, in bytes with all headers, that leaves for there uncut; None where there is no way."""
    size = len(endpoint.ip)
    with suppress(OSError), _open(endpoint) as opened:
        return opened.getsockopt(*_MTU[size])
    return None


def send_ahead(endpoint: Endpoint, outer_bytes: int) -> None:
    """Send one packet of zeros that must not be cut. Nobody answers: a router may complain, to the kernel.

    WireGuard drops it unread, as does a relay.
    """
    size = len(endpoint.ip)
    with suppress(OSError), _open(endpoint) as opened:  # too large already for the first network: it is known then
        opened.setsockopt(*_MTU_DISCOVER[size], _MUST_NOT_BE_CUT)
        opened.send(bytes(outer_bytes - _HEADERS[size]))


def _open(endpoint: Endpoint) -> socket.socket:
    with prepared(socket.socket(family_of(endpoint.ip), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)) as opened:
        opened.connect((endpoint.host, endpoint.port))
        return opened
