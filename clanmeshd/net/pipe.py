"""Raw bytes both ways over a stream, each way with an end of its own: what `git upload-pack` speaks through.

TLS cannot close one direction and keep the other, so it is done in the stream: bytes travel in chunks of
`length u32 big-endian | bytes`, and a chunk of length 0 ends its direction. A direction that stops without that
has been cut, and says so: half a pack is never taken for a whole one.
"""

from typing import Final

import trio

from clanmesh_protocol.errors import LimitError
from clanmeshd.net.link import Stream

CHUNK_BYTES_MAX: Final = 65_536
_LENGTH_BYTES: Final = 4
_END: Final = bytes(_LENGTH_BYTES)


class Pipe(trio.abc.HalfCloseableStream):
    """A byte stream on top of an accepted `Stream`; closing it closes that. Raises StreamBroken for a cut.

    What the peer gets wrong is a ProtocolError.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._link = stream.link
        self._left = 0  # bytes of the current chunk still to come
        self._over = False
        self._ended = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes."""
        if self._ended:
            raise trio.ClosedResourceError("sent after the end")
        view = memoryview(data)
        if not view:
            await trio.lowlevel.checkpoint()
        for start in range(0, len(view), CHUNK_BYTES_MAX):
            chunk = view[start : start + CHUNK_BYTES_MAX]
            await self._link.send_bytes(len(chunk).to_bytes(_LENGTH_BYTES, "big") + chunk)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until a send might not block."""
        await self._link.wait_sendable()

    async def send_eof(self) -> None:
        """End this direction; the other one goes on."""
        if self._ended:
            await trio.lowlevel.checkpoint()
            return
        self._ended = True
        await self._link.send_bytes(_END)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive some bytes, at most `max_bytes`; none at the peer's end. Raises LimitError for a huge chunk."""
        if max_bytes is not None and max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        if self._left == 0 and not self._over:
            await self._begin_chunk()
        if self._over:
            await trio.lowlevel.checkpoint()
            return b""
        data = await self._link.receive_some(min(self._left, max_bytes or CHUNK_BYTES_MAX))
        self._left -= len(data)
        return data

    async def _begin_chunk(self) -> None:
        length = int.from_bytes(await self._link.receive_exactly(_LENGTH_BYTES), "big")
        if length > CHUNK_BYTES_MAX:
            raise LimitError(f"a chunk of {length} bytes where {CHUNK_BYTES_MAX} are allowed")
        self._left = length
        self._over = length == 0

    async def aclose(self) -> None:
        """Close the stream. Without `send_eof` before, the peer sees a cut."""
        await self._stream.aclose()
