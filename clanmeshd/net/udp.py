"""The UDP port: datagrams in, in batches, and out, at once. Both families, one port number.

A datagram is read within a loop turn of its arrival while they are few. In a flood the port pauses between reads,
so that many are read by one turn, drops copies of what it read lately, since no member seals the same twice, and
most of what comes from addresses that were blamed for junk, and leaves what exceeds its share to the kernel to
drop: a stranger's packets cost a bounded part of a core, whatever their rate. What is dropped or fails is counted
by its name.
"""

import errno
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final, Self

import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.limits import DATAGRAM_BYTES_MAX
from clanmeshd.net.pace import Allowance
from clanmeshd.net.ports import PortInUse, refuse_port
from clanmeshd.net.strangers import Strangers
from clanmeshd.sockets import RECEIVED, Closing, enlarge, errno_name, prepared

BATCH_DATAGRAMS_MAX: Final = 256  # one turn of the driver: 256 verifications are 12 ms
PROMPT_TURNS_PER_S: Final = 200.0  # loop turns (0.3 ms each) for arriving datagrams before reads are put together
PROMPT_TURNS_MAX: Final = 100.0  # a burst this long is still read at once
PROMPT_DATAGRAMS_PER_S: Final = 1000.0  # nor more than these: whoever is slow finds many at each of few turns,
PROMPT_DATAGRAMS_MAX: Final = 1000.0  # and copies of hellos make slow; a join of hundreds has no more
FLOOD_PAUSE_S: Final = 0.02  # 50 reads a second, 2 % of a core, in place of one a packet; a probe has 200 ms
FLOOD_PAUSE_SHORT_S: Final = 0.01  # where the system grants 0.4 MB to wait in: 180 packets, 18 ms of a flood
FLOOD_BATCHES_MAX: Final = 4  # of one read: 51,200 packets a second, and the kernel drops the rest
CALM_S: Final = 0.25  # of calm pauses until a flood is over: one that stutters is still one
COPIES_KEPT: Final = 1024  # datagrams of a flood, or twice as many: 0.1 s of 10,000 a second, 0.2 MB
RECEIVE_BUFFER_BYTES: Final = 4 << 20  # 20 ms of a flooded gigabit: the kernel counts 2.3 kB for each packet
OPEN_ATTEMPTS_MAX: Final = 16  # port 0: the number that one family got may be taken in the other

Batch = list[tuple[bytes, Endpoint]]

__all__ = ["Batch", "DatagramPort", "PortInUse"]


class DatagramPort(Closing):
    """One port in both families. Close it when `run` has ended.

    `counters` counts by name what did not get through: `oversize`, `empty`, `source-port`, `copy`, `no-family`,
    and errno names such as `ENETUNREACH` or `EMSGSIZE`, with `receive-` before those of reading.
    """

    def __init__(self, port: int, sockets: dict[int, socket.socket]) -> None:
        self.port = port
        self.counters: Counter[str] = Counter()
        self.strangers = Strangers()
        self._sockets = sockets  # by length of a packed address: 4, 16

    @classmethod
    def open(cls, port: int) -> Self:
        """Bind `port` (0: any) on all addresses. Raises PortInUse, or OSError when there is no network at all."""
        for attempts_left in reversed(range(OPEN_ATTEMPTS_MAX)):
            try:
                sockets = _bind_both(port)
            except OSError as error:
                if port == 0 and error.errno == errno.EADDRINUSE and attempts_left:
                    continue
                refuse_port("UDP", port, error)
            return cls(next(iter(sockets.values())).getsockname()[1], sockets)
        raise AssertionError("the last attempt returns or raises")

    def send(self, data: bytes, destination: Endpoint) -> None:
        """Send once. Never blocks and never fails: what the network refuses is counted and forgotten."""
        sender = self._sockets.get(len(destination.ip))
        if sender is None:
            self.counters["no-family"] += 1
            return
        try:
            sender.sendto(data, (socket.inet_ntop(sender.family, destination.ip), destination.port))
        except OSError as error:
            self.counters[errno_name(error)] += 1

    async def run(self, deliver: Callable[[Batch], Awaitable[None]]) -> None:
        """Hand over what arrives, for ever, in batches with their sources."""
        async with trio.open_nursery() as nursery:
            for receiver in self._sockets.values():
                nursery.start_soon(self._receive, receiver, deliver)

    async def _receive(self, receiver: socket.socket, deliver: Callable[[Batch], Awaitable[None]]) -> None:
        turns = Allowance(PROMPT_TURNS_PER_S, PROMPT_TURNS_MAX, trio.current_time())
        datagrams = Allowance(PROMPT_DATAGRAMS_PER_S, PROMPT_DATAGRAMS_MAX, trio.current_time())
        copies: Copies | None = None  # of the flood that there is
        over_s = 0.0  # when it will be over
        pause_s = _pause_s(receiver)
        calm = _calm_datagrams(pause_s)
        while True:
            if copies is None:
                await trio.lowlevel.wait_readable(receiver)
            count, now_s = await self._read(receiver, deliver, copies), trio.current_time()
            if copies is None and not (turns.take(now_s) and datagrams.take(now_s, count)):
                copies, over_s = Copies(), now_s + CALM_S
            elif count > calm:
                over_s = now_s + CALM_S
            elif now_s >= over_s:
                copies = None
            if copies is not None:
                await trio.sleep(pause_s)

    async def _read(
        self, receiver: socket.socket, deliver: Callable[[Batch], Awaitable[None]], copies: "Copies | None"
    ) -> int:
        """Hand over what waits, or as much of it as one turn may; how many datagrams were read."""
        count = 0
        self.strangers.turn(trio.current_time())
        for _ in range(FLOOD_BATCHES_MAX):
            batch, read = self._drain(receiver, copies)
            count += read
            if batch:
                await deliver(batch)
            if read < BATCH_DATAGRAMS_MAX:
                break
        return count

    def _drain(self, receiver: socket.socket, copies: "Copies | None") -> tuple[Batch, int]:
        """Read what waits, up to one batch; also how many datagrams that were."""
        batch: Batch = []
        family, receive = receiver.family, receiver.recvfrom
        origin: Any = None
        endpoint = Endpoint(b"", 0)
        for count in range(BATCH_DATAGRAMS_MAX):
            try:
                data, source = receive(DATAGRAM_BYTES_MAX + 1)
            except BlockingIOError:
                return batch, count
            except OSError as error:
                self.counters[f"receive-{errno_name(error)}"] += 1
                return batch, count
            if source != origin:  # a flood's are mostly one
                endpoint = Endpoint(socket.inet_pton(family, source[0].partition("%")[0]), source[1])
                origin = source
            if not 0 < len(data) <= DATAGRAM_BYTES_MAX or not source[1]:
                self._count_useless(data)
            elif copies is not None and not self.strangers.lets_in(endpoint.ip):
                continue
            elif copies is not None and not copies.is_first(data):
                self.counters["copy"] += 1
            else:
                batch.append((data, endpoint))
        return batch, BATCH_DATAGRAMS_MAX

    def _count_useless(self, data: bytes) -> None:
        cause = "empty" if not data else "oversize" if len(data) > DATAGRAM_BYTES_MAX else "source-port"
        self.counters[cause] += 1

    def close(self) -> None:
        """Free the port."""
        for opened in self._sockets.values():
            opened.close()


class Copies:
    """Which datagrams came lately, by a hash that nobody outside can aim at; the oldest are forgotten.

    By all of its bytes: a stranger who writes the clear header of another's datagram keeps that one from nobody.
    """

    def __init__(self) -> None:
        self._newer: set[int] = set()
        self._older: set[int] = set()

    def is_first(self, data: bytes) -> bool:
        """Whether no such datagram came lately; it did from now on."""
        known = hash(data)
        if known in self._newer or known in self._older:
            return False
        self._newer.add(known)
        if len(self._newer) >= COPIES_KEPT:
            self._newer, self._older = set(), self._newer
        return True


def _bind_both(port: int) -> dict[int, socket.socket]:
    """Bind one port number in every family that the machine has."""
    sockets: dict[int, socket.socket] = {}
    refused: OSError | None = None
    try:
        for family, ip_bytes in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
            try:
                sockets[ip_bytes] = opened = _bind(family, port)
            except OSError as error:
                if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise
                refused = error
                continue
            port = opened.getsockname()[1]
    except OSError:
        for opened in sockets.values():
            opened.close()
        raise
    if refused is not None and not sockets:
        raise refused
    return sockets


def _bind(family: int, port: int) -> socket.socket:
    with prepared(socket.socket(family, socket.SOCK_DGRAM)) as opened:
        opened.setblocking(False)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        enlarge(opened, RECEIVE_BUFFER_BYTES, RECEIVED)
        opened.bind(("", port))
        return opened


def _calm_datagrams(pause_s: float) -> int:
    """How many come in such a pause that may be the last: what is read at once without an end."""
    return int(PROMPT_TURNS_PER_S * pause_s)


def _pause_s(opened: socket.socket) -> float:
    """How long what a flood brings may wait in the kernel."""
    granted = opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    return FLOOD_PAUSE_S if granted >= RECEIVE_BUFFER_BYTES else FLOOD_PAUSE_SHORT_S
