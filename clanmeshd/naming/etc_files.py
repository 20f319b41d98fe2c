"""Writes what clanmesh has in /etc: a marked block in the hosts file, a file of its own beside a resolver's.

A short program that runs outside of the daemon's sandbox, since the daemon itself may not write there:

    python -I -S etc_files.py block FILE MARK < lines   puts the lines into the block, or takes an empty one away
    python -I -S etc_files.py own FILE < content        writes the file, or takes an empty one away

Standard library only. The block stands before everything else, so that taking it away leaves the very bytes that
were there. What a person wrote into it is lost, as its first line says; where its end is missing, lines that are
not ours stay. A hosts file that is a link (as on NixOS, into its store) is somebody else's and left alone.
"""

import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable

FILE_BYTES_MAX = 16 << 20  # lists of blocked hosts have megabytes
LINES_BYTES_MAX = 1 << 20  # a thousand members are 60 kB
MODE = 0o644  # of files of our own: resolvers run as somebody else

_LINE = rb"fd[0-9a-f:]+ [a-z0-9.-]+\n"


def cleared(content: bytes) -> bytes:
    """The hosts file without any block of ours."""
    marks = re.findall(rb"^# clanmesh ([^\n:]+): begin", content, flags=re.MULTILINE)
    for mark in marks:
        content = merged(content, os.fsdecode(mark), b"")
    return content


def merged(content: bytes, mark: str, lines: bytes) -> bytes:
    """The hosts file with `lines` as the block of `mark`, or without the block when there are none."""
    begin, end = (os.fsencode(f"# clanmesh {mark}: {word}") for word in ("begin", "end"))
    block = rb"^%b[^\n]*\n(?:%b)*(?:%b\n)?" % (re.escape(begin), _LINE, re.escape(end))
    rest = re.sub(block, b"", content, flags=re.MULTILINE)
    if not lines:
        return rest
    return begin + b"; written anew whenever a device comes, goes or is renamed\n" + lines + end + b"\n" + rest


def read_plain(path: str) -> tuple[bytes, os.stat_result]:
    """A file that is no link, and what it is like. Raises OSError or ValueError."""
    if os.path.islink(path):
        raise ValueError(f"it is a link to {os.readlink(path)}, so its owner has to write it")
    with open(path, "rb") as file:
        like = os.fstat(file.fileno())
        content = file.read(FILE_BYTES_MAX + 1)
    if not stat.S_ISREG(like.st_mode) or len(content) > FILE_BYTES_MAX:
        raise ValueError("it is no plain file of a usual size")
    return content, like


def update_block(path: str, mark: str, lines: bytes) -> None:
    """Put a block into a file, with owner and mode as they are. Raises OSError or ValueError."""
    _change(path, lambda content: merged(content, mark, lines), is_needed=bool(lines))


def clear(path: str) -> None:
    """Remove all blocks of ours from a file. Raises OSError or ValueError."""
    _change(path, cleared, is_needed=False)


def _change(path: str, change: Callable[[bytes], bytes], *, is_needed: bool) -> None:
    try:
        content, like = read_plain(path)
    except FileNotFoundError:
        if is_needed:
            raise
        return
    new = change(content)
    if new != content:
        _replace(path, new, like.st_uid, like.st_gid, stat.S_IMODE(like.st_mode))


def update_own(path: str, content: bytes) -> None:
    """Write a file that is ours, or remove it. Raises OSError."""
    if content:
        _replace(path, content, os.geteuid(), os.getegid(), MODE)
    elif os.path.lexists(path):
        os.unlink(path)
        _sync(os.path.dirname(path))


def _replace(path: str, content: bytes, owner: int, group: int, mode: int) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".clanmesh-")
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            os.fchown(descriptor, owner, group)
            os.fchmod(descriptor, mode)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync(os.path.dirname(path))


def _sync(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def main(words: list[str]) -> int:
    """Do what the words say; one line on standard error when it fails. Gives the exit status."""
    action, path, *rest = words
    content = sys.stdin.buffer.read(LINES_BYTES_MAX)
    try:
        if action == "block":
            update_block(path, rest[0], content)
        else:
            update_own(path, content)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        sys.stderr.write(f"{path}: {why}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
