"""A clean checkout of one revision, and its build: a bounded child of the daemon, gone with it.

A checkout is made where it stays, since what a build writes may hold its own path. It has no `.git`: nothing in it
leads back to the repository.
"""

import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from clanmesh_protocol.control import Fault
from clanmeshd import process
from clanmeshd.rollout.activation import Revision
from clanmeshd.rollout.config import FILE_BYTES_MAX, FILE_NAME, RolloutConfig, parse_config_untrusted
from clanmeshd.rollout.git import GitFailed, one_line, run_git
from clanmeshd.rollout.objects import NotAFile, Objects, TooMany
from clanmeshd.rollout.selection import short
from clanmeshd.rollout.tree import lay_out, sync_few

CHECKOUT_TIMEOUT_S: Final = 300.0
SYNC_TIMEOUT_S: Final = 120.0
_PASSED_ON: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")


class BuildFailed(Exception):
    """This revision cannot be built: the same again tomorrow, so it is not tried again by itself."""


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


async def check_content(objects: Objects, commit: bytes) -> RolloutConfig:
    """Give a commit's settings, if it can be laid out as it is. Raises Fault."""
    config = await read_config(objects, commit)
    try:
        await objects.check_tree(commit)
    except TooMany as error:
        remedy = "keep images and archives out of the configuration's repository"
        raise Fault("refused", f"commit {short(commit)} is too large", str(error), remedy) from error
    except NotAFile as error:
        remedy = "put the files themselves into the repository (`git subtree` brings another one's)"
        raise Fault("refused", f"commit {short(commit)}", str(error), remedy) from error
    return config


async def build(objects: Objects, commit: bytes, checkout: Path, place: Place, log: Path) -> Revision:
    """Check a commit out into `checkout`, which is emptied first, and build it.

    Raises BuildFailed for what is the revision's fault, OSError for the world's.
    """
    async with objects.asking():
        try:
            config = await check_content(objects, commit)
        except Fault as error:
            raise BuildFailed(str(error)) from error
        await _check_out(objects, commit, checkout)
    if config.build:
        await _run_build(config, commit, checkout, place, log)
    await _sync(checkout)
    return revision_of(config, commit, checkout)


def revision_of(config: RolloutConfig, commit: bytes, checkout: Path) -> Revision:
    """A built checkout as the activator wants it."""
    return Revision(
        commit=commit.hex(),
        checkout=str(checkout),
        activate=list(config.activate),
        health=list(config.health),
        health_timeout_s=config.health_timeout_s,
        activate_timeout_s=config.activate_timeout_s,
    )


async def _check_out(objects: Objects, commit: bytes, checkout: Path) -> None:
    await trio.to_thread.run_sync(_empty, checkout)
    files = await objects.few_files(commit)
    if files is not None:
        objects.forget_few()
        await lay_out(files, checkout)
        return
    index = checkout.with_name(f".{checkout.name}.index")
    try:
        finished = await run_git(
            objects.path,
            *(f"--work-tree={checkout}", "checkout", "--quiet", "--force", commit.hex(), "--", "."),
            extra={"GIT_INDEX_FILE": str(index)},
            timeout_s=CHECKOUT_TIMEOUT_S,
        )
        if not finished.ok:
            raise GitFailed(f"checkout of {short(commit)}", finished)
    finally:
        index.unlink(missing_ok=True)


def _empty(checkout: Path) -> None:
    if checkout.exists():
        shutil.rmtree(checkout)
    checkout.mkdir(mode=0o755, parents=True)


async def _run_build(config: RolloutConfig, commit: bytes, checkout: Path, place: Place, log: Path) -> None:
    environment = place.environment() | {"CLAN_COMMIT": commit.hex(), "CLAN_PHASE": "build"}
    try:
        finished = await process.run(config.build, env=environment, cwd=checkout, timeout_s=config.build_timeout_s)
    except OSError as error:
        why = f"{config.build[0]} cannot be run: {error.strerror}"
        _append(log, f"--- build: {why}\n".encode())
        raise BuildFailed(why) from error
    _append(log, f"--- build of {short(commit)}\n".encode() + finished.stdout + finished.stderr)
    if finished.timed_out:
        raise BuildFailed(f"build did not end within {config.build_timeout_s} s")
    if not finished.ok:
        raise BuildFailed(f"build exited with {finished.returncode}: {one_line(finished.complaint)}")


def _append(log: Path, data: bytes) -> None:
    with open(log, "ab") as file:
        file.write(data)


async def _sync(checkout: Path) -> None:
    """A checkout may be what a power cut finds as the last good one: all of it must be on the disk."""
    if await sync_few(checkout):
        return
    finished = await process.run(["sync", "-f", checkout], timeout_s=SYNC_TIMEOUT_S)
    if not finished.ok:
        raise OSError(f"sync of {checkout}: {finished.complaint}")


def prune_checkouts(directory: Path, keep: Collection[bytes]) -> None:
    """Remove the checkouts of all other commits. Raises OSError."""
    names = {commit.hex() for commit in keep}
    if not directory.is_dir():
        return
    for path in directory.iterdir():
        if path.name not in names:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
