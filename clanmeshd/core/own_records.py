"""What this device says of itself: node record, status, suspicions, and whatever it is told to publish.

Knows when each is due, and what to say again when peers show that they hold later words of ours than we do.
"""

from collections.abc import Iterable
from dataclasses import replace
from math import inf

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.errors import LimitError, UnauthorizedError
from clanmesh_protocol.keys import DeviceKeys, Entropy, NodeId, exchange_public, tunnel_private
from clanmesh_protocol.limits import ENDPOINTS_MAX
from clanmesh_protocol.records import SINGLE_SLOT, Kind, Publishable, Record, Status, Suspicion
from clanmesh_protocol.signing import Verified
from clanmeshd.core.author import Author, node_content
from clanmeshd.core.buckets import TokenBucket
from clanmeshd.core.effects import Instant, StoreKeys
from clanmeshd.core.gossip import Gossip
from clanmeshd.core.limits import REPEATS_BURST, REPEATS_PER_S, SUSPICION_TTL_S
from clanmeshd.core.membership import Membership
from clanmeshd.core.own_status import OwnStatus
from clanmeshd.core.prekeys import next_check_s, rotated, sending_prekey
from clanmeshd.core.sessions import Sessions
from clanmeshd.core.suspicions import Votes
from clanmeshd.core.tunnel_keys import Fellow, Rotation, begun, dated, is_due, switched
from clanmeshd.core.wanted import node_record


class OwnRecords:
    """The writing half of the core."""

    def __init__(
        self,
        author: Author,
        keys: DeviceKeys,
        entropy: Entropy,
        tunnel_port: int,
        sessions: Sessions,
        gossip: Gossip,
        membership: Membership,
    ) -> None:
        self.keys = keys
        self.endpoints: tuple[Endpoint, ...] = ()
        self._author = author
        self._entropy = entropy
        self._tunnel_port = tunnel_port
        self._sessions = sessions
        self._gossip = gossip
        self._membership = membership
        self._status = OwnStatus()
        self._endpoints_known = False
        self._changed_keys: StoreKeys | None = None
        self._keys_s = 0.0
        self._rotation = Rotation()
        self._repeats = TokenBucket(REPEATS_PER_S, REPEATS_BURST, 0.0)
        self._doubled = False

    # --- on demand --------------------------------------------------------------------------------------

    def write(self, content: Publishable | None, kind: int, slot: str, now: Instant, ttl_s: int = 0) -> Record:
        """Sign a register's next value and let it spread.

        Raises UnauthorizedError, LimitError or MalformedError; nothing is said then.
        """
        verified = self._author.write(
            content,
            kind=kind,
            slot=slot,
            now_unix_s=now.unix_s,
            ttl_s=ttl_s,
            may_author=self._gossip.authority.may_author,
        )
        if not self._gossip.adopt(verified, None, now.monotonic_s):
            raise LimitError(f"no slot is left for another record of kind {kind}")
        return verified.value

    def set_endpoints(self, endpoints: Iterable[Endpoint], now: Instant) -> None:
        """Say where this device can be reached."""
        self.endpoints = tuple(dict.fromkeys(endpoints))[:ENDPOINTS_MAX]
        self._endpoints_known = True
        self._say_node(now)

    def set_status(self, status: Status, now: Instant) -> None:
        """Say how this device is."""
        self._status.set(status, now.monotonic_s)
        self._say_status(now)

    def rotate(self, now: Instant) -> bool:
        """Begin to change the tunnel key and change the prekey. False: a change is under way, nothing is done."""
        if self.keys.tunnel_next is not None:
            return False
        self._use(begun(self.keys, self._entropy, now.unix_s), now)
        return True

    def tunnel_key_applied(self, public_key: bytes, now: Instant) -> None:
        """WireGuard has the private key of this X25519 key: if it is the next one, say so to all."""
        following = self.keys.tunnel_next
        if following is None or not self._rotation.applying:
            return
        if public_key == exchange_public(tunnel_private(following.seed)):
            self._use(switched(self.keys, now.unix_s), now)

    def overlay_keys(self) -> DeviceKeys:
        """The keys with the tunnel key that WireGuard is to have, which is published once it has it."""
        following = self.keys.tunnel_next
        if following is None or not self._rotation.applying:
            return self.keys
        return replace(self.keys, tunnel_seed=following.seed)

    def changed_keys(self) -> list[StoreKeys]:
        """Drain the keys that must be durable before they are used."""
        changed, self._changed_keys = self._changed_keys, None
        return [changed] if changed is not None else []

    # --- on doubt ---------------------------------------------------------------------------------------

    def shown(self, verified: Verified[Record], now: Instant) -> None:
        """A peer showed a later value of a register of ours: our clock goes past it, and our word stands above."""
        record = verified.value
        self._author.observe(record)
        if not self._repeats.take(now.monotonic_s):
            # A cloned device answers each of our words with its own: nobody may be flooded with that argument.
            self._doubled = True
            return
        if record.kind == Kind.NODE:
            self._say_node(now)
        elif record.kind == Kind.STATUS:
            self._doubted(now)
        else:
            said = self._author.to_repeat(verified)
            if said is not None:
                self._write_if_it_may(said.content, said.kind, said.slot, now, said.ttl_s)

    def doubled(self) -> bool:
        """Drain the finding that somebody else speaks with this device's key."""
        doubled, self._doubled = self._doubled, False
        return doubled

    def defend(self, accuser: NodeId, suspects: Votes, now: Instant) -> None:
        """Refute a suspicion of this device: by a new status, or by the one that the accuser has not seen.

        Of any other one it tells which status it has: if that is newer than ours, we are to have it, too.
        """
        status = self._gossip.ledger.get(self._author.node, Kind.STATUS, SINGLE_SLOT)
        said = status.value.seq if status is not None else 0
        for node, incarnation in suspects:
            if node != self._author.node:
                self._gossip.ask_for_newer(node, incarnation, accuser, now.monotonic_s)
            elif incarnation == said:
                self._doubted(now)
            elif incarnation < said and status is not None:
                self._gossip.push(accuser, status.value)

    def _doubted(self, now: Instant) -> None:
        self._status.doubted(now.monotonic_s)
        self._say_status(now)

    # --- in time ----------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When `handle_deadline` has something to do."""
        return min(self._status.next_deadline(), self._keys_s, self._rotation.next_deadline())

    def handle_deadline(self, now: Instant) -> None:
        """Say what is due."""
        if now.monotonic_s >= self._keys_s:
            self.check_keys(now)
        if now.monotonic_s >= self._rotation.next_deadline():
            self._go_on(now)
        self._say_status(now)

    def check_keys(self, now: Instant) -> None:
        """Change prekeys when it is time, and the one that is sealed with; likewise the tunnel key."""
        fresh = dated(rotated(self.keys, self._entropy, now.unix_s) or self.keys, now.unix_s)
        if is_due(fresh, self._gossip.authority.chain.settings, now.unix_s):
            fresh = begun(fresh, self._entropy, now.unix_s)
        self._use(fresh, now)

    def _use(self, keys: DeviceKeys, now: Instant) -> None:
        if keys != self.keys:
            self.keys = keys
            self._changed_keys = StoreKeys(keys)
        self._follow_rotation(now)
        self._sessions.set_keys(self.keys, sending_prekey(self.keys, now.unix_s))
        self._keys_s = now.monotonic_s + next_check_s(self.keys, now.unix_s)
        self._say_node(now)

    def _follow_rotation(self, now: Instant) -> None:
        is_followed = self._rotation.next_deadline() < inf
        if self.keys.tunnel_next is None:
            self._rotation.end()
        elif not is_followed:
            self._rotation.begin(now.monotonic_s)

    def _go_on(self, now: Instant) -> None:
        fellows = [self._fellow(node) for node in self._membership.up()]
        if self._rotation.step(self.keys, fellows, now.monotonic_s, now.unix_s):
            self._use(switched(self.keys, now.unix_s), now)

    def _fellow(self, node: NodeId) -> Fellow:
        said = node_record(self._gossip.ledger, node)
        key = said.tunnel_key if said is not None else None
        changing = said is not None and said.tunnel_next is not None
        return Fellow(node, self._sessions.addressed(node), key, changing)

    def cast_votes(self, now: Instant) -> None:
        """Publish whom this device suspects, if that is due."""
        votes = self._membership.ballot.take(now.monotonic_s)
        if votes is None:
            return
        ledger = self._gossip.ledger
        before = ledger.get(self._author.node, Kind.SUSPICION, SINGLE_SLOT)
        if not votes and (before is None or before.content == Suspicion(())):
            return
        record = self._write_by_itself(Suspicion(votes), now, SUSPICION_TTL_S)
        if record is None:
            return
        for node, _ in votes:
            # Lifeguard's buddy rule: the suspect hears of it first; others hear which status it is about.
            self._gossip.push(node, record)
            status = ledger.get(node, Kind.STATUS, SINGLE_SLOT)
            if status is not None:
                self._gossip.announce_around(status.value)

    def _say_node(self, now: Instant) -> None:
        content = node_content(self.keys, self._gossip.ledger.clan, self.endpoints, self._tunnel_port)
        if self._endpoints_known and node_record(self._gossip.ledger, self._author.node) != content:
            self._write_by_itself(content, now)

    def _say_status(self, now: Instant) -> None:
        members = len(self._gossip.authority.members)
        due = self._status.take(members, now.monotonic_s)
        if due is not None:
            status, ttl_s = due
            self._write_by_itself(status, now, ttl_s)

    def _write_by_itself(self, content: Publishable, now: Instant, ttl_s: int = 0) -> Record | None:
        return self._write_if_it_may(content, content.KIND, SINGLE_SLOT, now, ttl_s)

    def _write_if_it_may(
        self, content: Publishable | None, kind: int, slot: str, now: Instant, ttl_s: int
    ) -> Record | None:
        try:
            return self.write(content, kind, slot, now, ttl_s)
        except UnauthorizedError:
            return None  # removed from the clan, or not admitted yet as far as is known here
        except LimitError:
            # Another one with our key has used up the last seq of this register, or its last slot.
            self._doubled = True
            return None
