"""The state of the authority: who the admins are, what they have settled, and what each operation does to it.

A state is a value. It knows its number in the chain and the keys that are pinned by then; which of several
histories is followed is `forks`' question, and which operations are valid is `tree`'s.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from clanmesh_protocol.encoding import decode_untrusted
from clanmesh_protocol.keys import NodeId, RecordId
from clanmesh_protocol.kinds import Kind
from clanmesh_protocol.limits import (
    ADMINS_MAX,
    PAYLOAD_BYTES_MAX,
    RECORD_ID_BYTES,
    SETTINGS_MAX,
    SIGNERS_MAX,
)
from clanmesh_protocol.records import (
    Admin,
    AdminAdd,
    AdminRemove,
    AdminReplace,
    Checkpoint,
    Content,
    Genesis,
    RecoveryReplace,
    Resolution,
    Setting,
    SignerAdd,
    SignerRemove,
    Thresholds,
    Unknown,
    is_routine,
)

HEAD_NONE: Final = RecordId(bytes(RECORD_ID_BYTES))
CHECKPOINTS_MAX: Final = 16  # the newest that still count: a node that is behind more of them begins at the last
RESOLUTIONS_MAX: Final = 64  # the newest that still count: abandoned heads older than that nobody claims any more


@dataclass(frozen=True, slots=True)
class Chain:
    """The state after an operation."""

    name: str = ""  # of the clan
    admins: tuple[Admin, ...] = ()  # in the order of their seniority
    recovery: bytes | None = None  # Ed25519 public key
    signers: tuple[str, ...] = ()  # authorized_keys lines
    checkpoints: tuple[tuple[str, bytes], ...] = ()  # (ref, commit), newest last
    resolutions: tuple[Resolution, ...] = ()  # of forks of the configuration, newest last
    govern: int = 0  # weight that governing needs; 0: the majority, which is also the least
    routine: int = 1  # weight that routine operations need
    settings: Mapping[str, str] = field(default_factory=dict)
    pinned: frozenset[bytes] = frozenset()  # former admins and recovery keys: they never come back
    number: int = -1  # of the operation; genesis has 0
    head: RecordId = HEAD_NONE  # the operation's id

    @property
    def next_slot(self) -> str:
        """The slot that the next operation stands in."""
        return operation_slot(self.number + 1)

    @property
    def total_weight(self) -> int:
        """What all admins weigh together."""
        return sum(admin.weight for admin in self.admins)

    @property
    def majority(self) -> int:
        """The least weight that is over half of all."""
        return self.total_weight // 2 + 1

    def need(self, operation: int) -> int:
        """The weight that an operation needs to stand, by its number. Never more than there is."""
        if is_routine(operation):
            return max(1, min(self.routine, self.total_weight))
        return max(self.majority, min(self.govern, self.total_weight))

    def is_admin(self, node: NodeId) -> bool:
        """Whether a key is an admin's in this state."""
        return any(admin.node == node for admin in self.admins)

    def seniority(self, node: NodeId) -> int:
        """An admin's place in the list; others stand behind all of them."""
        for place, admin in enumerate(self.admins):
            if admin.node == node:
                return place
        return len(self.admins)

    def weight(self, nodes: Iterable[NodeId]) -> int:
        """What these keys weigh together, each once; of others than admins nothing."""
        wanted = frozenset(nodes)
        return sum(admin.weight for admin in self.admins if admin.node in wanted)


def operation_slot(number: int) -> str:
    """The slot of the operation with this number; genesis has number 0."""
    return f"{number:08d}"


def operation_number(operation: Content) -> int:
    """The number that an operation's payload begins with, known to this version or not."""
    if isinstance(operation, Unknown):
        number = decode_untrusted(operation.payload, bytes_max=PAYLOAD_BYTES_MAX[Kind.AUTHORITY])[0]
        assert isinstance(number, int), "an operation without a number is refused at the door"
        return number
    return int(getattr(operation, "OP"))  # noqa: B009


def signer_key(line: str) -> tuple[str, ...]:
    """The type and key of a signer's line: what makes two lines the same signer."""
    return tuple(line.split()[:2])


def begin(genesis: Genesis) -> Chain:
    """The state after a genesis, but for number and head. A recovery key that is an admin's is none."""
    is_admins = any(admin.node == genesis.recovery for admin in genesis.admins)
    return Chain(genesis.name, genesis.admins, None if is_admins else genesis.recovery, genesis.signers)


def after(chain: Chain, operation: Content) -> Chain:
    """The state after an operation, but for number and head.

    One that has no effect gives the same state, and so does one of a later version: it may mean something there,
    but nothing that this version could act against.
    """
    match operation:
        case SignerAdd() | SignerRemove() | Checkpoint() | Resolution():
            return _after_commits(chain, operation)
        case AdminAdd() | AdminRemove() | AdminReplace():
            return _after_admins(chain, operation)
        case Thresholds(govern=govern, routine=routine):
            return replace(chain, govern=govern, routine=max(1, routine))
        case RecoveryReplace(key=key):
            return _after_recovery(chain, key)
        case Setting(name=name, value=value):
            return _after_setting(chain, name, value)
    return chain


def _after_commits(chain: Chain, operation: SignerAdd | SignerRemove | Checkpoint | Resolution) -> Chain:
    match operation:
        case SignerAdd(line=line):
            known = {signer_key(signer) for signer in chain.signers}
            if signer_key(line) in known or len(chain.signers) >= SIGNERS_MAX:
                return chain
            return replace(chain, signers=(*chain.signers, line))
        case SignerRemove(line=line):
            stay = tuple(signer for signer in chain.signers if signer_key(signer) != signer_key(line))
            return replace(chain, signers=stay)
        case Checkpoint(ref=ref, commit=commit):
            if chain.checkpoints[-1:] == ((ref, commit),):
                return chain
            return replace(chain, checkpoints=(*chain.checkpoints, (ref, commit))[-CHECKPOINTS_MAX:])
        case Resolution():
            if operation in chain.resolutions:
                return chain
            return replace(chain, resolutions=(*chain.resolutions, operation)[-RESOLUTIONS_MAX:])


def _after_admins(chain: Chain, operation: AdminAdd | AdminRemove | AdminReplace) -> Chain:
    node = operation.node
    place = chain.seniority(node)
    before, behind = chain.admins[:place], chain.admins[place + 1 :]
    is_admin = place < len(chain.admins)
    match operation:
        case AdminAdd(weight=weight):
            if not _may_become_admin(chain, node) or (not is_admin and len(chain.admins) >= ADMINS_MAX):
                return chain
            return replace(chain, admins=(*before, Admin(node, weight), *behind))
        case AdminRemove():
            if not is_admin or len(chain.admins) == 1:
                return chain  # without an admin a clan could never again decide anything
            return replace(chain, admins=(*before, *behind), pinned=chain.pinned | {node})
        case AdminReplace(successor=successor):
            if not is_admin or chain.is_admin(successor) or not _may_become_admin(chain, successor):
                return chain
            admins = (*before, Admin(successor, chain.admins[place].weight), *behind)
            return replace(chain, admins=admins, pinned=chain.pinned | {node})


def _may_become_admin(chain: Chain, node: bytes) -> bool:
    # Pinning the recovery key must never silence an admin, nor the other way round: no key is both.
    return node not in chain.pinned and node != chain.recovery


def _after_recovery(chain: Chain, key: bytes | None) -> Chain:
    if key == chain.recovery or key in chain.pinned or any(admin.node == key for admin in chain.admins):
        return chain
    old = frozenset({chain.recovery} if chain.recovery is not None else ())
    return replace(chain, recovery=key, pinned=chain.pinned | old)


def _after_setting(chain: Chain, name: str, value: str) -> Chain:
    settings = {key: kept for key, kept in chain.settings.items() if key != name}
    if value and len(settings) < SETTINGS_MAX:
        settings[name] = value
    elif value:
        return chain
    return replace(chain, settings=dict(sorted(settings.items())))
