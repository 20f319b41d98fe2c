"""What the daemon hands to the activator and what it reads back: files in one directory.

    activation.json        the request: complete, written once by the daemon, never changed
    activation.state.json  the step that is under way, written by the activator before it takes the step
    activation.lock        held while an activator lives: two never run; its leader's process id is in it

Beside them the activator keeps `activation.before.json` (see `baseline`), `activation.hooks.json` (see `hooks`)
and `activation.reserve`, a little room for the next states on a disk that has become full. The daemon keeps
`activation.resume`, a script that starts the activator of the version that began (see `steward`), until it has
read the result.

Standard library only, and little of it: the activator's start is on the way of every rollout. Nothing that it
imports takes `typing`, `re`, `json`, `subprocess`, `pathlib` or `socket` from the start: each of them takes longer
than all of the activator. Fields that a reader does not know are ignored, so the version before a rollback still
reads what the version after it wrote.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from clanmeshd.rollout import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any, NamedTuple
else:
    from clanmeshd.rollout.tuples import NamedTuple

FORMAT = 1
REQUEST_NAME = "activation.json"
STATE_NAME = "activation.state.json"
LOCK_NAME = "activation.lock"
RESERVE_NAME = "activation.reserve"
RESUME_NAME = "activation.resume"
FILE_BYTES_MAX = 1 << 20  # each is a few kilobytes; the names of a thousand units fit
DISK_PAUSE_S = 1.0  # between two attempts to write to a disk that is full
DISK_ATTEMPTS_MAX = 300  # then systemd or the daemon start over
ROOM_BYTES = 1 << 20  # less is a full disk: no script gets far with it
RESERVE_BYTES = 65_536  # a state takes one block of the disk, and another while it is replaced

SETTLE_S = 5  # three of systemd's own pauses between two starts of what crashes at once, with some room

MODULE = "clanmeshd.rollout.activator"
# What Python is told, to run the activator of this very version, wherever links to it lead by then.
PROGRAM = ("-S", "-P", os.path.join(os.path.dirname(os.path.realpath(__file__)), "start.py"), MODULE)

MARKER = "CLAN_ACTIVATION"  # in the environment of all that an activation starts: how leftovers are found

# Steps, in the order in which they are taken.
TESTING = "testing"
HEALTH = "health"
COMMITTING = "committing"
ROLLING_BACK = "rolling-back"
DONE = "done"

# Results of a step DONE.
GOOD = "good"
ROLLED_BACK = "rolled-back"
FAILED = "failed"  # neither the new revision nor the last good one is known to be healthy


# Drivers: how a revision is activated.
COMMAND = "command"  # by an executable of the repository
NIXOS = "nixos"  # by the system's own switch-to-configuration


class Revision(NamedTuple):
    """A built checkout and how it is activated."""

    commit: str  # empty: the system as it was before the first commit
    checkout: str
    activate: list[str]  # empty with the driver `nixos`
    health: list[str]  # empty: the repository has no check of its own
    health_timeout_s: int
    activate_timeout_s: int
    driver: str = COMMAND
    toplevel: str = ""  # the NixOS system in the store
    health_units: tuple[str, ...] = ()  # have to be active, where systemd runs the daemon
    settle_s: int = SETTLE_S  # how long units that were started are watched


class Activation(NamedTuple):
    """One request."""

    id: str
    revision: Revision
    last_good: Revision | None
    environment: dict[str, str]
    log: str
    unit: str = ""  # systemd's name for the daemon; empty where systemd does not run it
    hooks: str = ""  # directory of programs that are told the outcome
    refused: str = ""  # why there is nothing to activate: it could not be built, and only the hooks are due


class State(NamedTuple):
    """How far an activation is."""

    id: str
    step: str
    result: str | None = None  # of a step DONE
    why: str = ""  # it did not succeed: for people, one line
    at_unix_s: float = 0.0


def request_bytes(activation: Activation) -> bytes:
    """The request file's content."""
    value = activation._asdict()
    value["revision"] = activation.revision._asdict()
    value["last_good"] = activation.last_good._asdict() if activation.last_good else None
    return jsontext.dumps({"format": FORMAT, **value}).encode() + b"\n"


def read_request(path: str | Path) -> Activation:
    """Read a request. Raises ValueError for a damaged one, OSError."""
    value = load_json(path)
    try:
        last_good = _revision(value["last_good"]) if value["last_good"] is not None else None
        return Activation(
            id=str(value["id"]),
            revision=_revision(value["revision"]),
            last_good=last_good,
            environment={str(key): str(text) for key, text in value["environment"].items()},
            log=str(value["log"]),
            unit=str(value.get("unit", "")),
            hooks=str(value.get("hooks", "")),
            refused=str(value.get("refused", "")),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not an activation") from error


def _revision(value: dict[str, Any]) -> Revision:
    return Revision(
        commit=str(value["commit"]),
        checkout=str(value["checkout"]),
        activate=[str(word) for word in value["activate"]],
        health=[str(word) for word in value["health"]],
        health_timeout_s=int(value["health_timeout_s"]),
        activate_timeout_s=int(value["activate_timeout_s"]),
        driver=str(value.get("driver", COMMAND)),  # written since there are two of them
        toplevel=str(value.get("toplevel", "")),
        health_units=tuple(str(name) for name in value.get("health_units", ())),
        settle_s=int(value.get("settle_s", SETTLE_S)),
    )


def read_state(directory: str | Path) -> State | None:
    """The newest state; None when no activation ever began. Raises ValueError for a damaged file, OSError."""
    path = os.path.join(directory, STATE_NAME)
    try:
        value = load_json(path)
    except FileNotFoundError:
        return None
    try:
        result = str(value["result"]) if value["result"] is not None else None
        return State(str(value["id"]), str(value["step"]), result, str(value["why"]), float(value["at_unix_s"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: not an activation's state") from error


def write_state(directory: str | Path, state: State) -> None:
    """Replace the state, durably, before the step that it names is taken. Raises OSError."""
    value = {"format": FORMAT, **state._replace(at_unix_s=round(time.time(), 3))._asdict()}
    try:
        write_durably(directory, STATE_NAME, value)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        remove(os.path.join(directory, RESERVE_NAME))
        write_durably(directory, STATE_NAME, value)


def reserve(directory: str | Path) -> None:
    """Keep a little room on the disk for the states to come, if there is any left."""
    path = os.path.join(directory, RESERVE_NAME)
    try:
        if not os.path.exists(path) or os.stat(path).st_size < RESERVE_BYTES:
            with open(path, "wb", opener=_private) as file:
                file.write(bytes(RESERVE_BYTES))
                file.flush()
                os.fsync(file.fileno())
    except OSError:
        remove(path)


def remove(path: str) -> None:
    """Remove a file if it is there. Raises OSError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def write_patiently(directory: str | Path, name: str, value: dict[str, Any]) -> None:
    """Replace a file of the activator's as soon as the disk has room for it. Raises OSError after a while."""
    for _ in range(DISK_ATTEMPTS_MAX - 1):
        try:
            return write_durably(directory, name, value)
        except OSError:
            time.sleep(DISK_PAUSE_S)
    return write_durably(directory, name, value)


def has_room(directory: str | Path) -> bool:
    """Say whether the disk of a directory has a little room left; also when that cannot be told."""
    try:
        space = os.statvfs(directory)
    except OSError:
        return True
    return space.f_bavail * space.f_frsize >= ROOM_BYTES


def wait_for_room(directory: str | Path) -> None:
    """Wait until the disk has room, for a while."""
    for _ in range(DISK_ATTEMPTS_MAX):
        if has_room(directory):
            return
        time.sleep(DISK_PAUSE_S)


def write_durably(directory: str | Path, name: str, value: dict[str, Any]) -> None:
    """Replace a file of the activator's. Who writes holds the lock. Raises OSError."""
    temporary = os.path.join(directory, f".{name}.new")
    with open(temporary, "wb", opener=_private) as file:
        file.write(jsontext.dumps(value).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, os.path.join(directory, name))
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def load_json(path: str | Path) -> dict[str, Any]:
    """Read one of the files. Raises ValueError for a damaged one, OSError."""
    with open(path, "rb") as file:
        data = file.read(FILE_BYTES_MAX + 1)
    try:
        value = jsontext.loads(data)
    except ValueError as error:
        raise ValueError(f"{path}: damaged") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ValueError(f"{path}: not of format {FORMAT}")
    return value


def try_lock(directory: str | Path) -> int | None:
    """Take the lock; give its descriptor (closing it gives the lock back), or None when somebody has it."""
    descriptor = os.open(os.path.join(directory, LOCK_NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def sign_lock(descriptor: int) -> None:
    """Write into the lock who holds it: this process, which leads its group."""
    name = f"{os.getpid()}\n".encode()
    try:
        os.pwrite(descriptor, name, 0)  # in place first: that takes no room
        os.ftruncate(descriptor, len(name))
    except OSError:
        return  # a full disk: it goes on without a name rather than not at all


def holder(directory: str | Path) -> int | None:
    """The process that signed the lock last; None when nobody did. Raises OSError."""
    with open(os.path.join(directory, LOCK_NAME)) as file:
        text = file.readline().strip()
    return int(text) if text.isdigit() else None


def has_begun(directory: str | Path, activation: Activation) -> bool:
    """Say whether an activator is at work, or a step was taken of this activation; also when that cannot be told.

    Who asks for one that nobody began decided that at another time: since then the commit may have been held.
    """
    if activator_lives(directory):
        return True
    try:
        state = read_state(directory)
    except ValueError:
        return True
    return state is not None and state.id == activation.id


def activator_lives(directory: str | Path) -> bool:
    """Say whether somebody holds the lock. Raises OSError."""
    descriptor = try_lock(directory)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False
