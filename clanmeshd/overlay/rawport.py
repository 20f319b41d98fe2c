"""A raw socket beside WireGuard's: sends from WireGuard's own UDP port, and picks our probes of what comes there.

WireGuard has its port to itself, and no other port has the same mapping in a router. So packets are made here with
that port as their source, and a filter in the kernel passes up only those of our shape, for this port and for this
device: WireGuard's own never wake us, and a stranger must know our id to. WireGuard gets a copy of ours and drops
them by their first byte. It makes no difference whether it is the kernel's or a program.

The machine's firewall is in the way of these packets as in WireGuard's, which is what they are to find out. Needs
CAP_NET_RAW; without it there is a refusal to show, and nothing else is worse.
"""

import ctypes
import errno
import socket
import struct
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Final, NamedTuple, Self

import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.probes import ID_BYTES, MAGIC, PROBE_BYTES, RECEIVER_AT, VERSION
from clanmeshd.core.buckets import TokenBucket

RECEIVED_PER_S: Final = 500.0  # packets of our shape for our id, 30 us each: 1.5 % of a core
RECEIVED_BURST: Final = 200.0  # a clan of 100 that looks for paths to us at once
BATCH_MAX: Final = 32  # of one loop turn: 1 ms
PAUSE_S: Final = 0.05  # of a flood, in which the socket's buffer fills and the kernel drops the rest
RECEIVE_BUFFER_BYTES: Final = 65_536  # the kernel doubles it, and counts up to 2.3 kB for a packet: 55 of them

_UDP: Final = struct.Struct("!HHHH")  # source port, destination port, length, checksum
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(20)
_SO_ATTACH_FILTER: Final = 26  # Linux; not in the socket module
_IP_PKTINFO: Final = 8
_IN_PKTINFO: Final = struct.Struct("=I4s4s")  # interface (0: by the route), source, unused
_IN6_PKTINFO: Final = struct.Struct("=16sI")

# Classic BPF, from linux/bpf_common.h: what a filter's instructions are made of.
_LOAD_HALF: Final = 0x48  # of the packet, at X + k, as all loads here
_LOAD_WORD: Final = 0x40
_X_CONSTANT: Final = 0x01
_X_IPV4_HEADER: Final = 0xB1  # four times the low half of the byte at k
_SHIFT_RIGHT: Final = 0x74
_JUMP_IF_EQUAL: Final = 0x15
_RETURN: Final = 0x06
_WHOLE: Final = 0xFFFF
_INSTRUCTION: Final = struct.Struct("=HBBI")  # code, jump if true, jump if false, k
_PROGRAM: Final = struct.Struct("@HP")  # count, address


class NoRawPort(NamedTuple):
    """Why there is none, for a person: what, why and what can be done about it."""

    what: str
    why: str
    remedy: str


class Arrival(NamedTuple):
    """A packet that the filter passed. `local` is the own address that it came to, from which to answer."""

    data: bytes
    source: Endpoint
    local: bytes


class RawPort:
    """WireGuard's port, shared. Close it when `run` has ended.

    `counters` counts by name what did not get through: `no-family`, `malformed` and errno names; `paused` counts
    how often reading rested because too much came.
    """

    def __init__(self, port: int, sockets: dict[int, socket.socket]) -> None:
        self.port = port
        self.counters: Counter[str] = Counter()
        self._sockets = sockets  # by length of a packed address: 4, 16

    def send(
        self, data: bytes, destination: Endpoint, *, ttl: int | None = None, local: bytes | None = None
    ) -> None:
        """Send once, never blocking and never failing. `ttl`: of an opener; `local`: from this own address."""
        sender = self._sockets.get(len(destination.ip))
        if sender is None:
            self.counters["no-family"] += 1
            return
        try:
            source = local or _source_towards(destination)
            packet = udp_packet(data, source, self.port, destination)
            sender.sendmsg([packet], _ancillary(source, ttl), 0, (destination.host, 0))
        except OSError as error:
            self.counters[_name_of(error)] += 1

    async def run(self, deliver: Callable[[Arrival], None]) -> None:
        """Hand over what arrives, for ever, at a bounded rate."""
        async with trio.open_nursery() as nursery:
            for receiver in self._sockets.values():
                nursery.start_soon(self._receive, receiver, deliver)

    async def _receive(self, receiver: socket.socket, deliver: Callable[[Arrival], None]) -> None:
        allowance = TokenBucket(RECEIVED_PER_S, RECEIVED_BURST, trio.current_time())
        while True:
            await trio.lowlevel.wait_readable(receiver)
            for _ in range(BATCH_MAX):
                if not self._read(receiver, deliver):
                    break
                if not allowance.take(trio.current_time()):
                    self.counters["paused"] += 1
                    await trio.sleep(PAUSE_S)
                    break

    def _read(self, receiver: socket.socket, deliver: Callable[[Arrival], None]) -> bool:
        """Hand over one packet; False when none waits."""
        try:
            packet, ancillary, _, address = receiver.recvmsg(PROBE_BYTES + 128, _ANCILLARY_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            self.counters[f"receive-{_name_of(error)}"] += 1
            return False
        if receiver.family == socket.AF_INET:
            arrival = read_ipv4(packet, self.port)
        else:
            arrival = read_ipv6(packet, self.port, address[0], ancillary)
        if arrival is None:
            self.counters["malformed"] += 1  # came before the filter was there
        else:
            deliver(arrival)
        return True

    def close(self) -> None:
        """Let WireGuard have its port alone again."""
        for opened in self._sockets.values():
            opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_raw_port(port: int, node: NodeId) -> RawPort | NoRawPort:
    """Share WireGuard's port, for packets to this device. Opens no port; WireGuard may come and go."""
    sockets: dict[int, socket.socket] = {}
    refused: OSError | None = None
    for family, ip_bytes in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
        try:
            sockets[ip_bytes] = _open(family, port, node)
        except OSError as error:
            refused = error  # one family may be switched off; permission is lacking in both
    if sockets:
        return RawPort(port, sockets)
    assert refused is not None
    if isinstance(refused, PermissionError):
        why, remedy = "no permission for raw sockets", "run clanmeshd as root, or give it CAP_NET_RAW"
    else:
        why, remedy = refused.strerror or str(refused), "see the log"
    return NoRawPort("probing from WireGuard's port", why, remedy)


def _open(family: socket.AddressFamily, port: int, node: NodeId) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_UDP)
    try:
        _attach(opened, probe_filter(family, port, node))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    except OSError:
        opened.close()
        raise
    return opened


# --- what the kernel passes up -------------------------------------------------------------------------


def probe_filter(family: int, port: int, node: NodeId) -> list[tuple[int, int, int, int]]:
    """The program that passes probes for a port and a device: (code, jump if true, jump if false, k) each.

    An IPv4 raw socket sees a packet from its IP header on, an IPv6 one from the UDP header.
    """
    udp = _UDP.size
    word = int.from_bytes(MAGIC + bytes([VERSION]), "big")
    first, second = (int.from_bytes(node[at : at + 4], "big") for at in (0, ID_BYTES // 2))
    wanted = [
        ([(_LOAD_HALF, 2)], port),
        ([(_LOAD_HALF, 4)], udp + PROBE_BYTES),
        ([(_LOAD_WORD, udp), (_SHIFT_RIGHT, 8)], word),
        ([(_LOAD_WORD, udp + RECEIVER_AT)], first),
        ([(_LOAD_WORD, udp + RECEIVER_AT + ID_BYTES // 2)], second),
    ]
    behind: list[tuple[int, int, int, int]] = [(_RETURN, 0, 0, _WHOLE), (_RETURN, 0, 0, 0)]
    for steps, value in reversed(wanted):
        # A load outside of the packet refuses it, too.
        jump = (_JUMP_IF_EQUAL, 0, len(behind) - 1, value)
        behind = [*((code, 0, 0, at) for code, at in steps), jump, *behind]
    head = (_X_IPV4_HEADER if family == socket.AF_INET else _X_CONSTANT, 0, 0, 0)
    return [head, *behind]


def _attach(opened: socket.socket, program: list[tuple[int, int, int, int]]) -> None:
    code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*each) for each in program))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _PROGRAM.pack(len(program), ctypes.addressof(code)))


def read_ipv4(packet: bytes, port: int) -> Arrival | None:
    """Read a packet from its IP header on. None for one that is not for this port, or cut short."""
    if len(packet) < 20:
        return None
    header_bytes = 4 * (packet[0] & 0xF)
    return _read_udp(packet[header_bytes:], port, packet[12:16], packet[16:20])


def read_ipv6(packet: bytes, port: int, source: str, ancillary: list[tuple[int, int, bytes]]) -> Arrival | None:
    """Read a packet from its UDP header on. None as above; link-local sources mean nothing without a zone."""
    local = [
        _IN6_PKTINFO.unpack_from(data)[0]
        for level, kind, data in ancillary
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)
    ]
    if not local or "%" in source:
        return None
    return _read_udp(packet, port, socket.inet_pton(socket.AF_INET6, source), local[0])


def _read_udp(packet: bytes, port: int, source: bytes, local: bytes) -> Arrival | None:
    if len(packet) < _UDP.size:
        return None
    source_port, destination_port, length, _ = _UDP.unpack_from(packet)
    if destination_port != port or not source_port or length != len(packet):
        return None
    return Arrival(packet[_UDP.size :], Endpoint(source, source_port), local)


# --- what is sent --------------------------------------------------------------------------------------


def udp_packet(data: bytes, source: bytes, port: int, destination: Endpoint) -> bytes:
    """A UDP header with its checksum, and the data. Addresses are packed, of one family."""
    size = _UDP.size + len(data)
    pseudo = source + destination.ip + struct.pack("!II", size, socket.IPPROTO_UDP)
    total = _sum(pseudo + _UDP.pack(port, destination.port, size, 0) + data)
    # RFC 768: a sum of zero is sent as all ones, since zero says that there is none; IPv6 forbids that.
    return _UDP.pack(port, destination.port, size, (total ^ 0xFFFF) or 0xFFFF) + data


def _sum(data: bytes) -> int:
    """The ones' complement sum of 16-bit words (RFC 1071)."""
    padded = data + bytes(len(data) % 2)
    # Modulo 65,535 a number is the sum of its 16-bit digits. Only zero has two forms, and no packet is all zeros.
    return int.from_bytes(padded, "big") % 0xFFFF or 0xFFFF


def _source_towards(destination: Endpoint) -> bytes:
    """The own address that the route to it begins with. Sends nothing. Raises OSError where there is no route."""
    family = socket.AF_INET if len(destination.ip) == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as scout:
        scout.connect((destination.host, destination.port))
        return socket.inet_pton(family, scout.getsockname()[0])


def _ancillary(source: bytes, ttl: int | None) -> list[tuple[int, int, bytes]]:
    """The source must be the one in the checksum."""
    if len(source) == 4:
        level, limit = socket.IPPROTO_IP, socket.IP_TTL
        said = [(level, _IP_PKTINFO, _IN_PKTINFO.pack(0, source, bytes(4)))]
    else:
        level, limit = socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT
        said = [(level, socket.IPV6_PKTINFO, _IN6_PKTINFO.pack(source, 0))]
    return said if ttl is None else [*said, (level, limit, struct.pack("=i", ttl))]


def _name_of(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, type(error).__name__)
