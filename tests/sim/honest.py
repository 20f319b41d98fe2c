"""An honest device without a network: the real record set, authority and governance; records come in by hand."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Final, TypeAlias

from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import ClanId, NodeId, RecordId
from clanmesh_protocol.records import (
    AdminAdd,
    AdminRemove,
    AdminReplace,
    AuthorityOp,
    Content,
    Genesis,
    Kind,
    Record,
    RecoveryReplace,
)
from clanmesh_protocol.signing import Verified
from clanmeshd.core.arrival import Arrival
from clanmeshd.core.author import Author
from clanmeshd.core.authority import AUTHORITY_KINDS, Authority, fold
from clanmeshd.core.effects import Instant
from clanmeshd.core.gossip import Gossip
from clanmeshd.core.governance import Governance, rival
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.outbox import Outbox

Entry: TypeAlias = Verified[Record]
UNIX_S: Final = 1_800_000_000.0
CONCLUSIONS_MAX: Final = 64  # folds after one record: each drops or adds something


def moment(now_s: float) -> Instant:
    """Both clocks."""
    return Instant(now_s, UNIX_S + now_s)


class Device:
    """What `Mesh` makes of records that matter for the authority, in the same order, for one honest device.

    It knows of no peer that is up, so that nothing is sent and each admin's device does its part by itself.
    """

    def __init__(
        self,
        name: str,
        seed: bytes,
        clan: ClanId,
        records: Iterable[Entry],
        anchor: RecordId | None,
        now: Instant,
    ) -> None:
        self.name = name
        self.ledger = Ledger(clan)
        self._author = Author(seed, clan)
        self.node: NodeId = self._author.node
        for entry in records:
            self.ledger.apply(entry, now.monotonic_s)
            if entry.value.author == self.node:
                self._author.observe(entry.value)
        self.authority: Authority = fold(self.ledger, anchor)
        self._version = -1
        self._outbox = Outbox()
        self._gossip = Gossip(self.node, self.ledger, self.authority, self._outbox, Random(0), list)
        arrival = Arrival(now)
        arrival.enlist(frozenset())  # there are no datagrams here: it always knows what it was given
        self._governance = Governance(self._author, self._gossip, list, arrival, now)
        self._said: list[Entry] = []
        self.conclude(now)
        self.backup = self.image()

    # --- records in and out -----------------------------------------------------------------------------

    def would_take(self, record: Record) -> bool:
        """What is asked at the door before a signature is checked."""
        return self.ledger.newer(record) and self.authority.lets_stay(record)

    def offer(self, entry: Entry, now: Instant) -> bool:
        """Take a record whose signature was checked; say whether anything changed."""
        if not self.would_take(entry.value):
            return False
        if not self._gossip.adopt(entry, NodeId(bytes(32)), now.monotonic_s):
            return False
        if entry.value.author == self.node:
            self._author.observe(entry.value)
        return True

    def receive_untrusted(self, data: bytes, peer: NodeId, now: Instant) -> None:
        """Take a record's bytes through the whole door. Raises ProtocolError."""
        self._gossip.take_untrusted(data, peer, now.monotonic_s)
        self.conclude(now)

    def conclude(self, now: Instant) -> None:
        """Fold, drop what may not stay, do an admin's part, until nothing changes any more."""
        for _ in range(CONCLUSIONS_MAX):
            if self._version == self.ledger.version_of(*AUTHORITY_KINDS):
                break
            before, self.authority = self.authority, fold(self.ledger, self.authority.final)
            self._version = self.ledger.version_of(*AUTHORITY_KINDS)
            self._gossip.reconsider(self.authority, now.monotonic_s, _ignore)
            self._governance.follow(before, now)
        else:
            raise AssertionError("conclusions without an end")
        self._said += [item.verified for item in self._gossip.learned() if item.source is None]

    def said(self) -> list[Entry]:
        """Drain what this device has signed since."""
        said, self._said = self._said, []
        return said

    def entries(self) -> list[Entry]:
        """The record set, as peers hear of it."""
        kinds = (Kind.AUTHORITY, Kind.APPROVAL, Kind.ACKNOWLEDGEMENT, Kind.CREDENTIAL, Kind.REVOCATION)
        return [entry for kind in kinds for entry in self.ledger.of_kind(kind)]

    def keeps_void_words(self) -> bool:
        """Whether it holds words of its own that nobody else would keep: it was thrown out of the clan."""
        own = (record for record in self.ledger.records() if record.author == self.node)
        return not all(map(self.authority.lets_stay, own))

    def image(self) -> tuple[list[Entry], RecordId | None]:
        """What is on its disk: the records and the final operation."""
        return self.entries(), self.authority.final

    def state(self) -> tuple[int, Authority]:
        """What a refused record must leave as it is."""
        return self.ledger.version, self.authority

    def stands(self) -> bool:
        """Whether a second look at the same records changes nothing, as after a restart."""
        again = fold(self.ledger, self.authority.final)
        return (again.head, again.final) == (self.authority.head, self.authority.final)

    # --- people -----------------------------------------------------------------------------------------

    def operate(self, operation: AuthorityOp, now: Instant) -> None:
        """The person at this device changes something, unless it signed a rival of that, which waits."""
        if rival(self.authority, self.node, operation) is not None:
            return
        self._governance.operate(operation, now)
        self.conclude(now)

    def approve(self, operation: RecordId, now: Instant) -> None:
        """The person at this device agrees, unless it signed a rival of that, which waits."""
        proposal = next((each for each in self.authority.pending if each.id == operation), None)
        if proposal is not None and rival(self.authority, self.node, proposal.operation, operation) is not None:
            return
        self._governance.approve(operation, now)
        self.conclude(now)

    def recover(self, seed: bytes, operation: AuthorityOp, now: Instant) -> None:
        """Somebody types the recovery key in."""
        self._governance.recover(seed, operation, now)
        self.conclude(now)

    def keep_up(self, now: Instant) -> None:
        """Time has passed."""
        self._governance.handle_deadline(now)
        self.conclude(now)


def path_to(ledger: Ledger, head: RecordId) -> list[Entry]:
    """The operations from the genesis to a head."""
    records = {entry.value.id: entry for entry in ledger.of_kind(Kind.AUTHORITY)}
    path: list[Entry] = []
    at: RecordId | None = head
    while at is not None:
        path.append(records[at])
        at = records[at].value.prev
    return path[::-1]


def is_over_a_pin(ledger: Ledger, head: RecordId) -> bool:
    """Whether an operation on the path to `head` is signed by a key that one before it put out, or by any other.

    Found by walking the records themselves, with nothing of what chose them.
    """
    first, *path = path_to(ledger, head)
    genesis = first.content
    assert isinstance(genesis, Genesis)
    say = _Say({bytes(admin.node) for admin in genesis.admins}, genesis.recovery)
    for entry in path:
        author = entry.value.author
        if author in say.out or not (author in say.admins or author == say.recovery):
            return True
        say.heed(entry.content)
    return False


@dataclass
class _Say:
    """Who has a say, by the plainest reading of the operations: as few admins as there are here always fit."""

    admins: set[bytes]
    recovery: bytes | None
    out: set[bytes] = field(default_factory=set)

    def _may_come(self, node: bytes) -> bool:
        return node not in self.out and node not in self.admins and node != self.recovery

    def heed(self, operation: Content) -> None:
        """Take an operation into account."""
        match operation:
            case AdminAdd(node=node) if self._may_come(node):
                self.admins.add(node)
            case AdminRemove(node=node) if node in self.admins and len(self.admins) > 1:
                self._put_out(node)
            case AdminReplace(node=node, successor=successor) if node in self.admins and self._may_come(successor):
                self._put_out(node)
                self.admins.add(successor)
            case RecoveryReplace(key=key) if key is None or self._may_come(key):
                if key != self.recovery and self.recovery is not None:
                    self.out.add(self.recovery)
                self.recovery = key

    def _put_out(self, node: bytes) -> None:
        self.admins.discard(node)
        self.out.add(node)


def _ignore(error: ProtocolError) -> None:
    """Refused again: nobody counts here."""
