"""A clean checkout of one revision: what every driver begins with.

A checkout is made where it stays, since what a build writes may hold its own path. It has no `.git`: nothing in it
leads back to the repository.
"""

import os
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from clanmesh_protocol.control import Fault
from clanmeshd import process
from clanmeshd.rollout.config import FILE_BYTES_MAX, FILE_NAME, RolloutConfig, parse_config_untrusted
from clanmeshd.rollout.git import GitFailed, run_git
from clanmeshd.rollout.objects import NotAFile, Objects, TooMany
from clanmeshd.rollout.selection import short
from clanmeshd.rollout.tree import Entry, lay_out, sync_few

CHECKOUT_TIMEOUT_S: Final = 300.0
SYNC_TIMEOUT_S: Final = 120.0
ROOM_BYTES_MIN: Final = 1 << 20  # a disk with less is full, whatever a checkout that failed has given back
_TOO_LONG: Final = b"File name too long"
_PASSED_ON: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")


class BuildFailed(Exception):
    """This revision cannot be built: the same again tomorrow, so it is not tried again by itself."""


class BuildStalled(OSError):
    """A build that took too long, or was killed: it may be the machine or the revision, so it has a few tries."""


@dataclass(frozen=True, slots=True)
class Place:
    """What this device is called; part of every script's environment."""

    node_name: str
    tags: tuple[str, ...]
    runtime: Path

    def environment(self) -> dict[str, str]:
        """The whole environment of the repository's executables, less what differs by revision and phase."""
        passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        return {
            "PATH": os.defpath,
            "HOME": "/",
            **passed,
            "CLAN_NODE": self.node_name,
            "CLAN_TAGS": " ".join(self.tags),
            "CLAN_RUNTIME_DIR": str(self.runtime),
        }


async def read_config(objects: Objects, commit: bytes) -> RolloutConfig:
    """The rollout's settings in a commit. Raises Fault when they cannot be used."""
    name = f"{commit.hex()}:{FILE_NAME}"
    return parse_config_untrusted(await objects.read(name, FILE_BYTES_MAX))


async def check_tree(objects: Objects, commit: bytes) -> None:
    """See that a commit can be laid out as it is. Raises Fault."""
    try:
        await objects.check_tree(commit)
    except TooMany as error:
        remedy = "keep images and archives out of the configuration's repository"
        raise Fault("refused", f"commit {short(commit)} is too large", str(error), remedy) from error
    except NotAFile as error:
        remedy = "put the files themselves into the repository (`git subtree` brings another one's)"
        raise Fault("refused", f"commit {short(commit)}", str(error), remedy) from error


def is_builder(config: RolloutConfig, place: Place) -> bool:
    """Say whether a commit names this device among those that build for others."""
    return bool({place.node_name, *place.tags} & set(config.builders))


@dataclass(frozen=True, slots=True)
class Work:
    """One revision to build, and where."""

    commit: bytes
    config: RolloutConfig
    checkout: Path
    place: Place
    log: Path

    def note(self, text: str, output: bytes = b"") -> None:
        """Add to the log what is done, or what was said."""
        with open(self.log, "ab") as file:
            file.write(f"--- {text}\n".encode() + output)


async def check_out(objects: Objects, commit: bytes, checkout: Path) -> None:
    """Check a commit out into `checkout`, which is emptied first. Raises BuildFailed for one that is not whole."""
    try:
        await check_tree(objects, commit)
    except Fault as error:
        raise BuildFailed(str(error)) from error
    files = await objects.few_files(commit)
    if files is not None:
        objects.forget_few()
        await trio.to_thread.run_sync(_lay_out_anew, files, checkout)
        return
    await trio.to_thread.run_sync(_empty, checkout)
    index = checkout.with_name(f".{checkout.name}.index")
    try:
        finished = await run_git(
            objects.path,
            *(f"--work-tree={checkout}", "checkout", "--quiet", "--force", commit.hex(), "--", "."),
            extra={"GIT_INDEX_FILE": str(index)},
            timeout_s=CHECKOUT_TIMEOUT_S,
        )
        if not finished.ok:
            failed = GitFailed(f"checkout of {short(commit)}", finished)
            if _TOO_LONG in finished.stderr:
                raise BuildFailed(str(failed))  # as it would be tomorrow
            if is_full(checkout):
                raise OSError(f"{checkout}: No space left on device") from failed  # git does not say that
            raise failed
    finally:
        index.unlink(missing_ok=True)


def is_full(directory: Path) -> bool:
    """Say whether the disk of a directory has no room for more."""
    space = os.statvfs(directory)
    return space.f_bavail * space.f_frsize < ROOM_BYTES_MIN or (space.f_files > 0 and space.f_favail == 0)


def _lay_out_anew(files: Sequence[Entry], checkout: Path) -> None:
    _empty(checkout)
    lay_out(files, checkout)


def _empty(checkout: Path) -> None:
    if checkout.exists():
        shutil.rmtree(checkout)
    checkout.mkdir(mode=0o755, parents=True)


async def sync(checkout: Path) -> None:
    """A checkout may be what a power cut finds as the last good one: all of it must be on the disk."""
    if await sync_few(checkout):
        return
    finished = await process.run(["sync", "-f", checkout], timeout_s=SYNC_TIMEOUT_S)
    if not finished.ok:
        raise OSError(f"sync of {checkout}: {finished.complaint}")


def unfinished(checkout: Path) -> Path:
    """The mark beside a checkout that is the way back and was lost: it lies there until that is whole again."""
    return checkout.with_name(f".{checkout.name}.unfinished")


def prune_checkouts(directory: Path, keep: Collection[bytes]) -> None:
    """Remove the checkouts of all other commits. Raises OSError."""
    kept = [directory / commit.hex() for commit in keep]
    names = {path.name for checkout in kept for path in (checkout, unfinished(checkout))}
    if not directory.is_dir():
        return
    for path in directory.iterdir():
        if path.name not in names:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
