"""What can be told from a WireGuard packet by somebody who is at neither end of it. Pure.

Sizes and places are those of the paper (section 5.4): four kinds of messages; the first two end with two MACs, of
which the first, `mac1`, is keyed with nothing but the receiver's public key. So who knows two public keys can tell
which of the two a handshake is for. That proves no more than knowing the key, and an old packet fits again.
"""

from collections.abc import Iterable
from hashlib import blake2s
from typing import Final

INITIATION: Final = b"\1\0\0\0"
RESPONSE: Final = b"\2\0\0\0"
COOKIE: Final = b"\3\0\0\0"
DATA: Final = b"\4\0\0\0"
DATA_TYPE: Final = DATA[0]

INITIATION_BYTES: Final = 148
RESPONSE_BYTES: Final = 92
COOKIE_BYTES: Final = 64
DATA_BYTES_MIN: Final = 32  # a keepalive: header and tag of nothing

_MACS_BYTES: Final = 32  # mac1 and mac2, at the end of both handshake messages
_MAC_BYTES: Final = 16
_LABEL: Final = b"mac1----"


def mac1_key(public_key: bytes) -> bytes:
    """The key of all mac1 for the receiver with this public key."""
    return blake2s(_LABEL + public_key).digest()


def is_handshake(packet: bytes) -> bool:
    """Whether it has the shape of an initiation or a response."""
    kind, size = packet[:4], len(packet)
    return (kind == INITIATION and size == INITIATION_BYTES) or (kind == RESPONSE and size == RESPONSE_BYTES)


def fits(packet: bytes, keys: Iterable[bytes]) -> bool:
    """Whether a handshake's mac1 is by one of these keys (`mac1_key`). 1 us for each."""
    body, mac = packet[:-_MACS_BYTES], packet[-_MACS_BYTES:-_MAC_BYTES]
    return any(blake2s(body, digest_size=_MAC_BYTES, key=key).digest() == mac for key in keys)


def sender_index(packet: bytes) -> bytes:
    """Of a handshake: how its sender wants to be addressed in this session."""
    return packet[4:8]


def receiver_index(packet: bytes) -> bytes:
    """Of a response, a cookie or data: whom it addresses, by the index that it was told in a handshake."""
    return packet[8:12] if packet[:4] == RESPONSE else packet[4:8]
