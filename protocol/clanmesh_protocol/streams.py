"""Streams: the frames that travel inside TLS, and what a client signs to prove who it is.

A frame is `length u32 big-endian | type u8 | msgpack array`; `length` counts the type and the array. The server
greets, the client says who it is and what for, the server accepts or refuses; what follows depends on the
purpose. The order of frames is the README's; this module knows their shapes.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Final, Self, TypeAlias, get_args

from clanmesh_protocol.encoding import Fields, decode_untrusted, encode
from clanmesh_protocol.errors import LimitError, MalformedError, VersionError
from clanmesh_protocol.keys import (
    ClanId,
    NodeId,
    RecordId,
    sign_detached,
    signing_public,
    verify_detached_untrusted,
)
from clanmesh_protocol.limits import (
    CLAN_ID_BYTES,
    DISCOVERY_BYTES,
    KEY_BYTES,
    NAME_BYTES_MAX,
    PURPOSE_BYTES_MAX,
    RECORD_BYTES_MAX,
    RECORD_HEADER_BYTES,
    RECORD_ID_BYTES,
    REFUSAL_CODE_BYTES_MAX,
    REFUSAL_WHY_BYTES_MAX,
    SHORT_ID_BYTES,
    SIGNATURE_BYTES,
    STREAM_FRAME_BYTES_MAX,
    STREAM_LINE_BYTES_MAX,
    STREAM_LINES_MAX,
    STREAM_NONCE_BYTES,
    STREAM_VERSION,
    STREAM_WANTS_MAX,
)
from clanmesh_protocol.names import check_label_untrusted
from clanmesh_protocol.stream_relay import Relayed, Release, WantRelay
from clanmesh_protocol.stream_rollout import Ask, Pack, Tried, WantPack

STREAM_CONTEXT: Final = b"clanmesh/stream/1\0"
LENGTH_BYTES: Final = 4
FRAME_BYTES_MIN: Final = 2  # a type and an empty array


class Purpose(StrEnum):
    """What a stream is opened for."""

    JOIN = "join"  # the only one that is open to strangers
    RECORDS = "records"
    GIT = "git"  # raw bytes behind the Accept
    PACK = "pack"
    ROLLOUT = "rollout"
    LOG = "log"
    STORE = "store"  # one line, then raw bytes
    RELAY = "relay"  # raw bytes behind a Relayed that was asked for so
    DATAGRAMS = "datagrams"  # raw bytes behind the Accept


@dataclass(frozen=True, slots=True)
class Greeting:
    """The server's first frame: a fresh nonce for the client to sign."""

    TYPE: ClassVar[int] = 1
    version: int
    nonce: bytes  # 32
    server: NodeId

    def fields(self) -> list[object]:
        """The frame as an array."""
        return [self.version, self.nonce, self.server]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the frame. A later version raises VersionError before anything behind it is read."""
        version = fields.uint("version", 255)
        if version != STREAM_VERSION:
            raise VersionError(f"stream version {version}, this is version {STREAM_VERSION}")
        nonce = fields.blob("nonce", exactly=STREAM_NONCE_BYTES)
        return cls(version, nonce, NodeId(fields.blob("server", exactly=KEY_BYTES)))


@dataclass(frozen=True, slots=True)
class Hello:
    """The client's first frame: who it is, in which clan, what for. `check_hello_untrusted` proves it."""

    TYPE: ClassVar[int] = 2
    clan: ClanId
    client: NodeId
    purpose: str  # a later version's need not be in Purpose: the server refuses it by name
    signature: bytes  # over `hello_input`

    def fields(self) -> list[object]:
        """The frame as an array."""
        return [self.clan, self.client, str(self.purpose), self.signature]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the frame."""
        clan = ClanId(fields.blob("clan", exactly=CLAN_ID_BYTES))
        client = NodeId(fields.blob("client", exactly=KEY_BYTES))
        purpose = check_label_untrusted(fields.text("purpose", PURPOSE_BYTES_MAX), "purpose", PURPOSE_BYTES_MAX)
        return cls(clan, client, purpose, fields.blob("signature", exactly=SIGNATURE_BYTES))


@dataclass(frozen=True, slots=True)
class Accept:
    """The server agrees to the purpose."""

    TYPE: ClassVar[int] = 3

    def fields(self) -> list[object]:
        """The frame as an array."""
        return []

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the frame."""
        del fields
        return cls()


@dataclass(frozen=True, slots=True)
class Refuse:
    """No, with a code for programs and a sentence for people. The stream ends."""

    TYPE: ClassVar[int] = 4
    code: str
    why: str

    def fields(self) -> list[object]:
        """The frame as an array."""
        return [self.code, self.why]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the frame."""
        code = check_label_untrusted(fields.text("code", REFUSAL_CODE_BYTES_MAX), "code", REFUSAL_CODE_BYTES_MAX)
        return cls(code, fields.text("why", REFUSAL_WHY_BYTES_MAX))


@dataclass(frozen=True, slots=True)
class Join:
    """A stranger redeems an invite. Both proofs are over `records.redemption_input`."""

    TYPE: ClassVar[int] = 5
    invite: RecordId
    invite_key: bytes  # Ed25519 public key of the invite
    node: NodeId
    name: str
    invite_proof: bytes
    node_proof: bytes

    def fields(self) -> list[object]:
        """The frame as an array."""
        return [self.invite, self.invite_key, self.node, self.name, self.invite_proof, self.node_proof]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the frame. The proofs are not checked here: that needs the clan."""
        return cls(
            invite=RecordId(fields.blob("invite", exactly=RECORD_ID_BYTES)),
            invite_key=fields.blob("invite key", exactly=KEY_BYTES),
            node=NodeId(fields.blob("node", exactly=KEY_BYTES)),
            name=check_label_untrusted(fields.text("name", NAME_BYTES_MAX), "node name"),
            invite_proof=fields.blob("invite proof", exactly=SIGNATURE_BYTES),
            node_proof=fields.blob("node proof", exactly=SIGNATURE_BYTES),
        )


@dataclass(frozen=True, slots=True)
class Welcome:
    """The stranger is a member now; Bundles follow, then End."""

    TYPE: ClassVar[int] = 6
    discovery: bytes  # 16: the secret under the mDNS tag
    clan_name: str

    def fields(self) -> list[object]:
        """The frame as an array."""
        return [self.discovery, self.clan_name]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the frame."""
        discovery = fields.blob("discovery", exactly=DISCOVERY_BYTES)
        return cls(discovery, check_label_untrusted(fields.text("clan name", NAME_BYTES_MAX), "clan name"))


@dataclass(frozen=True, slots=True)
class Bundle:
    """Some whole records, authority first over all bundles; each still to be verified."""

    TYPE: ClassVar[int] = 7
    records: tuple[bytes, ...]

    def fields(self) -> list[object]:
        """The frame as an array."""
        return [list(self.records)]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the frame."""
        values = fields.array("records", STREAM_FRAME_BYTES_MAX // RECORD_HEADER_BYTES)
        rows = Fields(values, "bundle")
        return cls(tuple(_record(rows) for _ in values))


@dataclass(frozen=True, slots=True)
class WantRecords:
    """Short ids of the records that the client asks for."""

    TYPE: ClassVar[int] = 8
    ids: tuple[bytes, ...]

    def fields(self) -> list[object]:
        """The frame as an array."""
        return [list(self.ids)]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the frame."""
        return cls(fields.blobs("ids", STREAM_WANTS_MAX, SHORT_ID_BYTES))


@dataclass(frozen=True, slots=True)
class RecordData:
    """One whole record, still to be verified."""

    TYPE: ClassVar[int] = 9
    data: bytes

    def fields(self) -> list[object]:
        """The frame as an array."""
        return [self.data]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the frame."""
        return cls(_record(fields))


@dataclass(frozen=True, slots=True)
class Log:
    """Some lines of a rollout's log, oldest first, without line ends or control characters."""

    TYPE: ClassVar[int] = 10
    lines: tuple[str, ...]

    def fields(self) -> list[object]:
        """The frame as an array."""
        return [list(self.lines)]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the frame."""
        return cls(fields.texts("lines", STREAM_LINES_MAX, STREAM_LINE_BYTES_MAX))


@dataclass(frozen=True, slots=True)
class End:
    """The answer is complete: what is missing was not there."""

    TYPE: ClassVar[int] = 11

    def fields(self) -> list[object]:
        """The frame as an array."""
        return []

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the frame."""
        del fields
        return cls()


Frame: TypeAlias = (
    Greeting
    | Hello
    | Accept
    | Refuse
    | Join
    | Welcome
    | Bundle
    | WantRecords
    | RecordData
    | Log
    | End
    | WantPack
    | Pack
    | Ask
    | Tried
    | WantRelay
    | Relayed
    | Release
)
_FRAMES: Final[dict[int, type[Frame]]] = {frame.TYPE: frame for frame in get_args(Frame)}


def encode_frame(frame: Frame) -> bytes:
    """Pack one frame with its length. Raises LimitError when it is too large."""
    body = bytes([frame.TYPE]) + encode(frame.fields())
    if len(body) > STREAM_FRAME_BYTES_MAX:
        raise LimitError(f"a stream frame of {len(body)} bytes where {STREAM_FRAME_BYTES_MAX} are allowed")
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def read_frame_length_untrusted(head: bytes) -> int:
    """Read from a frame's first 4 bytes how many follow. Raises MalformedError or LimitError."""
    if len(head) != LENGTH_BYTES:
        raise MalformedError("a stream frame's length is cut short")
    length = int.from_bytes(head, "big")
    if length < FRAME_BYTES_MIN:
        raise MalformedError(f"a stream frame of {length} bytes")
    if length > STREAM_FRAME_BYTES_MAX:
        raise LimitError(f"a stream frame of {length} bytes where {STREAM_FRAME_BYTES_MAX} are allowed")
    return length


def read_frame_untrusted(body: bytes) -> Frame:
    """Read a frame behind its length. Raises MalformedError, LimitError, or VersionError for an unknown type.

    Unlike a datagram's, an unknown stream frame ends the stream: new ones come under purposes of their own.
    """
    if len(body) < FRAME_BYTES_MIN:
        raise MalformedError(f"a stream frame of {len(body)} bytes")
    frame = _FRAMES.get(body[0])
    if frame is None:
        raise VersionError(f"a stream frame of type {body[0]}, which this version does not know")
    values = decode_untrusted(body[1:], bytes_max=STREAM_FRAME_BYTES_MAX)
    return frame.read_untrusted(Fields(values, frame.__name__.lower()))


def hello_input(clan: ClanId, server: NodeId, client: NodeId, nonce: bytes, purpose: str) -> bytes:
    """What a client signs: with the server's identity and nonce in it, no other server can pass it on."""
    return STREAM_CONTEXT + clan + server + client + nonce + purpose.encode()


def make_hello(seed: bytes, clan: ClanId, server: NodeId, nonce: bytes, purpose: str) -> Hello:
    """Answer a greeting. `server` is the identity that the TLS certificate proved, not the greeting's word."""
    client = NodeId(signing_public(seed))
    signature = sign_detached(seed, hello_input(clan, server, client, nonce, purpose))
    return Hello(clan, client, str(purpose), signature)


def check_hello_untrusted(hello: Hello, server: NodeId, nonce: bytes) -> NodeId:
    """Prove who a client is, given this server's identity and the nonce it sent. Raises SignatureError."""
    statement = hello_input(hello.clan, server, hello.client, nonce, hello.purpose)
    verify_detached_untrusted(hello.client, statement, hello.signature)
    return hello.client


def _record(fields: Fields) -> bytes:
    data = fields.blob("record", at_most=RECORD_BYTES_MAX)
    if len(data) <= RECORD_HEADER_BYTES:
        raise MalformedError(f"a record of {len(data)} bytes is cut short")
    return data
