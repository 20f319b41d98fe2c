"""The rollout of one device: follow the verified head, build it, have it activated, remember how it went.

Three tasks. One heeds what admins order and others show; one turns the core's claims into a target (`following`);
the last takes the newest target to a result when it is this device's turn (`turn`). A build that a newer target, a
pause or the word of a ring has made pointless is given up. An activation is never interrupted: it is not ours any
more once it is launched.

- A commit that failed is remembered over restarts and not tried again until `retry`.
- A commit that runs is not activated again.
- An activation that was under way when the daemon died is watched to its end by the next one.
- A device of a ring watches a commit for a while before it calls it current; a restart begins that time anew.
- Only two checkouts stay: the running one, which is the way back, and the one being tried.
"""

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, Protocol

import trio

from clanmesh_protocol.control import Fault
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.records import RolloutState
from clanmeshd.core.effects import SetRollout
from clanmeshd.files import Files, RealFiles
from clanmeshd.rollout.attempt import Attempt
from clanmeshd.rollout.build import Place
from clanmeshd.rollout.drivers import Stores
from clanmeshd.rollout.fetching import Sources
from clanmeshd.rollout.following import Following, Outcome
from clanmeshd.rollout.journal import Journal
from clanmeshd.rollout.offers import Offers
from clanmeshd.rollout.packs import Packs
from clanmeshd.rollout.patience import pause_s
from clanmeshd.rollout.receiving import Progress, Push, receive_push
from clanmeshd.rollout.repository import Repository
from clanmeshd.rollout.rings import Go
from clanmeshd.rollout.selection import Follow, Held
from clanmeshd.rollout.standing import Facts, Tips, fork_news, state_of, view, why
from clanmeshd.rollout.telling import Report, Telling, Told
from clanmeshd.rollout.turn import Turn

PUSHES_AT_ONCE_MAX: Final = 2  # each may take the disk space of a whole quarantine

_COMPLAINTS: Final = frozenset({RolloutState.HELD, RolloutState.ROLLED_BACK, RolloutState.FAILED})

log = logging.getLogger(__name__)

Tell = Callable[[str, str], None]  # a kind of event, what happened


class Wanted(Protocol):
    """The slot that the core's newest wanted state is taken from."""

    async def changed(self) -> SetRollout:
        """Wait for a value that was not taken yet, and take it."""
        ...


class Rollout:
    """The one door of this room.

    `sources` leads to others' `offers`, `stores` to their `serve_store`; `hooks` is a directory (see `hooks.py`).
    `report` is told (running commit, wanted commit, state, failed commits with the newest last) when one of them
    changes; `tell`, of forks.
    """

    def __init__(
        self,
        directory: Path,
        runtime: Path,
        *,
        sources: Sources,
        report: Report,
        tell: Tell = lambda kind, text: None,
        files: Files | None = None,
        stores: Stores | None = None,
        hooks: Path | None = None,
    ) -> None:
        self._directory = directory
        self._runtime = runtime
        self._tell = tell
        self._telling = Telling(self._told, report, self._others)
        self._repository = Repository(directory)
        self._journal = Journal(directory, files or RealFiles())
        self._packs = Packs(self._repository, directory / "packs")
        self._following = Following(self._repository, sources, self._packs)
        self._attempt = Attempt(directory, self._repository, self._journal, self._changed, stores, hooks)
        self._turn = Turn(self._repository, self._journal, self._attempt)
        self._opening = trio.Lock()
        self._opened = False
        self.offers = Offers(self._repository, self._packs, self._open, self._note_trouble)
        self._pushing = trio.CapacityLimiter(PUSHES_AT_ONCE_MAX)
        self._target: bytes | None = None
        self._claims: SetRollout | None = None  # the newest
        self._claimed = trio.Event()  # something else is claimed
        self._outcome: Outcome | None = None
        self._looking: RolloutState | None = None  # FETCHING or VERIFYING, while it lasts
        self._trouble: str | None = None  # of this device: a full disk, no git
        self._again = trio.Event()  # the target or what is known of it has changed

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

    async def serve_store(self, stream: trio.abc.HalfCloseableStream, client: NodeId) -> None:
        """Give one member this device's store to read, if this is a builder."""
        if self._opened and self._claims is not None:
            await self._attempt.serve_store(self._place(self._claims), stream, client)

    def view(self) -> dict[str, Any]:
        """The result of `rollout-status`."""
        shown = view(self._facts, self.fork, self._outcome.refused if self._outcome else ())
        return {**shown, "reboot": self._attempt.reboot_reasons()}

    def history(self) -> list[dict[str, Any]]:
        """What was tried here, oldest first."""
        return [asdict(entry) for entry in self._journal.memory.history]

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

    @property
    def target(self) -> bytes | None:
        """The commit to run, whether or not it is this device's turn."""
        return self._target

    @property
    def fork(self) -> Tips:
        """The heads that diverge, sorted, each with its signer; nothing when none do."""
        held = self._held
        return tuple(zip(held.tips, held.signers, strict=True)) if held is not None and held.is_fork else ()

    @property
    def complaint(self) -> str | None:
        """Why what is wanted is not run here, when a person has to look into it; for a fork see `fork`."""
        state = state_of(self._facts)
        on_purpose = state is RolloutState.HELD and (self.fork or self._turn.is_paused)
        return why(self._facts) if state in _COMPLAINTS and not on_purpose else None

    def _place(self, value: SetRollout) -> Place:
        return Place(value.node_name, value.tags, self._runtime)

    # --- running -------------------------------------------------------------------------------------------

    async def run(self, wanted: Wanted) -> None:
        """Follow for ever."""
        await self._open_patiently()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._telling.run)
            nursery.start_soon(self._listen, wanted)
            nursery.start_soon(self._follow)
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
            self._following.anchor_keys = self._journal.memory.keys_of(self._repository.main)
            self._following.claims.witnessed = self._journal.memory.witnessed
            self._opened = True

    async def _open_patiently(self) -> None:
        attempts = 0
        while not self._opened:
            try:
                await self._open()
            except OSError as error:
                self._note_trouble(str(error))
                attempts += 1
                await trio.sleep(pause_s(attempts))

    async def _listen(self, wanted: Wanted) -> None:
        """Heed what is ordered and shown at once, however long it takes to fetch what is claimed.

        What others show changes with each step that one of them takes: to look at all claims each time would keep
        devices busy with each other.
        """
        while True:
            value = await wanted.changed()
            lacks = not self._outcome or bool(self._outcome.missing)
            if self._claims is None or _claims_of(value, lacks) != _claims_of(self._claims, lacks):
                self._claimed.set()
            self._claims = value
            try:
                await self._turn.heed(value)
                await self._judge()
            except OSError as error:
                self._note_trouble(str(error))
            self._changed()

    async def _follow(self) -> None:
        """Keep the target at what the claims say."""
        attempts = 0
        while True:
            self._claimed = trio.Event()
            if self._claims is not None:
                attempts = 0 if await self._look_patiently(self._claims) else attempts + 1
            with trio.move_on_after(pause_s(attempts)):
                await self._claimed.wait()

    async def _look_patiently(self, value: SetRollout) -> bool:
        """Look at the claims; say whether all of them are here."""
        try:
            await self._look(value)
        except OSError as error:
            self._note_trouble(str(error))
            return False
        self._note_trouble(None)
        return not (self._outcome and self._outcome.missing)

    async def _look(self, value: SetRollout) -> None:
        held = self._held
        try:
            self._outcome = await self._following.decide(value, self._look_at)
        finally:
            self._looking = None
            self._changed()
        if isinstance(self._outcome.decision, Follow):
            self._target = self._outcome.decision.commit
        for kind, text in fork_news(held, self._held):
            self._tell(kind, text)
        await self._judge()
        self._changed()
        await self._attempt.remember_anchor_keys(self._following.anchor_keys)
        await self._attempt.remember_witnessed(self._following.claims.witnessed)

    def _look_at(self, what: RolloutState) -> None:
        self._looking = what
        self._telling.changed()

    # --- whose turn it is ----------------------------------------------------------------------------------

    @property
    def _held(self) -> Held | None:
        """Why no head can be followed."""
        decision = self._outcome.decision if self._outcome is not None else None
        return decision if isinstance(decision, Held) else None

    async def _judge(self) -> None:
        if self._target is not None:
            await self._turn.read_rings(self._target)
        # From here on nothing is waited for: a decision is made of what is known at one moment.
        self._turn.judge(self._target, self._held.why if self._held is not None else None)
        self._telling.changed()

    async def _apply(self) -> None:
        """Take the newest target to a result, one after the other."""
        attempts = 0
        while True:
            self._again = trio.Event()
            try:
                await self._attempt.resume()
                await self._judge()
                await self._try_target()
                attempts = 0
                wait_s = await self._turn.watch()
            except OSError as error:
                attempts += 1
                self._note_trouble(str(error))
                wait_s = pause_s(attempts)
            if attempts == 0 and self._is_due():
                continue  # it changed meanwhile
            with trio.move_on_after(wait_s):
                await self._again.wait()

    def _is_due(self) -> bool:
        """Whether the target is to be tried now."""
        target = self._target
        return target is not None and isinstance(self._turn.verdict(target), Go) and self._attempt.is_open(target)

    async def _try_target(self) -> None:
        target, value = self._target, self._turn.wanted
        if target is None or value is None or not self._is_due():
            return
        verdict = self._turn.verdict(target)
        soak_s = verdict.soak_s if isinstance(verdict, Go) else 0
        await self._attempt.run(target, self._place(value), soak_s)
        await self._judge()  # the rings are now those of another revision

    # --- status --------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        self._telling.changed()
        self._again.set()

    def _note_trouble(self, why: str | None) -> None:
        if why != self._trouble and why is not None:
            log.warning("rollout: %s", why)
        self._trouble = why
        self._telling.changed()

    def _others(self) -> int:
        """How many devices run the same commits and do not wait for this one's word."""
        return len(self._claims.holders) if self._claims is not None and not self._turn.has_rings else 0

    def _told(self) -> Told:
        memory = self._journal.memory
        return memory.good, self._target, state_of(self._facts), memory.bad_commits

    @property
    def _facts(self) -> Facts:
        return Facts(
            target=self._target,
            memory=self._journal.memory,
            attempt=self._attempt.state,
            looking=self._looking,
            held=self._held.why if self._held is not None else None,
            gate=self._turn.verdict(self._target),
            missing=bool(self._outcome and self._outcome.missing),
            trouble=self._trouble,
        )


def _claims_of(value: SetRollout, lacks: bool) -> SetRollout:
    """What has to be looked at anew when it changes: who has commits only as long as some are lacking here."""
    value = replace(value, node_name="", tags=(), orders=(), trials=())
    return value if lacks else replace(value, holders=(), relays=())


def _failed(what: str, error: OSError) -> Fault:
    """This device's own fault, as the person who asked should see it."""
    return Fault("failed", what, str(error), "see `clanctl status`, then try again")
