"""Who may say what: the state of the clan's trust, folded out of the record set.

`fold` has no memory and no clock: equal record sets give equal authorities, in whatever order they arrived. For
the sets of two nodes to become equal, what a node *keeps* must be such a function too. So `may_author` asks
whether anyone known vouched for the author, and is asked again of all that is here (`Ledger.retain`) when the
authority changes; whose word *counts* is `members`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from clanmesh_protocol.errors import UnauthorizedError
from clanmesh_protocol.keys import ClanId, NodeId, RecordId
from clanmesh_protocol.limits import RECORD_ID_BYTES
from clanmesh_protocol.records import Kind, Record
from clanmeshd.core.chain import Chain, follow
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.roster import Member, Roster, StandingInvite, enroll

__all__ = ["ADMIN_KINDS", "AUTHORITY_KINDS", "Authority", "Member", "StandingInvite", "fold"]

ADMIN_KINDS: Final = frozenset({Kind.AUTHORITY, Kind.CREDENTIAL, Kind.REVOCATION, Kind.INVITE})
AUTHORITY_KINDS: Final = (*sorted(ADMIN_KINDS), Kind.REDEMPTION)  # `ledger.version_of(*these)`: the key of a fold

# What others still rest on when its author is revoked: the claim to a ref is the SSH signature's, a secret stays
# in place until it is replaced, and a confirmed use of an invite stays used.
OUTLIVING_KINDS: Final = frozenset({Kind.HEAD, Kind.SECRET, Kind.REDEMPTION})

_NOTHING: Final = Chain(name="", admins=(), recovery=None, signers=(), checkpoints=(), ids=())


@dataclass(frozen=True, slots=True)
class Authority:
    """The trust of a clan at one record set. Equal record sets give equal ones."""

    clan: ClanId
    chain: Chain
    roster: Roster = field(repr=False)

    @property
    def clan_name(self) -> str:
        """The clan's name; empty before the genesis is known."""
        return self.chain.name

    @property
    def head(self) -> RecordId:
        """The authority operation that all of this is the state after; zeros before the genesis is known."""
        return self.chain.ids[-1] if self.chain.ids else RecordId(bytes(RECORD_ID_BYTES))

    @property
    def next_slot(self) -> str:
        """The slot of the next authority operation, whose parent is `head`."""
        return self.chain.next_slot

    @property
    def admins(self) -> tuple[NodeId, ...]:
        """The admins, the most senior first."""
        return tuple(admin.node for admin in self.chain.admins)

    @property
    def signers(self) -> tuple[str, ...]:
        """The SSH keys that may sign commits and heads, as authorized_keys lines."""
        return self.chain.signers

    @property
    def checkpoints(self) -> tuple[tuple[str, bytes], ...]:
        """(ref, commit) from which on commits must be signed, newest last."""
        return self.chain.checkpoints

    @property
    def members(self) -> Mapping[NodeId, Member]:
        """Everyone whose word counts, by node id; expired ones too, since there is no clock here."""
        return self.roster.members

    @property
    def revoked(self) -> frozenset[NodeId]:
        """Keys that are out for ever."""
        return self.roster.revoked

    @property
    def suspended(self) -> frozenset[NodeId]:
        """Keys that came by an invite with more redemptions than uses, and wait for an admin."""
        return self.roster.suspended

    @property
    def invites(self) -> Mapping[RecordId, StandingInvite]:
        """The invites that were not withdrawn."""
        return self.roster.invites

    def is_admin(self, node: NodeId) -> bool:
        """Whether a node is an admin."""
        return self.chain.is_admin(node)

    def is_member(self, node: NodeId) -> bool:
        """Whether a node's word counts."""
        return node in self.roster.members

    def named(self, name: str) -> Member | None:
        """The member with a name."""
        return next((member for member in self.roster.members.values() if member.name == name), None)

    def may_author(self, record: Record) -> None:
        """Let a record pass whose author may write its kind. Raises UnauthorizedError.

        A genesis passes: its signature is only good in the clan that it founds.
        """
        author = record.author
        if record.is_genesis:
            return
        if record.kind in ADMIN_KINDS:
            if not self.is_admin(author):
                raise UnauthorizedError(f"only an admin writes records of kind {record.kind}")
        elif author in self.roster.revoked:
            if record.kind not in OUTLIVING_KINDS:
                raise UnauthorizedError("the author was removed from the clan")
        elif author not in self.roster.known:
            raise UnauthorizedError("the author is no member of the clan")

    def lets_stay(self, record: Record) -> bool:
        """`may_author` as a question, for `Ledger.retain`. As long as the genesis is missing, all may stay."""
        if not self.chain.ids:
            return True
        try:
            self.may_author(record)
        except UnauthorizedError:
            return False
        return True


def fold(ledger: Ledger) -> Authority:
    """Work out the authority of a record set. Without a genesis nobody is anything."""
    chain = follow(ledger)
    return Authority(ledger.clan, chain or _NOTHING, enroll(ledger, chain or _NOTHING))
