"""The file seam: everything that must survive a power cut goes through here.

`RealFiles` is the system's; the tests put one in its place that forgets whatever was not synced.
"""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

PRIVATE_MODE = 0o600  # state belongs to the daemon's user alone


class Files(Protocol):
    """The few file operations that state needs. All raise OSError for the world's faults."""

    def read(self, path: Path) -> bytes:
        """Read a whole file. Raises FileNotFoundError when there is none."""
        ...

    def write_atomic(self, path: Path, data: bytes, mode: int = PRIVATE_MODE) -> None:
        """Replace a file so that either the old or the new content is there after a power cut."""
        ...

    def append_synced(self, path: Path, data: bytes) -> None:
        """Append, and return only when the bytes are durable. The file is made when it is not there.

        When it raises, the file ends where it ended before, as far as the system lets us.
        """
        ...

    def truncate_synced(self, path: Path, size: int) -> None:
        """Cut a file to `size` bytes, durably."""
        ...


class RealFiles:
    """The operating system's files, with the syncs that a power cut asks for."""

    def read(self, path: Path) -> bytes:
        """Read a whole file."""
        return path.read_bytes()

    def write_atomic(self, path: Path, data: bytes, mode: int = PRIVATE_MODE) -> None:
        """Write beside, sync, rename, sync the directory."""
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        sync_directory(path.parent)

    def append_synced(self, path: Path, data: bytes) -> None:
        """Append and fdatasync; a new file's directory entry is synced too."""
        fresh = not path.exists()
        _with_descriptor(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, lambda fd: _append_all(fd, data))
        if fresh:
            sync_directory(path.parent)

    def truncate_synced(self, path: Path, size: int) -> None:
        """Cut and sync."""
        _with_descriptor(path, os.O_WRONLY, lambda fd: os.ftruncate(fd, size))


def _with_descriptor(path: Path, flags: int, act: Callable[[int], None]) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC, PRIVATE_MODE)
    try:
        act(descriptor)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _append_all(descriptor: int, data: bytes) -> None:
    size = os.fstat(descriptor).st_size
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError:
        # A disk that filled up took a part: what is tried again later must not stand behind a torn entry.
        with suppress(OSError):
            os.ftruncate(descriptor, size)
        raise


def sync_directory(path: Path) -> None:
    """Make names that were made, moved or removed in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
