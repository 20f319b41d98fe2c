"""Two machines that reach a third one, and each other only by way of it: as a relay, or as a router."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.net.wireguard_machines import CHECKOUT, PORT, Machine, eventually, machines, same_namespaces, wanted
from tests.net.wireguard_scenarios import ping

PING_S = 10.0  # WireGuard repeats a lost handshake after 5 s


class RelayProcess:
    """A `relay_node` in a machine's network."""

    def __init__(self, machine: Machine, *pairs: tuple[Machine, Machine]) -> None:
        paths = os.pathsep.join((os.fspath(CHECKOUT), os.fspath(CHECKOUT / "protocol")))
        words = ["+".join(each.public_key.hex() for each in pair) for pair in pairs]
        self._process = subprocess.Popen(
            [*same_namespaces(machine.pid), sys.executable, "-m", "tests.net.relay_node", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONPATH": paths},
        )
        self.pid = self._process.pid
        self.ports = [int(self._line()) for _ in pairs]

    def state(self) -> dict[str, Any]:
        """What was passed on and dropped so far."""
        assert self._process.stdin is not None
        self._process.stdin.write("?")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._line())
        return answer

    def end(self) -> None:
        """End it without a warning."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the relay has ended"
        return line


@contextmanager
def apart() -> Iterator[tuple[Machine, Machine, Machine]]:
    """The one in the middle, and two that do not reach each other; WireGuard runs on both."""
    with machines(3) as (middle, one, other):
        for machine in (one, other):
            assert machine.open("userspace") == "userspace"
        yield middle, one, other


def through(machine: Machine, peer: Machine, relay: Machine, port: int) -> dict[str, Any]:
    """The wanted state of a machine that reaches a peer by a relay's port."""
    state = wanted(machine, peer)
    state["tunnels"][0] |= {"endpoint": f"{relay.underlay}:{port}", "keepalive_s": 25}
    return state


def route(middle: Machine, one: Machine, other: Machine) -> None:
    """Make the middle a router between the two."""
    middle.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    for machine, peer in ((one, other), (other, one)):
        machine.run("ip", "route", "replace", f"{peer.underlay}/32", "via", middle.underlay, "dev", "wire")


def until_ping(one: Machine, other: Machine) -> None:
    """Wait until one reaches the other in the overlay."""
    eventually(lambda: ping(one, other), within_s=PING_S)


__all__ = ["PORT", "RelayProcess", "apart", "route", "through", "until_ping"]
