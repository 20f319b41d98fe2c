"""A device that probes: WireGuard's port shared by a raw socket, and what was heard and proven there."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from hashlib import blake2b
from os import urandom
from typing import TypeAlias

import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import ClanId, NodeId, exchange_public
from clanmeshd.overlay.probes import Heard, Probes, Proven
from clanmeshd.overlay.probing import Learnt, Probing
from clanmeshd.overlay.rawport import NoRawPort, RawPort, open_raw_port

CLAN = ClanId(b"clan of probers.")

Inside: TypeAlias = Callable[[], AbstractContextManager[None]]


def node_of(name: str) -> NodeId:
    """A device's identity."""
    return NodeId(blake2b(name.encode(), digest_size=32).digest())


def static_of(name: str) -> bytes:
    """A device's private static key."""
    return blake2b(name.encode(), digest_size=32, person=b"static").digest()


class Refused(Exception):
    """There is no raw port; `reason` says why."""

    def __init__(self, reason: NoRawPort) -> None:
        super().__init__(reason.why)
        self.reason = reason


class PortElsewhere(RawPort):
    """A raw port in another network namespace, where looking for a route has to happen, too."""

    def __init__(self, opened: RawPort, inside: Inside) -> None:
        super().__init__(opened.port, opened._node, opened._senders)
        self._inside = inside

    def send(
        self, data: bytes, destination: Endpoint, *, ttl: int | None = None, local: bytes | None = None
    ) -> None:
        """Send from there."""
        with self._inside():
            super().send(data, destination, ttl=ttl, local=local)


class Prober:
    """The device of a name, which answers the others. Raises Refused without a raw port.

    `inside` is where its sockets are opened: another network namespace, for one.
    """

    def __init__(self, name: str, others: Iterable[str], port: int, inside: Inside = nullcontext) -> None:
        self._names = {node_of(other): other for other in others}
        with inside():
            opened = open_raw_port(port, node_of(name))
            if isinstance(opened, NoRawPort):
                raise Refused(opened)
            self.port = PortElsewhere(opened, inside)
            probes = Probes(node_of(name), static_of(name), CLAN, urandom)
            self.probing = Probing(probes, self.port, self._learn)
            self._ears = self.probing.listen()
        self.probing.set_members(
            {node_of(each): exchange_public(static_of(each)) for each in self._names.values()}
        )
        self.heard: list[tuple[str, Heard]] = []
        self.proven: list[tuple[str, Proven]] = []
        self._learnt = trio.Event()

    async def run(self) -> None:
        """Answer and remember, for ever."""
        with self.port, self._ears:
            await self._ears.run()

    def probe(self, name: str, target: Endpoint) -> bool:
        """Probe another device at an endpoint."""
        return self.probing.probe(node_of(name), target)

    def open(self, name: str, target: Endpoint) -> bool:
        """Open the way from there."""
        return self.probing.open(node_of(name), target)

    async def learns(self) -> None:
        """Wait until something was heard or proven that was not before."""
        await self._learnt.wait()

    def _learn(self, learnt: Learnt) -> None:
        name = self._names[learnt.node]
        if isinstance(learnt, Proven):
            self.proven.append((name, learnt))
        else:
            self.heard.append((name, learnt))
        self._learnt.set()
        self._learnt = trio.Event()
