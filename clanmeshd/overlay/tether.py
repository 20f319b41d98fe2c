"""Become another program that ends when its parent does: `python -I -S tether.py PARENT_PID PROGRAM ARGUMENT...`.

A short program of its own, since the tether must be tied between fork and exec, and since the module that it
takes would stay in the daemon's memory.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, argv: list[str]) -> None:
    """Ask for SIGKILL at the parent's death and become `argv`; a parent that is dead already ends us here.

    Not SIGTERM: it would wait for ever in a program that hangs or was stopped.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the parent is gone")
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        sys.exit(f"{argv[0]}: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
