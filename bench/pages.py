"""Memory of this process in huge pages, for benchmarks of many cores in one process.

A daemon's core takes a few megabytes and has the caches for itself; a thousand of them take turns, and what
they touch is found through page tables that are too large for any cache. Pages of 2 MiB make those small. Nothing
but the time that it takes changes.
"""

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Final

HUGE_PAGE_BYTES: Final = 2 * 1024 * 1024
_MADV_COLLAPSE: Final = 25  # Linux 6.1: make these pages huge now


def collapse() -> int:
    """Make huge pages of what this process has by now. Gives their bytes; 0 where the kernel does not."""
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)
    return sum(end - start for start, end in _private() if madvise(start, end - start, _MADV_COLLAPSE) == 0)


def _private() -> Iterator[tuple[int, int]]:
    """The address ranges of writable memory that belongs to no file, in whole huge pages."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, mode, _, _, inode, *_ = line.split()
        start, end = (int(address, 16) for address in addresses.split("-"))
        start = -(-start // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES
        end = end // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES
        if mode == "rw-p" and inode == "0" and start < end:
            yield start, end
