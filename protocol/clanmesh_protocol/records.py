"""Records: signed registers with one writer each.

A record is `01 | author 32 | signature 64 | body`; the body is the array
`[kind, slot, seq, ttl_s, prev, payload]`, stored and forwarded as the bytes it came in. Parsing says nothing
about truth: only `signing.verify_untrusted` makes a record believable. What payloads mean is in `authority` and
`payloads`; their names can be imported from here too.
"""

import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, TypeAlias, get_args

from clanmesh_protocol.authority import (
    Acknowledgement,
    Approval,
    Credential,
    Equivocation,
    Invite,
    Redemption,
    Revocation,
    redemption_input,
)
from clanmesh_protocol.encoding import UINT32_MAX, Fields, decode_untrusted, encode
from clanmesh_protocol.errors import LimitError, MalformedError, VersionError
from clanmesh_protocol.heads import HEAD_NAMESPACE, head_statement
from clanmesh_protocol.keys import CLAN_ID_NONE, ClanId, NodeId, RecordId, clan_id_of, fingerprint_slot
from clanmesh_protocol.kinds import GENESIS_SLOT, PERMANENT_KINDS, SINGLE_SLOT, VOLATILE_KINDS, Kind
from clanmesh_protocol.limits import (
    KEY_BYTES,
    PAYLOAD_BYTES_MAX,
    PAYLOAD_BYTES_UNKNOWN_KIND_MAX,
    RECORD_BYTES_MAX,
    RECORD_HEADER_BYTES,
    RECORD_ID_BYTES,
    RECORD_VERSION,
    SIGNATURE_BYTES,
    SLOT_BYTES_MAX,
)
from clanmesh_protocol.names import check_label_untrusted, is_secret_name
from clanmesh_protocol.operations import (
    AUTHORITY_OPS,
    Admin,
    AdminAdd,
    AdminRemove,
    AdminReplace,
    AuthorityOp,
    Checkpoint,
    Genesis,
    RecoveryReplace,
    Resolution,
    Setting,
    SignerAdd,
    SignerRemove,
    Thresholds,
    is_routine,
)
from clanmesh_protocol.payloads import (
    Directive,
    Head,
    Node,
    RolloutState,
    Secret,
    SecretsState,
    Status,
    Suspicion,
    TunnelKey,
    Verb,
    Wrap,
    tunnel_proof_input,
)

__all__ = [
    "GENESIS_SLOT",
    "HEAD_NAMESPACE",
    "PERMANENT_KINDS",
    "RECORD_CONTEXT",
    "SINGLE_SLOT",
    "VOLATILE_KINDS",
    "Acknowledgement",
    "Admin",
    "AdminAdd",
    "AdminRemove",
    "AdminReplace",
    "Approval",
    "AuthorityOp",
    "Checkpoint",
    "Content",
    "Credential",
    "Directive",
    "Equivocation",
    "Genesis",
    "Head",
    "Invite",
    "Kind",
    "Node",
    "Publishable",
    "Record",
    "RecoveryReplace",
    "Redemption",
    "Resolution",
    "Revocation",
    "RolloutState",
    "Secret",
    "SecretsState",
    "Setting",
    "SignerAdd",
    "SignerRemove",
    "Status",
    "Suspicion",
    "Thresholds",
    "Tombstone",
    "TunnelKey",
    "Unknown",
    "Verb",
    "Wrap",
    "clan_of_genesis",
    "decode_content_untrusted",
    "encode_body",
    "head_statement",
    "is_routine",
    "parse_untrusted",
    "record_id",
    "redemption_input",
    "signature_of",
    "signing_input",
    "slot_of",
    "tunnel_proof_input",
]

RECORD_CONTEXT: Final = b"clanmesh/record/1\0"

_AUTHORITY_SLOT: Final = re.compile(r"[0-9]{8}")


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it was read or made. Frozen; `data` is the whole of it, verbatim."""

    data: bytes
    id: RecordId
    author: NodeId
    kind: int  # a later version's kind need not be in Kind
    slot: str
    seq: int  # hybrid logical clock: milliseconds since 1970 << 16 | counter
    ttl_s: int  # 0: until replaced
    prev: RecordId | None
    payload_at: int  # where in `data` it begins; a second copy would be half of what a large record takes
    payload_size: int  # bytes; 0: a tombstone

    @property
    def payload(self) -> bytes:
        """What the record says."""
        return self.data[self.payload_at : self.payload_at + self.payload_size]

    @property
    def register(self) -> tuple[NodeId, int, str]:
        """The register that this record is a value of."""
        return (self.author, self.kind, self.slot)

    @property
    def is_genesis(self) -> bool:
        """A record that founds a clan, signed outside of any."""
        return self.kind == Kind.AUTHORITY and self.slot == GENESIS_SLOT

    @property
    def is_volatile(self) -> bool:
        """Soft state, outside the hashed set."""
        return self.kind in VOLATILE_KINDS

    @property
    def order(self) -> tuple[int, bytes]:
        """What decides between two values of a register: seq, then id (equal seq is equivocation)."""
        return (self.seq, self.id)


def signing_input(scope: ClanId, author: bytes, body: bytes) -> bytes:
    """The bytes that a record's signature covers and its id is the hash of."""
    return RECORD_CONTEXT + scope + author + body


def record_id(signed: bytes) -> RecordId:
    """Hash what was signed; the signature itself is left out, so that no second id can be made for a content."""
    return RecordId(blake2b(signed, digest_size=RECORD_ID_BYTES).digest())


def encode_body(kind: int, slot: str, seq: int, ttl_s: int, prev: RecordId | None, payload: bytes) -> bytes:
    """Pack the body of a record."""
    return encode([kind, slot, seq, ttl_s, prev, payload])


def parse_untrusted(data: bytes, clan: ClanId) -> Record:
    """Read a record, its signature unproven. About 5 microseconds.

    Raises MalformedError, LimitError or VersionError.
    """
    if len(data) > RECORD_BYTES_MAX:
        raise LimitError(f"a record of {len(data)} bytes where {RECORD_BYTES_MAX} are allowed")
    if len(data) <= RECORD_HEADER_BYTES:
        raise MalformedError(f"a record of {len(data)} bytes is cut short")
    if data[0] != RECORD_VERSION:
        raise VersionError(f"record version {data[0]}, this is version {RECORD_VERSION}")
    author = NodeId(data[1 : 1 + KEY_BYTES])
    body = data[RECORD_HEADER_BYTES:]
    fields = Fields(decode_untrusted(body, bytes_max=RECORD_BYTES_MAX), "record")
    kind = fields.uint("kind", 255)
    slot = fields.text("slot", SLOT_BYTES_MAX)
    seq = fields.uint("seq")
    ttl_s = fields.uint("ttl", UINT32_MAX)
    prev = fields.blob_or_nil("prev", exactly=RECORD_ID_BYTES)
    limit = PAYLOAD_BYTES_MAX.get(kind, PAYLOAD_BYTES_UNKNOWN_KIND_MAX)
    payload = fields.blob("payload", at_most=limit)
    genesis = kind == Kind.AUTHORITY and slot == GENESIS_SLOT
    scope = CLAN_ID_NONE if genesis else clan
    return Record(
        data=data,
        id=record_id(signing_input(scope, author, body)),
        author=author,
        kind=kind,
        slot=slot,
        seq=seq,
        ttl_s=ttl_s,
        prev=RecordId(prev) if prev is not None else None,
        payload_at=data.index(payload, RECORD_HEADER_BYTES),  # at the first place that reads the same
        payload_size=len(payload),
    )


def clan_of_genesis(record: Record) -> ClanId:
    """The id of the clan that a genesis record founds."""
    return clan_id_of(record.author, record.data[RECORD_HEADER_BYTES:])


def signature_of(record: Record) -> bytes:
    """The signature within the record's bytes."""
    return record.data[1 + KEY_BYTES : 1 + KEY_BYTES + SIGNATURE_BYTES]


@dataclass(frozen=True, slots=True)
class Tombstone:
    """An empty payload: the register's content was withdrawn."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A kind or operation of a later version: stored and forwarded, not understood."""

    payload: bytes


Publishable: TypeAlias = (
    Credential
    | Revocation
    | Status
    | Node
    | Head
    | Secret
    | Suspicion
    | Invite
    | Redemption
    | Approval
    | Acknowledgement
    | Equivocation
    | Directive
)
Content: TypeAlias = AuthorityOp | Publishable | Tombstone | Unknown

_CONTENTS: Final[dict[int, type[Publishable]]] = {content.KIND: content for content in get_args(Publishable)}


def decode_content_untrusted(record: Record) -> Content:
    """Give the meaning of a record's payload, which must stand in its own slot.

    Raises MalformedError or LimitError.
    """
    if record.kind != Kind.AUTHORITY and record.kind not in _CONTENTS:
        return Unknown(record.payload) if record.payload_size else Tombstone()
    if not record.payload_size:
        if record.kind in PERMANENT_KINDS:
            raise MalformedError(f"{Kind(record.kind).name.lower()}: it cannot be withdrawn")
        return Tombstone()
    values = decode_untrusted(record.payload, bytes_max=PAYLOAD_BYTES_MAX[record.kind])
    fields = Fields(values, Kind(record.kind).name.lower())
    if record.kind == Kind.AUTHORITY:
        return _authority_op_untrusted(record, fields)
    content = _CONTENTS[record.kind].read_untrusted(fields)
    _check_slot_untrusted(record.slot, content)
    return content


def slot_of(content: Publishable) -> str:
    """Give the one slot that a content stands in: no second register can speak of its subject.

    Heads and secrets stand in whichever slot names them; for these the answer means nothing.
    """
    match content:
        case Credential(node=key) | Revocation(node=key) | Invite(key=key):
            return fingerprint_slot(key)
        case Redemption(invite_key=key, node=node):
            return fingerprint_slot(key + node)
        case Approval(operation=operation):
            return fingerprint_slot(operation)
        case Equivocation(author=author):
            return fingerprint_slot(author)
        case Directive(slot=slot):
            return slot
    return SINGLE_SLOT


def _check_slot_untrusted(slot: str, content: Publishable) -> None:
    if isinstance(content, Head):
        check_label_untrusted(slot, "ref")
    elif isinstance(content, Secret):
        if not is_secret_name(slot):
            raise MalformedError(f"secret: {slot!r} cannot be a file name")
    elif slot != slot_of(content):
        raise MalformedError(f"{content.KIND.name.lower()}: the slot {slot!r} is not the content's own")


def _authority_op_untrusted(record: Record, fields: Fields) -> Content:
    number = fields.uint("operation", 255)
    if not _AUTHORITY_SLOT.fullmatch(record.slot):
        raise MalformedError(f"authority: the slot {record.slot!r} is not of eight digits")
    if (number == Genesis.OP) != (record.slot == GENESIS_SLOT):
        raise MalformedError("a genesis stands in slot 00000000, and nothing else does")
    operation = AUTHORITY_OPS.get(number)
    return operation.read_untrusted(fields) if operation is not None else Unknown(record.payload)
