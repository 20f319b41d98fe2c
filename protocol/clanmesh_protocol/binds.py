"""Binds: how a member shows a relay from which address its WireGuard sends, without a handshake of WireGuard's.

Client and relay each send one kind of 48 bytes, under the token that the relay gave this client over a stream:

    01 'r' 'l' 'y' | number u64 | zeros 20                                     | MAC 16
    02 'r' 'l' 'y' | number u64 | others u8 | zero | port u16 | address 16     | MAC 16

The fourth byte is never zero, as it is in each of WireGuard's messages.
"""

import struct
from hashlib import blake2b
from typing import Final, NamedTuple

from clanmesh_protocol.endpoints import MAPPED_PREFIX, Endpoint
from clanmesh_protocol.errors import MalformedError, SignatureError
from clanmesh_protocol.limits import BIND_BYTES, BIND_MAC_BYTES

BIND_MAGIC: Final = b"\x01rly"
BOUND_MAGIC: Final = b"\x02rly"
_PERSON: Final = b"clanmesh-bind"
_BIND: Final = struct.Struct(">4sQ20x")
_BOUND: Final = struct.Struct(">4sQBxH16s")


class Bound(NamedTuple):
    """The relay's answer to a Bind."""

    number: int  # the Bind's
    seen: Endpoint  # where the Bind came from
    other_is_bound: bool  # the relay knows the way to the other one of the pair


def make_bind(token: bytes, number: int) -> bytes:
    """Make a Bind. Each is to have a higher number than the one before under the same token."""
    return _sealed(token, _BIND.pack(BIND_MAGIC, number))


def read_bind_untrusted(token: bytes, data: bytes) -> int:
    """Read a Bind's number. Raises MalformedError, or SignatureError for another token's."""
    body = _opened(token, data, BIND_MAGIC)
    magic, number = _BIND.unpack(body)
    if body != _BIND.pack(magic, number):
        raise MalformedError("a bind with something where zeros belong")
    return int(number)


def make_bound(token: bytes, bound: Bound) -> bytes:
    """Make the answer to a Bind."""
    ip = bound.seen.ip if len(bound.seen.ip) == 16 else MAPPED_PREFIX + bound.seen.ip
    return _sealed(token, _BOUND.pack(BOUND_MAGIC, bound.number, bound.other_is_bound, bound.seen.port, ip))


def read_bound_untrusted(token: bytes, data: bytes) -> Bound:
    """Read a relay's answer. Raises MalformedError, or SignatureError for another token's."""
    body = _opened(token, data, BOUND_MAGIC)
    magic, number, other_is_bound, port, ip = _BOUND.unpack(body)
    if body != _BOUND.pack(magic, number, other_is_bound, port, ip) or other_is_bound > 1 or not port:
        raise MalformedError("an answer to a bind whose fields make no sense")
    short = ip[len(MAPPED_PREFIX) :] if ip.startswith(MAPPED_PREFIX) else ip
    return Bound(number, Endpoint(short, port), bool(other_is_bound))


def _sealed(token: bytes, body: bytes) -> bytes:
    return body + blake2b(body, digest_size=BIND_MAC_BYTES, key=token, person=_PERSON).digest()


def _opened(token: bytes, data: bytes, magic: bytes) -> bytes:
    if len(data) != BIND_BYTES or not data.startswith(magic):
        raise MalformedError("not a bind")
    body = data[:-BIND_MAC_BYTES]
    if _sealed(token, body) != data:  # a guess tells its time to nobody: wrong ones are not answered
        raise SignatureError("a bind of another token")
    return body
