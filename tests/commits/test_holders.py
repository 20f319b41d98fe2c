"""Members that hold a commit and wish us ill: they are slow, silent, lie about packs, or add to them."""

import errno
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.stream_rollout import Pack, WantPack
from clanmeshd import process
from clanmeshd.core.effects import HeadClaim
from clanmeshd.rollout import fetching, following, git, repository, transfer
from clanmeshd.rollout.repository import Quarantine
from tests.clock import Stopwatch
from tests.commits.stage import published
from tests.net.rollout_devices import make_devices, running, wait_until
from tests.net.rollout_world import Author, Device, Key, make_key, relay_claim

QUICK_S = 2.0  # for some seconds of patience; the one with slow lines is ten minutes


@pytest.fixture(scope="module")
def alice(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return make_key(tmp_path_factory.mktemp("keys"), "alice")


@pytest.fixture
def author(tmp_path: Path, alice: Key) -> Author:
    return Author(tmp_path / "author", alice)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than the usual patience."""
    for name in ("STALL_S", "ANSWER_S", "GIT_TRIAL_S"):
        monkeypatch.setattr(fetching, name, QUICK_S)


async def _give(author: Author, alice: Key, *holders: Device) -> HeadClaim:
    """A commit of some size that these devices have, and a claim by none of them."""
    new = author.commit({"noise": secrets.token_hex(200_000)})
    claims = [await holder.push(author, alice, None, new) for holder in holders]
    return relay_claim(claims[0], 99)


async def _obtain(device: Device, given: HeadClaim) -> float:
    """Have a device fetch it; how long the machine stood still meanwhile, which holders may be left for."""
    with Stopwatch() as watch:
        async with running(device):
            device.put(given)
            await wait_until(lambda: device.rollout.target == given.new)
    return watch.paused_s


def _trickle(holder: Device, count: int) -> None:
    """Have a holder send a few bytes at a time: never none for long."""

    async def serve(
        want: WantPack, client: NodeId, stream: trio.testing.MemorySendStream, answers: object
    ) -> None:
        assert isinstance(answers, trio.MemorySendChannel)
        async with stream, holder.offer(want, client) as (frame, chunks):
            await answers.send(frame)
            data = b"".join(chunks)
            for at in range(0, len(data), count):
                await stream.send_all(data[at : at + count])
                await trio.sleep(0.05)

    holder.serve_pack = serve  # type: ignore[method-assign]


# --- who takes our time --------------------------------------------------------------------------------


async def test_one_that_trickles_is_left_for_the_next(tmp_path: Path, author: Author, alice: Key) -> None:
    first, second, device = make_devices(tmp_path, alice, 3)
    given = await _give(author, alice, first, second)
    _trickle(first, 1)
    paused_s = await _obtain(device, given)
    assert second.served == 1 or paused_s


async def test_one_that_says_it_has_much_and_brings_it_slowly_is_left(
    tmp_path: Path, author: Author, alice: Key
) -> None:
    """Enough not to be called still, of a pack that would take the better part of an hour."""
    first, second, device = make_devices(tmp_path, alice, 3)
    given = await _give(author, alice, first, second)

    @asynccontextmanager
    async def much(want: WantPack, client: NodeId) -> AsyncIterator[tuple[Pack, Iterator[bytes]]]:
        yield Pack(bytes(20), (), 200 << 20, 0), iter([bytes(200 << 20)])

    first.offer = much  # type: ignore[method-assign]
    _trickle(first, 10_000)
    paused_s = await _obtain(device, given)
    assert second.served == 1 or paused_s


async def test_a_slow_line_is_borne_where_there_is_no_better_one(
    tmp_path: Path, author: Author, alice: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came before is kept."""
    monkeypatch.setattr(fetching, "FAIR_BYTES", 1 << 20)
    holder, device = make_devices(tmp_path, alice, 2)
    given = await _give(author, alice, holder)
    _trickle(holder, 4_000)  # all of it takes longer than the patience
    paused_s = await _obtain(device, given)
    assert [want.offset > 0 for want in holder.wants] == [False, True] or paused_s


async def test_one_that_says_it_is_old_and_stalls_is_left(tmp_path: Path, author: Author, alice: Key) -> None:
    first, second, device = make_devices(tmp_path, alice, 3)
    given = await _give(author, alice, first, second)
    first.speaks_packs = False

    async def stall(stream: trio.SocketStream) -> None:
        async with stream:
            await trio.sleep_forever()

    first.serve = stall  # type: ignore[method-assign]
    paused_s = await _obtain(device, given)
    assert second.served == 1 or paused_s


async def test_however_many_have_nothing_somebody_else_is_asked(
    tmp_path: Path, author: Author, alice: Key
) -> None:
    """More than are asked in one round, and all of them nearer."""
    *empty, holder, device = make_devices(tmp_path, alice, fetching.HOLDERS_MAX + 2)
    given = await _give(author, alice, holder)
    for one in empty:
        one.on_pack = lambda sent: b""

        def lie(want: WantPack, client: NodeId) -> AbstractAsyncContextManager[tuple[Pack, Iterator[bytes]]]:
            return holder.offer(want, client)

        one.offer = lie  # type: ignore[method-assign]
    paused_s = await _obtain(device, given)
    assert holder.served == 1 or paused_s


# --- who lies about packs ------------------------------------------------------------------------------


async def test_a_part_that_was_made_up_does_not_stop_the_only_honest_holder(
    tmp_path: Path, author: Author, alice: Key
) -> None:
    """It bears the true pack's name, so that the rest of that is asked for."""
    first, second, device = make_devices(tmp_path, alice, 3)
    given = await _give(author, alice, first, second)

    @asynccontextmanager
    async def lie(want: WantPack, client: NodeId) -> AsyncIterator[tuple[Pack, Iterator[bytes]]]:
        async with second.offer(want, client) as (frame, _):
            yield frame, iter([bytes(100_000)])

    first.offer = lie  # type: ignore[method-assign]
    paused_s = await _obtain(device, given)
    assert [want.offset for want in second.wants] == [100_000, 0] or paused_s


async def test_what_git_left_of_a_bad_pack_is_gone_before_the_next(
    tmp_path: Path, author: Author, alice: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps what it had unpacked, which can be as large as a pack may be, of each holder."""
    first, second, device = make_devices(tmp_path, alice, 3)
    given = await _give(author, alice, first, second)

    @asynccontextmanager
    async def damaged(want: WantPack, client: NodeId) -> AsyncIterator[tuple[Pack, Iterator[bytes]]]:
        async with second.rollout.offers.pack(want, client) as (frame, chunks):
            data = b"".join(chunks)
            yield frame, iter([data[:-30] + bytes(30)])

    first.offer = damaged  # type: ignore[method-assign]
    left: list[list[str]] = []
    unpack = Quarantine.unpack_untrusted

    async def watched(self: Quarantine, pack: Path) -> None:
        left.append([path.name for path in self.pack_directory.iterdir()])
        await unpack(self, pack)

    monkeypatch.setattr(Quarantine, "unpack_untrusted", watched)
    await _obtain(device, given)
    assert left == [[], []]


async def test_a_pack_that_lacks_what_it_builds_upon_is_passed_on_to_nobody_who_lacks_it(
    tmp_path: Path, author: Author, alice: Key
) -> None:
    """Its sender says that it is whole: who has nothing would get a part from each holder, for ever."""
    liar, device, late = make_devices(tmp_path, alice, 3)
    old = author.commit()
    first = await liar.push(author, alice, None, old)
    async with running(device):
        device.put(first)
        await wait_until(lambda: device.rollout.target == old)
        new = author.commit({"more": "1"})
        given = relay_claim(await liar.push(author, alice, old, new), 99)

        @asynccontextmanager
        async def lie(want: WantPack, client: NodeId) -> AsyncIterator[tuple[Pack, Iterator[bytes]]]:
            async with liar.rollout.offers.pack(want, client) as (frame, chunks):
                yield Pack(frame.name, (), frame.size, frame.offset), chunks

        liar.offer = lie  # type: ignore[method-assign]
        device.put(given, holders=[liar])
        await wait_until(lambda: device.rollout.target == new)
        late.peers = [device]
        await _obtain(late, given)


async def test_what_was_put_into_a_pack_beside_a_head_does_not_stay(
    tmp_path: Path, author: Author, alice: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each head would be an occasion to fill our disk, and nobody would see with what."""
    monkeypatch.setattr(repository, "LOOSE_BYTES_MAX", 50_000)
    holder, device = make_devices(tmp_path, alice, 2)
    junk, old = [], None
    async with running(device):
        for number in range(4):
            new = author.commit({"number": str(number)})
            junk.append(author.git("hash-object", "-w", "--stdin", data=secrets.token_bytes(200_000)))
            given = await holder.push(author, alice, old, new)

            @asynccontextmanager
            async def more(
                want: WantPack, client: NodeId, extra: str = junk[-1]
            ) -> AsyncIterator[tuple[Pack, Iterator[bytes]]]:
                pack = _pack(author, want, extra)
                yield Pack(pack[-20:], want.haves, len(pack), 0), iter([pack])

            holder.offer = more  # type: ignore[method-assign]
            device.put(given)
            await wait_until(lambda wanted=new: device.rollout.target == wanted)
            old = new
        # The newest may be the one pack that is larger than all others.
        await wait_until(lambda: not set(junk[:-1]) & published(device))


async def test_who_packs_badly_makes_no_head_too_large(
    tmp_path: Path, author: Author, alice: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it takes of the disk was one member's doing; the next one packs as everybody does."""
    monkeypatch.setattr(following, "PACK_BYTES_MAX", 200_000)
    first, second, device = make_devices(tmp_path, alice, 3)
    new = author.commit({"text": "x" * 400_000})
    claims = [await holder.push(author, alice, None, new) for holder in (first, second)]

    @asynccontextmanager
    async def blown_up(want: WantPack, client: NodeId) -> AsyncIterator[tuple[Pack, Iterator[bytes]]]:
        pack = _pack(author, want, new.hex(), "--compression=0")
        yield Pack(pack[-20:], (), len(pack), 0), iter([pack])

    first.offer = blown_up  # type: ignore[method-assign]
    paused_s = await _obtain(device, relay_claim(claims[0], 99))
    assert (first.served, second.served) == (1, 1) or paused_s


def _pack(author: Author, want: WantPack, extra: str, *options: str) -> bytes:
    """A pack of what is wanted, and of one object that is not."""
    excluded = [f"^{have.hex()}" for have in want.haves]
    listed = author.git("rev-list", "--objects", want.commit.hex(), *excluded)
    words = ("pack-objects", "-q", "--no-reuse-object", *options, str(author.path / "made"))
    author.git(*words, data=f"{listed}\n{extra}\n".encode())
    (path,) = author.path.glob("made-*.pack")
    data = path.read_bytes()
    for part in author.path.glob("made-*"):
        part.unlink()
    return data


async def test_heads_that_fill_the_disk_one_after_the_other_have_an_end(
    tmp_path: Path, author: Author, alice: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a signer's key and a daemon of one's own, which does not ask how large all of them are."""
    monkeypatch.setattr(following, "PACK_BYTES_MAX", 500_000)
    holder, device = make_devices(tmp_path, alice, 2)
    old = None
    async with running(device):
        for number in range(4):
            new = author.commit({f"noise{number}": secrets.token_hex(100_000)})
            device.put(await holder.push(author, alice, old, new))
            await wait_until(lambda wanted=new: device.rollout.target == wanted)
            old = new
        before = published(device)
        new = author.commit({"noise4": secrets.token_hex(100_000)})
        given = await holder.push(author, alice, old, new)
        served = holder.served
        device.put(given)
        await wait_until(lambda: "MiB with it" in str(device.rollout.view()["refused"]))
        await wait_until(lambda: holder.served == served + following.OVERSIZED_MAX)
        device.put(given, relay_claim(given, 7))
        await trio.testing.wait_all_tasks_blocked(0.2)
        assert holder.served == served + following.OVERSIZED_MAX, "it is not fetched again"
        assert published(device) == before
        assert device.rollout.target == old


# --- who takes our machine -----------------------------------------------------------------------------


@pytest.mark.parametrize("speaks_packs", [True, False], ids=["packs", "git"])
async def test_what_unpacks_has_bounds_whoever_sends(
    tmp_path: Path, author: Author, alice: Key, monkeypatch: pytest.MonkeyPatch, speaks_packs: bool
) -> None:
    """A few bytes can become gigabytes; the program that finds that out ends, and nothing else does."""
    holder, device = make_devices(tmp_path, alice, 2)
    given = await _give(author, alice, holder)
    holder.speaks_packs = speaks_packs
    monkeypatch.setattr(git, "MEMORY_KIB_MAX", 2_000)  # too little for any program
    async with running(device):
        device.put(given)
        await wait_until(lambda: "no reachable member" in str(device.rollout.view()["why"]))
        assert device.rollout.head is None
        monkeypatch.undo()
        await wait_until(lambda: device.rollout.target == given.new)


async def test_a_program_that_cannot_be_started_today_is_started_tomorrow(
    tmp_path: Path, author: Author, alice: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are too many processes on the machine for a moment."""
    holder, device = make_devices(tmp_path, alice, 2)
    given = await _give(author, alice, holder)
    holder.speaks_packs = False

    async def refuse(*given: object, **named: object) -> process.Finished:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    async with running(device):
        with monkeypatch.context() as patch:
            patch.setattr(transfer, "process", SimpleNamespace(run=refuse, end=process.end))
            device.put(given)
            await wait_until(lambda: "no reachable member" in str(device.rollout.view()["why"]))
        await wait_until(lambda: device.rollout.target == given.new)


async def test_bounds_are_those_that_are_named() -> None:
    for words, file_bytes_max, ok in (
        (["true"], 1 << 20, True),
        (["sh", "-c", "head -c 900000 /dev/zero >$0"], 1 << 20, True),
        (["sh", "-c", "head -c 1200000 /dev/zero >$0"], 1 << 20, False),
        ([sys.executable, "-c", "bytearray(700 << 20)"], 1 << 20, True),
        ([sys.executable, "-c", "bytearray(1200 << 20)"], 1 << 20, False),
    ):
        with tempfile.NamedTemporaryFile() as file:
            finished = await process.run(
                [*git.bounded(words, file_bytes_max=file_bytes_max), file.name], timeout_s=20
            )
        assert finished.ok == ok, (words, finished)
