"""The door for records: every check in the order of its price, the signature last."""

from typing import Final

from clanmesh_protocol.errors import ProtocolError, StaleError, UnauthorizedError
from clanmesh_protocol.keys import ClanId, NodeId
from clanmesh_protocol.records import Kind, Record, parse_untrusted
from clanmesh_protocol.signing import Verified, verify_untrusted
from clanmeshd.core.authority import AUTHORITY_KINDS, Authority
from clanmeshd.core.buckets import Buckets
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.limits import (
    SOFT_RECORDS_BURST,
    SOFT_RECORDS_PER_S,
    TRUST_RECORDS_BURST,
    TRUST_RECORDS_PER_S,
    VERIFICATIONS_BURST,
    VERIFICATIONS_PER_S,
)
from clanmeshd.core.parking import Parking

# Checked for one record; for all others it is one.
_SIGNATURES: Final[dict[int, int]] = {Kind.REDEMPTION: 3, Kind.EQUIVOCATION: 3}


class KnownError(ProtocolError):
    """The record is here already; not a fault of anybody."""

    code = "duplicate"

    def __init__(self, record: Record) -> None:
        super().__init__("the record is here already")
        self.record = record


class OlderError(StaleError):
    """The register holds something newer. `record` is what came, its signature unproven."""

    def __init__(self, record: Record) -> None:
        super().__init__("the register holds something newer")
        self.record = record


class StrangerError(UnauthorizedError):
    """The author is not credentialed yet, as far as is known here."""

    def __init__(self, record: Record) -> None:
        super().__init__("the author may not say this")
        self.record = record


class BusyError(ProtocolError):
    """This peer has had its share of signature checks."""

    code = "busy"


class TalkativeError(ProtocolError):
    """This author has had its share of words: each costs the whole clan."""

    code = "busy"

    def __init__(self, record: Record) -> None:
        super().__init__(f"too many new records of kind {record.kind} by one author")
        self.record = record


class Intake:
    """Turns bytes into believed records, one at a time, with a budget for each peer that brings them.

    And one for each author of what changes the authority, where what is beyond is taken when a later comparison of
    the sets brings it again; and of soft state, where a later word says it all.
    """

    def __init__(self, clan: ClanId, ledger: Ledger) -> None:
        self._clan = clan
        self._ledger = ledger
        self._parking = Parking()
        self._budget: Buckets[NodeId] = Buckets(VERIFICATIONS_PER_S, VERIFICATIONS_BURST)
        self._trust: Buckets[NodeId] = Buckets(TRUST_RECORDS_PER_S, TRUST_RECORDS_BURST)
        self._soft: Buckets[NodeId] = Buckets(SOFT_RECORDS_PER_S, SOFT_RECORDS_BURST)

    def check_untrusted(self, data: bytes, peer: NodeId, authority: Authority, now_s: float) -> Verified[Record]:
        """Length and form, known id, newer-or-equal seq, credentialed author, signature. Raises ProtocolError.

        A record whose author is not credentialed is kept aside for `reconsider`.
        """
        record = parse_untrusted(data, self._clan)
        if self._ledger.known(record.id):
            raise KnownError(record)
        if not self._ledger.newer(record):
            raise OlderError(record)
        if not (record.is_genesis or authority.lets_stay(record)):
            self._parking.put(record, peer)
            raise StrangerError(record)
        words = self._words_of(record)
        if words is not None and not words.has(record.author, now_s):
            raise TalkativeError(record)
        if not self._budget.take(peer, now_s, _SIGNATURES.get(record.kind, 1)):
            raise BusyError("too many new records from this peer")
        verified = verify_untrusted(record, self._clan)
        if words is not None:
            words.take(record.author, now_s)  # not before: anybody can write an author's name
        return verified

    def _words_of(self, record: Record) -> Buckets[NodeId] | None:
        if record.is_volatile:
            return self._soft
        return self._trust if record.kind in AUTHORITY_KINDS else None

    def reconsider(self) -> list[tuple[bytes, NodeId]]:
        """Give back what was kept aside, with the peers who brought it: the authority has changed."""
        return self._parking.take_all()

    def retain(self, members: frozenset[NodeId]) -> None:
        """Forget the budgets of all others."""
        self._budget.retain(members)
