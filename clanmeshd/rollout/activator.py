"""`python -m clanmeshd.rollout.activator [--detach] FILE`: carry one activation through, without the daemon.

`--resume FILE` is what a boot calls: it leaves an activation alone that somebody is at work on.
`--overdue FILE ID` is the dead-man's call: if FILE is still that request, whoever works on it is ended first.

A short program of its own, since what it activates may stop, replace or break the daemon that asked for it. It
reads the request in FILE, holds the lock beside it, and ends when the state file says `done`. Started again for
the same request it does what is left to do: nothing, or go back. Standard library only.

Exit status: 0 done (the state file has the result), 1 could not begin, 2 usage.
"""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from clanmeshd.rollout import deadman, scripts
from clanmeshd.rollout.activation import Activation, activator_lives, read_request, sign_lock, try_lock
from clanmeshd.rollout.guard import guard

LOCK_WAIT_S = 5.0  # the daemon's own look at the lock is over at once; an activator at work is not
_LOCK_PAUSE_S = 0.02
_READY = b"ready"


def main(arguments: list[str]) -> int:
    """Run the program."""
    match arguments:
        case ["--overdue", file, activation_id]:
            return _overdue(Path(file).absolute(), activation_id)
        case ["--resume", file]:
            return _resume(Path(file).absolute())
        case ["--detach", file]:
            return _detached(Path(file).absolute())
        case [file] if not file.startswith("-"):
            return _carry(Path(file).absolute(), None)
    print("usage: activator [--detach | --resume] FILE | --overdue FILE ID", file=sys.stderr)  # noqa: T201 - a program's usage
    return 2


def _carry(path: Path, ready: int | None) -> int:
    try:
        activation = read_request(path)
        descriptor = _lock(path.parent)
        if descriptor is None:
            raise OSError(f"{path}: another activator is at work")
        sign_lock(descriptor)
    except (OSError, ValueError) as error:
        _say(ready, str(error).encode())
        return 1
    _say(ready, _READY)
    if activation.unit and (why := deadman.arm(path, activation)) is not None:
        scripts.note(activation, f"there is no dead-man's timer: {why}")
    return _guard(path, activation)


def _guard(path: Path, activation: Activation) -> int:
    try:
        guard(path.parent, activation)
    except OSError as error:  # a full disk: systemd or the daemon start it again
        _say(None, str(error).encode())
        return 1
    if activation.unit:
        deadman.disarm(activation)
    return 0


def _resume(path: Path) -> int:
    try:
        alive = activator_lives(path.parent)
    except OSError as error:
        _say(None, str(error).encode())
        return 1
    return 0 if alive else _carry(path, None)


def _overdue(path: Path, activation_id: str) -> int:
    try:
        activation = read_request(path)
        if activation.id != activation_id:
            return 0
        descriptor = deadman.take_over(path.parent)
        if descriptor is None:
            raise OSError(f"{path}: its activator could not be ended")
        sign_lock(descriptor)
    except (OSError, ValueError) as error:
        _say(None, str(error).encode())
        return 1
    return _guard(path, activation)


def _lock(directory: Path) -> int | None:
    deadline = time.monotonic() + LOCK_WAIT_S
    while (descriptor := try_lock(directory)) is None and time.monotonic() < deadline:
        time.sleep(_LOCK_PAUSE_S)
    return descriptor


def _say(ready: int | None, text: bytes) -> None:
    """Tell the parent how it began, or the terminal when there is none."""
    if ready is not None:
        with suppress(BrokenPipeError):  # the daemon was killed meanwhile: all the more reason to go on
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
