"""The sockets with which one router is spoken to. Whatever fails is silence."""

import ipaddress
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from clanmeshd.net.mapping.http import ANSWER_BYTES_MAX, is_whole_untrusted
from clanmeshd.net.mapping.pcp import ANNOUNCEMENT_PORT, PORT
from clanmeshd.net.mapping.terms import Ask, Datagram, Link, Search
from clanmeshd.sockets import Closing, family_of

HTTP_S: Final = 5.0  # for one answer; routers' processors are slow
HTTP_READS_MAX: Final = 1000  # of one answer: more are drops from somebody who wants us busy
DATAGRAM_BYTES_MAX: Final = 2048  # more than any answer has
SEARCH_READS_MAX: Final = 256  # answers of a LAN's other devices, which are not read further
SEARCH_HOPS: Final = 1  # the router is on the LAN
ANNOUNCEMENT_PAUSE_S: Final = 1.0  # between two that are read
ALL_HOSTS: Final = {4: "224.0.0.1", 16: "ff02::1"}  # RFC 6887, 14.1.1: a router that restarted says so there
UPNP_GROUP: Final = ("239.255.255.250", 1900)

_Address = tuple[str, int] | tuple[str, int, int, int]


class Line(Closing):
    """What is spoken with one router: on connected sockets, or with a look at who answers."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._family = family_of(link.own)
        self._gateway = str(ipaddress.ip_address(link.gateway))
        self._own = str(ipaddress.ip_address(link.own))
        self._port: trio.socket.SocketType | None = None
        self._turn = trio.Lock()  # answers on the one socket are for whoever asked last
        self._searching: trio.socket.SocketType | None = None

    def close(self) -> None:
        """Speak no more."""
        for opened in (self._port, self._searching):
            if opened is not None:
                opened.close()

    async def say(self, effect: Datagram) -> tuple[bytes | None, bool]:
        """Send to the router's port of PCP; its answer, and whether its system refused."""
        async with self._turn:
            return await self._say(effect)

    async def _say(self, effect: Datagram) -> tuple[bytes | None, bool]:
        try:
            if self._port is None:
                self._port = trio.socket.socket(self._family, socket.SOCK_DGRAM)
                await self._port.bind(self._address(self._own, 0, scope=0))  # PCP's client is the source's address
                await self._port.connect(self._address(self._gateway, PORT))  # so that nobody else is heard on it
            if effect.data:
                await self._port.send(effect.data)
            with trio.move_on_after(effect.wait_s):
                return await self._port.recv(DATAGRAM_BYTES_MAX), False
        except OSError:
            return None, True
        return None, False

    async def search(self, effect: Search) -> bytes | None:
        """Ask the LAN, and the router by itself, since its answer to that passes this device's own firewall."""
        try:
            if self._searching is None:
                self._searching = await self._open_search()
            if effect.data:
                await self._searching.sendto(effect.data, UPNP_GROUP)
                await self._searching.sendto(effect.data, (self._gateway, UPNP_GROUP[1]))
            with trio.move_on_after(effect.wait_s):
                return await self._found(self._searching)
        except OSError:
            await trio.lowlevel.checkpoint()
        return None

    async def ask(self, effect: Ask) -> bytes | None:
        """Say something to a TCP port of the router; the whole answer."""
        opened = trio.socket.socket(self._family)
        with opened, trio.move_on_after(HTTP_S), suppress(OSError, trio.BrokenResourceError):
            await opened.connect(self._address(self._gateway, effect.port))
            stream = trio.SocketStream(opened)
            await stream.send_all(effect.data)
            return await _read_all(stream)
        return None

    async def listen(self, heard: Callable[[], None]) -> None:
        """Tell when the router announces that it restarted. Whoever can pretend that makes us ask it only."""
        listener = trio.socket.socket(self._family, socket.SOCK_DGRAM)
        with listener:
            try:
                for shared in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):  # other programs do the same
                    listener.setsockopt(socket.SOL_SOCKET, shared, 1)
                await listener.bind(self._address(ALL_HOSTS[len(self._link.own)], ANNOUNCEMENT_PORT))
            except OSError:
                return  # restarts are noticed later then
            while True:
                with suppress(OSError):
                    _, source = await listener.recvfrom(DATAGRAM_BYTES_MAX)
                    if source[0].partition("%")[0] == self._gateway:
                        heard()
                await trio.sleep(ANNOUNCEMENT_PAUSE_S)

    def _address(self, host: str, port: int, scope: int | None = None) -> _Address:
        if self._family == socket.AF_INET:
            return (host, port)
        return (host, port, 0, self._link.scope if scope is None else scope)

    async def _open_search(self) -> trio.socket.SocketType:
        opened = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, self._link.own)
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, SEARCH_HOPS)
        await opened.bind((self._own, 0))
        return opened

    async def _found(self, opened: trio.socket.SocketType) -> bytes | None:
        for _ in range(SEARCH_READS_MAX):
            data, source = await opened.recvfrom(DATAGRAM_BYTES_MAX)
            if source[0] == self._gateway:
                return data
        return None


async def _read_all(stream: trio.SocketStream) -> bytes:
    data = b""
    for _ in range(HTTP_READS_MAX):
        more = await stream.receive_some()
        data += more
        if not more or len(data) > ANSWER_BYTES_MAX or is_whole_untrusted(data):
            break
    return data
