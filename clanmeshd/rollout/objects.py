"""Questions to a git object store: what is there, and what descends from what. No refs, no writing."""

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

from clanmeshd.rollout.git import HASH_BYTES, GitFailed, run_git

COMMITS_MAX: Final = 5000  # between what is accepted and a head: about a minute and a half of ssh-keygen
FILES_MAX: Final = 50_000  # of one revision's checkout
CHECKOUT_BYTES_MAX: Final = 1 << 30  # likewise
_BYTES_PER_SIZE: Final = 32  # one line of ls-tree with a size only

_LINE: Final = re.compile(r"[0-9a-f]{40}")


class TooMany(Exception):
    """A history or a tree is larger than the bounds allow."""


class Objects:
    """A bare repository as a store of objects. Every method raises GitFailed or OSError for the world's faults."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def commits_here(self, commits: Collection[bytes]) -> set[bytes]:
        """Those of `commits` that are here and are commits."""
        if not commits:
            return set()
        asked = "".join(f"{commit.hex()}^{{commit}}\n" for commit in sorted(commits))
        finished = await run_git(self.path, "cat-file", "--batch-check=%(objectname)", stdin=asked.encode())
        if not finished.ok:
            raise GitFailed("cat-file", finished)
        return set(_hashes(finished.stdout)) & set(commits)

    async def tips(self, commits: Collection[bytes]) -> frozenset[bytes]:
        """Those of `commits`, all of them here, that no other of them descends from."""
        if len(commits) < 2:
            return frozenset(commits)
        finished = await run_git(self.path, "merge-base", "--independent", *_hex(commits))
        if not finished.ok:
            raise GitFailed("merge-base", finished)
        return frozenset(_hashes(finished.stdout))

    async def descends(self, commit: bytes, ancestor: bytes) -> bool:
        """Say whether `ancestor` is in the history of `commit`, or is it. Both must be here."""
        if commit == ancestor:
            return True
        finished = await run_git(self.path, "merge-base", "--is-ancestor", ancestor.hex(), commit.hex())
        if finished.timed_out or finished.returncode not in (0, 1):
            raise GitFailed("merge-base", finished)
        return finished.returncode == 0

    async def commits_between(self, accepted: Iterable[bytes], head: bytes) -> list[bytes]:
        """The commits that `head` adds to `accepted`, oldest first. Raises TooMany."""
        finished = await run_git(
            self.path,
            "rev-list",
            "--topo-order",
            f"--max-count={COMMITS_MAX + 1}",
            head.hex(),
            "--not",
            *_hex(accepted),
        )
        if not finished.ok:
            raise GitFailed("rev-list", finished)
        found = _hashes(finished.stdout)
        if len(found) > COMMITS_MAX:
            raise TooMany(f"over {COMMITS_MAX} commits to check")
        return found[::-1]

    async def read(self, name: str, bytes_max: int) -> bytes | None:
        """An object by an expression such as `<commit>:clan.toml`; None when there is none.

        Of an object larger than `bytes_max`, some `bytes_max + 1` bytes.
        """
        finished = await run_git(self.path, "cat-file", "blob", name, output_bytes_max=bytes_max + 1)
        if finished.timed_out:
            raise GitFailed("cat-file", finished)
        return finished.stdout if finished.returncode == 0 else None

    async def raw_commit(self, commit: bytes, bytes_max: int) -> bytes:
        """A commit object's text, or its last `bytes_max` bytes."""
        finished = await run_git(self.path, "cat-file", "commit", commit.hex(), output_bytes_max=bytes_max)
        if not finished.ok:
            raise GitFailed("cat-file", finished)
        return finished.stdout

    async def check_size(self, commit: bytes) -> None:
        """Refuse a revision whose checkout would be too large. Raises TooMany."""
        bound = FILES_MAX * _BYTES_PER_SIZE
        finished = await run_git(
            self.path, "ls-tree", "-r", "--format=%(objectsize)", commit.hex(), output_bytes_max=bound
        )
        if not finished.ok:
            raise GitFailed("ls-tree", finished)
        sizes = [int(word) for word in finished.stdout.split() if word.isdigit()]
        if len(sizes) > FILES_MAX or len(finished.stdout) >= bound:
            raise TooMany(f"over {FILES_MAX} files")
        if sum(sizes) > CHECKOUT_BYTES_MAX:
            raise TooMany(f"over {CHECKOUT_BYTES_MAX >> 20} MiB of files")


def _hashes(output: bytes) -> list[bytes]:
    """The lines that are object names; `cat-file` writes others for what is missing."""
    return [bytes.fromhex(line) for line in output.decode().splitlines() if _LINE.fullmatch(line)]


def _hex(commits: Iterable[bytes]) -> Sequence[str]:
    return [commit.hex() for commit in sorted(commits)]


def is_commit_id(commit: bytes) -> bool:
    """Say whether this is of the length that the repository uses."""
    return len(commit) == HASH_BYTES
