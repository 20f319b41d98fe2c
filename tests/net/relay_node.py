"""A relay for the tests, without a daemon around it: its pairs come by the command line, as WireGuard keys in hex.

It prints the port of each pair, then answers each line of its input with what was passed on and dropped so far and
the CPU time that it took.
"""

import json
import os
import sys
import time

import trio

from clanmesh_protocol.keys import NodeId
from clanmeshd.overlay.relay import Relay
from clanmeshd.overlay.relay_ports import RelayPorts

FIRST_PORT = 51_900


def _members(pair: str) -> tuple[NodeId, NodeId]:
    one, other = pair.split("+")
    return NodeId(bytes.fromhex(one)), NodeId(bytes.fromhex(other))


async def _main(pairs: list[str]) -> None:
    relay = Relay(NodeId(bytes(32)), os.urandom, trio.current_time())
    ports = RelayPorts(relay, FIRST_PORT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ports.run)
        for pair in pairs:
            made, _ = relay.grant(*_members(pair), lambda node: (node,), trio.current_time())
            ports.open(made)
            print(made.port, flush=True)
        async with trio.lowlevel.FdStream(os.dup(0)) as requests:
            while await requests.receive_some(1):
                print(json.dumps(_state(relay, ports)), flush=True)
        nursery.cancel_scope.cancel()


def _state(relay: Relay, ports: RelayPorts) -> dict[str, object]:
    packets, size = relay.used()
    dropped = {why: count for pair in relay.pairs.values() for why, count in pair.dropped.items()}
    return {
        "packets": packets,
        "bytes": size,
        "dropped": dropped,
        "refused": dict(ports.counters),
        "cpu_s": time.process_time(),
    }


if __name__ == "__main__":
    trio.run(_main, sys.argv[1:])
