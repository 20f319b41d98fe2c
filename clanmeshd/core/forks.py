"""Which of several histories is followed: the choice at each fork, from genesis to the head.

At a fork each child stands for all that rests on it. In this order decide: what this node holds as final; the
recovery key; pins (what a removed key signed counts on no branch but the one that its removal rests on);
acknowledgement by a majority; the weight of all who signed something on it; a removal; the seniority of its
first author; the lower id. The last rule can be ground by trying contents, so it decides only where one admin
signed both.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import takewhile
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
    held = _held(tree, final)
    acknowledgements = Acknowledgements(tree, acknowledged)
    step = tree.root
    while step is not None:
        path.append(step)
        step = _choose(step, acknowledgements, held)
    return path


def line_to(step: Step | None) -> list[Step]:
    """The operations from genesis to this one, each at the place of its number."""
    return list(step.ancestry())[::-1] if step is not None else []


def is_on(line: Sequence[Step], step: Step) -> bool:
    """Whether an operation is one of a line that begins with the genesis."""
    return step.state.number < len(line) and line[step.state.number] is step


@dataclass(frozen=True, slots=True)
class _Held:
    """What this node holds as final, from genesis on; nothing when that operation is not here."""

    line: Sequence[Step]
    ended: frozenset[bytes]  # keys that one of these pinned which they did not sign as its author


def _held(tree: Tree, final: RecordId | None) -> _Held:
    line = line_to(tree.steps.get(final) if final is not None else None)
    return _Held(line, frozenset(key for step in line for key in step.pins if key != step.record.author))


def _choose(parent: Step, acknowledgements: "Acknowledgements", held: _Held) -> Step | None:
    if len(parent.children) < 2:
        return parent.children[0] if parent.children else None
    mine = next((child for child in parent.children if is_on(held.line, child)), None)
    pins = _pins_held(parent, mine, acknowledgements, held) if mine is not None else _NONE
    if pins and _best(parent, acknowledgements, mine, pins) is mine:
        return mine
    return _best(parent, acknowledgements, None, _NONE)


def _best(parent: Step, acknowledgements: "Acknowledgements", mine: Step | None, pins: frozenset[bytes]) -> Step:
    """The child to follow where `pins` count on all branches but that of `mine` before anything else does."""
    branches = [_branch(child, _NONE if child is mine else pins) for child in parent.children]
    pruned = _pruned(_recovered(parent, branches))
    return min(pruned, key=lambda branch: _rank(parent, branch, acknowledgements)).first


def _pins_held(parent: Step, mine: Step, acknowledgements: "Acknowledgements", held: _Held) -> frozenset[bytes]:
    """The keys that were thrown out between a fork and the final operation, which lies behind `mine`.

    They count first, if that keeps this node where it is: so a key that was thrown out, and that this was settled,
    cannot throw out in its turn those who did it, by telling a history in which it was the quicker one. None where
    a majority of the admins that the final operation trusts follows another branch: an admin who acknowledged two
    may have made this node believe in one that all others have left. And none where the recovery key has signed
    something on another branch: it acts alone, so two who type it in at once may each have settled theirs.
    """
    final = held.line[-1].state
    others = [child for child in parent.children if child is not mine]
    if any(acknowledgements.majority_of(final, child) for child in others):
        return _NONE
    # The key in force at the fork was not pinned before it: what is held can only have ended it since.
    key = parent.state.recovery
    if key not in held.ended and any(key in child.below.authors for child in others):
        return _NONE
    return final.pinned - parent.state.pinned


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
    signed = [branch for branch in branches if key in branch.first.below.authors and key not in branch.void]
    if not signed or _is_ended_elsewhere(key, signed, branches):
        return [branch for branch in branches if branch.stands]
    return [branch if key in branch.facts.authors else _branch(branch.first, _NONE) for branch in signed]


def _is_ended_elsewhere(key: bytes, signed: Sequence[_Branch], branches: Sequence[_Branch]) -> bool:
    """Whether admins have replaced the recovery key on another branch than one that it has signed something on."""
    ends = [branch for branch in branches if key in branch.first.below.ended]
    if not _are_apart(signed, ends):
        return False
    out = _thrown_out_by(key, signed)
    return _are_apart(signed, [end for end in ends if key in _branch(end.first, end.void | out).facts.ended])


def _are_apart(some: Sequence[_Branch], others: Sequence[_Branch]) -> bool:
    """Whether one of the others differs from one of these."""
    return any(other is not one for one in some for other in others[:2])


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
    keys = frozenset(pinned)
    found = []
    for branch, own in zip(branches, pinning, strict=True):
        void = branch.void | (keys - frozenset(key for key in own.facts.pins if pinned[key] == 1))
        found.append(own if void == own.void else _branch(branch.first, void))
    return found


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
class Following:
    """Who follows what."""

    followers: Mapping[Step, frozenset[NodeId]]  # of an operation or of what rests on it
    majorities: frozenset[Step]  # operations that over half of the weight in their own state follows
    leading: frozenset[Step]  # these and what they rest on


class Acknowledgements:
    """Who follows what, as far as the word of each counts."""

    def __init__(self, tree: Tree, heads: Acknowledged) -> None:
        self._tree = tree
        self._heads = heads
        self._all = frozenset(heads)
        self._without: dict[frozenset[NodeId], Following] = {}  # by whose word does not count

    def majority_of(self, state: Chain, branch: Step) -> bool:
        """Whether over half of a state's admins follow something behind an operation."""
        followers = self._counting(_NONE).followers.get(branch)
        return followers is not None and state.weight(followers) >= state.majority

    def has_majority(self, branch: _Branch) -> bool:
        """Whether a majority of its own admins follows some operation of the branch."""
        following = self._counting(branch.void)
        if branch.steps is None:
            return branch.first in following.leading
        return any(step in following.majorities for step in branch.steps)

    def _counting(self, void: frozenset[bytes]) -> Following:
        silent = self._all & void
        if silent not in self._without:
            heads = {node: head for node, head in self._heads.items() if node not in silent}
            self._without[silent] = following(self._tree, heads)
        return self._without[silent]


def following(tree: Tree, acknowledged: Acknowledged) -> Following:
    """Work out who follows each operation, in one walk from the heads that are named to the genesis."""
    followers: dict[Step, frozenset[NodeId]] = {}
    for node, head in acknowledged.items():
        if head in tree.steps:
            step = tree.steps[head]
            followers[step] = followers.get(step, frozenset()) | {node}
    lines = _with_ancestors(followers)
    for step in lines:
        if step.parent is not None:
            others, ours = followers.get(step.parent), followers[step]
            followers[step.parent] = ours if others is None else others | ours
    majorities = frozenset(step for step in lines if step.state.weight(followers[step]) >= step.state.majority)
    return Following(followers, majorities, frozenset(_with_ancestors(majorities)))


def _with_ancestors(steps: Iterable[Step]) -> list[Step]:
    """These operations and all that they rest on, each once, the highest numbers first."""
    found: set[Step] = set()
    for step in steps:
        found.update(takewhile(lambda each: each not in found, step.ancestry()))
    return sorted(found, key=lambda step: step.state.number, reverse=True)
