"""`python -m clanmeshd.rollout.activator [--detach] FILE`: carry one activation through, without the daemon.

A short program of its own, since what it activates may stop, replace or break the daemon that asked for it. It
reads the request in FILE, holds the lock beside it, and ends when the state file says `done`. Started again for
the same request it does what is left to do: nothing, or go back. Standard library only.

Exit status: 0 done (the state file has the result), 1 could not begin, 2 usage.
"""

import os
import sys
import time
from pathlib import Path

from clanmeshd.rollout.activation import read_request, try_lock
from clanmeshd.rollout.guard import guard

LOCK_WAIT_S = 5.0  # the daemon's own look at the lock is over at once; an activator at work is not
_LOCK_PAUSE_S = 0.02
_READY = b"ready"


def main(arguments: list[str]) -> int:
    """Run the program."""
    detach = arguments[:1] == ["--detach"]
    if len(arguments) != 1 + detach:
        print("usage: activator [--detach] FILE", file=sys.stderr)  # noqa: T201 - a program's own usage
        return 2
    path = Path(arguments[-1]).absolute()
    return _detached(path) if detach else _carry(path, None)


def _carry(path: Path, ready: int | None) -> int:
    try:
        activation = read_request(path)
        if _lock(path.parent) is None:
            raise OSError(f"{path}: another activator is at work")
    except (OSError, ValueError) as error:
        _say(ready, str(error).encode())
        return 1
    _say(ready, _READY)
    guard(path.parent, activation)
    return 0


def _lock(directory: Path) -> int | None:
    deadline = time.monotonic() + LOCK_WAIT_S
    while (descriptor := try_lock(directory)) is None and time.monotonic() < deadline:
        time.sleep(_LOCK_PAUSE_S)
    return descriptor


def _say(ready: int | None, text: bytes) -> None:
    """Tell the parent how it began, or the terminal when there is none."""
    if ready is not None:
        os.write(ready, text)
        os.close(ready)
    elif text != _READY:
        os.write(2, b"activator: " + text + b"\n")


def _detached(path: Path) -> int:
    """Go on as a process that nobody waits for, in a session of its own; return once that holds the lock."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        code = 1
        try:
            os.close(reading)
            os.setsid()
            os.chdir("/")
            _silence()
            code = _carry(path, writing)
        finally:
            os._exit(code)
    os.close(writing)
    with open(reading, "rb") as file:
        answer = file.read()
    if answer == _READY:
        return 0
    os.write(2, b"activator: " + (answer or b"it died at its start") + b"\n")
    return 1


def _silence() -> None:
    """Let go of the daemon's pipes: it must not wait for us, nor we die of its end."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
