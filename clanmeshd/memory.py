"""How the C library keeps the memory that bursts leave, so that it comes back to the system (mallopt(3)).

glibc learns from each large block that is freed to take larger and larger ones from the heap, and a heap shrinks
only at its end: what one join or a few large secrets took for a moment would stay for the life of the daemon. With
a fixed limit large blocks are mapped by themselves, and end when they are freed; free pages between smaller ones
that are in use are given back after each burst. One arena serves all threads: they are few, and write and sync.

Python's own search for garbage looks through all that is alive, though next to nothing here needs it: what was
imported is left out for good, and the search is rarer.
"""

import ctypes
import gc
from typing import Final

MAPPED_BYTES_MIN: Final = 131_072  # glibc's own first value; a value that was set stays
TRIM_BYTES: Final = 131_072  # free at the heap's end before that is given back; the same
ARENAS_MAX: Final = 1
SEARCH_AFTER: Final = (5_000, 10, 10)  # new containers, and searches of the young (Python: 700): 0.5 MB at most

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8

_LIBRARY: Final = ctypes.CDLL(None)
_IS_GLIBC: Final = hasattr(_LIBRARY, "mallopt") and hasattr(_LIBRARY, "malloc_trim")  # musl keeps little by itself


def keep_little() -> None:
    """Set the limits, before threads are started."""
    if _IS_GLIBC:
        _LIBRARY.mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES_MIN)
        _LIBRARY.mallopt(_M_TRIM_THRESHOLD, TRIM_BYTES)
        _LIBRARY.mallopt(_M_ARENA_MAX, ARENAS_MAX)


def search_rarely() -> None:
    """Leave what is alive now to itself, and look for garbage among the rest after more of it."""
    gc.freeze()
    gc.set_threshold(*SEARCH_AFTER)


def give_back() -> None:
    """Give free pages back now, wherever they lie. Takes about a millisecond."""
    if _IS_GLIBC:
        _LIBRARY.malloc_trim(0)
