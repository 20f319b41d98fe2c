"""Members that fetch and wish us ill: none of them takes the place of the others, or keeps its own for ever."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.stream_rollout import WantPack
from clanmeshd.rollout import offers
from clanmeshd.rollout.offers import SERVED_EACH_MAX, Offers
from clanmeshd.rollout.packs import NoPack
from clanmeshd.rollout.transfer import SERVED_AT_ONCE_MAX
from tests.net.rollout_devices import make_devices
from tests.net.rollout_world import PATIENCE_S, Author, Key, make_key

GREEDY, HONEST = NodeId(bytes([1] * 32)), NodeId(bytes([2] * 32))


@pytest.fixture(scope="module")
def alice(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return make_key(tmp_path_factory.mktemp("keys"), "alice")


@pytest.fixture
async def served(tmp_path: Path, alice: Key) -> tuple[Offers, WantPack]:
    """What a device offers, and a question about it."""
    author = Author(tmp_path / "author", alice)
    (device,) = make_devices(tmp_path, alice, 1)
    new = author.commit()
    await device.push(author, alice, None, new)
    return device.rollout.offers, WantPack(new, ())


async def _keep(offered: Offers, want: WantPack, task_status: "trio.TaskStatus[None]") -> None:
    """Begin to read a pack, and never end."""
    async with offered.pack(want, GREEDY):
        task_status.started()
        await trio.sleep_forever()


async def test_a_member_has_a_few_packs_at_once_and_others_have_theirs(served: tuple[Offers, WantPack]) -> None:
    offered, want = served
    async with trio.open_nursery() as nursery:
        for _ in range(SERVED_EACH_MAX):
            await nursery.start(lambda task_status: _keep(offered, want, task_status))
        with pytest.raises(NoPack) as refused:
            async with offered.pack(want, GREEDY):
                pass
        assert refused.value.code == "busy"
        with trio.fail_after(PATIENCE_S):
            async with offered.pack(want, HONEST) as (frame, chunks):
                assert len(b"".join(chunks)) == frame.size
        nursery.cancel_scope.cancel()
    async with offered.pack(want, GREEDY) as (frame, _):
        assert frame.size


async def test_who_says_that_it_has_what_nobody_knows_gets_the_pack_of_who_has_nothing(
    served: tuple[Offers, WantPack],
) -> None:
    """Not one of its own each time: to make it keeps a core busy and all others waiting."""
    offered, want = served
    names = set()
    for number in range(3):
        async with offered.pack(replace(want, haves=(bytes([number]) * 20,)), GREEDY) as (frame, _):
            names.add((frame.name, frame.base))
    async with offered.pack(want, HONEST) as (frame, _):
        assert names == {(frame.name, ())}
    assert len(list(offered._packs._directory.iterdir())) == 1


async def test_a_member_that_does_not_read_is_left(
    served: tuple[Offers, WantPack], monkeypatch: pytest.MonkeyPatch
) -> None:
    offered, want = served
    monkeypatch.setattr(offers, "SERVE_PACK_TIMEOUT_S", 0.1)
    with trio.fail_after(PATIENCE_S):
        async with offered.pack(want, GREEDY):
            await trio.sleep_forever()


async def test_a_member_that_does_not_read_leaves_git_to_others(served: tuple[Offers, WantPack]) -> None:
    """To the user of this device among them, who fetches in the same way."""
    offered, _ = served
    async with trio.open_nursery() as nursery:
        for _ in range(2 * SERVED_AT_ONCE_MAX):
            _, theirs = _pair(nursery)
            nursery.start_soon(offered.upload_pack, theirs, GREEDY)
        for client in (HONEST, None):
            ours, theirs = _pair(nursery)
            nursery.start_soon(offered.upload_pack, theirs, client)
            with trio.fail_after(PATIENCE_S):
                assert b"refs/heads/" in await ours.receive_some(4096)
        nursery.cancel_scope.cancel()


def _pair(nursery: trio.Nursery) -> tuple[trio.SocketStream, trio.SocketStream]:
    ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
    for end in (ours, theirs):
        nursery.start_soon(_close_at_end, end)
    return ours, theirs


async def _close_at_end(stream: trio.SocketStream) -> None:
    async with stream:
        await trio.sleep_forever()
