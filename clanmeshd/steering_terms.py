"""What steering needs of the machine, of the probes and of the relays; and how its ways lie over the tunnels."""

import time
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Final, NamedTuple, Protocol

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.records import Node
from clanmesh_protocol.signalling import Candidate, CandidateKind
from clanmeshd.core.effects import Holder, SetTunnels, Tunnel
from clanmeshd.core.peers import Peer
from clanmeshd.core.sightings import is_outer
from clanmeshd.overlay.device import TunnelState
from clanmeshd.overlay.greeting import DISCARD_PORT
from clanmeshd.overlay.path_terms import Fellow, Relay

RELAY_TAG: Final = "relay"
UNWILLING: Final = "unwilling"  # a relay's word: this device is none, for any pair
UNWILLING_S: Final = 600.0  # for which that is remembered; the question costs a pair a quarter of a second
NOWHERE: Final = Endpoint(bytes([127, 0, 0, 1]), DISCARD_PORT)


class Prober(Protocol):
    """Sends from WireGuard's own port. What it learns comes to `Steering.heard` and `proven`."""

    def probe(self, node: NodeId, endpoint: Endpoint) -> bool:
        """Probe a member at an endpoint."""
        ...

    def open(self, node: NodeId, endpoint: Endpoint) -> bool:
        """Have the own routers expect a member from an endpoint, which notices nothing."""
        ...

    def send_on(self, packet: bytes, endpoint: Endpoint) -> None:
        """Send what WireGuard has sent elsewhere."""
        ...

    def set_members(self, static_keys: Mapping[NodeId, bytes]) -> None:
        """Say who the other members are."""
        ...

    def moved(self) -> None:
        """This device is behind other routers."""
        ...


class RelayAsker(Protocol):
    """Asks members to relay. What comes of it comes to `Steering.ready` and `failed`."""

    def ask(self, node: NodeId, relay: Holder, *, carried: bool) -> None:
        """Have a member relay between this device and `node`."""
        ...

    def drop(self, node: NodeId, relay: Holder) -> None:
        """Give a relay back."""
        ...


class Bell(Protocol):
    """Where WireGuard rings that has something for a peer that sleeps. Rings come to `Steering.rung`."""

    endpoint: Endpoint

    def set_peers(self, nodes: Mapping[bytes, NodeId]) -> None:
        """Say who may be rung for, by WireGuard's public key."""
        ...


class Way(NamedTuple):
    """What the engine has decided for one tunnel."""

    endpoint: Endpoint | None  # None: wherever WireGuard has it
    keepalive_s: int
    not_at: Endpoint | None = None  # where a relay is, or was, that this way does not lead through
    begins: bool = False  # the other side waits for a handshake from here


@dataclass(slots=True)
class Machine:
    """What this device itself gives: each is called when it is needed."""

    observe: Callable[[], Awaitable[Mapping[bytes, TunnelState]]]  # WireGuard's peers, by public key
    moved_packets: Callable[[], int]  # of the interface, both ways: another number says that something moves
    greet: Callable[[bytes], None]  # send something that the system at an overlay address answers
    mapped: Callable[[], Iterable[Endpoint]]  # of WireGuard's port, as the router has promised
    uptime_s: Callable[[], float]  # with the time that it slept


def uptime_s() -> float:
    """Seconds since the machine started, with those that it slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def steered(wanted: SetTunnels, ways: Mapping[NodeId, Way], bell: Endpoint | None = None) -> SetTunnels:
    """The wanted tunnels, each where the engine has it go; those that it has not decided about as they are."""
    tunnels = tuple(
        replace(tunnel, endpoint=way.endpoint, keepalive_s=way.keepalive_s, not_at=way.not_at, begins=way.begins)
        if (way := ways.get(tunnel.node)) is not None
        else tunnel
        for tunnel in wanted.tunnels
    )
    return replace(wanted, tunnels=tunnels, bell=bell)


def fellow_of(tunnel: Tunnel, record: Node) -> Fellow:
    """What the engine is to know of a member."""
    listed = tuple(Endpoint(each.ip, record.tunnel_port) for each in record.endpoints)
    return Fellow(tunnel.address, listed if record.tunnel_port else ())


class Unwilling:
    """Who said that it is no relay, for any pair; and who of all is worth the question."""

    def __init__(self) -> None:
        self._until_s: dict[NodeId, float] = {}

    def hear(self, via: NodeId, code: str, now_s: float) -> bool:
        """A member did not relay; whether it will not for others either."""
        if code == UNWILLING:
            self._until_s[via] = now_s + UNWILLING_S
        return code == UNWILLING

    def retain(self, members: Container[NodeId]) -> None:
        """Forget all others."""
        self._until_s = {node: until_s for node, until_s in self._until_s.items() if node in members}

    def others(self, peers: Iterable[Peer], now_s: float) -> list[Peer]:
        """Those with the tag or an address of the internet, the nearest first: each says itself if it does."""
        able = (
            peer
            for peer in peers
            if RELAY_TAG in peer.tags
            or (now_s >= self._until_s.get(peer.node, -inf) and any(is_outer(each.ip) for each in peer.endpoints))
        )
        return sorted(able, key=lambda peer: peer.rtt_ms if peer.rtt_ms is not None else 1000.0)


def relay_of(peer: Peer) -> Relay:
    """What the engine is to know of a member that may relay."""
    return Relay(peer.node, (peer.rtt_ms or 1000.0) / 1000, frozenset(each.ip for each in peer.endpoints))


def candidates_of(
    mapped: Iterable[Endpoint], seen: Iterable[Endpoint], listed: Iterable[Endpoint]
) -> tuple[Candidate, ...]:
    """Where others may try this device, the surest first: those of its router, as others see it, its own."""
    kinds = ((CandidateKind.MAPPED, mapped), (CandidateKind.SEEN, seen), (CandidateKind.LAN, listed))
    return tuple(Candidate(kind, each) for kind, endpoints in kinds for each in endpoints)
