"""Who may say what: the state of the clan's trust, folded out of the record set.

`fold` has no clock, and its only memory is the operation that this node holds as final: equal record sets and
equal final operations give equal authorities, in whatever order the records arrived. For the sets of two nodes to
become equal, what a node *keeps* must be such a function too. So `may_author` asks whether anyone known vouched
for the author, and is asked again of all that is here (`Ledger.retain`) when the authority changes; whose word
*counts* is `members`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from clanmesh_protocol.errors import UnauthorizedError
from clanmesh_protocol.keys import ClanId, NodeId, RecordId, fingerprint_slot
from clanmesh_protocol.limits import VOID_RECORDS_MAX
from clanmesh_protocol.records import Content, Kind, Record, Resolution
from clanmeshd.core.chain import Chain, operation_number
from clanmeshd.core.finality import acknowledgements, last_shared, settled
from clanmeshd.core.forks import Acknowledged, follow
from clanmeshd.core.hlc import unix_s_of
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.roster import Member, Roster, StandingInvite, enroll
from clanmeshd.core.tree import Proposal, Step, Tree, grow

__all__ = [
    "ADMIN_KINDS",
    "AUTHORITY_KINDS",
    "CHAIN_KINDS",
    "Authority",
    "Lost",
    "Member",
    "Pending",
    "StandingInvite",
    "fold",
]

CHAIN_KINDS: Final = frozenset({Kind.AUTHORITY, Kind.APPROVAL, Kind.ACKNOWLEDGEMENT})
ADMIN_KINDS: Final = frozenset({Kind.CREDENTIAL, Kind.INVITE})
# `ledger.version_of(*these)`: the key of a fold
AUTHORITY_KINDS: Final = (*sorted(CHAIN_KINDS | ADMIN_KINDS), Kind.REVOCATION, Kind.REDEMPTION)

# What others still rest on when its author is revoked: the claim to a ref is the SSH signature's, a secret stays
# in place until it is replaced, a confirmed use of an invite stays used, and who left is out by its own word.
OUTLIVING_KINDS: Final = frozenset({Kind.HEAD, Kind.SECRET, Kind.REDEMPTION})


@dataclass(frozen=True, slots=True)
class Pending:
    """An operation behind the head that needs more signatures."""

    id: RecordId
    number: int
    author: NodeId
    operation: Content
    signers: frozenset[NodeId]
    weight: int
    needed: int
    at_unix_s: float  # by its author's clock


@dataclass(frozen=True, slots=True)
class Lost:
    """A valid operation on a branch that is not followed."""

    id: RecordId
    number: int
    author: NodeId
    operation: Content
    signers: frozenset[NodeId]
    at_unix_s: float  # by its author's clock


@dataclass(frozen=True, slots=True)
class Authority:
    """The trust of a clan at one record set. Equal record sets and final operations give equal ones."""

    clan: ClanId
    chain: Chain
    final: RecordId | None  # the newest operation that a majority of the admins was seen behind
    roster: Roster = field(repr=False)
    pending: tuple[Pending, ...] = ()
    lost: tuple[Lost, ...] = ()
    acknowledged_unix_s: float | None = None  # when an admin last said that it follows this history
    _speakers: Mapping[bytes, int] = field(default_factory=dict, repr=False)
    _crowded: "_Place | None" = field(default=None, repr=False)  # void records behind this place may not stay
    _followed: frozenset[RecordId] = field(default=frozenset(), repr=False)
    _approved: frozenset[str] = field(default=frozenset(), repr=False)  # slots of approvals of what is followed

    @property
    def clan_name(self) -> str:
        """The clan's name; empty before the genesis is known."""
        return self.chain.name

    @property
    def head(self) -> RecordId:
        """The authority operation that all of this is the state after; zeros before the genesis is known."""
        return self.chain.head

    @property
    def number(self) -> int:
        """The number of the head; -1 before the genesis is known."""
        return self.chain.number

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
    def resolutions(self) -> tuple[Resolution, ...]:
        """Which forks of the configuration were ended, and how, newest last."""
        return self.chain.resolutions

    @property
    def members(self) -> Mapping[NodeId, Member]:
        """Everyone whose word counts, by node id; expired ones too, since there is no clock here."""
        return self.roster.members

    @property
    def revoked(self) -> frozenset[NodeId]:
        """Keys that are out for ever."""
        return self.roster.revoked

    @property
    def former(self) -> Mapping[NodeId, str]:
        """The names that keys had which are out for ever, of those that records still name."""
        return self.roster.former

    @property
    def suspended(self) -> frozenset[NodeId]:
        """Keys that came by an invite with more redemptions than uses, and wait for an admin."""
        return self.roster.suspended

    @property
    def invites(self) -> Mapping[RecordId, StandingInvite]:
        """The invites that were not withdrawn."""
        return self.roster.invites

    def follows(self, operation: RecordId) -> bool:
        """Whether an operation lies between genesis and head."""
        return operation in self._followed

    def is_admin(self, node: NodeId) -> bool:
        """Whether a node is an admin."""
        return self.chain.is_admin(node)

    def is_vouched(self, node: NodeId) -> bool:
        """Whether a node is an admin, or has an admin's credential; it may be out all the same."""
        return node in self.roster.vouched

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
        if record.is_genesis:
            return
        if record.kind in CHAIN_KINDS:
            self._may_govern(record)
        elif _is_for_admins(record):
            if not self.is_admin(record.author):
                raise UnauthorizedError(f"only an admin writes records of kind {record.kind}")
        elif record.author not in self.roster.known:
            raise UnauthorizedError("the author is no member of the clan")
        elif record.author in self.roster.revoked and record.kind != Kind.REVOCATION:
            since = self.roster.out_since.get(record.author, record.seq)
            # A new secret by one who is out would be trusted by nobody and read by some; and it lets nobody in.
            if record.kind not in OUTLIVING_KINDS or (record.kind != Kind.HEAD and record.seq > since):
                raise UnauthorizedError("the author was removed from the clan")

    def _may_govern(self, record: Record) -> None:
        if record.author not in self._speakers:
            raise UnauthorizedError(f"only an admin writes records of kind {record.kind}")
        # What a pin makes void stays here nevertheless: the choice between branches that pin each other's authors
        # must not depend on which of them came first. It has no effect, and there is not much room for it.
        crowded = self._crowded is not None and _place(record, self._speakers) > self._crowded
        if crowded and self._is_void(record):
            raise UnauthorizedError("too many void operations are here already")

    def _is_void(self, record: Record) -> bool:
        return _is_void(record, _having_a_say(self.chain), self._followed, self._approved)

    def lets_stay(self, record: Record) -> bool:
        """`may_author` as a question, for `Ledger.retain`. As long as the genesis is missing, all may stay."""
        if self.number < 0:
            return True
        try:
            self.may_author(record)
        except UnauthorizedError:
            return False
        return True


def _is_for_admins(record: Record) -> bool:
    if record.kind == Kind.REVOCATION:
        return record.slot != fingerprint_slot(record.author)  # anybody may put out its own key
    return record.kind in ADMIN_KINDS


def fold(ledger: Ledger, final: RecordId | None = None) -> Authority:
    """Work out the authority of a record set, for a node that holds `final` (None: nothing but the genesis).

    Without a genesis nobody is anything.
    """
    tree = grow(ledger)
    said = acknowledgements(ledger)
    acknowledged = {node: head for node, (head, _) in said.items()}
    path, final = _settled_path(tree, acknowledged, final)
    chain = path[-1].state if path else Chain()
    followed = _ids(path)
    approved = frozenset(map(fingerprint_slot, followed))
    times = [at for node, (head, at) in said.items() if chain.is_admin(node) and head in followed]
    return Authority(
        clan=ledger.clan,
        chain=chain,
        final=settled(tree, path, acknowledged, final),
        roster=enroll(ledger, chain),
        pending=_pending(tree, path),
        lost=_lost(tree, path),
        acknowledged_unix_s=max(times, default=None),
        _speakers=tree.speakers,
        _crowded=_crowded(ledger, chain, tree.speakers, followed, approved),
        _approved=approved,
        _followed=followed,
    )


def retrace(ledger: Ledger, final: RecordId | None) -> tuple[Tree, list[Step], Acknowledged]:
    """The tree, the followed path and the acknowledgements, for who decides what to acknowledge."""
    tree = grow(ledger)
    acknowledged = {node: head for node, (head, _) in acknowledgements(ledger).items()}
    return tree, follow(tree, acknowledged, final), acknowledged


def _settled_path(
    tree: Tree, acknowledged: Acknowledged, final: RecordId | None
) -> tuple[list[Step], RecordId | None]:
    """The followed path, and what of the final operation's history lies on it.

    Where the path leaves that operation, it is chosen again as for one who only remembers what both share: so the
    answer is the same when it is asked again.
    """
    while True:
        path = follow(tree, acknowledged, final)
        shared = last_shared(tree, path, final)
        if shared == final:
            return path, final
        final = shared


# What may crowd out what: a key has its say by words of keys that had theirs earlier. Those stand in front, so
# that no key's words crowd out what they rest on, and what is kept does not depend on what came first.
_Place: TypeAlias = tuple[int, int, str, RecordId]


def _place(record: Record, speakers: Mapping[bytes, int]) -> _Place:
    return speakers[record.author], record.kind, record.slot, record.id


def _having_a_say(chain: Chain) -> frozenset[bytes | None]:
    return frozenset((*(admin.node for admin in chain.admins), chain.recovery))


def _is_void(
    record: Record, having_a_say: frozenset[bytes | None], followed: frozenset[RecordId], approved: frozenset[str]
) -> bool:
    """Whether a record says something about the authority that nothing followed rests on, by one without a say."""
    if record.author in having_a_say:
        return False
    return record.id not in followed and not (record.kind == Kind.APPROVAL and record.slot in approved)


def _crowded(
    ledger: Ledger,
    chain: Chain,
    speakers: Mapping[bytes, int],
    followed: frozenset[RecordId],
    approved: frozenset[str],
) -> _Place | None:
    """The last place that there is room for, when all of it is taken."""
    records = (entry.value for kind in sorted(CHAIN_KINDS) for entry in ledger.of_kind(kind))
    said = (record for record in records if record.author in speakers)
    having_a_say = _having_a_say(chain)
    void = (record for record in said if _is_void(record, having_a_say, followed, approved))
    places = sorted(_place(record, speakers) for record in void)
    return places[VOID_RECORDS_MAX - 1] if len(places) >= VOID_RECORDS_MAX else None


def _ids(path: Sequence[Step]) -> frozenset[RecordId]:
    return frozenset(step.id for step in path)


def _pending(tree: Tree, path: Sequence[Step]) -> tuple[Pending, ...]:
    if not path:
        return ()
    head = path[-1]
    standing = [
        each for each in tree.proposals if each.parent is head and each.record.author not in head.state.pinned
    ]
    return tuple(_pending_of(each) for each in sorted(standing, key=lambda each: each.record.order))


def _pending_of(proposal: Proposal) -> Pending:
    record, before = proposal.record, proposal.parent.state
    return Pending(
        id=record.id,
        number=before.number + 1,
        author=record.author,
        operation=proposal.operation,
        signers=proposal.signers,
        weight=before.weight(proposal.signers),
        needed=before.need(operation_number(proposal.operation)),
        at_unix_s=unix_s_of(record.seq),
    )


def _lost(tree: Tree, path: Sequence[Step]) -> tuple[Lost, ...]:
    followed = _ids(path)
    pinned = path[-1].state.pinned if path else frozenset()
    lost = [
        Lost(
            id=step.id,
            number=step.state.number,
            author=step.record.author,
            operation=step.operation,
            signers=step.signers,
            at_unix_s=unix_s_of(step.record.seq),
        )
        for step in tree.steps.values()
        if step.id not in followed and step.record.author not in pinned
    ]
    return tuple(sorted(lost, key=lambda each: (each.number, each.id)))
