"""What the overlay's own sockets have in common: filters in the kernel, large buffers, and names of what fails."""

import ctypes
import errno
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

INSTRUCTION: Final = struct.Struct("=HBBI")  # of classic BPF: code, jump if true, jump if false, k

_PROGRAM: Final = struct.Struct("@HP")  # count, address
_SO_ATTACH_FILTER: Final = 26  # Linux; none of the three is in the socket module
_SO_RCVBUFFORCE: Final = 33
_SO_SNDBUFFORCE: Final = 32


def attach_filter(opened: socket.socket, instructions: Iterable[bytes]) -> None:
    """Have the kernel pass up only what a program lets through. Raises OSError."""
    program = b"".join(instructions)
    held = ctypes.create_string_buffer(program, len(program))
    described = _PROGRAM.pack(len(program) // INSTRUCTION.size, ctypes.addressof(held))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)


def enlarge(opened: socket.socket, size: int) -> None:
    """Ask for buffers of so many bytes each way, or for what the system allows who may not pass its limit."""
    for option, forced in ((socket.SO_RCVBUF, _SO_RCVBUFFORCE), (socket.SO_SNDBUF, _SO_SNDBUFFORCE)):
        opened.setsockopt(socket.SOL_SOCKET, option, size)
        with suppress(PermissionError):
            opened.setsockopt(socket.SOL_SOCKET, forced, size)


def errno_name(error: OSError) -> str:
    """Name an OSError as errno.h does."""
    return errno.errorcode.get(error.errno or 0, type(error).__name__)
