"""`python -m clanmeshd.rollout.activator [--detach] FILE`: carry one activation through, without the daemon.

`--resume FILE` is what a boot calls: it leaves an activation alone that somebody is at work on, or nobody began.
`--overdue FILE ID` is the dead-man's call: if FILE is still that request, whoever works on it is ended first.

A short program of its own, since what it activates may stop, replace or break the daemon that asked for it. It
reads the request in FILE, holds the lock beside it, and ends when the state file says `done`. Started again for
the same request it does what is left to do: nothing, or go back. Standard library only.

Exit status: 0 done (the state file has the result), 1 could not begin, 2 usage.
"""

from __future__ import annotations

import os
import sys
import time

from clanmeshd.rollout import scripts
from clanmeshd.rollout.activation import (
    Activation,
    activator_lives,
    has_begun,
    read_request,
    sign_lock,
    try_lock,
)
from clanmeshd.rollout.guard import guard

LOCK_WAIT_S = 5.0  # the daemon's own look at the lock is over at once; an activator at work is not
_LOCK_PAUSE_S = 0.02
_READY = b"ready"


def main(arguments: list[str]) -> int:
    """Run the program."""
    match arguments:
        case ["--overdue", file, activation_id]:
            return _overdue(os.path.abspath(file), activation_id)
        case ["--resume", file]:
            return _resume(os.path.abspath(file))
        case ["--detach", file]:
            return _detached(os.path.abspath(file))
        case [file] if not file.startswith("-"):
            return _carry(os.path.abspath(file), None)
    print("usage: activator [--detach | --resume] FILE | --overdue FILE ID", file=sys.stderr)  # noqa: T201 - a program's usage
    return 2


def _carry(path: str, ready: int | None) -> int:
    try:
        activation = read_request(path)
        descriptor = _lock(os.path.dirname(path))
        if descriptor is None:
            raise OSError(f"{path}: another activator is at work")
        sign_lock(descriptor)
    except (OSError, ValueError) as error:
        _say(ready, str(error).encode())
        return 1
    _say(ready, _READY)
    if activation.unit:
        _arm(path, activation)
    return _guard(path, activation)


def _arm(path: str, activation: Activation) -> None:
    from clanmeshd.rollout import deadman  # for a daemon that systemd runs

    if (why := deadman.arm(path, activation)) is not None:
        scripts.note(activation, f"there is no dead-man's timer: {why}")


def _guard(path: str, activation: Activation) -> int:
    try:
        guard(os.path.dirname(path), activation)
    except OSError as error:  # a full disk: systemd or the daemon start it again
        _say(None, str(error).encode())
        return 1
    if activation.unit:
        from clanmeshd.rollout import deadman

        deadman.disarm(activation)
    return 0


def _resume(path: str) -> int:
    directory = os.path.dirname(path)
    try:
        is_left = not activator_lives(directory) and has_begun(directory, read_request(path))
    except (OSError, ValueError) as error:
        _say(None, str(error).encode())
        return 1
    return _carry(path, None) if is_left else 0


def _overdue(path: str, activation_id: str) -> int:
    from clanmeshd.rollout import deadman

    try:
        activation = read_request(path)
        if activation.id != activation_id:
            return 0
        descriptor = deadman.take_over(os.path.dirname(path))
        if descriptor is None:
            raise OSError(f"{path}: its activator could not be ended")
        sign_lock(descriptor)
    except (OSError, ValueError) as error:
        _say(None, str(error).encode())
        return 1
    return _guard(path, activation)


def _lock(directory: str) -> int | None:
    deadline = time.monotonic() + LOCK_WAIT_S
    while (descriptor := try_lock(directory)) is None and time.monotonic() < deadline:
        time.sleep(_LOCK_PAUSE_S)
    return descriptor


def _say(ready: int | None, text: bytes) -> None:
    """Tell the parent how it began, or the terminal when there is none."""
    if ready is not None:
        try:
            os.write(ready, text)
        except BrokenPipeError:
            return  # the daemon was killed meanwhile: all the more reason to go on
        finally:
            os.close(ready)
    elif text != _READY:
        os.write(2, b"activator: " + text + b"\n")


def _detached(path: str) -> int:
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
