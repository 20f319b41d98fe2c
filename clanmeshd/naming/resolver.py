"""The resolver's sockets: UDP and TCP, on this device's overlay address, port 53, and nowhere else.

The address is bound before the interface has it and while it is away, so no order of events matters. Who is
heard are this device itself and, through the tunnels, other members: a packet that came in by another interface
was meant for somebody else's ears, whatever source it claims, and wakes nobody here. What one question costs is
0.1 ms; how many are answered is bounded, this device's own apart from those of all others.
"""

import errno
import socket
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from clanmeshd.core.buckets import TokenBucket
from clanmeshd.filters import ABOUT, INSTRUCTION, IS_EQUAL, LOAD_WORD, PASS, RETURN, attach_filter
from clanmeshd.naming.messages import QUERY_BYTES_MAX
from clanmeshd.naming.trouble import NamesUnavailable
from clanmeshd.sockets import Closing

PORT: Final = 53
OWN_PER_S: Final = 1000.0  # a tenth of a core; a browser that opens a page asks 50 at once
OWN_BURST: Final = 2000.0
OTHERS_PER_S: Final = 200.0  # who is in the clan has a resolver of its own
OTHERS_BURST: Final = 400.0
TURN_QUERIES_MAX: Final = 64  # read in one loop turn: 6 ms
STREAMS_MAX: Final = 16  # answers that did not fit a packet are rare
STREAMS_PER_SOURCE_MAX: Final = 4
STREAM_S_MAX: Final = 10.0  # of one connection: a question comes at once, or the connection is of no use
STREAM_QUERIES_MAX: Final = 64
RETRY_S: Final = 1.0  # after a failure to read or accept

_IPV6_FREEBIND: Final = 78  # Linux; not in the socket module
_LENGTH: Final = struct.Struct("!H")  # before each message of a stream
_PACKET_INFO: Final = struct.Struct("=16sI")  # where a packet came to, and by which interface
_ANCILLARY_BYTES: Final = 64  # one `_PACKET_INFO` with its head
_LOOPBACK: Final = "lo"

# The kinds of devices are those of linux/if_arp.h.
_DEVICE_KIND: Final = ABOUT + 28  # SKF_AD_HATYPE
_KINDS: Final = {"WireGuard, or any tunnel of IP": 0xFFFE, "loopback": 772}

Respond = Callable[[bytes, bool], bytes | None]


class Resolver(Closing):
    """Answers by `respond`, which gets a message and whether it came over a stream. Use it as a context.

    `prefix` are the leading bytes of all addresses that are heard. `counters` counts by name what was not
    answered: `foreign`, `limit`, `silent`, and `failed` for what could not be sent or read.
    """

    def __init__(
        self, address: bytes, prefix: bytes, interface: str, respond: Respond, *, port: int = PORT
    ) -> None:
        """Open the sockets. Raises NamesUnavailable, or another OSError."""
        self.counters: Counter[str] = Counter()
        self._prefix = prefix
        self._own = address
        self._interface = interface
        self._respond = respond
        self._own_bucket = TokenBucket(OWN_PER_S, OWN_BURST, trio.current_time())
        self._others_bucket = TokenBucket(OTHERS_PER_S, OTHERS_BURST, trio.current_time())
        self._streams: Counter[bytes] = Counter()
        self._room = trio.CapacityLimiter(STREAMS_MAX)
        self._packets = _bound(socket.SOCK_DGRAM, address, port)
        try:
            self.port: int = self._packets.getsockname()[1]
            self._listener = _bound(socket.SOCK_STREAM, address, self.port)
        except BaseException:
            self._packets.close()
            raise

    def close(self) -> None:
        """Answer no more."""
        self._packets.close()
        self._listener.close()

    async def run(self) -> None:
        """Answer for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._answer_packets)
            nursery.start_soon(self._accept, nursery)

    # --- packets ---------------------------------------------------------------------------------------

    async def _answer_packets(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._packets)
            inside = self._interfaces()
            for _ in range(TURN_QUERIES_MAX):
                try:
                    data, ancillary, _, source = self._packets.recvmsg(QUERY_BYTES_MAX + 1, _ANCILLARY_BYTES)
                except BlockingIOError:
                    break
                except OSError:
                    self.counters["failed"] += 1
                    await trio.sleep(RETRY_S)
                    break
                if _arrived_by(ancillary) in inside:
                    self._answer_packet(data, source)
                else:
                    self.counters["foreign"] += 1

    def _answer_packet(self, data: bytes, source: tuple[str, int, int, int]) -> None:
        answer = self._answer(data, _packed(source[0]), is_stream=False)
        if answer is None:
            return
        try:
            self._packets.sendto(answer, source)
        except OSError:
            self.counters["failed"] += 1  # it asks again

    def _answer(self, data: bytes, source: bytes, *, is_stream: bool) -> bytes | None:
        if not source.startswith(self._prefix):
            self.counters["foreign"] += 1
            return None
        bucket = self._own_bucket if source == self._own else self._others_bucket
        if not bucket.take(trio.current_time()):
            self.counters["limit"] += 1
            return None
        answer = self._respond(data, is_stream)
        self.counters["silent"] += answer is None
        return answer

    def _interfaces(self) -> set[int]:
        found = set()
        for name in (_LOOPBACK, self._interface):
            with suppress(OSError):  # it is away
                found.add(socket.if_nametoindex(name))
        return found

    # --- streams ---------------------------------------------------------------------------------------

    async def _accept(self, nursery: trio.Nursery) -> None:
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._listener))
        while True:
            await self._room.acquire_on_behalf_of(holder := object())
            try:
                stream = await listener.accept()
            except OSError:
                self._room.release_on_behalf_of(holder)
                self.counters["failed"] += 1
                await trio.sleep(RETRY_S)
                continue
            except BaseException:
                self._room.release_on_behalf_of(holder)
                raise
            nursery.start_soon(self._serve, stream, holder)

    async def _serve(self, stream: trio.SocketStream, holder: object) -> None:
        source = b""
        try:
            with trio.move_on_after(STREAM_S_MAX):
                async with stream:
                    source = _packed(stream.socket.getpeername()[0])
                    self._streams[source] += 1
                    if self._streams[source] <= STREAMS_PER_SOURCE_MAX:
                        await self._converse(stream, source)
        except (OSError, trio.BrokenResourceError):
            self.counters["failed"] += 1
        finally:
            self._streams[source] -= 1
            self._streams += Counter()  # keeps those above zero
            self._room.release_on_behalf_of(holder)

    async def _converse(self, stream: trio.SocketStream, source: bytes) -> None:
        for _ in range(STREAM_QUERIES_MAX):
            head = await _exactly(stream, _LENGTH.size)
            size = _LENGTH.unpack(head)[0] if head else 0
            if not 0 < size <= QUERY_BYTES_MAX:
                return
            answer = self._answer(await _exactly(stream, size), source, is_stream=True)
            if answer is None:
                return
            await stream.send_all(_LENGTH.pack(len(answer)) + answer)


async def _exactly(stream: trio.SocketStream, count: int) -> bytes:
    """So many bytes, or none when the stream ends before."""
    data = bytearray()
    while len(data) < count:
        chunk = await stream.receive_some(count - len(data))
        if not chunk:
            return b""
        data += chunk
    return bytes(data)


def _bound(kind: socket.SocketKind, address: bytes, port: int) -> socket.socket:
    text = socket.inet_ntop(socket.AF_INET6, address)
    opened = socket.socket(socket.AF_INET6, kind)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        if kind == socket.SOCK_DGRAM:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            attach_filter(opened, _from_tunnels())
        else:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an earlier run
        opened.bind((text, port))
        if kind == socket.SOCK_STREAM:
            opened.listen(STREAMS_MAX)
    except OSError as error:
        opened.close()
        raise _explained(error, text, port) from error
    return opened


def _from_tunnels() -> list[bytes]:
    """A filter that passes what came by a tunnel or from this machine; by which one, is seen when it is read."""
    refuse, accept = (INSTRUCTION.pack(RETURN, 0, 0, size) for size in (0, PASS))
    kinds = list(_KINDS.values())
    tests = [INSTRUCTION.pack(IS_EQUAL, len(kinds) - at, 0, kind) for at, kind in enumerate(kinds)]
    return [INSTRUCTION.pack(LOAD_WORD, 0, 0, _DEVICE_KIND), *tests, refuse, accept]


def _explained(error: OSError, address: str, port: int) -> OSError:
    what = f"port {port} on {address}"
    if error.errno == errno.EADDRINUSE:
        remedy = "let the program that `ss -lnp 'sport = :53'` names listen on addresses of its own (dnsmasq: "
        return NamesUnavailable(what, "another program has it", f"{remedy}`bind-dynamic` and `except-interface`)")
    if error.errno in (errno.EACCES, errno.EPERM):
        return NamesUnavailable(what, "this process may not have it", "run clanmeshd as root, by its unit")
    return error


def _arrived_by(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO) and len(data) == _PACKET_INFO.size:
            index: int = _PACKET_INFO.unpack(data)[1]
            return index
    return None


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
