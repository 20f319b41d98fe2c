"""Steers each tunnel: between the path engine, the core, the probes, the relays and WireGuard.

The engine decides, and knows no clock and no socket; this gives it both. What it decides lies over the tunnels
that the core wants, as another endpoint and keepalive, so that WireGuard has one wanted state as before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from random import Random
from typing import Final, assert_never

import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.records import Kind, Node
from clanmesh_protocol.signalling import NatKind
from clanmeshd import steering_terms as terms
from clanmeshd.core.effects import Called, Holder, Reflected, SetTunnels
from clanmeshd.core.peers import Peer
from clanmeshd.core.subjects import State
from clanmeshd.core.wanted import PREFIX_BITS, node_record
from clanmeshd.counting import Counting, Whereabouts
from clanmeshd.driver import Driver, instant
from clanmeshd.hearing import Hearing
from clanmeshd.overlay import path_terms
from clanmeshd.overlay.paths import Paths
from clanmeshd.reconcile import Latest
from clanmeshd.ringing import Ringing

TICK_S: Final = 1.0  # between two looks at whether anything moves: a black hole is seen in four
AWAY_S: Final = 5.0  # that the clock of the machine is ahead of ours: it slept, and woke up anywhere
TURN_S_MAX: Final = 3600.0
NEWS_S: Final = 0.05  # between two looks at who is up: news come in crowds
REACHED_S: Final = 10.0  # between two looks at whether datagrams still come, when nobody went up or down
UNREACHED_S: Final = 1.0  # that no datagram comes but through tunnels, until relays are asked for by streams
FIRST_WAIT_S: Final = 0.8  # for the handshake of the side that begins: twice the slowest round trip
RUNG_WAIT_S: Final = 0.15  # the same, where a handshake waits to be sent on: as long as one of the other's takes
ACTIONS_MAX: Final = 64  # one after the other: with hundreds of tunnels each may be a call, of 0.2 ms
RELAYS_MAX: Final = 8  # members that are thought of as relays, the nearest


@dataclass(slots=True)
class Steering:
    """One clan's. `steered` is what the overlay shall be. Everything runs on the trio thread."""

    driver: Driver
    node: NodeId
    tunnel_port: int
    machine: terms.Machine
    prober: terms.Prober
    asker: terms.RelayAsker
    bell: terms.Bell | None = None  # without it nobody rings: it is looked each second whether something was sent
    awake_max: int = path_terms.AWAKE_MAX
    steered: Latest[SetTunnels] = field(default_factory=Latest)
    hearing: Hearing = field(default_factory=Hearing)
    paths: Paths = field(init=False)
    is_blocked: bool = field(init=False, default=False)  # streams get through here, but no datagrams
    _wanted: SetTunnels | None = None
    _ways: dict[NodeId, terms.Way] = field(default_factory=dict)
    _reflected: Reflected = field(default_factory=lambda: Reflected(NatKind.UNKNOWN, (), ()))
    _late: dict[NodeId, tuple[float, terms.Way]] = field(default_factory=dict)  # when it goes there by itself
    _counting: Counting = field(init=False)
    _whereabouts: Whereabouts = field(default_factory=Whereabouts)
    _ringing: Ringing = field(init=False)
    _is_put_due: bool = False
    _relayed_at: dict[NodeId, Endpoint] = field(default_factory=dict)  # where the newest relay of a pair is
    _relays: dict[NodeId, Holder] = field(default_factory=dict)
    _unwilling: terms.Unwilling = field(default_factory=terms.Unwilling)
    _fellows: dict[NodeId, tuple[Node, path_terms.Fellow]] = field(default_factory=dict)  # with their records
    _up: frozenset[NodeId] = frozenset()
    _is_reached: bool = False  # some datagram of a member comes from elsewhere than a tunnel, by the last look
    _alone_s: float = field(default_factory=trio.current_time)  # since when no datagram comes but through tunnels
    _packets: int = -1
    _slept_s: float = 0.0
    _nudge: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        self.paths = Paths(path_terms.Own(bytes(16), frozenset(), (), NatKind.UNKNOWN), Random(), self.awake_max)
        self._counting = Counting(self.machine.observe)
        self._ringing = Ringing(self.bell, self.prober)
        self._slept_s = self._ahead_s()

    async def run(self) -> None:
        """Steer until cancelled."""
        self.driver.on_signal = self._signal
        self._reflected = self.driver.mesh.meeting.reflected or self._reflected
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_wanted)
            nursery.start_soon(self._tick)
            nursery.start_soon(self._follow_news)
            while True:
                with trio.move_on_at(min(self._next_deadline(), trio.current_time() + TURN_S_MAX)):
                    await self._nudge.wait()
                self._nudge = trio.Event()
                if self._ringing.wants_look(trio.current_time()):
                    await self._count()
                now_s = trio.current_time()
                if now_s >= self.paths.next_deadline():
                    self.paths.handle_deadline(now_s)
                await self._perform_all()
                self._go_by_oneself(trio.current_time())
                self._ringing.go_on(trio.current_time())
                self._put()

    def _next_deadline(self) -> float:
        own_s = min(self.paths.next_deadline(), self._ringing.next_deadline())
        return min([own_s, *(due_s for due_s, _ in self._late.values())])

    def standing(self, node: NodeId) -> path_terms.Standing | None:
        """How a member's packets go, and why not directly."""
        return self.paths.standing(node)

    # --- what others tell -------------------------------------------------------------------------------

    def heard(self, node: NodeId, source: Endpoint) -> None:
        """A member's probe came from here."""
        self.paths.heard(node, source, trio.current_time())
        self._nudge.set()

    def proven(self, node: NodeId, target: Endpoint, rtt_s: float, observed: Endpoint) -> None:
        """A member answered a probe there, and says where that came from."""
        now_s, ips = trio.current_time(), self.paths.own.ips
        self.paths.proven(node, target, rtt_s, now_s)
        self.driver.mesh.meeting.answered(node, observed, {Endpoint(ip, self.tunnel_port) for ip in ips}, now_s)
        self._nudge.set()

    def ready(self, node: NodeId, via: NodeId, endpoint: Endpoint, shared: tuple[Endpoint, ...]) -> None:
        """A relay relays: WireGuard here is to send to `endpoint`, the peer's to one of `shared`."""
        if endpoint.ip == terms.NOWHERE.ip:
            self.is_blocked = self._is_alone()
            self.look_around()
        self._relayed_at[node] = endpoint
        self.paths.relay_ready(node, via, endpoint, shared, trio.current_time())
        self._nudge.set()

    def failed(self, node: NodeId, via: NodeId, code: str, why: str) -> None:
        """A relay does not relay, or no longer."""
        self.paths.relay_failed(node, via, trio.current_time())
        if self._unwilling.hear(via, code, trio.current_time()):
            self._follow_peers(self.driver.mesh.peers(instant()))
        self._nudge.set()

    def rung(self, node: NodeId | None, packet: bytes) -> None:
        """WireGuard has sent something for a peer that sleeps; None: what it has counted will tell for which."""
        self._ringing.hold(node, packet)
        if node is not None:
            self.paths.rang(node, trio.current_time())
            self._send_on(node)
        self._nudge.set()

    def _signal(self, signal: Called | Reflected) -> None:
        if isinstance(signal, Called):
            self.look_around()  # the call may be the first that a stream has carried
            self.hearing.want(trio.current_time())
            self.paths.called(signal, trio.current_time())
        else:
            self._reflected = signal
            self.look_around()
        self._nudge.set()

    # --- what this device is ----------------------------------------------------------------------------

    def look_around(self) -> None:
        """The addresses here, or what the router promised, may be others now."""
        now_s, mesh = trio.current_time(), self.driver.mesh
        listed = [Endpoint(each.ip, self.tunnel_port) for each in mesh.endpoints]
        self.is_blocked |= mesh.is_blocked
        candidates = terms.candidates_of(self.machine.mapped(), self._reflected.tunnel, listed)
        before = self.paths.own
        address = self._wanted.address if self._wanted is not None else before.address
        nat = NatKind.BLOCKED if self.is_blocked else self._reflected.nat
        own = path_terms.Own(address, frozenset(each.ip for each in listed), candidates, nat)
        ahead_s = self._ahead_s()
        has_slept, self._slept_s = ahead_s > self._slept_s + AWAY_S, ahead_s
        if own == before and not has_slept:
            return
        if own.ips != before.ips or has_slept:
            self.prober.moved()
        self.paths.set_own(own, now_s)
        if has_slept:
            self.paths.moved(now_s)
        self._nudge.set()

    def _is_alone(self) -> bool:
        return not self._is_reached and (self.is_blocked or trio.current_time() >= self._alone_s + UNREACHED_S)

    def _ahead_s(self) -> float:
        return self.machine.uptime_s() - trio.current_time()

    async def _follow_wanted(self) -> None:
        while True:
            self._wanted = await self.driver.slots.tunnels.changed()
            self._ringing.set_peers(self._counting.set_wanted(self._wanted))
            self._follow_members(self._wanted)
            self.look_around()
            self._is_put_due = True
            self._nudge.set()

    def _follow_members(self, wanted: SetTunnels) -> None:
        """Tell who the others are, if anything of that is new: most tunnels change for other reasons."""
        ledger, fellows = self.driver.mesh.ledger, dict[NodeId, tuple[Node, path_terms.Fellow]]()
        for tunnel in wanted.tunnels:
            record, held = node_record(ledger, tunnel.node), self._fellows.get(tunnel.node)
            if record is not None:
                fellows[tunnel.node] = (
                    held if held and held[0] is record else (record, terms.fellow_of(tunnel, record))
                )
        if fellows == self._fellows:
            return
        self._fellows = fellows
        self._ways = {node: way for node, way in self._ways.items() if node in fellows}
        self._late = {node: late for node, late in self._late.items() if node in fellows}
        self._relayed_at = {node: at for node, at in self._relayed_at.items() if node in fellows}
        self._unwilling.retain(fellows)
        self.prober.set_members({node: record.static_key for node, (record, _) in fellows.items()})
        self.paths.set_fellows({node: fellow for node, (_, fellow) in fellows.items()}, trio.current_time())

    def _put(self) -> None:
        """Say what the overlay shall be, once for all that was decided: who sleeps is never tried awake before."""
        if self._is_put_due and self._wanted is not None:
            self._is_put_due = False
            self.steered.put(terms.steered(self._wanted, self._ways, self._ringing.endpoint))

    # --- what moves -------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        looked_s = -inf
        while True:
            await trio.sleep(TICK_S)
            self.look_around()
            now_s = trio.current_time()
            if now_s >= looked_s + (REACHED_S if self._is_reached else TICK_S):
                looked_s = now_s
                self._follow_peers(self.driver.mesh.peers(instant()))
            packets = self.machine.moved_packets()
            if packets == self._packets:
                self.hearing.rest(now_s)
            else:
                self._packets = packets
                await self._count()

    async def _count(self) -> None:
        """Tell the engine what WireGuard has counted, and the members where it has them; as far as it is new."""
        changes = await self._counting.changes()
        now_s, is_astray, woken = trio.current_time(), False, list[NodeId]()
        self.paths.looked(now_s)
        for node, state in changes:
            way = self._ways.get(node)
            is_astray |= way is not None and way.not_at is not None and way.not_at == state.endpoint
            if self.paths.counted(node, state.tx_bytes, state.rx_bytes, now_s):
                woken.append(node)
            self._whereabouts.take(node, state, (self._ringing.endpoint, self._relayed_at.get(node)))
        self.hearing.count(self._counting.passed_bytes, now_s)
        for node in {*woken, *self._ringing.attribute(woken)}:
            self._send_on(node)
        self._is_put_due |= is_astray  # to be applied again, though nothing else is wanted
        seen = self._whereabouts.news(self._counting.is_known)
        if seen is not None:
            self.driver.mesh.meeting.set_tunnels(seen, now_s)
        self._nudge.set()

    async def _follow_news(self) -> None:
        mesh, heeded = self.driver.mesh, tuple[object, ...]()
        while True:
            news, pause_ends_s = self.driver.news, trio.current_time() + NEWS_S
            nodes = mesh.ledger.version_of(Kind.NODE)  # most news are records of something else
            seen = mesh.up(), mesh.is_blocked, mesh.authority.members, nodes
            if seen != heeded:
                heeded = seen
                self._follow_peers(mesh.peers(instant()))
            await self.driver.quiet(news, TURN_S_MAX, 0.0)  # at once: somebody may be there to carry calls
            await trio.sleep_until(pause_ends_s)

    def _follow_peers(self, peers: Sequence[Peer]) -> None:
        up = [peer for peer in peers if peer.node != self.node and peer.state == State.UP]
        now_s, before = trio.current_time(), self._up
        self._up = frozenset(peer.node for peer in up)
        for node in sorted(self._up - before):
            self.paths.answers(node, now_s)
        inside = self.paths.own.address[: PREFIX_BITS // 8]
        outside = any(peer.endpoint and not peer.endpoint.ip.startswith(inside) for peer in up)
        self._is_reached = outside and not self.driver.mesh.is_blocked
        if self._is_reached:
            self._alone_s, self.is_blocked = now_s, False
        self.look_around()
        asked = [peer for peer in peers if peer.node != self.node] if self._is_alone() else up
        able = self._unwilling.others(asked, now_s)[:RELAYS_MAX]
        self._relays = {peer.node: Holder(peer.node, peer.endpoints, frozenset()) for peer in able}
        self.paths.set_relays(tuple(map(terms.relay_of, able)), now_s)
        self._nudge.set()

    # --- what the engine wants --------------------------------------------------------------------------

    async def _perform_all(self) -> None:
        looks, actions = False, self.paths.actions()
        if any(isinstance(action, path_terms.UseEndpoint) and not action.begins for action in actions):
            await self._count()  # whether there is a session
        for number, action in enumerate(actions, 1):
            looks |= isinstance(action, path_terms.Look)
            self._perform(action)
            if number % ACTIONS_MAX == 0:
                await trio.lowlevel.checkpoint()
        self._put()
        await self.driver.settle()  # what was told to the core, and calls, lie in its outbox
        if looks:
            await self._count()

    def _perform(self, action: path_terms.Action) -> None:
        match action:
            case path_terms.Open(node=node, endpoint=endpoint):
                self.hearing.want(trio.current_time())
                self.prober.open(node, endpoint)
            case path_terms.Probe(node=node, endpoint=endpoint):
                self.hearing.want(trio.current_time())
                self.prober.probe(node, endpoint)
            case path_terms.MakeCall():
                self._call(action)
            case path_terms.UseEndpoint(node=node, endpoint=endpoint, keepalive_s=keepalive_s):
                relayed_at = self._relayed_at.get(node)
                not_at = relayed_at if relayed_at != endpoint else None
                self._use(node, terms.Way(endpoint, keepalive_s, not_at, action.begins), begins=action.begins)
            case path_terms.Hold(node=node):
                self._steer(node, terms.Way(terms.NOWHERE, 0))
            case path_terms.Sleep() | path_terms.Wake() | path_terms.Leave():
                self._rest(action)
            case path_terms.AskRelay(node=node, via=via, carried=carried):
                self._ask(node, via, carried=carried)
            case path_terms.DropRelay(node=node, via=via):
                self.asker.drop(node, self._relays.get(via) or Holder(via, (), frozenset()))
            case path_terms.Echo(node=node):
                self._greet(node)
            case path_terms.Look():
                return
            case _:
                assert_never(action)

    def _rest(self, action: path_terms.Sleep | path_terms.Wake | path_terms.Leave) -> None:
        way = self._ringing.way if isinstance(action, path_terms.Sleep) else None
        self._steer(action.node, terms.Way(None, 0) if isinstance(action, path_terms.Wake) else way)

    def _call(self, call: path_terms.MakeCall) -> None:
        nat = self.paths.own.nat
        self.hearing.want(trio.current_time())
        if not self.driver.mesh.meeting.call(call.node, call.kind, nat, call.candidates, instant()):
            self.paths.not_carried(call.node)

    def _use(self, node: NodeId, way: terms.Way, *, begins: bool) -> None:
        """Go there; without a session at once on one side only.

        Two handshakes that cross kill each other, and a peer that is made anew loses one that has just come.
        WireGuard answers wherever a handshake comes from, and goes there from then on.
        """
        if begins or self._counting.has_session(node):
            self._steer(node, way)
        else:
            wait_s = RUNG_WAIT_S if self._ringing.holds(node) else FIRST_WAIT_S
            self._late[node] = (trio.current_time() + wait_s, way)

    def _go_by_oneself(self, now_s: float) -> None:
        for node, (due_s, way) in list(self._late.items()):
            if now_s >= due_s or self._counting.has_session(node):
                self._steer(node, way)

    def _steer(self, node: NodeId, way: terms.Way | None) -> None:
        self._late.pop(node, None)
        if self._ways.get(node) == way:
            return
        if way is None:
            del self._ways[node]
        else:
            self._ways[node] = way
            if way.endpoint is not None:
                self._ringing.send_on(node, way.endpoint)
        self._is_put_due = True

    def _send_on(self, node: NodeId) -> None:
        """At once to where its way leads, or it says itself that it is: it may be reached there before a probe."""
        way, tunnel = self._ways.get(node), self._counting.tunnel(node)
        record, _ = self._fellows.get(node, (None, None))
        listed = tunnel.endpoint if tunnel is not None else None
        if way is not None and way.endpoint not in (None, terms.NOWHERE, self._ringing.endpoint):
            self._ringing.send_on(node, way.endpoint)
        elif listed is not None and record is not None and any(each.ip == listed.ip for each in record.endpoints):
            self._ringing.send_on(node, listed)

    def _ask(self, node: NodeId, via: NodeId, *, carried: bool) -> None:
        holder = self._relays.get(via)
        if holder is None:
            self.paths.relay_failed(node, via, trio.current_time())
            self._nudge.set()
        else:
            self.asker.ask(node, holder, carried=carried or self._is_alone())

    def _greet(self, node: NodeId) -> None:
        tunnel = self._counting.tunnel(node)
        if tunnel is not None:
            self.machine.greet(tunnel.address)
