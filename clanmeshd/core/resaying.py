"""What becomes of words about a proposal that the head passed by, once its author's device says it again.

The same operation by the same author is the same proposal to people, behind another head. So who took it back need
not do that again, and who approved it need not either. The second is careful: an approval goes on only as long as
nothing that was decided since has to do with it, and no longer than a proposal lives. `governance` acts on both.
"""

from collections.abc import Iterator
from typing import Final

from clanmesh_protocol.keys import NodeId, RecordId
from clanmesh_protocol.limits import SHORT_ID_BYTES
from clanmesh_protocol.records import (
    AdminAdd,
    AdminRemove,
    AdminReplace,
    Approval,
    Checkpoint,
    Content,
    Genesis,
    Kind,
    Record,
    RecoveryReplace,
    Resolution,
    Setting,
    SignerAdd,
    SignerRemove,
    Thresholds,
)
from clanmeshd.core.authority import Authority, Lost, Pending
from clanmeshd.core.hlc import unix_s_of
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.limits import RESAID_AGE_S_MAX
from clanmeshd.core.takeover import resting

WITHDRAWN: Final = "withdrawn"  # a setting
WITHDRAWN_DIGITS: Final = 2 * SHORT_ID_BYTES  # of a proposal's id: as many as its author could not aim at


def withdrawal(proposal: RecordId) -> Setting:
    """The operation by which an admin takes a proposal back: what waits behind the head lapses with any other."""
    return Setting(WITHDRAWN, proposal.hex()[:WITHDRAWN_DIGITS])


def is_withdrawal(operation: Content) -> bool:
    """Whether an operation takes a proposal back."""
    return isinstance(operation, Setting) and operation.name == WITHDRAWN and bool(operation.value)


def named(ledger: Ledger, operation: Content) -> Record | None:
    """The proposal that a withdrawal takes back, as far as it is known here."""
    if not (isinstance(operation, Setting) and is_withdrawal(operation)):
        return None
    try:
        short_id = bytes.fromhex(operation.value)
    except ValueError:
        return None
    return ledger.by_short_id(short_id) if len(short_id) == SHORT_ID_BYTES else None


def is_taken_back(ledger: Ledger, authority: Authority, lost: Lost | Pending) -> bool:
    """Whether a withdrawal names a proposal, or an equal one that was said before it.

    That of its own author counts before others have agreed to it: people who take their word back do not want it
    said again.
    """
    record = ledger.by_short_id(lost.id[:SHORT_ID_BYTES])
    for entry in ledger.of_kind(Kind.AUTHORITY):
        target = named(ledger, entry.content)
        if target is None or record is None or not _is_same(target, record):
            continue
        counts = authority.follows(entry.value.id) or entry.value.author == lost.author
        if counts and _number(entry.value) >= lost.number:
            return True
    return False


def is_approved_before(
    ledger: Ledger, authority: Authority, own: NodeId, pending: Pending, now_unix_s: float
) -> bool:
    """Whether this device's approval of a proposal goes on for one that waits: the same, said again.

    The head passed the former one by, and that is all that happened to it: what was decided since has nothing to
    do with it. The oldest such approval counts, since later ones may be this device's own doing.
    """
    record = ledger.by_short_id(pending.id[:SHORT_ID_BYTES])
    if record is None or pending.author == own or not _is_young(pending.at_unix_s, now_unix_s):
        return False
    approved = dict(_approvals(ledger, own))
    standing = {each.id for each in authority.pending} | {each.id for each in authority.lost}
    since = _ended(ledger, authority, record, pending.operation)
    former = [
        approved[each.id]
        for each in (entry.value for entry in ledger.of_kind(Kind.AUTHORITY))
        if each.id in approved and each.id not in standing and _is_same(each, record)
        if since < _number(each) < pending.number and each.prev is not None and authority.follows(each.prev)
    ]
    return bool(former) and _is_young(min(former), now_unix_s) and _takes_nobody_along(ledger, authority, pending)


def _is_young(at_unix_s: float, now_unix_s: float) -> bool:
    return now_unix_s <= at_unix_s + RESAID_AGE_S_MAX


def _is_same(one: Record, other: Record) -> bool:
    return (one.kind, one.author, one.payload) == (other.kind, other.author, other.payload)


def _number(record: Record) -> int:
    return int(record.slot)


def _approvals(ledger: Ledger, own: NodeId) -> Iterator[tuple[RecordId, float]]:
    for entry in ledger.of_kind(Kind.APPROVAL):
        if entry.value.author == own and isinstance(entry.content, Approval):
            yield entry.content.operation, unix_s_of(entry.value.seq)


def _ended(ledger: Ledger, authority: Authority, record: Record, operation: Content) -> int:
    """The number of the newest decision that was about the same thing; -1 for none."""
    subjects = _subjects(operation)
    if not subjects:
        return authority.number  # it cannot be judged what has to do with it
    ends = (
        _number(entry.value)
        for entry in ledger.of_kind(Kind.AUTHORITY)
        if authority.follows(entry.value.id) and _ends(ledger, entry.content, record, subjects)
    )
    return max(ends, default=-1)


def _ends(ledger: Ledger, decided: Content, record: Record, subjects: frozenset[object]) -> bool:
    if is_withdrawal(decided):
        target = named(ledger, decided)
        return target is None or _is_same(target, record)
    if isinstance(decided, Genesis):
        return False
    about = _subjects(decided)
    return not about or bool(about & subjects)


def _subjects(operation: Content) -> frozenset[object]:
    """What an operation is about; empty for one that this version cannot judge."""
    match operation:
        case AdminAdd(node=node) | AdminRemove(node=node):
            return frozenset({node})
        case AdminReplace(node=node, successor=successor):
            return frozenset({node, successor})
        case Thresholds() | RecoveryReplace():
            return frozenset({type(operation)})
        case Setting(name=name):
            return frozenset({("setting", name)})
        case Checkpoint(ref=ref) | Resolution(ref=ref):
            return frozenset({("ref", ref)})
        case SignerAdd(line=line) | SignerRemove(line=line):
            return frozenset({("signer", *line.split()[:2])})
    return frozenset()


def _takes_nobody_along(ledger: Ledger, authority: Authority, pending: Pending) -> bool:
    """What an admin who goes has vouched for since is to be taken over first, which is a person's to decide."""
    operation = pending.operation
    if not isinstance(operation, AdminRemove | AdminReplace):
        return True
    return not resting(ledger, authority, operation.node)
