"""What sockets of several rooms have in common: large buffers, and names of what fails."""

import errno
import socket
from contextlib import suppress
from typing import Final

# Each with the option by which root may pass the system's limit: Linux's, and not in the socket module.
RECEIVED: Final = (socket.SO_RCVBUF, 33)
SENT: Final = (socket.SO_SNDBUF, 32)


def enlarge(opened: socket.socket, size: int, *buffers: tuple[int, int]) -> None:
    """Ask for buffers of so many bytes, or for what the system allows who may not pass its limit."""
    for option, forced in buffers:
        opened.setsockopt(socket.SOL_SOCKET, option, size)
        with suppress(PermissionError):
            opened.setsockopt(socket.SOL_SOCKET, forced, size)


def errno_name(error: OSError) -> str:
    """Name an OSError as errno.h does."""
    return errno.errorcode.get(error.errno or 0, type(error).__name__)
