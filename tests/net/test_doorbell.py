"""The socket at which WireGuard rings for peers that sleep: whom for, and what is no ring."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import blake2s

import pytest
import trio

from clanmesh_protocol.keys import NodeId
from clanmeshd.overlay.doorbell import BATCH_MAX, Doorbell
from clanmeshd.overlay.wireguard_packets import DATA, INITIATION, INITIATION_BYTES, RESPONSE, mac1_key

ANNA, BEN = (NodeId(letter * 32) for letter in (b"A", b"B"))
KEYS = {b"a" * 32: ANNA, b"b" * 32: BEN}
PATIENCE_S = 20.0


def initiation(key: bytes) -> bytes:
    """A handshake as far as anybody but the receiver of this public key can tell."""
    body = INITIATION.ljust(INITIATION_BYTES - 32, b"x")
    return body + blake2s(body, digest_size=16, key=mac1_key(key)).digest() + bytes(16)


@contextmanager
def wireguard() -> Iterator[socket.socket]:
    """A socket in the place of WireGuard's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind(("127.0.0.1", 0))
        yield opened


async def rings(*packets: bytes, foreign: bool = False) -> list[tuple[NodeId | None, bytes]]:
    """What is rung, up to a last ring for Ben."""
    rung: list[tuple[NodeId | None, bytes]] = []
    with wireguard() as own, wireguard() as other, closing(Doorbell(own.getsockname()[1])) as bell:
        bell.set_peers(KEYS)
        at = (bell.endpoint.host, bell.endpoint.port)
        for packet in packets:
            (other if foreign else own).sendto(packet, at)
        own.sendto(initiation(b"b" * 32), at)
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:

                def take(node: NodeId | None, packet: bytes) -> None:
                    rung.append((node, packet))
                    if node == BEN:
                        nursery.cancel_scope.cancel()

                nursery.start_soon(bell.run, take)
    return rung[:-1]


async def test_a_handshake_says_for_whom_it_is() -> None:
    ring = initiation(b"a" * 32)
    assert await rings(ring, ring) == [(ANNA, ring)] * 2


async def test_a_packet_of_a_session_does_not() -> None:
    data = DATA.ljust(80, b"x")
    assert await rings(data) == [(None, data)]


@pytest.mark.parametrize(
    "packet",
    [
        initiation(b"c" * 32),
        initiation(b"a" * 32)[:-1],
        initiation(b"a" * 32)[:-40] + bytes(40),
        RESPONSE.ljust(92, b"x"),
        b"",
        bytes(9000),
    ],
)
async def test_other_packets_are_no_ring(packet: bytes) -> None:
    assert await rings(packet) == []


async def test_nobody_else_rings() -> None:
    assert await rings(initiation(b"a" * 32), DATA.ljust(80, b"x"), foreign=True) == []


async def test_a_crowd_of_rings_is_taken_in_turns() -> None:
    ring = initiation(b"a" * 32)
    assert await rings(*[ring] * 3 * BATCH_MAX) == [(ANNA, ring)] * 3 * BATCH_MAX
