"""One machine for the WireGuard tests: our backend in a process, driven by JSON lines over stdin and stdout.

Each request is an object with `do`; each answer is `{"ok": …}`, or `{"error": …, "what", "why", "remedy"}`.
It mounts a fresh tmpfs over /run, since wireguard-go's socket path is the same for every network namespace:
run it in a mount namespace of its own.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from clanmesh_protocol.endpoints import Endpoint, parse_endpoint
from clanmesh_protocol.keys import NodeId
from clanmeshd.core.effects import SetTunnels, Tunnel
from clanmeshd.overlay.backend import Backend, OverlayUnavailable, open_backend
from clanmeshd.overlay.interface import Interface
from tests.net.probing import Prober, Refused

_MARK = "/run/clanmesh-test-machine"
_READ_BYTES = 65_536


def wanted_from(text: dict[str, Any]) -> SetTunnels:
    """Read a wanted state from its JSON form."""
    return SetTunnels(
        private_key=bytes.fromhex(text["private_key"]),
        listen_port=text["listen_port"],
        address=bytes.fromhex(text["address"]),
        prefix_bits=48,
        tunnels=tuple(map(_tunnel, text["tunnels"])),
    )


def _tunnel(text: dict[str, Any]) -> Tunnel:
    endpoint: Endpoint | None = parse_endpoint(text["endpoint"]) if text["endpoint"] else None
    key = bytes.fromhex(text["public_key"])
    address, mtu = bytes.fromhex(text["address"]), text.get("mtu", 0)
    return Tunnel(NodeId(key), key, address, endpoint, text["keepalive_s"], mtu=mtu)


class Node:
    """The state behind the requests."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._backend: Backend | None = None
        self._taken: list[trio.socket.SocketType] = []
        self._prober: Prober | None = None

    async def open(self, request: dict[str, Any]) -> Any:
        """Open the backend; the answer is its kind."""
        self._backend = await open_backend(request["interface"], self._nursery, request["kind"])
        return self._backend.kind

    async def apply(self, request: dict[str, Any]) -> Any:
        """Apply a wanted state; the answer is the seconds that it took."""
        assert self._backend is not None
        wanted = wanted_from(request["wanted"])
        start = time.perf_counter()
        await self._backend.apply(wanted)
        return time.perf_counter() - start

    async def read(self, _request: dict[str, Any]) -> Any:
        """The state of each peer."""
        assert self._backend is not None
        return {
            key.hex(): {
                "endpoint": str(state.endpoint) if state.endpoint else None,
                "handshake_unix_s": state.handshake_unix_s,
                "rx_bytes": state.rx_bytes,
                "tx_bytes": state.tx_bytes,
            }
            for key, state in (await self._backend.read()).items()
        }

    async def difference(self, request: dict[str, Any]) -> Any:
        """What an apply would do, as text."""
        assert isinstance(self._backend, Interface)
        return [repr(step) for step in await self._backend.difference(wanted_from(request["wanted"]))]

    async def take_port(self, request: dict[str, Any]) -> Any:
        """Be the other program that has the port."""
        taken = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        await taken.bind(("0.0.0.0", request["port"]))
        self._taken.append(taken)

    async def share_port(self, request: dict[str, Any]) -> Any:
        """Probe on a port from now on, as the device of a name that knows others; the reason if that can't be."""
        try:
            self._prober = Prober(request["name"], request["others"], request["port"])
        except Refused as refused:
            return refused.reason._asdict()
        self._nursery.start_soon(self._prober.run)
        return None

    async def probe(self, request: dict[str, Any]) -> Any:
        """Probe another device; whether something was sent."""
        assert self._prober is not None
        return self._prober.probe(request["name"], parse_endpoint(request["target"]))

    async def open_way(self, request: dict[str, Any]) -> Any:
        """Send an opener towards another device; whether something was sent."""
        assert self._prober is not None
        return self._prober.open(request["name"], parse_endpoint(request["target"]))

    async def probed(self, _request: dict[str, Any]) -> Any:
        """What probes came and what they proved, as texts, and what did not pass."""
        assert self._prober is not None
        return {
            "heard": [[name, str(each.source), str(each.aimed_at)] for name, each in self._prober.heard],
            "proven": [[name, str(each.target), str(each.observed)] for name, each in self._prober.proven],
            "refused": dict(self._prober.probing.counters),
            "counters": dict(self._prober.port.counters),
        }

    async def run(self, request: dict[str, Any]) -> Any:
        """Run a program in this machine."""
        finished = await trio.run_process(
            request["argv"], capture_stdout=True, capture_stderr=True, check=False, stdin=subprocess.DEVNULL
        )
        return [finished.returncode, finished.stdout.decode(), finished.stderr.decode()]

    async def children(self, _request: dict[str, Any]) -> Any:
        """The process ids of our children."""
        text = await trio.Path(f"/proc/self/task/{os.getpid()}/children").read_text()
        return [int(pid) for pid in text.split()]

    async def close(self, _request: dict[str, Any]) -> Any:
        """Close the backend."""
        assert self._backend is not None
        await self._backend.close()
        self._backend = None


async def _answer(act: Callable[[dict[str, Any]], Awaitable[Any]], request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"ok": await act(request)}
    except OverlayUnavailable as reason:
        return {"error": str(reason), "what": reason.what, "why": reason.why, "remedy": reason.remedy}
    except OSError as error:
        return {"error": str(error), "errno": error.errno}


async def _serve() -> None:
    async with trio.open_nursery() as nursery:
        node = Node(nursery)
        rest = b""
        requests = trio.lowlevel.FdStream(os.dup(0))
        while chunk := await requests.receive_some(_READ_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                request = json.loads(line)
                answer = await _answer(getattr(node, request["do"]), request)
                sys.stdout.write(json.dumps(answer) + "\n")
                sys.stdout.flush()
        nursery.cancel_scope.cancel()


def main() -> None:
    """Be a machine until standard input ends. The namespaces are there already."""
    if not os.path.exists(_MARK):
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
        open(_MARK, "x").close()
        subprocess.run(["ip", "link", "set", "lo", "up"], check=False)  # one may lack the right
    trio.run(_serve)


if __name__ == "__main__":
    main()
