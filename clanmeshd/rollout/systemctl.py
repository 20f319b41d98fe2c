"""What systemd says of its units; starting and restarting them. Standard library only, every call bounded.

All of it is for a daemon that systemd runs: elsewhere nothing here is called, and no unit is looked at.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NamedTuple
else:
    from clanmeshd.rollout.tuples import NamedTuple

QUERY_TIMEOUT_S = 30  # 30 ms for three hundred units; systemctl itself gives up after D-Bus' 25 s
RESTART_TIMEOUT_S = 60  # the daemon's unit has 10 s to stop and 30 s to start
UNIT_FILE_BYTES_MAX = 65_536

STEADY_S = 60  # who has been up for as long since systemd had to start it again does so no more

_PROPERTIES = "Id,ActiveState,SubState,InvocationID,NRestarts,FragmentPath,ActiveEnterTimestampMonotonic"
_TRANSIENT = "/run/systemd/transient/"  # made on the spot: there is nothing to start them from again
_KINDS = (".service", ".socket", ".timer", ".path")  # what a revision stops and starts
_OURS = ("clanmesh-activation-", "clanmesh-guard-", "clanmesh-resume")  # who looks is not looked at
_OF_SESSIONS = ("user@", "user-runtime-dir@", "session-")  # come and go with people, not with revisions
# Likewise what a socket starts for each connection: systemd names it by the number and both ends of that.
_OF_CONNECTIONS = r".+@\d+-(\d+-\d+|.+:\d+-.+:\d+)\.service"


class Unit(NamedTuple):
    """One unit's state."""

    active: str  # `active`, `inactive`, `failed`, `activating`, …
    sub: str
    invocation: str  # changes with each start
    restarts: int  # by systemd itself, since somebody last started it
    file: str
    is_unsteady: bool = False  # systemd keeps starting it again


class Identity(NamedTuple):
    """Which program and settings a unit's next start takes, and which start it had last."""

    content: str
    invocation: str
    active: str


def run(*words: str, timeout_s: float = QUERY_TIMEOUT_S) -> tuple[str, str | None]:
    """Run systemctl; give what it printed, and None or why it failed."""
    import subprocess  # takes 15 ms, which an activation without systemd has no need for

    try:
        finished = subprocess.run(
            ["systemctl", "--no-pager", "--no-ask-password", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "", f"systemctl {words[0]} did not end within {timeout_s:.0f} s"
    except OSError as error:
        return "", f"systemctl cannot be run: {error.strerror}"
    if finished.returncode == 0:
        return finished.stdout.decode(errors="replace"), None
    lines = finished.stderr.decode(errors="replace").strip().splitlines()
    return "", lines[0] if lines else f"systemctl {words[0]} exited with {finished.returncode}"


def units() -> dict[str, Unit] | None:
    """All loaded units but for the activators' and what people brought, by name; None when systemd is silent."""
    told, trouble = run("show", "--all", f"--property={_PROPERTIES}", "*")
    if trouble is not None:
        return None
    return read_units(told, time.monotonic())


def read_units(told: str, now_s: float) -> dict[str, Unit]:
    """The units that `systemctl show` told of, at this time since the machine's start."""
    import re

    found = {}
    for block in told.split("\n\n"):
        value = _properties(block)
        name = value.get("Id", "")
        if name and not name.startswith((*_OURS, *_OF_SESSIONS)) and not re.fullmatch(_OF_CONNECTIONS, name):
            found[name] = _unit(value, now_s)
    return found


def _unit(value: dict[str, str], now_s: float) -> Unit:
    restarts = int(value.get("NRestarts") or 0)
    up_s = now_s - int(value.get("ActiveEnterTimestampMonotonic") or 0) / 1e6
    return Unit(
        value.get("ActiveState", ""),
        value.get("SubState", ""),
        value.get("InvocationID", ""),
        restarts,
        value.get("FragmentPath", ""),
        is_unsteady=value.get("SubState") == "auto-restart" or (restarts > 0 and up_s < STEADY_S),
    )


def _properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def newly_failed(before: dict[str, Unit], now: dict[str, Unit]) -> list[str]:
    """Units that have failed now and were well before: neither failed, nor started again and again."""
    return sorted(
        name
        for name, unit in now.items()
        if unit.active == "failed"
        and (name not in before or (before[name].active != "failed" and not before[name].is_unsteady))
    )


def stopped(before: dict[str, Unit], now: dict[str, Unit]) -> list[str]:
    """Units that were active before, are not now, and can be started again."""
    return sorted(
        name
        for name, unit in before.items()
        if unit.active == "active"
        and name.endswith(_KINDS)
        and not unit.file.startswith(_TRANSIENT)
        and unit.file
        and (name not in now or now[name].active in ("inactive", "failed"))
    )


def started(before: dict[str, Unit], now: dict[str, Unit]) -> list[str]:
    """Services that were started, or started again, since before."""
    return sorted(
        name
        for name, unit in now.items()
        if name.endswith(".service")
        and unit.active in ("active", "activating", "reloading")
        and (name not in before or before[name].invocation != unit.invocation)
        and not unit.file.startswith(_TRANSIENT)
    )


def crashing(before: dict[str, Unit], then: dict[str, Unit], now: dict[str, Unit]) -> list[str]:
    """Services that systemd itself had to start again between the last two, and not before already."""
    return sorted(
        name
        for name, unit in now.items()
        if name in then
        and unit.restarts > then[name].restarts
        and not (name in before and (before[name].is_unsteady or before[name].active == "failed"))
    )


def start(names: Iterable[str]) -> str | None:
    """Start units. Gives None, or why one of them did not start."""
    return run("start", *names, timeout_s=RESTART_TIMEOUT_S)[1]


def reload() -> str | None:
    """Let systemd read its unit files again. Gives None, or why it does not.

    What NeedDaemonReload says is not enough: systemd 252 does not see a drop-in whose folder is new.
    """
    return run("daemon-reload", timeout_s=RESTART_TIMEOUT_S)[1]


def restart(name: str) -> str | None:
    """Restart a unit, whatever state it is in. Gives None, or why it does not run."""
    run("reset-failed", name)
    return run("restart", name, timeout_s=RESTART_TIMEOUT_S)[1]


def identity(name: str) -> Identity | None:
    """What a unit is made of: its files and the real path of its program. None when systemd does not say."""
    import re

    told, trouble = run("show", f"--property={_PROPERTIES},DropInPaths,ExecStart", name)
    if trouble is not None:
        return None
    value = _properties(told)
    files = [value.get("FragmentPath", ""), *value.get("DropInPaths", "").split()]
    program = re.search(r"path=(\S+)", value.get("ExecStart", ""))
    parts = [f"{os.path.realpath(path)}\n{_text(path)}" for path in files if path]
    parts.append(os.path.realpath(_executed(files) or (program[1] if program else "")))
    return Identity("\n".join(parts), value.get("InvocationID", ""), value.get("ActiveState", ""))


def _executed(files: list[str]) -> str | None:
    """The program that the files name; systemd itself knows only what it last read."""
    import re

    found = None
    for path in files:
        for line in _text(path).splitlines() if path else []:
            if match := re.match(r"\s*ExecStart\s*=\s*[-@:+!|]*(/\S+)", line):
                found = match[1]
    return found


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(UNIT_FILE_BYTES_MAX).decode(errors="replace")
    except OSError:
        return ""
