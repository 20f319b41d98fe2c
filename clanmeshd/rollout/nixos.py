"""The driver `nixos`: builds the system that the commit's flake defines for this device.

    nixosConfigurations."<name of this device>".config.system.build.toplevel

It is evaluated to a derivation, and that is built under a root of the garbage collector that bears the commit's
name; so what runs, and what is being tried, is not collected, and what is let go of is. A derivation is remembered
for as long as its build waits for the network. How a system is switched to is in `switching`.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Final
from urllib.parse import quote

import trio

from clanmeshd.process import Finished
from clanmeshd.rollout.activation import NIXOS, Revision
from clanmeshd.rollout.build import BuildFailed, BuildStalled, Work, is_builder, sync
from clanmeshd.rollout.drivers import Stores, revision_of
from clanmeshd.rollout.nix import (
    EVALUATION,
    STORE_PATH,
    Cause,
    cause_of_build,
    cause_of_evaluation,
    complaint,
    failed_derivations,
    planned_builds,
    run_nix,
)
from clanmeshd.rollout.repository import GOOD, MAIN, Repository
from clanmeshd.rollout.selection import short
from clanmeshd.rollout.store import PATHS_MAX, QUERY_TIMEOUT_S, pull, signing_key
from clanmeshd.rollout.toplevel import is_system

FLAKE: Final = "flake.nix"
FLAKE_BYTES_MAX: Final = 1 << 20
ROOT_TIMEOUT_S: Final = 60.0  # a root is a symbolic link
FAILURES_MAX: Final = 8  # builders that failed at once, and are looked at
RUNNING: Final = Path("/run/current-system")
_BEFORE: Final = "before"  # the root of what ran before the first commit


class Nixos:
    """Systems in the store, each kept by a root named like its commit."""

    def __init__(self, home: Path, roots: Path, repository: Repository, stores: Stores | None = None) -> None:
        self._home = home
        self._roots = roots
        self._stores = stores
        self._repository = repository
        self._evaluated: tuple[bytes, str] | None = None

    async def build(self, work: Work) -> Revision:
        """Evaluate and build. Raises BuildFailed, BuildStalled, or OSError for what may be over tomorrow."""
        await trio.to_thread.run_sync(_make, self._home, self._roots)
        if await self._repository.read(f"{work.commit.hex()}:{FLAKE}", FLAKE_BYTES_MAX) is None:
            raise BuildFailed(f"the commit has no {FLAKE}")
        derivation = await self._evaluate(work)
        await self._pull(work, derivation)
        await self._realise(work, derivation)
        await sync(work.checkout)
        revision = await self.recall(work)
        if revision is None:
            raise BuildFailed(f"{derivation} is not that of a NixOS system")
        return revision

    async def recall(self, work: Work) -> Revision | None:
        """The system that the commit's root keeps."""
        system = _system(self._root(work))
        return None if system is None else _revision(work, system)

    async def before(self, work: Work) -> Revision | None:
        """The running system, kept by a root as well: it would be collected as soon as it runs no more."""
        system = _system(RUNNING)
        if system is None:
            return None
        await self._keep(_BEFORE, system)
        return _revision(work, system)._replace(commit="", checkout="/", health=[])

    async def keep_only(self, commits: Collection[bytes]) -> None:
        """Let the collector have all other systems."""
        await trio.to_thread.run_sync(_prune, self._roots, {commit.hex() for commit in commits})

    def _root(self, work: Work) -> Path:
        return self._roots / work.commit.hex()

    async def _keep(self, name: str, system: Path) -> None:
        words = ("nix-store", "--realise", str(system), "--add-root", str(self._roots / name))
        finished = await run_nix(self._home, *words, timeout_s=ROOT_TIMEOUT_S)
        if not finished.ok:
            raise OSError(f"keeping {system}: {complaint(finished)}")

    # --- evaluating --------------------------------------------------------------------------------------

    async def _evaluate(self, work: Work) -> str:
        """The store path of the derivation."""
        known = self._known(work)
        if known is not None:
            return known
        words = ("nix", "eval", "--raw", self._attribute(work), *EVALUATION)
        finished = await run_nix(self._home, *words, timeout_s=work.config.build_timeout_s)
        work.note(f"evaluation of {short(work.commit)} for {work.place.node_name}", finished.stderr)
        if not finished.ok:
            raise _failure("the evaluation", finished, cause_of_evaluation(finished), work)
        derivation = finished.stdout.decode(errors="replace")
        if STORE_PATH.fullmatch(derivation) is None or not derivation.endswith(".drv"):
            raise BuildFailed("the configuration is not a derivation")
        self._evaluated = (work.commit, derivation)
        return derivation

    def _known(self, work: Work) -> str | None:
        """The derivation that was found before, unless it was collected meanwhile."""
        if self._evaluated is None or self._evaluated[0] != work.commit:
            return None
        return self._evaluated[1] if Path(self._evaluated[1]).exists() else None

    def _attribute(self, work: Work) -> str:
        """The flake's output for this device. Nix wants a ref that leads to the commit."""
        ref = GOOD if work.commit == self._repository.good else MAIN
        url = f"git+file://{quote(str(self._repository.path))}?ref={ref}&rev={work.commit.hex()}"
        return f'{url}#nixosConfigurations."{work.place.node_name}".config.system.build.toplevel.drvPath'

    # --- building ----------------------------------------------------------------------------------------

    async def _realise(self, work: Work, derivation: str) -> None:
        timeout_s = work.config.build_timeout_s
        words = ("nix-store", "--realise", derivation, "--add-root", str(self._root(work)))
        bounds = ("--timeout", str(timeout_s))
        finished = await run_nix(self._home, *words, *bounds, *await self._signing(work), timeout_s=timeout_s)
        work.note(f"build of {short(work.commit)} for {work.place.node_name}", finished.stderr)
        if not finished.ok:
            cause = cause_of_build(finished, await self._fetches(failed_derivations(finished)))
            raise _failure("the build", finished, cause, work)

    async def _fetches(self, derivations: Collection[str]) -> set[str]:
        """Those of some derivations whose output is known by its hash."""
        found = set()
        for derivation in list(derivations)[:FAILURES_MAX]:
            words = ("nix-store", "--query", "--binding", "outputHash", derivation)
            if (await run_nix(self._home, *words, timeout_s=QUERY_TIMEOUT_S)).ok:
                found.add(derivation)
        return found

    async def _signing(self, work: Work) -> tuple[str, ...]:
        """What has Nix sign what it builds, on a device whose word others take."""
        if not is_builder(work.config, work.place):
            return ()
        key = await signing_key(self._home, work.place.node_name)
        return ("--option", "extra-secret-key-files", str(key.secret))

    async def _pull(self, work: Work, derivation: str) -> None:
        """Bring what builders have of what would be built here. That nothing came is no failure."""
        if self._stores is None or not work.config.builders:
            return
        paths = await self._missing(derivation)
        if paths:
            timeout_s = work.config.build_timeout_s
            came = await pull(self._home, self._stores, work.config.builders, paths, timeout_s)
            work.note(f"{len(came)} of {len(paths)} store paths that would be built came from other members")

    async def _missing(self, derivation: str) -> list[str]:
        """The outputs of all that would be built."""
        words = ("nix-store", "--realise", "--dry-run", derivation)
        planned = planned_builds(await run_nix(self._home, *words, timeout_s=QUERY_TIMEOUT_S))[:PATHS_MAX]
        if not planned:
            return []
        query = ("nix-store", "--query", "--outputs", *planned)
        told = await run_nix(self._home, *query, timeout_s=QUERY_TIMEOUT_S)
        return sorted({line for line in told.stdout.decode().split() if STORE_PATH.fullmatch(line)})


def _failure(what: str, finished: Finished, cause: Cause, work: Work) -> Exception:
    """What to raise for a run that failed."""
    why = f"{what} failed: {complaint(finished)}"
    if cause is Cause.REVISION:
        return BuildFailed(why)
    if cause is Cause.STALL:
        stalled = f"{what} did not end within {work.config.build_timeout_s} s"
        return BuildStalled(stalled if finished.timed_out else why)
    return OSError(f"{short(work.commit)}: {why}")


def _system(link: Path) -> Path | None:
    """The NixOS system that a link leads to, if it does."""
    if not link.exists():
        return None
    system = link.resolve()
    return system if is_system(system) else None


def _revision(work: Work, system: Path) -> Revision:
    return revision_of(work)._replace(driver=NIXOS, toplevel=str(system))


def _make(*folders: Path) -> None:
    for folder in folders:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _prune(roots: Path, keep: Collection[str]) -> None:
    for root in roots.glob("*"):
        if root.name not in keep:
            root.unlink(missing_ok=True)
