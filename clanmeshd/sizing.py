"""How large packets may be on the way to each peer: searched when a path begins, and laid over the tunnels.

A path is where WireGuard has the peer, seen from the addresses that this device has. When either changes, what was
proven before holds no more: packets are small again until the new path is proven, a moment later. A path that has
rested for longer than a session lasts is proven again when it is used.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from math import inf
from time import time
from typing import Final, Protocol

import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmeshd.core.effects import SetTunnels, Tunnel
from clanmeshd.overlay import scouting
from clanmeshd.overlay.device import SESSION_S, TunnelState, may_have_session
from clanmeshd.overlay.echoes import echo
from clanmeshd.overlay.path_mtu import OUTER_BYTES, find, fitting
from clanmeshd.overlay.plan import MTU_BYTES, MTU_PROVEN_BYTES
from clanmeshd.reconcile import Latest

ANSWER_S: Final = 1.0  # for one echo; a way that takes longer stays with small packets
AT_ONCE_MAX: Final = 8  # searches: at a start there may be one for each peer
AGAIN_S: Final = (3.0, 30.0, 300.0)  # after nothing was answered: the peer may be just starting, or never answers

log = logging.getLogger(__name__)


class Measure(Protocol):
    """What a search needs of the system."""

    async def is_answered(self, address: bytes, size: int, within_s: float) -> bool:
        """Whether one packet of so many bytes in the tunnel was answered from an overlay address."""
        ...

    def outer_mtu(self, endpoint: Endpoint) -> int | None:
        """The largest packet that leaves for there uncut, headers and all; None: unknown."""
        ...

    def send_ahead(self, endpoint: Endpoint, outer_bytes: int) -> None:
        """Have routers on the way there complain, if they do."""
        ...


@dataclass(slots=True)
class _Path:
    """What is known of one path."""

    at: Endpoint
    own: frozenset[bytes]  # addresses of this device
    size: int | None = None  # the largest that was answered; None: nothing was, or nothing was tried yet
    due_s: float = -inf  # when it is to be searched
    handshake_unix_s: int = 0  # the last one that was seen
    tries: int = 0


@dataclass(slots=True)
class Sizing:
    """One clan's. `wanted` comes from whoever steers, `tunnels` goes to the overlay. All on the trio thread."""

    wanted: Latest[SetTunnels]
    measure: Measure
    own_ips: Callable[[], frozenset[bytes]]
    tunnels: Latest[SetTunnels] = field(default_factory=Latest)
    _newest: SetTunnels | None = None
    _paths: dict[NodeId, _Path] = field(default_factory=dict)
    _nursery: trio.Nursery | None = None
    _places: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(AT_ONCE_MAX))

    async def run(self) -> None:
        """Pass on what is wanted, with what is known by then, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            while True:
                self._newest = await self.wanted.changed()
                nodes = {tunnel.node for tunnel in self._newest.tunnels}
                self._paths = {node: path for node, path in self._paths.items() if node in nodes}
                self._put()

    def size_of(self, node: NodeId) -> int | None:
        """The largest packet that was answered on a member's path, in bytes; None: not known."""
        path = self._paths.get(node)
        return path.size if path is not None else None

    def seen(self, observed: Mapping[bytes, TunnelState]) -> None:
        """WireGuard was looked at: what it knows of each peer, by public key."""
        if self._newest is None or self._nursery is None:
            return
        own, now_s, is_news = self.own_ips(), trio.current_time(), False
        for tunnel in self._newest.tunnels:
            state = observed.get(tunnel.public_key)
            if state is None or not may_have_session(state, time()) or _sleeps(tunnel, state, self._newest.bell):
                continue
            assert state.endpoint is not None
            path = self._paths.get(tunnel.node)
            if path is None or path.at != state.endpoint or path.own != own:
                is_news |= path is not None and path.size is not None
                path = self._paths[tunnel.node] = _Path(state.endpoint, own)
            if path.handshake_unix_s and state.handshake_unix_s - path.handshake_unix_s > SESSION_S:
                path.due_s, path.tries = now_s, 0
            path.handshake_unix_s = state.handshake_unix_s
            if now_s >= path.due_s:
                path.due_s = inf
                self._nursery.start_soon(self._search, tunnel, path)
        if is_news:
            self._put()

    async def _search(self, tunnel: Tunnel, path: _Path) -> None:
        def ceiling() -> int:
            outer = self.measure.outer_mtu(path.at)
            return fitting(outer, path.at.ip) if outer is not None else MTU_BYTES

        async def ask(size: int) -> bool:
            return await self.measure.is_answered(tunnel.address, size, ANSWER_S)

        async with self._places:
            if self._paths.get(tunnel.node) is not path:
                return
            if not ip_address(path.at.ip).is_loopback:  # there a relay is carried by a stream
                self.measure.send_ahead(path.at, MTU_BYTES + OUTER_BYTES[len(path.at.ip)])
            before, path.size = path.size, await find(ask, ceiling)
        if path.size is None and path.tries < len(AGAIN_S):
            path.due_s = trio.current_time() + AGAIN_S[path.tries]
            path.tries += 1
        if self._paths.get(tunnel.node) is path and path.size != before:
            if path.size is not None and path.size < MTU_BYTES:
                log.info("overlay: packets have %d bytes at most to %s", path.size, path.at)
            self._put()

    def _put(self) -> None:
        if self._newest is not None:
            self.tunnels.put(sized(self._newest, {node: path.size or 0 for node, path in self._paths.items()}))


def sized(wanted: SetTunnels, sizes: Mapping[NodeId, int]) -> SetTunnels:
    """The wanted tunnels, with the largest packet of each that more is known of than what all take."""
    tunnels = tuple(
        replace(tunnel, mtu=size) if (size := sizes.get(tunnel.node, 0)) > MTU_PROVEN_BYTES else tunnel
        for tunnel in wanted.tunnels
    )
    return replace(wanted, tunnels=tunnels)


def _sleeps(tunnel: Tunnel, state: TunnelState, bell: Endpoint | None) -> bool:
    """Whether it leads nowhere, or only to where WireGuard rings: then a search would wake the peer."""
    return state.endpoint is None or (bell is not None and bell in (tunnel.endpoint, state.endpoint))


class System:
    """The system itself, for one interface."""

    def __init__(self, interface: str) -> None:
        self._interface = interface

    async def is_answered(self, address: bytes, size: int, within_s: float) -> bool:
        """By an echo; not where none can be sent."""
        try:
            return await echo(self._interface, address, size, within_s) is not None
        except OSError as error:
            log.debug("overlay: %s", error)
            return False

    def outer_mtu(self, endpoint: Endpoint) -> int | None:
        """As the kernel has it."""
        return scouting.outer_mtu(endpoint)

    def send_ahead(self, endpoint: Endpoint, outer_bytes: int) -> None:
        """One packet."""
        scouting.send_ahead(endpoint, outer_bytes)
