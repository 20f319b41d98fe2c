"""Probes: small packets on WireGuard's own port, by which two members find out where that port can be reached.

A packet is `C7 50 01 | kind | sender 8 | receiver 8 | nonce 8 | endpoint 19 | mac 16`, 63 bytes, whichever kind it
is: an answer is never larger than its question. No message of WireGuard's begins with C7. This module knows the
shape; keys, nonces and what a packet proves are `clanmeshd.overlay.probes`' work.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from clanmesh_protocol.endpoints import MAPPED_PREFIX, Endpoint
from clanmesh_protocol.errors import MalformedError, VersionError

MAGIC: Final = b"\xc7\x50"
VERSION: Final = 1
ID_BYTES: Final = 8  # of a node id: to look it up, no proof
NONCE_BYTES: Final = 8
MAC_BYTES: Final = 16
RECEIVER_AT: Final = 12  # where the receiver's id begins: a filter in the kernel looks there
_ENDPOINT_BYTES: Final = 19  # family u8 (4 or 6) | address 16, of IPv4 four and zeros behind them | port u16
_ENDPOINT_AT: Final = RECEIVER_AT + ID_BYTES + NONCE_BYTES
PROBE_BYTES: Final = _ENDPOINT_AT + _ENDPOINT_BYTES + MAC_BYTES


class Kind(IntEnum):
    """A question or its answer."""

    PROBE = 1  # its endpoint is where it was sent
    PONG = 2  # its nonce is the probe's; its endpoint is where the probe came from


_KINDS: Final = {int(kind): kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet. `sender` and `receiver` are the first 8 bytes of node ids."""

    kind: Kind
    sender: bytes
    receiver: bytes
    nonce: bytes
    endpoint: Endpoint

    def encode(self) -> bytes:
        """All of it but the MAC, which covers just that."""
        lead = MAGIC + bytes([VERSION, self.kind]) + self.sender + self.receiver + self.nonce
        family = 4 if len(self.endpoint.ip) == 4 else 6
        return lead + bytes([family]) + self.endpoint.ip.ljust(16, b"\0") + self.endpoint.port.to_bytes(2, "big")


def read_packet_untrusted(data: bytes) -> Packet:
    """Read a packet; its MAC is left to whoever has the key. Raises MalformedError or VersionError."""
    if len(data) < len(MAGIC) + 1 or not data.startswith(MAGIC):
        raise MalformedError("not a probe of ours")
    if data[2] != VERSION:
        raise VersionError(f"probe version {data[2]}, this is version {VERSION}")
    if len(data) != PROBE_BYTES:
        raise MalformedError(f"a probe of {len(data)} bytes")
    kind = _KINDS.get(data[3])
    if kind is None:
        raise MalformedError(f"unknown kind {data[3]}")
    receiver_end = RECEIVER_AT + ID_BYTES
    return Packet(
        kind,
        data[RECEIVER_AT - ID_BYTES : RECEIVER_AT],
        data[RECEIVER_AT:receiver_end],
        data[receiver_end:_ENDPOINT_AT],
        _read_endpoint_untrusted(data[_ENDPOINT_AT:-MAC_BYTES]),
    )


def _read_endpoint_untrusted(data: bytes) -> Endpoint:
    ip, port = data[1:17], int.from_bytes(data[17:], "big")
    if port == 0:
        raise MalformedError("port 0")
    if data[0] == 4 and not any(ip[4:]):
        return Endpoint(ip[:4], port)
    if data[0] == 6 and not ip.startswith(MAPPED_PREFIX):
        return Endpoint(ip, port)
    raise MalformedError("an address of no family, or in another form than its own")
