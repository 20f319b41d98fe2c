"""Machines for the WireGuard tests: processes of `wireguard_node` in network namespaces without names.

A namespace lives as long as the process in it, so nothing stays behind, whatever happens to the test.
"""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from nacl.bindings import crypto_scalarmult_base

from tests.clock import wait_until

T = TypeVar("T")

CHECKOUT = Path(__file__).resolve().parents[2]
INTERFACE = "clan0"
PORT = 51872
ANSWER_TIMEOUT_S = 30  # a booted kernel under emulation is twenty times slower than this machine
PREFIX = bytes.fromhex("fd0102030405")


class Refused(Exception):
    """A machine answered with an error; `answer` has all of it."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(answer["error"])
        self.answer = answer


class Process(Protocol):
    """What a machine needs of the process that it is."""

    pid: int
    stdin: IO[bytes] | None
    stdout: IO[bytes] | None

    def kill(self) -> None:
        """End it."""
        ...

    def wait(self) -> int:
        """Collect its status."""
        ...


def launched(beside: int | None, wrapper: Sequence[str]) -> Process:
    """Start a machine's process in fresh namespaces, or in those of another process."""
    paths = os.pathsep.join((os.fspath(CHECKOUT), os.fspath(CHECKOUT / "protocol")))
    return subprocess.Popen(
        [
            *(_fresh() if beside is None else same_namespaces(beside)),
            *wrapper,
            *(sys.executable, "-m", "tests.net.wireguard_node"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": paths},
    )


class Machine:
    """One process in its own network and mount namespace. `number` makes its keys and addresses.

    `beside` puts it into another machine's namespaces; `wrapper` is a command to run it with.
    """

    launch: Callable[[int | None, Sequence[str]], Process] = staticmethod(launched)

    def __init__(
        self,
        number: int,
        *,
        beside: "Machine | None" = None,
        wrapper: Sequence[str] = (),
    ) -> None:
        self.number = number
        self.private_key = number.to_bytes(2, "big") * 16
        self.public_key = crypto_scalarmult_base(self.private_key)
        self._process = self.launch(beside.pid if beside is not None else None, wrapper)
        self._rest = b""

    @property
    def pid(self) -> int:
        """The process whose namespaces are the machine's."""
        return self._process.pid

    @property
    def underlay(self) -> str:
        """Its address on the wire between machines."""
        return f"192.0.2.{self.number}"

    @property
    def overlay(self) -> bytes:
        """Its packed overlay address."""
        return PREFIX + self.number.to_bytes(10, "big")

    def __call__(self, do: str, **fields: Any) -> Any:
        """Ask it to do something; raises Refused with its error."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **fields}).encode() + b"\n")
        self._process.stdin.flush()
        answer = json.loads(self._read_line())
        if "error" in answer:
            raise Refused(answer)
        return answer["ok"]

    def open(self, kind: str) -> str:
        """Open the overlay backend; the answer is the kind that it has become."""
        found: str = self("open", interface=INTERFACE, kind=kind)
        return found

    def run(self, *argv: str) -> str:
        """Run a program in it that must succeed; its output."""
        code, output, complaint = self("run", argv=argv)
        assert code == 0, f"{argv}: {complaint}"
        return str(output)

    def kill(self) -> None:
        """End it without a warning."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """End it, however it stands."""
        self.kill()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()

    def _read_line(self) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while b"\n" not in self._rest:
            readable, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(descriptor, 65_536) if readable else b""
            if not chunk:
                raise AssertionError("the machine does not answer")
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line


def _fresh() -> list[str]:
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--mount", "--net"]


def same_namespaces(pid: int) -> list[str]:
    """The words before a command that is to run in the namespaces of a process."""
    user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    return ["nsenter", f"--target={pid}", *user, "--mount", "--net"]


@contextmanager
def machines(count: int) -> Iterator[list[Machine]]:
    """So many machines, the second and later ones wired to the first."""
    made: list[Machine] = []
    try:
        for number in range(1, count + 1):
            made.append(Machine(number))
            made[-1]("children")  # it answers: its namespaces are there
        for other in made[1:]:
            wire(made[0], other)
        yield made
    finally:
        for machine in made:
            machine.end()


def wire(one: Machine, other: Machine) -> None:
    """Lay a cable between two machines."""
    name = f"wire{other.number}"
    one.run("ip", "link", "add", name, "type", "veth", "peer", "name", "wire", "netns", str(other.pid))
    one.run("ip", "address", "add", f"{one.underlay}/32", "dev", name)
    one.run("ip", "link", "set", name, "up")
    other.run("ip", "address", "add", f"{other.underlay}/24", "dev", "wire")
    other.run("ip", "link", "set", "wire", "up")
    one.run("ip", "route", "add", f"{other.underlay}/32", "dev", name)


def wanted(own: Machine, *others: Machine, port: int = PORT, other_port: int = PORT) -> dict[str, Any]:
    """The wanted state of one machine that knows the others, in JSON form."""
    return {
        "private_key": own.private_key.hex(),
        "listen_port": port,
        "address": own.overlay.hex(),
        "tunnels": [
            {
                "public_key": other.public_key.hex(),
                "address": other.overlay.hex(),
                "endpoint": f"{other.underlay}:{other_port}",
                "keepalive_s": 0,
                "mtu": 1420,  # as found by one who sent such
            }
            for other in sorted(others, key=lambda machine: machine.public_key)
        ],
    }


def eventually(probe: Callable[[], T], *, within_s: float) -> T:
    """Ask until the answer is true; the last answer fails the test in the end."""
    answers: list[T] = []

    def asked() -> T:
        answers[:] = [probe()]
        return answers[0]

    assert wait_until(asked, within_s), f"not within {within_s} s: {answers[0]!r}"
    return answers[0]


def refusal(act: Callable[[], Any]) -> dict[str, Any]:
    """The error that an act is answered with: what, why and remedy."""
    try:
        act()
    except Refused as refused:
        return refused.answer
    raise AssertionError("it was not refused")
