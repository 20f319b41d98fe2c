"""The resolver's sockets on the loopback address: both transports, and how much of whom is bounded."""

import socket
import struct
from collections.abc import AsyncIterator

import pytest
import trio

from clanmeshd.naming.messages import QUERY_BYTES_MAX
from clanmeshd.naming.resolver import (
    OWN_BURST,
    OWN_PER_S,
    STREAM_QUERIES_MAX,
    STREAMS_MAX,
    STREAMS_PER_SOURCE_MAX,
    TURN_QUERIES_MAX,
    Resolver,
)
from clanmeshd.naming.trouble import NamesUnavailable

HERE = socket.inet_pton(socket.AF_INET6, "::1")
PATIENCE_S = 20.0


def echo(data: bytes, is_stream: bool) -> bytes | None:
    """Answer with what was asked, and by which transport; a `-` gets no answer."""
    return None if data == b"-" else data + (b" stream" if is_stream else b" packet")


@pytest.fixture
async def resolver() -> AsyncIterator[Resolver]:
    """A resolver on the loopback address, on a port of its own, that runs."""
    with Resolver(HERE, HERE, "lo", echo, port=0) as made:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run)
            yield made
            nursery.cancel_scope.cancel()


def framed(data: bytes) -> bytes:
    """A message of a stream."""
    return struct.pack("!H", len(data)) + data


async def read_to_end(stream: trio.SocketStream) -> bytes:
    """All that comes until the other side closes."""
    with trio.fail_after(PATIENCE_S):
        return b"".join([chunk async for chunk in stream])


async def connect(resolver: Resolver) -> trio.SocketStream:
    """A connection to the resolver."""
    return await trio.open_tcp_stream("::1", resolver.port)


async def exchange(resolver: Resolver, data: bytes) -> bytes:
    """What comes back for some bytes on a connection of their own; nothing where that was closed under way."""
    async with await connect(resolver) as stream:
        try:
            await stream.send_all(data)
            await stream.send_eof()
            return await read_to_end(stream)
        except trio.BrokenResourceError:
            return b""


async def test_packets_and_streams_are_answered(resolver: Resolver) -> None:
    """Several questions on one stream, however they are cut."""
    with trio.socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as asker:
        await asker.connect(("::1", resolver.port))
        for data in (b"-", b"a"):
            await asker.send(data)
        with trio.fail_after(PATIENCE_S):
            assert await asker.recv(100) == b"a packet"
    async with await connect(resolver) as stream:
        whole = framed(b"a") + framed(b"bc")
        for cut in (whole[:1], whole[1:4], whole[4:]):
            await stream.send_all(cut)
        await stream.send_eof()
        assert await read_to_end(stream) == framed(b"a stream") + framed(b"bc stream")
    assert resolver.counters["silent"] == 1


@pytest.mark.parametrize("data", [framed(b""), framed(b"-"), b"\0", framed(bytes(QUERY_BYTES_MAX + 1))])
async def test_a_stream_that_asks_nothing_is_closed(resolver: Resolver, data: bytes) -> None:
    """Whatever else it says."""
    assert await exchange(resolver, data) == b""


async def test_a_stream_has_so_many_answers(resolver: Resolver) -> None:
    """Who wants more comes again."""
    async with await connect(resolver) as stream:
        await stream.send_all(framed(b"a") * (STREAM_QUERIES_MAX + 1))
        try:
            answered = await read_to_end(stream)
        except trio.BrokenResourceError:
            return  # reset, with the rest of the questions unread
        assert answered == framed(b"a stream") * STREAM_QUERIES_MAX


async def test_one_source_has_few_streams_and_gives_them_back(resolver: Resolver) -> None:
    """So one that holds on does not keep all others out."""
    held = [await connect(resolver) for _ in range(STREAMS_PER_SOURCE_MAX)]
    for stream in held:
        await stream.send_all(framed(b"a"))
        with trio.fail_after(PATIENCE_S):
            assert await stream.receive_some(100) == framed(b"a stream")
    assert await exchange(resolver, framed(b"a")) == b""
    for stream in held:
        await stream.aclose()
    answered = 0
    with trio.fail_after(PATIENCE_S):
        while answered < 2 * STREAMS_MAX:  # more than there is room for at once; those before may not be gone yet
            answered += await exchange(resolver, framed(b"a")) == framed(b"a stream")


async def test_a_flood_is_answered_in_bounds(resolver: Resolver) -> None:
    """And then dropped, by its count."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as asker:
        asker.setblocking(False)
        asker.connect(("::1", resolver.port))
        begun_s, sent = trio.current_time(), 0
        with trio.fail_after(PATIENCE_S):
            while not resolver.counters["limit"]:
                for _ in range(TURN_QUERIES_MAX):
                    asker.send(b"-")
                sent += TURN_QUERIES_MAX
                await trio.lowlevel.checkpoint()
    assert sent > OWN_BURST
    assert resolver.counters["silent"] <= OWN_BURST + OWN_PER_S * (trio.current_time() - begun_s) + 1


async def test_who_is_not_of_the_clan_is_not_heard() -> None:
    """By neither transport, even on the right address."""
    with Resolver(HERE, b"\xfd\x01", "lo", echo, port=0) as resolver:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(resolver.run)
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as asker:
                asker.sendto(b"a", ("::1", resolver.port))
                async with await connect(resolver) as stream:
                    await stream.send_all(framed(b"a"))
                    assert await read_to_end(stream) == b""
                with trio.fail_after(PATIENCE_S):
                    while resolver.counters["foreign"] < 2:
                        await trio.lowlevel.checkpoint()
                asker.setblocking(False)
                with pytest.raises(BlockingIOError):
                    asker.recv(100)
            nursery.cancel_scope.cancel()


async def test_an_address_is_had_before_it_is_there_and_by_one_alone() -> None:
    """The interface comes later; a second daemon is told who has the port."""
    away = bytes.fromhex("fd01020304050000000000000000000a")
    with Resolver(away, away[:6], "lo", echo, port=0) as resolver:
        with pytest.raises(NamesUnavailable, match="another program has it") as refused:
            Resolver(away, away[:6], "lo", echo, port=resolver.port)
        assert "ss -lnp" in refused.value.remedy
