"""Datagrams on streams, on real sockets: what is carried, for whom, and how much of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest
import trio
import trio.testing

from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmesh_protocol.keys import ClanId, NodeId, signing_public
from clanmesh_protocol.limits import DATAGRAM_BYTES_MAX
from clanmesh_protocol.streams import Purpose
from clanmeshd.carriage import BURST_BYTES, BYTES_PER_S, SERVED_MAX, Carriage
from clanmeshd.core.effects import Holder, Instant, SetCarriers
from clanmeshd.core.paths import carried_endpoint
from clanmeshd.driver import Driver, Slots
from clanmeshd.net.stream import Stream, StreamRefused, Ties, connect, open_listeners, serve
from clanmeshd.reaching import Reach
from clanmeshd.relays.carrying import Carrier

CLAN = ClanId(b"c" * 16)
SERVER, BLOCKED, THIRD = (bytes([number]) * 32 for number in (1, 2, 3))  # seeds
BOUND_S = 20.0


def node(seed: bytes) -> NodeId:
    """Whose seed it is."""
    return NodeId(signing_public(seed))


def datagram(seed: bytes, text: bytes = b"", size: int = 64) -> bytes:
    """What says that it is of somebody."""
    return (b"\xc7\x01\x01\x00\x00" + node(seed)[:8] + text).ljust(size, b".")


@dataclass
class Side:
    """One device: what its core hears."""

    seed: bytes
    heard: list[tuple[bytes, Endpoint]] = field(default_factory=list)
    carried: list[tuple[NodeId, bool]] = field(default_factory=list)
    slots: Slots = field(default_factory=Slots)
    carriage: Carriage = field(init=False)

    def __post_init__(self) -> None:
        self.driver = SimpleNamespace(
            mesh=SimpleNamespace(carried=self._note), slots=self.slots, take=self._take, settle=self._settle
        )
        self.driver.wake = lambda: None
        self.carriage = Carriage(cast(Driver, self.driver), Reach(self.seed, CLAN, Ties()))

    def _note(self, other: NodeId, now: Instant, *, is_carried: bool) -> None:
        assert now.monotonic_s <= trio.current_time()
        self.carried.append((other, is_carried))

    def _take(self, batch: list[tuple[bytes, Endpoint]]) -> None:
        self.heard += batch

    async def _settle(self) -> None:
        await trio.lowlevel.checkpoint()

    def send(self, data: bytes, to: bytes) -> None:
        """Have a datagram carried."""
        self.driver.carry(data, carried_endpoint(node(to)))


@asynccontextmanager
async def two_sides() -> AsyncIterator[tuple[Side, Side, Endpoint]]:
    """One that serves at an endpoint, and one that may ask; within a bound."""
    server, blocked = Side(SERVER), Side(BLOCKED)
    listeners = await open_listeners(0, "127.0.0.1")
    at = endpoint("127.0.0.1", listeners[0].socket.getsockname()[1])

    async def handle(channel: Stream) -> None:
        await server.carriage.serve(channel)

    async def run() -> None:
        await serve(listeners, seed=SERVER, clan=lambda: CLAN, may=lambda who, purpose: True, handle=handle)

    with trio.fail_after(BOUND_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            nursery.start_soon(server.carriage.run)
            nursery.start_soon(blocked.carriage.run)
            yield server, blocked, at
            nursery.cancel_scope.cancel()


def ask(side: Side, at: Endpoint | None) -> None:
    """Want a stream to the server, or none any more."""
    holders = (Holder(node(SERVER), (at,), frozenset()),) if at is not None else ()
    side.slots.carriers.put(SetCarriers(holders))


async def until(side: Side, count: int) -> None:
    """Wait for so many datagrams."""
    while len(side.heard) < count:
        await trio.sleep(0.01)


async def until_carried(side: Side, word: tuple[NodeId, bool]) -> None:
    """Wait for what the core shall be told last."""
    while not side.carried or side.carried[-1] != word:
        await trio.sleep(0.01)


async def test_datagrams_go_both_ways_and_the_core_knows_from_whom() -> None:
    async with two_sides() as (server, blocked, at):
        ask(blocked, at)
        await until_carried(server, (node(BLOCKED), True))
        await until_carried(blocked, (node(SERVER), True))
        blocked.send(datagram(BLOCKED, b"to"), SERVER)
        blocked.send(datagram(BLOCKED, b"long", DATAGRAM_BYTES_MAX), SERVER)
        await until(server, 2)
        server.send(datagram(SERVER, b"back"), BLOCKED)
        await until(blocked, 1)
        assert [source for _, source in server.heard] == [carried_endpoint(node(BLOCKED))] * 2
        assert blocked.heard == [(datagram(SERVER, b"back"), carried_endpoint(node(SERVER)))]
        ask(blocked, None)
        await until_carried(server, (node(BLOCKED), False))
        server.send(datagram(SERVER), BLOCKED)  # which nobody takes, and nobody waits for


async def test_one_that_ends_before_its_beginning_is_stored_is_carried_no_more() -> None:
    """Else the core would count on it for ever."""
    async with two_sides() as (_, blocked, at):
        blocked.driver.settle = trio.sleep_forever
        ask(blocked, at)
        await until_carried(blocked, (node(SERVER), True))
        ask(blocked, None)
        await until_carried(blocked, (node(SERVER), False))


async def test_what_says_that_it_is_anothers_is_dropped() -> None:
    async with two_sides() as (server, blocked, at):
        ask(blocked, at)
        await until_carried(blocked, (node(SERVER), True))
        for data in (datagram(THIRD), datagram(BLOCKED, b"", DATAGRAM_BYTES_MAX + 1), datagram(BLOCKED, b"own")):
            blocked.send(data, SERVER)
        await until(server, 1)
        assert [data for data, _ in server.heard] == [datagram(BLOCKED, b"own")]
        assert server.carriage.dropped == 2


async def test_one_stream_brings_no_more_than_its_share() -> None:
    async with two_sides() as (server, blocked, at):
        ask(blocked, at)
        await until_carried(blocked, (node(SERVER), True))
        size, began_s = DATAGRAM_BYTES_MAX, trio.current_time()
        while server.carriage.dropped < 50:
            blocked.send(datagram(BLOCKED, b"", size), SERVER)
            await trio.sleep(0.0005)
        passed_s = trio.current_time() - began_s
        assert BURST_BYTES - size < len(server.heard) * size <= BURST_BYTES + BYTES_PER_S * passed_s


async def test_a_later_stream_takes_the_place_of_an_earlier_one() -> None:
    async with two_sides() as (server, blocked, at):
        ask(blocked, at)
        await until_carried(server, (node(BLOCKED), True))
        second = await connect([at], server=node(SERVER), seed=BLOCKED, clan=CLAN, purpose=Purpose.DATAGRAMS)
        async with second:
            heard: list[bytes] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(Carrier(second.link).run, heard.append)
                await until_carried(blocked, (node(SERVER), False))
                assert server.carried == [(node(BLOCKED), True)] * 2
                server.send(datagram(SERVER, b"new"), BLOCKED)
                while not heard:
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()


async def test_a_server_carries_for_so_many_and_no_more() -> None:
    async with two_sides() as (server, _, at):
        seeds = [bytes([100 + number]) * 32 for number in range(SERVED_MAX)]
        open_streams = [
            await connect([at], server=node(SERVER), seed=seed, clan=CLAN, purpose=Purpose.DATAGRAMS)
            for seed in seeds
        ]
        while len(server.carried) < SERVED_MAX:
            await trio.sleep(0.01)
        late = await connect([at], server=node(SERVER), seed=THIRD, clan=CLAN, purpose=Purpose.DATAGRAMS)
        with pytest.raises(StreamRefused) as refused:
            await late.receive()
        assert refused.value.refusal == "busy"
        for each in (*open_streams, late):
            await each.aclose()


async def test_nobody_there_is_told_at_once() -> None:
    async with two_sides() as (_, blocked, at):
        ask(blocked, Endpoint(at.ip, 1))
        await until_carried(blocked, (node(SERVER), False))
        ask(blocked, None)
        ask(blocked, at)
        await until_carried(blocked, (node(SERVER), True))
