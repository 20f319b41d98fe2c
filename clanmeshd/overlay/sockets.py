"""What the overlay's own sockets have in common: large buffers, and names of what fails."""

import errno
import socket
from contextlib import suppress
from typing import Final

_SO_RCVBUFFORCE: Final = 33  # Linux; neither is in the socket module
_SO_SNDBUFFORCE: Final = 32


def enlarge(opened: socket.socket, size: int) -> None:
    """Ask for buffers of so many bytes each way, or for what the system allows who may not pass its limit."""
    for option, forced in ((socket.SO_RCVBUF, _SO_RCVBUFFORCE), (socket.SO_SNDBUF, _SO_SNDBUFFORCE)):
        opened.setsockopt(socket.SOL_SOCKET, option, size)
        with suppress(PermissionError):
            opened.setsockopt(socket.SOL_SOCKET, forced, size)


def errno_name(error: OSError) -> str:
    """Name an OSError as errno.h does."""
    return errno.errorcode.get(error.errno or 0, type(error).__name__)
