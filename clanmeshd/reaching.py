"""Streams between members: packs, git's protocol, stores, what was tried, what a device is; asked and served."""

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf
from typing import Any, Final

import trio

from clanmesh_protocol.control import Fault
from clanmesh_protocol.errors import LimitError, MalformedError
from clanmesh_protocol.keys import ClanId
from clanmesh_protocol.limits import (
    STREAM_FRAME_BYTES_MAX,
    STREAM_LINE_BYTES_MAX,
    STREAM_LINES_MAX,
    TRIED_WHY_BYTES_MAX,
)
from clanmesh_protocol.stream_rollout import Ask, Pack, Tried, WantPack
from clanmesh_protocol.streams import End, Frame, Log, Purpose, Refuse
from clanmesh_protocol.version import version_text
from clanmeshd.core.effects import Holder
from clanmeshd.net import stream
from clanmeshd.rollout.fetching import OldVersion
from clanmeshd.rollout.git import one_line
from clanmeshd.rollout.journal import HISTORY_MAX, LOG_TEXT_BYTES_MAX
from clanmeshd.rollout.machine import Rollout
from clanmeshd.rollout.offers import Offers
from clanmeshd.rollout.packs import NoPack

HISTORY: Final = "history"  # what can be asked
LOG: Final = "log"
DEVICE: Final = "device"
DEVICE_LINES_MAX: Final = 16
ANSWER_S: Final = 30.0  # to the last line: a log has a megabyte at most
TRIED_MAX: Final = HISTORY_MAX
LOG_FRAMES_MAX: Final = 2 * LOG_TEXT_BYTES_MAX // STREAM_LINES_MAX  # of lines that are empty
LOG_CHARACTERS_MAX: Final = 4 * LOG_TEXT_BYTES_MAX  # of tabs alone, each of which travels as four blanks
_LINE_COST_BYTES: Final = 5  # msgpack's own, of one text
_BATCH_BYTES_MAX: Final = STREAM_FRAME_BYTES_MAX // 2
REACH_S: Final = 2.0  # to an accepted stream: whoever takes longer is not the one to get a commit from
STORE_S: Final = 10.0  # likewise to a builder, which may be building: there are few of them


@dataclass(slots=True)
class Reach:
    """How a device reaches others: for its rollout, to have its datagrams carried, for relays."""

    seed: bytes  # of its identity
    clan: ClanId
    ties: stream.Ties
    reached_s: float = -inf  # when it last had a new stream to a member (monotonic)

    @asynccontextmanager
    async def pack(self, holder: Holder, want: WantPack) -> AsyncIterator[tuple[Pack, trio.abc.ReceiveStream]]:
        """Ask for a pack. Raises OldVersion, OSError, ProtocolError."""
        try:
            async with self.connect(holder, Purpose.PACK) as channel:
                await channel.send(want)
                frame = await channel.receive()
                if not isinstance(frame, Pack):
                    raise MalformedError("a WANT PACK is answered with a PACK or a REFUSE")
                async with stream.Pipe(channel) as pipe:
                    yield frame, pipe
        except stream.StreamRefused as refusal:
            if refusal.refusal == "unknown-purpose":
                raise OldVersion from refusal
            raise

    @asynccontextmanager
    async def git(self, holder: Holder) -> AsyncIterator[trio.abc.Stream]:
        """Open a stream to the holder's `git upload-pack`. Raises OSError, ProtocolError."""
        async with self.connect(holder, Purpose.GIT) as channel, stream.Pipe(channel) as pipe:
            yield pipe

    @asynccontextmanager
    async def store(self, holder: Holder) -> AsyncIterator[trio.abc.HalfCloseableStream]:
        """Open a stream to the holder's Nix store. Raises OSError, ProtocolError."""
        async with self.connect(holder, Purpose.STORE, STORE_S) as channel, stream.Pipe(channel) as pipe:
            yield pipe

    @asynccontextmanager
    async def connect(
        self, holder: Holder, purpose: Purpose, timeout_s: float = REACH_S
    ) -> AsyncIterator[stream.Stream]:
        """Open a stream to a member. Raises OSError, ProtocolError."""
        with self.ties.tie(holder.node):
            channel = await stream.connect(
                holder.endpoints,
                server=holder.node,
                seed=self.seed,
                clan=self.clan,
                purpose=purpose,
                timeout_s=timeout_s,
            )
            self.reached_s = trio.current_time()
            async with channel:
                yield channel


async def serve_pack(offers: Offers, channel: stream.Stream) -> None:
    """Answer one request for a pack."""
    want = await channel.receive()
    if not isinstance(want, WantPack):
        return
    try:
        async with offers.pack(want, channel.peer) as (frame, chunks), stream.Pipe(channel) as pipe:
            await channel.send(frame)
            for chunk in chunks:
                await pipe.send_all(chunk)
            await pipe.send_eof()
    except NoPack as none:
        await channel.send(Refuse(none.code, str(none)))


# --- what was tried at a member ------------------------------------------------------------------------


async def serve_question(rollout: Rollout, channel: stream.Stream) -> None:
    """Answer one question of a member about what was tried here, or about this device."""
    ask = await channel.receive()
    if not isinstance(ask, Ask):
        return
    if ask.what == HISTORY:
        for entry in rollout.history():
            await channel.send(_tried(entry))
    elif ask.what == LOG:
        try:
            batches = await trio.to_thread.run_sync(lambda: list(_batches(rollout.log(ask.commit))))
        except Fault as fault:
            await channel.send(Refuse("failed", fault.what))  # this device's disk, and none of a member's business
            return
        for lines in batches:
            await channel.send(Log(lines))
    elif ask.what == DEVICE:
        await channel.send(Log((f"version {version_text()}", f"unix-ms {int(time.time() * 1000)}")))
    else:
        await channel.send(Refuse("unknown-question", f"this version knows no {ask.what!r}"))
        return
    await channel.send(End())


async def ask_history(reach: Reach, holder: Holder) -> list[dict[str, Any]]:
    """What was tried at a member, as `Rollout.history` gives it. Raises OSError, ProtocolError."""
    frames = await _ask(reach, holder, Ask(HISTORY), TRIED_MAX)
    return [
        {
            "commit": frame.commit.hex(),
            "state": frame.state,
            "why": frame.why,
            "at_unix_s": float(frame.at_unix_s),
            "seconds": frame.took_ms / 1000,
        }
        for frame in frames
        if isinstance(frame, Tried)
    ]


async def ask_log(reach: Reach, holder: Holder, commit: bytes | None) -> str:
    """A member's log of a commit, or of the newest that it tried. Raises OSError, ProtocolError."""
    frames = await _ask(reach, holder, Ask(LOG, commit), LOG_FRAMES_MAX)
    return "".join(f"{line}\n" for frame in frames if isinstance(frame, Log) for line in frame.lines)


async def ask_device(reach: Reach, holder: Holder) -> dict[str, str]:
    """What a member says of itself, by key. Raises OSError, ProtocolError; StreamRefused by an older version."""
    frames = await _ask(reach, holder, Ask(DEVICE), 1)
    lines = [line for frame in frames if isinstance(frame, Log) for line in frame.lines[:DEVICE_LINES_MAX]]
    return {key: value for key, _, value in (line.partition(" ") for line in lines)}


async def _ask(reach: Reach, holder: Holder, ask: Ask, frames_max: int) -> list[Frame]:
    found: list[Frame] = []
    characters = 0
    try:
        with trio.fail_after(ANSWER_S):
            async with reach.connect(holder, Purpose.ROLLOUT) as channel:
                await channel.send(ask)
                while not isinstance(frame := await channel.receive(), End):
                    characters += sum(map(len, frame.lines)) if isinstance(frame, Log) else 0
                    if len(found) == frames_max or characters > LOG_CHARACTERS_MAX:
                        raise LimitError("an answer that is longer than a log is")
                    found.append(frame)
    except trio.TooSlowError as error:
        raise OSError(f"no whole answer within {ANSWER_S:.0f} s") from error
    return found


def _tried(entry: Mapping[str, Any]) -> Tried:
    return Tried(
        bytes.fromhex(entry["commit"]),
        entry["state"],
        one_line(entry["why"]).encode()[:TRIED_WHY_BYTES_MAX].decode(errors="ignore"),
        max(0, round(entry["at_unix_s"])),
        max(0, round(entry["seconds"] * 1000)),
    )


def _batches(text: str) -> Iterator[tuple[str, ...]]:
    """A log's lines as frames carry them: without control characters, each and all of them bounded."""
    lines = [_clean(line) for line in text.splitlines()]
    batch: list[str] = []
    size = 0
    for line in lines:
        cost = len(line.encode()) + _LINE_COST_BYTES
        if len(batch) == STREAM_LINES_MAX or size + cost > _BATCH_BYTES_MAX:
            yield tuple(batch)
            batch, size = [], 0
        batch.append(line)
        size += cost
    if batch:
        yield tuple(batch)


def _clean(line: str) -> str:
    printable = line.replace("\t", "    ")
    if not printable.isprintable():
        printable = "".join(each if each.isprintable() else "?" for each in printable)
    return printable.encode(errors="replace")[:STREAM_LINE_BYTES_MAX].decode(errors="ignore")
