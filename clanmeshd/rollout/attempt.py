"""One revision from a commit to a result: checkout, build, launch, watch, remember."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import trio

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.records import RolloutState
from clanmeshd.core.effects import HeadClaim
from clanmeshd.rollout import steward
from clanmeshd.rollout.activation import (
    DONE,
    FAILED,
    GOOD,
    REQUEST_NAME,
    RESUME_NAME,
    ROLLED_BACK,
    STATE_NAME,
    Activation,
    Revision,
    State,
    activator_lives,
    has_begun,
    read_request,
    read_state,
    request_bytes,
)
from clanmeshd.rollout.build import BuildFailed, Place
from clanmeshd.rollout.drivers import Stores, Workshop
from clanmeshd.rollout.hooks import due, names
from clanmeshd.rollout.journal import CURRENT, Entry, Journal, Memory
from clanmeshd.rollout.journal import FAILED as ENTRY_FAILED
from clanmeshd.rollout.journal import ROLLED_BACK as ENTRY_ROLLED_BACK
from clanmeshd.rollout.repository import GOOD as GOOD_REF
from clanmeshd.rollout.repository import RefChange, Repository
from clanmeshd.rollout.selection import short

WATCH_S: Final = 0.05  # between two looks at the activator's state file: one stat each, only while it works
ALIVE_CHECK_S: Final = 1.0  # between two looks at whether the activator still lives
LAUNCHES_MAX: Final = 3  # of one activation: it dies each time, or cannot be started at all

log = logging.getLogger(__name__)

_STATES: Final = {GOOD: CURRENT, ROLLED_BACK: ENTRY_ROLLED_BACK, FAILED: ENTRY_FAILED}


class Attempt:
    """The one attempt that is under way, if any. All methods raise OSError for this device's faults."""

    def __init__(
        self,
        directory: Path,
        repository: Repository,
        journal: Journal,
        changed: Callable[[], None],
        stores: Stores | None = None,
        hooks: Path | None = None,
    ) -> None:
        self._directory = directory
        self._repository = repository
        self._journal = journal
        self._workshop = Workshop(directory, repository, stores)
        self._changed = changed
        self._hooks = str(hooks) if hooks is not None else ""
        self._building: trio.CancelScope | None = None
        self._saving = trio.Lock()
        self.commit: bytes | None = None  # the newest that was tried in this life of the daemon
        self.state: RolloutState | None = None  # BUILDING or TESTING, while it lasts

    @property
    def _request(self) -> Path:
        return self._directory / REQUEST_NAME

    @property
    def _resumption(self) -> Path:
        return self._directory / RESUME_NAME

    def is_open(self, commit: bytes) -> bool:
        """Say whether this commit is still to be tried: it neither runs nor has failed."""
        memory = self._journal.memory
        return commit != memory.good and memory.failure_of(commit) is None

    async def serve_store(self, place: Place, stream: trio.abc.HalfCloseableStream, client: NodeId) -> None:
        """Give a member this device's store to read, if this is a builder."""
        await self._workshop.serve_store(self._journal.memory.good, place, stream, client)

    def reboot_reasons(self) -> list[str]:
        """What of the running revision is used only after the next start, by name."""
        return self._workshop.reboot_reasons(self._journal.memory.good)

    def keep_only(self, target: bytes | None) -> None:
        """Give a build up that is for another commit than this; with None any."""
        if self._building is not None and self.commit != target:
            self._building.cancel()

    async def run(self, commit: bytes, place: Place, soak_s: int = 0) -> None:
        """Take a commit to a result, to be watched for `soak_s` then. A build that is given up has none."""
        self.commit = commit
        started = time.monotonic()
        try:
            self._enter(RolloutState.BUILDING)
            path = await trio.to_thread.run_sync(self._journal.begin_log, commit)
            with trio.CancelScope() as self._building:
                try:
                    revision = await self._workshop.build(commit, place, path)
                    last_good = await self._workshop.way_back(self._journal.memory.good, revision, place, path)
                    await self._wait_for_hooks()  # for minutes, in which a pause or a fork may come
                except BuildFailed as failure:
                    await self._refuse(commit, str(failure), place, path, started)
                    return
            if self._building.cancelled_caught:
                log.info("%s: given up, as it is not to be run now", short(commit))
                return
            self._building = None
            await self._save(lambda memory: memory.with_soak(commit, soak_s))
            await self._activate(
                Activation(
                    id=os.urandom(8).hex(),
                    revision=revision,
                    last_good=last_good,
                    environment=place.environment(),
                    log=str(path),
                    unit=steward.unit(),
                    hooks=self._hooks,
                ),
                started,
            )
        finally:
            self._building = None
            self._enter(None)

    async def resume(self) -> None:
        """Watch an activation to its end that an earlier life of the daemon had launched."""
        try:
            activation = read_request(self._request)
        except FileNotFoundError:
            return
        except ValueError as error:
            log.warning("%s; it is set aside", error)
            self._request.rename(self._request.with_suffix(".damaged"))
            return
        if activation.id == self._journal.memory.activation:
            await self._finish(activation)
            return
        commit = bytes.fromhex(activation.revision.commit)
        if not has_begun(self._directory, activation):
            log.info("%s: its activation had not begun; whether it may is looked at anew", short(commit))
            self._resumption.unlink(missing_ok=True)
            self._request.unlink()
            return
        self.commit = commit
        log.info("%s: its activation was under way", short(commit))
        try:
            await self._watch(activation, time.monotonic())
        finally:
            self._enter(None)

    # --- activating ----------------------------------------------------------------------------------------

    async def _activate(self, activation: Activation, started: float) -> None:
        self._journal.files.write_atomic(self._resumption, steward.resumption(self._request))
        self._journal.files.write_atomic(self._request, request_bytes(activation))
        await self._watch(activation, started)

    async def _finish(self, activation: Activation) -> None:
        """The result is remembered. An activator that was killed right behind it has not told all hooks."""
        if not self._resumption.exists() or activator_lives(self._directory):
            return
        if self._result(activation) is not None and due(self._directory, activation):
            await steward.launch(self._request)
        else:
            self._resumption.unlink(missing_ok=True)

    async def _refuse(self, commit: bytes, why: str, place: Place, path: Path, started: float) -> None:
        """Remember what could not be built. Where the owner's hooks are to be told, the activator does that."""
        if not names(self._hooks):
            await self._remember(commit, FAILED, why, started, activation="")
            return
        await self._wait_for_hooks()
        await self._activate(
            Activation(
                id=os.urandom(8).hex(),
                revision=Revision(commit.hex(), "/", [], [], 1, 1),
                last_good=None,
                environment=place.environment(),
                log=str(path),
                hooks=self._hooks,
                refused=why,
            ),
            started,
        )

    async def _wait_for_hooks(self) -> None:
        """The activator before this one has given its result, and tells it to others: it is bounded by itself."""
        while activator_lives(self._directory):  # noqa: ASYNC110 - another process holds the lock
            await trio.sleep(WATCH_S)

    async def _watch(self, activation: Activation, started: float) -> None:
        """See an activation through: start the activator when none lives, and read how far it is."""
        self._enter(RolloutState.TESTING)
        launches, failure = 0, "it died each time"
        # Looked at before each reading: a step that is taken between the two is no step that we wait for.
        seen = self._state_identity()
        while (done := self._result(activation)) is None:
            if not activator_lives(self._directory):
                if (done := self._result(activation)) is not None:
                    break  # it wrote the result and ended between our two looks
                if launches == LAUNCHES_MAX:
                    done = State(activation.id, DONE, FAILED, f"the activator does not work: {failure}")
                    break
                launches += 1
                try:
                    await steward.launch(self._request)
                except OSError as error:
                    failure = str(error)
                    log.warning("%s", error)
            await self._wait_for_state(seen)
            seen = self._state_identity()
        commit = bytes.fromhex(activation.revision.commit)
        result, ended_unix_s = done.result or FAILED, done.at_unix_s
        await self._remember(
            commit, result, done.why, started, activation=activation.id, ended_unix_s=ended_unix_s
        )
        await self._finish(activation)

    def _result(self, activation: Activation) -> State | None:
        try:
            state = read_state(self._directory)
        except ValueError as error:
            log.warning("%s", error)
            return None  # the activator writes it anew
        return state if state is not None and state.id == activation.id and state.step == DONE else None

    async def _wait_for_state(self, before: tuple[int, int] | None) -> None:
        """Wait until the activator has taken a step since `before`, or it is time to see whether it lives."""
        with trio.move_on_after(ALIVE_CHECK_S):
            while self._state_identity() == before:  # noqa: ASYNC110 - another process writes the file
                await trio.sleep(WATCH_S)

    def _state_identity(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._directory / STATE_NAME)
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns

    # --- remembering ---------------------------------------------------------------------------------------

    async def _remember(
        self,
        commit: bytes,
        result: str,
        why: str,
        started: float,
        *,
        activation: str,
        ended_unix_s: float = 0.0,  # by the activator, which may have ended long before a daemon reads that
    ) -> None:
        seconds = round(time.monotonic() - started, 3)
        entry = Entry(commit.hex(), _STATES[result], why, ended_unix_s or round(time.time(), 3), seconds)
        level = logging.INFO if result == GOOD else logging.WARNING
        log.log(level, "%s: %s%s in %s s", short(commit), entry.state, f" ({why})" if why else "", seconds)
        await self._save(lambda memory: memory.with_result(entry, activation))
        self._changed()
        if result == GOOD:
            await self._repository.update([RefChange(GOOD_REF, commit)])
        keep = [self._journal.memory.good] if self._journal.memory.good else []
        await self._workshop.keep_only(keep)

    async def forget_failures(self) -> None:
        """Let failed commits be tried again."""
        await self._save(lambda memory: replace(memory, bad=()))

    async def heed_retry(self, author: str, seq: int, commit: bytes) -> None:
        """Let a commit be tried again that failed, once for each time that an admin says so."""
        await self._save(lambda memory: memory.with_retry(author, seq, commit))

    async def end_watch(self) -> None:
        """The running revision was watched for long enough."""
        await self._save(lambda memory: memory.watched())
        self._changed()

    async def remember_anchor_keys(self, keys: frozenset[str]) -> None:
        """Keep what the anchor was verified upon."""
        ordered, anchor = tuple(sorted(keys)), self._repository.main
        named = anchor.hex() if anchor is not None else ""
        await self._save(lambda memory: replace(memory, anchor_keys=ordered, anchor=named))

    async def remember_witnessed(self, claims: Sequence[HeadClaim]) -> None:
        """Keep the signers' words for heads that diverge."""
        await self._save(lambda memory: replace(memory, witnessed=tuple(claims)))

    async def _save(self, change: Callable[[Memory], Memory]) -> None:
        async with self._saving:
            changed = change(self._journal.memory)
            if changed != self._journal.memory:
                await trio.to_thread.run_sync(self._journal.save, changed)

    def _enter(self, state: RolloutState | None) -> None:
        if state is not self.state:
            self.state = state
            self._changed()
