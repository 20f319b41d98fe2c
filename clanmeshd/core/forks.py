"""Which of several histories is followed: the choice at each fork, from genesis to the head.

At a fork each child stands for all that rests on it. In this order decide: what this node holds as final; the
recovery key; pins (what a removed key signed counts on no branch but the one that its removal rests on);
acknowledgement by a majority; the weight of all who signed something on it; a removal; the seniority of its
first author; the lower id. The last rule can be ground by trying contents, so it decides only where one admin
signed both.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Final

from clanmesh_protocol.keys import NodeId, RecordId
from clanmeshd.core.chain import Chain
from clanmeshd.core.tree import Facts, Step, Tree, subtree

_NONE: Final[frozenset[bytes]] = frozenset()

Acknowledged = Mapping[NodeId, RecordId]  # the head that each admin's newest acknowledgement names


def follow(tree: Tree, acknowledged: Acknowledged, final: RecordId | None) -> list[Step]:
    """The operations from genesis to the head; none as long as the genesis is missing."""
    path: list[Step] = []
    held = _ids_to(tree, final)
    weights = acknowledged_weights(tree, acknowledged)
    step = tree.root
    while step is not None:
        path.append(step)
        step = _choose(step, Acknowledgements(tree, acknowledged, weights), held)
    return path


def _ids_to(tree: Tree, final: RecordId | None) -> dict[RecordId, Step]:
    step = tree.steps.get(final) if final is not None else None
    return {each.id: each for each in step.ancestry()} if step is not None else {}


def _choose(parent: Step, acknowledgements: "Acknowledgements", held: Mapping[RecordId, Step]) -> Step | None:
    if len(parent.children) < 2:
        return parent.children[0] if parent.children else None
    mine = next((child for child in parent.children if child.id in held), None)
    pins = _pins_held(parent, mine, acknowledgements, held) if mine is not None else _NONE
    if pins and _best(parent, acknowledgements, mine, pins) is mine:
        return mine
    return _best(parent, acknowledgements, None, _NONE)


def _best(parent: Step, acknowledgements: "Acknowledgements", mine: Step | None, pins: frozenset[bytes]) -> Step:
    """The child to follow where `pins` count on all branches but that of `mine` before anything else does."""
    branches = [_branch(child, _NONE if child is mine else pins) for child in parent.children]
    pruned = _pruned(_recovered(parent, branches))
    return min(pruned, key=lambda branch: _rank(parent, branch, acknowledgements)).first


def _pins_held(
    parent: Step, mine: Step, acknowledgements: "Acknowledgements", held: Mapping[RecordId, Step]
) -> frozenset[bytes]:
    """The keys that were thrown out between a fork and the final operation, which lies behind `mine`.

    They count first, if that keeps this node where it is: so a key that was thrown out, and that this was settled,
    cannot throw out in its turn those who did it, by telling a history in which it was the quicker one. None where
    a majority of the admins that the final operation trusts follows another branch: an admin who acknowledged two
    may have made this node believe in one that all others have left. And none where the recovery key has signed
    something on another branch: it acts alone, so two who type it in at once may each have settled theirs.
    """
    final = max(held.values(), key=lambda step: step.state.number)
    others = [child for child in parent.children if child is not mine]
    if any(acknowledgements.majority_of(final.state, child) for child in others):
        return _NONE
    if any(parent.state.recovery in child.below.authors for child in others) and not _replaced(parent, held):
        return _NONE
    return final.state.pinned - parent.state.pinned


def _replaced(parent: Step, held: Mapping[RecordId, Step]) -> bool:
    """Whether the admins have ended the recovery key between a fork and the final operation."""
    key = parent.state.recovery
    since = (step for step in held.values() if step.state.number > parent.state.number)
    return any(key in step.pins and step.record.author != key for step in since)


@dataclass(frozen=True, slots=True)
class _Branch:
    """A child, and what of its subtree stands at this fork."""

    first: Step
    void: frozenset[bytes]  # keys whose signatures do not count here
    steps: Sequence[Step] | None  # None: all of the subtree
    facts: Facts

    @property
    def stands(self) -> bool:
        """Something of it is left."""
        return self.steps is None or bool(self.steps)


def _branch(first: Step, void: frozenset[bytes]) -> _Branch:
    if not void & first.below.signers:
        return _Branch(first, void, None, first.below)
    steps = subtree(first, void)
    return _Branch(first, void, steps, reduce(or_, (step.facts for step in steps), Facts()))


def _recovered(parent: Step, branches: list[_Branch]) -> list[_Branch]:
    """The branches that the recovery key has signed something on, unless the admins have replaced that key.

    What it signed needs nothing else to stand: it may rest on what is void otherwise. And admins whom it throws
    out on one branch do not replace it on another: the key is there for the day when an admin's key is stolen.
    """
    key = parent.state.recovery
    if key is None:
        return [branch for branch in branches if branch.stands]
    signed = [branch for branch in branches if key in branch.first.below.authors - branch.void]
    out = _thrown_out_by(key, signed)
    ends = [branch for branch in branches if key in _branch(branch.first, branch.void | out).facts.ended]
    if not signed or any(end is not branch for branch in signed for end in ends[:2]):
        return [branch for branch in branches if branch.stands]
    return [branch if key in branch.facts.authors else _branch(branch.first, _NONE) for branch in signed]


def _thrown_out_by(key: bytes, signed: Sequence[_Branch]) -> frozenset[bytes]:
    """Whom the recovery key itself has put out on its branches."""
    steps = (step for branch in signed for step in subtree(branch.first))
    return frozenset(pin for step in steps if step.record.author == key for pin in step.pins if pin != key)


def _pruned(whole: Sequence[_Branch]) -> Sequence[_Branch]:
    """The branches without what their siblings' pins make void; as they are when none would be left."""
    if len(whole) < 2:
        return whole
    once = _without_siblings_pins(whole, whole)
    # A pin counts only where the operation that set it is not made void itself.
    twice = _without_siblings_pins(whole, once)
    return [branch for branch in twice if branch.stands] or whole


def _without_siblings_pins(branches: Sequence[_Branch], pinning: Sequence[_Branch]) -> Sequence[_Branch]:
    pinned = Counter(key for branch in pinning for key in branch.facts.pins)
    if not pinned:
        return branches
    return [
        _branch(branch.first, branch.void.union(key for key in pinned if pinned[key] > (key in own.facts.pins)))
        for branch, own in zip(branches, pinning, strict=True)
    ]


def _rank(
    parent: Step, branch: _Branch, acknowledgements: "Acknowledgements"
) -> tuple[bool, int, bool, int, bytes]:
    signers = branch.facts.signers - branch.void
    author = branch.first.record.author
    seniority = -1 if author == parent.state.recovery else parent.state.seniority(author)
    return (
        not acknowledgements.has_majority(branch),
        -parent.state.weight(NodeId(node) for node in signers),
        not branch.facts.pins,
        seniority,
        branch.first.id,
    )


@dataclass(frozen=True, slots=True)
class Acknowledgements:
    """Who follows what, and the weight behind each operation."""

    tree: Tree
    heads: Acknowledged
    weights: Mapping[RecordId, int]

    def majority_of(self, state: Chain, branch: Step) -> bool:
        """Whether over half of a state's admins follow something behind an operation."""
        followers = [node for node, head in self.heads.items() if self._path(head, branch)]
        return state.weight(followers) >= state.majority

    def has_majority(self, branch: _Branch) -> bool:
        """Whether a majority of its own admins follows some operation of the branch."""
        counting = {node: head for node, head in self.heads.items() if node not in branch.void}
        # Each operation that anybody follows is an ancestor of one that an acknowledgement names.
        named = {id(step): step for head in counting.values() for step in self._path(head, branch.first)}
        if branch.steps is not None:
            named = {id(step): step for step in branch.steps if id(step) in named}
        weights = self.weights if len(counting) == len(self.heads) else acknowledged_weights(self.tree, counting)
        return any(weights.get(step.id, 0) >= step.state.majority for step in named.values())

    def _path(self, head: RecordId, first: Step) -> list[Step]:
        """The operations from `first` to the one that an acknowledgement names; none when that lies elsewhere."""
        step = self.tree.steps.get(head)
        path: list[Step] = []
        while step is not None and step.state.number >= first.state.number:
            path.append(step)
            if step is first:
                return path
            step = step.parent
        return []


def acknowledged_weights(tree: Tree, acknowledged: Acknowledged) -> dict[RecordId, int]:
    """For each operation the weight, in its own state, of those who follow it or what rests on it."""
    weights: dict[RecordId, int] = {}
    for node, head in acknowledged.items():
        step = tree.steps.get(head)
        for each in step.ancestry() if step is not None else ():
            weights[each.id] = weights.get(each.id, 0) + each.state.weight((node,))
    return weights
