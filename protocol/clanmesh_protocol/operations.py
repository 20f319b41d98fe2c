"""Operations on the authority: what admins change together, one step behind another.

Each reads itself out of the fields of a payload, behind the operation's number. Numbers below 128 need the
majority of the admins' weight, the others the routine threshold, known to this version or not: so old and new
versions agree on which operations stand. The checkpoint is older than that rule, and routine.
"""

from dataclasses import dataclass
from typing import ClassVar, Final, Self, TypeAlias, get_args

from clanmesh_protocol.encoding import UINT32_MAX, Fields
from clanmesh_protocol.errors import MalformedError
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import (
    ABANDONED_MAX,
    ADMIN_WEIGHT_MAX,
    ADMINS_MAX,
    KEY_BYTES,
    NAME_BYTES_MAX,
    OPERATION_ROUTINE_MIN,
    SETTING_VALUE_BYTES_MAX,
    SIGNER_LINE_BYTES_MAX,
    SIGNERS_MAX,
    SLOT_BYTES_MAX,
)
from clanmesh_protocol.names import check_commit_untrusted, check_label_untrusted


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
            Admin(NodeId(row.blob("node", exactly=KEY_BYTES)), row.uint("weight", ADMIN_WEIGHT_MAX))
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


@dataclass(frozen=True, slots=True)
class AdminAdd:
    """Makes a key an admin, the least senior; or changes the weight of one."""

    OP: ClassVar[int] = 4
    node: NodeId
    weight: int

    def fields(self) -> list[object]:
        """The payload as an array."""
        return [self.OP, self.node, self.weight]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload behind its operation number."""
        node = NodeId(fields.blob("node", exactly=KEY_BYTES))
        weight = fields.uint("weight", ADMIN_WEIGHT_MAX)
        if weight == 0:
            raise MalformedError("admin: no weight")
        return cls(node, weight)


@dataclass(frozen=True, slots=True)
class AdminRemove:
    """Ends an admin's say, and pins the key: of what it signs only what this operation rests on stands."""

    OP: ClassVar[int] = 5
    node: NodeId

    def fields(self) -> list[object]:
        """The payload as an array."""
        return [self.OP, self.node]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload behind its operation number."""
        return cls(NodeId(fields.blob("node", exactly=KEY_BYTES)))


@dataclass(frozen=True, slots=True)
class AdminReplace:
    """Gives an admin's seniority and weight to another key, and pins the old one."""

    OP: ClassVar[int] = 6
    node: NodeId
    successor: NodeId

    def fields(self) -> list[object]:
        """The payload as an array."""
        return [self.OP, self.node, self.successor]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload behind its operation number."""
        node = NodeId(fields.blob("node", exactly=KEY_BYTES))
        return cls(node, NodeId(fields.blob("successor", exactly=KEY_BYTES)))


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How much weight operations need. Never less than the majority for those that need one."""

    OP: ClassVar[int] = 7
    govern: int  # 0: over half of the admins' weight
    routine: int  # 0 or 1: any admin

    def fields(self) -> list[object]:
        """The payload as an array."""
        return [self.OP, self.govern, self.routine]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload behind its operation number."""
        return cls(fields.uint("govern", UINT32_MAX), fields.uint("routine", UINT32_MAX))


@dataclass(frozen=True, slots=True)
class RecoveryReplace:
    """Changes the recovery key, and pins the old one."""

    OP: ClassVar[int] = 8
    key: bytes | None  # Ed25519 public; None: there is none any more

    def fields(self) -> list[object]:
        """The payload as an array."""
        return [self.OP, self.key]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload behind its operation number."""
        return cls(fields.blob_or_nil("key", exactly=KEY_BYTES))


@dataclass(frozen=True, slots=True)
class Setting:
    """Sets what all members heed; the empty text takes it back."""

    OP: ClassVar[int] = 128
    name: str
    value: str

    def fields(self) -> list[object]:
        """The payload as an array."""
        return [self.OP, self.name, self.value]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload behind its operation number."""
        name = check_label_untrusted(fields.text("name", NAME_BYTES_MAX), "setting")
        return cls(name, fields.text("value", SETTING_VALUE_BYTES_MAX))


@dataclass(frozen=True, slots=True)
class Resolution:
    """Ends a fork of the configuration: one head stands, the others and what rests on them are left for ever."""

    OP: ClassVar[int] = 129
    ref: str
    head: bytes  # the commit that stands
    abandoned: tuple[bytes, ...]  # sorted

    def fields(self) -> list[object]:
        """The payload as an array."""
        return [self.OP, self.ref, self.head, list(self.abandoned)]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload behind its operation number."""
        ref = check_label_untrusted(fields.text("ref", SLOT_BYTES_MAX), "ref")
        head = check_commit_untrusted(fields.blob("head", at_most=32), "head")
        rows = Fields(listed := fields.array("abandoned", ABANDONED_MAX), "resolution: abandoned")
        abandoned = tuple(check_commit_untrusted(rows.blob("item", at_most=32), "abandoned") for _ in listed)
        if not abandoned or list(abandoned) != sorted(set(abandoned)) or head in abandoned:
            raise MalformedError("resolution: heads that are none, unsorted, twice there, or the one that stands")
        return cls(ref, head, abandoned)


AuthorityOp: TypeAlias = (
    Genesis
    | SignerAdd
    | SignerRemove
    | Checkpoint
    | AdminAdd
    | AdminRemove
    | AdminReplace
    | Thresholds
    | RecoveryReplace
    | Setting
    | Resolution
)
AUTHORITY_OPS: Final[dict[int, type[AuthorityOp]]] = {op.OP: op for op in get_args(AuthorityOp)}


def is_routine(operation: int) -> bool:
    """Say whether an operation, by its number, needs the routine threshold and no majority."""
    return operation >= OPERATION_ROUTINE_MIN or operation == Checkpoint.OP
