"""The words that people read for nodes and for operations on the authority."""

from collections.abc import Sequence
from typing import Final

from clanmesh_protocol.keys import NodeId, node_text
from clanmesh_protocol.records import (
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
)
from clanmeshd.core.authority import Authority
from clanmeshd.core.resaying import WITHDRAWN, is_withdrawal

ID_LETTERS: Final = 10  # of a node without a name: 50 bits, and short enough to read
COMMIT_DIGITS: Final = 12


def called(authority: Authority, node: bytes, before: Authority | None = None) -> str:
    """A member's name; of a key that is out the name that it had, of another one the beginning of its id.

    With `before`, what it was called then goes first: an operation can put out whom it is about.
    """
    key = NodeId(node)
    views = [view for view in (before, authority) if view is not None]
    for view in views:
        if key in view.members:
            return view.members[key].name
    if any(node == view.chain.recovery for view in views):
        return "the recovery key"
    if key in authority.revoked:
        return _former_name(authority, key)
    return node_text(node)[:ID_LETTERS]


def _former_name(authority: Authority, node: NodeId) -> str:
    heir = next((member for member in authority.members.values() if node in member.forerunners), None)
    if heir is not None:
        return f"{heir.name} (its former key)"
    return f"{authority.former.get(node, node_text(node)[:ID_LETTERS])} (removed)"


def listed(names: Sequence[str]) -> str:
    """Spell several names: `nas, tv and desk`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def operation_text(authority: Authority, operation: Content, before: Authority | None = None) -> str:
    """What an operation does, in a few words; names as in `called`."""
    match operation:
        case AdminAdd() | AdminRemove() | AdminReplace():
            return _admin_text(authority, operation, before)
        case Thresholds(govern=govern, routine=routine):
            return f"need a weight of {govern or 'over half'} to govern and {routine or 1} for routine"
        case RecoveryReplace(key=key):
            return "replace the recovery key" if key is not None else "do without a recovery key"
        case Setting(name=name, value=value) if name == WITHDRAWN and value:
            return _withdrawal_text(authority, value, before)
        case Setting(name=name, value=value):
            return f"set {name} to {value!r}" if value else f"take back the setting {name}"
        case Checkpoint(ref=ref, commit=commit):
            return f"accept commit {commit.hex()[:COMMIT_DIGITS]} of {ref} and all behind it"
        case Resolution(ref=ref, head=head, abandoned=abandoned):
            left = listed([commit.hex()[:COMMIT_DIGITS] for commit in abandoned])
            return f"let {head.hex()[:COMMIT_DIGITS]} stand as the head of {ref} and leave {left}"
        case SignerAdd(line=line):
            return f"let {_comment(line)} sign commits"
        case SignerRemove(line=line):
            return f"let {_comment(line)} sign commits no more"
        case Genesis(name=name):
            return f"found {name}"
    return "an operation of a later version"


def _withdrawal_text(authority: Authority, value: str, before: Authority | None) -> str:
    views = [view for view in (before, authority) if view is not None]
    waiting = (each for view in views for each in view.pending if each.id.hex().startswith(value))
    found = next((each for each in waiting if not is_withdrawal(each.operation)), None)
    what = f" to {operation_text(authority, found.operation, before)}" if found is not None else ""
    return f"take back the proposal {value[:ID_LETTERS]}{what}"


def _admin_text(
    authority: Authority, operation: AdminAdd | AdminRemove | AdminReplace, before: Authority | None
) -> str:
    name = called(authority, operation.node, before)
    match operation:
        case AdminAdd(weight=weight):
            return f"make {name} an admin of weight {weight}"
        case AdminRemove():
            return f"end {name} being an admin"
        case AdminReplace(successor=successor):
            return f"put {called(authority, successor, before)} in the place of the admin {name}"


def _comment(line: str) -> str:
    words = line.split(maxsplit=2)
    return words[2] if len(words) > 2 else f"key {words[-1][-ID_LETTERS:]}" if words else "a key"
