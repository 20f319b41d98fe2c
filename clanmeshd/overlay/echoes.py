"""Echoes through the tunnel (RFC 4443, 4): the peer's system answers them, whatever version of clanmesh it runs.

An answer proves that the tunnel passes data both ways. What is sent leaves by our interface and by no other,
whoever else has a route there, and as one packet, however large it is.
"""

import os
import socket
import struct
from contextlib import suppress
from ipaddress import IPv6Address
from typing import Final

import trio

from clanmeshd.sockets import prepared

HEADERS_BYTES: Final = 48  # of IPv6 and of an echo
NONCE_BYTES: Final = 8
ECHO_BYTES_MIN: Final = HEADERS_BYTES + NONCE_BYTES  # in the tunnel, headers and all
PING_BYTES: Final = HEADERS_BYTES + 56  # as ping(8) has it

_HEAD: Final = struct.Struct("!BBHHH")  # type, code, checksum (the kernel's work), identifier, sequence
_REQUEST: Final = 128
_REPLY: Final = 129
_ICMP6_FILTER: Final = 1  # RFC 3542; neither this nor the next two are in the socket module
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_PROBE: Final = 3  # linux/in6.h: as large as the interface takes, whatever a route says
_ALL_KEPT_AWAY: Final = b"\xff" * 32  # a bit for each type
_GREETING: Final = _HEAD.pack(_REQUEST, 0, 0, 0, 0)


def greet(address: bytes) -> None:
    """Have the system at an overlay address answer; nobody waits for it here. Raises OSError."""
    with _open_raw(_ALL_KEPT_AWAY) as opened:
        opened.sendto(_GREETING, (str(IPv6Address(address)), 0))


async def echo(interface: str, address: bytes, size: int, timeout_s: float) -> float | None:
    """Send one echo of `size` bytes in the tunnel; the round trip in seconds, None without an answer in time.

    Raises OSError when it cannot be sent, or the system says that it does not get there.
    """
    with _open(interface) as opened:
        opened.connect((str(IPv6Address(address)), 0))
        nonce = os.urandom(NONCE_BYTES)
        identifier, sequence = struct.unpack_from("!HH", nonce)
        begun_s = trio.current_time()
        opened.send(_HEAD.pack(_REQUEST, 0, 0, identifier, sequence) + nonce.ljust(size - HEADERS_BYTES, b"\0"))
        with trio.move_on_after(timeout_s):
            while True:
                await trio.lowlevel.wait_readable(opened)
                with suppress(BlockingIOError):
                    if is_answer_untrusted(opened.recv(_HEAD.size + NONCE_BYTES), nonce):
                        return trio.current_time() - begun_s
    return None


def is_answer_untrusted(packet: bytes, nonce: bytes) -> bool:
    """Whether a packet, from its ICMPv6 header on, answers the echo with this nonce."""
    return packet[:1] == bytes([_REPLY]) and packet[_HEAD.size : _HEAD.size + NONCE_BYTES] == nonce


def _open(interface: str) -> socket.socket:
    try:
        opened = _open_raw(_filter(_REPLY))
    except PermissionError:
        # Where the system lets everybody ping (net.ipv4.ping_group_range) it picks the answers by itself.
        opened = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMPV6)
    with prepared(opened):
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
    return opened


def _filter(passed: int) -> bytes:
    """Keep all types away but one: eight words of 32 bits, the first for types 0 to 31."""
    words = [0xFFFF_FFFF] * 8
    words[passed // 32] ^= 1 << passed % 32
    return struct.pack("=8I", *words)


def _open_raw(kept_away: bytes) -> socket.socket:
    raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMPV6)
    with prepared(raw) as opened:
        opened.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, kept_away)
        return opened
