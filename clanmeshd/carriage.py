"""Datagrams on streams, for devices that no UDP reaches: asked for by these, served to members.

The core seals, opens and judges them as those of the UDP port; here they only come another way. What comes by
a member's stream is dropped unless it says that it is that member's. Both sides drop what does not fit into a
bounded queue, and what comes faster than a quiet clan needs. What does the work is imported with the first stream.
"""

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import DATAGRAM_BYTES_MAX
from clanmesh_protocol.messages import sender_untrusted
from clanmesh_protocol.streams import Purpose, Refuse
from clanmeshd.core.buckets import TokenBucket
from clanmeshd.core.effects import Holder
from clanmeshd.core.paths import carried_endpoint
from clanmeshd.driver import Driver, instant
from clanmeshd.net import stream
from clanmeshd.reaching import Reach

if TYPE_CHECKING:
    from clanmeshd.relays.carrying import Carrier

SERVED_MAX: Final = 32  # members at once: a quarter of the streams that there may be
BYTES_PER_S: Final = 65_536.0  # of one stream, from its other end: ten times what a busy clan of 50 sends to one
BURST_BYTES: Final = 524_288.0  # a first comparison with a clan of 400, and what both lack
QUEUE_BYTES_MAX: Final = 65_536  # that wait to be sent: what is older, gossip says again
SILENT_S: Final = 45.0  # without a byte from the other end: it says that it is there each 20 s
UNACKED_S: Final = 8.0  # that the other end's system confirms nothing: such a stream is dead

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Carriage:
    """One clan's. Everything runs on the trio thread. `dropped` counts what came and was refused."""

    driver: Driver
    reach: Reach
    dropped: int = 0
    _asked: "dict[Endpoint, Carrier]" = field(default_factory=dict)  # by whom the stream leads to
    _served: "dict[Endpoint, Carrier]" = field(default_factory=dict)
    _scopes: dict[NodeId, trio.CancelScope] = field(default_factory=dict)  # of streams that are asked for

    async def run(self) -> None:
        """Keep the streams that the core wants, until cancelled."""
        self.driver.carry = self._carry
        async with trio.open_nursery() as nursery:
            while True:
                wanted = await self.driver.slots.carriers.changed()
                holders = {holder.node: holder for holder in wanted.carriers}
                for node in self._scopes.keys() - holders.keys():
                    self._scopes.pop(node).cancel()
                for node in holders.keys() - self._scopes.keys():
                    scope = self._scopes[node] = trio.CancelScope()
                    nursery.start_soon(self._ask, holders[node], scope)

    def _carry(self, data: bytes, destination: Endpoint) -> None:
        carrier = self._asked.get(destination) or self._served.get(destination)
        if carrier is not None:
            carrier.offer(data)

    async def _ask(self, holder: Holder, scope: trio.CancelScope) -> None:
        with scope:
            try:
                async with self.reach.connect(holder, Purpose.DATAGRAMS) as channel:
                    if not self._asked:
                        log.info("no datagrams come to this device: streams carry them")
                    await self._exchange(channel, self._asked)
            except* (OSError, ProtocolError) as failed:
                log.debug("no stream carries datagrams: %s", failed.exceptions[0])
        if self._scopes.get(holder.node) is scope:
            del self._scopes[holder.node]
            self.driver.mesh.carried(holder.node, instant(), is_carried=self._has(holder.node))
            await self.driver.settle()

    async def serve(self, channel: stream.Stream) -> None:
        """Carry for a member, as long as it wants. A later stream of its takes the place of this one."""
        if carried_endpoint(channel.peer) not in self._served and len(self._served) >= SERVED_MAX:
            await channel.send(Refuse("busy", "this device carries for as many as it can"))
            return
        await self._exchange(channel, self._served)

    async def _exchange(self, channel: stream.Stream, lines: "dict[Endpoint, Carrier]") -> None:
        from clanmeshd.relays.carrying import Carrier

        at, carrier = carried_endpoint(channel.peer), Carrier(channel.link, QUEUE_BYTES_MAX)
        if (former := lines.get(at)) is not None:
            former.end()
        lines[at] = carrier
        allowance = TokenBucket(BYTES_PER_S, BURST_BYTES, trio.current_time())

        def take(data: bytes) -> None:
            is_fit = len(data) <= DATAGRAM_BYTES_MAX and sender_untrusted(data) == channel.peer[:8]
            if is_fit and allowance.take(trio.current_time(), len(data)):
                self.driver.take([(data, at)])
            else:
                self.dropped += 1

        try:
            channel.link.bound_silence(SILENT_S, UNACKED_S)
            self.driver.mesh.carried(channel.peer, instant(), is_carried=True)
            await self.driver.settle()
            await carrier.run(take)
        finally:
            if lines.get(at) is carrier:
                del lines[at]
                if not self._has(channel.peer):
                    self.driver.mesh.carried(channel.peer, instant(), is_carried=False)
                    self.driver.wake()

    def _has(self, node: NodeId) -> bool:
        at = carried_endpoint(node)
        return at in self._asked or at in self._served
