"""A container with the machine's own /usr and a root of its own, in which systemd is the first process.

Everything that an installation writes lands in that root, so it can be compared with what was there before.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from clanmeshd.rollout import asking
from tests.clock import wait_until

CHECKOUT: Final = Path(__file__).resolve().parent.parent.parent
LOG_SHOWN_MAX: Final = 2000
BOOT_TIMEOUT_S: Final = 180.0  # half a second on an idle machine; it may have to go back from a revision
COMMAND_TIMEOUT_S: Final = 120.0
END_TIMEOUT_S: Final = 60.0  # a second on an idle machine
ASK_TIMEOUT_S: Final = 10.0
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
IDENTITY: Final = {  # of who commits
    "GIT_AUTHOR_NAME": "Kim",
    "GIT_AUTHOR_EMAIL": "kim@example.org",
    "GIT_COMMITTER_NAME": "Kim",
    "GIT_COMMITTER_EMAIL": "kim@example.org",
}

# What an installation takes from a checkout.
SOURCES: Final = ("clanmeshd", "clanctl", "protocol", "systemd", "tools")
FILES: Final = ("Makefile", "pyproject.toml", "requirements.lock")

_FOLDERS: Final = (
    "proc",
    "sys",
    "dev",
    "run",
    "tmp",
    "root",
    "opt",
    "usr",
    "var/lib",
    "var/log",
    "etc/systemd/system/multi-user.target.wants",
)
_FROM_ETC: Final = ("os-release", "passwd", "group", "shadow", "gshadow", "nsswitch.conf", "login.defs")
_OFF: Final = (  # units that a host's own /usr brings along and that want more of a machine than this is
    "console-getty.service",
    "getty@.service",
    "nftables.service",
    "systemd-firstboot.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
)
_BUS_RELOAD: Final = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "ReloadConfig")


def folder_of_wheels() -> Path:
    """A folder with all packages that an installation needs, filled once: containers have no network."""
    digest = hashlib.sha256((CHECKOUT / "requirements.lock").read_bytes()).hexdigest()[:16]
    directory = CHECKOUT / ".cache" / f"wheels-{digest}"
    if not (directory / "complete").exists():
        subprocess.run([CHECKOUT / "tools/install", "wheels", "--wheels", directory], check=True)
        (directory / "complete").touch()
    return directory


class Container:
    """One booted container. `root` is its root as the host sees it, but for what is mounted inside.

    `has_tunnels`: it has the device for interfaces, so a WireGuard in user space can run.
    """

    def __init__(self, directory: Path, wheels: Path, *, has_tunnels: bool = False) -> None:
        self.root = directory / "root"
        self.local = directory / "usr-local"
        self._directory = directory
        self._wheels = wheels
        self._has_tunnels = has_tunnels
        self._log = directory / "console.log"
        self._first = 0
        if not (self.root / "etc").exists():
            _make_root(self.root)
            for folder in ("bin", "lib"):
                (self.local / folder).mkdir(parents=True)
            _copy_checkout(self.root / "root" / "clanmesh")
        self.boot()

    def boot(self) -> None:
        """Switch it on."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._words(self._directory.name, self._wheels), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._wait_for_boot()
        except BaseException:
            self.end()
            raise

    @property
    def inside(self) -> Path:
        """Its root as it sees it itself, with what is mounted there."""
        return Path(f"/proc/{self._first}/root")

    def processes(self, unit: str) -> list[int]:
        """The processes of a unit, by their numbers out here."""
        space = os.readlink(f"/proc/{self._first}/ns/pid")
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_in(pid, space, unit)]

    def _words(self, name: str, wheels: Path) -> list[str]:
        return [
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--private-network",
            f"--machine=clanmesh-{os.getpid()}-{re.sub('[^a-z0-9]+', '', name)}",
            f"--directory={self.root}",
            "--bind-ro=/usr",
            f"--bind={self.local}:/usr/local",
            f"--bind-ro={wheels}:/wheels",
            *(["--bind=/dev/net/tun"] if self._has_tunnels else []),
            "--boot",
            "systemd.unit=multi-user.target",
        ]

    def run(self, *words: str, check: bool = True, env: Mapping[str, str] | None = None) -> str:
        """Run a command inside and give what it printed on both channels. Raises AssertionError when it fails."""
        status, output = self.attempt(*words, env=env)
        assert not check or status == 0, f"{' '.join(words)} ended with {status}:\n{output}"
        return output

    def attempt(self, *words: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run a command inside; give its status and what it printed on both channels."""
        variables = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", **(env or {})}
        entering = ["nsenter", "--all", f"--target={self._first}", "env", "--chdir=/root", "-i"]
        finished = subprocess.run(
            [*entering, *(f"{name}={value}" for name, value in variables.items()), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        return finished.returncode, finished.stdout

    def reload(self) -> None:
        """Have systemd and the bus read their files anew."""
        self.run("busctl", "call", *_BUS_RELOAD)
        self.run("systemctl", "daemon-reload")

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit, as systemd tells them."""
        told = self.run("systemctl", "show", unit, *(f"--property={name}" for name in names))
        return dict(line.split("=", 1) for line in told.splitlines() if "=" in line)

    def journal(self, *words: str) -> str:
        """What the journal has by now, with all that was said before."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "--no-pager", *words)

    def ask(self, call: str, runtime: str = "clanmesh") -> Any:
        """Ask a daemon inside, which costs much less than a command. Raises OSError."""
        # The path through /proc is too long for a socket's name: go there.
        here = os.open(self.inside / "run" / runtime, os.O_PATH)
        try:
            return asking.ask(Path(f"/proc/self/fd/{here}"), call, ASK_TIMEOUT_S)
        finally:
            os.close(here)

    def processes_with(self, *words: bytes) -> list[int]:
        """The processes with these among the words of their command line, by their numbers out here."""
        space = os.readlink(f"/proc/{self._first}/ns/pid")
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):  # it has ended
                line = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
                if set(words) <= set(line) and os.readlink(f"/proc/{name}/ns/pid") == space:
                    found.append(int(name))
        return found

    def cut(self) -> None:
        """Pull the plug: every process is gone at once. What was not written to a disk is still in memory."""
        os.kill(self._first, signal.SIGKILL)  # the first process takes all others with it
        assert wait_until(lambda: not Path(f"/proc/{self._first}").exists(), END_TIMEOUT_S)
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """Power it off; by force when it does not go."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)  # nspawn powers it off
            try:
                self._process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _wait_for_boot(self) -> None:
        assert wait_until(self._is_up, BOOT_TIMEOUT_S), (
            f"it did not boot:\n{self._log.read_text(errors='replace')[-LOG_SHOWN_MAX:]}"
        )

    def _is_up(self) -> bool:
        assert self._process.poll() is None, f"it ended:\n{self._log.read_text(errors='replace')}"
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if not children or not _is_first(int(children[0])):
            return False
        self._first = int(children[0])
        status, said = self.attempt("systemctl", "is-system-running")
        return status == 0 or said.strip() == "degraded"


def _is_first(pid: int) -> bool:
    """Whether it is the first process of a space of its own; the one that prepares that is still outside."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False  # it has ended
    return any(line.startswith("NSpid:") and line.split()[2:] and line.split()[-1] == "1" for line in lines)


def _is_in(pid: int, space: str, unit: str) -> bool:
    try:
        if os.readlink(f"/proc/{pid}/ns/pid") != space:
            return False
        groups = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return False  # it has ended
    return any(line.endswith(f"/{unit}") for line in groups)


def _make_root(root: Path) -> None:
    for folder in _FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    for name in _FROM_ETC:
        if Path("/etc", name).exists():
            shutil.copy2(Path("/etc", name), root / "etc" / name)
    for name in ("alternatives", "dbus-1", "ssl/certs"):
        if Path("/etc", name).is_dir():
            shutil.copytree(Path("/etc", name), root / "etc" / name, symlinks=True)
    for unit in _OFF:
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    subprocess.run(["systemd-machine-id-setup", f"--root={root}"], check=True, capture_output=True)


def _copy_checkout(target: Path) -> None:
    target.mkdir(parents=True)
    for name in SOURCES:
        shutil.copytree(CHECKOUT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "vectors"))
    for name in FILES:
        shutil.copy2(CHECKOUT / name, target / name)
