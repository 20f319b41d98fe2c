"""A device that keeps its ports mapped and says, a JSON object a line, how that stands and what reaches it.

It stops when its input ends.
"""

import json
import sys
from typing import Any

import trio

from clanmeshd.net.mapping.client import PortMapping
from clanmeshd.net.mapping.terms import Forward, Standing, Transport

CONTROL, TUNNEL = 51871, 51872


def tell(**fields: Any) -> None:
    """Print a line."""
    print(json.dumps(fields), flush=True)


async def hear_datagrams(port: int) -> None:
    """Tell what arrives by UDP."""
    with trio.socket.socket(trio.socket.AF_INET6, trio.socket.SOCK_DGRAM) as listener:
        await listener.bind(("::", port))
        while True:
            data = await listener.recv(2048)
            tell(arrived=f"udp {port} {data.decode()}")


async def hear_streams(port: int) -> None:
    """Tell what arrives by TCP."""

    async def hear(stream: trio.SocketStream) -> None:
        tell(arrived=f"tcp {port} {bytes(await stream.receive_some()).decode()}")

    await trio.serve_tcp(hear, port)


async def main() -> None:
    """Run until the input ends."""

    async def changed() -> None:
        for family, standing in (("ipv4", mapping.standing), ("ipv6", mapping.pinholes)):
            if told.get(family) != standing:
                told[family] = standing
                tell(
                    family=family,
                    by=standing.by,
                    external={port: str(at) for port, at in standing.external.items()},
                    reason=standing.reason.value if standing.reason is not None else None,
                )

    told: dict[str, Standing] = {}
    control = (Forward(Transport.UDP, CONTROL), Forward(Transport.TCP, CONTROL))
    mapping = PortMapping((control, (Forward(Transport.UDP, TUNNEL),)), bytes(32), changed)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hear_datagrams, CONTROL)
        nursery.start_soon(hear_datagrams, TUNNEL)
        nursery.start_soon(hear_streams, CONTROL)
        nursery.start_soon(mapping.run)
        async with trio.lowlevel.FdStream(sys.stdin.fileno()) as orders:
            while await orders.receive_some():
                pass
        nursery.cancel_scope.cancel()
    tell(stopped=True)


if __name__ == "__main__":
    trio.run(main)
