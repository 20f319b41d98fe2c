"""A server for the stream tests, and clients of every kind: real sockets, real TLS, one process."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmesh_protocol.keys import ClanId, NodeId, signing_public
from clanmesh_protocol.streams import Accept, End, Greeting, Purpose, RecordData, WantRecords, make_hello
from clanmeshd.net.link import Link
from clanmeshd.net.stream import Stream, connect, open_listeners, serve
from clanmeshd.net.tls import client_context

BOUND_S = 20.0
CLAN = ClanId(b"c" * 16)
SERVER_SEED, CLIENT_SEED, OTHER_SEED = b"s" * 32, b"k" * 32, b"o" * 32
SERVER, CLIENT, OTHER = (NodeId(signing_public(seed)) for seed in (SERVER_SEED, CLIENT_SEED, OTHER_SEED))
MEMBERS = frozenset([CLIENT, SERVER])

Handle = Callable[[Stream], Awaitable[None]]


@dataclass
class House:
    """A server with what a test wants to know of it."""

    at: Endpoint
    scope: trio.CancelScope
    counters: Counter[str]
    served: list[tuple[NodeId, str]] = field(default_factory=list)


async def echo(stream: Stream) -> None:
    """Answer a request with as many records, and the end."""
    request = await stream.receive()
    assert isinstance(request, WantRecords)
    for short_id in request.ids:
        await stream.send(RecordData(short_id * 20))
    await stream.send(End())


async def wait_for_end(stream: Stream) -> None:
    """Hold a stream open until its client ends it."""
    await stream.receive()


@asynccontextmanager
async def house(handle: Handle = echo, *, bound_s: float = BOUND_S) -> AsyncIterator[House]:
    """Serve while the block runs; the block is bounded."""
    listeners = await open_listeners(0, "127.0.0.1")
    at = endpoint("127.0.0.1", listeners[0].socket.getsockname()[1])
    made = House(at, trio.CancelScope(), Counter())

    async def note(stream: Stream) -> None:
        made.served.append((stream.peer, stream.purpose))
        await handle(stream)

    async def run() -> None:
        await serve(
            listeners,
            seed=SERVER_SEED,
            clan=lambda: CLAN,
            may=lambda node, purpose: purpose == Purpose.JOIN or node in MEMBERS,
            handle=note,
            counters=made.counters,
        )

    with trio.fail_after(bound_s):
        async with trio.open_nursery() as nursery:
            made.scope = nursery.cancel_scope
            nursery.start_soon(run)
            yield made
            nursery.cancel_scope.cancel()


async def visit(
    at: Endpoint, *, seed: bytes = CLIENT_SEED, clan: ClanId = CLAN, purpose: str = Purpose.RECORDS
) -> Stream:
    """Open a stream as a member."""
    return await connect([at], server=SERVER, seed=seed, clan=clan, purpose=purpose)


@asynccontextmanager
async def raw_client(at: Endpoint) -> AsyncIterator[tuple[Link, trio.SocketStream]]:
    """A client that speaks TLS and nothing more by itself, and what is below its TLS."""
    transport = await trio.open_tcp_stream(at.host, at.port)
    link = Link(trio.SSLStream(transport, client_context()))
    await link.shake_hands()
    try:
        yield link, transport
    finally:
        await trio.aclose_forcefully(transport)


async def introduce(link: Link) -> None:
    """Become the member that CLIENT is."""
    greeting = await link.receive()
    assert isinstance(greeting, Greeting)
    await link.send(make_hello(CLIENT_SEED, CLAN, SERVER, greeting.nonce, "records"))
    assert await link.receive() == Accept()


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds; the test's own bound ends the wait."""
    while not holds():
        await trio.sleep(0.005)
