"""Probing as the rest of the overlay uses it: openers and probes out, answers by itself, what was learnt told.

The shared port, what its packets prove, and how far openers go are parts of their own; this puts them together.
"""

import socket
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import NodeId
from clanmeshd.core.buckets import TokenBucket
from clanmeshd.overlay.openers import Openers, open_died_socket, read_died_untrusted
from clanmeshd.overlay.probes import Heard, Probes, Proven
from clanmeshd.overlay.rawpackets import Arrival
from clanmeshd.overlay.rawport import Listener, RawPort
from clanmeshd.sockets import Closing

DIED_PER_S: Final = 50.0  # words of routers that are read; 8 openers of a search have 24 at most
DIED_BURST: Final = 100.0
_DIED_BYTES: Final = 128  # two IPv4 headers with options, and what is between and behind

Learnt: TypeAlias = Heard | Proven


class Probing:
    """One device's probing. Close it in the end.

    `counters` counts what was refused of what came, by the codes of ProtocolErrors. `awaits` says whether
    WireGuard here would take a member's handshake: before that an answer would promise too much.
    """

    def __init__(self, probes: Probes, port: RawPort, learn: Callable[[Learnt], None]) -> None:
        self.counters: Counter[str] = Counter()
        self.awaits: Callable[[NodeId], bool] = lambda node: True
        self._probes = probes
        self._port = port
        self._learn = learn
        self._openers = Openers()

    def set_members(self, static_keys: Mapping[NodeId, bytes]) -> None:
        """Say who the other members are, with their static keys."""
        self._probes.set_members(static_keys)

    def probe(self, node: NodeId, endpoint: Endpoint) -> bool:
        """Probe a member at an endpoint; False when nothing may be sent there."""
        return self._send(node, endpoint, None)

    def open(self, node: NodeId, endpoint: Endpoint) -> bool:
        """Have the own routers expect a member from an endpoint, which notices nothing; False as above."""
        self._openers.sent(node, endpoint)
        return self._send(node, endpoint, self._openers.ttl)

    def send_on(self, packet: bytes, endpoint: Endpoint) -> None:
        """Send what WireGuard has sent elsewhere, as if it had sent it there."""
        self._port.send(packet, endpoint)

    def moved(self) -> None:
        """This device is on another network, behind other routers."""
        self._openers.moved()

    def listen(self) -> "Ears":
        """Begin to hear, answer and learn: a context, whose `run` does it. Raises OSError."""
        listener = self._port.listen()
        try:
            return Ears(listener, self._take, open_died_socket(), self._take_died)
        except OSError:
            listener.close()
            raise

    def close(self) -> None:
        """Send no more."""
        self._port.close()

    def _send(self, node: NodeId, endpoint: Endpoint, ttl: int | None) -> bool:
        data = self._probes.probe(node, endpoint, trio.current_time())
        if data is not None:
            self._port.send(data, endpoint, ttl=ttl)
        return data is not None

    def _take(self, arrival: Arrival) -> None:
        try:
            learnt = self._probes.receive_untrusted(arrival.data, arrival.source, trio.current_time())
        except ProtocolError as error:
            self.counters[error.code] += 1
            return
        if isinstance(learnt, Heard) and learnt.answer is not None and self.awaits(learnt.node):
            self._port.send(learnt.answer, arrival.source, local=arrival.local)
        self._learn(learnt)

    def _take_died(self, packet: bytes) -> None:
        died = read_died_untrusted(packet, self._port.port)
        node = self._openers.died(died) if died is not None else None
        if died is not None and node is not None:
            self.open(node, died.destination)


class Ears(Closing):
    """What is heard as long as `run` runs. Close it then."""

    def __init__(
        self,
        listener: Listener,
        take: Callable[[Arrival], None],
        died: socket.socket,
        take_died: Callable[[bytes], None],
    ) -> None:
        self._listener = listener
        self._take = take
        self._died = died
        self._take_died = take_died

    async def run(self) -> None:
        """Hear for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listener.run, self._take)
            await self._hear_died()

    async def _hear_died(self) -> None:
        allowance = TokenBucket(DIED_PER_S, DIED_BURST, trio.current_time())
        while True:
            await trio.lowlevel.wait_readable(self._died)
            try:
                packet = self._died.recv(_DIED_BYTES)
            except OSError:
                continue  # somebody else's trouble, which the kernel tells this socket as well
            if allowance.take(trio.current_time()):
                self._take_died(packet)
            else:
                await trio.sleep(1 / DIED_PER_S)

    def close(self) -> None:
        """Hear no more."""
        self._listener.close()
        self._died.close()
