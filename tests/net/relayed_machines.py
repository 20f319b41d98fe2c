"""Two machines that reach a third one, and each other only by way of it: as a relay, or as a router."""

import ipaddress
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.clock import Stopwatch, seconds_until
from tests.net.wireguard_machines import CHECKOUT, Machine, machines, same_namespaces, wanted
from tests.net.wireguard_scenarios import ping

PING_S = 20.0  # WireGuard repeats a lost handshake after 5 s
BULK_PORT = 5201
FIRST_PORT = 51_873  # of a relay's pairs


class Program:
    """A module of these tests that runs in a machine, and says lines."""

    def __init__(self, machine: Machine, module: str, *words: str) -> None:
        paths = os.pathsep.join((os.fspath(CHECKOUT), os.fspath(CHECKOUT / "protocol")))
        self._process = subprocess.Popen(
            [*same_namespaces(machine.pid), sys.executable, "-m", module, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONPATH": paths},
        )

    def line(self) -> str:
        """The next line that it says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the program has ended"
        return line.rstrip()

    def ask(self) -> str:
        """Say something, and hear its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write("?")
        self._process.stdin.flush()
        return self.line()

    def end(self) -> None:
        """End it without a warning."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


class Stage:
    """The machines, and what runs in them."""

    def __init__(self, made: Sequence[Machine]) -> None:
        self.middle, self.one, self.other = made
        self.first_reply_s = 0.0  # from asking for a relay, without the start of programs
        self._programs: list[Program] = []

    def run(self, machine: Machine, module: str, *words: str) -> Program:
        """Start a program, which ends with the stage."""
        self._programs.append(Program(machine, f"tests.net.{module}", *words))
        return self._programs[-1]

    def relay(self) -> Program:
        """Make the middle a relay."""
        keys = (f"{each.number}={each.public_key.hex()}" for each in (self.one, self.other))
        program = self.run(self.middle, "relay_node", "relay", str(self.middle.number), *keys)
        assert program.line() == "up"
        return program

    def ask(self, machine: Machine, peer: Machine, *, carried: bool = False) -> Program:
        """Have a machine ask for the pair."""
        numbers = (str(each.number) for each in (machine, peer, self.middle))
        words = ["carried"] if carried else []
        return self.run(machine, "relay_node", "ask", *numbers, self.middle.underlay, *words)

    def tunnel(self, machine: Machine, peer: Machine, endpoint: str) -> None:
        """Have WireGuard of a machine send to an endpoint."""
        state = wanted(machine, peer)
        state["tunnels"][0] |= {"endpoint": endpoint, "keepalive_s": 25}
        machine("apply", wanted=state)

    def relayed(self, *, carried: Sequence[Machine] = ()) -> Program:
        """Both send by way of the relay, which is given."""
        program = self.relay()
        took_s = 0.0
        for machine, peer in ((self.one, self.other), (self.other, self.one)):
            with Stopwatch() as watch:
                word, at, seconds = self.ask(machine, peer, carried=machine in carried).line().split(" ", 2)
            assert word == "ready", at
            took_s += min(float(seconds), watch.passed_s)  # as it says itself; without a pause of the machine
            self.tunnel(machine, peer, at)
        self.first_reply_s = took_s + self.until_ping()
        return program

    def direct(self) -> None:
        """Make the middle a router, and let both send to each other."""
        self.middle.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        for machine, peer in ((self.one, self.other), (self.other, self.one)):
            via = self.middle.underlay
            machine.run("ip", "route", "replace", f"{peer.underlay}/32", "via", via, "dev", "wire")
            machine("apply", wanted=wanted(machine, peer))
        self.until_ping()

    def cut(self) -> None:
        """Make the middle no router any more."""
        self.middle.run("sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward")

    def until_ping(self) -> float:
        """Wait until the two reach each other in the overlay; the seconds that it took."""
        return seconds_until(lambda: ping(self.one, self.other), PING_S)

    def bulk(self, seconds: float) -> float:
        """Send as much as goes over one TCP stream in the overlay; bits a second."""
        address = str(ipaddress.IPv6Address(self.other.overlay))
        server = self.run(self.other, "bulk", "serve", address, str(BULK_PORT))
        assert server.line() == "ready"
        self.run(self.one, "bulk", "send", address, str(BULK_PORT), str(seconds))
        return float(server.line())

    def flood(self, per_s: float, seconds: float) -> list[Program]:
        """Send junk to the relay's first port, two kinds of it; each program says how much in the end."""
        words = f"{self.middle.underlay}:{FIRST_PORT}", str(per_s / 2), str(seconds)
        floods = [self.run(self.other, "junk_sender", *words, kind) for kind in ("random", "shaped")]
        assert all(flood.line() == "go" for flood in floods)
        return floods

    def lost(self, count: int, interval_s: float, size: int = 56) -> int:
        """How many of so many pings in the overlay found no answer."""
        address = str(ipaddress.IPv6Address(self.other.overlay))
        how = ["-M", "do", "-c", str(count), "-i", str(interval_s), "-W", "1", "-s", str(size)]
        _, said, _ = self.one("run", argv=["ping", "-6", "-q", *how, address])
        found = re.search(r"(\d+) received", said)
        assert found is not None, said
        return count - int(found[1])

    def end(self) -> None:
        """End all programs."""
        for program in reversed(self._programs):
            program.end()


def state(relay: Program) -> dict[str, Any]:
    """What a relay has passed on and dropped so far."""
    answer: dict[str, Any] = json.loads(relay.ask())
    return answer


@contextmanager
def apart() -> Iterator[Stage]:
    """One in the middle, and two that do not reach each other; WireGuard runs on both."""
    with machines(3) as made:
        stage = Stage(made)
        try:
            for machine in (stage.one, stage.other):
                assert machine.open("userspace") == "userspace"
            yield stage
        finally:
            stage.end()
