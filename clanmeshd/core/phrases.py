"""The words that people read for nodes and for operations on the authority."""

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
    Setting,
    SignerAdd,
    SignerRemove,
    Thresholds,
)
from clanmeshd.core.authority import Authority
from clanmeshd.core.governance import WITHDRAWN

ID_LETTERS: Final = 10  # of a node without a name: 50 bits, and short enough to read
COMMIT_DIGITS: Final = 12


def called(authority: Authority, node: bytes) -> str:
    """A member's name; of another key the beginning of its id."""
    member = authority.members.get(NodeId(node))
    if member is not None:
        return member.name
    return "the recovery key" if node == authority.chain.recovery else node_text(node)[:ID_LETTERS]


def operation_text(authority: Authority, operation: Content) -> str:
    """What an operation does, in a few words."""
    match operation:
        case AdminAdd() | AdminRemove() | AdminReplace():
            return _admin_text(authority, operation)
        case Thresholds(govern=govern, routine=routine):
            return f"need a weight of {govern or 'over half'} to govern and {routine or 1} for routine"
        case RecoveryReplace(key=key):
            return "replace the recovery key" if key is not None else "do without a recovery key"
        case Setting(name=name, value=value) if name == WITHDRAWN and value:
            return f"take the proposal {value[:ID_LETTERS]} back"
        case Setting(name=name, value=value):
            return f"set {name} to {value!r}" if value else f"take back the setting {name}"
        case Checkpoint(ref=ref, commit=commit):
            return f"accept commit {commit.hex()[:COMMIT_DIGITS]} of {ref} and all behind it"
        case SignerAdd(line=line):
            return f"let {_comment(line)} sign commits"
        case SignerRemove(line=line):
            return f"let {_comment(line)} sign commits no more"
        case Genesis(name=name):
            return f"found {name}"
    return "an operation of a later version"


def _admin_text(authority: Authority, operation: AdminAdd | AdminRemove | AdminReplace) -> str:
    name = called(authority, operation.node)
    match operation:
        case AdminAdd(weight=weight):
            return f"make {name} an admin of weight {weight}"
        case AdminRemove():
            return f"end {name} being an admin"
        case AdminReplace(successor=successor):
            return f"put {called(authority, successor)} in the place of the admin {name}"


def _comment(line: str) -> str:
    words = line.split(maxsplit=2)
    return words[2] if len(words) > 2 else f"key {words[-1][-ID_LETTERS:]}" if words else "a key"
