"""The one way from the daemon to what needs root: start the activator on a request, and let go of it."""

import os
import shlex
import sys
from pathlib import Path
from typing import Final

import trio

import clanmeshd
from clanmeshd import process, systemd
from clanmeshd.rollout.activation import LOCK_NAME, PROGRAM
from clanmeshd.rollout.git import complaint

LAUNCH_TIMEOUT_S: Final = 30.0  # to hold the lock; 60 ms in practice, seconds on a machine that builds
BEGIN_POLL_S: Final = 0.02
RESTART_S: Final = "1"


async def launch(activation: Path) -> None:
    """Start the activator on a request file, detached from this process. Raises OSError when it did not begin.

    It returns once the activator has held the lock: who looks for it before takes one that is slow for a dead one.
    """
    words, where = _program(), _where()
    if systemd.is_service():
        seen = _signed_ns(activation.parent)
        finished = await process.run(
            [*_systemd_run(activation, where), *words, activation], env=where, timeout_s=LAUNCH_TIMEOUT_S
        )
    else:
        finished = await process.run([*words, "--detach", activation], env=where, timeout_s=LAUNCH_TIMEOUT_S)
    if not finished.ok:
        why = "it took too long" if finished.timed_out else complaint(finished)
        raise OSError(f"the activator could not be started: {why}")
    if systemd.is_service():
        await _begun(activation.parent, seen)


async def _begun(directory: Path, seen: int | None) -> None:
    """Wait until somebody has signed the lock since. systemd says no more than that a program was executed."""
    with trio.move_on_after(LAUNCH_TIMEOUT_S) as limit:
        while _signed_ns(directory) == seen:  # noqa: ASYNC110 - another process signs it
            await trio.sleep(BEGIN_POLL_S)
    if limit.cancelled_caught:
        raise OSError("the activator was started, and did not begin")


def _signed_ns(directory: Path) -> int | None:
    try:
        return (directory / LOCK_NAME).stat().st_mtime_ns
    except FileNotFoundError:
        return None


def resumption(activation: Path) -> bytes:
    """A script that starts the same activator on the same request: for the boot after a power cut.

    The daemon does that itself, if it is one that starts. `systemd/clanmesh-resume.service` runs the script.
    """
    words = [
        "env",
        *(f"{key}={value}" for key, value in _where().items()),
        *_program(),
        "--resume",
        str(activation),
    ]
    return f"#!/bin/sh\nexec {shlex.join(words)}\n".encode()


def unit() -> str:
    """The name of this very process's systemd service; empty when systemd did not start it as root."""
    if not systemd.is_service():
        return ""
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ""
    names = {Path(line.rsplit(":", 1)[-1]).name for line in groups if line.split(":")[1] in ("", "name=systemd")}
    return next((name for name in sorted(names) if name.endswith(".service")), "")


def _systemd_run(activation: Path, environment: dict[str, str]) -> list[str]:
    """A transient unit: outside of ours, started again by PID 1 if somebody kills it.

    `KillMode=process` leaves alone what a revision started and wants to keep.
    """
    return [
        "systemd-run",
        "--quiet",
        "--collect",
        "--no-ask-password",
        "--service-type=exec",
        f"--unit=clanmesh-activation-{os.urandom(4).hex()}",
        f"--description=clanmesh activation {activation}",
        "--property=KillMode=process",
        "--property=Restart=on-failure",
        f"--property=RestartSec={RESTART_S}",
        *(f"--setenv={key}={value}" for key, value in environment.items()),
        "--",
    ]


def _program() -> list[str]:
    return [sys.executable, *PROGRAM]


def _where() -> dict[str, str]:
    return {"PYTHONPATH": str(_package_root()), "PATH": os.environ.get("PATH", os.defpath)}


def _package_root() -> Path:
    """What to import the running version from, whatever gets installed meanwhile."""
    assert clanmeshd.__file__ is not None
    return Path(clanmeshd.__file__).resolve().parent.parent
