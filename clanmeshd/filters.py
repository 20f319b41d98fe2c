"""Filters in the kernel: programs of classic BPF, in front of a socket.

What they drop wakes nobody, so it is what a flood of junk is met with first.
"""

import ctypes
import socket
import struct
from collections.abc import Iterable
from typing import Final

INSTRUCTION: Final = struct.Struct("=HBBI")  # code, jump if true, jump if false, k

# From linux/bpf_common.h; a load is of the packet at k.
LOAD_WORD, LOAD_HALF, LOAD_LENGTH = 0x20, 0x28, 0x80
IS_EQUAL, IS_AT_LEAST, GO, AND, RETURN = 0x15, 0x35, 0x05, 0x54, 0x06
PASS: Final = 0xFFFF  # bytes to return: all that a packet can have
ABOUT: Final = 0xFFFF_F000  # SKF_AD_OFF of linux/filter.h: what is loaded from here on is told of the packet

_PROGRAM: Final = struct.Struct("@HP")  # count, address
_SO_ATTACH_FILTER: Final = 26  # Linux; not in the socket module


def attach_filter(opened: socket.socket, instructions: Iterable[bytes]) -> None:
    """Have the kernel pass up only what a program lets through. Raises OSError."""
    program = b"".join(instructions)
    held = ctypes.create_string_buffer(program, len(program))
    described = _PROGRAM.pack(len(program) // INSTRUCTION.size, ctypes.addressof(held))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
