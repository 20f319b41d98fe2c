"""A relay's answers on streams of purpose `relay`: who gets a port, and packets of those who cannot send UDP."""

from collections.abc import Awaitable, Callable, Container, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.errors import MalformedError
from clanmesh_protocol.keys import Entropy, NodeId
from clanmesh_protocol.stream_relay import Relayed, Release, WantRelay
from clanmesh_protocol.streams import End, Refuse
from clanmeshd.net import stream
from clanmeshd.overlay.relay import LIFETIME_S, KeysOf, NotRelayed, Relay
from clanmeshd.overlay.relay_pair import Pair
from clanmeshd.overlay.relay_ports import RelayPorts
from clanmeshd.relays.carrying import Carrier

FOLLOW_S: Final = 5.0  # how late another tunnel key of a member is heard of (the next one is known for long)


def _no_router(ports: Sequence[int]) -> None:
    """Nobody keeps packets from coming in."""


async def _at_once(port: int) -> None:
    await trio.lowlevel.checkpoint()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a relay asks of the clan around it, each time anew."""

    own: NodeId
    is_willing: Callable[[], bool]
    members: Callable[[], Container[NodeId]]  # those that are current
    keys_of: KeysOf
    endpoints: Callable[[int], Sequence[Endpoint]]  # where a UDP port of this device may be reached, best first
    let_in: Callable[[Sequence[int]], None] = _no_router  # have the router let packets in to these UDP ports
    settled: Callable[[int], Awaitable[None]] = _at_once  # wait a little until it is known where one of them leads


class RelayService:
    """This device as a relay. Streams are served as soon as `run` has begun."""

    def __init__(self, around: Surroundings, first_port: int, entropy: Entropy) -> None:
        self.relay = Relay(around.own, entropy, trio.current_time())
        self.ports = RelayPorts(self.relay, first_port)
        self._around = around

    async def run(self) -> None:
        """Relay until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.ports.run)
            while True:
                await trio.sleep(FOLLOW_S)
                self.refresh()

    def refresh(self) -> None:
        """Somebody was removed or has another key, a pair's time is over, or this device relays no more."""
        members = self._around.members() if self._around.is_willing() else ()
        self.relay.retain(members, self._around.keys_of)
        self.relay.expire(trio.current_time())
        self._sweep()

    def _sweep(self) -> None:
        self.ports.sweep()
        self._around.let_in(self.ports.numbers)

    async def serve(self, channel: stream.Stream) -> None:
        """Answer a member's requests until it ends the stream."""
        while True:
            try:
                frame = await channel.receive()
            except stream.StreamBroken:
                return  # which is how a client ends one
            match frame:
                case WantRelay():
                    if not await self._answer(channel, frame):
                        return
                case Release():
                    self.relay.release(channel.peer, frame.peer, trio.current_time())
                    self._sweep()
                    await channel.send(End())
                case _:
                    raise MalformedError(f"no request for a relay: {type(frame).__name__}")

    async def _answer(self, channel: stream.Stream, want: WantRelay) -> bool:
        """Answer one request. False: the stream has been used up."""
        try:
            pair, token = self._grant(channel.peer, want.peer)
        except NotRelayed as refused:
            await channel.send(Refuse(refused.code, str(refused)))
            return False
        self._around.let_in(self.ports.numbers)
        await self._around.settled(pair.port)
        answer = Relayed(tuple(self._around.endpoints(pair.port)), int(LIFETIME_S), token)
        await channel.send(answer)
        if want.carried:
            await self._carry(channel, pair)
        return not want.carried

    def _grant(self, asker: NodeId, peer: NodeId) -> tuple[Pair, bytes]:
        if not self._around.is_willing():
            raise NotRelayed("unwilling", "this device does not relay")
        if peer not in self._around.members():
            raise NotRelayed("not-a-member", "the other one is no member of the clan")
        pair, token = self.relay.grant(asker, peer, self._around.keys_of, trio.current_time())
        try:
            self.ports.open(pair)
        except OSError as error:
            self.relay.abandon(pair)
            raise NotRelayed("full", f"this relay has no port left: {error.strerror}") from error
        return pair, token

    async def _carry(self, channel: stream.Stream, pair: Pair) -> None:
        carrier, side = Carrier(channel.link), pair.side(channel.peer)
        side.until_s = inf
        self.ports.send(pair, pair.attach(channel.peer, carrier, trio.current_time()))
        try:
            await carrier.run(lambda packet: self.ports.inject(pair, packet, carrier, trio.current_time()))
        finally:
            if side.address is carrier:
                pair.detach(carrier)
                side.until_s = trio.current_time()
                self.relay.expire(trio.current_time())
                self._sweep()
            elif not isinstance(side.address, Carrier):  # by UDP again: to be asked for, as others are
                side.until_s = min(side.until_s, trio.current_time() + LIFETIME_S)
