"""What sockets of several rooms have in common: families, beginning and end, large buffers, names of faults."""

import errno
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Final, Self

# Each with the option by which root may pass the system's limit: Linux's, and not in the socket module.
RECEIVED: Final = (socket.SO_RCVBUF, 33)
SENT: Final = (socket.SO_SNDBUF, 32)


class Closing(ABC):
    """What has sockets, and closes them at the end of its context."""

    @abstractmethod
    def close(self) -> None:
        """Close them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def prepared(opened: socket.socket) -> Iterator[socket.socket]:
    """Make a new socket ready within: it stays open, unless that raises OSError."""
    try:
        yield opened
    except OSError:
        opened.close()
        raise


def family_of(address: bytes) -> socket.AddressFamily:
    """The family of a packed address of 4 or 16 bytes."""
    return socket.AF_INET if len(address) == 4 else socket.AF_INET6


def enlarge(opened: socket.socket, size: int, *buffers: tuple[int, int]) -> None:
    """Ask for buffers of so many bytes, or for what the system allows who may not pass its limit."""
    for option, forced in buffers:
        opened.setsockopt(socket.SOL_SOCKET, option, size)
        with suppress(PermissionError):
            opened.setsockopt(socket.SOL_SOCKET, forced, size)


def errno_name(error: OSError) -> str:
    """Name an OSError as errno.h does."""
    return errno.errorcode.get(error.errno or 0, type(error).__name__)
