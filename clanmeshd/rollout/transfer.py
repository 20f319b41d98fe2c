"""Git's own protocol between two devices: `git upload-pack` on one, `git fetch` on the other, a stream between.

Git speaks over an inherited socket (`fd::`); the daemon carries the bytes, counts them, and ends what stalls.
"""

import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from clanmesh_protocol.errors import ProtocolError
from clanmeshd import process
from clanmeshd.process import Finished
from clanmeshd.rollout.git import bounded, check_space, complaint, environment
from clanmeshd.rollout.objects import Objects
from clanmeshd.rollout.repository import PACK_BYTES_MAX, UNPACKED_BYTES_MAX, Quarantine

FETCH_TIMEOUT_S: Final = 600.0  # of one attempt at one holder, however slow its line
STALL_S: Final = 20.0  # without a byte in either direction: the holder is gone, the next one is asked
SERVE_TIMEOUT_S: Final = 900.0
SERVED_AT_ONCE_MAX: Final = 8  # git processes on behalf of others
FETCH_BYTES_MAX: Final = PACK_BYTES_MAX + (16 << 20)  # a pack and the talk about it
REQUEST_BYTES_MAX: Final = 16 << 20  # what a client may say before and while it is served
_CHUNK_BYTES: Final = 65_536
_FETCH: Final = (
    *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"),
    "--no-auto-maintenance",
)

# Ends of a stream that nobody can mend: the other side is gone, or broke the stream's own rules.
GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError, OSError, ProtocolError)


async def fetch_untrusted(quarantine: Quarantine, commit: bytes, stream: trio.abc.Stream) -> str | None:
    """Bring a commit's history into a quarantine, from the `git upload-pack` behind `stream`.

    Gives None, or why it did not come: the holder has gone away, does not have it, or sent something damaged.
    Raises DiskFull, or another OSError when git cannot be run.
    """
    ours, theirs = socket.socketpair()
    local = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    finished: Finished | OSError
    with theirs:
        async with local, trio.open_nursery() as nursery:
            nursery.start_soon(_carry, local, stream, FETCH_BYTES_MAX, STALL_S)
            try:
                finished = await _fetch(quarantine, commit, theirs.fileno())
            except OSError as error:
                finished = error  # kept out of the nursery, which would wrap it up
            nursery.cancel_scope.cancel()
    if isinstance(finished, OSError):
        raise finished
    if finished.ok:
        return None if await quarantine.is_whole(commit) else "its history is cut off"
    check_space("fetch", finished)
    return "it took too long" if finished.timed_out else complaint(finished)


async def _fetch(quarantine: Quarantine, commit: bytes, connection: int) -> Finished:
    words = ["git", f"--git-dir={quarantine.path}", *_FETCH]
    return await process.run(
        bounded(
            [*words, f"fd::{connection}", f"{commit.hex()}:refs/incoming/head"],
            file_bytes_max=UNPACKED_BYTES_MAX,
        ),
        env=environment(protocols="fd"),
        timeout_s=FETCH_TIMEOUT_S,
        pass_fds=(connection,),
    )


async def serve_upload_pack(objects: Objects, stream: trio.abc.Stream) -> None:
    """Serve a repository to one client of git until either side is done. The client's faults end it quietly."""
    ours, theirs = socket.socketpair()
    local = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    async with local:
        with theirs:
            serving = await trio.lowlevel.open_process(
                ["git", "upload-pack", "--strict", f"--timeout={int(STALL_S)}", str(objects.path)],
                stdin=theirs,
                stdout=theirs,
                stderr=subprocess.DEVNULL,
                env=environment(),
                start_new_session=True,
            )
        try:
            with trio.move_on_after(SERVE_TIMEOUT_S):
                await _carry(local, stream, REQUEST_BYTES_MAX, SERVE_TIMEOUT_S)
        finally:
            await process.end(serving)


async def _carry(local: trio.SocketStream, remote: trio.abc.Stream, remote_bytes_max: int, stall_s: float) -> None:
    """Carry bytes both ways until git's side ends. The remote's end is passed on to git as an end of file."""
    watch = trio.CancelScope()

    def alive() -> None:
        watch.deadline = trio.current_time() + stall_s

    async def inward() -> None:
        try:
            await _copy(remote, local, remote_bytes_max, alive)
            await local.send_eof()
        except GONE:
            await local.aclose()  # git sees its peer hang up

    with watch:
        alive()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inward)
            with suppress(*GONE):
                await _copy(local, remote, FETCH_BYTES_MAX, alive)
            nursery.cancel_scope.cancel()
    await local.aclose()  # whoever ended it, git must see its peer hang up and not wait for more


async def _copy(
    source: trio.abc.ReceiveStream, sink: trio.abc.SendStream, bytes_max: int, alive: Callable[[], None]
) -> None:
    left = bytes_max
    while True:
        chunk = await source.receive_some(_CHUNK_BYTES)
        if not chunk or len(chunk) > left:
            return
        left -= len(chunk)
        await sink.send_all(chunk)
        alive()
