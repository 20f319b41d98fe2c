"""Relays between members on real sockets and streams, with packets that look like WireGuard's."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest
import trio
import trio.testing

from clanmesh_protocol.binds import BIND_MAGIC, make_bind, read_bound_untrusted
from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmesh_protocol.errors import LimitError
from clanmesh_protocol.keys import ClanId, NodeId, signing_public
from clanmesh_protocol.limits import RELAY_DATAGRAM_BYTES_MAX
from clanmesh_protocol.stream_relay import Relayed, Release, WantRelay
from clanmesh_protocol.streams import End, Purpose, WantRecords
from clanmeshd.core.effects import Holder
from clanmeshd.net.link import IDLE_S_MAX, Link
from clanmeshd.net.stream import Stream, StreamBroken, StreamRefused, Ties, connect, open_listeners, serve
from clanmeshd.overlay.relay import LIFETIME_S
from clanmeshd.reaching import Reach
from clanmeshd.relays.asking import Asker
from clanmeshd.relays.carrying import ALIVE_S, QUEUE_BYTES_MAX, STALL_S, Carrier, Chunks
from clanmeshd.relays.serving import RelayService, Surroundings
from tests.clock import Stopwatch
from tests.core.test_relay_pair import KEYS as PAIR_KEYS
from tests.core.test_relay_pair import cookie, data, handshake

CLAN = ClanId(b"c" * 16)
INSIDE = bytes.fromhex("fd0102030405")
SEEDS = {name: name.encode() * 32 for name in "rabx"}
RELAY, ALICE, BOB, STRANGER = (NodeId(signing_public(seed)) for seed in SEEDS.values())
KEYS = dict(zip((ALICE, BOB), PAIR_KEYS.values(), strict=True))
FIRST_PORT = 29_100  # below those that the system gives to anybody
OUTSIDE = endpoint("203.0.113.9", 40_000)  # where the router maps the first port
BOUND_S = 20.0


def entropy(count: int) -> bytes:
    """The same token for all."""
    return b"t" * count


@dataclass
class House:
    """A relay on loopback, and what may change around it."""

    at: Endpoint
    service: RelayService = field(init=False)
    is_willing: bool = True
    has_router: bool = False
    is_mapped: bool = False  # by that, which takes a moment
    let_in: list[tuple[int, ...]] = field(default_factory=list)
    members: set[NodeId] = field(default_factory=lambda: {ALICE, BOB, RELAY})
    ties: Ties = field(default_factory=Ties)

    @property
    def holder(self) -> Holder:
        """The relay, as members know it."""
        return Holder(RELAY, (self.at,), frozenset())

    async def settle(self, port: int) -> None:
        """The router maps a port that is to be let in."""
        assert port in self.let_in[-1]
        await trio.sleep(0.01)
        self.is_mapped = self.has_router

    async def visit(self, seed: str = "a") -> Stream:
        """Open a stream to it as a member."""
        return await connect([self.at], server=RELAY, seed=SEEDS[seed], clan=CLAN, purpose=Purpose.RELAY)

    def reach(self, seed: str = "a") -> Reach:
        """How a member reaches it."""
        return Reach(SEEDS[seed], CLAN, Ties())


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    """Relay while the block runs; the block is bounded."""
    listeners = await open_listeners(0, "127.0.0.1")
    made = House(endpoint("127.0.0.1", listeners[0].socket.getsockname()[1]))
    around = Surroundings(
        RELAY,
        lambda: made.is_willing,
        lambda: made.members,
        lambda node: [KEYS[node]] if node in KEYS else [],
        lambda port: [endpoint("127.0.0.1", port), *([OUTSIDE] if made.is_mapped else [])],
        lambda ports: made.let_in.append(tuple(ports)),
        made.settle,
    )
    made.service = RelayService(around, FIRST_PORT, entropy)

    async def run() -> None:
        await serve(
            listeners,
            seed=SEEDS["r"],
            clan=lambda: CLAN,
            may=lambda node, purpose: node in (ALICE, BOB),
            handle=made.service.serve,
            ties=made.ties,
        )

    with trio.fail_after(BOUND_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.service.run)
            nursery.start_soon(run)
            yield made
            nursery.cancel_scope.cancel()


class Socket:
    """WireGuard's socket of a member, played by the test."""

    def __init__(self, port: int = 0) -> None:
        self._socket = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._port = port

    async def open(self) -> "Socket":
        """Bind it."""
        await self._socket.bind(("127.0.0.1", self._port))
        return self

    @property
    def port(self) -> int:
        """Where it is."""
        return int(self._socket.getsockname()[1])

    async def send(self, packet: bytes, to: Endpoint) -> None:
        """Send a packet."""
        await self._socket.sendto(packet, (to.host, to.port))

    async def receive(self) -> bytes:
        """Wait for a packet."""
        return await self._socket.recv(4096)

    async def hears_nothing(self) -> bool:
        """Whether nothing has come, after what was sent before has had time to."""
        with trio.move_on_after(0.1) as scope:
            await self._socket.recv(4096)
        return scope.cancelled_caught

    def close(self) -> None:
        """Close it."""
        self._socket.close()


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds; the test's own bound ends the wait."""
    while not holds():
        await trio.sleep(0.005)


async def ask(stream: Stream, peer: NodeId = BOB, *, carried: bool = False) -> Relayed:
    """Ask for a pair with a peer; `carried`: its packets shall pass on this stream."""
    await stream.send(WantRelay(peer, carried))
    answer = await stream.receive()
    assert isinstance(answer, Relayed)
    return answer


# --- asking --------------------------------------------------------------------------------------------


async def test_two_get_one_port_and_packets_pass() -> None:
    async with house() as made:
        ports = []
        for seed, peer in (("a", BOB), ("b", ALICE)):
            async with await made.visit(seed) as stream:
                answer = await ask(stream, peer)
                assert answer.lifetime_s == LIFETIME_S
                ports += answer.endpoints
        assert len(set(ports)) == 1
        alice, bob = await Socket().open(), await Socket().open()
        await bob.send(handshake(1, NodeId(b"b" * 32), 1), ports[0])
        await until(lambda: made.service.relay.pairs[frozenset((ALICE, BOB))].side(BOB).address is not None)
        await alice.send(handshake(1, NodeId(b"a" * 32), 2), ports[0])
        assert await bob.receive() == handshake(1, NodeId(b"a" * 32), 2)
        await bob.send(handshake(2, NodeId(b"b" * 32), 3, answers=2), ports[0])
        assert await alice.receive() == handshake(2, NodeId(b"b" * 32), 3, answers=2)
        await alice.send(data(3, 1452), ports[0])
        assert await bob.receive() == data(3, 1452)
        for each in (alice, bob):
            each.close()


async def test_junk_wakes_nobody_and_is_not_answered() -> None:
    async with house() as made:
        async with await made.visit() as stream:
            answer = await ask(stream)
        pair = made.service.relay.pairs[frozenset((ALICE, BOB))]
        stranger = await Socket().open()
        for junk in (
            b"",
            b"x",
            bytes(32),
            bytes(148),
            data(1, 31),
            b"\1\0\0\0" + bytes(143),
            BIND_MAGIC + bytes(43),
        ):
            await stranger.send(junk, answer.endpoints[0])
        assert await stranger.hears_nothing()
        assert not pair.dropped  # the kernel has dropped them
        for shaped in (data(1), cookie(1), handshake(1, ALICE, 1, key=bytes(32)), make_bind(bytes(32), 1)):
            await stranger.send(shaped, answer.endpoints[0])
        await until(lambda: pair.dropped == {"stranger": 2, "mac1": 1, "bind": 1})
        assert await stranger.hears_nothing()
        stranger.close()


async def test_a_bind_is_answered() -> None:
    async with house() as made:
        async with await made.visit() as stream:
            answer = await ask(stream)
        alice = await Socket().open()
        await alice.send(make_bind(answer.token, 1), answer.endpoints[0])
        bound = read_bound_untrusted(answer.token, await alice.receive())
        assert bound == (1, endpoint("127.0.0.1", alice.port), False)
        alice.close()


@pytest.mark.parametrize(
    ("peer", "code"), [(STRANGER, "not-a-member"), (RELAY, "no-pair"), (ALICE, "no-pair")], ids=["x", "r", "a"]
)
async def test_whom_it_does_not_relay_for(peer: NodeId, code: str) -> None:
    async with house() as made:
        async with await made.visit() as stream:
            await stream.send(WantRelay(peer, False))
            with pytest.raises(StreamRefused) as refused:
                await stream.receive()
        assert refused.value.refusal == code
        assert not made.service.relay.pairs


async def test_one_that_is_not_willing_refuses_and_ends_what_there_is() -> None:
    async with house() as made:
        async with await made.visit() as stream:
            await ask(stream)
            made.is_willing = False
            await stream.send(WantRelay(BOB, False))
            with pytest.raises(StreamRefused, match="unwilling"):
                await stream.receive()
        made.service.refresh()
        assert not made.service.relay.pairs


async def test_a_pair_is_given_back() -> None:
    async with house() as made, await made.visit() as stream:
        await ask(stream)
        await stream.send(Release(BOB))
        assert await stream.receive() == End()
        assert not made.service.relay.pairs
        await stream.send(WantRecords((bytes(8),)))
        with pytest.raises(StreamBroken):
            await stream.receive()


async def test_ports_that_others_have_are_passed_over() -> None:
    async with house() as made:
        taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        taken.bind(("127.0.0.1", FIRST_PORT))
        async with await made.visit() as stream:
            answer = await ask(stream)
        taken.close()
        assert answer.endpoints[0].port == FIRST_PORT + 1


async def test_the_router_is_to_let_in_to_ports_in_use_and_its_word_is_waited_for() -> None:
    async with house() as made, await made.visit() as stream:
        made.has_router = True
        answer = await ask(stream)
        assert answer.endpoints == (endpoint("127.0.0.1", FIRST_PORT), OUTSIDE)
        assert made.let_in[-1] == (FIRST_PORT,)
        await stream.send(Release(BOB))
        assert await stream.receive() == End()
        assert made.let_in[-1] == ()
        await ask(stream)
        assert made.let_in[-1] == (FIRST_PORT,)
        made.is_willing = False
        made.service.refresh()
        assert made.let_in[-1] == ()


# --- carried on a stream -------------------------------------------------------------------------------


def test_chunks_in_any_pieces() -> None:
    packets = [data(1), data(2, 32), data(3, 2048)]
    whole = b"".join(len(each).to_bytes(4, "big") + each for each in [packets[0], b"\0", *packets[1:]])
    for size in (1, 3, 100, len(whole)):
        chunks = Chunks()
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
        assert [packet for piece in pieces for packet in chunks.packets_untrusted(piece)] == packets
    assert list(chunks.packets_untrusted(bytes(4) + whole)) == []
    assert chunks.is_over


def test_a_chunk_of_more_than_a_packet_is_refused() -> None:
    with pytest.raises(LimitError):
        list(Chunks().packets_untrusted((RELAY_DATAGRAM_BYTES_MAX + 1).to_bytes(4, "big")))


class Heard:
    """What an asker tells."""

    def __init__(self) -> None:
        self.ready_at: list[tuple[Endpoint, tuple[Endpoint, ...]]] = []
        self.codes: list[str] = []

    def ready(self, node: NodeId, via: NodeId, endpoint: Endpoint, shared: tuple[Endpoint, ...]) -> None:
        """It relays."""
        assert via == RELAY
        self.ready_at.append((endpoint, shared))

    def failed(self, node: NodeId, via: NodeId, code: str, why: str) -> None:
        """It does not."""
        assert why
        self.codes.append(code)


@asynccontextmanager
async def asker(made: House, seed: str, tunnel_port: int = 1) -> AsyncIterator[tuple[Asker, Heard]]:
    """A member that asks, while the block runs."""
    heard = Heard()
    asking = Asker(made.reach(seed), heard, tunnel_port, INSIDE)
    async with trio.open_nursery() as nursery:
        await nursery.start(asking.run)
        yield asking, heard
        nursery.cancel_scope.cancel()


async def test_loopback_is_no_relay_of_others() -> None:
    """An address that means this machine is nobody's: a relay that says so has said nothing."""
    async with house() as made, asker(made, "a") as (asking, heard):
        asking.ask(BOB, made.holder, carried=False)
        await until(lambda: bool(heard.codes))
        assert heard.codes == ["broken"]
        assert not heard.ready_at


async def test_who_sends_no_udp_is_carried() -> None:
    async with house() as made:
        wireguard, bob = await Socket().open(), await Socket().open()
        async with asker(made, "a", wireguard.port) as (asking, heard):
            asking.ask(BOB, made.holder, carried=True)
            await until(lambda: bool(heard.ready_at))
            local = heard.ready_at[0][0]
            port = next(iter(made.service.relay.pairs.values())).port
            await bob.send(handshake(1, NodeId(b"b" * 32), 1), endpoint("127.0.0.1", port))
            assert await wireguard.receive() == handshake(1, NodeId(b"b" * 32), 1)
            await wireguard.send(handshake(2, NodeId(b"a" * 32), 2, answers=1), local)
            assert await bob.receive() == handshake(2, NodeId(b"a" * 32), 2, answers=1)
            for _ in range(200):
                await bob.send(data(2, 1452), endpoint("127.0.0.1", port))
                assert await wireguard.receive() == data(2, 1452)
            other = await Socket().open()
            await other.send(data(1), local)  # another program of this machine
            assert await bob.hears_nothing()
            asking.drop(BOB, made.holder)
            await until(lambda: not made.service.relay.pairs)
            assert heard.codes == []
        for each in (wireguard, bob, other):
            each.close()


async def test_both_are_carried() -> None:
    async with house() as made:
        ends = [await Socket().open(), await Socket().open()]
        async with asker(made, "a", ends[0].port) as one, asker(made, "b", ends[1].port) as other:
            one[0].ask(BOB, made.holder, carried=True)
            await until(lambda: bool(one[1].ready_at))
            first = handshake(1, NodeId(b"a" * 32), 1)
            await ends[0].send(first, one[1].ready_at[0][0])  # before the other one is there
            await until(lambda: next(iter(made.service.relay.pairs.values())).side(BOB).held == first)
            other[0].ask(ALICE, made.holder, carried=True)
            assert await ends[1].receive() == first
            await until(lambda: bool(other[1].ready_at))
            await ends[1].send(data(1), other[1].ready_at[0][0])
            assert await ends[0].receive() == data(1)
        for each in ends:
            each.close()


async def test_who_is_removed_is_cut_off_and_so_is_its_pair() -> None:
    async with house() as made, asker(made, "a") as (asking, heard):
        asking.ask(BOB, made.holder, carried=True)
        await until(lambda: bool(heard.ready_at))
        made.members.remove(BOB)
        made.service.refresh()
        await until(lambda: heard.codes == ["broken"])
        assert not made.service.relay.pairs


async def test_who_leaves_the_stream_has_to_ask_again_in_time() -> None:
    async with house() as made:
        stream, outside = await made.visit(), await Socket().open()
        answer = await ask(stream, carried=True)
        pair = next(iter(made.service.relay.pairs.values()))
        await until(lambda: isinstance(pair.side(ALICE).address, Carrier))
        await outside.send(make_bind(answer.token, 1), endpoint("127.0.0.1", pair.port))
        await outside.receive()
        assert not isinstance(pair.side(ALICE).address, Carrier)
        await stream.aclose()
        await until(lambda: pair.side(ALICE).until_s <= trio.current_time() + LIFETIME_S)
        outside.close()


async def test_a_stream_that_is_not_read_is_left_and_holds_little() -> None:
    async with house() as made:
        stream = await made.visit()
        await ask(stream, carried=True)
        pair = next(iter(made.service.relay.pairs.values()))
        await until(lambda: pair.side(ALICE).address is not None)
        carrier = pair.side(ALICE).address
        assert isinstance(carrier, Carrier)
        with Stopwatch() as watch:
            while made.service.relay.pairs:
                for _ in range(100):
                    carrier.offer(bytes(2000))
                assert carrier._queued_bytes <= QUEUE_BYTES_MAX
                await trio.sleep(0.01)
        assert carrier.dropped > 100
        assert watch.passed_s < STALL_S + 2
        await stream.aclose()


async def test_who_has_nothing_to_send_says_that_it_is_there(autojump_clock: trio.testing.MockClock) -> None:
    sent: list[tuple[float, bytes]] = []

    async def send(data: bytes) -> None:
        sent.append((trio.current_time() - began_s, data))

    async def receive(bytes_max: int) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    link = SimpleNamespace(send_bytes=send, receive_some=receive, bound_unsent=lambda bytes_max: None)
    began_s = trio.current_time()
    with trio.move_on_after(3.5 * ALIVE_S):
        await Carrier(cast(Link, link)).run(lambda packet: None)
    assert [at_s for at_s, _ in sent] == pytest.approx([ALIVE_S, 2 * ALIVE_S, 3 * ALIVE_S])
    assert {data for _, data in sent} == {b"\0\0\0\1\0"}


def test_silence_is_shorter_than_patience() -> None:
    assert 2 * ALIVE_S < IDLE_S_MAX
