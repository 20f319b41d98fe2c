"""What the payloads of authority and admission mean: who is in the clan, and who says so.

Operations on the authority, credentials, revocations, invites and redemptions. Each reads itself out of the
fields of a payload; none of it is believed before its record's signature is, nor obeyed before the ledger says
that the author may.
"""

from dataclasses import dataclass
from typing import ClassVar, Self, TypeAlias

from clanmesh_protocol.encoding import Fields
from clanmesh_protocol.errors import MalformedError
from clanmesh_protocol.keys import ClanId, NodeId, RecordId
from clanmesh_protocol.kinds import Kind
from clanmesh_protocol.limits import (
    ADMINS_MAX,
    INVITE_USES_MAX,
    KEY_BYTES,
    NAME_BYTES_MAX,
    RECORD_ID_BYTES,
    SIGNATURE_BYTES,
    SIGNER_LINE_BYTES_MAX,
    SIGNERS_MAX,
    SLOT_BYTES_MAX,
    TAG_BYTES_MAX,
    TAGS_MAX,
)
from clanmesh_protocol.names import check_commit_untrusted, check_label_untrusted, check_tags_untrusted


@dataclass(frozen=True, slots=True)
class Admin:
    """An administrator and what their word weighs."""

    node: NodeId
    weight: int


@dataclass(frozen=True, slots=True)
class Genesis:
    """Founds a clan: its name, the first admins, the recovery key and the first signers."""

    OP: ClassVar[int] = 0
    name: str
    admins: tuple[Admin, ...]
    recovery: bytes | None  # Ed25519 public key kept offline
    signers: tuple[str, ...]  # lines of authorized_keys form: `ssh-ed25519 AAAA… comment`

    def fields(self) -> list[object]:
        """The payload as an array."""
        admins = [[admin.node, admin.weight] for admin in self.admins]
        return [self.OP, self.name, admins, self.recovery, list(self.signers)]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload behind its operation number."""
        name = check_label_untrusted(fields.text("name", NAME_BYTES_MAX), "clan name")
        admins = tuple(
            Admin(NodeId(row.blob("node", exactly=KEY_BYTES)), row.uint("weight", 1000))
            for row in fields.rows("admins", ADMINS_MAX)
        )
        if not admins or len({admin.node for admin in admins}) != len(admins):
            raise MalformedError("genesis: no admin, or one twice")
        if any(admin.weight == 0 for admin in admins):
            raise MalformedError("genesis: an admin without weight")
        recovery = fields.blob_or_nil("recovery", exactly=KEY_BYTES)
        signers = fields.texts("signers", SIGNERS_MAX, SIGNER_LINE_BYTES_MAX)
        return cls(name, admins, recovery, signers)


@dataclass(frozen=True, slots=True)
class SignerAdd:
    """Lets an SSH key sign commits and heads."""

    OP: ClassVar[int] = 1
    line: str

    def fields(self) -> list[object]:
        """The payload as an array."""
        return [self.OP, self.line]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload behind its operation number."""
        return cls(fields.text("line", SIGNER_LINE_BYTES_MAX))


@dataclass(frozen=True, slots=True)
class SignerRemove:
    """Ends an SSH key's say, for all commits it ever signed behind the checkpoint."""

    OP: ClassVar[int] = 2
    line: str

    def fields(self) -> list[object]:
        """The payload as an array."""
        return [self.OP, self.line]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload behind its operation number."""
        return cls(fields.text("line", SIGNER_LINE_BYTES_MAX))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Accepts a commit and all behind it by hash: history from before the clan."""

    OP: ClassVar[int] = 3
    ref: str
    commit: bytes  # 20 or 32 bytes

    def fields(self) -> list[object]:
        """The payload as an array."""
        return [self.OP, self.ref, self.commit]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload behind its operation number."""
        ref = check_label_untrusted(fields.text("ref", SLOT_BYTES_MAX), "ref")
        return cls(ref, check_commit_untrusted(fields.blob("commit", at_most=32), "commit"))


AuthorityOp: TypeAlias = Genesis | SignerAdd | SignerRemove | Checkpoint
AUTHORITY_OPS: dict[int, type[AuthorityOp]] = {op.OP: op for op in (Genesis, SignerAdd, SignerRemove, Checkpoint)}


@dataclass(frozen=True, slots=True)
class Credential:
    """An admin's word that a key is a member, with a name and tags. Slot: `fingerprint_slot(node)`."""

    KIND: ClassVar[Kind] = Kind.CREDENTIAL
    node: NodeId
    name: str
    tags: tuple[str, ...]
    expires_unix_s: int  # 0: never
    redemption: RecordId | None  # the redemption that this confirms

    def fields(self) -> list[object]:
        """The payload as an array."""
        return [self.node, self.name, list(self.tags), self.expires_unix_s, self.redemption]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload."""
        node = NodeId(fields.blob("node", exactly=KEY_BYTES))
        name = check_label_untrusted(fields.text("name", NAME_BYTES_MAX), "node name")
        tags = check_tags_untrusted(fields.texts("tags", TAGS_MAX, TAG_BYTES_MAX))
        expires = fields.uint("expires")
        redemption = fields.blob_or_nil("redemption", exactly=RECORD_ID_BYTES)
        return cls(node, name, tags, expires, RecordId(redemption) if redemption is not None else None)


@dataclass(frozen=True, slots=True)
class Revocation:
    """An admin's word that a key is out, for ever. Slot: `fingerprint_slot(node)`."""

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

    def fields(self) -> list[object]:
        """The payload as an array."""
        return [self.key, self.name, list(self.tags), self.uses, self.expires_unix_s]

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
        return cls(key, name, tags, uses, fields.uint("expires"))


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


def redemption_input(clan: ClanId, invite: RecordId, node: NodeId, name: str) -> bytes:
    """What the invite's key and the device's key sign when a device joins."""
    return b"clanmesh/redemption/1\0" + clan + invite + node + name.encode()
