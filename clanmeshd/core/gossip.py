"""The record side of the core: in through the checks, into the ledger, out to those who lack it.

Puts the intake, the ledger, the wave, the wants and the repair together. What a record means is the mesh's
business: it drains `learned`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from random import Random  # noqa: TID251
from typing import NamedTuple

from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import RECORD_DATAGRAM_BYTES_MAX, SHORT_ID_BYTES
from clanmesh_protocol.messages import Digest, IHave, Leaf, RecordFrame, Want
from clanmesh_protocol.records import SINGLE_SLOT, VOLATILE_KINDS, Kind, Record
from clanmesh_protocol.signing import Verified
from clanmeshd.core.antientropy import AntiEntropy
from clanmeshd.core.authority import Authority
from clanmeshd.core.buckets import Buckets
from clanmeshd.core.dissemination import Dissemination, short_id_of
from clanmeshd.core.intake import Intake, KnownError, OlderError, StrangerError, TalkativeError
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.limits import (
    ECHOES_BURST,
    ECHOES_PER_S,
    FETCH_IDS_MAX,
    FETCH_INSTEAD,
    REVOCATIONS_NAMED_MAX,
    REVOCATIONS_SHOWN,
    SERVED_RECORDS_BURST,
    SERVED_RECORDS_PER_S,
    STATUS_ANNOUNCE_EVERY,
)
from clanmeshd.core.outbox import URGENCY_SYNC, Outbox, urgency_of
from clanmeshd.core.wants import Asked, Wants


class Learned(NamedTuple):
    """A record that is new here. `source` None: this device wrote it."""

    verified: Verified[Record]
    source: NodeId | None


class Gossip:
    """Spreads and repairs the record set. `up` gives the members that answer, sorted."""

    def __init__(
        self,
        own: NodeId,
        ledger: Ledger,
        authority: Authority,
        outbox: Outbox,
        rng: Random,
        up: Callable[[], Sequence[NodeId]],
    ) -> None:
        self.ledger = ledger
        self.authority = authority
        self._own = own
        self._outbox = outbox
        self._up = up
        self._intake = Intake(ledger.clan, ledger)
        self._dissemination = Dissemination(own, rng)
        self._wants = Wants()
        self._repair = AntiEntropy(own, ledger)
        self._learned: list[Learned] = []
        self._twins: list[tuple[Record, Record]] = []
        self._fetches: list[tuple[NodeId, tuple[bytes, ...]]] = []
        self._served: Buckets[NodeId] = Buckets(SERVED_RECORDS_PER_S, SERVED_RECORDS_BURST)
        self._echoes: Buckets[NodeId] = Buckets(ECHOES_PER_S, ECHOES_BURST)
        self._pings: dict[NodeId, int] = {}
        self._lapsed: dict[tuple[NodeId, int, str], Record] = {}  # to be shown to authors who fell behind them

    def retain(self, members: frozenset[NodeId]) -> None:
        """Forget all other peers."""
        for keeper in (self._intake, self._dissemination, self._wants, self._repair, self._served, self._echoes):
            keeper.retain(members)
        self._fetches = [(node, ids) for node, ids in self._fetches if node in members]
        self._pings = {node: count for node, count in self._pings.items() if node in members}
        self._lapsed = {register: record for register, record in self._lapsed.items() if register[0] in members}

    def set_carried(self, node: NodeId, *, is_carried: bool) -> None:
        """Say whether a stream leads to a peer, in the place of datagrams."""
        self._dissemination.set_carried(node, is_carried=is_carried)

    # --- records in -------------------------------------------------------------------------------------

    def take_untrusted(self, data: bytes, peer: NodeId, now_s: float) -> None:
        """A peer gave a record. Raises ProtocolError (also for one that is here already, or too old)."""
        try:
            verified = self._intake.check_untrusted(data, peer, self.authority, now_s)
        except KnownError as known:
            self._seen(known.record, peer)
            raise
        except OlderError as older:
            self._wants.refuse(self._seen(older.record, peer), now_s)
            self._show_newer(older.record, peer, now_s)
            raise
        except (StrangerError, TalkativeError) as refused:
            self._wants.refuse(self._seen(refused.record, peer), now_s)
            raise
        self._seen(verified.value, peer)
        self.adopt(verified, peer, now_s)

    def adopt(self, verified: Verified[Record], source: NodeId | None, now_s: float) -> bool:
        """Take a believed record into the ledger, and on from here. Says whether it changed anything."""
        record = verified.value
        if source is None and self.ledger.would_displace(record):
            return False  # of this device's own words each stays until it is withdrawn
        applied = self.ledger.apply(verified, now_s)
        if applied.twin is not None:
            self._twins.append((applied.twin, record))
        if not applied.is_new:
            self._wants.refuse(short_id_of(record), now_s)
            return False
        self._learned.append(Learned(verified, source))
        for node in self._dissemination.spread(record, source, self._up(), now_s):
            self.push(node, record)
        return True

    def learned(self) -> list[Learned]:
        """Drain what is new."""
        learned, self._learned = self._learned, []
        return learned

    @property
    def has_learned(self) -> bool:
        """Whether `learned` has something."""
        return bool(self._learned)

    def twins(self) -> list[tuple[Record, Record]]:
        """Drain the pairs of records that an author signed for one register and seq."""
        twins, self._twins = self._twins, []
        return twins

    def reconsider(self, authority: Authority, now_s: float, count: Callable[[ProtocolError], None]) -> None:
        """The authority has changed: drop what may not stay, try again what had no right to come in."""
        self.authority = authority
        # Until this device is a member as far as it knows, its own words wait for that.
        waits = authority.number >= 0 and not authority.is_member(self._own)
        self.ledger.retain(lambda record: (waits and record.author == self._own) or authority.lets_stay(record))
        self._wants.reconsider()
        for data, peer in self._intake.reconsider():
            try:
                self.take_untrusted(data, peer, now_s)
            except ProtocolError as error:
                count(error)

    def _seen(self, record: Record, peer: NodeId) -> bytes:
        short_id = short_id_of(record)
        self._wants.arrived(short_id)
        self._dissemination.held_by(short_id, peer)
        return short_id

    def _show_newer(self, record: Record, peer: NodeId, now_s: float) -> None:
        # Soft state is in no digest, and a restored device must hear of its own later words soon: these two
        # anti-entropy does not cover, or not soon enough. All else it does.
        if record.is_volatile or record.author == peer:
            current = self.ledger.get(*record.register)
            newer = current.value if current is not None else self._lapsed.get(record.register)
            if newer is not None and self._echoes.take(peer, now_s):
                self.push(peer, newer)

    # --- records out ------------------------------------------------------------------------------------

    def push(self, node: NodeId, record: Record) -> None:
        """Give a peer a record, or tell it of one that no datagram can carry."""
        if len(record.data) <= RECORD_DATAGRAM_BYTES_MAX:
            self._outbox.put(node, RecordFrame(record.data), urgency_of(record.kind))
        else:
            self._outbox.announce(node, [short_id_of(record)], is_large=True)

    def _name(self, node: NodeId, ids: Iterable[bytes]) -> None:
        """Tell a peer of records that are here."""
        for short_id in ids:
            record = self.ledger.by_short_id(short_id)
            if record is not None:
                is_large = len(record.data) > RECORD_DATAGRAM_BYTES_MAX
                self._outbox.announce(node, [short_id], is_large=is_large)

    def welcome(self, node: NodeId, *, votes: bool) -> None:
        """A peer has come up: give it our own soft state, which no comparison of sets would bring.

        Our votes only where any stands: the peer, or others, would refute what nobody says any more.
        And name who is out: it shall learn that before it learns anything else.
        """
        revocations = sorted(self.ledger.of_kind(Kind.REVOCATION), key=lambda entry: entry.value.seq)
        self._name(node, [short_id_of(entry.value) for entry in revocations[-REVOCATIONS_NAMED_MAX:]])
        for newest in revocations[-REVOCATIONS_SHOWN:]:
            self.push(node, newest.value)
        for kind in sorted(VOLATILE_KINDS):
            entry = self.ledger.get(self._own, kind, SINGLE_SLOT)
            if entry is not None and (votes or kind != Kind.SUSPICION):
                self.push(node, entry.value)

    def names_for_ping(self, node: NodeId, now_s: float) -> None:
        """Put into the outbox what a ping to this peer should name beside."""
        names = self._dissemination.names_for(node, now_s)
        count = self._pings[node] = self._pings.get(node, 0) + 1
        status = self.ledger.get(self._own, Kind.STATUS, SINGLE_SLOT)
        if status is not None and count % STATUS_ANNOUNCE_EVERY == 1:
            names.append(short_id_of(status.value))
        self._name(node, names)

    def holders(self, record: bytes) -> frozenset[NodeId]:
        """Who is known to have a record, by its id, that is about a minute old at most."""
        return self._dissemination.holders(record[:SHORT_ID_BYTES])

    def announce(self, nodes: Iterable[NodeId], record: Record) -> None:
        """Tell some peers that this record is here."""
        for node in nodes:
            self._name(node, [short_id_of(record)])

    def announce_around(self, record: Record) -> None:
        """Tell the ring neighbours that this record is here; everybody in a small clan."""
        for node in self._dissemination.around(self._up()):
            self._name(node, [short_id_of(record)])

    def ask_for_newer(self, author: NodeId, seq: int, peer: NodeId, now_s: float) -> None:
        """A peer knows a status of a member with this seq: where it is newer than ours, ask by showing ours."""
        status = self.ledger.get(author, Kind.STATUS, SINGLE_SLOT)
        if status is not None and status.value.seq < seq and self._echoes.take(peer, now_s):
            self.push(peer, status.value)

    # --- frames of a proven peer ------------------------------------------------------------------------

    def hear_ihave(self, peer: NodeId, frame: IHave, now_s: float) -> None:
        """A peer has these."""
        times = Counter(frame.ids)
        for short_id in times:
            self._dissemination.held_by(short_id, peer)
        large = [short_id for short_id, count in times.items() if count > 1]
        small = [short_id for short_id, count in times.items() if count == 1]
        fetch = self._wants.lacking(peer, large, self.ledger.known, now_s)
        self._ask({peer: self._wants.advertised(peer, small, self.ledger.known, now_s)}, {peer: fetch})

    def hear_want(self, peer: NodeId, frame: Want, now_s: float) -> None:
        """A peer lacks these: give what is here, as far as its budget goes."""
        self._give(peer, frame.ids, now_s)

    def hear_root(self, peer: NodeId, root: bytes, now_s: float) -> None:
        """A ping or an ack told a peer's root."""
        if root == self.ledger.root():
            self._dissemination.agrees(peer)
        self._put_all(peer, self._repair.hear_root(peer, root, now_s))

    def hear_digest(self, peer: NodeId, frame: Digest, now_s: float) -> None:
        """A peer compares its set with ours."""
        self._put_all(peer, self._repair.hear_digest(peer, frame, now_s))

    def hear_leaf(self, peer: NodeId, frame: Leaf, now_s: float) -> None:
        """A peer lists a part of its set: want and give what differs."""
        wanted, given = self._repair.hear_leaf(frame)
        self._give(peer, given, now_s)
        if len(wanted) > FETCH_INSTEAD:
            self._ask({}, {peer: self._wants.lacking(peer, wanted, self.ledger.known, now_s)})
        else:
            self._ask({peer: self._wants.advertised(peer, wanted, self.ledger.known, now_s)}, {})

    def _give(self, peer: NodeId, ids: Iterable[bytes], now_s: float) -> None:
        for short_id in ids:
            record = self.ledger.by_short_id(short_id)
            if record is not None:
                if not self._served.take(peer, now_s):
                    return
                self.push(peer, record)

    def _put_all(self, peer: NodeId, frames: Iterable[Digest | Leaf]) -> None:
        for frame in frames:
            self._outbox.put(peer, frame, URGENCY_SYNC)

    def _ask(self, ask: Asked, fetch: Asked) -> None:
        for peer, ids in ask.items():
            if ids:
                self._outbox.want(peer, ids)
        for peer, ids in fetch.items():
            for start in range(0, len(ids), FETCH_IDS_MAX):
                self._fetches.append((peer, tuple(ids[start : start + FETCH_IDS_MAX])))

    def fetches(self) -> list[tuple[NodeId, tuple[bytes, ...]]]:
        """Drain what is to be fetched over a stream, and from whom."""
        fetches, self._fetches = self._fetches, []
        return fetches

    # --- time -------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When `handle_deadline` has something to do; infinity for never."""
        return min(self._dissemination.next_deadline(), self._wants.next_deadline(), self._repair.next_deadline())

    def handle_deadline(self, now_s: float) -> list[NodeId]:
        """Do what is due; give the peers to ping because their sets are to be compared."""
        for lapsed in self.ledger.expire(now_s):
            self._lapsed[lapsed.register] = lapsed
        for node, short_id in self._dissemination.handle_deadline(self._up(), now_s):
            self._name(node, [short_id])
        ask, fetch = self._wants.handle_deadline(now_s)
        self._ask(ask, fetch)
        return self._repair.handle_deadline(now_s)
