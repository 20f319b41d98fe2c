"""Datagrams: the clear header, and the frames inside the sealed part.

A datagram is `C7 01 | type | sender prekey id | receiver prekey id | sender 8 | nonce 16 | ciphertext | tag 16`;
everything before the ciphertext is authenticated with it. This module knows the shapes; sealing and opening
them is `clanmeshd.core.sessions`' work.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, TypeAlias

from clanmesh_protocol.errors import LimitError, MalformedError, VersionError
from clanmesh_protocol.limits import (
    DATAGRAM_BYTES_MAX,
    DATAGRAM_HEADER_BYTES,
    DATAGRAM_TAG_BYTES,
    DATAGRAM_VERSION,
    DIGEST_BUCKETS,
    FRAMES_PER_DATAGRAM_MAX,
    KEY_BYTES,
    RECORD_DATAGRAM_BYTES_MAX,
    SHORT_ID_BYTES,
)
from clanmesh_protocol.signalling import Call, Seen

MAGIC = 0xC7
SENDER_BYTES = 8
NONCE_BYTES = 16  # boot id 8 | counter 8; the other 8 bytes of XChaCha20's nonce are zero
BOOT_BYTES = 8
PLAINTEXT_BYTES_MAX = DATAGRAM_BYTES_MAX - DATAGRAM_HEADER_BYTES - DATAGRAM_TAG_BYTES


class Seal(IntEnum):
    """Which key a datagram is sealed with."""

    SESSION = 1  # static and prekeys
    HELLO = 2  # static keys alone: carries a node record, nothing else


_SEALS = {int(seal): seal for seal in Seal}


@dataclass(slots=True)  # not frozen: one is made of each datagram of a flood, and that would take twice as long
class Header:
    """The clear part. `sender` is the first 8 bytes of the sender's node id: a lookup key, not a proof."""

    seal: Seal
    sender_prekey: int
    receiver_prekey: int
    sender: bytes
    nonce: bytes

    @property
    def boot(self) -> bytes:
        """The random id of the sender's run."""
        return self.nonce[:BOOT_BYTES]

    @property
    def counter(self) -> int:
        """Counts the sender's datagrams of this run to this receiver."""
        return int.from_bytes(self.nonce[BOOT_BYTES:], "big")

    def encode(self) -> bytes:
        """The 29 bytes of the header."""
        lead = bytes([MAGIC, DATAGRAM_VERSION, self.seal, self.sender_prekey, self.receiver_prekey])
        return lead + self.sender + self.nonce


def parse_header_untrusted(data: bytes) -> Header:
    """Read a datagram's header. Raises MalformedError, LimitError or VersionError."""
    if len(data) > DATAGRAM_BYTES_MAX:
        raise LimitError(f"a datagram of {len(data)} bytes")
    if len(data) < DATAGRAM_HEADER_BYTES + DATAGRAM_TAG_BYTES:
        raise MalformedError(f"a datagram of {len(data)} bytes is cut short")
    if data[0] != MAGIC:
        raise MalformedError("not a datagram of ours")
    if data[1] != DATAGRAM_VERSION:
        raise VersionError(f"datagram version {data[1]}, this is version {DATAGRAM_VERSION}")
    seal = _SEALS.get(data[2])
    if seal is None:
        raise MalformedError(f"unknown seal {data[2]}")
    return Header(seal, data[3], data[4], data[5:13], data[13:29])


def sender_untrusted(data: bytes) -> bytes:
    """The first bytes of the node id that a datagram says it is of; fewer of one that is none."""
    return data[5:13]


# --- Frames: type u8 | length u16 big-endian | body ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there? Carries the sender's boot token, the receiver's as last seen, and the root of its set."""

    TYPE: ClassVar[int] = 1
    number: int  # u32, chosen by the sender
    token: bytes  # 8: the sender's boot token
    echo: bytes  # 8: the receiver's boot token as the sender knows it, zeros when it does not
    root: bytes  # 16: hash of the sender's record set

    def encode(self) -> bytes:
        """The body of the frame."""
        return self.number.to_bytes(4, "big") + self.token + self.echo + self.root

    @classmethod
    def read_untrusted(cls, body: bytes) -> "Ping":
        """Read the body of the frame."""
        _exactly(body, 36, "ping")
        return cls(int.from_bytes(body[:4], "big"), body[4:12], body[12:20], body[20:36])


@dataclass(frozen=True, slots=True)
class Ack:
    """I am. Answers a Ping with its number; the rest as there."""

    TYPE: ClassVar[int] = 2
    number: int
    token: bytes
    echo: bytes
    root: bytes

    def encode(self) -> bytes:
        """The body of the frame."""
        return self.number.to_bytes(4, "big") + self.token + self.echo + self.root

    @classmethod
    def read_untrusted(cls, body: bytes) -> "Ack":
        """Read the body of the frame."""
        _exactly(body, 36, "ack")
        return cls(int.from_bytes(body[:4], "big"), body[4:12], body[12:20], body[20:36])


@dataclass(frozen=True, slots=True)
class PingRequest:
    """Please ping `target` for me and answer with an indirect Ack or a Nack."""

    TYPE: ClassVar[int] = 3
    number: int
    target: bytes  # 32: node id

    def encode(self) -> bytes:
        """The body of the frame."""
        return self.number.to_bytes(4, "big") + self.target

    @classmethod
    def read_untrusted(cls, body: bytes) -> "PingRequest":
        """Read the body of the frame."""
        _exactly(body, 36, "ping request")
        return cls(int.from_bytes(body[:4], "big"), body[4:])


@dataclass(frozen=True, slots=True)
class IndirectResult:
    """The answer to a PingRequest: whether the target answered the asked one in time."""

    TYPE: ClassVar[int] = 4
    number: int
    reached: bool

    def encode(self) -> bytes:
        """The body of the frame."""
        return self.number.to_bytes(4, "big") + bytes([self.reached])

    @classmethod
    def read_untrusted(cls, body: bytes) -> "IndirectResult":
        """Read the body of the frame."""
        _exactly(body, 5, "indirect result")
        if body[4] > 1:
            raise MalformedError("indirect result: neither yes nor no")
        return cls(int.from_bytes(body[:4], "big"), bool(body[4]))


@dataclass(frozen=True, slots=True)
class RecordFrame:
    """One whole record of at most RECORD_DATAGRAM_BYTES_MAX bytes."""

    TYPE: ClassVar[int] = 5
    data: bytes

    def encode(self) -> bytes:
        """The body of the frame."""
        return self.data

    @classmethod
    def read_untrusted(cls, body: bytes) -> "RecordFrame":
        """Read the body of the frame."""
        if len(body) > RECORD_DATAGRAM_BYTES_MAX:
            raise LimitError(f"a record of {len(body)} bytes in a datagram")
        return cls(body)


@dataclass(frozen=True, slots=True)
class IHave:
    """Short ids of records that the sender holds, for the receiver to want."""

    TYPE: ClassVar[int] = 6
    ids: tuple[bytes, ...]

    def encode(self) -> bytes:
        """The body of the frame."""
        return b"".join(self.ids)

    @classmethod
    def read_untrusted(cls, body: bytes) -> "IHave":
        """Read the body of the frame."""
        return cls(_short_ids(body, "ihave"))


@dataclass(frozen=True, slots=True)
class Want:
    """Short ids of records that the sender lacks."""

    TYPE: ClassVar[int] = 7
    ids: tuple[bytes, ...]

    def encode(self) -> bytes:
        """The body of the frame."""
        return b"".join(self.ids)

    @classmethod
    def read_untrusted(cls, body: bytes) -> "Want":
        """Read the body of the frame."""
        return cls(_short_ids(body, "want"))


@dataclass(frozen=True, slots=True)
class Digest:
    """Hashes of the 64 parts of the sender's record set, below a prefix of the id (empty: the whole set)."""

    TYPE: ClassVar[int] = 8
    prefix: bytes  # at most 3 bytes, each a 6-bit digit: the path in the trie
    buckets: tuple[bytes, ...]  # 64 hashes of 8 bytes; zeros for an empty part

    def encode(self) -> bytes:
        """The body of the frame."""
        return bytes([len(self.prefix)]) + self.prefix + b"".join(self.buckets)

    @classmethod
    def read_untrusted(cls, body: bytes) -> "Digest":
        """Read the body of the frame."""
        prefix, rest = _prefix(body, "digest")
        _exactly(rest, DIGEST_BUCKETS * SHORT_ID_BYTES, "digest")
        return cls(prefix, _chunks(rest))


@dataclass(frozen=True, slots=True)
class Leaf:
    """All short ids of the sender's records below a prefix; the receiver wants and gives what differs."""

    TYPE: ClassVar[int] = 9
    prefix: bytes
    ids: tuple[bytes, ...]

    def encode(self) -> bytes:
        """The body of the frame."""
        return bytes([len(self.prefix)]) + self.prefix + b"".join(self.ids)

    @classmethod
    def read_untrusted(cls, body: bytes) -> "Leaf":
        """Read the body of the frame."""
        prefix, rest = _prefix(body, "leaf")
        return cls(prefix, _short_ids(rest, "leaf"))


@dataclass(frozen=True, slots=True)
class UnknownFrame:
    """A frame of a later version: skipped."""

    type: int
    body: bytes


Frame: TypeAlias = (
    Ping | Ack | PingRequest | IndirectResult | RecordFrame | IHave | Want | Digest | Leaf | Seen | Call
)
_FRAMES: dict[int, type[Frame]] = {
    frame.TYPE: frame
    for frame in (Ping, Ack, PingRequest, IndirectResult, RecordFrame, IHave, Want, Digest, Leaf, Seen, Call)
}


def encode_frame(frame: Frame) -> bytes:
    """Pack one frame."""
    body = frame.encode()
    return bytes([frame.TYPE]) + len(body).to_bytes(2, "big") + body


def encode_frames(frames: Iterable[Frame]) -> bytes:
    """Pack the plaintext of a datagram. Raises LimitError when it would not fit."""
    plaintext = b"".join([encode_frame(frame) for frame in frames])
    if len(plaintext) > PLAINTEXT_BYTES_MAX:
        raise LimitError(f"frames of {len(plaintext)} bytes where {PLAINTEXT_BYTES_MAX} fit")
    return plaintext


def parse_frames_untrusted(plaintext: bytes) -> list[Frame | UnknownFrame]:
    """Read all frames of an opened datagram. Raises MalformedError or LimitError."""
    frames: list[Frame | UnknownFrame] = []
    at, size = 0, len(plaintext)
    while at < size:
        if len(frames) >= FRAMES_PER_DATAGRAM_MAX:
            raise LimitError(f"more than {FRAMES_PER_DATAGRAM_MAX} frames")
        if at + 3 > size:
            raise MalformedError("a frame's head is cut short")
        number = plaintext[at]
        end = at + 3 + (plaintext[at + 1] << 8 | plaintext[at + 2])
        if end > size:
            raise MalformedError("a frame's body is cut short")
        body = plaintext[at + 3 : end]
        frame = _FRAMES.get(number)
        frames.append(frame.read_untrusted(body) if frame is not None else UnknownFrame(number, body))
        at = end
    return frames


def _exactly(body: bytes, size: int, what: str) -> None:
    if len(body) != size:
        raise MalformedError(f"{what}: {len(body)} bytes, not {size}")


def _chunks(body: bytes) -> tuple[bytes, ...]:
    return tuple(body[i : i + SHORT_ID_BYTES] for i in range(0, len(body), SHORT_ID_BYTES))


def _short_ids(body: bytes, what: str) -> tuple[bytes, ...]:
    if len(body) % SHORT_ID_BYTES:
        raise MalformedError(f"{what}: {len(body)} bytes are no whole number of ids")
    return _chunks(body)


def _prefix(body: bytes, what: str) -> tuple[bytes, bytes]:
    if not body or body[0] > 3 or len(body) < 1 + body[0]:
        raise MalformedError(f"{what}: no prefix")
    prefix = body[1 : 1 + body[0]]
    if any(digit >= DIGEST_BUCKETS for digit in prefix):
        raise MalformedError(f"{what}: a digit over 63")
    return prefix, body[1 + body[0] :]


assert KEY_BYTES == 32  # PingRequest's size rests on it
