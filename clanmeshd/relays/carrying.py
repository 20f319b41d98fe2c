"""Packets on a stream, both ways, for who cannot send UDP: WireGuard's by way of a relay, or a clan's datagrams.

Each is a chunk `length u32 big-endian | bytes`. A packet that finds no room is dropped, as a router would: what
comes late helps nobody. Chunks too short for a packet say that the stream is alive.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

import trio

from clanmesh_protocol.errors import LimitError
from clanmesh_protocol.limits import RELAY_DATAGRAM_BYTES_MAX
from clanmeshd.net.link import Link, StreamBroken
from clanmeshd.overlay.wireguard_packets import DATA_BYTES_MIN

QUEUE_BYTES_MAX: Final = 262_144  # 40 ms at 50 Mbit/s; as much again may wait in the kernel
UNSENT_BYTES_MAX: Final = 131_072  # that the kernel takes beyond what is on its way
BATCH_BYTES_MAX: Final = 65_536  # of one send: some TLS records
STALL_S: Final = 3.0  # that nothing can be sent: such a stream is given up, and another way is looked for
ALIVE_S: Final = 20.0  # of silence, then we say that we are there; the peer waits for a minute

_LENGTH_BYTES: Final = 4
_ALIVE: Final = b"\0\0\0\1\0"


class Chunks:
    """Takes a stream's bytes apart. Holds less than one packet."""

    def __init__(self) -> None:
        self.is_over = False
        self._rest = b""

    def packets_untrusted(self, data: bytes) -> Iterator[bytes]:
        """The packets that have come whole by now. Raises LimitError for one that is too long."""
        data = self._rest + data
        at = 0
        while not self.is_over and len(data) - at >= _LENGTH_BYTES:
            size = int.from_bytes(data[at : at + _LENGTH_BYTES], "big")
            if size > RELAY_DATAGRAM_BYTES_MAX:
                raise LimitError(f"a packet of {size} bytes where {RELAY_DATAGRAM_BYTES_MAX} are allowed")
            end = at + _LENGTH_BYTES + size
            if end > len(data):
                break
            self.is_over = size == 0
            if size >= DATA_BYTES_MIN:
                yield data[at + _LENGTH_BYTES : end]
            at = end
        self._rest = data[at:]


class Carrier:
    """One stream that carries packets. `dropped` counts those that found no room."""

    def __init__(self, link: Link, queue_bytes_max: int = QUEUE_BYTES_MAX) -> None:
        self.dropped = 0
        self._queue_bytes_max = queue_bytes_max
        self._link = link
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._fresh = trio.Event()
        self._scope = trio.CancelScope()

    def offer(self, packet: bytes) -> None:
        """Send a packet soon, or drop it."""
        if self._queued_bytes + len(packet) > self._queue_bytes_max or len(packet) > RELAY_DATAGRAM_BYTES_MAX:
            self.dropped += 1
            return
        self._queue.append(packet)
        self._queued_bytes += len(packet)
        self._fresh.set()

    def end(self) -> None:
        """End `run`."""
        self._scope.cancel()

    async def run(self, deliver: Callable[[bytes], None]) -> None:
        """Carry until the peer ends it, or `end`. Raises StreamBroken, or a ProtocolError."""
        self._link.bound_unsent(UNSENT_BYTES_MAX)
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send)
                await self._receive(deliver)
                nursery.cancel_scope.cancel()

    async def _receive(self, deliver: Callable[[bytes], None]) -> None:
        chunks = Chunks()
        while not chunks.is_over:
            for packet in chunks.packets_untrusted(await self._link.receive_some(BATCH_BYTES_MAX)):
                deliver(packet)

    async def _send(self) -> None:
        while True:
            with trio.move_on_after(ALIVE_S):
                await self._fresh.wait()
            self._fresh = trio.Event()
            await self._send_in_time(self._batch() or _ALIVE)
            if self._queue:
                self._fresh.set()

    def _batch(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        while self._queue and size < BATCH_BYTES_MAX:
            packet = self._queue.popleft()
            self._queued_bytes -= len(packet)
            parts += (len(packet).to_bytes(_LENGTH_BYTES, "big"), packet)
            size += len(packet)
        return b"".join(parts)

    async def _send_in_time(self, data: bytes) -> None:
        with trio.move_on_after(STALL_S) as scope:
            await self._link.send_bytes(data)
        if scope.cancelled_caught:
            raise StreamBroken(f"nothing could be sent for {STALL_S:.0f} s")
