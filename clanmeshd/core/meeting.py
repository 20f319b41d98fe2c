"""How members find out where their tunnels can meet: what they see of one another, and calls by way of others.

The part of the core that the overlay's engine speaks with. Nothing here decides about a path.
"""

from collections.abc import Collection, Iterable, Mapping
from random import Random  # noqa: TID251

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.signalling import Call, CallKind, Candidate, NatKind, Seen
from clanmeshd.core.author import Author
from clanmeshd.core.calling import Calling
from clanmeshd.core.effects import Called, Instant, Reflected
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.membership import Membership
from clanmeshd.core.outbox import URGENCY_PROBE
from clanmeshd.core.sessions import Sessions
from clanmeshd.core.sightings import Sightings, Tellings
from clanmeshd.core.traffic import Traffic
from clanmeshd.core.wanted import node_record, overlay_prefix


class Meeting:
    """One device's part. What it wants sent lies in the outbox: perform the mesh's effects after each call."""

    def __init__(
        self,
        author: Author,
        ledger: Ledger,
        membership: Membership,
        sessions: Sessions,
        traffic: Traffic,
        rng: Random,
    ) -> None:
        inside = overlay_prefix(ledger.clan)
        self._sessions = sessions
        self._traffic = traffic
        self._ledger = ledger
        self._tellings = Tellings(inside)
        self._sightings = Sightings(inside)
        self._calling = Calling(author, ledger, membership, traffic.paths, traffic.outbox, rng, inside)
        self._own: frozenset[bytes] = frozenset()
        self._reflected: Reflected | None = None
        self._worked_out: object = None  # from what that was

    def retain(self, members: frozenset[NodeId]) -> None:
        """Forget all others."""
        for keeper in (self._tellings, self._sightings, self._calling):
            keeper.retain(members)

    @property
    def reflected(self) -> Reflected | None:
        """What others see of this device, as the last effect said it."""
        return self._reflected

    @property
    def heard(self) -> int:
        """How many members' words about this device are remembered."""
        return len(self._sightings)

    # --- from this device -------------------------------------------------------------------------------

    def set_own(self, endpoints: Iterable[Endpoint], now_s: float) -> bool:
        """Say where this device can be reached. True: it has other addresses; it forgot what was seen of them."""
        own = frozenset(endpoint.ip for endpoint in endpoints)
        if own == self._own:
            return False
        self._own = own
        self._sightings.forget(now_s)
        return True

    def set_tunnels(self, tunnels: Mapping[NodeId, Endpoint], now_s: float) -> None:
        """Say where WireGuard has its peers: all those, and only those, whose packets come without a relay.

        Those that are seen elsewhere than before are told at once: it may be what they wait for.
        """
        for node in self._tellings.set_tunnels(tunnels):
            self.tell(node, now_s)

    def answered(self, observer: NodeId, tunnel: Endpoint, own: Collection[Endpoint], now_s: float) -> None:
        """A member answered a probe, and says where it saw this device's WireGuard port. `own`: where it is."""
        self._sightings.answered(observer, tunnel, own, now_s)

    def call(
        self, callee: NodeId, kind: CallKind, nat: NatKind, candidates: Iterable[Candidate], now: Instant
    ) -> bool:
        """Call a member, with where this device's WireGuard may be reached. False: nobody can take it there."""
        return self._calling.call(callee, kind, nat, candidates, now)

    # --- from others ------------------------------------------------------------------------------------

    def hear_untrusted(self, frame: Seen | Call, sender: NodeId, now_s: float) -> None:
        """Take a frame of a proven member. Raises ProtocolError; the frame had no effect then."""
        if isinstance(frame, Seen):
            self._sightings.hear(sender, frame, now_s)
        else:
            self._calling.hear_untrusted(frame, sender, now_s)

    def word(self, node: NodeId, source: Endpoint, now_s: float) -> Seen | None:
        """What to tell a proven peer, beside an answer to its ping that came from `source`. None: nothing now."""
        run = self._sessions.run_of(node)
        record = node_record(self._ledger, node)
        return self._tellings.word(node, source, run, record, now_s) if run is not None else None

    def tell(self, node: NodeId, now_s: float) -> None:
        """Tell a member where it is seen, if that is due: beside a ping that is about to be sent.

        Of two that watch each other one may always be the first to ping, and would else never hear it.
        """
        source = self._traffic.paths.live(node)
        seen = self.word(node, source, now_s) if source is not None else None
        if seen is not None:
            self._traffic.outbox.put(node, seen, URGENCY_PROBE)

    # --- effects ----------------------------------------------------------------------------------------

    def drain(self, now_s: float) -> list[Called | Reflected]:
        """Give the calls that came, and what others see of this device if that is not what it was."""
        calls: list[Called | Reflected] = [*self._calling.drain()]
        self._sightings.lapse(now_s)
        source = self._sightings.version, self._own
        if source == self._worked_out:
            return calls
        self._worked_out, before = source, self._reflected
        self._reflected = self._sightings.reflected(self._own)
        return [self._reflected, *calls] if self._reflected != before else calls
