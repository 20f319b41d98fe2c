"""What the payloads of admission mean: who is in the clan, who says so, and who agrees.

Credentials, revocations, invites and redemptions; approvals and acknowledgements of operations on the authority;
proofs that an author signed two things at once. Each reads itself out of the fields of a payload; none of it is
believed before its record's signature is, nor obeyed before the ledger says that the author may.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

from clanmesh_protocol.encoding import UINT32_MAX, Fields
from clanmesh_protocol.errors import MalformedError
from clanmesh_protocol.keys import ClanId, NodeId, RecordId
from clanmesh_protocol.kinds import Kind
from clanmesh_protocol.limits import (
    INVITE_USES_MAX,
    KEY_BYTES,
    NAME_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    RECORD_HEADER_BYTES,
    RECORD_ID_BYTES,
    REPLACED_MAX,
    SIGNATURE_BYTES,
    TAG_BYTES_MAX,
    TAGS_MAX,
)
from clanmesh_protocol.names import check_label_untrusted, check_tags_untrusted


@dataclass(frozen=True, slots=True)
class Credential:
    """An admin's word that a key is a member, with a name and tags. Slot: `fingerprint_slot(node)`."""

    KIND: ClassVar[Kind] = Kind.CREDENTIAL
    node: NodeId
    name: str
    tags: tuple[str, ...]
    expires_unix_s: int  # 0: never
    redemption: RecordId | None  # the redemption that this confirms
    replaces: tuple[RecordId, ...] = ()  # other admins' credentials of this node that this one goes before
    succeeds: NodeId | None = None  # the same device's former key, which is out as soon as this counts
    invite: RecordId | None = None  # that the node came by: one of its uses is taken, whatever else is said

    def fields(self) -> list[object]:
        """The payload as an array."""
        first: list[object] = [self.node, self.name, list(self.tags), self.expires_unix_s, self.redemption]
        if not self.replaces and not self.succeeds and not self.invite:
            return first
        tail = [None, None, list(self.replaces), self.succeeds]
        return [*first, *tail, self.invite] if self.invite else [*first, *tail]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload."""
        node = NodeId(fields.blob("node", exactly=KEY_BYTES))
        name = check_label_untrusted(fields.text("name", NAME_BYTES_MAX), "node name")
        tags = check_tags_untrusted(fields.texts("tags", TAGS_MAX, TAG_BYTES_MAX))
        expires = fields.uint("expires")
        redemption = fields.blob_or_nil("redemption", exactly=RECORD_ID_BYTES)
        confirms = RecordId(redemption) if redemption is not None else None
        fields.skip(2)  # reserved: the first version's vectors let anything stand there
        if not fields.more:
            return cls(node, name, tags, expires, confirms)
        replaces = tuple(map(RecordId, fields.blobs("replaces", REPLACED_MAX, RECORD_ID_BYTES)))
        succeeds = fields.blob_or_nil("succeeds", exactly=KEY_BYTES)
        if succeeds == node:
            raise MalformedError("credential: a key cannot succeed itself")
        invite = fields.blob_or_nil("invite", exactly=RECORD_ID_BYTES) if fields.more else None
        return cls(
            node,
            name,
            tags,
            expires,
            confirms,
            replaces,
            NodeId(succeeds) if succeeds is not None else None,
            RecordId(invite) if invite is not None else None,
        )


@dataclass(frozen=True, slots=True)
class Revocation:
    """A key is out, for ever: a member's, by an admin or by itself, or an invite's.

    Slot: `fingerprint_slot(node)`.
    """

    KIND: ClassVar[Kind] = Kind.REVOCATION
    node: NodeId
    reason: str

    def fields(self) -> list[object]:
        """The payload as an array."""
        return [self.node, self.reason]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload."""
        return cls(NodeId(fields.blob("node", exactly=KEY_BYTES)), fields.text("reason", 128))


@dataclass(frozen=True, slots=True)
class Invite:
    """An admin's word that whoever holds a key may join. Slot: `fingerprint_slot(key)`."""

    KIND: ClassVar[Kind] = Kind.INVITE
    key: bytes  # Ed25519 public; the token holds its seed
    name: str | None  # the name the device shall have
    tags: tuple[str, ...]
    uses: int
    expires_unix_s: int
    succeeds: NodeId | None = None  # the device's former key: confirming the one that comes puts that one out

    def fields(self) -> list[object]:
        """The payload as an array."""
        first: list[object] = [self.key, self.name, list(self.tags), self.uses, self.expires_unix_s]
        return [*first, self.succeeds] if self.succeeds else first

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload."""
        key = fields.blob("key", exactly=KEY_BYTES)
        name = fields.text_or_nil("name", NAME_BYTES_MAX)
        if name is not None:
            check_label_untrusted(name, "node name")
        tags = check_tags_untrusted(fields.texts("tags", TAGS_MAX, TAG_BYTES_MAX))
        uses = fields.uint("uses", INVITE_USES_MAX)
        if uses == 0:
            raise MalformedError("invite: no use")
        expires = fields.uint("expires")
        succeeds = fields.blob_or_nil("succeeds", exactly=KEY_BYTES) if fields.more else None
        return cls(key, name, tags, uses, expires, NodeId(succeeds) if succeeds is not None else None)


@dataclass(frozen=True, slots=True)
class Redemption:
    """A device joined by an invite; the author admitted it and vouches for the time.

    Slot: `fingerprint_slot(invite key | node)`. Both proofs are over `redemption_input`.
    """

    KIND: ClassVar[Kind] = Kind.REDEMPTION
    invite: RecordId
    invite_key: bytes
    node: NodeId
    name: str
    at_unix_s: int
    invite_proof: bytes  # by the invite's key
    node_proof: bytes  # by the device's key

    def fields(self) -> list[object]:
        """The payload as an array."""
        return [
            self.invite,
            self.invite_key,
            self.node,
            self.name,
            self.at_unix_s,
            self.invite_proof,
            self.node_proof,
        ]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload. The proofs are not checked here: that needs the clan."""
        return cls(
            invite=RecordId(fields.blob("invite", exactly=RECORD_ID_BYTES)),
            invite_key=fields.blob("invite key", exactly=KEY_BYTES),
            node=NodeId(fields.blob("node", exactly=KEY_BYTES)),
            name=check_label_untrusted(fields.text("name", NAME_BYTES_MAX), "node name"),
            at_unix_s=fields.uint("at"),
            invite_proof=fields.blob("invite proof", exactly=SIGNATURE_BYTES),
            node_proof=fields.blob("node proof", exactly=SIGNATURE_BYTES),
        )


@dataclass(frozen=True, slots=True)
class Approval:
    """An admin's signature under another's operation. Slot: `fingerprint_slot(operation)`."""

    KIND: ClassVar[Kind] = Kind.APPROVAL
    operation: RecordId

    def fields(self) -> list[object]:
        """The payload as an array."""
        return [self.operation]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload."""
        return cls(RecordId(fields.blob("operation", exactly=RECORD_ID_BYTES)))


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The head of the authority chain that an admin's device follows. Its seq says when."""

    KIND: ClassVar[Kind] = Kind.ACKNOWLEDGEMENT
    number: int  # of the operation; genesis has 0
    head: RecordId

    def fields(self) -> list[object]:
        """The payload as an array."""
        return [self.number, self.head]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload."""
        number = fields.uint("number", UINT32_MAX)
        return cls(number, RecordId(fields.blob("head", exactly=RECORD_ID_BYTES)))


@dataclass(frozen=True, slots=True)
class Equivocation:
    """Proof that an author signed two contents for one register and seq. Slot: `fingerprint_slot(their author)`.

    Both are whole records. That they prove it is checked where signatures are: a record that does not is refused.
    """

    KIND: ClassVar[Kind] = Kind.EQUIVOCATION
    lower: bytes  # the record of the lower id
    higher: bytes

    @property
    def author(self) -> NodeId:
        """Who signed both."""
        return NodeId(self.lower[1 : 1 + KEY_BYTES])

    def fields(self) -> list[object]:
        """The payload as an array."""
        return [self.lower, self.higher]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload."""
        at_most = PAYLOAD_BYTES_MAX[cls.KIND]
        proof = cls(fields.blob("lower", at_most=at_most), fields.blob("higher", at_most=at_most))
        if min(len(proof.lower), len(proof.higher)) <= RECORD_HEADER_BYTES:
            raise MalformedError("equivocation: a record is cut short")
        return proof


def redemption_input(clan: ClanId, invite: RecordId, node: NodeId, name: str) -> bytes:
    """What the invite's key and the device's key sign when a device joins."""
    return b"clanmesh/redemption/1\0" + clan + invite + node + name.encode()
