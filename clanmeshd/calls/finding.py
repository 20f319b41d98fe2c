"""What a person means by a name or the beginning of an id: a member, a device that waits, an invite."""

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from clanmesh_protocol.control import Fault
from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import NodeId, RecordId, node_from_text_untrusted, node_text
from clanmeshd.core.authority import Authority, Pending
from clanmeshd.core.roster import Member, StandingInvite

NODE_LETTERS_MIN: Final = 6  # of a node id: 30 bits, told apart in any clan, and no name by accident
HEX_DIGITS_MIN: Final = 4  # of a record id

T = TypeVar("T")


def a_member(authority: Authority, text: str) -> Member:
    """The member with this name or id. Raises Fault."""
    named = authority.named(text)
    return named if named is not None else authority.members[_by_id(authority.members, text, "member")]


def a_node(authority: Authority, text: str) -> NodeId:
    """A member, or a device that waits for an admin, by name or id; any whole id at all. Raises Fault."""
    named = authority.named(text)
    if named is not None:
        return named.node
    try:
        return node_from_text_untrusted(text)
    except ProtocolError:
        return _by_id({*authority.members, *authority.suspended}, text, "device")


def an_invite(authority: Authority, text: str) -> StandingInvite:
    """The standing invite whose id begins so. Raises Fault."""
    digits = text.strip().lower()
    found = [key for key in authority.invites if len(digits) >= HEX_DIGITS_MIN and key.hex().startswith(digits)]
    return authority.invites[_only(found, f"invite {text!r}", "see `clanctl invite list`")]


def a_proposal(pending: Iterable[Pending], text: str) -> Pending:
    """The proposal whose id begins so. Raises Fault."""
    digits = text.strip().lower()
    by_id: Mapping[RecordId, Pending] = {each.id: each for each in pending}
    found = [key for key in by_id if len(digits) >= HEX_DIGITS_MIN and key.hex().startswith(digits)]
    return by_id[_only(found, f"proposal {text!r}", "see `clanctl admin pending`")]


def _by_id(nodes: Iterable[NodeId], text: str, what: str) -> NodeId:
    letters = text.strip().lower()
    found = [node for node in nodes if len(letters) >= NODE_LETTERS_MIN and node_text(node).startswith(letters)]
    return _only(found, f"{what} {text!r}", "see `clanctl peers`")


def _only(found: list[T], what: str, remedy: str) -> T:
    if not found:
        raise Fault("not-found", what, "the clan has none of that name or id", remedy)
    if len(found) > 1:
        raise Fault("conflict", what, f"{len(found)} ids begin so", "give more of it")
    return found[0]
