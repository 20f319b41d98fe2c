"""What the payloads of the other kinds mean: what members say of themselves, of each other and for each other.

Status, node, head, secret, suspicion and directive, and the statements that are signed inside of them by other
keys than the author's.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Self

from clanmesh_protocol.encoding import UINT32_MAX, Fields
from clanmesh_protocol.endpoints import Endpoint, endpoint_from_fields_untrusted
from clanmesh_protocol.errors import MalformedError
from clanmesh_protocol.keys import ClanId, NodeId, RecordId, fingerprint_slot
from clanmesh_protocol.kinds import Kind
from clanmesh_protocol.limits import (
    BAD_COMMITS_MAX,
    DIRECTIVE_REASON_BYTES_MAX,
    ENDPOINTS_MAX,
    KEY_BYTES,
    NAME_BYTES_MAX,
    PREKEYS_MAX,
    RECIPIENTS_MAX,
    RECORD_ID_BYTES,
    SECRET_VALUE_BYTES_MAX,
    SIGNATURE_BYTES,
    SLOT_BYTES_MAX,
    SUSPICIONS_MAX,
    TAG_BYTES_MAX,
)
from clanmesh_protocol.names import check_commit_untrusted, check_label_untrusted, is_account


class RolloutState(IntEnum):
    """Where a node is with the clan's revision (the names of `clanctl peers --json`, `_` for `-`)."""

    CURRENT = 0
    BEHIND = 1
    HELD = 2
    FETCHING = 3
    VERIFYING = 4
    BUILDING = 5
    TESTING = 6
    SOAKING = 7
    ROLLED_BACK = 8
    FAILED = 9

    @property
    def text(self) -> str:
        """The name as people see it."""
        return self.name.lower().replace("_", "-")


class SecretsState(IntEnum):
    """Whether a node's secrets are in place."""

    CURRENT = 0
    FAILED = 1

    @property
    def text(self) -> str:
        """The name as people see it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Status:
    """What a node says of itself. Its seq is the node's incarnation: only the subject can raise it."""

    KIND: ClassVar[Kind] = Kind.STATUS
    commit: bytes | None  # what runs
    wanted: bytes | None  # what it is on its way to
    rollout: RolloutState
    secrets_epoch: int
    secrets: SecretsState
    bad_commits: tuple[bytes, ...] = ()  # failed here; newest last

    def fields(self) -> list[object]:
        """The payload as an array."""
        return [
            self.commit,
            self.wanted,
            int(self.rollout),
            self.secrets_epoch,
            int(self.secrets),
            list(self.bad_commits),
        ]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload."""
        commit = _commit_or_nil(fields, "commit")
        wanted = _commit_or_nil(fields, "wanted")
        rollout = RolloutState(fields.uint("rollout", max(RolloutState)))
        epoch = fields.uint("secrets epoch")
        secrets = SecretsState(fields.uint("secrets", max(SecretsState)))
        rows = Fields(bad := fields.array("bad commits", BAD_COMMITS_MAX), "status: bad commits")
        return cls(commit, wanted, rollout, epoch, secrets, tuple(_commit(rows, "item") for _ in bad))


@dataclass(frozen=True, slots=True)
class TunnelKey:
    """A WireGuard key as it is published."""

    key: bytes  # Ed25519 form
    number: int
    proof: bytes  # by the key over `tunnel_proof_input`


def _tunnel_key_untrusted(rows: list[Fields]) -> TunnelKey | None:
    if not rows:
        return None
    (row,) = rows
    return TunnelKey(
        key=row.blob("key", exactly=KEY_BYTES),
        number=row.uint("number", UINT32_MAX),
        proof=row.blob("proof", exactly=SIGNATURE_BYTES),
    )


@dataclass(frozen=True, slots=True)
class Node:
    """How to reach a node and the public keys it uses."""

    KIND: ClassVar[Kind] = Kind.NODE
    static_key: bytes  # X25519, datagrams
    sealing_key: bytes  # X25519, secrets
    prekeys: tuple[tuple[int, bytes], ...]  # (id, X25519 key), newest last
    endpoints: tuple[Endpoint, ...]  # of the control port; hints
    tunnel_port: int  # WireGuard's
    tunnel_key: bytes  # Ed25519 form of the WireGuard key
    tunnel_number: int
    tunnel_proof: bytes  # by tunnel_key over `tunnel_proof_input`
    tunnel_next: TunnelKey | None = None  # to be known to all before it takes the other's place

    def fields(self) -> list[object]:
        """The payload as an array."""
        following = self.tunnel_next
        return [
            self.static_key,
            self.sealing_key,
            [[number, key] for number, key in self.prekeys],
            [[at.ip, at.port] for at in self.endpoints],
            self.tunnel_port,
            self.tunnel_key,
            self.tunnel_number,
            self.tunnel_proof,
            *([[[following.key, following.number, following.proof]]] if following is not None else []),
        ]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload. The proof is not checked here: that needs the clan and the author."""
        static = fields.blob("static key", exactly=KEY_BYTES)
        sealing = fields.blob("sealing key", exactly=KEY_BYTES)
        prekeys = tuple(
            (row.uint("id", 255), row.blob("key", exactly=KEY_BYTES))
            for row in fields.rows("prekeys", PREKEYS_MAX)
        )
        if not prekeys:
            raise MalformedError("node: no prekey")
        endpoints = tuple(endpoint_from_fields_untrusted(row) for row in fields.rows("endpoints", ENDPOINTS_MAX))
        return cls(
            static_key=static,
            sealing_key=sealing,
            prekeys=prekeys,
            endpoints=endpoints,
            tunnel_port=fields.uint("tunnel port", 65_535),
            tunnel_key=fields.blob("tunnel key", exactly=KEY_BYTES),
            tunnel_number=fields.uint("tunnel number", UINT32_MAX),
            tunnel_proof=fields.blob("tunnel proof", exactly=SIGNATURE_BYTES),
            tunnel_next=_tunnel_key_untrusted(fields.rows("next tunnel", 1)) if fields.more else None,
        )


@dataclass(frozen=True, slots=True)
class Head:
    """A signer's word that a ref of the configuration moves from `old` to `new`. Slot: the ref's short name."""

    KIND: ClassVar[Kind] = Kind.HEAD
    old: bytes | None
    new: bytes
    signature: bytes  # SSHSIG, binary, namespace `head@clanmesh`, over `head_statement`

    def fields(self) -> list[object]:
        """The payload as an array."""
        return [self.old, self.new, self.signature]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload."""
        old = _commit_or_nil(fields, "old")
        return cls(old, _commit(fields, "new"), fields.blob("signature", at_most=1900))


@dataclass(frozen=True, slots=True)
class Wrap:
    """The key of a secret's value, sealed to one recipient."""

    node: NodeId
    sealed: bytes  # 80 bytes: crypto_box_seal of 32


@dataclass(frozen=True, slots=True)
class Secret:
    """A value sealed to its recipients, with its place and its predecessor. Slot: the secret's name."""

    KIND: ClassVar[Kind] = Kind.SECRET
    epoch: int  # the predecessor's + 2; + 1 for the same value sealed again
    predecessor: RecordId | None
    owner: str
    group: str
    mode: int
    targets: tuple[str, ...]  # tags, `all` among them, sorted
    wraps: tuple[Wrap, ...]
    nonce: bytes  # 24
    ciphertext: bytes  # XChaCha20-Poly1305
    random_bytes: int = 0  # of a value that a device threw dice for, and can replace by itself; 0: a person's
    nodes: tuple[NodeId, ...] = ()  # devices it is for by themselves, sorted: a name could become another's

    @property
    def is_removed(self) -> bool:
        """It is for nobody: there is no secret of this name any more."""
        return not self.targets and not self.nodes

    def fields(self) -> list[object]:
        """The payload as an array."""
        return [
            self.epoch,
            self.predecessor,
            self.owner,
            self.group,
            self.mode,
            list(self.targets),
            [[wrap.node, wrap.sealed] for wrap in self.wraps],
            self.nonce,
            self.ciphertext,
            *([self.random_bytes] if self.random_bytes or self.nodes else []),
            *([list(self.nodes)] if self.nodes else []),
        ]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload."""
        epoch = fields.uint("epoch")
        predecessor = fields.blob_or_nil("predecessor", exactly=RECORD_ID_BYTES)
        owner = fields.text("owner", NAME_BYTES_MAX)
        group = fields.text("group", NAME_BYTES_MAX)
        if not is_account(owner) or not is_account(group):
            raise MalformedError("secret: owner or group is no account name")
        mode = fields.uint("mode", 0o777)
        targets = fields.texts("targets", RECIPIENTS_MAX, TAG_BYTES_MAX)
        wraps = tuple(
            Wrap(NodeId(row.blob("node", exactly=KEY_BYTES)), row.blob("sealed", exactly=80))
            for row in fields.rows("wraps", RECIPIENTS_MAX)
        )
        nonce = fields.blob("nonce", exactly=24)
        ciphertext = fields.blob("ciphertext", at_most=SECRET_VALUE_BYTES_MAX + 64)
        before = RecordId(predecessor) if predecessor is not None else None
        random_bytes = fields.uint("random bytes", SECRET_VALUE_BYTES_MAX) if fields.more else 0
        nodes = fields.blobs("nodes", RECIPIENTS_MAX, KEY_BYTES) if fields.more else ()
        return cls(
            epoch=epoch,
            predecessor=before,
            owner=owner,
            group=group,
            mode=mode,
            targets=targets,
            wraps=wraps,
            nonce=nonce,
            ciphertext=ciphertext,
            random_bytes=random_bytes,
            nodes=tuple(map(NodeId, nodes)),
        )


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Whom the author could not reach, each at an incarnation. Replaced as a whole."""

    KIND: ClassVar[Kind] = Kind.SUSPICION
    suspects: tuple[tuple[NodeId, int], ...]

    def fields(self) -> list[object]:
        """The payload as an array."""
        return [[[node, incarnation] for node, incarnation in self.suspects]]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload."""
        return cls(
            tuple(
                (NodeId(row.blob("node", exactly=KEY_BYTES)), row.uint("incarnation"))
                for row in fields.rows("suspects", SUSPICIONS_MAX)
            )
        )


class Verb(IntEnum):
    """What a directive asks of the rollout. Numbers of a later version are understood as nothing."""

    RESUME = 0
    PAUSE = 1
    PROMOTE = 2
    RETRY = 3


@dataclass(frozen=True, slots=True)
class Directive:
    """An admin's word on how a ref is rolled out: `slot_of` has one register for each topic and ref."""

    KIND: ClassVar[Kind] = Kind.DIRECTIVE
    verb: int
    ref: str
    number: int  # above all that its author saw on this topic: of several authors the highest stands
    commit: bytes | None  # what to promote, or to try again
    reason: str = ""  # for people

    @property
    def slot(self) -> str:
        """A pause and its end share a register, and so a topic; other verbs have one of their own."""
        topic = max(self.verb, int(Verb.PAUSE))
        return fingerprint_slot(bytes([topic]) + self.ref.encode())

    def fields(self) -> list[object]:
        """The payload as an array."""
        return [self.verb, self.ref, self.number, self.commit, self.reason]

    @classmethod
    def read_untrusted(cls, fields: Fields) -> Self:
        """Read the payload."""
        verb = fields.uint("verb", 255)
        ref = check_label_untrusted(fields.text("ref", SLOT_BYTES_MAX), "ref")
        number, commit = fields.uint("number"), _commit_or_nil(fields, "commit")
        if verb in (Verb.PROMOTE, Verb.RETRY) and commit is None:
            raise MalformedError("directive: no commit")
        return cls(verb, ref, number, commit, fields.text("reason", DIRECTIVE_REASON_BYTES_MAX))


def tunnel_proof_input(clan: ClanId, node: NodeId, number: int) -> bytes:
    """What a tunnel key signs to prove that its owner is `node`: nobody can claim another's key."""
    return b"clanmesh/tunnel/1\0" + clan + node + number.to_bytes(8, "big")


def _commit(fields: Fields, name: str) -> bytes:
    return check_commit_untrusted(fields.blob(name, at_most=32), name)


def _commit_or_nil(fields: Fields, name: str) -> bytes | None:
    commit = fields.blob_or_nil(name, at_most=32)
    return check_commit_untrusted(commit, name) if commit is not None else None
