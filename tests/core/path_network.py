"""A little internet for path engines, on a virtual clock: routers, latency, loss, relays, and WireGuard.

Of WireGuard there is what matters here: a peer has one endpoint, which follows authentic packets; without a
session a handshake is made, and repeated only after five seconds; two that cross kill each other.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import count, pairwise
from math import inf
from random import Random
from typing import Any, NamedTuple

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.signalling import Candidate, CandidateKind, NatKind
from clanmeshd.core.effects import Called
from clanmeshd.overlay.path_terms import (
    AWAKE_MAX,
    KEEPALIVE_S,
    Action,
    AskRelay,
    DropRelay,
    Echo,
    Fellow,
    Hold,
    Leave,
    Look,
    MakeCall,
    Open,
    Own,
    PathKind,
    Probe,
    Relay,
    Sleep,
    UseEndpoint,
    Wake,
    Why,
)
from clanmeshd.overlay.paths import Paths
from clanmeshd.steering import RUNG_WAIT_S

PORT = 51872
LEG_S = 0.02  # one way, between any two that are not on one network
LAN_S = 0.0005
COUNTERS_S = 1.0  # between two looks at WireGuard's counters
HANDSHAKE_AGAIN_S = 5.0
GREET_S = 0.3  # after which the side that does not begin makes a handshake after all
CLASH_S = 30.0  # as Linux keeps a UDP flow without an answer
LOOPBACK = bytes([127, 0, 0, 1])
BELL = Endpoint(LOOPBACK, 7)  # where WireGuard rings for who sleeps
SIZES = {"init": 148, "response": 92, "keepalive": 32}  # of WireGuard's packets, in bytes
DATA_BYTES = 128
SEEN_KIND = {"hard": NatKind.HARD, "blocked": NatKind.BLOCKED, "public": NatKind.NONE}
KINDS = ("easy", "hard", "cone", "restricted", "open", "blocked")


class Packet(NamedTuple):
    """What travels from WireGuard's port."""

    what: str  # probe, pong, init, response, ask, reply, keepalive, bind
    sender: NodeId
    number: int = 0


@dataclass
class Router:
    """`public` is no router at all."""

    kind: str
    ip: bytes
    lan: bytes  # three bytes
    ports: dict[tuple[bytes, Endpoint | None], int] = field(default_factory=dict)  # (inside, to) -> outside port
    inside: dict[int, bytes] = field(default_factory=dict)
    sent: dict[int, set[Endpoint]] = field(default_factory=dict)
    clashes: dict[tuple[int, Endpoint], float] = field(default_factory=dict)  # and when they were refreshed
    next_port: int = 40_000

    def out(self, ip: bytes, to: Endpoint, now_s: float) -> Endpoint:
        """Where a packet to the outside seems to come from."""
        plain = self._port(ip, None) if self.kind != "hard" else 0
        clashed_s = self.clashes.get((plain, to), -inf)
        is_odd = self.kind == "hard" or (now_s < clashed_s + CLASH_S and to not in self.sent[plain])
        port = self._port(ip, to) if is_odd else plain
        self.sent[port].add(to)
        return Endpoint(self.ip, port)

    def _port(self, ip: bytes, to: Endpoint | None) -> int:
        if (ip, to) not in self.ports:
            self.ports[ip, to], self.next_port = self.next_port, self.next_port + 7
            self.inside[self.ports[ip, to]] = ip
            self.sent[self.ports[ip, to]] = set()
        return self.ports[ip, to]

    def into(self, port: int, source: Endpoint, now_s: float) -> bytes | None:
        """Who inside gets a packet from the outside."""
        sent = self.sent.get(port, set())
        if self.kind == "cone":
            is_let_in = True
        elif self.kind == "restricted":
            is_let_in = any(source.ip == each.ip for each in sent)
        else:
            is_let_in = source in sent
        if self.kind == "open" and not is_let_in:
            self.clashes[port, source] = now_s  # the router takes it for itself, and keeps that in mind
        return self.inside.get(port) if is_let_in else None


@dataclass
class Tunnel:
    """One peer in a WireGuard."""

    endpoint: Endpoint | None = None
    keepalive_s: int = 0
    session: bool = False
    init_s: float = -inf
    waiting: list[Packet] = field(default_factory=list)
    sent: int = 0
    received: int = 0


@dataclass
class Pair:
    """A relay's port for two."""

    nodes: frozenset[NodeId]
    bound: dict[NodeId, Endpoint] = field(default_factory=dict)
    held: dict[NodeId, Packet] = field(default_factory=dict)  # for the one that is not bound yet


class Net:
    """Everything between the hosts, and the clock."""

    def __init__(
        self,
        seed: int = 0,
        *,
        loss: float = 0.0,
        leg_s: float = LEG_S,
        knows_nats: bool = True,
        awake_max: int = AWAKE_MAX,
    ) -> None:
        self.now_s = 0.0
        self.knows_nats = knows_nats  # two members at least have seen each
        self.loss = loss
        self.leg_s = leg_s
        self.awake_max = awake_max
        self.noise = 0.0  # of each leg, either way, as a share
        self.rng = Random(f"net {seed}")
        self.hosts: dict[NodeId, Host] = {}
        self.routers: dict[bytes, Router] = {}
        self.relays: dict[Endpoint, Pair] = {}
        self.dead: set[bytes] = set()  # addresses of relays that pass nothing on
        self.deaf: set[tuple[bytes, NodeId]] = set()  # and of those that pass nothing on from one of the two
        self.cut: set[frozenset[NodeId]] = set()  # pairs between whom nothing but relayed packets passes
        self.sent = 0
        self._numbers = count()
        self._heap: list[tuple[float, int, Callable[[], object]]] = []

    def at(self, when_s: float, action: Callable[[], object]) -> None:
        """Do something at a moment."""
        heappush(self._heap, (when_s, next(self._numbers), action))

    def run_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Let time pass, event by event, until a condition holds."""
        end_s = self.now_s + seconds
        while not condition():
            if not self._heap or self._heap[0][0] > end_s:
                self.now_s = end_s
                return condition()
            self.now_s, _, action = heappop(self._heap)
            action()
        return True

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.run_until(lambda: False, seconds)

    def host(self, kind: str, *, router: Router | None = None) -> "Host":
        """A new host: behind a new router of a kind, or behind one that is there."""
        number = len(self.hosts) + 1
        lan = bytes([10, 0, number]) if kind != "public" else bytes([198, 51, 100])
        if router is None:
            router = self.routers[lan + b"\0"] = Router(kind, bytes([203, 0, 113, number]), lan)
            self.routers[router.ip] = router
        host = Host(self, NodeId(number.to_bytes(32, "big")), router, router.lan + bytes([number]))
        self.hosts[host.node] = host
        return host

    def legs(self) -> float:
        """How long one way takes."""
        return self.leg_s * (1 + self.noise * (2 * self.rng.random() - 1))

    def carry(self, packet: Packet, source: "Host", to: Endpoint, *, short: bool = False) -> None:
        """A host sends from WireGuard's port."""
        self.sent += 1
        if to.ip == LOOPBACK:
            self._later(partial(self._relay, source.local[to], source.stream, packet))
            return
        neighbour = next((each for each in self.hosts.values() if each.ip == to.ip), None)
        if neighbour is not None and neighbour.router is source.router and source.router.kind != "public":
            self.at(self.now_s + LAN_S, partial(neighbour.arrive, packet, Endpoint(source.ip, PORT)))
            return
        if source.router.kind == "blocked":
            return
        seen = (
            Endpoint(source.ip, PORT)
            if source.router.kind == "public"
            else source.router.out(source.ip, to, self.now_s)
        )
        if not short and self.rng.random() >= self.loss:
            self._later(partial(self._outside, packet, seen, to))

    def _later(self, action: Callable[[], object]) -> None:
        self.at(self.now_s + self.legs(), action)

    def _outside(self, packet: Packet, source: Endpoint, to: Endpoint, *, is_relayed: bool = False) -> None:
        if to in self.relays:
            self._relay(to, source, packet)
            return
        router = self.routers.get(to.ip)
        ip = router.into(to.port, source, self.now_s) if router is not None and router.kind != "public" else to.ip
        host = next((each for each in self.hosts.values() if each.ip == ip), None)
        is_private = router is None and to.ip[0] == 10
        if host is None or is_private or host.router.kind == "blocked":
            return
        if is_relayed or frozenset({host.node, packet.sender}) not in self.cut:
            host.arrive(packet, source)

    def _relay(self, at: Endpoint, source: Endpoint, packet: Packet) -> None:
        pair = self.relays[at]
        if at.ip in self.dead or packet.sender not in pair.nodes:
            return
        pair.bound[packet.sender] = source
        [other] = pair.nodes - {packet.sender}
        held = pair.held.pop(packet.sender, None)
        if held is not None:
            self._from_relay(at, source, held)
        if packet.what == "bind" or (at.ip, packet.sender) in self.deaf:
            return
        if other in pair.bound:
            self._from_relay(at, pair.bound[other], packet)
        else:
            pair.held[other] = packet

    def _from_relay(self, at: Endpoint, to: Endpoint, packet: Packet) -> None:
        if self.rng.random() < self.loss:
            return
        streaming = next((host for host in self.hosts.values() if host.stream == to), None)
        if streaming is not None:
            local = next(endpoint for endpoint, relay in streaming.local.items() if relay == at)
            self._later(partial(streaming.arrive, packet, local))
        else:
            self._later(partial(self._outside, packet, at, to, is_relayed=True))


class Host:
    """A device: an engine, a WireGuard, and what stands between them."""

    def __init__(self, net: Net, node: NodeId, router: Router, ip: bytes) -> None:
        self.net = net
        self.node = node
        self.router = router
        self.ip = ip
        self.tunnels: dict[NodeId, Tunnel] = {}
        self.replies: list[float] = []
        self.uses: list[tuple[float, UseEndpoint]] = []
        self.actions: list[tuple[float, Action]] = []
        self.stream = Endpoint(LOOPBACK, 1000 + node[-1])
        self.local: dict[
            Endpoint, Endpoint
        ] = {}  # of relays by streams: what WireGuard sends to -> the relay's port
        self.has_carrier = True
        self.rings = 0
        self._held: dict[NodeId, list[Packet]] = {}  # what rang, until there is a way
        self._resting: set[NodeId] = set()
        self._strays: list[Packet] = []  # what rang without saying for whom
        self._probes: dict[int, tuple[NodeId, Endpoint, float]] = {}
        self._wake_s = inf
        self.engine = Paths(self.own(), Random(f"host {node[-1]}"), net.awake_max)
        net.at(net.now_s + net.rng.uniform(0, COUNTERS_S), self._count)

    def own(self) -> Own:
        """What this device knows of itself."""
        kind = self.router.kind
        candidates = [Candidate(CandidateKind.LAN, Endpoint(self.ip, PORT))]
        if kind not in ("public", "blocked"):
            observer = Endpoint(bytes([192, 0, 2, 99]), PORT)
            candidates.append(Candidate(CandidateKind.SEEN, self.router.out(self.ip, observer, self.net.now_s)))
        nat = SEEN_KIND.get(kind, NatKind.EASY) if self.net.knows_nats else NatKind.UNKNOWN
        return Own(self.address, frozenset({self.ip}), tuple(candidates), nat)

    @property
    def address(self) -> bytes:
        """In the overlay."""
        return bytes([0xFD]) + self.node[-15:]

    def fellow(self) -> Fellow:
        """What others know of it by its record."""
        return Fellow(self.address, (Endpoint(self.ip, PORT),))

    def meets(self, *others: "Host") -> None:
        """This device learns of others: of all of them."""
        for other in others:
            self.tunnels.setdefault(other.node, Tunnel())
        self.engine.set_fellows({other.node: other.fellow() for other in others}, self.net.now_s)
        self.perform()

    def relayed_by(self, *relays: "Host") -> None:
        """These relay."""
        found = [Relay(relay.node, 2 * LEG_S + relay.node[-1] / 1e6, frozenset({relay.ip})) for relay in relays]
        self.engine.set_relays(tuple(found), self.net.now_s)

    def move(self, router: Router, number: int) -> None:
        """Be on another network."""
        self.router, self.ip = router, router.lan + bytes([number])
        self.engine.set_own(self.own(), self.net.now_s)
        self.perform()

    def kind(self, other: "Host") -> PathKind:
        """How the other's packets go."""
        standing = self.engine.standing(other.node)
        assert standing is not None
        return standing.kind

    def why(self, other: "Host") -> Why:
        """Why they do not go directly."""
        standing = self.engine.standing(other.node)
        assert standing is not None
        return standing.why

    # --- what the engine wants --------------------------------------------------------------------------

    def perform(self) -> None:
        """Do what the engine wants, and look again when it says."""
        for action in self.engine.actions():
            self.actions.append((self.net.now_s, action))
            self._perform(action)
        due_s = self.engine.next_deadline()
        if due_s < inf and due_s != self._wake_s:
            self._wake_s = due_s
            self.net.at(max(due_s, self.net.now_s), partial(self._wake, due_s))

    def _wake(self, due_s: float) -> None:
        if due_s == self._wake_s:
            self._wake_s = inf
            self.engine.handle_deadline(self.net.now_s)
            assert self.engine.next_deadline() > self.net.now_s, "a deadline is dealt with when it was handled"
            self.perform()

    def _perform(self, action: Action) -> None:
        net = self.net
        match action:
            case Open(endpoint=endpoint):
                net.carry(Packet("probe", self.node), self, endpoint, short=True)
            case Probe(node=node, endpoint=endpoint):
                number = len(self._probes) + 1
                self._probes[number] = (node, endpoint, net.now_s)
                net.carry(Packet("probe", self.node, number), self, endpoint)
            case MakeCall():
                self._call(action)
            case UseEndpoint():
                self._use(action)
            case Hold(node=node):
                self.tunnels[node].endpoint = None
            case AskRelay():
                relay = net.hosts[action.via]
                if relay.ip not in net.dead:
                    net.at(net.now_s + 6 * net.leg_s, partial(self._relay_ready, action, relay))
            case Echo(node=node):
                self.send(node, "ask")
            case Look(node=node):
                tunnel = self.tunnels[node]
                self.engine.looked(net.now_s)
                self.engine.counted(node, tunnel.sent, tunnel.received, net.now_s)
            case Sleep(node=node):
                self.tunnels[node].endpoint, self.tunnels[node].keepalive_s = BELL, 0
                self._resting.add(node)
            case Wake(node=node):
                self._resting.discard(node)
            case Leave(node=node):
                self.tunnels[node].endpoint = net.hosts[node].fellow().listed[0]
            case DropRelay():
                pass

    def _call(self, call: MakeCall) -> None:
        if not self.has_carrier:
            self.engine.not_carried(call.node)
        elif self.net.rng.random() >= self.net.loss:
            heard = Called(self.node, call.kind, self.own().nat, call.candidates)
            self.net.at(self.net.now_s + 2 * self.net.legs(), partial(self.net.hosts[call.node].called, heard))

    def called(self, call: Called) -> None:
        """A call arrives."""
        self.engine.called(call, self.net.now_s)
        self.perform()

    def _relay_ready(self, asked: AskRelay, relay: "Host") -> None:
        pair = frozenset({self.node, asked.node})
        at = next((at for at, each in self.net.relays.items() if each.nodes == pair and at.ip == relay.ip), None)
        if at is None:
            at = Endpoint(relay.ip, 60_000 + len(self.net.relays))
            self.net.relays[at] = Pair(pair)
        endpoint = at
        if asked.carried:
            endpoint = Endpoint(LOOPBACK, at.port)
            self.local[endpoint] = at
        self.engine.relay_ready(asked.node, asked.via, endpoint, (at,), self.net.now_s)
        self.perform()

    def _use(self, use: UseEndpoint) -> None:
        self.uses.append((self.net.now_s, use))
        tunnel = self.tunnels[use.node]
        slept = tunnel.endpoint == BELL
        tunnel.endpoint, tunnel.keepalive_s = use.endpoint, use.keepalive_s
        self.net.at(self.net.now_s + KEEPALIVE_S, partial(self._keep, use))
        if use.endpoint in self.net.relays or use.endpoint in self.local:
            self.net.carry(Packet("bind", self.node), self, use.endpoint)
        held = self._held.pop(use.node, [])
        if held:
            pause_s = 0.0 if use.begins or tunnel.session else RUNG_WAIT_S
            self.net.at(self.net.now_s + pause_s, partial(self._send_on, use, held))
        elif not tunnel.session and not slept:
            tunnel.init_s = -inf  # WireGuard is given the peer anew, so that it does not wait with the handshake
        if not tunnel.session and not held:
            pause_s = 0.0 if use.begins else GREET_S
            self.net.at(self.net.now_s + pause_s, partial(self._shake, use.node))

    def _send_on(self, use: UseEndpoint, held: list[Packet]) -> None:
        for packet in held:
            if packet.what != "init" or not self.tunnels[use.node].session:
                self.net.carry(packet, self, use.endpoint)

    def _keep(self, use: UseEndpoint) -> None:
        tunnel = self.tunnels[use.node]
        if tunnel.endpoint == use.endpoint and tunnel.keepalive_s and tunnel.session:
            self._emit(use.node, Packet("keepalive", self.node))
            self.net.at(self.net.now_s + tunnel.keepalive_s, partial(self._keep, use))

    def _ring(self, node: NodeId, packet: Packet) -> None:
        self.rings += 1
        if packet.what == "init":
            self._held[node] = [packet]
            self.engine.rang(node, self.net.now_s)
        else:
            self._strays.append(packet)
            self._look()
        self.perform()

    def _look(self) -> None:
        self.engine.looked(self.net.now_s)
        found = [
            node
            for node, tunnel in self.tunnels.items()
            if self.engine.counted(node, tunnel.sent, tunnel.received, self.net.now_s)
        ]
        if len(found) == 1:
            self._held[found[0]] = self._strays
        self._strays = []

    # --- WireGuard --------------------------------------------------------------------------------------

    def send(self, node: NodeId, what: str) -> None:
        """Something is to go to a peer."""
        tunnel = self.tunnels[node]
        if tunnel.session:
            self._emit(node, Packet(what, self.node))
        else:
            tunnel.waiting = [Packet(what, self.node)]
            self._shake(node)

    def _emit(self, node: NodeId, packet: Packet) -> None:
        tunnel = self.tunnels[node]
        if tunnel.endpoint is not None:
            tunnel.sent += SIZES.get(packet.what, DATA_BYTES)
            if tunnel.endpoint == BELL:
                self.net.at(self.net.now_s, partial(self._ring, node, packet))
            else:
                self.net.carry(packet, self, tunnel.endpoint)

    def _shake(self, node: NodeId) -> None:
        tunnel = self.tunnels[node]
        if not tunnel.session and self.net.now_s >= tunnel.init_s + HANDSHAKE_AGAIN_S:
            tunnel.init_s = self.net.now_s
            self._emit(node, Packet("init", self.node))
            self.net.at(self.net.now_s + HANDSHAKE_AGAIN_S, partial(self._shake, node))

    def arrive(self, packet: Packet, source: Endpoint) -> None:
        """A packet comes to WireGuard's port."""
        if packet.what == "probe":
            self.net.carry(Packet("pong", self.node, packet.number), self, source)
            self.engine.heard(packet.sender, source, self.net.now_s)
            self.perform()
        elif packet.what == "pong":
            self._pong(packet, source)
        elif packet.sender in self.tunnels:
            self._authentic(packet, source, self.tunnels[packet.sender])

    def _pong(self, packet: Packet, source: Endpoint) -> None:
        node, target, sent_s = self._probes.pop(packet.number, (None, None, 0.0))
        if node == packet.sender and target == source:
            self.engine.proven(node, target, self.net.now_s - sent_s, self.net.now_s)
            self.perform()

    def _authentic(self, packet: Packet, source: Endpoint, tunnel: Tunnel) -> None:
        if packet.what == "init" and not tunnel.session and self.net.now_s < tunnel.init_s + 2 * LEG_S:
            return  # two handshakes crossed
        if packet.what in ("ask", "reply", "keepalive") and not tunnel.session:
            return
        tunnel.endpoint = source
        tunnel.received += SIZES.get(packet.what, DATA_BYTES)
        if packet.what == "init":
            tunnel.session = True
            self._emit(packet.sender, Packet("response", self.node))
        elif packet.what == "response":
            tunnel.session = True
            waiting, tunnel.waiting = tunnel.waiting, []
            for each in waiting or [Packet("data", self.node)]:
                self._emit(packet.sender, each)
        elif packet.what == "ask":
            self._emit(packet.sender, Packet("reply", self.node))
        elif packet.what == "reply":
            self.replies.append(self.net.now_s)

    def _count(self) -> None:
        self._look()
        for node in self._resting:
            self.tunnels[node].endpoint = BELL  # as WireGuard is brought back
        self.perform()
        self.net.at(self.net.now_s + COUNTERS_S, self._count)


def steady(host: Host, other: Host, every_s: float = 0.2) -> None:
    """Ask the other something again and again, for ever: traffic that shows when a path works."""

    def again() -> None:
        host.send(other.node, "ask")
        host.net.at(host.net.now_s + every_s, again)

    again()


def gap_s(host: Host, since_s: float) -> float:
    """How long after a moment a reply came that was asked for after it; infinity if none has."""
    return next((at_s - since_s for at_s in host.replies if at_s > since_s + 2 * LEG_S), inf)


def silent_s(host: Host, since_s: float) -> float:
    """How long after a moment the last silence of half a second and more ended."""
    times = [since_s, *(at_s for at_s in host.replies if at_s > since_s), host.net.now_s]
    ends = [after for before, after in pairwise(times) if after - before > 0.5]
    return max(ends, default=since_s) - since_s


def couple(net: Net, first: str, second: str, *, relays: int = 1) -> tuple[Host, Host, list[Host]]:
    """Two behind routers of these kinds, and members that relay. They do not know of each other yet."""
    pair = net.host(first), net.host(second)
    able = [net.host("public") for _ in range(relays)]
    for host in pair:
        host.relayed_by(*able)
    return (*pair, able)


def introduce(first: Host, second: Host) -> Any:
    """Both learn of each other at once."""
    first.meets(second)
    second.meets(first)
