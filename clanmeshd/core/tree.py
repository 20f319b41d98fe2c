"""The tree of valid operations: all histories of the authority that the record set allows.

An operation is valid when its parent is, when it stands in the next slot, and when those who signed it (its
author and the authors of approvals) carry enough weight in the parent's state, or the recovery key signed it.
Which branch is followed is `forks`' question. Everything here is a pure function of the record set.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from clanmesh_protocol.keys import NodeId, RecordId
from clanmesh_protocol.records import Approval, Content, Genesis, Kind, Record
from clanmesh_protocol.signing import Verified
from clanmeshd.core.chain import Chain, after, begin, operation_number
from clanmeshd.core.ledger import Ledger

_NOBODY: Final[frozenset[NodeId]] = frozenset()


@dataclass(frozen=True, slots=True)
class Facts:
    """What several operations show together: one and all that rest on it."""

    authors: frozenset[bytes] = frozenset()
    signers: frozenset[bytes] = frozenset()  # authors and approvers
    pins: frozenset[bytes] = frozenset()  # keys that one of them pinned
    ended: frozenset[bytes] = frozenset()  # keys that one of them pinned which they did not sign as its author

    def __or__(self, other: "Facts") -> "Facts":
        return Facts(
            _joined(self.authors, other.authors),
            _joined(self.signers, other.signers),
            _joined(self.pins, other.pins),
            _joined(self.ended, other.ended),
        )


def _joined(some: frozenset[bytes], others: frozenset[bytes]) -> frozenset[bytes]:
    # Along a history of thousands of operations these are mostly the same few keys: kept once.
    if some >= others:
        return some
    return others if others >= some else some | others


@dataclass(slots=True, eq=False)
class Step:
    """A valid operation, its place in the tree, and the state after it."""

    record: Record
    operation: Content
    parent: "Step | None"
    signers: frozenset[NodeId]  # author and approvers who count in the parent's state
    state: Chain
    children: list["Step"] = field(default_factory=list)
    below: Facts = Facts()  # of this operation and all that rest on it

    @property
    def id(self) -> RecordId:
        """The operation's record id."""
        return self.record.id

    @property
    def pins(self) -> frozenset[bytes]:
        """The keys that this operation pinned."""
        if self.parent is None or self.state.pinned is self.parent.state.pinned:
            return frozenset()
        return self.state.pinned - self.parent.state.pinned

    @property
    def facts(self) -> Facts:
        """What this operation alone shows."""
        author, pins = self.record.author, self.pins
        return Facts(frozenset({author}), self.signers, pins, pins - {author})

    def stands_without(self, void: frozenset[bytes]) -> bool:
        """Whether the operation is valid when nothing counts that these keys signed."""
        if self.parent is None or not void:
            return True
        if self.record.author in void:
            return False
        before = self.parent.state
        if self.record.author == before.recovery:
            return True
        return before.weight(self.signers - void) >= before.need(operation_number(self.operation))

    def ancestry(self) -> Iterator["Step"]:
        """This operation and those that it rests on, genesis last."""
        step: Step | None = self
        while step is not None:
            yield step
            step = step.parent


@dataclass(frozen=True, slots=True)
class Proposal:
    """An operation behind a valid one that lacks weight yet."""

    record: Record
    operation: Content
    parent: Step
    signers: frozenset[NodeId]


@dataclass(frozen=True, slots=True)
class Tree:
    """All valid operations by id, and the proposals behind them. Empty as long as the genesis is missing."""

    root: Step | None
    steps: Mapping[RecordId, Step]
    proposals: tuple[Proposal, ...]
    speakers: Mapping[bytes, int]  # each admin and recovery key of a valid state, with the lowest number of one


@dataclass(frozen=True, slots=True)
class _Grown:
    """The tree of a ledger, and the version of what it grew from."""

    version: int
    tree: Tree


_REMEMBERED: Final = "tree"  # operations and approvals change seldom, all else that a fold rests on often


def grow(ledger: Ledger) -> Tree:
    """Build the tree of a record set; the last one again as long as no operation or approval has changed."""
    version = ledger.version_of(Kind.AUTHORITY, Kind.APPROVAL)
    last = ledger.remembered.get(_REMEMBERED)
    known = last.tree.steps if isinstance(last, _Grown) else {}
    if not isinstance(last, _Grown) or last.version != version:
        last = ledger.remembered[_REMEMBERED] = _Grown(version, _grown(ledger, known))
    return last.tree


def _grown(ledger: Ledger, known: Mapping[RecordId, Step]) -> Tree:
    """Build the tree. An operation names all that it rests on: the state after it is what it was when `known`."""
    children: dict[RecordId | None, list[Verified[Record]]] = {}
    for entry in ledger.of_kind(Kind.AUTHORITY):
        children.setdefault(entry.value.prev, []).append(entry)
    root = _root(children.get(None, []))
    if root is None:
        return Tree(None, {}, (), {})
    approvers = _approvers(ledger)
    steps = {root.id: root}
    proposals: list[Proposal] = []
    waiting = [root]
    ordered: list[Step] = []
    while waiting:
        parent = waiting.pop()
        ordered.append(parent)
        for entry in children.get(parent.id, []):
            found = _child(parent, entry, approvers.get(entry.value.id, _NOBODY), known.get(entry.value.id))
            if isinstance(found, Step):
                parent.children.append(found)
                steps[found.id] = found
                waiting.append(found)
            elif found is not None:
                proposals.append(found)
    _gather(ordered)
    return Tree(root, steps, tuple(proposals), _speakers(ordered))


def _gather(parents_first: list[Step]) -> None:
    """Work out what each operation and those behind it show, from the leaves on."""
    for step in reversed(parents_first):
        step.below |= step.facts
        if step.parent is not None:
            step.parent.below |= step.below


def subtree(step: Step, void: frozenset[bytes] = frozenset()) -> list[Step]:
    """An operation and all that rest on it, as far as they stand without what `void` keys signed."""
    found: list[Step] = []
    waiting = [step]
    while waiting:
        candidate = waiting.pop()
        if candidate.stands_without(void):
            found.append(candidate)
            waiting += candidate.children
    return found


def _root(entries: list[Verified[Record]]) -> Step | None:
    for entry in entries:
        if entry.value.is_genesis and isinstance(entry.content, Genesis):
            state = replace(begin(entry.content), number=0, head=entry.value.id)
            return Step(entry.value, entry.content, None, frozenset({entry.value.author}), state)
    return None


def _approvers(ledger: Ledger) -> dict[RecordId, frozenset[NodeId]]:
    found: dict[RecordId, set[NodeId]] = {}
    for entry in ledger.of_kind(Kind.APPROVAL):
        if isinstance(entry.content, Approval):
            found.setdefault(entry.content.operation, set()).add(entry.value.author)
    return {operation: frozenset(authors) for operation, authors in found.items()}


def _child(
    parent: Step, entry: Verified[Record], approvers: frozenset[NodeId], known: Step | None
) -> Step | Proposal | None:
    record, before = entry.value, parent.state
    by_recovery = record.author == before.recovery
    if record.slot != before.next_slot or not (by_recovery or before.is_admin(record.author)):
        return None
    signers = frozenset(admin.node for admin in before.admins if admin.node in approvers) | {record.author}
    if not by_recovery and before.weight(signers) < before.need(operation_number(entry.content)):
        return Proposal(record, entry.content, parent, signers)
    if known is not None:
        return Step(record, entry.content, parent, signers, known.state)
    state = replace(after(before, entry.content), number=before.number + 1, head=record.id)
    return Step(record, entry.content, parent, signers, state)


def _speakers(parents_first: list[Step]) -> dict[bytes, int]:
    since: dict[bytes, int] = {}
    for step in parents_first:
        state, before = step.state, step.parent.state if step.parent is not None else None
        if before is not None and state.admins is before.admins and state.recovery == before.recovery:
            continue  # all of them had their say before
        for key in (*(admin.node for admin in state.admins), state.recovery):
            if key is not None:
                since[key] = min(state.number, since.get(key, state.number))
    return since
