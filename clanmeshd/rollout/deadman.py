"""The last line: a timer of systemd's that takes over an activation which is not done when it must be.

It is armed before the first step and disarmed with the result, and it is of use when the activator's own unit was
stopped by the revision, or when guard and worker both hang. A plain argument vector, no shell: systemd 252 mangles
`;` and `$?` in a transient unit's command, and a guard that fails silently is none. Standard library only.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from clanmeshd.rollout import hooks, scripts, systemctl
from clanmeshd.rollout.activation import MODULE, PROGRAM, Activation, holder, try_lock
from clanmeshd.rollout.guard import deadline_s

ROUNDS = 2  # of a worker: the activation, and going back after it was ended at its deadline
ARM_TIMEOUT_S = 15  # 30 ms in practice
KILLED_WAIT_S = 5.0  # for a killed process to let go of the lock
_PAUSE_S = 0.02


def unit_of(activation: Activation) -> str:
    """The name of its timer and service, without the ending."""
    return f"clanmesh-guard-{activation.id}"


def arm(path: str, activation: Activation) -> str | None:
    """Let systemd take over when the time is up. Gives None, also if it was armed before, or why it can't be."""
    limit_s = ROUNDS * deadline_s(activation) + len(hooks.names(activation.hooks)) * hooks.HOOK_TIMEOUT_S
    words = [
        "systemd-run",
        "--quiet",
        "--collect",
        "--no-ask-password",
        f"--on-active={limit_s}s",
        "--timer-property=AccuracySec=1s",
        f"--unit={unit_of(activation)}",
        f"--description=clanmesh dead-man of {path}",
        "--property=KillMode=process",
        "--property=Restart=on-failure",
        f"--setenv=PYTHONPATH={os.environ.get('PYTHONPATH', '')}",
        f"--setenv=PATH={os.environ.get('PATH', os.defpath)}",
        *("--", sys.executable, *PROGRAM, "--overdue", path, activation.id),
    ]
    try:
        finished = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=ARM_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = finished.stderr.decode(errors="replace").strip()
    return None if finished.returncode == 0 or "already" in said else said


def disarm(activation: Activation) -> None:
    """There is a result: the timer has nothing to do any more."""
    systemctl.run("stop", f"{unit_of(activation)}.timer")


def take_over(directory: str) -> int | None:
    """End whoever holds the lock and take it; give its descriptor, or None when it does not come free.

    The holder leads a process group with its worker in it, whose number nobody else has while one of them lives.
    Once none of them does, somebody else may: so it is looked at who is in it.
    """
    deadline = time.monotonic() + KILLED_WAIT_S
    while (descriptor := try_lock(directory)) is None and time.monotonic() < deadline:
        leader = holder(directory)
        for member in _activators_of(leader) if leader is not None else []:
            with suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        time.sleep(_PAUSE_S)
    return descriptor


def _activators_of(group: int) -> list[int]:
    """The activators of a process group, but for this very process."""
    found = []
    for pid in scripts.processes():
        with suppress(OSError):  # it has ended
            if os.getpgid(pid) == group and pid != os.getpid() and _is_activator(pid):
                found.append(pid)
    return found


def _is_activator(pid: int) -> bool:
    return MODULE.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
