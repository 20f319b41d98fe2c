"""The sockets of port mapping: one task that keeps our ports mapped at whatever router there is.

Only the router of the default route is asked, and only what comes from its address is heard. Where there is none,
or where this device has an address of the internet itself, nothing is sent.
"""

import random
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmeshd.net.addresses import AddressWatch, watch_addresses
from clanmeshd.net.mapping.gateway import find_link
from clanmeshd.net.mapping.terms import (
    Ask,
    Datagram,
    Door,
    Effect,
    Forward,
    Heard,
    Link,
    Reason,
    Rest,
    Search,
    Show,
    Standing,
    Talk,
    is_public,
)

if TYPE_CHECKING:
    from clanmeshd.net.mapping.keeper import Keeper

ROUTE_POLL_S: Final = 60.0  # addresses that change are told by the kernel, a route alone is not
WAKE_PAUSE_S: Final = 300.0  # a container host's addresses come and go: the router is asked no more often for that
ANNOUNCEMENT_PAUSE_S: Final = 1.0  # between two that are read
WITHDRAW_S: Final = 0.4  # for all mappings together: a stop takes a second at most
HTTP_S: Final = 5.0  # for one answer; routers' processors are slow
HTTP_READS_MAX: Final = 1000  # of one answer: more are drops from somebody who wants us busy
DATAGRAM_BYTES_MAX: Final = 2048  # more than any answer has
SEARCH_READS_MAX: Final = 256  # answers of a LAN's other devices, which are not read further
SEARCH_HOPS: Final = 1  # the router is on the LAN

_ALL_HOSTS: Final = "224.0.0.1"  # RFC 6886, 3.2.1 and RFC 6887, 14.1.1: a router that restarted says so there


class PortMapping:
    """Keeps ports of this device mapped. `standing` says how it stands; `changed` is called when that changes.

    The same `secret` after a restart renews the mappings that there are. Each door is a tuple of forwards that
    share their port number.
    """

    def __init__(self, doors: Sequence[Door], secret: bytes, changed: Callable[[], Awaitable[None]]) -> None:
        self.standing = Standing(reason=Reason.SEARCHING, why="it has just begun")
        self._doors = tuple(doors)
        self._secret = secret
        self._changed = changed
        self._wake = trio.Event()

    def external(self, port: int) -> Endpoint | None:
        """Where others reach a port of ours through the router, if it is mapped."""
        return self.standing.external.get(port)

    async def run(self) -> None:
        """Map, renew, and withdraw when cancelled."""
        with watch_addresses() as watch:
            while True:
                link = find_link()
                if link is None:
                    await self._show(Standing(reason=Reason.NO_ROUTER, why="no default route leads to a router"))
                elif is_public(link.own):
                    await self._show(Standing(reason=Reason.NOT_NEEDED, why="this device has a public address"))
                else:
                    await self._serve(link, watch)
                    continue
                await _other_link(link, watch, lambda: None)

    async def _serve(self, link: Link, watch: AddressWatch) -> None:
        """Keep the ports mapped until the router or our address is another."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep, link)
            nursery.start_soon(self._listen, link)
            await _other_link(link, watch, self._wake_up)
            nursery.cancel_scope.cancel()

    async def _keep(self, link: Link) -> None:
        from clanmeshd.net.mapping.keeper import Keeper  # many devices have no router that they must ask

        keeper = Keeper(link, self._doors, self._nonces(link), random.Random(), trio.current_time())
        with _Line(link) as line:
            try:
                await self._perform(line, keeper.run())
            finally:
                await self._withdraw(line, keeper)

    async def _withdraw(self, line: "_Line", keeper: "Keeper") -> None:
        with trio.move_on_after(WITHDRAW_S, shield=True):
            await self._perform(line, keeper.withdraw())

    async def _perform(self, line: "_Line", talk: Talk[None]) -> None:
        with suppress(StopIteration):
            effect = next(talk)
            while True:
                effect = talk.send(await self._do(line, effect))

    async def _do(self, line: "_Line", effect: Effect) -> Heard:
        begun_s, data, refused, woken = trio.current_time(), None, False, False
        match effect:
            case Datagram():
                data, refused = await line.say(effect)
            case Search():
                data = await line.search(effect)
            case Ask():
                data = await line.ask(effect)
            case Rest():
                woken = await self._rest(effect)
            case Show():
                await self._show(effect.standing)
        now_s = trio.current_time()
        return Heard(now_s, data, now_s - begun_s, refused, woken)

    async def _rest(self, effect: Rest) -> bool:
        """Rest; whether that was ended early."""
        if not effect.wakes:
            await trio.sleep(effect.wait_s)
            return False
        with trio.move_on_after(effect.wait_s):
            await self._wake.wait()
        was_set, self._wake = self._wake.is_set(), trio.Event()
        return was_set

    async def _show(self, standing: Standing) -> None:
        if standing != self.standing:
            self.standing = standing
            await self._changed()

    def _wake_up(self) -> None:
        self._wake.set()

    async def _listen(self, link: Link) -> None:
        """Wake up when the router announces that it restarted. Whoever can pretend that makes us ask it only."""
        from clanmeshd.net.mapping.pcp import ANNOUNCEMENT_PORT

        listener = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with listener:
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                await listener.bind((_ALL_HOSTS, ANNOUNCEMENT_PORT))
            except OSError:
                return  # restarts are noticed later then
            while True:
                with suppress(OSError):
                    _, source = await listener.recvfrom(DATAGRAM_BYTES_MAX)
                    if source[0] == _text(link.gateway):
                        self._wake_up()
                await trio.sleep(ANNOUNCEMENT_PAUSE_S)

    def _nonces(self, link: Link) -> Callable[[Forward], bytes]:
        from clanmeshd.net.mapping.pcp import NONCE_BYTES

        def nonce_of(forward: Forward) -> bytes:
            words = link.gateway + link.own + bytes([forward.transport]) + forward.port.to_bytes(2, "big")
            return blake2b(words, key=self._secret, digest_size=NONCE_BYTES).digest()

        return nonce_of


async def _other_link(link: Link | None, watch: AddressWatch, same: Callable[[], None]) -> None:
    """Wait until the router or our address towards it is another; now and then tell that it is still the same."""
    told_s = -inf
    while True:
        with trio.move_on_after(ROUTE_POLL_S) as poll:
            await watch.changed()
        if find_link() != link:
            return
        if not poll.cancelled_caught and trio.current_time() >= told_s + WAKE_PAUSE_S:
            told_s = trio.current_time()
            same()


class _Line:
    """What is spoken with one router. Whatever fails is silence."""

    def __init__(self, link: Link) -> None:
        self._gateway = _text(link.gateway)
        self._own = _text(link.own)
        self._port: trio.socket.SocketType | None = None
        self._search: trio.socket.SocketType | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for opened in (self._port, self._search):
            if opened is not None:
                opened.close()

    async def say(self, effect: Datagram) -> tuple[bytes | None, bool]:
        """Send to the router's port of PCP; its answer, and whether its system refused."""
        from clanmeshd.net.mapping.pcp import PORT

        try:
            if self._port is None:
                self._port = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                await self._port.connect((self._gateway, PORT))  # so that nobody else is heard on it
            if effect.data:
                await self._port.send(effect.data)
            with trio.move_on_after(effect.wait_s):
                return await self._port.recv(DATAGRAM_BYTES_MAX), False
        except OSError:
            return None, True
        return None, False

    async def search(self, effect: Search) -> bytes | None:
        """Ask the LAN, and the router by itself, since its answer to that passes this device's own firewall."""
        from clanmeshd.net.mapping.soap import GROUP, PORT

        try:
            if self._search is None:
                self._search = await self._open_search()
            if effect.data:
                await self._search.sendto(effect.data, (GROUP, PORT))
                await self._search.sendto(effect.data, (self._gateway, PORT))
            with trio.move_on_after(effect.wait_s):
                return await self._found(self._search)
        except OSError:
            await trio.lowlevel.checkpoint()
        return None

    async def _open_search(self) -> trio.socket.SocketType:
        opened = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(self._own))
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, SEARCH_HOPS)
        await opened.bind((self._own, 0))
        return opened

    async def _found(self, opened: trio.socket.SocketType) -> bytes | None:
        for _ in range(SEARCH_READS_MAX):
            data, source = await opened.recvfrom(DATAGRAM_BYTES_MAX)
            if source[0] == self._gateway:
                return data
        return None

    async def ask(self, effect: Ask) -> bytes | None:
        """Say something to a TCP port of the router; the whole answer."""
        with (
            trio.move_on_after(HTTP_S),
            suppress(OSError, trio.BrokenResourceError),
            trio.socket.socket() as opened,
        ):
            await opened.connect((self._gateway, effect.port))
            stream = trio.SocketStream(opened)
            await stream.send_all(effect.data)
            return await _read_all(stream)
        return None


async def _read_all(stream: trio.SocketStream) -> bytes:
    from clanmeshd.net.mapping.http import ANSWER_BYTES_MAX, is_whole_untrusted

    data = b""
    for _ in range(HTTP_READS_MAX):
        more = await stream.receive_some()
        data += more
        if not more or len(data) > ANSWER_BYTES_MAX or is_whole_untrusted(data):
            break
    return data


def _text(ip: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET, ip)
