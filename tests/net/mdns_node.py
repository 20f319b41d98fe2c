"""One machine of the mDNS tests: `clanmeshd.net.mdns` in a process, steered by lines of JSON on its pipes.

Commands: {"do": "run", "secret", "former", "port"}, {"do": "find", "secret", "timeout_s"}, {"do": "secret"},
{"do": "stop"}. What it hears it writes as {"suggest": endpoint}, {"report": why} and {"found": endpoint or null
at the end}; it answers with {"ready": true} and {"ended": seconds, "threads": names, "descriptors": count}.
"""

import json
import logging
import os
import sys
import threading
import time
from typing import Any

import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmeshd.net import mdns
from clanmeshd.reconcile import Latest


def say(**fields: Any) -> None:
    """Write one line."""
    print(json.dumps(fields), flush=True)


class Machine:
    """What the commands act upon."""

    def __init__(self) -> None:
        self.secret = b""
        self.former: tuple[bytes, ...] = ()
        self.renewed = Latest[bytes]()
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self.descriptors = len(os.listdir("/proc/self/fd"))

    async def run(self, port: int, *, task_status: trio.TaskStatus[None]) -> None:
        """Take part until stopped."""
        with self.scope:
            await mdns.run(
                secret=lambda: self.secret,
                former=lambda: self.former,
                port=port,
                suggest=lambda endpoint: say(suggest=str(endpoint)),
                report=lambda why: say(report=why),
                renewed=self.renewed.changed,
                task_status=task_status,
            )
        self.ended.set()

    async def find(self, secret: bytes, timeout_s: float) -> None:
        """Search to the end."""

        async def found(endpoint: Endpoint) -> None:
            say(found=str(endpoint))

        await mdns.find(secret, timeout_s, found)
        say(found=None)

    async def stop(self) -> None:
        """Cancel, and tell what is left."""
        began = time.monotonic()
        self.scope.cancel()
        await self.ended.wait()
        took = time.monotonic() - began
        threads = [each.name for each in threading.enumerate() if not each.name.startswith(("MainThread", "Trio"))]
        say(ended=took, threads=threads, descriptors=len(os.listdir("/proc/self/fd")) - self.descriptors)

    async def obey(self, command: dict[str, Any], nursery: trio.Nursery) -> None:
        """Carry out one command."""
        match command["do"]:
            case "run":
                self.secret = bytes.fromhex(command["secret"])
                self.former = tuple(map(bytes.fromhex, command["former"]))
                await nursery.start(self.run, command["port"])
            case "find":
                nursery.start_soon(self.find, bytes.fromhex(command["secret"]), command["timeout_s"])
            case "secret":
                self.secret = bytes.fromhex(command["secret"])
                self.renewed.put(self.secret)
            case "stop":
                await self.stop()


async def main() -> None:
    """Obey until the pipe closes."""
    commands = trio.lowlevel.FdStream(os.dup(sys.stdin.fileno()))
    machine, rest = Machine(), b""
    say(ready=True)
    async with commands, trio.open_nursery() as nursery:
        while chunk := await commands.receive_some():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                await machine.obey(json.loads(line), nursery)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    # Its complaints are reported on the pipe; anything else on stderr fails the test.
    logging.getLogger(mdns.__name__).addHandler(logging.NullHandler())
    trio.run(main)
