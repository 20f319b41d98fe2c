"""This device as a relay of its clan: whether it is one, and what it knows of the pairs. Idle until asked."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from clanmesh_protocol.endpoints import Endpoint, is_public
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import ENDPOINTS_MAX
from clanmesh_protocol.streams import Refuse
from clanmeshd.config import Config
from clanmeshd.driver import Driver, instant
from clanmeshd.net import stream
from clanmeshd.net.addresses import local_endpoints

if TYPE_CHECKING:
    from clanmeshd.net.mapping.client import PortMapping
    from clanmeshd.relays.serving import RelayService

TAG = "relay"
MAPPED_MAX: Final = 16  # of the relay's ports: home routers have room for 32 and more, and for others, too


def is_willing(setting: bool | str, tags: Sequence[str], *, is_public: bool) -> bool:
    """Whether a device relays: as its own configuration says; else with the tag, or if others can reach it.

    Whoever switches it off on a device is not overruled by a tag.
    """
    if isinstance(setting, bool):
        return setting
    return TAG in tags or is_public


def is_on_the_internet(own: Iterable[Endpoint]) -> bool:
    """Whether the addresses of a device's interfaces say that others reach it.

    IPv4's alone: with IPv6 each device at home has one of the internet, and a router in front that lets nobody in.
    """
    return any(len(each.ip) == 4 and is_public(each.ip) for each in own)


@dataclass(slots=True)
class OwnRelay:
    """Serves streams of purpose `relay`. What does the work is imported with the first that is welcome."""

    config: Config
    driver: Driver
    own: NodeId
    inside: bytes  # the clan's prefix
    mapping: "PortMapping | None" = None
    _service: "RelayService | None" = None
    _nursery: trio.Nursery | None = None
    _let_in: tuple[int, ...] = ()  # ports that the router is to let packets in to

    async def run(self) -> None:
        """Relay for others, once they ask, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            await trio.sleep_forever()

    async def serve(self, channel: stream.Stream) -> None:
        """Answer a member."""
        if self._nursery is None or not self.is_willing():
            await channel.receive()
            await channel.send(Refuse("unwilling", "this device does not relay"))
            return
        if self._service is None:
            self._service = self._start(self._nursery)
        await self._service.serve(channel)

    def refresh(self) -> None:
        """Members have come or gone."""
        if self._service is not None:
            self._service.refresh()

    def is_willing(self) -> bool:
        """Whether this device relays by now."""
        member = self.driver.mesh.authority.members.get(self.own)
        tags = member.tags if member is not None else ()
        return is_willing(self.config.relay, tags, is_public=is_on_the_internet(self._local(self.config.port)))

    def _start(self, nursery: trio.Nursery) -> "RelayService":
        from clanmeshd.relays.serving import RelayService, Surroundings

        around = Surroundings(
            self.own,
            self.is_willing,
            self._members,
            self._keys_of,
            self._endpoints,
            self._let_packets_in,
            self._settled,
        )
        service = RelayService(around, self.config.tunnel_port + 1, os.urandom)
        nursery.start_soon(service.run)
        return service

    def _members(self) -> frozenset[NodeId]:
        now_unix_s = instant().unix_s
        members = self.driver.mesh.authority.members
        return frozenset(node for node, member in members.items() if member.is_current(now_unix_s))

    def _keys_of(self, node: NodeId) -> Sequence[bytes]:
        wanted = self.driver.slots.tunnels.newest
        for tunnel in wanted.tunnels if wanted is not None else ():
            if tunnel.node == node:
                return (tunnel.public_key,) if tunnel.following is None else (tunnel.public_key, tunnel.following)
        return ()

    def _endpoints(self, port: int) -> Sequence[Endpoint]:
        listed = (Endpoint(each.ip, port) for each in self.config.endpoints)
        outside = self.mapping.external(port) if self.mapping is not None else ()
        return tuple(dict.fromkeys((*listed, *outside, *self._local(port))))[:ENDPOINTS_MAX]

    def _let_packets_in(self, ports: Sequence[int]) -> None:
        """Have the router map these, as far as there is room for more: what was mapped stays."""
        former = [port for port in self._let_in if port in ports]
        self._let_in = (*former, *(port for port in ports if port not in former))[:MAPPED_MAX]
        if self.mapping is not None:
            self.mapping.want(self._let_in)

    async def _settled(self, port: int) -> None:
        if self.mapping is not None and port in self._let_in:
            await self.mapping.settled(port)

    def _local(self, port: int) -> Sequence[Endpoint]:
        return local_endpoints(port, self.inside)
