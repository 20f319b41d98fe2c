"""The server's side of streams: who may come in, how many at a time, and for how long.

A connection is a stranger's until a member's key has signed for it, and so is everyone who comes to join.
Strangers are few, short and replaceable: when there is no room the oldest of them goes, since an honest one is
done within milliseconds. Members have room of their own that no stranger can take.
"""

import ipaddress
import logging
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import trio

from clanmesh_protocol.errors import MalformedError, ProtocolError
from clanmesh_protocol.keys import ClanId, NodeId, signing_public
from clanmesh_protocol.limits import (
    REFUSAL_WHY_BYTES_MAX,
    STREAM_FRAME_BYTES_MAX,
    STREAM_NONCE_BYTES,
    STREAM_VERSION,
)
from clanmesh_protocol.streams import Accept, Greeting, Hello, Purpose, Refuse, check_hello_untrusted
from clanmeshd.net.link import Link, Stream, StreamBroken, StreamRefused
from clanmeshd.net.pace import Allowance
from clanmeshd.net.ports import refuse_port
from clanmeshd.net.ties import Ties
from clanmeshd.net.tls import server_context

STRANGERS_MAX: Final = 128  # more than a burst of accepts; each costs tens of kB while it shakes hands
# Half of that, since a clan behind one NAT comes back at once. A source is an IPv4 address or an IPv6 /64.
STRANGERS_PER_SOURCE_MAX: Final = 64
HANDSHAKE_TIMEOUT_S: Final = 5.0  # from the connection to a hello that holds
JOIN_TIMEOUT_S: Final = 30.0  # from the hello to the last record of the bundle
MEMBER_STREAMS_MAX: Final = 128
STREAMS_PER_MEMBER_MAX: Final = 16
ACCEPTS_PER_S: Final = 50.0  # a handshake costs 2 ms: strangers get a tenth of a core
ACCEPTS_BURST: Final = 100.0  # a clan of 50 that comes back at once

_PURPOSES: Final = frozenset(map(str, Purpose))

log = logging.getLogger(__name__)

May = Callable[[NodeId, str], bool]
Handle = Callable[[Stream], Awaitable[None]]


async def open_listeners(port: int, host: str | None = None) -> list[trio.SocketListener]:
    """Listen on a TCP port in both families. Raises PortInUse, or another OSError."""
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        refuse_port("TCP", port, error)


async def serve(
    listeners: Sequence[trio.SocketListener],
    *,
    seed: bytes,
    clan: Callable[[], ClanId | None],
    may: May,
    handle: Handle,
    counters: Counter[str] | None = None,
    ties: Ties | None = None,
) -> None:
    """Serve streams for ever; closes the listeners in the end.

    `may` is asked once a client has proven its key. `handle` runs for each accepted stream, which is closed
    behind it; those of members are in `ties`, which cuts them when one is removed. Faults of a peer or of the
    network, in the handshake or out of `handle`, end that one stream and are counted by name in `counters`;
    everything else propagates.
    """
    counters = Counter() if counters is None else counters
    door = _Door(seed, clan, may, handle, counters, Ties() if ties is None else ties)
    async with trio.open_nursery() as nursery:
        await trio.serve_listeners(door.answer, [_Paced(each) for each in listeners], handler_nursery=nursery)


class _Paced(trio.abc.Listener[trio.SocketStream]):
    """A listener that accepts no more often than we can afford; the rest waits in the kernel."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self._listener = listener
        self._allowance = Allowance(ACCEPTS_PER_S, ACCEPTS_BURST, trio.current_time())

    async def accept(self) -> trio.SocketStream:
        """Accept the next connection, in time."""
        if not self._allowance.take(trio.current_time()):
            await trio.sleep(1 / ACCEPTS_PER_S)
            self._allowance.take(trio.current_time())
        return await self._listener.accept()

    async def aclose(self) -> None:
        """Stop listening."""
        await self._listener.aclose()


class _Door:
    """Answers connections. All of its state is who is inside."""

    def __init__(
        self,
        seed: bytes,
        clan: Callable[[], ClanId | None],
        may: May,
        handle: Handle,
        counters: Counter[str],
        ties: Ties,
    ) -> None:
        self._context = server_context(seed)
        self._identity = NodeId(signing_public(seed))
        self._clan = clan
        self._may = may
        self._handle = handle
        self._counters = counters
        self._ties = ties
        self._strangers = _Strangers(counters)
        self._members: Counter[NodeId] = Counter()

    async def answer(self, transport: trio.SocketStream) -> None:
        """Serve one connection to its end."""
        link = Link(trio.SSLStream(transport, self._context, server_side=True))
        try:
            await self._receive(link, _source(transport))
        except* (StreamBroken, ProtocolError) as ended:
            self._counters["broken"] += 1
            log.debug("a stream ended: %s", ended.exceptions[0])
        except* OSError as failed:  # not the stream's: something that `handle` needed
            self._counters["failed"] += 1
            log.warning("a stream ended: %s", failed.exceptions[0])
        finally:
            await link.aclose()

    async def _receive(self, link: Link, source: bytes) -> None:
        member: Stream | None = None
        with self._strangers.visit(source) as visit:
            await link.shake_hands()
            stream = await self._meet(link)
            if stream is not None and stream.purpose == Purpose.JOIN:
                visit.deadline = trio.current_time() + JOIN_TIMEOUT_S
                await self._host(stream)
            else:
                member = stream
        if visit.cancelled_caught:
            self._counters["cut-off"] += 1
        elif member is not None:
            await self._host_member(member)

    async def _meet(self, link: Link) -> Stream | None:
        """Greet a client and hear who it is; None when it was refused."""
        nonce = os.urandom(STREAM_NONCE_BYTES)
        await link.send(Greeting(STREAM_VERSION, nonce, self._identity))
        try:
            hello = await link.receive()
            if not isinstance(hello, Hello):
                raise MalformedError("a client begins with a hello")
            self._check(hello, check_hello_untrusted(hello, self._identity, nonce))
        except StreamRefused as refusal:
            await self._refuse(link, refusal.refusal, refusal.why)
        except ProtocolError as error:
            await self._refuse(link, error.code, str(error))
        else:
            return Stream(link, hello.client, hello.purpose)
        return None

    def _check(self, hello: Hello, client: NodeId) -> None:
        """Decide about a client that has proven its key. Raises StreamRefused."""
        if hello.clan != self._clan():
            raise StreamRefused("wrong-clan", "this device is not in that clan")
        if hello.purpose not in _PURPOSES:
            raise StreamRefused("unknown-purpose", f"this version knows no purpose {hello.purpose!r}")
        if not self._may(client, hello.purpose):
            raise StreamRefused("unauthorized", f"{hello.purpose!r} is for members of the clan")

    async def _refuse(self, link: Link, refusal: str, why: str) -> None:
        self._counters[refusal] += 1
        text = why.encode()[:REFUSAL_WHY_BYTES_MAX].decode(errors="ignore")
        await link.send(Refuse(refusal, text))

    async def _host_member(self, stream: Stream) -> None:
        inside = self._members
        if inside.total() >= MEMBER_STREAMS_MAX or inside[stream.peer] >= STREAMS_PER_MEMBER_MAX:
            await self._refuse(stream.link, "busy", "too many streams are open: try again later")
            return
        stream.link.frame_bytes_max = STREAM_FRAME_BYTES_MAX
        inside[stream.peer] += 1
        try:
            with self._ties.tie(stream.peer):
                await self._host(stream)
        finally:
            inside[stream.peer] -= 1
            if not inside[stream.peer]:
                del inside[stream.peer]

    async def _host(self, stream: Stream) -> None:
        self._counters["accepted"] += 1
        await stream.send(Accept())
        await self._handle(stream)


class _Strangers:
    """The connections that nobody vouches for, the oldest first."""

    def __init__(self, counters: Counter[str]) -> None:
        self._inside: dict[trio.CancelScope, bytes] = {}
        self._counters = counters

    @contextmanager
    def visit(self, source: bytes) -> Iterator[trio.CancelScope]:
        """Count a stranger in for as long as the block takes, which is bounded; the oldest may have to go."""
        self._make_room(source)
        with trio.move_on_after(HANDSHAKE_TIMEOUT_S) as scope:
            self._inside[scope] = source
            try:
                yield scope
            finally:
                self._inside.pop(scope, None)

    def _make_room(self, source: bytes) -> None:
        same = [scope for scope, other in self._inside.items() if other == source]
        if len(same) >= STRANGERS_PER_SOURCE_MAX:
            self._evict(same[0])
        elif len(self._inside) >= STRANGERS_MAX:
            self._evict(next(iter(self._inside)))

    def _evict(self, scope: trio.CancelScope) -> None:
        scope.cancel()
        del self._inside[scope]
        self._counters["evicted"] += 1


def _source(transport: trio.SocketStream) -> bytes:
    """Give the part of the client's address that one machine does not share. Raises OSError when it has gone."""
    ip = ipaddress.ip_address(transport.socket.getpeername()[0].partition("%")[0]).packed
    return ip if len(ip) == 4 else ip[:8]
