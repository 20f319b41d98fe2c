"""An upstream that a clan watches: a repository elsewhere, where a signer left a signed head for the clan.

A forge can move a branch to any signed commit, so a branch says nothing here: beside it lies `refs/clanmesh/head`,
a text with the statement and the signature of a push to the clan. What is found is pushed to this device as its
own user would push it, and counts by the same rules.

Any one member is enough. The first of those that are up looks often, the others in case that it cannot.
"""

import logging
import random
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from clanmesh_protocol.control import Fault
from clanmesh_protocol.heads import OFFERED, head_statement
from clanmesh_protocol.keys import ClanId
from clanmeshd import process
from clanmeshd.rollout.following import REF
from clanmeshd.rollout.git import HASH_BYTES, bounded, complaint, environment, run_git
from clanmeshd.rollout.objects import Objects
from clanmeshd.rollout.repository import PACK_BYTES_MAX
from clanmeshd.rollout.selection import short

PROTOCOLS: Final = "https:ssh:file"
BRANCH: Final = f"refs/heads/{REF}"
LOOK_S: Final = 60.0  # between two looks of the first member
LOOK_S_MAX: Final = 3600.0  # of anybody
LOOK_AGAIN_S: Final = 3600.0  # at a head that was not taken
STEP: Final = 4.0  # times LOOK_S for each member before this one
JITTER: Final = 0.25
LOOK_TIMEOUT_S: Final = 30.0  # of asking where the refs are
FETCH_TIMEOUT_S: Final = 600.0
TEXT_BYTES_MAX: Final = 16_384  # of the signed head
_ARMOR: Final = "-----BEGIN SSH SIGNATURE-----\n"
_SSH: Final = "ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=10"
_FOUND: Final = "refs/clanmesh/found"  # what a bundle is made of, and nothing else of the branch
_CHUNK_BYTES: Final = 1 << 20

log = logging.getLogger(__name__)

Take = Callable[["SignedHead", AsyncIterator[bytes]], Awaitable[None]]  # raises Fault


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A head statement that was left at the upstream, not checked yet."""

    old: bytes | None
    new: bytes
    signature: bytes


def read_head_untrusted(text: str, clan: ClanId) -> SignedHead:
    """Read the text under `refs/clanmesh/head`. Raises ValueError when it is not one for this clan."""
    statement, armor, rest = text.partition(_ARMOR)
    words = dict(line.split(" ", 1) for line in statement.splitlines() if " " in line)
    try:
        old = bytes.fromhex(words["old"]) if words["old"] != "0" else None
        new = bytes.fromhex(words["new"])
    except (KeyError, ValueError) as error:
        raise ValueError("no signed head") from error
    if len(new) != HASH_BYTES or head_statement(clan, REF, old, new).decode() != statement:
        raise ValueError("a head for something else than this clan's main")
    return SignedHead(old, new, (armor + rest).encode())


def pause_s(rank: int) -> float:
    """How long the member with so many before it waits between two looks."""
    bounded = min(LOOK_S_MAX, LOOK_S * (1 + STEP * rank))
    return bounded * (1 + JITTER * random.random())


class Upstream:
    """Looks at an upstream. What comes from there lies apart, where nothing is served and nothing is believed."""

    def __init__(self, directory: Path, take: Take) -> None:
        self._path = directory / "upstream.git"
        self._take = take
        self._refused: bytes = b""  # the head that was looked at last
        self._again_s = 0.0  # when that one is worth another look

    async def look(self, url: str, clan: ClanId, head: bytes | None) -> bool:
        """Take a head that is new; give whether there was one. Raises Fault, ValueError, OSError with a reason."""
        blob = await self._ask(url)
        if not blob or (blob == self._refused and trio.current_time() < self._again_s):
            return False
        await self._fetch(url)
        # Another look finds the same, until there are other signers, or this device has caught up.
        self._refused, self._again_s = blob, trio.current_time() + LOOK_AGAIN_S
        found = await run_git(self._path, "cat-file", "blob", OFFERED, output_bytes_max=TEXT_BYTES_MAX)
        if not found.ok:
            raise OSError(f"{OFFERED} is no text: {complaint(found)}")
        signed = read_head_untrusted(found.stdout.decode(errors="replace"), clan)
        if signed.new == head:
            return False
        try:
            async with aclosing(self._bundle(signed.new, head)) as bundle:
                await self._take(signed, bundle)
        except (Fault, OSError) as error:
            if not isinstance(error, Fault) or error.kind != "refused":
                self._again_s = 0.0  # it was this device's own fault
            raise
        log.info("took %s from the upstream", short(signed.new))
        return True

    async def _ask(self, url: str) -> bytes:
        """Where the signed head is now; empty when there is none."""
        words = ("ls-remote", "--quiet", "--", url, OFFERED)
        finished = await self._run(*words, timeout_s=LOOK_TIMEOUT_S)
        return finished.split(b"\t")[0].strip()

    async def _fetch(self, url: str) -> None:
        await trio.to_thread.run_sync(self._make_room)
        if not (self._path / "objects").is_dir():
            made = await run_git(self._path, "init", "--quiet", "--bare", "--template=", "--initial-branch=main")
            if not made.ok:
                raise OSError(f"{self._path}: {complaint(made)}")
        try:
            await self._run(
                *("fetch", "--quiet", "--no-tags", "--prune", "--no-write-fetch-head", "--no-recurse-submodules"),
                *("--no-auto-maintenance", "--", url, f"+{BRANCH}:{BRANCH}", f"+{OFFERED}:{OFFERED}"),
                timeout_s=FETCH_TIMEOUT_S,
            )
        except OSError:
            await trio.to_thread.run_sync(lambda: shutil.rmtree(self._path, ignore_errors=True))
            raise

    def _make_room(self) -> None:
        """Begin anew when much has come: an upstream can leave something else there each time."""
        if sum(path.stat().st_size for path in self._path.glob("objects/pack/*")) > PACK_BYTES_MAX:
            shutil.rmtree(self._path)

    async def _run(self, *words: str, timeout_s: float) -> bytes:
        """Run git on the network, bounded in what it may hold and write."""
        variables = environment(protocols=PROTOCOLS) | {"GIT_SSH_COMMAND": _SSH}
        command = ["git", f"--git-dir={self._path}", *words]
        finished = await process.run(
            bounded(command, file_bytes_max=PACK_BYTES_MAX), env=variables, timeout_s=timeout_s
        )
        if not finished.ok:
            raise OSError("the upstream took too long" if finished.timed_out else complaint(finished))
        return finished.stdout

    async def _bundle(self, commit: bytes, head: bytes | None) -> AsyncGenerator[bytes, None]:
        """What leads from the head to a commit, as a push has it."""
        path = self._path / "bundle"
        objects = Objects(self._path)
        known = await objects.commits_here([commit, *([head] if head is not None else [])])
        if commit not in known:
            raise ValueError(f"the upstream's branch does not have {short(commit)}")
        if head is not None and head in known and await objects.descends(head, commit):
            raise ValueError(f"{short(commit)} was the head before this one")
        (self._path / _FOUND).parent.mkdir(parents=True, exist_ok=True)
        (self._path / _FOUND).write_text(f"{commit.hex()}\n")
        excluded = [f"^{each.hex()}" for each in known - {commit}]
        finished = await run_git(self._path, "bundle", "create", "--quiet", str(path), _FOUND, *excluded)
        if not finished.ok:
            raise OSError(f"{short(commit)}: {complaint(finished)}")
        try:
            async with await trio.open_file(path, "rb") as file:
                while chunk := await file.read(_CHUNK_BYTES):
                    yield chunk
        finally:
            path.unlink(missing_ok=True)


def reason(error: Exception) -> str:
    """Why a look brought nothing, in a line."""
    return str(error) if not isinstance(error, Fault) else f"{error.what}: {error.why}"
