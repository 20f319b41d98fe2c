"""The authority chain: who the admins are, who may sign commits, and from which commit on.

Each operation has one parent, so its state is a function of the operations before it. Of several children the
one by the author of more weight in the parent's state goes on; then the more senior author's (the order of the
parent's list of admins); then the lower id. The last rule can be ground by trying contents, so it decides only
between two operations of one author.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from clanmesh_protocol.keys import NodeId, RecordId
from clanmesh_protocol.limits import SIGNERS_MAX
from clanmesh_protocol.records import (
    Admin,
    AuthorityOp,
    Checkpoint,
    Content,
    Genesis,
    Kind,
    Record,
    SignerAdd,
    SignerRemove,
)
from clanmesh_protocol.signing import Verified
from clanmeshd.core.ledger import Ledger

CHECKPOINTS_MAX: Final = 16  # the newest that still count: a node that is behind more of them begins at the last


@dataclass(frozen=True, slots=True)
class Chain:
    """The state at the head of the chain."""

    name: str  # of the clan
    admins: tuple[Admin, ...]  # in the order of their seniority
    recovery: bytes | None  # Ed25519 public key
    signers: tuple[str, ...]  # authorized_keys lines
    checkpoints: tuple[tuple[str, bytes], ...]  # (ref, commit), newest last
    ids: tuple[RecordId, ...]  # of the operations, genesis first, head last

    @property
    def next_slot(self) -> str:
        """The slot that the next operation stands in."""
        return operation_slot(len(self.ids))

    def is_admin(self, node: NodeId) -> bool:
        """An admin at the head."""
        return any(admin.node == node for admin in self.admins)

    def seniority(self, node: NodeId) -> int:
        """An admin's place in the list; others stand behind all of them."""
        places = [place for place, admin in enumerate(self.admins) if admin.node == node]
        return places[0] if places else len(self.admins)

    def weight(self, node: NodeId) -> int:
        """What an admin's word weighs; of others nothing."""
        return sum(admin.weight for admin in self.admins if admin.node == node)


def operation_slot(number: int) -> str:
    """The slot of the operation with this number; genesis has number 0."""
    return f"{number:08d}"


def follow(ledger: Ledger) -> Chain | None:
    """Walk from genesis to the head. None as long as the genesis is missing."""
    children: dict[RecordId | None, list[Verified[Record]]] = {}
    for entry in ledger.of_kind(Kind.AUTHORITY):
        children.setdefault(entry.value.prev, []).append(entry)
    chain = _begin(children.get(None, []))
    while chain is not None:
        child = _choose(chain, children.get(chain.ids[-1], []))
        if child is None:
            return chain
        chain = _step(chain, child)
    return None


def orphans(ledger: Ledger, chain: Chain, author: NodeId) -> list[AuthorityOp]:
    """An author's operations that lost to another's and still mean something, oldest first: to be said again."""
    on_chain = set(chain.ids)
    lost: list[AuthorityOp] = []
    for entry in sorted(ledger.of_kind(Kind.AUTHORITY), key=lambda entry: entry.value.order):
        operation = entry.content
        if entry.value.author != author or entry.value.id in on_chain:
            continue
        if isinstance(operation, SignerAdd | SignerRemove | Checkpoint) and _effect(chain, operation) != chain:
            lost.append(operation)
    return lost


def signer_key(line: str) -> tuple[str, ...]:
    """The type and key of a signer's line: what makes two lines the same signer."""
    return tuple(line.split()[:2])


def _begin(roots: Iterable[Verified[Record]]) -> Chain | None:
    for entry in roots:
        genesis = entry.content
        if entry.value.is_genesis and isinstance(genesis, Genesis):
            return Chain(
                genesis.name, genesis.admins, genesis.recovery, genesis.signers, (), (RecordId(entry.value.id),)
            )
    return None


def _choose(chain: Chain, children: list[Verified[Record]]) -> Verified[Record] | None:
    def rank(entry: Verified[Record]) -> tuple[int, int, bytes]:
        author = entry.value.author
        return (-chain.weight(author), chain.seniority(author), entry.value.id)

    slot = chain.next_slot
    valid = [entry for entry in children if entry.value.slot == slot and chain.weight(entry.value.author) > 0]
    return min(valid, key=rank, default=None)


def _step(chain: Chain, entry: Verified[Record]) -> Chain:
    changed = _effect(chain, entry.content)
    return replace(changed, ids=(*chain.ids, entry.value.id))


def _effect(chain: Chain, operation: Content) -> Chain:
    """The state after an operation; one of a later version changes nothing that this version knows."""
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
    return chain
