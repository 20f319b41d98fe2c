"""Questions to a git object store: what is there, and what descends from what. No refs, no writing."""

import re
import signal
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

from clanmeshd.rollout.git import HASH_BYTES, GitFailed, run_git
from clanmeshd.rollout.reader import Reader
from clanmeshd.rollout.tree import LINK_BYTES_MAX, Entry, read_few

COMMITS_MAX: Final = 5000  # between what is accepted and a head: years of a busy clan
COMMIT_BYTES_MAX: Final = 1 << 20  # of one commit's text; real ones have a few hundred
FILES_MAX: Final = 50_000  # of one revision's checkout
CHECKOUT_BYTES_MAX: Final = 1 << 30  # likewise
HEADS_REMEMBERED_MAX: Final = 64  # of which is known what lies below them
TEXTS_REMEMBERED_MAX: Final = 4  # settings of the revision that runs and of the next one
HERE_REMEMBERED_MAX: Final = 4096  # commits known to be here
_BYTES_PER_FILE: Final = 40  # one line of ls-tree with mode and size only, and those of folders

_LINE: Final = re.compile(r"[0-9a-f]{40}")
_SUBMODULE: Final = b"160000"
_LINK: Final = b"120000"
_FOLDER: Final = b"040000"


class TooMany(Exception):
    """A history or a tree is larger than the bounds allow."""


class NotAFile(Exception):
    """A tree has an entry that is neither a file, a link nor a folder: the text says which."""


class Descent:
    """What is known of which commit lies below which. True of every store, and never changes."""

    def __init__(self) -> None:
        self._below: dict[bytes, set[bytes]] = {}

    def learn(self, head: bytes, below: Iterable[bytes]) -> None:
        """Remember that all of `below` are in the history of `head`."""
        if head not in self._below and len(self._below) >= HEADS_REMEMBERED_MAX:
            self._below.pop(next(iter(self._below)))
        self._below.setdefault(head, set()).update(set(below) - {head})

    def is_below(self, ancestor: bytes, head: bytes) -> bool:
        """Say whether this is known; a no means only: not known."""
        return ancestor in self._below.get(head, ())

    def tops(self, commits: Collection[bytes]) -> frozenset[bytes]:
        """Those of `commits` that are not known to be below another of them."""
        return frozenset(one for one in commits if not any(self.is_below(one, other) for other in commits))


class Objects:
    """A bare repository as a store of objects. Every method raises GitFailed or OSError for the world's faults.

    What is asked more than once is remembered: each record of a member's status makes the daemon look again.
    """

    def __init__(self, path: Path, descent: Descent | None = None, borrowed: Path | None = None) -> None:
        self.path = path
        self.descent = descent or Descent()
        self.reader = Reader(path, borrowed)
        self._here: set[bytes] = set()
        self._texts: dict[str, bytes] = {}  # files that were read last
        self._few: tuple[bytes, tuple[Entry, ...] | None] | None = None  # of the revision that was looked at last

    def asking(self) -> AbstractAsyncContextManager[None]:
        """Keep a process at hand for as long as the block takes: many questions will be asked."""
        return self.reader.open()

    async def commits_here(self, commits: Collection[bytes]) -> set[bytes]:
        """Those of `commits` that are here and are commits."""
        unknown = set(commits) - self._here
        if unknown:
            found = set()
            async with self.asking():
                for commit in sorted(unknown):
                    object_ = await self.reader.find(commit.hex())
                    if object_ is not None and (object_.id, object_.kind) == (commit, "commit"):
                        found.add(commit)
            if len(self._here) + len(found) > HERE_REMEMBERED_MAX:
                self._here.clear()
            self._here |= found
            return (set(commits) - unknown) | found
        return set(commits)

    def learn_here(self, commit: bytes) -> None:
        """A commit has come."""
        self._here.add(commit)

    def forget_here(self) -> None:
        """Objects may have gone."""
        self._here.clear()

    async def tips(self, commits: Collection[bytes]) -> frozenset[bytes]:
        """Those of `commits`, all of them here, that no other of them descends from."""
        tops = self.descent.tops(commits)
        if len(tops) > 1:
            finished = await run_git(self.path, "merge-base", "--independent", *_hex(tops))
            if not finished.ok:
                raise GitFailed("merge-base", finished)
            tops = frozenset(_hashes(finished.stdout))
        if len(tops) == 1:
            self.descent.learn(next(iter(tops)), commits)
        return tops

    async def descends(self, commit: bytes, ancestor: bytes) -> bool:
        """Say whether `ancestor` is in the history of `commit`, or is it. Both must be here."""
        if commit == ancestor or self.descent.is_below(ancestor, commit):
            return True
        finished = await run_git(self.path, "merge-base", "--is-ancestor", ancestor.hex(), commit.hex())
        if finished.timed_out or finished.returncode not in (0, 1):
            raise GitFailed("merge-base", finished)
        if finished.returncode == 0:
            self.descent.learn(commit, [ancestor])
        return finished.returncode == 0

    async def commits_between(self, accepted: Iterable[bytes], head: bytes) -> list[tuple[bytes, ...]]:
        """The commits that `head` adds to `accepted`, the newest first, each with its parents behind it.

        At most COMMITS_MAX + 1: that many are too many. Raises TooMany where they have too many parents.
        """
        finished = await run_git(
            self.path,
            *("rev-list", "--topo-order", "--parents", f"--max-count={COMMITS_MAX + 1}", head.hex()),
            *("--not", *_hex(accepted)),
            output_bytes_max=COMMITS_MAX * 4 * (2 * HASH_BYTES + 1),  # an octopus here and there
            end_at_overflow=True,
        )
        if finished.overflowed:
            raise TooMany("too many parents of the commits to check")
        if not finished.ok:
            raise GitFailed("rev-list", finished)
        return [tuple(map(bytes.fromhex, line.split())) for line in finished.stdout.decode().splitlines()]

    async def read(self, name: str, bytes_max: int) -> bytes | None:
        """A file of a commit by an expression such as `<commit>:clan.toml`; None when there is none.

        Of one larger than `bytes_max`, some `bytes_max + 1` bytes.
        """
        if name not in self._texts:
            found = await self.reader.read(name, bytes_max)
            if found is None or found[0].kind != "blob":
                return None
            if len(self._texts) >= TEXTS_REMEMBERED_MAX:
                self._texts.pop(next(iter(self._texts)))
            self._texts[name] = found[1] if found[0].size <= bytes_max else bytes(bytes_max + 1)
        return self._texts[name]

    async def raw_commit(self, commit: bytes) -> bytes | None:
        """A commit's text; None when there is none, or a larger one than COMMIT_BYTES_MAX."""
        found = await self.reader.read(commit.hex(), COMMIT_BYTES_MAX)
        if found is None or found[0].kind != "commit" or found[0].size > COMMIT_BYTES_MAX:
            return None
        return found[1]

    async def check_tree(self, commit: bytes) -> None:
        """Refuse a revision whose checkout would be too large, or not whole. Raises TooMany, NotAFile."""
        if await self.few_files(commit) is not None:
            return
        bound = FILES_MAX * _BYTES_PER_FILE
        finished = await run_git(
            self.path,
            *("ls-tree", "-r", "-t", "--format=%(objectmode) %(objectsize)", commit.hex()),
            output_bytes_max=bound,
            end_at_overflow=True,
        )
        if finished.overflowed:
            raise TooMany(f"over {FILES_MAX} files")
        if finished.returncode == -signal.SIGSEGV:
            raise TooMany("its folders nest too deeply for git")
        if not finished.ok:
            raise GitFailed("ls-tree", finished)
        rows = [line.split() for line in finished.stdout.splitlines() if not line.startswith(_FOLDER)]
        if any(mode == _SUBMODULE for mode, _ in rows):
            raise NotAFile("it has a submodule, which nothing here verifies or fetches")
        if any(mode == _LINK and not 0 < int(size) <= LINK_BYTES_MAX for mode, size in rows):
            raise NotAFile("it has a link that no system can make: to nothing, or too long")
        if len(rows) > FILES_MAX:
            raise TooMany(f"over {FILES_MAX} files")
        if sum(int(size) for _, size in rows) > CHECKOUT_BYTES_MAX:
            raise TooMany(f"over {CHECKOUT_BYTES_MAX >> 20} MiB of files")
        await self._check_attributes(commit)

    async def few_files(self, commit: bytes) -> tuple[Entry, ...] | None:
        """All files of a revision, if they are few, plain, and so good."""
        if self._few is None or self._few[0] != commit:
            self._few = (commit, await read_few(self.reader, commit))
        return self._few[1]

    def forget_few(self) -> None:
        """Let go of the files that were read last."""
        self._few = None

    async def _check_attributes(self, commit: bytes) -> None:
        """Refuse what a filter would have to fill in: its files would be laid out as stubs."""
        words = ("grep", "--quiet", "--text", "-E", "(^|[[:space:]])filter=", commit.hex(), "--")
        finished = await run_git(self.path, *words, ":(glob)**/.gitattributes")
        if finished.timed_out or finished.returncode not in (0, 1):
            raise GitFailed("grep", finished)
        if finished.returncode == 0:
            raise NotAFile("a .gitattributes names a filter (git-lfs is one), which no device applies")


def _hashes(output: bytes) -> list[bytes]:
    return [bytes.fromhex(line) for line in output.decode().splitlines() if _LINE.fullmatch(line)]


def _hex(commits: Iterable[bytes]) -> Sequence[str]:
    return [commit.hex() for commit in sorted(commits)]


def is_commit_id(commit: bytes) -> bool:
    """Say whether this is of the length that the repository uses."""
    return len(commit) == HASH_BYTES
