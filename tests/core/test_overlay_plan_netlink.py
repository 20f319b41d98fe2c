"""Netlink's framing and the kernel WireGuard's messages, without a kernel; rtnetlink against the one that runs."""

import contextlib
import errno
import struct
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clanmesh_protocol.endpoints import Endpoint
from clanmeshd.overlay import wireguard_messages as messages
from clanmeshd.overlay.device import Network, Peer, WireGuard
from clanmeshd.overlay.netlink import (
    NETLINK_ROUTE,
    Message,
    NetlinkSocket,
    Request,
    attribute,
    frame,
    parse_attributes,
    parse_messages,
)
from clanmeshd.overlay.plan import Configure, SetPeer
from clanmeshd.overlay.routing import Routing

MEMORY_KB_MAX = 3072  # what the whole room may add to the daemon
HOME = Endpoint(bytes([192, 0, 2, 1]), 51872)
FAR = Endpoint(bytes.fromhex("20010db8" + "00" * 11 + "01"), 7)


def test_a_request_byte_by_byte() -> None:
    """Length, type, flags (request, acknowledge and our own), sequence, no port; padded behind the length."""
    assert frame(Request(18, 0x300, b"abcde"), 7) == (
        struct.pack("=IHHII", 21, 18, 0x305, 7, 0) + b"abcde" + bytes(3)
    )


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40)), unique_by=lambda pair: pair[0]))
def test_attributes_come_back(pairs: list[tuple[int, bytes]]) -> None:
    """Whatever their lengths."""
    encoded = b"".join(attribute(kind, payload) for kind, payload in pairs)
    assert len(encoded) % 4 == 0
    assert parse_attributes(encoded) == dict(pairs)


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=40)), max_size=5))
def test_messages_come_back(pairs: list[tuple[int, bytes]]) -> None:
    """Several in one read."""
    data = b"".join(frame(Request(kind, 0, body), number) for number, (kind, body) in enumerate(pairs))
    assert list(parse_messages(data)) == [
        Message(kind, 0x5, number, body) for number, (kind, body) in enumerate(pairs)
    ]


@pytest.mark.parametrize(
    "data",
    [
        bytes(3),
        bytes(15),
        struct.pack("=IHHII", 15, 0, 0, 0, 0),
        struct.pack("=IHHII", 17, 0, 0, 0, 0),
        struct.pack("=IHHII", 0xFFFFFFFF, 0, 0, 0, 0),
        struct.pack("=IHHII", 0, 0, 0, 0, 0),
    ],
)
def test_bad_messages_are_refused(data: bytes) -> None:
    """Too short, too long, and the length 0 that would never end."""
    with pytest.raises(OSError, match="netlink message") as caught:
        list(parse_messages(data))
    assert caught.value.errno == errno.EBADMSG


@pytest.mark.parametrize("data", [bytes(1), struct.pack("=HH", 3, 1), struct.pack("=HH", 8, 1), bytes(4)])
def test_bad_attributes_are_refused(data: bytes) -> None:
    """Likewise."""
    with pytest.raises(OSError, match="netlink attribute"):
        parse_attributes(data)


@given(st.binary(max_size=120))
def test_noise_is_parsed_or_refused(data: bytes) -> None:
    """Nothing but OSError comes out of the readers."""
    with contextlib.suppress(OSError):
        list(parse_messages(data))
    with contextlib.suppress(OSError):
        parse_attributes(data)


async def test_the_kernel_answers() -> None:
    """The loopback interface is there, another is not; reading needs no right."""
    routing = Routing()
    link = await routing.read_link("lo")
    assert link is not None
    assert link.index == 1
    assert await routing.read_link("no-such-link") is None
    addresses, routes = await routing.read_networks(link.index)
    assert all(len(network.ip) == 16 for network in (*addresses, *routes))
    routing.close()


async def test_a_refusal_has_the_kernels_errno() -> None:
    """A message type that does not exist."""
    netlink = NetlinkSocket(NETLINK_ROUTE)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is the point
        await netlink.ask(Request(0xFFF0, 0, bytes(16)))
    assert caught.value.errno == errno.EOPNOTSUPP
    netlink.close()


def device_attributes(body: bytes) -> dict[int, bytes]:
    """The attributes behind the generic netlink header."""
    return parse_attributes(body[4:])


def nested(data: bytes) -> list[dict[int, bytes]]:
    """The elements of a nested list of attributes."""
    found = []
    while data:
        (length,) = struct.unpack_from("=H", data)
        found.append(parse_attributes(data[4:length]))
        data = data[(length + 3) & ~3 :]
    return found


def test_a_change_for_the_kernel() -> None:
    """Read with other code than wrote it: the numbers are those of linux/wireguard.h."""
    change = Configure(
        private_key=bytes([3]) * 32,
        listen_port=51872,
        removed=(bytes([2]) * 32,),
        peers=(
            SetPeer(bytes([1]) * 32, False, frozenset({Network(bytes(15) + b"\x01", 128)}), HOME, 25),
            SetPeer(bytes([4]) * 32, True, None, FAR, None),
        ),
    )
    (body,) = messages.encode_configure("clan0", change)
    assert body[:2] == bytes([1, 1])  # WG_CMD_SET_DEVICE, version
    found = device_attributes(body)
    assert found.keys() == {2, 3, 6, 8}  # name, private key, port, peers; above all no flags
    assert found[2] == b"clan0\0"
    assert found[3] == bytes([3]) * 32
    assert found[6] == struct.pack("=H", 51872)
    removed, added, changed = nested(found[8])
    assert removed == {1: bytes([2]) * 32, 3: struct.pack("=I", 1)}
    allowed = nested(added.pop(9))
    assert added == {
        1: bytes([1]) * 32,
        3: struct.pack("=I", 2),
        4: struct.pack("=H", 2) + (51872).to_bytes(2, "big") + HOME.ip + bytes(8),
        5: struct.pack("=H", 25),
    }
    assert allowed == [{1: struct.pack("=H", 10), 2: bytes(15) + b"\x01", 3: bytes([128])}]
    assert changed == {
        1: bytes([4]) * 32,
        3: struct.pack("=I", 4),
        4: struct.pack("=H", 10) + (7).to_bytes(2, "big") + bytes(4) + FAR.ip + bytes(4),
    }


def test_many_peers_are_several_messages() -> None:
    """None of them larger than an attribute can be; the key and the port are said once."""
    count = 3 * messages.PEERS_PER_MESSAGE + 1
    peers = tuple(
        SetPeer(number.to_bytes(32, "big"), False, frozenset({Network(bytes(16), 128)}), FAR, 25)
        for number in range(count)
    )
    bodies = list(messages.encode_configure("clan0", Configure(bytes(32), 1, (), peers)))
    assert len(bodies) == 4
    assert [3 in device_attributes(body) for body in bodies] == [True, False, False, False]
    sent = [peer[1] for body in bodies for peer in nested(device_attributes(body)[8])]
    assert sent == [number.to_bytes(32, "big") for number in range(count)]
    assert max(map(len, bodies)) < 0xFFFF


def peer_attribute(*attributes: bytes) -> bytes:
    """One peer in a list of them."""
    return attribute(0 | 0x8000, b"".join(attributes))


def allowed_attribute(ip: bytes, bits: int) -> bytes:
    """One AllowedIP in a list of them."""
    family = 10 if len(ip) == 16 else 2
    fields = attribute(1, struct.pack("=H", family)) + attribute(2, ip) + attribute(3, bytes([bits]))
    return attribute(0 | 0x8000, fields)


def test_a_device_of_the_kernels() -> None:
    """A peer whose AllowedIPs go on in the next message keeps what the first one said of it."""
    first = b"".join(
        (
            b"\x00\x01\x00\x00",
            attribute(3, bytes([9]) * 32),
            attribute(6, struct.pack("=H", 51872)),
            attribute(
                8 | 0x8000,
                peer_attribute(
                    attribute(1, bytes([1]) * 32),
                    attribute(4, struct.pack("=H", 2) + (7).to_bytes(2, "big") + HOME.ip + bytes(8)),
                    attribute(5, struct.pack("=H", 25)),
                    attribute(6, struct.pack("=qq", 12, 999)),
                    attribute(7, struct.pack("=Q", 5)),
                    attribute(8, struct.pack("=Q", 6)),
                    attribute(9 | 0x8000, allowed_attribute(bytes(16), 128)),
                ),
            ),
        )
    )
    rest = b"\x00\x01\x00\x00" + attribute(
        8 | 0x8000,
        peer_attribute(attribute(1, bytes([1]) * 32), attribute(9 | 0x8000, allowed_attribute(bytes(4), 0))),
    )
    assert messages.decode_device([first, rest]) == WireGuard(
        bytes([9]) * 32,
        51872,
        {
            bytes([1]) * 32: Peer(
                frozenset({Network(bytes(16), 128), Network(bytes(4), 0)}), 25, Endpoint(HOME.ip, 7), 12, 5, 6
            )
        },
    )


def test_a_device_without_a_key() -> None:
    """The kernel shows zeros for a key that was not set."""
    assert messages.decode_device([b"\x00\x01\x00\x00" + attribute(3, bytes(32))]) == WireGuard()


def dump(*peers: bytes) -> bytes:
    """A message about some peers."""
    return b"\x00\x01\x00\x00" + attribute(8 | 0x8000, b"".join(peers))


def test_what_is_said_again_is_not_read_again() -> None:
    """What differs is, and of who is gone nothing is kept."""
    known: messages.Known = {}
    key, other, gone = (attribute(1, bytes([number]) * 32) for number in (1, 2, 3))
    first = messages.decode_device([dump(peer_attribute(key), peer_attribute(other), peer_attribute(gone))], known)
    sent = attribute(8, struct.pack("=Q", 6))
    second = messages.decode_device([dump(peer_attribute(key), peer_attribute(other, sent))], known)
    assert second.peers[bytes([1]) * 32] is first.peers[bytes([1]) * 32]
    assert second.peers == {bytes([1]) * 32: Peer(), bytes([2]) * 32: Peer(tx_bytes=6)}
    assert len(known) == 2


@pytest.mark.parametrize(
    "peer",
    [
        b"\x03\x00",  # no whole header
        b"\x05\x00\x00\x00",  # longer than what is there
        b"\x03\x00\x00\x00",  # shorter than its own header
        peer_attribute(),
        peer_attribute(attribute(1, bytes(31))),
        peer_attribute(attribute(1, bytes(32)), attribute(4, struct.pack("=H", 2) + bytes(6))),
        peer_attribute(attribute(1, bytes(32)), attribute(6, bytes(7))),
        peer_attribute(attribute(1, bytes(32)), attribute(9 | 0x8000, allowed_attribute(bytes(5), 8))),
        peer_attribute(attribute(1, bytes(32)), attribute(9 | 0x8000, b"\x09\x00\x00\x00")),
    ],
)
def test_a_bad_dump_is_refused(peer: bytes) -> None:
    """One fault each; and nothing of it is known afterwards."""
    known: messages.Known = {}
    with pytest.raises(OSError, match=r"netlink|WireGuard message") as caught:
        messages.decode_device([dump(peer)], known)
    assert caught.value.errno == errno.EBADMSG
    assert known == {}


def test_what_the_room_costs() -> None:
    """Neither asyncio nor all of pyroute2 comes along, and the memory is within its bound."""
    program = """
import sys, trio, nacl.bindings, msgpack, importlib.util, clanmeshd.core.effects, clanmeshd.process
def resident_kb():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Rss:"))
modules, before = set(sys.modules), resident_kb()
import clanmeshd.overlay.backend
print(resident_kb() - before, sorted({"asyncio", "pyroute2", "ctypes"} & (set(sys.modules) - modules)))
"""
    finished = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": ".:protocol"}, stdout=subprocess.PIPE, check=True
    )
    added_kb, _, unwanted = finished.stdout.decode().strip().partition(" ")
    assert unwanted == "[]"
    assert int(added_kb) < MEMORY_KB_MAX
