"""Packets of a raw UDP socket: what the kernel's filter passes, what is read of it, how one is made. Pure.

An IPv4 raw socket gives packets from their IP header on, an IPv6 one from the UDP header on. Both want to be given
a UDP header, checksum and all, and no IP header.
"""

import socket
import struct
from typing import Final, NamedTuple

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.probes import ID_BYTES, MAGIC, PROBE_BYTES, RECEIVER_AT, VERSION
from clanmeshd.filters import INSTRUCTION, IS_EQUAL, PASS, RETURN

_UDP: Final = struct.Struct("!HHHH")  # source port, destination port, length, checksum
_IP_PKTINFO: Final = 8
_IN_PKTINFO: Final = struct.Struct("=I4s4s")  # interface (0: by the route), source, unused
_IN6_PKTINFO: Final = struct.Struct("=16sI")

# From linux/bpf_common.h: what lies behind the IP header, and is loaded at X + k.
_LOAD_HALF: Final = 0x48
_LOAD_WORD: Final = 0x40
_X_CONSTANT: Final = 0x01
_X_IPV4_HEADER: Final = 0xB1  # four times the low half of the byte at k
_SHIFT_RIGHT: Final = 0x74


class Arrival(NamedTuple):
    """A packet that the filter passed. `local` is the own address that it came to, from which to answer."""

    data: bytes
    source: Endpoint
    local: bytes


# --- what the kernel passes up -------------------------------------------------------------------------


def probe_filter(family: int, port: int, node: NodeId) -> list[bytes]:
    """The instructions that pass probes for a port and a device.

    An IPv4 raw socket sees a packet from its IP header on, an IPv6 one from the UDP header.
    """
    udp = _UDP.size
    word = int.from_bytes(MAGIC + bytes([VERSION]), "big")
    first, second = (int.from_bytes(node[at : at + 4], "big") for at in (0, ID_BYTES // 2))
    wanted = [
        ([(_LOAD_HALF, 2)], port),
        ([(_LOAD_HALF, 4)], udp + PROBE_BYTES),
        ([(_LOAD_WORD, udp), (_SHIFT_RIGHT, 8)], word),
        ([(_LOAD_WORD, udp + RECEIVER_AT)], first),
        ([(_LOAD_WORD, udp + RECEIVER_AT + ID_BYTES // 2)], second),
    ]
    behind: list[tuple[int, int, int, int]] = [(RETURN, 0, 0, PASS), (RETURN, 0, 0, 0)]
    for steps, value in reversed(wanted):
        # A load outside of the packet refuses it, too.
        jump = (IS_EQUAL, 0, len(behind) - 1, value)
        behind = [*((code, 0, 0, at) for code, at in steps), jump, *behind]
    head = (_X_IPV4_HEADER if family == socket.AF_INET else _X_CONSTANT, 0, 0, 0)
    return [INSTRUCTION.pack(*each) for each in (head, *behind)]


def read_ipv4_untrusted(packet: bytes, port: int) -> Arrival | None:
    """Read a packet from its IP header on. None for one that is not for this port, or cut short."""
    if len(packet) < 20:
        return None
    header_bytes = 4 * (packet[0] & 0xF)
    return _read_udp_untrusted(packet[header_bytes:], port, packet[12:16], packet[16:20])


def read_ipv6_untrusted(
    packet: bytes, port: int, source: str, ancillary: list[tuple[int, int, bytes]]
) -> Arrival | None:
    """Read a packet from its UDP header on. None as above; link-local sources mean nothing without a zone."""
    local = [
        _IN6_PKTINFO.unpack_from(data)[0]
        for level, kind, data in ancillary
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)
    ]
    if not local or "%" in source:
        return None
    return _read_udp_untrusted(packet, port, socket.inet_pton(socket.AF_INET6, source), local[0])


def _read_udp_untrusted(packet: bytes, port: int, source: bytes, local: bytes) -> Arrival | None:
    if len(packet) < _UDP.size:
        return None
    source_port, destination_port, length, _ = _UDP.unpack_from(packet)
    if destination_port != port or not source_port or length != len(packet):
        return None
    return Arrival(packet[_UDP.size :], Endpoint(source, source_port), local)


# --- what is sent --------------------------------------------------------------------------------------


def udp_packet(data: bytes, source: bytes, port: int, destination: Endpoint) -> bytes:
    """A UDP header with its checksum, and the data. Addresses are packed, of one family."""
    size = _UDP.size + len(data)
    pseudo = source + destination.ip + struct.pack("!II", size, socket.IPPROTO_UDP)
    total = _sum(pseudo + _UDP.pack(port, destination.port, size, 0) + data)
    # RFC 768: a sum of zero is sent as all ones, since zero says that there is none; IPv6 forbids that.
    return _UDP.pack(port, destination.port, size, (total ^ 0xFFFF) or 0xFFFF) + data


def _sum(data: bytes) -> int:
    """The ones' complement sum of 16-bit words (RFC 1071)."""
    padded = data + bytes(len(data) % 2)
    # Modulo 65,535 a number is the sum of its 16-bit digits. Only zero has two forms, and no packet is all zeros.
    return int.from_bytes(padded, "big") % 0xFFFF or 0xFFFF


def ancillary(source: bytes, ttl: int | None) -> list[tuple[int, int, bytes]]:
    """The source must be the one in the checksum."""
    if len(source) == 4:
        level, limit = socket.IPPROTO_IP, socket.IP_TTL
        said = [(level, _IP_PKTINFO, _IN_PKTINFO.pack(0, source, bytes(4)))]
    else:
        level, limit = socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT
        said = [(level, socket.IPV6_PKTINFO, _IN6_PKTINFO.pack(source, 0))]
    return said if ttl is None else [*said, (level, limit, struct.pack("=i", ttl))]
