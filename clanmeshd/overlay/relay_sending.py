"""Sends runs of packets with one call each: the kernel cuts them apart as late as it can (its UDP GSO).

A run is packets for one address, all of one size but for the last, which may be shorter: what bulk traffic looks
like. Where the network cannot do that, they are sent one by one from then on.
"""

import errno
import socket
import struct
from collections import Counter
from typing import Any, Final, TypeAlias

from clanmeshd.sockets import errno_name

RUN_PACKETS_MAX: Final = 64  # UDP_MAX_SEGMENTS of older kernels
RUN_BYTES_MAX: Final = 65_000  # of a UDP datagram before it is cut, with room for headers

_SOL_UDP: Final = 17
_UDP_SEGMENT: Final = 103  # Linux; neither is in the socket module
_SIZE: Final = struct.Struct("=H")

# Larger than what the path takes in one piece, a card that computes no checksums, an old kernel.
_CANNOT: Final = frozenset({errno.EINVAL, errno.EMSGSIZE, errno.EIO, errno.ENOPROTOOPT})

To: TypeAlias = tuple[Any, ...]  # an address as the socket says it


class Sender:
    """What waits to be sent from one socket: a run each for the two addresses that it sends to, in turn.

    `counters` counts by errno's names what the network refused.
    """

    def __init__(self, opened: socket.socket, counters: Counter[str]) -> None:
        self.takes_runs = True
        self._socket = opened
        self._counters = counters
        self._newest, self._other = _Run(), _Run()

    def add(self, packet: memoryview, size: int, to: To) -> None:
        """Send a packet, whose bytes must stay as they are until `flush`."""
        run = self._newest
        if to is not run.to:
            run, self._other = self._other, run
            self._newest = run
        if to is not run.to or size > run.size or len(run.packets) == RUN_PACKETS_MAX or size > run.room:
            self._send(run)
            run.to, run.size, run.room = to, size, RUN_BYTES_MAX
        run.packets.append(packet)
        run.room -= size
        if size < run.size:
            self._send(run)

    def flush(self) -> None:
        """Send what waits."""
        self._send(self._newest)
        self._send(self._other)

    def _send(self, run: "_Run") -> None:
        packets, to, size = run.packets, run.to, run.size
        run.packets, run.to = [], None
        if len(packets) > 1 and self.takes_runs and self._send_run(packets, size, to):
            return
        for packet in packets:
            try:
                self._socket.sendto(packet, to)  # type: ignore[arg-type]
            except OSError as error:
                self._counters[errno_name(error)] += 1

    def _send_run(self, packets: list[memoryview], size: int, to: To | None) -> bool:
        """Send several at once. False: the network does not do that, and none was sent."""
        try:
            self._socket.sendmsg(packets, [(_SOL_UDP, _UDP_SEGMENT, _SIZE.pack(size))], 0, to)
        except OSError as error:
            self.takes_runs = error.errno not in _CANNOT
            if self.takes_runs:
                self._counters[errno_name(error)] += 1
        return self.takes_runs


class _Run:
    __slots__ = ("packets", "room", "size", "to")

    def __init__(self) -> None:
        self.packets: list[memoryview] = []
        self.to: To | None = None
        self.size = self.room = 0  # bytes
