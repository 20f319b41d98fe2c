"""One overlay interface: read what is, plan the way to what is wanted, walk it. The same for both backends."""

import errno
import logging
import socket
import time
from collections.abc import Mapping
from typing import Final, Protocol

import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmeshd.core.effects import SetTunnels
from clanmeshd.overlay import plan as steps
from clanmeshd.overlay.device import (
    ADDRESS_BITS,
    Device,
    Link,
    Network,
    OverlayUnavailable,
    TunnelState,
    WireGuard,
)
from clanmeshd.overlay.routing import OWNED_ALIAS, Routing

_READS_MAX: Final = 3  # an interface that goes away while it is read is read again, then believed gone
PORT_GRACE_S: Final = 1.0  # the wireguard-go of a daemon that was killed gives it back a moment later
PORT_POLL_S: Final = 0.02

log = logging.getLogger(__name__)


class Control(Protocol):
    """What the kernel's WireGuard and a userspace one differ in. All methods raise OSError."""

    @property
    def kind(self) -> str:
        """`kernel` or `userspace`."""
        ...

    async def create(self) -> None:
        """Bring the interface into being, marked as ours. Raises OverlayUnavailable when it can't be."""
        ...

    async def read(self) -> WireGuard:
        """Read the device back. Raises OSError(ENODEV) when it is gone."""
        ...

    async def configure(self, change: steps.Configure) -> None:
        """Make a change of the device."""
        ...

    async def close(self) -> None:
        """Give back what `create` took, but for a link that the interface removes itself."""
        ...


class Interface:
    """An open backend: `Control` for the WireGuard half, `Routing` for the network half."""

    def __init__(self, name: str, routing: Routing, control: Control) -> None:
        self.name = name
        self._routing = routing
        self._control = control
        self._lock = trio.Lock()  # the supervisor applies too
        self._wanted: SetTunnels | None = None
        self._applied: dict[bytes, Endpoint | None] = {}  # by public key: the endpoint last wanted
        self._lost: frozenset[bytes] = frozenset()
        self._has_converged = False
        self._repaired: tuple[str, ...] = ()
        self._sizes: dict[bytes, int] = {}  # by overlay address: the largest packet last wanted, where one was
        self._resized: frozenset[Network] = frozenset()

    @property
    def kind(self) -> str:
        """`kernel` or `userspace`."""
        return self._control.kind

    async def apply(self, wanted: SetTunnels) -> None:
        """Make the interface what is wanted, changing nothing that is right. Raises OSError."""
        async with self._lock:
            self._wanted = wanted
            await self._converge(wanted)

    async def restore(self) -> None:
        """Bring back an interface that went away, with what was last wanted of it. Raises OSError."""
        async with self._lock:
            if self._wanted is None:
                await self._control.create()
            else:
                await self._converge(self._wanted)

    def take_lost(self) -> frozenset[bytes]:
        """Drain the public keys of peers with whom the session is gone, though nobody wanted that.

        The peer does not know, and goes on with it for 15 seconds.
        """
        lost, self._lost = self._lost, frozenset()
        return lost

    async def read(self) -> Mapping[bytes, TunnelState]:
        """What WireGuard knows of each peer, by public key. Raises OSError, ENODEV when the interface is gone."""
        peers = (await self._control.read()).peers
        return {
            key: TunnelState(peer.endpoint, peer.handshake_unix_s, peer.rx_bytes, peer.tx_bytes)
            for key, peer in peers.items()
        }

    async def close(self) -> None:
        """Remove the interface, if it still is ours."""
        try:
            await self._control.close()
            link = await self._routing.read_link(self.name)
            if link is not None and link.alias == OWNED_ALIAS:
                await self._routing.delete_link(link.index)
        finally:
            self._routing.close()

    async def difference(self, wanted: SetTunnels) -> list[steps.Step]:
        """What `apply` would do now; nothing when all is as wanted. Raises OSError."""
        return self._plan(await self._read_device(), wanted)

    def _plan(self, current: Device | None, wanted: SetTunnels) -> list[steps.Step]:
        return steps.plan(current, wanted, applied=self._applied, now_unix_s=time.time())

    async def _converge(self, wanted: SetTunnels) -> None:
        current = await self._read_device()
        way = self._plan(current, wanted)
        self._note_sizes(wanted)
        self._note_repair(current, way)
        await _check_port(way)
        index = current.link.index if current is not None else 0
        for step in way:
            if isinstance(step, steps.Create):
                await self._control.create()
                index = (await self._owned_link()).index
            else:
                await self._perform(step, index)
        self._applied = {
            tunnel.public_key: tunnel.endpoint or self._applied.get(tunnel.public_key) for tunnel in wanted.tunnels
        }
        self._has_converged = True

    def _is_resizing(self, step: steps.Step) -> bool:
        """Whether a step follows from another size that is wanted, and not from what somebody did."""
        return isinstance(step, steps.AddRoute | steps.RemoveRoute) and step.route in self._resized

    def _note_sizes(self, wanted: SetTunnels) -> None:
        """See for whom packets shall be larger or smaller than before."""
        before, self._sizes = self._sizes, {tunnel.address: tunnel.mtu for tunnel in wanted.tunnels if tunnel.mtu}
        differing = {address for address, _ in before.items() ^ self._sizes.items()}
        self._resized = frozenset(Network(address, ADDRESS_BITS) for address in differing)

    def _note_repair(self, current: Device | None, way: list[steps.Step]) -> None:
        """Say what somebody else has changed, and see with whom there may have been sessions that went with it."""
        if not self._has_converged:
            return
        peers = current.wireguard.peers if current is not None else {}
        is_anew = any(
            isinstance(step, steps.Create | steps.SetUp) for step in way
        )  # who is switched off forgets all
        self._lost |= self._applied.keys() if is_anew else self._applied.keys() - peers.keys()
        foreign = (step for step in way if not self._is_resizing(step))
        repaired = tuple(step.what for step in foreign if not isinstance(step, steps.Configure))
        if repaired and repaired != self._repaired:
            log.info("overlay: put right on %s what somebody changed: %s", self.name, ", ".join(repaired))
        self._repaired = repaired

    async def _read_device(self) -> Device | None:
        for _ in range(_READS_MAX):
            link = await self._routing.read_link(self.name)
            if link is None:
                return None
            require_ours(self.name, link)
            try:
                addresses, routes = await self._routing.read_networks(link.index)
                wireguard = await self._control.read()
            except OSError as error:
                if error.errno != errno.ENODEV:
                    raise
                continue
            link = Link(link.index, link.kind, link.alias, link.mtu, link.up, addresses, routes)
            return Device(link, wireguard)
        return None

    async def _owned_link(self) -> Link:
        link = await self._routing.read_link(self.name)
        if link is None:
            raise OSError(errno.ENODEV, f"{self.name} went away as soon as it was made")
        require_ours(self.name, link)
        return link

    async def _perform(self, step: steps.Step, index: int) -> None:
        match step:
            case steps.Configure():
                await self._control.configure(step)
            case steps.SetMtu(mtu):
                await self._routing.set_mtu(index, mtu)
            case steps.SetUp():
                await self._routing.set_up(index)
            case steps.AddAddress(address):
                await self._add_address(index, address)
            case steps.RemoveAddress(address):
                await self._routing.remove_address(index, address)
            case steps.AddRoute(route, mtu):
                await self._routing.add_route(index, route, mtu)
            case steps.RemoveRoute(route):
                await self._routing.remove_route(index, route)
            case steps.Create():
                raise AssertionError("made before there is an index")

    async def _add_address(self, index: int, address: Network) -> None:
        try:
            await self._routing.add_address(index, address)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EOPNOTSUPP):
                raise
            raise OverlayUnavailable(
                f"the overlay address on {self.name}",
                "IPv6 is switched off on this machine",
                f"sysctl net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.{self.name}.disable_ipv6=0",
            ) from error


def require_ours(name: str, link: Link) -> None:
    """Raise OverlayUnavailable for an interface that we did not make."""
    if link.alias != OWNED_ALIAS:
        raise OverlayUnavailable(
            f"the interface {name}",
            f"one of that name exists ({link.kind or 'of another kind'}) and clanmesh did not make it",
            f"remove it (ip link delete {name}), or set another `interface` in the configuration",
        )


async def _check_port(way: list[steps.Step]) -> None:
    """Say that a port is taken before anything is changed: a userspace WireGuard may only log it."""
    for step in way:
        if isinstance(step, steps.Configure) and step.listen_port:
            deadline = trio.current_time() + PORT_GRACE_S
            while not _is_free(step.listen_port):
                if trio.current_time() > deadline:
                    raise _taken(step.listen_port)
                await trio.sleep(PORT_POLL_S)


def _taken(port: int) -> OverlayUnavailable:
    return OverlayUnavailable(
        f"WireGuard's port {port}",
        "another program has it",
        f"end that program (ss -ulpn 'sport = :{port}'), or set another `tunnel_port`",
    )


def _is_free(port: int) -> bool:
    """Whether a UDP port can be bound in both families, or in those that there are."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(("", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):  # no IPv6 here
                raise
    return True
