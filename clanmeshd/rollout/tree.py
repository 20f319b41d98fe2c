"""A revision's files when they are few: read and laid out here, without the three processes that git would take.

What is laid out is what `git checkout` would lay out; where attributes have a say in that, it is git's to do.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from clanmeshd.rollout.git import HASH_BYTES
from clanmeshd.rollout.reader import Reader

FEW_FILES_MAX: Final = 128  # beyond that git is as fast
FEW_BYTES_MAX: Final = 4 << 20  # of all files together: they are held in memory for a moment
FOLDERS_MAX: Final = 64
TREE_BYTES_MAX: Final = 65_536  # of one folder's list
LINK_BYTES_MAX: Final = 4095  # Linux' own bound for where a link leads
NAME_BYTES_MAX: Final = 255  # likewise, for one name
PATH_BYTES_MAX: Final = 2048  # from the root; the checkout's own path stands before it, and Linux takes 4095
SYNCED_MAX: Final = 16  # files that are synced one by one; of more the whole file system is

_FOLDER: Final = b"40000"
_FILE: Final = b"100644"
_PROGRAM: Final = b"100755"
_LINK: Final = b"120000"
_LAID_OUT: Final = frozenset({_FILE, _PROGRAM, _LINK})
_ATTRIBUTES: Final = b".gitattributes"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or a link, by its path from the root."""

    path: bytes
    mode: bytes
    content: bytes


class _NotFew(Exception):
    """Too many, too large, or not only files and links: git's to look at."""


async def read_few(reader: Reader, commit: bytes) -> tuple[Entry, ...] | None:
    """All files of a commit; None when they are not few, or when git must look at them. Raises OSError."""
    try:
        async with reader.open():
            root = await reader.find(f"{commit.hex()}^{{tree}}")
            if root is None:
                return None
            left = FEW_BYTES_MAX
            entries: list[Entry] = []
            for path, mode, blob in await _list(reader, root.id):
                content = await _read(reader, blob, left)
                left -= len(content)
                if mode == _LINK and not _leads_somewhere(content):
                    raise _NotFew
                entries.append(Entry(path, mode, content))
            return tuple(entries)
    except _NotFew:
        return None


async def _list(reader: Reader, root: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Path, mode and id of each file."""
    folders, seen = [(b"", root)], 0
    files: list[tuple[bytes, bytes, bytes]] = []
    while folders:
        above, tree = folders.pop()
        seen += 1
        found = await reader.read(tree.hex(), TREE_BYTES_MAX)
        if found is None or found[0].kind != "tree" or found[0].size > TREE_BYTES_MAX or seen > FOLDERS_MAX:
            raise _NotFew
        for mode, name, blob in _split(found[1]):
            if mode == _FOLDER:
                folders.append((above + name + b"/", blob))
                continue
            if mode not in _LAID_OUT or name == _ATTRIBUTES or len(files) == FEW_FILES_MAX:
                raise _NotFew
            if len(name) > NAME_BYTES_MAX or len(above + name) > PATH_BYTES_MAX:
                raise _NotFew
            files.append((above + name, mode, blob))
    return files


def _split(tree: bytes) -> Sequence[tuple[bytes, bytes, bytes]]:
    rows, at = [], 0
    while at < len(tree):
        mode_end = tree.index(b" ", at)
        name_end = tree.index(b"\0", mode_end)
        mode, name = tree[at:mode_end], tree[mode_end + 1 : name_end]
        if not name or b"/" in name or name in (b".", b"..") or name.lower() == b".git":
            raise _NotFew  # fsck has refused it long ago
        at = name_end + 1 + HASH_BYTES
        rows.append((mode, name, tree[name_end + 1 : at]))
    if len({name for _, name, _ in rows}) != len(rows):
        raise _NotFew  # likewise: of a link and a folder, what is in the folder would go where the link leads
    return rows


async def _read(reader: Reader, blob: bytes, left: int) -> bytes:
    found = await reader.read(blob.hex(), left)
    if found is None or found[0].kind != "blob" or found[0].size > left:
        raise _NotFew
    return found[1]


def _leads_somewhere(link: bytes) -> bool:
    """Whether the system can make this link as it stands; fsck lets others pass."""
    return 0 < len(link) <= LINK_BYTES_MAX and b"\0" not in link


def lay_out(entries: Sequence[Entry], directory: Path) -> None:
    """Write files and links into an empty folder. Blocking. Raises OSError."""
    root = os.fsencode(directory)
    for entry in entries:
        path = os.path.join(root, entry.path)
        folder = os.path.dirname(path)
        if folder != root:
            os.makedirs(folder, exist_ok=True)
        if entry.mode == _LINK:
            os.symlink(entry.content, path)
            continue
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o777 if entry.mode == _PROGRAM else 0o666)
        with os.fdopen(descriptor, "wb") as file:
            file.write(entry.content)


async def sync_few(directory: Path) -> bool:
    """Sync a folder file by file; gives False, with nothing done, where they are many. Raises OSError."""
    return await trio.to_thread.run_sync(_sync_few, directory)


def _sync_few(directory: Path) -> bool:
    paths = [directory.parent]
    for folder, folders, files in os.walk(directory):
        paths.append(Path(folder))
        paths += [path for path in (Path(folder, name) for name in files) if _is_file(path)]
        if len(paths) + len(folders) > SYNCED_MAX:
            return False
    for path in reversed(paths):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return True


def _is_file(path: Path) -> bool:
    """Whether it has content of its own; a build may have left pipes, which one would wait for, and sockets."""
    return stat.S_ISREG(path.lstat().st_mode)
