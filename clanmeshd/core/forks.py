"""Which of several histories is followed: the choice at each fork, from genesis to the head.

At a fork each child stands for all that rests on it. In this order decide: what this node holds as final; the
recovery key; pins (what a removed key signed counts on no branch but the one that its removal rests on);
acknowledgement by a majority; the weight of all who signed something on it; a removal; the seniority of its
first author; the lower id. The last rule can be ground by trying contents, so it decides only where one admin
signed both.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from clanmesh_protocol.keys import NodeId, RecordId
from clanmeshd.core.tree import Step, Tree, subtree

_NONE: Final[frozenset[bytes]] = frozenset()

Acknowledged = Mapping[NodeId, RecordId]  # the head that each admin's newest acknowledgement names


def follow(tree: Tree, acknowledged: Acknowledged, final: RecordId | None) -> list[Step]:
    """The operations from genesis to the head; none as long as the genesis is missing."""
    path: list[Step] = []
    held = _ids_to(tree, final)
    step = tree.root
    while step is not None:
        path.append(step)
        step = _choose(step, tree, acknowledged, held)
    return path


def _ids_to(tree: Tree, final: RecordId | None) -> frozenset[RecordId]:
    step = tree.steps.get(final) if final is not None else None
    return frozenset(each.id for each in step.ancestry()) if step is not None else frozenset()


def _choose(parent: Step, tree: Tree, acknowledged: Acknowledged, held: frozenset[RecordId]) -> Step | None:
    children = parent.children
    if len(children) < 2:
        return children[0] if children else None
    children = _recovered(parent, _holding(parent, children, held))
    branches = _pruned(children)
    return min(branches, key=lambda branch: _rank(parent, branch, tree, acknowledged)).first


def _holding(parent: Step, children: Sequence[Step], held: frozenset[RecordId]) -> list[Step]:
    """The child that the final operation lies behind, and those that the recovery key could lead away to."""
    mine = next((child for child in children if child.id in held), None)
    if mine is None:
        return list(children)
    key = parent.state.recovery
    path = [step for step in subtree(mine) if step.id in held]
    if key is None or _signs(key, mine) or any(key in step.pins for step in path):
        return [mine]
    return [mine, *(child for child in children if child is not mine and _signs(key, child))]


def _recovered(parent: Step, children: list[Step]) -> list[Step]:
    key = parent.state.recovery
    signed = [child for child in children if key is not None and _signs(key, child)]
    others = [child for child in children if child not in signed]
    if not signed or any(_is_ended(key, child) for child in others):
        return children
    return signed


def _signs(key: bytes, branch: Step) -> bool:
    return any(step.record.author == key for step in subtree(branch))


def _is_ended(key: bytes | None, branch: Step) -> bool:
    return any(key in step.pins for step in subtree(branch))


class _Branch:
    """A child, and what of its subtree stands at this fork."""

    def __init__(self, first: Step, void: frozenset[bytes]) -> None:
        self.first = first
        self.void = void
        self.steps = subtree(first, void)

    @property
    def pins(self) -> frozenset[bytes]:
        """The keys that are pinned in it."""
        return _NONE.union(*(step.pins for step in self.steps))


def _pruned(children: Sequence[Step]) -> list[_Branch]:
    """The branches without what their siblings' pins make void; as they are when none would be left."""
    whole = [_Branch(child, _NONE) for child in children]
    if not any(branch.pins for branch in whole):
        return whole
    once = _prune_by_siblings(whole, whole)
    # A pin counts only where the operation that set it is not made void itself.
    twice = _prune_by_siblings(whole, once)
    return [branch for branch in twice if branch.steps] or whole


def _prune_by_siblings(branches: Sequence[_Branch], pinning: Sequence[_Branch]) -> list[_Branch]:
    pins = [branch.pins for branch in pinning]
    return [
        _Branch(branch.first, _NONE.union(*(keys for other, keys in enumerate(pins) if other != place)))
        for place, branch in enumerate(branches)
    ]


def _rank(
    parent: Step, branch: _Branch, tree: Tree, acknowledged: Acknowledged
) -> tuple[bool, int, bool, int, bytes]:
    signers = frozenset(node for step in branch.steps for node in step.signers) - branch.void
    author = branch.first.record.author
    seniority = -1 if author == parent.state.recovery else parent.state.seniority(author)
    return (
        not _is_acknowledged(branch, tree, acknowledged),
        -parent.state.weight(NodeId(node) for node in signers),
        not branch.pins,
        seniority,
        branch.first.id,
    )


def _is_acknowledged(branch: _Branch, tree: Tree, acknowledged: Acknowledged) -> bool:
    """Whether a majority of its own admins follows some operation of the branch."""
    stand = {step.id for step in branch.steps}
    weights = acknowledged_weights(
        tree, {node: at for node, at in acknowledged.items() if node not in branch.void}
    )
    return any(step.id in stand and weights.get(step.id, 0) >= step.state.majority for step in branch.steps)


def acknowledged_weights(tree: Tree, acknowledged: Acknowledged) -> dict[RecordId, int]:
    """For each operation the weight, in its own state, of those who follow it or what rests on it."""
    weights: dict[RecordId, int] = {}
    for node, head in acknowledged.items():
        step = tree.steps.get(head)
        for each in step.ancestry() if step is not None else ():
            weights[each.id] = weights.get(each.id, 0) + each.state.weight((node,))
    return weights
