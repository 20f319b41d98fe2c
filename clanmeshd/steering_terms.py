"""What steering needs of the machine, of the probes and of the relays; and how its ways lie over the tunnels."""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Protocol

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmeshd.core.effects import Holder, SetTunnels
from clanmeshd.overlay.device import TunnelState

NOWHERE: Final = Endpoint(bytes([127, 0, 0, 1]), 9)  # RFC 863: whatever arrives there is thrown away


class Prober(Protocol):
    """Sends from WireGuard's own port. What it learns comes to `Steering.heard` and `proven`."""

    def probe(self, node: NodeId, endpoint: Endpoint) -> bool:
        """Probe a member at an endpoint."""
        ...

    def open(self, node: NodeId, endpoint: Endpoint) -> bool:
        """Have the own routers expect a member from an endpoint, which notices nothing."""
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


class Way(NamedTuple):
    """What the engine has decided for one tunnel."""

    endpoint: Endpoint
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


def steered(wanted: SetTunnels, ways: Mapping[NodeId, Way]) -> SetTunnels:
    """The wanted tunnels, each where the engine has it go; those that it has not decided about as they are."""
    tunnels = tuple(
        replace(tunnel, endpoint=way.endpoint, keepalive_s=way.keepalive_s, not_at=way.not_at, begins=way.begins)
        if (way := ways.get(tunnel.node)) is not None
        else tunnel
        for tunnel in wanted.tunnels
    )
    return replace(wanted, tunnels=tunnels)
