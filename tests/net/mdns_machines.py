"""Machines for the mDNS tests: processes of `mdns_node` in network namespaces that live as long as they do."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
SECRET, OTHER_SECRET = b"s" * 16, b"o" * 16
PORT = 51871
FOUND_WITHIN_S = 10.0  # 0.3 s on an idle machine; duplicate address detection takes up to 2
STOPPED_WITHIN_S = 1.0


class Machine:
    """A process of `mdns_node` in its own network namespace, which lives as long as it does."""

    def __init__(self) -> None:
        paths = os.pathsep.join((os.fspath(CHECKOUT), os.fspath(CHECKOUT / "protocol")))
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        self._process = subprocess.Popen(
            ["unshare", *user, "--net", sys.executable, "-W", "error", "-m", "tests.net.mdns_node"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONPATH": paths},
        )
        self._rest = b""
        self.lines: list[dict[str, Any]] = []
        self.until("ready")
        self.ip("link", "set", "lo", "up")

    @property
    def pid(self) -> int:
        """The process whose network namespace is the machine's."""
        return self._process.pid

    def ip(self, *arguments: str) -> None:
        """Run `ip` in the machine."""
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        command = ["nsenter", f"--target={self.pid}", *user, "--net", "ip", *arguments]
        subprocess.run(command, check=True, timeout=10)

    def python(self, script: str) -> bytes:
        """Run a script in the machine to its end; what it printed."""
        return subprocess.run(self._inside(script), check=True, timeout=30, stdout=subprocess.PIPE).stdout

    @contextmanager
    def running(self, script: str) -> Iterator[None]:
        """A script that runs in the machine meanwhile, from its first output on."""
        with subprocess.Popen(self._inside(script), stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline(), "the script ended early"
                yield
            finally:
                process.kill()

    def _inside(self, script: str) -> list[str]:
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return ["nsenter", f"--target={self.pid}", *user, "--net", sys.executable, "-c", script]

    def __call__(self, do: str, **fields: Any) -> None:
        """Tell it to do something."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **fields}).encode() + b"\n")
        self._process.stdin.flush()

    def run(self, secret: bytes = SECRET, *former: bytes) -> None:
        """Let it announce itself and listen, for those with a former secret too."""
        self("run", secret=secret.hex(), former=[each.hex() for each in former], port=PORT)

    def until(self, key: str, value: Any = ..., *, within_s: float = FOUND_WITHIN_S) -> dict[str, Any]:
        """Read on until a line has the key (and the value); that line."""
        deadline = time.monotonic() + within_s
        while (line := self._next_line(deadline)) is not None:
            if key in line and value in (..., line[key]):
                return line
        raise AssertionError(f"no {key} = {value} within {within_s} s, but {self.lines}")

    def hears_nothing(self, key: str, for_s: float) -> bool:
        """Read on for a while; whether no line had the key."""
        deadline = time.monotonic() + for_s
        while (line := self._next_line(deadline)) is not None:
            if key in line:
                return False
        return True

    def _next_line(self, deadline: float) -> dict[str, Any] | None:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._rest:
            readable, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                return None
            chunk = os.read(descriptor, 65_536)
            assert chunk, f"the machine ended: {self._errors()}"
            self._rest += chunk
        text, _, self._rest = self._rest.partition(b"\n")
        line: dict[str, Any] = json.loads(text)
        self.lines.append(line)
        return line

    def _errors(self) -> str:
        self._process.kill()
        return self._process.communicate()[1].decode()

    def end(self) -> str:
        """End it; what it complained about."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.stdin = None
        try:
            complaints = self._process.communicate(timeout=10)[1].decode()
        finally:
            self._process.kill()
            self._process.wait()
        return complaints


@contextmanager
def machines(count: int) -> Iterator[list[Machine]]:
    """So many machines; nothing that they have not to complain about may be complained about."""
    made: list[Machine] = []
    complaints: list[str] = []
    try:
        while len(made) < count:
            made.append(Machine())
        yield made
    finally:
        complaints = [machine.end() for machine in made]
    assert not any(complaints), "".join(complaints)


def wire(one: Machine, other: Machine) -> None:
    """Lay a cable between two machines and switch it on."""
    one.ip("link", "add", "lan", "type", "veth", "peer", "name", "lan", "netns", str(other.pid))
    for machine in (one, other):
        machine.ip("link", "set", "lan", "up")


def name(machine: Machine, *addresses: str) -> None:
    """Give a machine addresses on the cable."""
    for address in addresses:
        machine.ip("address", "add", address, "dev", "lan", *(["nodad"] if ":" in address else []))


@contextmanager
def neighbours() -> Iterator[tuple[Machine, Machine]]:
    """Two machines on one cable, where they are 192.0.2.1 and 192.0.2.2."""
    with machines(2) as (one, other):
        wire(one, other)
        name(one, "192.0.2.1/24")
        name(other, "192.0.2.2/24")
        yield one, other
