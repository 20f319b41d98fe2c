"""Raw bytes over a stream: each direction has its own end, and a cut never looks like one."""

import os

import pytest
import trio

from clanmesh_protocol.errors import LimitError
from clanmesh_protocol.streams import Purpose
from clanmeshd.net.pipe import CHUNK_BYTES_MAX
from clanmeshd.net.stream import Pipe, Stream, StreamBroken
from tests.net.stream_house import house, visit


async def _read_all(pipe: Pipe, at_most: int | None = None) -> bytes:
    data = bytearray()
    while chunk := await pipe.receive_some(at_most):
        assert at_most is None or len(chunk) <= at_most
        data += chunk
    return bytes(data)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES_MAX, CHUNK_BYTES_MAX + 1, 1_000_000])
async def test_each_direction_of_a_pipe_ends_by_itself(size: int) -> None:
    """The server answers only when it has seen the client's end, as `git upload-pack` may."""
    data = os.urandom(size)

    async def answer(stream: Stream) -> None:
        async with Pipe(stream) as pipe:
            received = await _read_all(pipe)
            assert await pipe.receive_some() == b""
            await pipe.send_all(received[::-1])
            await pipe.send_eof()

    async with house(answer) as made, Pipe(await visit(made.at, purpose=Purpose.GIT)) as pipe:
        await pipe.send_all(data)
        await pipe.send_eof()
        assert await _read_all(pipe, 1000) == data[::-1]
        with pytest.raises(trio.ClosedResourceError):
            await pipe.send_all(b"more")


async def test_a_pipe_that_is_cut_never_looks_ended() -> None:
    async def cut(stream: Stream) -> None:
        async with Pipe(stream) as pipe:
            await pipe.send_all(b"half a pack")

    async with house(cut) as made, Pipe(await visit(made.at, purpose=Purpose.GIT)) as pipe:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await _read_all(pipe)
        assert isinstance(caught.value, StreamBroken)


async def test_a_huge_chunk_is_refused() -> None:
    async def boast(stream: Stream) -> None:
        await stream.link.send_bytes((CHUNK_BYTES_MAX + 1).to_bytes(4, "big"))
        await stream.receive()

    async with house(boast) as made, Pipe(await visit(made.at, purpose=Purpose.GIT)) as pipe:
        with pytest.raises(LimitError):
            await pipe.receive_some()


async def test_bytes_flow_both_ways_at_once() -> None:
    """Neither direction waits for the other, even when both are full."""
    data = os.urandom(3_000_000)

    async def both(pipe: Pipe) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pipe.send_all, data)
            assert await _read_exactly(pipe, len(data)) == data

    async def handle(stream: Stream) -> None:
        async with Pipe(stream) as pipe:
            await both(pipe)
            await pipe.send_eof()
            assert await pipe.receive_some() == b""

    async with house(handle) as made, Pipe(await visit(made.at, purpose=Purpose.GIT)) as pipe:
        await both(pipe)
        await pipe.send_eof()
        assert await pipe.receive_some() == b""


async def _read_exactly(pipe: Pipe, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        data += await pipe.receive_some(count - len(data))
    return bytes(data)
