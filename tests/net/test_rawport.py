"""The raw socket on WireGuard's port, on loopback: checksums, what the filter passes, floods, refusals."""

import os
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
import trio

from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmesh_protocol.probes import PROBE_BYTES
from clanmeshd.overlay import rawport
from clanmeshd.overlay.rawpackets import Arrival, udp_packet
from clanmeshd.overlay.rawport import NoRawPort, RawPort, open_raw_port
from tests.net.probing import node_of
from tests.net.wireguard_machines import Machine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="raw sockets need root: run `sudo make test`")

PATIENCE_S = 20.0
_IP_RECVTTL = 12  # Linux; not in the socket module
US, THEM = node_of("us"), node_of("them")
LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
FAMILIES = pytest.mark.parametrize("family", list(LOOPBACK), ids=lambda family: family.name)


def packet(number: int = 0, node: bytes = US) -> bytes:
    """One that the filter passes, with a number at its end."""
    return (b"\xc7\x50\x01\x01" + bytes(8) + node[:8]).ljust(PROBE_BYTES - 4, b"\0") + number.to_bytes(4, "big")


class Wire:
    """A port as WireGuard has it, on both loopback addresses."""

    def __init__(self) -> None:
        first = self._bound(socket.AF_INET, 0)
        self.port = first.getsockname()[1]
        self.sockets = {socket.AF_INET: first, socket.AF_INET6: self._bound(socket.AF_INET6, self.port)}

    def _bound(self, family: socket.AddressFamily, port: int) -> socket.socket:
        opened = socket.socket(family, socket.SOCK_DGRAM)
        opened.bind((LOOPBACK[family], port))
        opened.settimeout(PATIENCE_S)
        return opened

    def at(self, family: socket.AddressFamily) -> Endpoint:
        """Where it is."""
        return endpoint(LOOPBACK[family], self.port)

    def close(self) -> None:
        """Free it."""
        for opened in self.sockets.values():
            opened.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


@pytest.fixture
def peer() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


@pytest.fixture
def port(wire: Wire) -> Iterator[RawPort]:
    with opened(wire.port) as made:
        yield made


def opened(number: int) -> RawPort:
    """Share a port."""
    made = open_raw_port(number, US)
    assert isinstance(made, RawPort)
    return made


@pytest.fixture
async def arrivals(port: RawPort) -> AsyncIterator[trio.MemoryReceiveChannel[Arrival]]:
    send, receive = trio.open_memory_channel[Arrival](10_000)
    with port.listen() as listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener.run, send.send_nowait)
            yield receive
            nursery.cancel_scope.cancel()


async def next_of(arrivals: trio.MemoryReceiveChannel[Arrival]) -> Arrival:
    """The next one, soon."""
    with trio.fail_after(PATIENCE_S):
        return await arrivals.receive()


@FAMILIES
@pytest.mark.parametrize("data", [b"\x05", b"odd", b"even", bytes(62), b"\xff" * 63], ids=len)
def test_any_socket_takes_it_for_a_packet_from_that_port(
    family: socket.AddressFamily, data: bytes, port: RawPort, wire: Wire, peer: Wire
) -> None:
    port.send(data, peer.at(family))
    got, source = peer.sockets[family].recvfrom(100)
    assert got == data
    assert source[:2] == (LOOPBACK[family], wire.port)
    assert not port.counters


def test_a_wrong_checksum_would_be_noticed(wire: Wire, peer: Wire) -> None:
    """Else the test before would show nothing."""
    at, source = peer.at(socket.AF_INET), socket.inet_aton("127.0.0.1")
    good, bad = udp_packet(b"good", source, wire.port, at), bytearray(udp_packet(b"bad!", source, wire.port, at))
    bad[6] ^= 1
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
        for each in (bytes(bad), good):
            raw.sendto(each, ("127.0.0.1", 0))
    assert peer.sockets[socket.AF_INET].recv(100) == b"good"


def test_a_checksum_of_zero_is_sent_as_ones() -> None:
    """With its own checksum among the data, a packet's words give nothing."""
    source, at = socket.inet_aton("192.0.2.1"), endpoint("192.0.2.2", 1)
    checksum = udp_packet(bytes(2), source, 1, at)[6:8]
    assert udp_packet(checksum, source, 1, at)[6:8] == b"\xff\xff"


@FAMILIES
async def test_only_our_own_shape_for_our_own_port_and_id_passes(
    family: socket.AddressFamily,
    arrivals: trio.MemoryReceiveChannel[Arrival],
    port: RawPort,
    wire: Wire,
    peer: Wire,
) -> None:
    sender, right = peer.sockets[family], packet(7)
    others = (
        b"\x01\0\0\0" + bytes(144),
        b"\x04\0\0\0" + bytes(28),
        b"",
        right[:-1],
        right + b"\0",
        b"\xc7\x51" + right[2:],
        right[:2] + b"\x02" + right[3:],
        packet(7, THEM),
        right[:12] + US[:4] + THEM[4:8] + right[20:],
    )
    for data in others:
        sender.sendto(data, (LOOPBACK[family], wire.port))
    sender.sendto(right, (LOOPBACK[family], peer.port))
    sender.sendto(right, (LOOPBACK[family], wire.port))
    arrival = await next_of(arrivals)
    assert arrival == Arrival(right, peer.at(family), wire.at(family).ip)
    with pytest.raises(trio.WouldBlock):
        arrivals.receive_nowait()
    waiting = [wire.sockets[family].recv(200) for _ in range(len(others) + 1)]
    assert waiting == [*others, right]


async def test_an_answer_leaves_from_the_address_that_was_asked(
    arrivals: trio.MemoryReceiveChannel[Arrival], port: RawPort, peer: Wire
) -> None:
    peer.sockets[socket.AF_INET].sendto(packet(), ("127.0.0.2", port.port))
    arrival = await next_of(arrivals)
    assert arrival.local == socket.inet_aton("127.0.0.2")
    port.send(b"answer", arrival.source, local=arrival.local)
    assert peer.sockets[socket.AF_INET].recvfrom(100) == (b"answer", ("127.0.0.2", port.port))


@FAMILIES
def test_an_opener_has_its_own_ttl_and_others_the_system_s(
    family: socket.AddressFamily, port: RawPort, peer: Wire
) -> None:
    receiver = peer.sockets[family]
    if family == socket.AF_INET:
        receiver.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
    else:
        receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
    limits = []
    for ttl in (2, None):
        port.send(b"opener", peer.at(family), ttl=ttl)
        _, ancillary, _, _ = receiver.recvmsg(100, 100)
        limits.append(int.from_bytes(ancillary[0][2], "little"))
    assert limits == [2, 64]


async def test_a_flood_is_read_at_a_bounded_rate_and_ends(
    arrivals: trio.MemoryReceiveChannel[Arrival], port: RawPort, peer: Wire
) -> None:
    sender, sent, begun_s = peer.sockets[socket.AF_INET], 0, trio.current_time()
    got = 0
    while not port.counters["paused"]:
        for _ in range(50):
            sender.sendto(packet(sent), ("127.0.0.1", port.port))
            sent += 1
        await trio.lowlevel.checkpoint()
        assert trio.current_time() < begun_s + PATIENCE_S
    while sent < 20_000:
        sender.sendto(packet(sent), ("127.0.0.1", port.port))
        sent += 1
    last = 1_000_000
    with trio.fail_after(PATIENCE_S):
        while True:
            sender.sendto(packet(last), ("127.0.0.1", port.port))
            arrival = await arrivals.receive()
            got += 1
            if int.from_bytes(arrival.data[-4:], "big") == last:
                break
    took_s = trio.current_time() - begun_s
    assert got <= rawport.RECEIVED_BURST + rawport.RECEIVED_PER_S * took_s + rawport.BATCH_MAX
    assert got < sent


def test_what_the_network_refuses_is_counted(port: RawPort) -> None:
    port.send(b"x", Endpoint(b"\xff" * 4, 1))
    assert port.counters.total() == 1


def test_no_permission_is_said_with_what_to_do() -> None:
    machine = Machine(1, wrapper=["setpriv", "--bounding-set=-net_raw"])
    try:
        refused = NoRawPort(**machine("share_port", name="us", others=[], port=51872))
    finally:
        machine.end()
    assert "permission" in refused.why
    assert "CAP_NET_RAW" in refused.remedy
