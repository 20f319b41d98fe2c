"""The rollout of one device: follow the verified head, build it, have it activated, remember how it went.

Two tasks. One turns the core's claims into a target (see `following`); the other takes the newest target to a
result, and cancels a build that a newer target has made pointless. An activation is never interrupted: it is not
ours any more once it is launched.

- A commit that failed is remembered over restarts and not tried again until `retry`.
- A commit that runs is not activated again.
- An activation that was under way when the daemon died is watched to its end by the next one.
- Only two checkouts stay: the running one, which is the way back, and the one being tried.
"""

import logging
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import trio

from clanmesh_protocol.control import Fault
from clanmesh_protocol.records import RolloutState
from clanmesh_protocol.stream_rollout import Pack, WantPack
from clanmeshd.core.effects import SetRollout
from clanmeshd.files import Files, RealFiles
from clanmeshd.rollout.attempt import Attempt
from clanmeshd.rollout.build import Place
from clanmeshd.rollout.fetching import Sources
from clanmeshd.rollout.following import Following, Outcome
from clanmeshd.rollout.journal import Journal
from clanmeshd.rollout.packs import NoPack, Packs
from clanmeshd.rollout.receiving import Progress, Push, receive_push
from clanmeshd.rollout.repository import Repository
from clanmeshd.rollout.selection import Follow, Held
from clanmeshd.rollout.transfer import SERVED_AT_ONCE_MAX, serve_upload_pack

BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MAX_S: Final = 60.0
BACKOFF_JITTER: Final = 0.25  # devices that failed together do not come back together
PASSING_S: Final = 1.0  # a state on the way to another one is told of when it lasts; each telling costs all others
PUSHES_AT_ONCE_MAX: Final = 2  # each may take the disk space of a whole quarantine

_PASSING: Final = frozenset(
    {RolloutState.FETCHING, RolloutState.VERIFYING, RolloutState.BUILDING, RolloutState.TESTING}
)

log = logging.getLogger(__name__)

Report = Callable[[bytes | None, bytes | None, RolloutState, tuple[bytes, ...]], Awaitable[None]]


class Wanted(Protocol):
    """The slot that the core's newest wanted state is taken from."""

    async def changed(self) -> SetRollout:
        """Wait for a value that was not taken yet, and take it."""
        ...


class Rollout:
    """The one door of this room.

    `sources` reaches other members' `pack` and `upload_pack`. `report` is told
    (running commit, wanted commit, state, failed commits with the newest last) whenever one of them changes.
    """

    def __init__(
        self, directory: Path, runtime: Path, *, sources: Sources, report: Report, files: Files | None = None
    ) -> None:
        self._directory = directory
        self._runtime = runtime
        self._report = report
        self._repository = Repository(directory)
        self._journal = Journal(directory, files or RealFiles())
        self._packs = Packs(self._repository, directory / "packs")
        self._following = Following(self._repository, sources, self._packs)
        self._attempt = Attempt(directory, self._repository, self._journal, self._changed)
        self._opening = trio.Lock()
        self._opened = False
        self._serving = trio.CapacityLimiter(SERVED_AT_ONCE_MAX)
        self._pushing = trio.CapacityLimiter(PUSHES_AT_ONCE_MAX)
        self._target: bytes | None = None
        self._place = Place("", (), runtime)
        self._outcome: Outcome | None = None
        self._looking: RolloutState | None = None  # FETCHING or VERIFYING, while it lasts
        self._trouble: str | None = None  # of this device: a full disk, no git
        self._again = trio.Event()  # the target or what is known of it has changed
        self._dirty = trio.Event()  # the status may have changed
        self._reported: object = None

    # --- what the control calls use ------------------------------------------------------------------------

    @property
    def head(self) -> bytes | None:
        """The newest verified head that is published here: what a push must build upon."""
        return self._following.head

    async def knows(self, commit: bytes) -> bool:
        """Whether a commit is in the repository here, followed or not. Raises Fault for the world's faults."""
        try:
            await self._open()
            return commit in await self._repository.commits_here([commit])
        except OSError as error:
            raise _failed("looking the commit up", error) from error

    async def push(
        self,
        wanted: SetRollout,
        *,
        ref: str,
        old: bytes | None,
        new: bytes,
        signature: bytes,
        bundle: AsyncIterator[bytes],
        progress: Progress,
    ) -> bytes:
        """Check and publish commits; give the head statement's signature in binary form for the head record.

        Raises Fault with what to do about it.
        """
        push = Push(ref, old, new, signature)
        try:
            await self._open()
            async with self._pushing:
                return await receive_push(self._repository, self._following, wanted, push, bundle, progress)
        except OSError as error:
            raise _failed("the push", error) from error

    async def upload_pack(self, stream: trio.abc.Stream) -> None:
        """Serve the published commits to one client of git, until it or git is done."""
        try:
            await self._open()
            async with self._serving:
                await serve_upload_pack(self._repository, stream)
        except OSError as error:
            self._note_trouble(str(error))

    @asynccontextmanager
    async def pack(self, want: WantPack) -> AsyncIterator[tuple[Pack, Iterator[bytes]]]:
        """Give a member a pack of published commits: the frame, and the bytes behind it. Raises NoPack."""
        try:
            await self._open()
            async with self._packs.offer(want) as offered:
                yield offered
        except OSError as error:
            self._note_trouble(str(error))
            raise NoPack("absent", "this device has trouble with its disk") from error

    def view(self) -> dict[str, Any]:
        """The result of `rollout-status`."""
        memory, outcome = self._journal.memory, self._outcome
        return {
            "wanted": self._target.hex() if self._target else None,
            "commit": memory.good.hex() if memory.good else None,
            "state": self._state().text,
            "why": self._why(),
            "bad": [entry.commit for entry in memory.bad],
            "last_good": memory.good.hex() if memory.good else None,
            "refused": list(outcome.refused) if outcome else [],
        }

    def history(self) -> list[dict[str, Any]]:
        """What was tried here, oldest first."""
        return [
            {
                "commit": entry.commit,
                "state": entry.state,
                "why": entry.why,
                "at_unix_s": entry.at_unix_s,
                "seconds": entry.seconds,
            }
            for entry in self._journal.memory.history
        ]

    def log(self, commit: bytes | None) -> str:
        """What build, activation and health wrote for a commit, or for the newest one that was tried.

        Blocking: call it from a worker thread.
        """
        if commit is None:
            commit = self._attempt.commit
        if commit is None and self._journal.memory.history:
            commit = bytes.fromhex(self._journal.memory.history[-1].commit)
        try:
            return self._journal.read_log(commit) if commit is not None else ""
        except OSError as error:
            raise _failed("reading the log", error) from error

    async def retry(self) -> None:
        """Forget that revisions failed here, and try the wanted one again."""
        try:
            await self._open()
            await self._attempt.forget_failures()
        except OSError as error:
            raise _failed("retrying", error) from error
        self._changed()

    # --- running -------------------------------------------------------------------------------------------

    async def run(self, wanted: Wanted) -> None:
        """Follow for ever."""
        await self._open_patiently()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._report_changes)
            nursery.start_soon(self._follow, wanted)
            nursery.start_soon(self._apply)

    async def _open(self) -> None:
        """Bring the folder into a usable state, once. Raises OSError."""
        async with self._opening:
            if self._opened:
                return
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            notes = [await self._repository.open(), self._journal.load(self._repository.good)]
            await trio.to_thread.run_sync(self._packs.open)
            for note in filter(None, notes):
                log.warning("%s", note)
            self._following.anchor_keys = frozenset(self._journal.memory.anchor_keys)
            self._opened = True

    async def _open_patiently(self) -> None:
        attempts = 0
        while not self._opened:
            try:
                await self._open()
            except OSError as error:
                self._note_trouble(str(error))
                attempts += 1
                await trio.sleep(_pause_s(attempts))

    async def _follow(self, wanted: Wanted) -> None:
        """Keep the target at what the claims say."""
        value = await wanted.changed()
        attempts = 0
        while True:
            try:
                await self._look(value)
                missing = bool(self._outcome and self._outcome.missing)
                self._note_trouble(None)
            except OSError as error:
                missing = True
                self._note_trouble(str(error))
            attempts = attempts + 1 if missing else 0
            with trio.move_on_after(_pause_s(attempts)):
                value = await wanted.changed()

    async def _look(self, value: SetRollout) -> None:
        self._place = Place(value.node_name, value.tags, self._runtime)
        try:
            self._outcome = await self._following.decide(value, self._look_at)
        finally:
            self._looking = None
            self._changed()
        if isinstance(self._outcome.decision, Follow):
            self._target = self._outcome.decision.commit
        self._attempt.keep_only(self._target)
        await self._attempt.remember_anchor_keys(self._following.anchor_keys)

    def _look_at(self, what: RolloutState) -> None:
        self._looking = what
        self._dirty.set()

    async def _apply(self) -> None:
        """Take the newest target to a result, one after the other."""
        attempts = 0
        while True:
            self._again = trio.Event()
            try:
                await self._attempt.resume()
                target = self._target
                if target is not None and self._attempt.is_open(target):
                    await self._attempt.run(target, self._place)
                attempts = 0
                pause_s = math.inf
            except OSError as error:
                attempts += 1
                self._note_trouble(str(error))
                pause_s = _pause_s(attempts)
            if self._target is not None and attempts == 0 and self._attempt.is_open(self._target):
                continue  # it changed meanwhile
            with trio.move_on_after(pause_s):
                await self._again.wait()

    # --- status --------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        self._dirty.set()
        self._again.set()

    def _note_trouble(self, why: str | None) -> None:
        if why != self._trouble and why is not None:
            log.warning("rollout: %s", why)
        self._trouble = why
        self._dirty.set()

    async def _report_changes(self) -> None:
        while True:
            self._dirty = trio.Event()
            memory = self._journal.memory
            status = (memory.good, self._target, self._state(), memory.bad_commits)
            if status != self._reported:
                if status[2] in _PASSING:
                    with trio.move_on_after(PASSING_S):
                        await self._dirty.wait()
                        continue
                self._reported = status
                await self._report(*status)
            await self._dirty.wait()

    def _state(self) -> RolloutState:
        memory, target = self._journal.memory, self._target
        if self._attempt.state is not None:
            return self._attempt.state
        if self._outcome is not None and isinstance(self._outcome.decision, Held):
            return RolloutState.HELD
        if self._looking is RolloutState.FETCHING:
            return self._looking
        failure = memory.failure_of(target) if target is not None else None
        if failure is not None:
            return RolloutState.ROLLED_BACK if failure.state == "rolled-back" else RolloutState.FAILED
        if target is not None and target != memory.good:
            return RolloutState.BEHIND
        return self._looking or RolloutState.CURRENT

    def _why(self) -> str | None:
        """Why it is not simply current, for people."""
        outcome, target = self._outcome, self._target
        if outcome is not None and isinstance(outcome.decision, Held):
            return outcome.decision.why
        failure = self._journal.memory.failure_of(target) if target is not None else None
        if failure is not None:
            return failure.why
        if self._trouble is not None:
            return self._trouble
        if outcome is not None and outcome.missing:
            return "no reachable member has the commits yet"
        return None


def _failed(what: str, error: OSError) -> Fault:
    """This device's own fault, as the person who asked should see it."""
    return Fault("failed", what, str(error), "see `clanctl status`, then try again")


def _pause_s(attempts: int) -> float:
    """How long to wait after some failures in a row; for ever after none."""
    if attempts == 0:
        return math.inf
    pause: float = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(attempts - 1, 10))
    return pause * (1 + BACKOFF_JITTER * random.random())
