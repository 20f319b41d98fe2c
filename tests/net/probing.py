"""A device that probes: WireGuard's port shared by a raw socket, and what was heard and proven there."""

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from hashlib import blake2b
from os import urandom

import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import ClanId, NodeId, exchange_public
from clanmeshd.overlay.probes import Heard, Probes, Proven
from clanmeshd.overlay.rawpackets import Arrival
from clanmeshd.overlay.rawport import NoRawPort, RawPort, open_raw_port

CLAN = ClanId(b"clan of probers.")


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


class Prober:
    """The device of a name, which answers the others. Raises Refused without a raw port.

    `inside` is where its sockets are opened: another network namespace, for one.
    """

    def __init__(
        self,
        name: str,
        others: Iterable[str],
        port: int,
        inside: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        node = node_of(name)
        self._inside = inside
        with inside():
            opened = open_raw_port(port, node)
            if isinstance(opened, NoRawPort):
                raise Refused(opened)
            self._listener = opened.listen()
        self.port: RawPort = opened
        self._probes = Probes(node, static_of(name), CLAN, urandom)
        self._names = {node_of(other): other for other in others}
        self._probes.set_members({node_of(other): exchange_public(static_of(other)) for other in others})
        self.heard: list[tuple[str, Heard]] = []
        self.proven: list[tuple[str, Proven]] = []
        self.refused: Counter[str] = Counter()
        self._learnt = trio.Event()

    async def run(self) -> None:
        """Answer and remember, for ever."""
        with self.port, self._listener:
            await self._listener.run(self._take)

    def probe(self, name: str, target: Endpoint, ttl: int | None = None) -> bool:
        """Probe another device at an endpoint, or open the way from there by a TTL that does not reach it."""
        data = self._probes.probe(node_of(name), target, trio.current_time())
        if data is not None:
            self._send(data, target, ttl=ttl)
        return data is not None

    async def learns(self) -> None:
        """Wait until something was heard or proven that was not before."""
        await self._learnt.wait()

    def _send(self, data: bytes, target: Endpoint, *, ttl: int | None = None, local: bytes | None = None) -> None:
        with self._inside():
            self.port.send(data, target, ttl=ttl, local=local)

    def _take(self, arrival: Arrival) -> None:
        try:
            got = self._probes.receive_untrusted(arrival.data, arrival.source, trio.current_time())
        except ProtocolError as error:
            self.refused[error.code] += 1
            return
        self._learnt.set()
        self._learnt = trio.Event()
        name = self._names[got.node]
        if isinstance(got, Proven):
            self.proven.append((name, got))
            return
        self.heard.append((name, got))
        if got.answer is not None:
            self._send(got.answer, arrival.source, local=arrival.local)
