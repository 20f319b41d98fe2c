"""Streams with a member that is removed: those that are open end at once, on both sides, and others stay."""

import pytest
import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.streams import Purpose
from clanmeshd.net.stream import Stream, StreamBroken, StreamRefused, Ties, connect, open_listeners, serve
from tests.clock import Stopwatch
from tests.net.stream_house import CLAN, CLIENT, CLIENT_SEED, OTHER, OTHER_SEED, SERVER, SERVER_SEED, until

BOUND_S = 20.0
AT_ONCE_S = 1.0  # three hundred times what it takes


class Club:
    """A server with members that can be removed."""

    def __init__(self) -> None:
        self.ties = Ties()
        self.members = {CLIENT, OTHER}
        self.ended: list[NodeId] = []

    async def run(self, *, task_status: trio.TaskStatus[Endpoint]) -> None:
        """Serve streams that only the client ends."""
        listeners = await open_listeners(0, "127.0.0.1")
        task_status.started(Endpoint(bytes([127, 0, 0, 1]), listeners[0].socket.getsockname()[1]))
        await serve(
            listeners,
            seed=SERVER_SEED,
            clan=lambda: CLAN,
            may=lambda node, purpose: purpose == Purpose.JOIN or node in self.members,
            handle=self._handle,
            ties=self.ties,
        )

    async def _handle(self, stream: Stream) -> None:
        try:
            await stream.receive()
        finally:
            self.ended.append(stream.peer)

    def remove(self, node: NodeId) -> int:
        """Put one out."""
        self.members.discard(node)
        return self.ties.cut(lambda each: each in self.members)


async def visit(at: Endpoint, seed: bytes, purpose: str = Purpose.GIT) -> Stream:
    return await connect([at], server=SERVER, seed=seed, clan=CLAN, purpose=purpose)


async def test_a_removed_members_streams_end_at_once_and_it_is_refused_at_the_door() -> None:
    club = Club()
    with trio.fail_after(BOUND_S):
        async with trio.open_nursery() as nursery:
            at = await nursery.start(club.run)
            several = [await visit(at, CLIENT_SEED) for _ in range(3)]
            other = await visit(at, OTHER_SEED)
            joining = await visit(at, CLIENT_SEED, Purpose.JOIN)
            await until(lambda: len(club.ties) == 4)
            assert club.remove(CLIENT) == 3
            with Stopwatch() as watch:
                for stream in several:
                    with pytest.raises(StreamBroken):
                        await stream.receive()
            assert watch.passed_s < AT_ONCE_S
            assert sorted(club.ended) == [CLIENT] * 3
            assert len(club.ties) == 1
            with pytest.raises(StreamRefused, match="unauthorized"):
                await visit(at, CLIENT_SEED)
            with trio.move_on_after(0.05) as still_open:
                await other.receive()
            assert still_open.cancelled_caught, "the other member's stream goes on"
            for stream in (*several, other, joining):
                await stream.aclose()
            nursery.cancel_scope.cancel()


async def test_what_is_under_way_towards_a_removed_member_fails_as_a_broken_stream() -> None:
    ties = Ties()

    async def work() -> None:
        with ties.tie(CLIENT):
            assert ties.cut(lambda node: node == CLIENT) == 0
            assert ties.cut(lambda node: False) == 1
            await trio.sleep_forever()

    with pytest.raises(StreamBroken, match="removed"):
        await work()
    assert len(ties) == 0


async def test_what_was_done_before_the_cut_stays_done() -> None:
    ties = Ties()
    with ties.tie(CLIENT):
        ties.cut(lambda node: False)
    assert len(ties) == 0
    with pytest.raises(ValueError, match="own fault"), ties.tie(CLIENT):
        raise ValueError("own fault")
    assert len(ties) == 0


async def test_whoever_answers_is_told_by_the_certificate_and_no_other_is_taken_for_it() -> None:
    club = Club()
    with trio.fail_after(BOUND_S):
        async with trio.open_nursery() as nursery:
            at = await nursery.start(club.run)
            stream = await connect([at], server=None, seed=CLIENT_SEED, clan=CLAN, purpose=Purpose.GIT)
            assert stream.peer == SERVER
            await stream.aclose()
            with pytest.raises((OSError, ProtocolError)):
                await connect([at], server=OTHER, seed=CLIENT_SEED, clan=CLAN, purpose=Purpose.GIT)
            nursery.cancel_scope.cancel()
