"""What builds a revision and says how it is activated: one driver for each value of `rollout.driver`.

    command  runs the repository's own executables, on any Linux
    nixos    builds the flake's system for this device and lets that switch to itself

The state machine, the activator, health and the way back are the same for all of them.
"""

import logging
import os
import shutil
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, Protocol

import trio

from clanmesh_protocol.control import Fault
from clanmesh_protocol.keys import NodeId
from clanmeshd import process
from clanmeshd.core.effects import Holder
from clanmeshd.files import sync_directory
from clanmeshd.process import Finished
from clanmeshd.rollout.activation import MARKER, NIXOS, Revision
from clanmeshd.rollout.build import (
    BuildFailed,
    BuildStalled,
    Place,
    Work,
    check_out,
    is_builder,
    is_full,
    prune_checkouts,
    read_config,
    sync,
    unfinished,
)
from clanmeshd.rollout.git import one_line
from clanmeshd.rollout.places import Places, Taken
from clanmeshd.rollout.repository import Repository
from clanmeshd.rollout.scripts import end_leftovers
from clanmeshd.rollout.selection import short
from clanmeshd.rollout.toplevel import reboot_reasons

STALLS_MAX: Final = 3  # of one revision: a machine that is busy today gets two more chances

LENT_AT_ONCE_MAX: Final = 4  # readers of this device's store: each is a process and a line's whole width
LENT_EACH_MAX: Final = 2  # to one member: Nix opens the next connection while the one before it ends
BOOTED: Final = Path("/run/booted-system")
ROOTS: Final = "roots"  # of the garbage collector: links to systems, named like their commits

_log = logging.getLogger(__name__)


class Driver(Protocol):
    """How one kind of revision is built. All methods raise OSError for the world's faults."""

    async def build(self, work: Work) -> Revision:
        """Build what is checked out. Raises BuildFailed for what is the revision's fault, BuildStalled."""
        ...

    async def recall(self, work: Work) -> Revision | None:
        """A revision that was built before; None when something of it is gone."""
        ...

    async def before(self, work: Work) -> Revision | None:
        """The machine as it is now, for who goes back from the first revision; None if that cannot be kept."""
        ...

    async def keep_only(self, commits: Collection[bytes]) -> None:
        """Let go of what was kept for all others."""
        ...


class Command:
    """The repository's `build`, a bounded child of the daemon, gone with it."""

    async def build(self, work: Work) -> Revision:
        """Run it in the checkout, if there is one."""
        if work.config.build:
            await self._run(work)
        await sync(work.checkout)
        return revision_of(work)

    async def recall(self, work: Work) -> Revision | None:
        """The checkout is all there is."""
        return revision_of(work)

    async def before(self, work: Work) -> Revision | None:
        """Nobody knows how a machine was before its first commit."""
        return None

    async def keep_only(self, commits: Collection[bytes]) -> None:
        """Nothing is kept beside checkouts."""

    async def _run(self, work: Work) -> None:
        argv, timeout_s = work.config.build, work.config.build_timeout_s
        try:
            finished = await _run_marked(work, argv, timeout_s)
        except OSError as error:
            why = f"{argv[0]} cannot be run: {error.strerror}"
            work.note(f"build: {why}")
            raise BuildFailed(why) from error
        if not finished.ok and is_full(work.checkout):
            raise BuildStalled("build: No space left on device")
        work.note(f"build of {short(work.commit)}", finished.stdout + finished.stderr)
        if finished.timed_out:
            raise BuildFailed(f"build did not end within {timeout_s} s")
        if finished.returncode < 0:
            raise BuildStalled(f"build was killed by signal {-finished.returncode}")
        if not finished.ok:
            raise BuildFailed(f"build exited with {finished.returncode}: {one_line(finished.complaint)}")


async def _run_marked(work: Work, argv: Sequence[str], timeout_s: int) -> Finished:
    """Run a build; what it put into sessions of its own ends with it when it fails, hangs or is given up."""
    mark = f"build-{os.urandom(8).hex()}"  # another clan's daemon may build the same commit here
    own = {"CLAN_COMMIT": work.commit.hex(), "CLAN_PHASE": "build", MARKER: mark}
    finished = None
    try:
        finished = await process.run(
            argv, env=work.place.environment() | own, cwd=work.checkout, timeout_s=timeout_s
        )
    finally:
        if finished is None or not finished.ok:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(end_leftovers, mark)
    return finished


def revision_of(work: Work) -> Revision:
    """A built checkout as the activator wants it."""
    config = work.config
    return Revision(
        commit=work.commit.hex(),
        checkout=str(work.checkout),
        activate=list(config.activate),
        health=list(config.health),
        health_timeout_s=config.health_timeout_s,
        activate_timeout_s=config.activate_timeout_s,
        health_units=config.health_units,
        settle_s=config.settle_s,
    )


class Stores(Protocol):
    """The Nix stores of other members."""

    def near(self, labels: Sequence[str]) -> Sequence[Holder]:
        """The members that are up and bear one of these names or tags, nearest first."""
        ...

    def open(self, builder: Holder) -> AbstractAsyncContextManager[trio.abc.HalfCloseableStream]:
        """A stream to a member's `serve_store`. Raises OSError, ProtocolError."""
        ...


class Workshop:
    """Where revisions are built and kept. All methods raise OSError for this device's faults."""

    def __init__(self, directory: Path, repository: Repository, stores: Stores | None = None) -> None:
        self._directory = directory
        self._stores = stores
        self._lending = trio.CapacityLimiter(LENT_AT_ONCE_MAX)
        self._borrowers = Places(LENT_EACH_MAX)
        self._checkouts = directory / "checkouts"
        self._repository = repository
        self._drivers: dict[str, Driver] = {}
        self._stalls: tuple[bytes, int] = (b"", 0)  # of the newest commit that was built: how many

    async def build(self, commit: bytes, place: Place, log: Path) -> Revision:
        """Check a commit out and build it. Raises BuildFailed for what is the revision's fault, BuildStalled."""
        try:
            work = await self._work(commit, place, log)
        except Fault as fault:
            raise BuildFailed(str(fault)) from fault
        try:
            return await self._build_anew(work)
        except BuildStalled as stall:
            self._stalls = (commit, self._stalls[1] + 1 if self._stalls[0] == commit else 1)
            work.note(str(stall))
            if self._stalls[1] >= STALLS_MAX:
                raise BuildFailed(f"{stall}, {STALLS_MAX} times") from stall
            raise

    async def _build_anew(self, work: Work) -> Revision:
        """Check out and build. What fails leaves nothing: a disk that is full of it has no room for the reason."""
        try:
            async with self._repository.asking():
                await check_out(self._repository, work.commit, work.checkout)
            return await self._driver(work).build(work)
        except BaseException:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(lambda: shutil.rmtree(work.checkout, ignore_errors=True))
            raise

    async def way_back(self, good: bytes | None, new: Revision, place: Place, log: Path) -> Revision | None:
        """What to go back to from `new`: the good revision, built again should something of it be gone.

        A system that switches as a whole is gone back from as a whole, whatever the commit before it did. Without
        a good revision that can be had, it is the machine as it is now, if the driver can keep that.
        """
        if good is not None:
            try:
                work = await self._work(good, place, log)
                if new.driver != NIXOS or work.config.driver == NIXOS:
                    return await self._recall(work)
            except (BuildFailed, Fault) as error:
                _log.warning("%s, the running revision, cannot be gone back to: %s", short(good), error)
        work = await self._work(bytes.fromhex(new.commit), place, log)
        return await self._driver(work).before(work)

    async def _recall(self, work: Work) -> Revision:
        mark = unfinished(work.checkout)
        is_whole = work.checkout.is_dir() and not mark.exists()
        recalled = await self._driver(work).recall(work) if is_whole else None
        if recalled is not None:
            return recalled
        _log.warning("%s: the running revision is not there any more; building it again", work.checkout)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        sync_directory(mark.parent)
        built = await self.build(work.commit, work.place, work.log)
        mark.unlink()
        return built

    async def keep_only(self, commits: Collection[bytes]) -> None:
        """Let go of what is kept for all other commits."""
        await trio.to_thread.run_sync(prune_checkouts, self._checkouts, commits)
        for driver in self._drivers.values():
            await driver.keep_only(commits)

    def reboot_reasons(self, good: bytes | None) -> list[str]:
        """What of the running revision is used only after the next start, by name."""
        root = self._directory / ROOTS / good.hex() if good is not None else None
        return reboot_reasons(BOOTED, root) if root is not None and root.exists() else []

    async def serve_store(
        self, good: bytes | None, place: Place, stream: trio.abc.HalfCloseableStream, client: NodeId
    ) -> None:
        """Give a member this device's store to read, if the commit that runs here names it as a builder."""
        from clanmeshd.rollout.store import serve_store, signing_key

        try:
            config = await read_config(self._repository, good) if good is not None else None
            if config is not None and config.driver == NIXOS and is_builder(config, place):
                await trio.to_thread.run_sync(lambda: self._nix.mkdir(mode=0o700, parents=True, exist_ok=True))
                with self._borrowers.take(client):
                    async with self._lending:
                        await serve_store(self._nix, await signing_key(self._nix, place.node_name), stream)
        except Taken:
            return  # to the borrower it is no builder, for as long as it reads elsewhere
        except (Fault, OSError) as error:
            _log.info("the store could not be lent to another member: %s", error)

    @property
    def _nix(self) -> Path:
        return self._directory / "nix"

    async def _work(self, commit: bytes, place: Place, log: Path) -> Work:
        config = await read_config(self._repository, commit)
        return Work(commit, config, self._checkouts / commit.hex(), place, log)

    def _driver(self, work: Work) -> Driver:
        name = work.config.driver
        if name not in self._drivers:
            self._drivers[name] = self._make(name)
        return self._drivers[name]

    def _make(self, name: str) -> Driver:
        if name == NIXOS:
            from clanmeshd.rollout.nixos import Nixos  # most devices never need it

            return Nixos(self._nix, self._directory / ROOTS, self._repository, self._stores)
        return Command()
