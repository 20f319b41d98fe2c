"""Streams between the devices of a simulated world that carry datagrams, for those that no UDP reaches."""

from functools import partial
from typing import TYPE_CHECKING

from clanmesh_protocol.endpoints import Endpoint
from clanmeshd.core.effects import SetCarriers
from clanmeshd.core.paths import carried_endpoint

if TYPE_CHECKING:
    from tests.sim.world import Device, World

OPENED_S = 0.05  # a connection, TLS and a hello, on a LAN
DEAD_S = 8.0  # by then a system gives up a connection that nothing comes back on


class Streams:
    """Who has a stream to whom: pairs of a client and a server, by their numbers."""

    def __init__(self, world: "World") -> None:
        self.open: set[tuple[int, int]] = set()
        self.tried: list[tuple[float, int, int]] = []  # when, by whom, to whom
        self._world = world
        self._wanted: dict[int, set[int]] = {}

    def want(self, device: "Device", effect: SetCarriers) -> None:
        """A core wants these."""
        numbers = {other.node: other.index for other in self._world.devices}
        wanted = {numbers[holder.node] for holder in effect.carriers}
        before, self._wanted[device.index] = self._wanted.get(device.index, set()), wanted
        for client, server in sorted(self.open):
            if client == device.index and server not in wanted:
                self._close(client, server)
        for server in sorted(wanted - before):
            self.tried.append((self._world.now_s, device.index, server))
            at_s = self._world.now_s + OPENED_S
            self._world.at(at_s, partial(self._answer, device.index, device.run, server))

    def send(self, device: "Device", data: bytes, destination: Endpoint) -> None:
        """Carry a datagram, if there is a stream."""
        world = self._world
        for client, server in sorted(self.open):
            other = server if client == device.index else client
            if device.index not in (client, server) or destination != carried_endpoint(world.devices[other].node):
                continue
            if {(client, server), (server, client)} & world.cut:
                world.at(world.now_s + DEAD_S, partial(self._close, client, server))
                return
            at_s = world.now_s + world.latency_s[1]
            source = carried_endpoint(device.node)
            world.at(at_s, partial(self._arrive, client, server, partial(world.deliver, other, data, source)))
            return

    def ended(self, index: int) -> None:
        """A device has lost its power."""
        self._wanted.pop(index, None)
        for client, server in sorted(self.open):
            if index in (client, server):
                self._close(client, server)

    def _arrive(self, client: int, server: int, deliver: "partial[None]") -> None:
        if (client, server) in self.open:
            deliver()

    def _answer(self, client: int, run: int, server: int) -> None:
        world = self._world
        asker, asked = world.devices[client], world.devices[server]
        if asker.run != run or asker.mesh is None or server not in self._wanted.get(client, ()):
            return
        is_shut = server in world.shut or {(client, server), (server, client)} & world.cut
        if asked.mesh is None or is_shut or not asked.mesh.authority.is_member(asker.node):
            self._wanted[client].discard(server)
            self._tell(client, server, is_carried=False)
            return
        self.open.add((client, server))
        self._tell(client, server, is_carried=True)
        self._tell(server, client, is_carried=True)

    def _close(self, client: int, server: int) -> None:
        if (client, server) in self.open:
            self.open.remove((client, server))
            self._wanted.get(client, set()).discard(server)
            self._tell(client, server, is_carried=False)
            self._tell(server, client, is_carried=False)

    def _tell(self, index: int, other: int, *, is_carried: bool) -> None:
        world = self._world
        mesh = world.devices[index].mesh
        if mesh is not None:
            still = is_carried or bool({(index, other), (other, index)} & self.open)
            mesh.carried(world.devices[other].node, world.now(index), is_carried=still)
            world.settle(index)
