"""Getting a commit from other members, one after the other: each goes on where the last one was cut off.

What comes is a pack that nobody vouches for. It lies in a quarantine until it is whole, and counts only once git
has checked every object in it and the signatures hold.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import trio

from clanmesh_protocol.control import Fault
from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.stream_rollout import Pack, WantPack
from clanmeshd.core.effects import Holder
from clanmeshd.rollout.repository import PACK_BYTES_MAX, Quarantine
from clanmeshd.rollout.selection import short
from clanmeshd.rollout.transfer import fetch_untrusted

STALL_S: Final = 5.0  # without a byte: the holder is gone, and another one goes on with the rest
ANSWER_S: Final = 6.0  # to the first byte: a holder may wait for the commit itself
FETCH_TIMEOUT_S: Final = 600.0  # of one holder, however slow its line
HOLDERS_MAX: Final = 8  # asked for one commit in one round
WRITE_BYTES: Final = 1 << 20  # collected before a worker thread writes them

log = logging.getLogger(__name__)


class OldVersion(Exception):
    """A holder knows nothing of packs; it serves git's own protocol."""


class NotACommit(Exception):
    """What was asked for is an object of another kind, whoever has it."""


class _Disk(Exception):
    """This device's own fault, and no holder's."""


class Sources(Protocol):
    """How other members are reached. Raises OSError or ProtocolError."""

    def pack(
        self, holder: Holder, want: WantPack
    ) -> AbstractAsyncContextManager[tuple[Pack, trio.abc.ReceiveStream]]:
        """Ask for a pack; OldVersion when the holder does not know of any."""
        ...

    def git(self, holder: Holder) -> AbstractAsyncContextManager[trio.abc.Stream]:
        """Open a stream to the holder's `git upload-pack`."""
        ...


@dataclass(slots=True)
class Part:
    """What has come of a pack, in a file of the quarantine."""

    path: Path
    name: bytes | None = None  # of the pack; None: nothing is here
    base: tuple[bytes, ...] = ()
    size: int = 0  # bytes that are here


async def fetch_commit_untrusted(
    sources: Sources, holders: Sequence[Holder], commit: bytes, haves: Sequence[bytes], quarantine: Quarantine
) -> Part | None:
    """Bring a commit into the quarantine from the first holder that gives it, or from several in turn.

    Gives the pack that brought it (one without a name when git's own protocol did); None when nobody had it.
    Raises OSError for this device's faults, NotACommit.
    """
    part = Part(quarantine.path / "incoming.pack")
    for holder in holders[:HOLDERS_MAX]:
        try:
            why = await _ask(sources, holder, commit, haves, part, quarantine)
        except _Disk as error:
            raise OSError(str(error)) from error
        if why is None:
            return part
        log.info("fetching %s from %s: %s", short(commit), holder.node.hex()[:8], why)
    return None


async def _ask(
    sources: Sources,
    holder: Holder,
    commit: bytes,
    haves: Sequence[bytes],
    part: Part,
    quarantine: Quarantine,
) -> str | None:
    """Ask one holder. Gives None, or why the commit is still not here."""
    try:
        await _receive(sources, holder, WantPack(commit, tuple(haves), part.name, part.size), part)
    except OldVersion:
        return await _ask_git(sources, holder, commit, part, quarantine)
    except (ProtocolError, trio.BrokenResourceError, trio.TooSlowError, OSError) as error:
        return _text(error)
    try:
        await quarantine.unpack_untrusted(part.path)
    except Fault as fault:
        part.name, part.size = None, 0  # whoever of them it was: the next one begins anew
        return fault.why
    return await _missing(commit, part, quarantine)


async def _missing(commit: bytes, part: Part, quarantine: Quarantine) -> str | None:
    """Whether all of it came and still not the commit: that is taken back then."""
    found = await quarantine.reader.find(commit.hex())
    if found is not None and found.kind == "commit":
        return None
    if found is not None:
        raise NotACommit(f"it names no commit but a {found.kind}")
    part.name, part.size = None, 0
    await quarantine.clear()
    return "it sent something else"


async def _receive(sources: Sources, holder: Holder, want: WantPack, part: Part) -> None:
    with trio.fail_after(FETCH_TIMEOUT_S), trio.fail_after(ANSWER_S) as patience:
        async with sources.pack(holder, want) as (pack, stream):
            if pack.size > PACK_BYTES_MAX:
                raise OSError(f"its pack has over {PACK_BYTES_MAX >> 20} MiB")
            if not set(pack.base) <= set(want.haves):
                raise OSError("its pack builds upon commits that were not asked about")
            if pack.offset not in (0, want.offset) or (pack.offset and pack.name != want.pack):
                raise OSError("it goes on with another pack")
            part.name, part.base, part.size = pack.name, pack.base, pack.offset

            def alive() -> None:
                patience.deadline = trio.current_time() + STALL_S

            await _write(part, pack.size, stream, alive)


async def _write(part: Part, size: int, stream: trio.abc.ReceiveStream, alive: Callable[[], None]) -> None:
    """Write what comes behind what is here; what has come stays when it ends early."""
    file = await trio.open_file(part.path, "r+b" if part.size else "wb")
    async with file:
        await file.seek(part.size)
        await file.truncate()
        waiting = bytearray()

        async def flush() -> None:
            try:
                with trio.CancelScope(shield=True):
                    await file.write(bytes(waiting))
                    await file.flush()
            except OSError as error:
                raise _Disk(f"{part.path}: {error.strerror}") from error
            part.size += len(waiting)
            waiting.clear()

        try:
            while (left := size - part.size - len(waiting)) > 0:
                chunk = await stream.receive_some(left)
                if not chunk:
                    raise OSError(f"it ended {left} bytes early")
                alive()
                waiting += chunk
                if len(waiting) >= WRITE_BYTES:
                    await flush()
        finally:
            await flush()


async def _ask_git(
    sources: Sources, holder: Holder, commit: bytes, part: Part, quarantine: Quarantine
) -> str | None:
    try:
        async with sources.git(holder) as stream:
            why = await fetch_untrusted(quarantine, commit, stream)
    except (ProtocolError, trio.BrokenResourceError, trio.TooSlowError, OSError) as error:
        return _text(error)
    part.name, part.size = None, 0
    return await _missing(commit, part, quarantine) if why is None else why


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
