"""What is settled: the newest operation that a majority of the admins follows, and what each of them may follow.

A node that has seen a majority behind an operation lets the history up to it throw keys out before any other does:
so a key that was thrown out cannot rewrite the time when it still had a say. For that each admin's device
acknowledges the head that it follows, and goes over to another branch only when the one it acknowledged cannot get
a majority any more.
"""

from collections.abc import Mapping, Sequence

from clanmesh_protocol.keys import NodeId, RecordId
from clanmesh_protocol.records import SINGLE_SLOT, Acknowledgement, Kind
from clanmeshd.core.forks import Acknowledged, following, is_on, line_to
from clanmeshd.core.hlc import unix_s_of
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.tree import Step, Tree


def acknowledgements(ledger: Ledger) -> dict[NodeId, tuple[RecordId, float]]:
    """The head that each key says it follows, and when it said so (unix s, by its own clock)."""
    return {
        entry.value.author: (entry.content.head, unix_s_of(entry.value.seq))
        for entry in ledger.of_kind(Kind.ACKNOWLEDGEMENT)
        if isinstance(entry.content, Acknowledgement)
    }


def last_shared(tree: Tree, path: Sequence[Step], final: RecordId | None) -> RecordId | None:
    """The newest operation that a path shares with the history of the final one; itself where that is not here."""
    held = tree.steps.get(final) if final is not None else None
    if held is None or not path:
        return final
    on_path = (step for step in held.ancestry() if step.state.number < len(path))
    return next(step.id for step in on_path if step is path[step.state.number])


def settled(
    tree: Tree, path: Sequence[Step], acknowledged: Acknowledged, final: RecordId | None
) -> RecordId | None:
    """The operation of the followed path that is final now; the former one may lie on a branch that was left."""
    if not path or (final is not None and final not in tree.steps):
        return final  # what is lost here may come back: nothing is settled against it meanwhile
    majorities = following(tree, acknowledged).majorities
    newest = tree.steps[final] if final is not None else path[0]
    return next((step.id for step in reversed(path[newest.state.number + 1 :]) if step in majorities), newest.id)


def may_acknowledge(tree: Tree, own: NodeId, head: Step, acknowledged: Acknowledged) -> bool:
    """Whether an admin's device may say that it follows `head`, given what it said before and what others say."""
    before = tree.steps.get(acknowledged[own]) if own in acknowledged else None
    line = line_to(head)
    if before is None or is_on(line, before):
        return True
    left = line_to(before)
    entered = [step for step in line if not is_on(left, step)]
    if any(is_recovery(step) for step in entered):
        return True
    # Who has no say any more behind the new head is not waited for: it may never speak again.
    admins = {admin.node for step in left for admin in step.state.admins}
    outside = admins - {admin.node for admin in head.state.admins}
    others = {node: tree.steps[at] for node, at in acknowledged.items() if node != own and at in tree.steps}
    lines = {node: line_to(at) for node, at in others.items()}
    return not any(_may_win(left, step, lines, outside) for step in left if not is_on(line, step))


def _may_win(
    left: Sequence[Step], step: Step, lines: Mapping[NodeId, Sequence[Step]], outside: set[NodeId]
) -> bool:
    """Whether an operation of `left` could have a majority, now or in words under way, without those `outside`.

    `lines` lead to what the others follow.
    """
    elsewhere = {node for node, line in lines.items() if not _is_related(left, step, line)}
    state = step.state
    return state.total_weight - state.weight(outside | elsewhere) >= state.majority


def _is_related(left: Sequence[Step], step: Step, line: Sequence[Step]) -> bool:
    """Whether the end of a line rests on an operation of `left`, or that operation on it."""
    return is_on(line, step) or (len(line) <= step.state.number and is_on(left, line[-1]))


def is_recovery(step: Step) -> bool:
    """Whether the recovery key signed an operation."""
    return step.parent is not None and step.record.author == step.parent.state.recovery


def is_acknowledged_by(ledger: Ledger, own: NodeId, head: RecordId) -> bool:
    """Whether a key's newest acknowledgement names this head."""
    entry = ledger.get(own, Kind.ACKNOWLEDGEMENT, SINGLE_SLOT)
    return entry is not None and isinstance(entry.content, Acknowledgement) and entry.content.head == head
