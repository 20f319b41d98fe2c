"""The published repository, and the quarantine in front of it.

`repo.git` holds nothing but objects of verified heads, so it can be served as a whole: a client that asks for an
object by its hash gets nothing that was not published. What comes from outside is unpacked into a quarantine, a
repository of its own that borrows the published objects, and moves over only when it has been verified.

    refs/heads/main          the head that is followed (the anchor): moves last
    refs/heads/pushed/<hex>  verified heads that are not followed: just pushed, or the other side of a fork
    refs/rollout/good        the revision that runs, kept for the day when state.json is lost; never served
"""

import os
import shutil
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

import trio

from clanmesh_protocol.control import Fault
from clanmeshd import process
from clanmeshd.files import Files, RealFiles, sync_directory
from clanmeshd.rollout.git import (
    FSCK_TOLERATED,
    GitFailed,
    bounded,
    check_space,
    complaint,
    environment,
    run_git,
)
from clanmeshd.rollout.objects import Objects
from clanmeshd.rollout.selection import SHORT_HEX

MAIN: Final = "refs/heads/main"
GOOD: Final = "refs/rollout/good"
PUSHED: Final = "refs/heads/pushed/"
PUSHED_MAX: Final = 64  # heads beside the followed one; more forks than that are no accident
PACK_BYTES_MAX: Final = 256 << 20  # of one push or fetch: configurations are small, images do not belong in git
UNPACK_TIMEOUT_S: Final = 300.0
# Of all commits, at a push: each git packs them a little differently, and nobody takes more than PACK_BYTES_MAX.
REPOSITORY_BYTES_MAX: Final = PACK_BYTES_MAX * 3 // 4
PACKS_MAX: Final = 40  # then they are joined: lookups cost one probe for each pack
LOOSE_BYTES_MAX: Final = 64 << 20  # of all packs but the largest, likewise: what no head leads to is dropped then

_QUARANTINE_FOLDERS: Final = ("objects", "objects/info", "objects/pack", "refs", "refs/heads")
_QUARANTINE_CONFIG: Final = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
UNPACKED_BYTES_MAX: Final = 2 * PACK_BYTES_MAX  # of a pack with the objects that it leaves out added


@dataclass(frozen=True, slots=True)
class RefChange:
    """One ref's new place; None deletes it."""

    name: str
    commit: bytes | None


class Quarantine(Objects):
    """A place for objects that nobody has verified. `is_published`: they were in the end, and it is empty."""

    is_published = False

    @property
    def pack_directory(self) -> Path:
        """Where git puts packs."""
        return self.path / "objects" / "pack"

    @property
    def incoming(self) -> Path:
        """Where a pack is written as it comes."""
        return self.path / "incoming.pack"

    async def unpack_untrusted(self, pack: Path) -> None:
        """Index a pack and check every object in it. Raises Fault for a bad one, OSError for the world."""
        tolerated = ",".join(f"{name}=ignore" for name in FSCK_TOLERATED)
        words = ["git", f"--git-dir={self.path}", "index-pack", "--stdin", "--fix-thin", f"--strict={tolerated}"]
        words.append(f"--max-input-size={PACK_BYTES_MAX}")
        finished = await process.run(
            bounded(words, file_bytes_max=UNPACKED_BYTES_MAX, stdin=pack),
            env=environment(),
            timeout_s=UNPACK_TIMEOUT_S,
        )
        if finished.ok:
            return
        check_space("index-pack", finished)
        why = "checking it took too long" if finished.timed_out else complaint(finished)
        if "missing" in why or "unresolved delta" in why or "did not receive" in why:
            remedy = "`git pull clan main` first; if this device is behind, wait until it has caught up"
        else:
            remedy = "`git fsck --strict` in your repository finds the object; the commit must be made anew"
        raise Fault("refused", "the push", f"its objects were refused: {why}", remedy)

    async def is_whole(self, commit: bytes) -> bool:
        """Say whether all behind a commit is here that is not published. A holder may have told git otherwise."""
        (self.path / "shallow").unlink(missing_ok=True)
        words = ("rev-list", "--quiet", "--objects", commit.hex(), "--not", "--alternate-refs")
        return (await run_git(self.path, *words)).ok

    async def clear(self) -> None:
        """Throw away what was unpacked."""

        def remove() -> None:
            for path in self.pack_directory.iterdir():
                path.unlink()

        await trio.to_thread.run_sync(remove)


class Repository(Objects):
    """The published repository of one clan on this device."""

    def __init__(self, directory: Path, files: Files | None = None) -> None:
        super().__init__(directory / "repo.git")
        self._files = files or RealFiles()
        self._quarantines = directory / "quarantine"
        self._refs: dict[str, bytes] = {}
        self._publishing = trio.Lock()
        self._joining = trio.Lock()  # what a quarantine borrows must not go away
        self._borrowers = 0
        self._shell: Path | None = None  # of a quarantine that is over, for the next one: to make one takes 4 ms

    async def open(self) -> str | None:
        """Make the repository, or read its refs. Gives a line for people when a damaged one was put aside."""
        await trio.to_thread.run_sync(self._prepare)
        damage = None
        if not await self._load_refs():
            aside = self.path.with_name("repo.git.damaged")
            if self.path.exists():
                shutil.rmtree(aside, ignore_errors=True)
                self.path.rename(aside)
                damage = f"{self.path}: damaged, put aside as {aside.name}; the commits come from other members"
            await self._init()
        return damage

    def _prepare(self) -> None:
        shutil.rmtree(self._quarantines, ignore_errors=True)
        self._quarantines.mkdir(mode=0o700, parents=True)

    async def _init(self) -> None:
        finished = await run_git(self.path, "init", "--quiet", "--bare", "--template=", "--initial-branch=main")
        if not finished.ok:
            raise GitFailed("init", finished)
        self._refs = {}

    async def _load_refs(self) -> bool:
        if not (self.path / "objects").is_dir():
            return False
        finished = await run_git(self.path, "for-each-ref", "--format=%(objectname) %(refname)")
        if not finished.ok or finished.stderr:
            return False
        rows = [line.split(" ", 1) for line in finished.stdout.decode().splitlines()]
        self._refs = {name: bytes.fromhex(commit) for commit, name in rows}
        found = await self.commits_here(set(self._refs.values()))
        return found == set(self._refs.values())

    @property
    def main(self) -> bytes | None:
        """The anchor: the head that is followed."""
        return self._refs.get(MAIN)

    @property
    def good(self) -> bytes | None:
        """The revision that was last found good here."""
        return self._refs.get(GOOD)

    @property
    def pushed(self) -> frozenset[bytes]:
        """Verified heads beside the followed one."""
        return frozenset(commit for name, commit in self._refs.items() if name.startswith(PUSHED))

    async def update(self, changes: Sequence[RefChange]) -> None:
        """Move refs, durably: first those that come or move, then those that go."""
        changes = [change for change in changes if self._refs.get(change.name) != change.commit]
        if not changes:
            return
        await trio.to_thread.run_sync(self._write_refs, sorted(changes, key=lambda change: change.commit is None))
        for change in changes:
            if change.commit is None:
                self._refs.pop(change.name, None)
            else:
                self._refs[change.name] = change.commit

    def _write_refs(self, changes: Sequence[RefChange]) -> None:
        """Write refs as git does, one file each, which nobody else writes; three processes less for each head."""
        for change in changes:
            path = self.path / change.name
            if change.commit is None:
                path.unlink(missing_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._files.write_atomic(path, f"{change.commit.hex()}\n".encode())

    async def follow(self, commit: bytes) -> None:
        """Move the anchor, and forget the pushed heads that it contains."""
        obsolete = [
            RefChange(_pushed_ref(head), None) for head in self.pushed if await self.descends(commit, head)
        ]
        await self.update([RefChange(MAIN, commit), *obsolete])

    async def forget(self, heads: Collection[bytes]) -> None:
        """Stop offering heads that nobody claims."""
        await self.update([RefChange(_pushed_ref(head), None) for head in sorted(heads)])

    @asynccontextmanager
    async def quarantine(self) -> AsyncIterator[Quarantine]:
        """A fresh quarantine, gone with all that was not published at the end."""
        async with self._joining:
            self._borrowers += 1
        path, self._shell, may_stay = self._shell, None, False
        try:
            if path is None:
                path = Path(mkdtemp(dir=self._quarantines))
                _make_quarantine(path, self.path / "objects")
            quarantine = Quarantine(path, self.descent, self.path / "objects")
            yield quarantine
            may_stay = quarantine.is_published and self._shell is None
        finally:
            self._borrowers -= 1
            if path is not None:
                with trio.CancelScope(shield=True):
                    await self._end(path, may_stay=may_stay)

    async def _end(self, path: Path, *, may_stay: bool) -> None:
        """Remove a quarantine; of one that was published the shell is kept, and nothing of what was in it.

        Nobody writes into such a one any more: what else ran in it was waited for, and not killed.
        """
        is_empty = may_stay and await trio.to_thread.run_sync(_empty, path, self.path / "objects")
        if is_empty and self._shell is None:  # another one may have ended meanwhile
            self._shell = path
        else:
            await trio.to_thread.run_sync(lambda: shutil.rmtree(path, ignore_errors=True))

    async def publish(self, quarantine: Quarantine | None, head: bytes) -> None:
        """Take a verified head over, with its objects (None: they are here already)."""
        async with self._publishing:
            if quarantine is not None:
                await trio.to_thread.run_sync(_move_packs, quarantine.pack_directory, self.path)
                quarantine.is_published = True
            self.learn_here(head)
            if head != self.main:
                await self.update([RefChange(_pushed_ref(head), head)])
            sizes = _pack_sizes(self.path)
            if len(sizes) > PACKS_MAX or sum(sizes[:-1]) > LOOSE_BYTES_MAX:
                await self._join_packs(own=int(quarantine is not None))

    async def has_room(self, quarantine: Quarantine, head: bytes, bytes_max: int) -> bool:
        """Say whether a head in quarantine and those that are here, with all behind them, are within a bound."""
        if sum(_pack_sizes(self.path)) + sum(_pack_sizes(quarantine.path)) <= bytes_max:
            return True
        heads = [commit.hex() for commit in sorted({head, *self._refs.values()})]
        finished = await run_git(quarantine.path, "rev-list", "--disk-usage", "--objects", *heads)
        if not finished.ok:
            raise GitFailed("rev-list", finished)
        return int(finished.stdout) <= bytes_max

    async def _join_packs(self, *, own: int) -> None:
        """Make one pack of all, of what heads lead to. Not while others than `own` quarantines borrow objects."""
        async with self._joining:
            if self._borrowers > own:
                return
            finished = await run_git(self.path, "repack", "-a", "-d", "-q", timeout_s=UNPACK_TIMEOUT_S)
            self.forget_here()
            if not finished.ok:
                raise GitFailed("repack", finished)


def _pushed_ref(commit: bytes) -> str:
    return PUSHED + commit.hex()[:SHORT_HEX]


def _make_quarantine(path: Path, published: Path) -> None:
    """What `git init` would make, without a process: the borrowed objects are the point of it."""
    for folder in _QUARANTINE_FOLDERS:
        os.mkdir(os.path.join(path, folder))
    for name, text in _quarantine_files(published).items():
        with open(os.path.join(path, name), "w") as file:
            file.write(text)


def _quarantine_files(published: Path) -> dict[str, str]:
    return {
        "HEAD": "ref: refs/heads/incoming\n",
        "config": _QUARANTINE_CONFIG,
        "objects/info/alternates": f"{published}\n",
    }


def _empty(path: Path, published: Path) -> bool:
    """Remove all that was not made with a quarantine; False when that cannot be, or something made is another."""
    files = _quarantine_files(published)
    try:
        for folder in ("", *_QUARANTINE_FOLDERS):
            for entry in os.scandir(os.path.join(path, folder)):
                name = os.path.join(folder, entry.name)
                if name in _QUARANTINE_FOLDERS or name in files:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)
        return all((path / name).read_text() == text for name, text in files.items())
    except (OSError, UnicodeDecodeError):
        return False


def _pack_sizes(repository: Path) -> list[int]:
    """The sizes of its packs in bytes, the largest last."""
    return sorted(path.stat().st_size for path in (repository / "objects" / "pack").glob("*.pack"))


def _move_packs(source: Path, repository: Path) -> None:
    """Move complete packs, the index last: a reader that sees an index finds its pack."""
    target = repository / "objects" / "pack"
    target.mkdir(exist_ok=True)
    for index in sorted(source.glob("pack-*.idx")):
        for suffix in (".pack", ".rev", ".idx"):
            part = index.with_suffix(suffix)
            if part.exists():
                part.rename(target / part.name)
    sync_directory(target)
