"""Getting a commit from other members, one after the other: each goes on where the last one was cut off.

A holder costs little, whatever it does: one that gives nothing, or little, is left for the next one after seconds.
Where all of them give little the line is slow, and they are asked again with patience.

What comes is a pack that nobody vouches for. It lies in a quarantine until it is whole, and counts only once git
has checked every object in it and the signatures hold.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import trio

from clanmesh_protocol.control import Fault
from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.stream_rollout import Pack, WantPack
from clanmeshd.core.effects import Holder
from clanmeshd.rollout.git import DiskFull
from clanmeshd.rollout.repository import PACK_BYTES_MAX, Quarantine
from clanmeshd.rollout.selection import short
from clanmeshd.rollout.transfer import FETCH_TIMEOUT_S, fetch_untrusted

STALL_S: Final = 5.0  # without a byte: the holder is gone, and another one goes on with the rest
FAIR_BYTES: Final = 65_536  # in that time, or the next holder is asked: others may have a better line
FAIR_S: Final = 60.0  # likewise for all that a holder says is to come: it may say any size, to keep us for long
GIT_TRIAL_S: Final = 30.0  # likewise where git's own protocol tells nothing until all has come
ANSWER_S: Final = 6.0  # to the first byte: a holder may wait for the commit itself
HOLDERS_MAX: Final = 8  # asked for one commit in one round
WRITE_BYTES: Final = 1 << 20  # collected before a worker thread writes them

log = logging.getLogger(__name__)


class OldVersion(Exception):
    """A holder knows nothing of packs; it serves git's own protocol."""


class NotACommit(Exception):
    """What was asked for is an object of another kind, whoever has it."""


class _Slow(OSError):
    """It goes on, and takes long."""


class _Disk(OSError):
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


@dataclass(slots=True)
class _Round:
    """One commit that is asked for, and what has come of it."""

    sources: Sources
    commit: bytes
    haves: tuple[bytes, ...]
    quarantine: Quarantine
    part: Part
    failures: Counter[NodeId]
    patient: bool = False  # nobody gives it fast


async def fetch_commit_untrusted(
    sources: Sources,
    holders: Sequence[Holder],
    commit: bytes,
    haves: Sequence[bytes],
    quarantine: Quarantine,
    failures: Counter[NodeId],
) -> Part | None:
    """Bring a commit into the quarantine from the first holder that gives it, or from several in turn.

    Those of whom `failures` has the fewest are asked first; it is kept from one round to the next.
    Gives the pack that brought it (one without a name when git's own protocol did); None when nobody had it.
    Raises OSError for this device's faults, NotACommit.
    """
    asked = sorted(holders, key=lambda holder: failures[holder.node])[:HOLDERS_MAX]
    this = _Round(sources, commit, tuple(haves), quarantine, Part(quarantine.incoming), failures)
    slow = await _ask_each(this, asked)
    if slow is not None:
        this.patient = True
        slow = await _ask_each(this, slow)
    return this.part if slow is None else None


async def _ask_each(this: _Round, holders: Sequence[Holder]) -> list[Holder] | None:
    """Ask some holders. Gives None when the commit is here, or else those that were slow, the fastest first."""
    slow: list[tuple[int, Holder]] = []
    for holder in holders:
        before = this.part.size
        this.failures[holder.node] += 1  # should it come, and be of no use, the next one is asked
        try:
            why = await _ask(this, holder)
        except _Slow as error:
            slow.append((max(0, this.part.size - before), holder))
            why = str(error)
        if why is None:
            return None
        log.info("fetching %s from %s: %s", short(this.commit), holder.node.hex()[:8], why)
    return [holder for _, holder in sorted(slow, key=lambda each: -each[0])]


async def _ask(this: _Round, holder: Holder) -> str | None:
    """Ask one holder. Gives None, or why the commit is still not here. Raises _Slow."""
    part = this.part
    try:
        continued = await _receive(this, holder)
    except OldVersion:
        return await _ask_git(this, holder)
    except (_Slow, _Disk):
        raise
    except (ProtocolError, trio.BrokenResourceError, trio.TooSlowError, OSError) as error:
        return _text(error)
    try:
        await this.quarantine.unpack_untrusted(part.path)
    except Fault as fault:
        await _begin_anew(this)
        # It may be the others' part that is wrong, who may be asked first each time.
        return await _ask(this, holder) if continued else fault.why
    return await _missing(this)


async def _begin_anew(this: _Round) -> None:
    """Forget what has come, and what git has left of it."""
    this.part.name, this.part.size = None, 0
    await this.quarantine.clear()


async def _missing(this: _Round) -> str | None:
    """Whether all of it came and still not the commit: that is taken back then."""
    found = await this.quarantine.reader.find(this.commit.hex())
    if found is not None and found.kind == "commit":
        return None
    if found is not None:
        raise NotACommit(f"it names no commit but a {found.kind}")
    await _begin_anew(this)
    return "it sent something else"


async def _receive(this: _Round, holder: Holder) -> bool:
    """Get the rest of a pack; say whether it goes on with what had come before."""
    part = this.part
    want = WantPack(this.commit, this.haves, part.name, part.size)
    with trio.fail_after(FETCH_TIMEOUT_S), trio.move_on_after(ANSWER_S) as patience:
        async with this.sources.pack(holder, want) as (pack, stream):
            _check(pack, want)
            part.name, part.base, part.size = pack.name, pack.base, pack.offset
            patience.deadline = trio.current_time() + STALL_S
            enough = 1 if this.patient else max(FAIR_BYTES, (pack.size - pack.offset) * STALL_S / FAIR_S)
            come = 0

            def alive(count: int) -> None:
                nonlocal come
                come += count
                if come >= enough:
                    come, patience.deadline = 0, trio.current_time() + STALL_S

            await _write(part, pack.size, stream, alive)
    if not patience.cancelled_caught:
        return pack.offset > 0
    if part.name == want.pack and part.size <= want.offset:
        raise OSError("nothing came")
    raise _Slow("too little came, and too slowly")


def _check(pack: Pack, want: WantPack) -> None:
    """See that an answer is one to the question. Raises OSError."""
    if pack.size > PACK_BYTES_MAX:
        raise OSError(f"its pack has over {PACK_BYTES_MAX >> 20} MiB")
    if not set(pack.base) <= set(want.haves):
        raise OSError("its pack builds upon commits that were not asked about")
    if pack.offset not in (0, want.offset) or (pack.offset and pack.name != want.pack):
        raise OSError("it goes on with another pack")


async def _write(part: Part, size: int, stream: trio.abc.ReceiveStream, alive: Callable[[int], None]) -> None:
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
                alive(len(chunk))
                waiting += chunk
                if len(waiting) >= WRITE_BYTES:
                    await flush()
        finally:
            await flush()


async def _ask_git(this: _Round, holder: Holder) -> str | None:
    """Have git fetch from one holder, which brings all or nothing."""
    await _begin_anew(this)
    why: str | None = None
    with trio.move_on_after(FETCH_TIMEOUT_S if this.patient else GIT_TRIAL_S) as patience:
        try:
            async with this.sources.git(holder) as stream:
                why = await fetch_untrusted(this.quarantine, this.commit, stream)
        except DiskFull:
            raise
        except (ProtocolError, trio.BrokenResourceError, trio.TooSlowError, OSError) as error:
            why = _text(error)
    if patience.cancelled_caught:
        raise _Slow("git's protocol takes long")
    if why is not None:
        await _begin_anew(this)
        return why
    return await _missing(this)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
