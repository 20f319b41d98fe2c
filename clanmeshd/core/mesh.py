"""The door of the core: bytes and the time in, effects out. The only class that the driver holds.

This class delegates. `reception` and `sessions` open what comes, `traffic` seals what goes, `gossip` keeps the
record set, `membership` judges who answers, `authority` says who may what, `derived` works out what the adapters
shall do. What is left here is what follows from a new record, and from the time.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from random import Random  # noqa: TID251

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.errors import ProtocolError, UnauthorizedError
from clanmesh_protocol.keys import ClanId, DeviceKeys, Entropy, NodeId, RecordId, fingerprint_slot
from clanmesh_protocol.records import AuthorityOp, Kind, Publishable, Record, Status, Suspicion
from clanmesh_protocol.signing import Verified
from clanmesh_protocol.streams import Join
from clanmeshd.core.admission import redeem
from clanmeshd.core.arrival import Arrival
from clanmeshd.core.author import Author
from clanmeshd.core.authority import Authority
from clanmeshd.core.carriers import Carriers
from clanmeshd.core.derived import Derived
from clanmeshd.core.effects import Effect, FetchRecords, Instant, StoreAnchor, StoreRecord
from clanmeshd.core.errands import Errands
from clanmeshd.core.gossip import Gossip, Learned
from clanmeshd.core.governance import Governance
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.meeting import Meeting
from clanmeshd.core.membership import Membership
from clanmeshd.core.notices import Notices
from clanmeshd.core.own_records import OwnRecords
from clanmeshd.core.peers import Peer, describe_all
from clanmeshd.core.reception import Reception, Worth
from clanmeshd.core.sessions import Sessions
from clanmeshd.core.subjects import Action, Changed, SendPing, State
from clanmeshd.core.suggestions import Suggestions, knock
from clanmeshd.core.traffic import Traffic
from clanmeshd.core.trust import Trust

__all__ = ["Mesh", "Peer"]


class Mesh:
    """One device's part in one clan. `authority`, `ledger` and `counters` are for reading; `meeting` for tunnels.

    Every method that is given the time may change what `effects` and `next_deadline` answer.
    """

    def __init__(
        self,
        keys: DeviceKeys,
        clan: ClanId,
        records: Iterable[Verified[Record]],
        *,
        rng: Random,
        entropy: Entropy,
        now: Instant,
        control_port: int,
        tunnel_port: int,
        anchor: RecordId | None = None,
    ) -> None:
        self.node = keys.node
        self.ledger = Ledger(clan)
        self.counters: Counter[str] = Counter()
        self.control_port = control_port
        self._now = now
        self._deadline_s: float | None = None  # what `next_deadline` answers, once it was worked out
        author = Author(keys.identity_seed, clan)
        for record in records:
            self.ledger.apply(record, now.monotonic_s)
            if record.value.author == self.node:
                author.observe(record.value)
        self._trust = Trust(self.ledger, anchor, now.monotonic_s)
        self._anchor = anchor
        self._sessions = Sessions(keys, clan, entropy)
        self._traffic = Traffic(self._sessions)
        self._suggestions = Suggestions()
        self._carriers = Carriers(self._traffic.paths, now.monotonic_s)
        self._membership = Membership(self.node, rng, now.monotonic_s)
        self._gossip = Gossip(
            self.node, self.ledger, self.authority, self._traffic.outbox, rng, self._membership.up
        )
        self.meeting = Meeting(author, self.ledger, self._membership, self._sessions, self._traffic, rng)
        parts = self._sessions, self._traffic, self._membership, self._gossip, self._suggestions, self.meeting
        self._arrival = Arrival(now)
        self._reception = Reception(self.node, *parts, self._arrival, self._count_error)
        self._errands = Errands(self._traffic, self._sessions, self._gossip, self.meeting, self._reception)
        self._own = OwnRecords(author, keys, entropy, tunnel_port, self._sessions, self._gossip, self._membership)
        self._governance = Governance(author, self._gossip, self._membership.up, self._arrival, now)
        self._derived = Derived(self.ledger, self._traffic.paths, tunnel_port)
        self._stores: list[StoreRecord] = []
        self._notices = Notices(self.authority, self.ledger)
        self._members, self._revoked = frozenset[NodeId](), frozenset[NodeId]()
        self._own.check_keys(now)
        self._work(now)

    @property
    def authority(self) -> Authority:
        """Who may say what, as it was last worked out: after a word of this device's own, with that."""
        return self._trust.authority

    @property
    def clones(self) -> Mapping[NodeId, float]:
        """Who was seen to run twice with one key, and when last (monotonic s)."""
        return self._notices.clones

    @property
    def has_arrived(self) -> bool:
        """Whether this device has heard what was said while it was away, as far as can be told."""
        return self._arrival.is_over

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where this device's control port can be reached, as it was told."""
        return self._own.endpoints

    @property
    def is_blocked(self) -> bool:
        """Whether nothing but streams leaves this device, as far as it knows."""
        return self._carriers.is_blocked

    # --- from the network -------------------------------------------------------------------------------

    def receive(self, data: bytes, source: Endpoint, now: Instant) -> Worth:
        """Take a datagram. Never raises; what is dropped is counted by its fault. Nothing: it changed nothing."""
        self.counters["datagrams-received"] += 1
        if heard := self._reception.receive(data, source, now.monotonic_s):
            self._work(now)
        return heard

    def receive_record(self, data: bytes, peer: NodeId, now: Instant) -> None:
        """Take a record that came over a stream from a member; the checks are the same."""
        try:
            if peer not in self._members:
                raise UnauthorizedError("the peer is no member of the clan")
            self._gossip.take_untrusted(data, peer, now.monotonic_s)
        except ProtocolError as error:
            self._count_error(error)
        self._work(now)

    def suggest(self, endpoint: Endpoint, now: Instant) -> None:
        """Somebody of the clan may be at this address: knock there for those who are not up."""
        if endpoint not in self.endpoints and self._suggestions.hear(endpoint, now.monotonic_s):
            self._knock(now)
            self._work(now)

    def carried(self, node: NodeId, now: Instant, *, is_carried: bool) -> None:
        """A stream carries a member's datagrams, as if they came from `carried_endpoint`; or none does."""
        if node in self._members:
            self._traffic.paths.set_carried(node, is_carried=is_carried)
            self._gossip.set_carried(node, is_carried=is_carried)
            self._carriers.carried(node, now.monotonic_s, is_carried=is_carried)
            self._work(now)
            if is_carried:
                self.greet(node, now)

    def greet(self, node: NodeId, now: Instant) -> None:
        """Begin with this member: it is known to be there."""
        if node in self._members:
            self._membership.ping(node, now.monotonic_s, wide=True)
            self._work(now)

    def _knock(self, now: Instant) -> None:
        if now.monotonic_s >= self._suggestions.next_deadline():
            record, root, admins = self._reception.own_record(), self.ledger.root(), self.authority.admins
            knock(self._suggestions, self._membership, admins, self._traffic, record, root, now.monotonic_s)

    # --- from this device -------------------------------------------------------------------------------

    def publish(self, content: Publishable, *, slot: str, now: Instant, ttl_s: int = 0) -> Record:
        """Sign a record of this device's, keep it and push it. When it raises, nothing is said.

        Raises UnauthorizedError when this device may not say it, LimitError or MalformedError for its format.
        """
        record = self._own.write(content, content.KIND, slot, now, ttl_s)
        self._work(now)
        return record

    def withdraw(self, kind: int, slot: str, now: Instant) -> Record:
        """Empty one of this device's registers. Raises as `publish` does."""
        record = self._own.write(None, kind, slot, now)
        self._work(now)
        return record

    def publish_operation(self, operation: AuthorityOp, now: Instant) -> Record:
        """Sign the next operation on the authority chain. Raises UnauthorizedError unless this is an admin.

        It took effect when `authority.head` is its id afterwards; else it waits for others to approve it.
        """
        return self._behind_the_head(lambda: self._governance.operate(operation, now), now)

    def approve(self, operation: RecordId, now: Instant) -> Record:
        """Put this admin's name under a proposal. Raises UnauthorizedError unless this is an admin."""
        return self._behind_the_head(lambda: self._governance.approve(operation, now), now)

    def recover(self, seed: bytes, operation: AuthorityOp, now: Instant) -> Record:
        """Sign an operation with the recovery key. Raises UnauthorizedError when it is not the one in force."""
        return self._behind_the_head(lambda: self._governance.recover(seed, operation, now), now)

    def admit(self, request: Join, now: Instant) -> None:
        """Let a device in by its invite, or raise Refusal. Asked again by the same device, it agrees again."""
        if redeem(self.authority, self.node, request, now.unix_s) is not None:  # strangers call for no fold
            self._trust.hurry(now.monotonic_s)
            self._work(now)
        redemption = redeem(self.authority, self.node, request, now.unix_s)
        if redemption is not None:
            self.publish(redemption, slot=fingerprint_slot(redemption.invite_key + redemption.node), now=now)

    def set_endpoints(self, endpoints: Iterable[Endpoint], now: Instant) -> None:
        """Say where this device's control port can be reached; the node record follows when that changed."""
        self._own.set_endpoints(endpoints, now)
        if self.meeting.set_own(self.endpoints, now.monotonic_s):
            self._membership.ping_some(now.monotonic_s)
            self._carriers.moved(now.monotonic_s)
        self._work(now)

    def set_status(self, status: Status, now: Instant) -> None:
        """Say how this device is. Changes within a second share a record."""
        self._own.set_status(status, now)
        self._work(now)

    def rotate(self, now: Instant) -> bool:
        """Begin to change this device's tunnel key and its prekey. False: a change is under way already."""
        begun = self._own.rotate(now)
        self._work(now)
        return begun

    def tunnel_key_applied(self, public_key: bytes, now: Instant) -> None:
        """WireGuard has the private key of this X25519 key."""
        self._own.tunnel_key_applied(public_key, now)
        self._work(now)

    # --- time and effects -------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When `handle_deadline` has something to do (monotonic); infinity for never."""
        if self._deadline_s is None:
            self._deadline_s = min(
                self._membership.next_deadline(),
                self._gossip.next_deadline(),
                self._own.next_deadline(),
                self._governance.next_deadline(),
                self._derived.next_deadline(),
                self._suggestions.next_deadline(),
                self._carriers.next_deadline(),
                self._trust.next_deadline(),
                self._arrival.next_deadline(),
            )
        return self._deadline_s

    def handle_deadline(self, now: Instant) -> None:
        """Do what is due; a call before the time does nothing."""
        now_s = now.monotonic_s
        self._arrival.look(now, self._deadline_s)
        self._membership.handle_deadline(now_s)
        for node in self._gossip.handle_deadline(now_s):
            if node in self._members:
                self._membership.ping(node, now_s)
        self._derived.handle_deadline(now_s)
        self._own.handle_deadline(now)
        if self._arrival.handle_deadline(now_s):
            self._trust.hurry(now_s)
            self._work(now)
            self._governance.hasten(now_s)
        self._governance.handle_deadline(now)
        self._carriers.handle_deadline(now_s)
        self._knock(now)
        self._work(now)

    def effects(self) -> list[Effect]:
        """Drain what is to be done, in order: what must be durable stands first."""
        effects: list[Effect] = [*self._own.changed_keys(), *self._stores]
        self._stores.clear()
        if self.authority.final != self._anchor and self.authority.final is not None:
            self._anchor = self.authority.final
            effects.append(StoreAnchor(self._anchor))
        datagrams = self._traffic.drain()
        self.counters["datagrams-sent"] += len(datagrams)
        effects += datagrams
        for node, ids in self._gossip.fetches():
            if node in self._members:  # it may have been put out since
                effects.append(FetchRecords(node, self._traffic.paths.signed(node), ids))
        states = self._derived.changed(self.authority, self._own.overlay_keys(), self._membership, self._now)
        if states is not None:
            effects += states
            self._deadline_s = None
        effects += self._carriers.changed()
        return effects + self.meeting.drain(self._now.monotonic_s) + self._notices.drain()

    # --- for people and streams -------------------------------------------------------------------------

    def peers(self, now: Instant) -> list[Peer]:
        """Every member as it looks from here, this device too, sorted by node id."""
        parts = self.authority, self.ledger, self._membership, self._traffic.paths
        return describe_all(self.node, *parts, now.monotonic_s)

    def up(self) -> frozenset[NodeId]:
        """The members that answer, this device among them if it is one."""
        return frozenset((*self._membership.up(), *(self.authority.members.keys() & {self.node})))

    def holders(self, record: RecordId, now: Instant) -> frozenset[NodeId]:
        """Who is known to have a record of the last minute. Those of whom it is not are asked meanwhile."""
        known = self._gossip.holders(record)
        for node in self._membership.up():
            if node not in known:
                self._membership.ping(node, now.monotonic_s)
        self._work(now)
        return known

    # --- what follows -----------------------------------------------------------------------------------

    def _work(self, now: Instant) -> None:
        """Draw all conclusions. Ends, since each record is new once and each action is performed once."""
        self._arrival.look(now, self._deadline_s)
        self._now, self._deadline_s = now, None
        while True:
            learned = self._gossip.learned()
            for item in learned:
                self._learn(item, now)
            if self._trust.is_due(now.monotonic_s):
                self._refold(now)
                continue
            self._own.cast_votes(now)
            actions = self._membership.actions()
            for action in actions:
                self._perform(action, now)
            if not (learned or actions or self._gossip.has_learned):
                break
        self._note_doubles(now)

    def _behind_the_head(self, sign: Callable[[], Record], now: Instant) -> Record:
        self._trust.hurry(now.monotonic_s)
        self._work(now)
        record = sign()
        self._work(now)
        return record

    def _note_doubles(self, now: Instant) -> None:
        for twin, record in self._gossip.twins():
            self._governance.caught(twin, record, now)
            self._notices.caught(record)
        for node in self._sessions.running_twice():
            self._notices.doubled(node, self.node, now.monotonic_s)
        if self._own.doubled():
            self._notices.doubled(self.node, self.node, now.monotonic_s)

    def _learn(self, learned: Learned, now: Instant) -> None:
        record = learned.verified.value
        if learned.source is not None:
            self._arrival.heard(learned.source, now.monotonic_s)
        self._trust.learn(learned.verified, now.monotonic_s, own=learned.source is None)
        if not record.is_volatile:
            self._stores.append(StoreRecord(learned.verified))
        if record.author == self.node:
            if learned.source is not None:
                self._own.shown(learned.verified, now)
        elif record.author in self._members:
            self._reception.heed(learned.verified, self.control_port, now.monotonic_s)
            if isinstance(content := learned.verified.content, Suspicion):
                self._own.defend(record.author, content.suspects, now)

    def _refold(self, now: Instant) -> None:
        before, decisions = self._trust.refold(now.monotonic_s)
        self._enlist(decisions, now)
        self._gossip.reconsider(self.authority, now.monotonic_s, self._count_error)
        self._notices.follow(self.authority)
        self._governance.follow(before, now)

    def _enlist(self, decisions: list[Record], now: Instant) -> None:
        members, revoked = frozenset(self.authority.members), self.authority.revoked
        if (members, revoked) == (self._members, self._revoked):
            return  # who is no member any more may be put out later: an admin that was removed
        for node in self._members - members:
            for record in decisions:
                self._traffic.tell_at_once(node, record)  # it is to know why nobody answers it any more
        self._members, self._revoked = members, revoked
        others = members - {self.node}
        self._sessions.set_members(others, self._reception.outcasts.keep(self.authority))
        self._traffic.retain(others)
        self._carriers.retain(others, now.monotonic_s)
        self._membership.set_members(others, now.monotonic_s)
        self._arrival.enlist(others)
        self._gossip.retain(others)
        self.meeting.retain(others)
        for kind in (Kind.NODE, Kind.STATUS):
            for entry in self.ledger.of_kind(kind):
                if entry.value.author in others:
                    self._reception.heed(entry, self.control_port, now.monotonic_s)

    def _perform(self, action: Action, now: Instant) -> None:
        if isinstance(action, Changed):
            if action.after is State.UP:
                self._gossip.welcome(action.node, votes=self._membership.ballot.is_open)
            self._notices.notice(action)
        elif not isinstance(action, SendPing) or action.node in self._members:
            self._errands.perform(action, now.monotonic_s)

    def _count_error(self, error: ProtocolError) -> None:
        self.counters[error.code] += 1
