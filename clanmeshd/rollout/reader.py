"""Questions about a repository's objects: answered out of its packs, or by one `git cat-file` process for many.

`packfile` takes a tenth of a millisecond, and is never wrong, but does not know all. The process takes four to
start, and is there only for what `packfile` leaves open; it lives as long as somebody asks (`Reader.open` nests).
"""

import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from clanmeshd import process
from clanmeshd.rollout.git import GIT_TIMEOUT_S, HASH_BYTES, environment, one_line
from clanmeshd.rollout.packfile import Store, Stored, Unsure, read_object

HEADER_BYTES_MAX: Final = 512  # of an answer: an id, a type and a size, or the question with a word behind it
QUESTION_BYTES_MAX: Final = 400
AT_ONCE_BYTES_MAX: Final = 65_536  # of an object that is read without a worker thread, within a millisecond
_CHUNK_BYTES: Final = 65_536

_ID: Final = re.compile(r"[0-9a-f]{40}")
_ROOT: Final = "^{tree}"
_ROOT_LINE: Final = re.compile(rb"tree ([0-9a-f]{40})\n")


@dataclass(frozen=True, slots=True)
class Found:
    """An object: its id, its kind as git calls it (`commit`, `blob`), and how large it is."""

    id: bytes
    kind: str
    size: int


class Reader:
    """Questions about one repository's objects, one after the other. Raises OSError for the world's faults.

    `borrowed` is the folder of objects that the repository has beside its own.
    """

    def __init__(self, directory: Path, borrowed: Path | None = None) -> None:
        self._directory = directory
        self._stores = [Store(each) for each in (directory / "objects", borrowed) if each is not None]
        self._users = 0
        self._process: trio.Process | None = None
        self._buffer = bytearray()
        self._asking = trio.Lock()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Keep the process for as long as the block takes, once there was a first question."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                await self._end()

    async def find(self, name: str) -> Found | None:
        """Look an object up by any expression that git knows; None when there is none."""
        await trio.lowlevel.checkpoint()
        try:
            return _known(*self._resolve(name, 0))
        except Unsure:
            pass
        async with self.open(), self._asking:
            return await self._ask("info", name)

    async def read(self, name: str, bytes_max: int) -> tuple[Found, bytes] | None:
        """Read an object; None when there is none. Of one over `bytes_max` there is no content but its size."""
        await trio.lowlevel.checkpoint()
        try:
            object_id, stored = self._resolve(name, min(bytes_max, AT_ONCE_BYTES_MAX))
            if stored is not None and stored.content is None and stored.size <= bytes_max:
                stored = await trio.to_thread.run_sync(read_object, self._stores, object_id, bytes_max)
        except Unsure:
            return await self._read_by_git(name, bytes_max)
        found = _known(object_id, stored)
        return (found, stored.content or b"") if stored is not None and found is not None else None

    async def _read_by_git(self, name: str, bytes_max: int) -> tuple[Found, bytes] | None:
        async with self.open(), self._asking:
            found = await self._ask("info", name)
            if found is None or found.size > bytes_max:
                return None if found is None else (found, b"")
            found = await self._ask("contents", found.id.hex(), with_content=True)
            if found is None:
                raise OSError(f"{self._directory}: {name} has vanished")
            return found, self._content

    def _resolve(self, name: str, bytes_max: int) -> tuple[bytes, Stored | None]:
        """The object that an expression names; None when there is none. Raises Unsure."""
        start, rest = name[: 2 * HASH_BYTES], name[2 * HASH_BYTES :]
        if not _ID.fullmatch(start):
            raise Unsure
        object_id = bytes.fromhex(start)
        if rest:
            commit = self._stored(object_id, AT_ONCE_BYTES_MAX, "commit")
            root = _ROOT_LINE.match(commit)
            if root is None:
                raise Unsure
            object_id = bytes.fromhex(root[1].decode())
        if rest and rest != _ROOT:
            found = _entry(self._stored(object_id, AT_ONCE_BYTES_MAX, "tree"), rest)
            if found is None:
                return b"", None
            object_id = found
        return object_id, read_object(self._stores, object_id, bytes_max)

    def _stored(self, object_id: bytes, bytes_max: int, kind: str) -> bytes:
        stored = read_object(self._stores, object_id, bytes_max)
        if stored is None or stored.kind != kind or stored.content is None:
            raise Unsure
        return stored.content

    async def _ask(self, command: str, name: str, *, with_content: bool = False) -> Found | None:
        assert "\n" not in name
        assert len(name) <= QUESTION_BYTES_MAX
        try:
            with trio.fail_after(GIT_TIMEOUT_S):
                running = await self._running()
                assert running.stdin is not None
                await running.stdin.send_all(f"{command} {name}\n".encode())
                found = _read_header(await self._line())
                if found is not None and with_content:
                    self._content = (await self._exactly(found.size + 1))[:-1]
                return found
        except BaseException as error:
            await self._end()  # an answer that was not read to its end would be taken for the next one's
            if isinstance(error, trio.TooSlowError | trio.BrokenResourceError | trio.ClosedResourceError):
                raise OSError(f"git cat-file in {self._directory}: it does not answer") from error
            raise

    async def _running(self) -> trio.Process:
        if self._process is None:
            self._buffer.clear()
            self._process = await trio.lowlevel.open_process(
                ["git", f"--git-dir={self._directory}", "cat-file", "--batch-command"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment(),
                start_new_session=True,
            )
        return self._process

    async def _line(self) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > HEADER_BYTES_MAX:
                raise OSError(f"git cat-file in {self._directory}: an answer without an end")
            await self._fill()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    async def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._fill()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    async def _fill(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        chunk = await self._process.stdout.receive_some(_CHUNK_BYTES)
        if not chunk:
            raise trio.BrokenResourceError
        self._buffer += chunk

    async def _end(self) -> None:
        ended, self._process = self._process, None
        if ended is not None:
            await process.end(ended)


def _known(object_id: bytes, stored: Stored | None) -> Found | None:
    return Found(object_id, stored.kind, stored.size) if stored is not None else None


def _entry(tree: bytes, rest: str) -> bytes | None:
    """The id behind `:NAME` in a folder's list; None when it has no such name. Raises Unsure."""
    name = rest[1:].encode()
    if not rest.startswith(":") or not name or b"/" in name or b"\0" in name:
        raise Unsure
    at = 0
    while at < len(tree):
        end = tree.find(b"\0", at)
        if end < 0:
            raise Unsure
        if tree[at:end].partition(b" ")[2] == name:
            return tree[end + 1 : end + 1 + HASH_BYTES]
        at = end + 1 + HASH_BYTES
    return None


def _read_header(line: bytes) -> Found | None:
    """Read `<id> <kind> <size>`; anything else (`… missing`, `… ambiguous`) is nothing."""
    words = line.split(b" ")
    if len(words) != 3 or not words[2].isdigit():
        return None
    try:
        return Found(bytes.fromhex(words[0].decode()), words[1].decode(), int(words[2]))
    except ValueError as error:
        raise OSError(f"git cat-file: {one_line(line.decode(errors='replace'))}") from error
