"""A TLS connection that carries frames, and the `Stream` that it becomes once both ends are proven.

Whatever ends a connection against the protocol (a killed peer, a reset, silence, an end in the middle of a
frame) is one error, `StreamBroken`. A clean end is told by the protocol's own frames, never by TLS.
"""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import ClassVar, Final

import trio

from clanmesh_protocol.endpoints import endpoint
from clanmesh_protocol.errors import LimitError, ProtocolError
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.streams import (
    LENGTH_BYTES,
    Frame,
    Refuse,
    encode_frame,
    read_frame_length_untrusted,
    read_frame_untrusted,
)

IDLE_S_MAX: Final = 60.0  # without a byte either way; every peer of ours answers at once or sends what it has
CLOSE_S_MAX: Final = 0.25  # for the farewell to a peer that no longer reads
READ_BYTES: Final = 65_536
FIRST_FRAMES_BYTES_MAX: Final = 1024  # until the peer is known: a Hello has 200 bytes, a Join 350
_TCP_NOTSENT_LOWAT: Final = 25  # Linux; not in the socket module
_TCP_USER_TIMEOUT: Final = 18  # likewise

TlsStream = trio.SSLStream[trio.SocketStream]


class StreamBroken(OSError, trio.BrokenResourceError):
    """The connection ended where the protocol does not end it. An OSError: the world's fault, or a dead peer's."""


class StreamRefused(ProtocolError):
    """The peer said no: `refusal` is its code, `why` its sentence."""

    code: ClassVar[str] = "refused"

    def __init__(self, refusal: str, why: str) -> None:
        super().__init__(f"{why} ({refusal})")
        self.refusal = refusal
        self.why = why


class Link:
    """Frames and bytes over one TLS connection; every wait is bounded. One task may send and one receive.

    `frame_bytes_max` bounds what a peer can make us hold; raise it once the peer has proven itself.
    """

    def __init__(self, tls: TlsStream, idle_s: float = IDLE_S_MAX) -> None:
        self.idle_s = idle_s
        self.frame_bytes_max = FIRST_FRAMES_BYTES_MAX
        self._tls = tls
        self._buffer = bytearray()
        self._proven = False
        self._sent_counts = True  # as a sign of life
        self._waiting: set[trio.CancelScope] = set()  # at most one send and one receive

    async def shake_hands(self) -> bytes | None:
        """Do the TLS handshake; the peer's certificate (DER), if it showed one. Raises StreamBroken."""
        with self._bounded():
            await self._tls.do_handshake()
        self._proven = True
        der: bytes | None = self._tls.getpeercert(binary_form=True)
        return der

    async def send(self, frame: Frame) -> None:
        """Send a frame. Raises StreamBroken."""
        await self.send_bytes(encode_frame(frame))

    async def receive(self) -> Frame:
        """Wait for a frame. Raises StreamBroken, StreamRefused for a Refuse, or another ProtocolError."""
        length = read_frame_length_untrusted(await self.receive_exactly(LENGTH_BYTES))
        if length > self.frame_bytes_max:
            raise LimitError(f"a frame of {length} bytes where {self.frame_bytes_max} are allowed")
        frame = read_frame_untrusted(await self.receive_exactly(length))
        if isinstance(frame, Refuse):
            raise StreamRefused(frame.code, frame.why)
        return frame

    async def send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """Send raw bytes. Raises StreamBroken."""
        with self._bounded():
            await self._tls.send_all(data)
        if self._sent_counts:
            self._moved()

    async def receive_exactly(self, count: int) -> bytes:
        """Receive `count` raw bytes. Raises StreamBroken when there are fewer."""
        while len(self._buffer) < count:
            await self._fill()
        return self._take(count)

    async def receive_some(self, bytes_max: int) -> bytes:
        """Receive at least one raw byte. Raises StreamBroken at the end."""
        if not self._buffer:
            await self._fill()
        return self._take(bytes_max)

    async def wait_sendable(self) -> None:
        """Wait until a send might not block. Raises StreamBroken."""
        with self._bounded():
            await self._tls.wait_send_all_might_not_block()

    @property
    def peer_ip(self) -> bytes:
        """The packed address of the other end. Raises OSError once it has gone."""
        host, port = self._tls.transport_stream.socket.getpeername()[:2]
        return endpoint(host, port).ip

    def bound_unsent(self, bytes_max: int) -> None:
        """Let the kernel take no more than this beyond what is on its way: for what is no use when late."""
        self._tls.transport_stream.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, bytes_max)

    def bound_silence(self, silent_s: float, unacked_s: float) -> None:
        """Give a peer up that says nothing for so long, whatever is sent to it; or whose system takes nothing."""
        self.idle_s, self._sent_counts = silent_s, False
        self._tls.transport_stream.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, round(unacked_s * 1000))

    async def aclose(self) -> None:
        """Say goodbye and close, in bounded time, also when cancelled."""
        with trio.move_on_after(CLOSE_S_MAX, shield=True), suppress(trio.BrokenResourceError, ssl.SSLError):
            if self._proven:
                await self._tls.aclose()
            else:  # `SSLStream.aclose` would wait for the handshake to end
                await trio.aclose_forcefully(self._tls.transport_stream)

    async def _fill(self) -> None:
        with self._bounded():
            chunk = await self._tls.receive_some(READ_BYTES)
        if not chunk:
            raise StreamBroken("the peer closed the stream")
        self._moved()
        self._buffer += chunk

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _moved(self) -> None:
        # A peer that takes a long answer may say nothing for as long as that takes: either direction counts.
        for scope in self._waiting:
            scope.deadline = trio.current_time() + self.idle_s

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        with trio.move_on_after(self.idle_s) as scope:
            self._waiting.add(scope)
            try:
                yield
            except trio.BrokenResourceError as error:
                raise StreamBroken(_cause(error)) from error
            finally:
                self._waiting.discard(scope)
        if scope.cancelled_caught:
            raise StreamBroken(f"nothing was heard for {self.idle_s:.0f} s")


class Stream(trio.abc.AsyncResource):
    """A connection between two proven ends, open for one purpose. Close it when done: `async with stream:`."""

    def __init__(self, link: Link, peer: NodeId, purpose: str) -> None:
        self.link = link
        self.peer = peer
        self.purpose = purpose

    async def send(self, frame: Frame) -> None:
        """Send a frame. Raises StreamBroken."""
        await self.link.send(frame)

    async def receive(self) -> Frame:
        """Wait for a frame. Raises StreamBroken, StreamRefused for a Refuse, or another ProtocolError."""
        return await self.link.receive()

    async def aclose(self) -> None:
        """Say goodbye and close, in bounded time, also when cancelled."""
        await self.link.aclose()


def _cause(error: BaseException) -> str:
    cause = error.__cause__
    if isinstance(cause, ssl.SSLEOFError):
        return "the peer vanished"
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {(cause.reason or 'unknown').lower().replace('_', ' ')}"
    if isinstance(cause, OSError):
        return cause.strerror or str(cause)
    return str(error) or "the stream broke"
