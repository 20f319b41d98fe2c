"""Packs on their way to others: those that came, passed on as they came, and those that are made for who asks.

A pack is named by the checksum in its last bytes. Who has a part of one goes on with the rest from anybody that
has the same one, and in a wave of fetches all do: each device keeps the pack that it got for a while.
"""

import os
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Final

import trio

from clanmesh_protocol.stream_rollout import Pack, WantPack
from clanmeshd import process
from clanmeshd.rollout.git import HASH_BYTES, GitFailed, environment
from clanmeshd.rollout.objects import Objects, is_commit_id

KEPT_MAX: Final = 4  # packs; a wave of fetches wants one of them
KEPT_BYTES_MAX: Final = 64 << 20  # of all but the newest: the repository has the same once more
PACKING_TIMEOUT_S: Final = 300.0
WAIT_S: Final = 3.0  # for a commit that is still on its way here; the protocol's bound
WAITING_MAX: Final = 64  # clients
SERVED_AT_ONCE_MAX: Final = 8  # the others wait: two at a time are what a wave asks of each device
CHUNK_BYTES: Final = 65_536  # of a file that is read on the trio thread: it lies in the page cache
_PACK_BYTES_MIN: Final = 12 + HASH_BYTES
_PACK: Final = 'out=$1; shift; exec "$@" >"$out"'


class NoPack(Exception):
    """There is none to give; `code` is what a REFUSE says: `absent` or `busy`."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


@dataclass(frozen=True, slots=True)
class Kept:
    """A pack that leads to a commit from those in `base`."""

    path: Path
    commit: bytes
    base: frozenset[bytes]
    name: bytes
    size: int


class Packs:
    """The packs of one repository. Raises OSError for the world's faults."""

    def __init__(self, objects: Objects, directory: Path) -> None:
        self._objects = objects
        self._directory = directory
        self._kept: list[Kept] = []  # newest last
        self._arrived = trio.Event()
        self._making = trio.Lock()
        self._serving = trio.CapacityLimiter(SERVED_AT_ONCE_MAX)
        self._waiting = 0

    def open(self) -> None:
        """Begin with none: an earlier life's are no use."""
        rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(mode=0o700, parents=True)
        self._kept.clear()

    def keep(self, pack: Path, commit: bytes, base: Collection[bytes]) -> None:
        """Take a pack that was found good, by moving it here. Its commits must be published by now."""
        kept = self._directory / f"{commit.hex()}-{len(base)}-{os.urandom(4).hex()}"
        pack.rename(kept)
        self._add(Kept(kept, commit, frozenset(base), *_name_and_size(kept)))

    def arrived(self) -> None:
        """Tell those who wait that a commit was published."""
        self._arrived.set()
        self._arrived = trio.Event()

    @asynccontextmanager
    async def offer(self, want: WantPack) -> AsyncIterator[tuple[Pack, Iterator[bytes]]]:
        """Give a client what it asks for: the frame, and the bytes behind it. Raises NoPack."""
        await self._await(want.commit)
        if self._serving.statistics().tasks_waiting >= WAITING_MAX:
            raise NoPack("busy", "too many ask for packs: try again later")
        async with self._serving:
            kept = self._find(want) or await self._make(want)
            with open(kept.path, "rb") as file:  # noqa: ASYNC230 - it was written a moment ago
                offset = want.offset if want.pack == kept.name and want.offset <= kept.size else 0
                file.seek(offset)
                chunks = iter(partial(file.read, CHUNK_BYTES), b"")
                yield Pack(kept.name, tuple(sorted(kept.base)), kept.size, offset), chunks

    async def _await(self, commit: bytes) -> None:
        """Wait a moment for a commit that is on its way here."""
        if not is_commit_id(commit):
            raise NoPack("absent", "this repository is of the other kind")
        if self._waiting >= WAITING_MAX:
            raise NoPack("busy", "too many ask for packs: try again later")
        self._waiting += 1
        try:
            with trio.move_on_after(WAIT_S):
                while True:
                    arrived = self._arrived
                    if await self._objects.commits_here([commit]):
                        return
                    await arrived.wait()
        finally:
            self._waiting -= 1
        raise NoPack("absent", "this device does not have the commit")

    def _find(self, want: WantPack) -> Kept | None:
        """A kept pack that fits: a whole history only for who has nothing."""
        haves = set(want.haves)
        of_it = [kept for kept in self._kept if kept.commit == want.commit]
        fitting = [kept for kept in of_it if kept.base <= haves and (kept.base or not haves)]
        return max(fitting, key=lambda kept: (kept.name == want.pack, len(kept.base), kept.size), default=None)

    def _same(self, commit: bytes, base: frozenset[bytes]) -> Kept | None:
        return next((kept for kept in self._kept if (kept.commit, kept.base) == (commit, base)), None)

    async def _make(self, want: WantPack) -> Kept:
        async with self._making:
            if (found := self._find(want)) is not None:
                return found
            asked = {commit for commit in want.haves if is_commit_id(commit)}
            base = frozenset(await self._objects.commits_here(asked))
            if (found := self._same(want.commit, base)) is not None:
                return found  # what a client says that it has besides makes no other pack
            path = self._directory / f"made-{os.urandom(8).hex()}"
            try:
                await self._pack(want.commit, base, path)
                made = Kept(path, want.commit, base, *_name_and_size(path))
            except BaseException:
                with suppress(OSError):
                    os.unlink(path)
                raise
            self._add(made)
            return made

    async def _pack(self, commit: bytes, base: Collection[bytes], path: Path) -> None:
        words = ["git", f"--git-dir={self._objects.path}", "pack-objects", "--revs", "--thin", "--stdout", "-q"]
        wanted = "".join([f"{commit.hex()}\n", *(f"^{have.hex()}\n" for have in sorted(base))])
        finished = await process.run(
            ["/bin/sh", "-c", _PACK, "pack", path, *words, "--delta-base-offset"],
            stdin=wanted.encode(),
            env=environment(),
            timeout_s=PACKING_TIMEOUT_S,
        )
        if not finished.ok:
            raise GitFailed("pack-objects", finished)

    def _add(self, kept: Kept) -> None:
        self._kept.append(kept)
        while len(self._kept) > KEPT_MAX or sum(each.size for each in self._kept[:-1]) > KEPT_BYTES_MAX:
            with suppress(OSError):
                self._kept.pop(0).path.unlink()


def _name_and_size(path: Path) -> tuple[bytes, int]:
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size < _PACK_BYTES_MIN:
            raise OSError(f"{path}: no pack")
        file.seek(size - HASH_BYTES)
        return file.read(), size
