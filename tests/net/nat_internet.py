"""The internet of the laboratory: a process that routes between TUN devices, with a delay, losses and cuts.

It makes the devices in its own network namespace; the laboratory moves them into those of routers and hosts, which
takes nothing from this process. The kernel hands complete packets to a TUN device, checksums and segments done,
which it does not for a packet socket. TTLs count down here as anywhere. Run it by itself (`python -I -S`): it
starts in 20 ms so. Requests are JSON lines on stdin, each answered by one line; it ends with its stdin.
"""

import fcntl
import heapq
import json
import os
import select
import socket
import struct
import sys
import time
from random import Random
from typing import Any

TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
PACKET_BYTES_MAX = 65_535
HOPS = 5  # routers that a packet passes here: a short way, as within one city
BATCH = 64  # packets of one device before the others have their turn
DEVICE_QUEUE = 500  # packets that the kernel keeps for us, by default
QUEUE_MAX = 20_000  # packets under way: what 1 Gbit/s keeps in 40 ms is 3000


class Internet:
    """Routes by whole addresses; a packet whose source is not at the device it came from goes no further."""

    def __init__(self) -> None:
        self._fds: list[int] = []
        self._routes: dict[bytes, int] = {}  # packed address -> device
        self._cut: set[frozenset[bytes]] = set()
        self._delay_s = 0.0
        self._loss = 0.0
        self._dice = Random(1)
        self._under_way: list[tuple[float, int, int, bytes]] = []
        self._sent = 0
        self.counts: dict[tuple[bytes, bytes], int] = {}

    # --- requests ---

    def link(self, name: str) -> int:
        """Make a device; its number."""
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH14x", name.encode(), IFF_TUN | IFF_NO_PI))
        self._fds.append(fd)
        return len(self._fds) - 1

    def route(self, address: str, device: int | None) -> None:
        """Say where an address is; nowhere if None."""
        packed = socket.inet_aton(address)
        self._routes.pop(packed, None)
        if device is not None:
            self._routes[packed] = device

    def weather(self, delay_s: float, loss: float) -> None:
        """How long each packet takes, and the share that gets lost."""
        self._delay_s, self._loss = delay_s, loss

    def cut(self, one: str, other: str, is_cut: bool) -> None:
        """Lose all between two addresses, or nothing any more."""
        pair = frozenset(map(socket.inet_aton, (one, other)))
        (self._cut.add if is_cut else self._cut.discard)(pair)

    def flows(self) -> list[tuple[str, str, int]]:
        """Packets delivered so far, by source and destination."""
        return [
            (socket.inet_ntoa(source), socket.inet_ntoa(destination), count)
            for (source, destination), count in sorted(self.counts.items())
        ]

    # --- packets ---

    def run(self) -> None:
        """Route and answer until stdin ends."""
        rest = b""
        while True:
            wait_s = max(0.0, self._under_way[0][0] - time.monotonic()) if self._under_way else None
            readable, _, _ = select.select([0, *self._fds], [], [], wait_s)
            self._deliver()
            for fd in readable:
                if fd:
                    self._read(fd)
                    continue
                chunk = os.read(0, 65_536)
                if not chunk:
                    return
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._answer(json.loads(line))
            self._deliver()

    def _answer(self, request: dict[str, Any]) -> None:
        for fd in self._fds:  # what was sent before it was asked is under the rules of before
            self._read(fd, packets_max=DEVICE_QUEUE)
        result = getattr(self, request.pop("do"))(**request)
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()

    def _read(self, fd: int, packets_max: int = BATCH) -> None:
        device = self._fds.index(fd)
        for _ in range(packets_max):
            try:
                packet = os.read(fd, PACKET_BYTES_MAX)
            except BlockingIOError:
                return
            if len(packet) >= 20 and packet[0] >> 4 == 4:
                self._take(packet, device)

    def _take(self, packet: bytes, device: int) -> None:
        source, destination, ttl = packet[12:16], packet[16:20], packet[8]
        towards = self._routes.get(destination)
        if (
            towards is None
            or self._routes.get(source) != device
            or ttl <= HOPS
            or len(self._under_way) > QUEUE_MAX
        ):
            return
        if frozenset((source, destination)) in self._cut or self._dice.random() < self._loss:
            return
        self.counts[source, destination] = self.counts.get((source, destination), 0) + 1
        self._sent += 1
        due_s = time.monotonic() + self._delay_s
        heapq.heappush(self._under_way, (due_s, self._sent, towards, _further(packet)))

    def _deliver(self) -> None:
        now_s = time.monotonic()
        while self._under_way and self._under_way[0][0] <= now_s:
            _, _, device, packet = heapq.heappop(self._under_way)
            try:
                os.write(self._fds[device], packet)
            except OSError:
                continue  # the device is down, or its queue full: lost, as anywhere


def _further(packet: bytes) -> bytes:
    """With its TTL less by these hops, and the header's checksum for it (RFC 1624)."""
    total = int.from_bytes(packet[10:12], "big") + (HOPS << 8)
    checksum = (total & 0xFFFF) + (total >> 16)
    return packet[:8] + bytes([packet[8] - HOPS, packet[9]]) + checksum.to_bytes(2, "big") + packet[12:]


if __name__ == "__main__":
    print("ready", flush=True)
    Internet().run()
