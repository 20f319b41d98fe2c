"""A network of machines in namespaces, each with a real daemon, for the demonstration, tests and benchmarks.

Each machine has its own network, mounts, processes and host name, and ends with the lab's process: its first
process waits on a pipe that only the lab holds. Needs root, or to be inside a user namespace.
"""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import clanctl
import clanmesh_protocol
from clanctl.client import STATE_VARIABLE, Instance, call
from clanctl.demo import network
from clanctl.demo.network import Place
from clanctl.demo.processes import LabError, child_of, hold, release, wait_until
from clanctl.failures import Failure

RUNTIME_DIRECTORY: Final = "/run/clanmesh"  # the default one: /run is each machine's own
START_TIMEOUT_S: Final = 20.0  # of a daemon, on a loaded machine
COMMAND_TIMEOUT_S: Final = 120.0
LOG_LINES: Final = 20  # of each daemon, shown after a failure

_SHIMS: Final = {"clanctl": "clanctl", "clanmeshd": "clanmeshd", "git-remote-clan": "clanctl.git_remote"}

# What would make git and ssh-keygen behave as the person's own settings say, and not as on a new machine.
_UNSET: Final = (
    *("XDG_CONFIG_HOME", "SSH_AUTH_SOCK", "GIT_CONFIG_GLOBAL", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"),
    *("GIT_SSH_COMMAND", STATE_VARIABLE, "CLANMESH_RUNTIME_DIR", "NOTIFY_SOCKET", "WATCHDOG_USEC"),
)


@dataclass(slots=True)
class Node:
    """One machine. `pid` is its first process, as the lab sees it."""

    place: Place
    directory: Path
    holder: "subprocess.Popen[bytes]"
    pid: int
    arguments: tuple[str, ...] = ()
    program: str = "clanmeshd"  # the module that is its daemon
    daemon: "subprocess.Popen[bytes] | None" = None

    @property
    def name(self) -> str:
        """Its host name."""
        return self.place.name

    @property
    def instance(self) -> Instance:
        """Its daemon, as the lab reaches it: through the machine's own view of the file system."""
        return Instance(self.directory / "state", Path(f"/proc/{self.pid}/root{RUNTIME_DIRECTORY}"))

    @property
    def daemon_pid(self) -> int:
        """The process that is its daemon, behind the one that enters the machine. Raises LabError."""
        assert self.daemon is not None
        return child_of(self.daemon.pid)

    @property
    def log(self) -> Path:
        """What its daemon writes to stderr."""
        return self.directory / "daemon.log"


class Lab:
    """Machines on one LAN. Use it as a context: at its end everything is gone but the files in `directory`."""

    def __init__(self, directory: Path, *, environment: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.nodes: dict[str, Node] = {}
        self._plugged = 0
        self._islands = 0  # that were ever made; one that stands empty is used again
        self._extra = dict(environment or {})
        self.binaries = directory / "bin"
        _write_shims(self.binaries)
        self._switch = hold(["unshare", "--net", "sh", "-c", "echo ready; exec cat"])
        self.configure(self._switch.pid, network.bridge_batch())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- machines ---

    def add_node(self, name: str) -> Node:
        """Make a machine and plug it in, with no daemon yet. Raises LabError."""
        assert name not in self.nodes
        assert self._plugged < network.MACHINES_MAX
        self._plugged += 1  # never used again, not even after a crash: the old cable may still lie there
        place = Place(self._plugged, name)
        words = [*network.unshare_words(mapped_root=False), "--uts", "sh", "-c", network.holder_script(place)]
        holder = hold(words)
        node = Node(place, self.directory / name, holder, child_of(holder.pid))
        node.directory.mkdir(exist_ok=True)
        (node.directory / "home").mkdir(exist_ok=True)
        self.plug_in(node)
        self.nodes[name] = node
        return node

    def plug_in(self, node: Node) -> None:
        """Connect a new machine to the LAN. Raises LabError."""
        self.configure(self._switch.pid, network.cable_batch(node.place, node.pid))
        self.configure(node.pid, network.machine_batch(node.place))

    def start_node(self, name: str, *arguments: str, program: str = "clanmeshd", wait: bool = True) -> Node:
        """Make a machine and start its daemon with further command-line arguments. Raises LabError."""
        node = self.add_node(name)
        node.arguments, node.program = arguments, program
        self.start_daemon(node, wait=wait)
        return node

    def start_daemon(self, node: Node, *, wait: bool = True) -> None:
        """Start a machine's daemon, for the first time or again. Raises LabError."""
        command = [sys.executable, "-m", node.program, "--state-dir", os.fspath(node.instance.state_directory)]
        with node.log.open("ab") as log:
            node.daemon = subprocess.Popen(
                [*network.enter_words(node.pid), *command, "--runtime-dir", RUNTIME_DIRECTORY, *node.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(node),
                start_new_session=True,
            )
        if wait:
            self.wait_ready(node)

    def wait_ready(self, node: Node) -> None:
        """Wait until a machine's daemon answers. Raises LabError with its last words."""

        def answers() -> bool:
            if node.daemon is None or node.daemon.poll() is not None:
                raise LabError(f"the daemon of {node.name} ended at its start: {self.log_tail(node, 1)}")
            return self.answers(node)

        if not wait_until(answers, START_TIMEOUT_S):
            raise LabError(f"the daemon of {node.name} did not answer within {START_TIMEOUT_S:.0f} s")

    def answers(self, node: Node) -> bool:
        """Whether a machine's daemon can be spoken to."""
        try:
            self.call(node, "version")
        except Failure:
            return False
        return True

    def kill(self, node: Node, number: int = signal.SIGKILL) -> None:
        """End a machine's daemon, by default without a warning, and wait until it is gone."""
        if node.daemon is None:
            return
        if node.daemon.poll() is None:
            os.kill(node.daemon_pid, number)
        node.daemon.wait(COMMAND_TIMEOUT_S)
        node.daemon = None

    def crash(self, node: Node) -> None:
        """Switch a machine off, with everything that runs on it. Its directory stays."""
        release(node.holder)
        if node.daemon is not None:
            node.daemon.wait(COMMAND_TIMEOUT_S)
        del self.nodes[node.name]

    def plug(self, node: Node, *, up: bool) -> None:
        """Pull a machine's cable, or plug it in again."""
        self.configure(self._switch.pid, network.link_batch(node.place, up=up))

    def partition(self, *groups: Iterable[Node]) -> None:
        """Part each group from all others: packets pass only within it, and among those that are in none."""
        while self._islands < len(groups):
            self._islands += 1
            self.configure(self._switch.pid, network.bridge_batch(network.island(self._islands)))
        batch = network.move_batch((node.place for node in self.nodes.values()), network.BRIDGE)
        for number, group in enumerate(groups, 1):
            batch += network.move_batch((node.place for node in group), network.island(number))
        self.configure(self._switch.pid, batch)

    def isolate(self, *nodes: Node, isolated: bool = True) -> None:
        """Have no packet pass between any two of these machines, or all again. They reach all others."""
        places = (node.place for node in nodes)
        self.configure(self._switch.pid, network.isolate_batch(places, isolated=isolated))

    def heal(self) -> None:
        """Put all machines on one network again."""
        self.partition()

    def stop(self) -> None:
        """End everything."""
        for node in list(self.nodes.values()):
            self.crash(node)
        release(self._switch)

    # --- what happens on them ---

    def environment(self, node: Node) -> dict[str, str]:
        """The variables of a person at a new machine: a home of its own, our commands, a name for git."""
        person = {f"GIT_{role}_{field}": value for role in ("AUTHOR", "COMMITTER") for field, value in _PERSON}
        kept = {name: value for name, value in os.environ.items() if name not in _UNSET}
        return {
            **kept,
            **person,
            "HOME": os.fspath(node.directory / "home"),
            "PATH": f"{self.binaries}:{kept.get('PATH', os.defpath)}",
            "PYTHONPATH": _python_path(),
            "GIT_CONFIG_NOSYSTEM": "1",
            **self._extra,
        }

    def exec(
        self,
        node: Node,
        argv: Sequence[str],
        *,
        stdin: str = "",
        directory: Path | None = None,
        timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command on a machine to its end. Raises subprocess.TimeoutExpired."""
        return subprocess.run(
            [*network.enter_words(node.pid), "env", f"--chdir={directory or node.directory}", *argv],
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=self.environment(node),
            timeout=timeout_s,
            start_new_session=True,
            check=False,
        )

    def ctl(self, node: Node, *args: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Run `clanctl` on a machine."""
        return self.exec(node, [sys.executable, "-m", "clanctl", *args], stdin=stdin)

    def call(self, node: Node, name: str, args: dict[str, Any] | None = None) -> Any:
        """Ask a machine's daemon without a command in between. Raises Failure."""
        return call(node.instance, name, args)

    def address(self, node: Node) -> str:
        """A machine's address in the clan's network, as its daemon says. Raises Failure."""
        return str(self.call(node, "status")["address"])

    def log_tail(self, node: Node, lines: int = LOG_LINES) -> str:
        """The last lines that a daemon wrote."""
        try:
            return "\n".join(node.log.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""

    def configure(self, pid: int, batch: str) -> None:
        """Have ip(8) do some lines in the network of a process. Raises LabError."""
        finished = subprocess.run(
            [*network.network_words(pid), "ip", "-batch", "-"],
            input=batch,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if finished.returncode != 0:
            raise LabError(f"making the network failed: {finished.stderr.strip().splitlines()[0]}")


_PERSON: Final = (("NAME", "Demo"), ("EMAIL", "demo@example.org"))


def _python_path() -> str:
    """Where a child finds our packages, installed or not."""
    files = [package.__file__ for package in (clanctl, clanmesh_protocol)]
    own = [os.fspath(Path(file).absolute().parents[1]) for file in files if file is not None]
    return os.pathsep.join(dict.fromkeys([*own, *filter(None, [os.environ.get("PYTHONPATH")])]))


def _write_shims(directory: Path) -> None:
    """Put the commands on a path of their own: git looks for `git-remote-clan` there."""
    directory.mkdir(exist_ok=True)
    for name, module in _SHIMS.items():
        path = directory / name
        exported = f"PYTHONPATH={shlex.quote(_python_path())} exec {shlex.quote(sys.executable)}"
        path.write_text(f'#!/bin/sh\n{exported} -m {module} "$@"\n')
        path.chmod(0o755)
