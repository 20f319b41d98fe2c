"""The demonstration's outside: a world of namespaces around it, and its end whatever happens.

Root makes them directly; anybody else inside a user namespace, where the system allows that. The inside lives only
as long as this process holds a pipe to it, so that nothing is left over, not even after SIGKILL.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from clanctl.demo.network import unshare_words
from clanctl.demo.processes import wait_until
from clanctl.failures import Failure, one_line

PROGRAMS: Final = {  # what runs, and the Debian package that has it
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
    "hostname": "hostname",
    "ip": "iproute2",
    "ping": "iputils-ping",
    "git": "git",
    "ssh-keygen": "openssh-client",
}
END_TIMEOUT_S: Final = 5.0  # for the kernel to end all processes of the namespace
NOISE_LINES_MAX: Final = 20  # of what is no event: a defect's traceback

_SYSCTLS: Final = {  # a setting that forbids user namespaces, its forbidding value, and the remedy
    "kernel/unprivileged_userns_clone": ("0", "sudo sysctl kernel.unprivileged_userns_clone=1"),
    "kernel/apparmor_restrict_unprivileged_userns": (
        "1",
        "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    "user/max_user_namespaces": ("0", "sudo sysctl user.max_user_namespaces=10000"),
}


def check_system() -> None:
    """See that all programs are there and that the system lets us have namespaces. Raises Failure."""
    missing = {name: package for name, package in PROGRAMS.items() if shutil.which(name) is None}
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        raise Failure("the demo", f"missing: {' '.join(missing)}", f"`sudo apt install {packages}`")
    words = [*unshare_words(mapped_root=os.geteuid() != 0), "true"]
    tried = subprocess.run(words, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if tried.returncode != 0:
        why = (
            f"this system refuses it network namespaces of its own ({one_line(tried.stderr) or 'no reason given'})"
        )
        raise Failure("the demo", why, refusal_remedy(os.geteuid(), read_setting))


def read_setting(name: str) -> str | None:
    """A value under /proc/sys, or None where the kernel does not have it."""
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return None


def refusal_remedy(user: int, setting: Any = read_setting) -> str:
    """What lets the demonstration run where namespaces were refused."""
    if user == 0:
        return "run it outside of this container, or give the container the right to (CAP_SYS_ADMIN)"
    for name, (forbidding, remedy) in _SYSCTLS.items():
        if setting(name) == forbidding:
            return f"allow it: `{remedy}`; or run the demo by sudo"
    return "run the demo by sudo"


class World:
    """The running inside. `events` gives what it tells; `leave` lets it live on."""

    def __init__(self, directory: Path, *, nodes: int, keep: bool, started_monotonic_s: float) -> None:
        inner_end, self._lifeline = os.pipe()
        words = [*unshare_words(mapped_root=os.geteuid() != 0), sys.executable, "-m", "clanctl.demo"]
        words += ["--directory", os.fspath(directory), "--nodes", str(nodes), "--lifeline", str(inner_end)]
        words += ["--started", repr(started_monotonic_s), *(["--keep"] if keep else [])]
        self.left = False
        self._noise: list[str] = []
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            pass_fds=(inner_end,),
            start_new_session=True,  # Ctrl-C is for us alone: we end the inside as a whole
        )
        os.close(inner_end)

    def events(self) -> Iterator[Mapping[str, Any]]:
        """Give events until it ends or is left."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                yield json.loads(line)
            except ValueError:
                self._noise = [*self._noise, line.rstrip()][-NOISE_LINES_MAX:]
            if self.left:
                return

    @property
    def noise(self) -> str:
        """What it said beside events."""
        return "\n".join(self._noise)

    def leave(self) -> int:
        """Let it live on without us; gives its first process."""
        self.left = True
        return next(iter(children(self.process.pid)), self.process.pid)

    def end(self) -> None:
        """End it and wait until it is gone, unless it was left."""
        os.close(self._lifeline)
        if self.process.stdout is not None:
            self.process.stdout.close()
        if self.left:
            self.process.returncode = 0  # it is meant to outlive us: no warning about that
            return
        inside = children(self.process.pid)
        self.process.kill()  # its child has asked to be killed with it
        self.process.wait()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in inside), END_TIMEOUT_S)


@contextmanager
def world(*, nodes: int, keep: bool) -> Iterator[World]:
    """Make a world and end it at the end of the block, also on SIGTERM."""
    started_s = time.monotonic()
    before = signal.signal(signal.SIGTERM, _terminate)
    directory = Path(tempfile.mkdtemp(prefix="clanmesh-demo-"))
    made: World | None = None
    try:
        made = World(directory, nodes=nodes, keep=keep, started_monotonic_s=started_s)
        yield made
    finally:
        if made is not None:
            made.end()
        if made is None or not made.left:  # removing it would take the mount from under a world that lives on
            shutil.rmtree(directory, ignore_errors=True)  # it is empty: its content was seen from inside alone
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def children(parent: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/status"):
        fields = _status(entry)
        if fields.get("PPid") == str(parent):
            found.append(int(entry.parent.name))
    return found


def outer_pids(first: int, inside: Mapping[str, int]) -> dict[str, int]:
    """Find processes that the inside knows by its own numbers; `first` is its first process as we see it."""
    namespace = _process_namespace_depth(first)
    wanted = {pid: name for name, pid in inside.items()}
    found: dict[str, int] = {}
    for entry in Path("/proc").glob("[0-9]*/status"):
        numbers = _status(entry).get("NSpid", "").split()
        if len(numbers) > namespace and int(numbers[namespace]) in wanted and _below(int(numbers[0]), first):
            found[wanted[int(numbers[namespace])]] = int(numbers[0])
    return found


def _process_namespace_depth(first: int) -> int:
    return len(_status(Path(f"/proc/{first}/status")).get("NSpid", "").split()) - 1


def _below(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        pid = int(_status(Path(f"/proc/{pid}/status")).get("PPid", "0"))
    return False


def _status(path: Path) -> dict[str, str]:
    try:
        rows = (line.partition(":") for line in path.read_text().splitlines())
        return {name: value.strip() for name, _, value in rows}
    except (FileNotFoundError, ProcessLookupError):
        return {}
