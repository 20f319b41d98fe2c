"""Relay and members for the tests, without daemons around them.

`relay_node relay OWN NUMBER=KEY...` in one machine, `relay_node ask OWN PEER RELAY ADDRESS [carried]` in others.
Keys are WireGuard's, in hex; identities grow from numbers. The relay answers each line of its input with what was
passed on and dropped so far and the CPU time that it took. A member prints what it hears: `ready` with where
WireGuard is to send and the seconds that it took, or `failed` with the code.
"""

import json
import os
import socket
import struct
import sys
import time

import trio

from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmesh_protocol.keys import ClanId, NodeId, signing_public
from clanmeshd.core.effects import Holder
from clanmeshd.net.stream import Stream, Ties, open_listeners, serve
from clanmeshd.reaching import Reach
from clanmeshd.relays.asking import Asker
from clanmeshd.relays.serving import RelayService, Surroundings
from tests.net.wireguard_machines import PORT, PREFIX

CLAN = ClanId(b"c" * 16)
CONTROL_PORT, FIRST_PORT = 51_871, 51_873


def seed(number: int) -> bytes:
    """The identity of a machine."""
    return number.to_bytes(2, "big") * 16


def node(number: int) -> NodeId:
    """Its id."""
    return NodeId(signing_public(seed(number)))


async def relay(own: int, keys: dict[NodeId, bytes]) -> None:
    """Be a relay for all that have a key here."""
    around = Surroundings(
        node(own), lambda: True, lambda: keys, lambda each: [keys[each]] if each in keys else [], _endpoints
    )
    service = RelayService(around, FIRST_PORT, os.urandom)
    listeners = await open_listeners(CONTROL_PORT)

    async def handle(channel: Stream) -> None:
        await service.serve(channel)

    async def serve_streams() -> None:
        await serve(listeners, seed=seed(own), clan=lambda: CLAN, may=lambda peer, _: peer in keys, handle=handle)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        nursery.start_soon(serve_streams)
        print("up", flush=True)
        async with trio.lowlevel.FdStream(os.dup(0)) as requests:
            while await requests.receive_some(1):
                print(json.dumps(_state(service)), flush=True)
        nursery.cancel_scope.cancel()


def _endpoints(port: int) -> list[Endpoint]:
    return [endpoint("10.255.255.1", port)]  # an address that nobody reaches: whoever asks has seen another


def _state(service: RelayService) -> dict[str, object]:
    packets, size = service.relay.used()
    pairs = service.relay.pairs.values()
    return {
        "pairs": len(pairs),
        "packets": packets,
        "bytes": size,
        "dropped": sum(pair.dropped.total() for pair in pairs),
        "refused": dict(service.ports.counters),
        "cpu_s": time.process_time(),
    }


class Aloud:
    """Prints what is heard, and how many seconds after the question."""

    def __init__(self) -> None:
        self.asked_s = trio.current_time()

    def ready(self, peer: NodeId, via: NodeId, at: Endpoint, shared: tuple[Endpoint, ...]) -> None:
        """It relays."""
        print(f"ready {at} {trio.current_time() - self.asked_s:.3f}", flush=True)

    def failed(self, peer: NodeId, via: NodeId, code: str, why: str) -> None:
        """It does not."""
        print(f"failed {code} {why}", flush=True)


def _bind(to: Endpoint, packet: bytes) -> None:
    """Send from WireGuard's own port, beside it. A checksum of zero is none, which IPv4 allows."""
    header = struct.pack("!HHHH", PORT, to.port, 8 + len(packet), 0)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
        raw.sendto(header + packet, (to.host, 0))


async def ask(own: int, peer: int, via: int, host: str, *, carried: bool) -> None:
    """Ask for a pair, and keep it until the input ends."""
    asker = Asker(Reach(seed(own), CLAN, Ties()), Aloud(), PORT, PREFIX, _bind)
    holder = Holder(node(via), (endpoint(host, CONTROL_PORT),), frozenset())
    async with trio.open_nursery() as nursery:
        await nursery.start(asker.run)
        asker.ask(node(peer), holder, carried=carried)
        async with trio.lowlevel.FdStream(os.dup(0)) as requests:
            await requests.receive_some(1)
        nursery.cancel_scope.cancel()


def main(words: list[str]) -> None:
    """Do what the words say."""
    if words[0] == "relay":
        pairs = (word.split("=") for word in words[2:])
        trio.run(relay, int(words[1]), {node(int(number)): bytes.fromhex(key) for number, key in pairs})
    else:
        own, peer, via = map(int, words[1:4])
        trio.run(lambda: ask(own, peer, via, words[4], carried=words[5:] == ["carried"]))


if __name__ == "__main__":
    main(sys.argv[1:])
