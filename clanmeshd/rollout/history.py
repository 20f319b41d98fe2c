"""A commit's text, and which commits must be signed for a head to count.

Counted from the head, that is every commit which is not accepted already (by its hash: it lies behind a verified
head or a checkpoint). A merge that is itself signed may *vouch* for a parent other than its first, by the trailer
`Clan-Vouches: <its whole id>`: then that parent and all behind it are accepted by hash, as an upstream's unsigned
history must be. The first parent is the clan's own line, for which nobody vouches.
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from clanmesh_protocol.control import Fault
from clanmeshd.rollout.objects import COMMIT_BYTES_MAX, COMMITS_MAX, Objects, TooMany

NEAR_COMMITS_MAX: Final = 64  # looked at one by one before git is asked: a push has a few
VOUCHING_ROUNDS_MAX: Final = 16  # merges of an upstream, one behind another, that a first look does not reach
TEXTS_BYTES_MAX: Final = 64 << 20  # of all that need a signature: they are held at once, and compress well

_PARENT: Final = re.compile(rb"parent ([0-9a-f]{40})")
_VOUCHES: Final = re.compile(rb"^Clan-Vouches: ([0-9a-f]{40})$", re.MULTILINE)
_SIGNATURE: Final = b"gpgsig"


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit as its text says."""

    id: bytes
    text: bytes
    parents: tuple[bytes, ...]

    @property
    def vouched(self) -> frozenset[bytes]:
        """The parents that its trailers vouch for; what that is worth depends upon who signed it."""
        if len(self.parents) < 2:
            return frozenset()
        before, _, trailers = self.message.rstrip().rpartition(b"\n\n")
        if not before:
            return frozenset()  # a subject is no trailer
        named = {bytes.fromhex(match.decode()) for match in _VOUCHES.findall(trailers)}
        return frozenset(named & set(self.parents[1:]) - {self.parents[0]})

    @property
    def message(self) -> bytes:
        """What its author wrote."""
        return self.text.partition(b"\n\n")[2]

    @property
    def committer(self) -> bytes:
        """Who says that they made it: name, address, date."""
        return next((line[10:] for line in self._headers() if line.startswith(b"committer ")), b"")

    @property
    def signatures(self) -> int:
        """How many it has; those that count have one."""
        return sum(line.startswith(_SIGNATURE + b" ") for line in self._headers())

    @property
    def signature(self) -> bytes | None:
        """The armored signature; None when there is none, or more than one thing that may be it."""
        return parts[0] if (parts := self._parts()) is not None else None

    @property
    def signed(self) -> bytes:
        """The bytes that the signature is over."""
        return parts[1] if (parts := self._parts()) is not None else self.text

    def _headers(self) -> list[bytes]:
        return self.text.partition(b"\n\n")[0].split(b"\n")

    def _parts(self) -> tuple[bytes, bytes] | None:
        """The signature, its continuation lines joined, and the text without it."""
        lines = self._headers()
        found = [at for at, line in enumerate(lines) if line.startswith(_SIGNATURE)]
        if len(found) != 1 or not lines[found[0]].startswith(_SIGNATURE + b" "):
            return None
        if b"\0" in self.text or b"\n\n" not in self.text:
            return None  # git has readings of its own of these
        first = end = found[0]
        while end + 1 < len(lines) and lines[end + 1].startswith(b" "):
            end += 1
        rows = [lines[first].removeprefix(_SIGNATURE + b" "), *(line[1:] for line in lines[first + 1 : end + 1])]
        rest = b"\n".join(lines[:first] + lines[end + 1 :]) + b"\n\n" + self.message
        return b"\n".join(rows) + b"\n", rest


async def read_commit(objects: Objects, commit: bytes) -> Commit:
    """Read a commit that is here. Raises Fault for one that is not as commits are, OSError for a missing one."""
    text = await objects.raw_commit(commit)
    if text is None:
        if not await objects.commits_here([commit]):
            raise OSError(f"{objects.path}: commit {commit.hex()} is missing")
        why = f"its text has over {COMMIT_BYTES_MAX >> 10} KiB"
        raise Fault("refused", f"commit {commit.hex()[:12]}", why, "make it anew with a shorter message")
    if hashlib.sha1(b"commit %d\0" % len(text) + text, usedforsecurity=False).digest() != commit:
        raise OSError(f"{objects.path}: commit {commit.hex()} is damaged")
    return Commit(commit, text, tuple(_parents(text)))


def _parents(text: bytes) -> Iterator[bytes]:
    """The parents as git reads them: what is called so further down is a header like any other."""
    for line in text.split(b"\n")[1:]:
        if (match := _PARENT.fullmatch(line)) is None:
            return
        yield bytes.fromhex(match[1].decode())


async def added_nearby(objects: Objects, accepted: Collection[bytes], head: bytes) -> list[Commit] | None:
    """The commits that need a signature, if they are few and close; some that need none may be among them.

    None: they are not. Then `added` must tell.
    """
    commits: dict[bytes, Commit] = {}
    met: set[bytes] = set()
    waiting = [head]
    while waiting:
        commit = waiting.pop()
        if commit in accepted:
            met.add(commit)
        elif commit not in commits:
            if len(commits) == NEAR_COMMITS_MAX:
                return None
            read = commits[commit] = await read_commit(objects, commit)
            waiting += [parent for parent in read.parents if parent not in read.vouched]
    objects.descent.learn(head, met)
    return list(commits.values())


async def added(objects: Objects, accepted: Collection[bytes], head: bytes) -> list[Commit]:
    """Exactly the commits that need a signature, the oldest first. Raises TooMany, Fault."""
    vouched: set[bytes] = set()
    for _ in range(VOUCHING_ROUNDS_MAX):
        rows = await objects.commits_between({*accepted, *vouched}, head)
        more = await _vouched(objects, rows) - vouched
        if not more:
            break
        vouched |= more
    if len(rows) > COMMITS_MAX:
        raise TooMany(f"over {COMMITS_MAX} commits to check")
    return await _read_all(objects, [row[0] for row in reversed(rows)])


async def _read_all(objects: Objects, commits: Iterable[bytes]) -> list[Commit]:
    found, size = [], 0
    for commit in commits:
        found.append(await read_commit(objects, commit))
        size += len(found[-1].text)
        if size > TEXTS_BYTES_MAX:
            raise TooMany(f"over {TEXTS_BYTES_MAX >> 20} MiB of commits to check")
    return found


async def _vouched(objects: Objects, rows: Iterable[tuple[bytes, ...]]) -> set[bytes]:
    """All parents that merges among these commits vouch for.

    A merge that lies behind a vouched parent adds nothing: what it vouches for lies behind that parent as well.
    Any other merge is among the commits that need a signature themselves.
    """
    found: set[bytes] = set()
    for commit, *parents in rows:
        if len(parents) > 1:
            found |= (await read_commit(objects, commit)).vouched
    return found
