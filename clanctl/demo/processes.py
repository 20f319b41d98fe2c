"""The lab's own processes: those that hold namespaces, and how a child of another is found."""

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from clanctl.failures import one_line

POLL_S: Final = 0.02
FORK_TIMEOUT_S: Final = 10.0  # of a process that does nothing else first


class LabError(Exception):
    """The laboratory itself could not do something: one line."""


def wait_until(holds: Callable[[], bool], timeout_s: float) -> bool:
    """Poll until something holds; False when it does not within the time."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def child_of(pid: int) -> int:
    """The one child of a process, once it has one. Raises LabError."""
    found: list[int] = []

    def forked() -> bool:
        found.extend(number for number, parent in _parents() if parent == pid)
        return bool(found)

    if not wait_until(forked, FORK_TIMEOUT_S):
        raise LabError(f"process {pid} has no child")
    return found[0]


def _parents() -> list[tuple[int, int]]:
    """All processes with their parents, as /proc tells."""
    pairs = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            behind_name = entry.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        pairs.append((int(entry.parent.name), int(behind_name[1])))
    return pairs


def hold(words: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start a process that prepares a namespace and holds it until our end of its stdin closes."""
    holder = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert holder.stdout is not None
    assert holder.stderr is not None
    if holder.stdout.readline() != b"ready\n":
        holder.kill()
        reason = holder.stderr.read().decode("utf-8", "replace").strip().splitlines()
        release(holder)
        raise LabError(f"making a namespace failed: {one_line(reason[-1]) if reason else 'without a reason'}")
    return holder


def release(holder: "subprocess.Popen[bytes]") -> None:
    """Give up what a holder holds, and wait until it is gone."""
    holder.kill()
    holder.wait()
    for pipe in (holder.stdin, holder.stdout, holder.stderr):
        if pipe is not None:
            pipe.close()
