"""The task of port mapping: keeps our ports mapped at whatever router there is, by each family of addresses.

Only the router of the default route is asked, and only what comes from its address is heard. By IPv4 it is asked
where this device has no address of the internet. By IPv6 it is the other way round: there nothing is translated,
but the routers of homes let nothing in that they were not asked for. Where there is no router, or where this
device has a public address of IPv4, nothing is sent.
"""

import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from math import inf
from typing import TYPE_CHECKING, Final

import trio

from clanmesh_protocol.endpoints import Endpoint, is_public
from clanmeshd.net.addresses import AddressWatch, watch_addresses
from clanmeshd.net.mapping.gateway import find_link, find_link_ipv6
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
    Transport,
)

if TYPE_CHECKING:
    from clanmeshd.net.mapping.keeper import Keeper
    from clanmeshd.net.mapping.line import Line

ROUTE_POLL_S: Final = 60.0  # addresses that change are told by the kernel, a route alone is not
WAKE_PAUSE_S: Final = 300.0  # a container host's addresses come and go: the router is asked no more often for that
SETTLED_S: Final = 0.5  # for one more port: by PCP it takes 5 ms, by UPnP up to half a second
WITHDRAW_S: Final = 0.5  # for all mappings together: a stop takes a second at most
NONCE_BYTES: Final = 12  # RFC 6887, 11.1


class PortMapping:
    """Keeps ports of this device mapped: `run` it. `changed` is called when one of the standings has changed.

    The same `secret` after a restart renews the mappings that there are. Each door is a tuple of forwards that
    share their port number.
    """

    def __init__(self, doors: Sequence[Door], secret: bytes, changed: Callable[[], Awaitable[None]]) -> None:
        self._ipv4 = Uplink(_need_ipv4, doors, secret, changed)
        self._ipv6 = Uplink(_need_ipv6, doors, secret, changed)

    @property
    def standing(self) -> Standing:
        """How it stands with the router's translation of IPv4."""
        return self._ipv4.standing

    @property
    def pinholes(self) -> Standing:
        """How it stands with the router's firewall for IPv6."""
        return self._ipv6.standing

    def external(self, port: int) -> tuple[Endpoint, ...]:
        """Where others reach a port of ours through the router."""
        found = (each.standing.external.get(port) for each in (self._ipv4, self._ipv6))
        return tuple(place for place in found if place is not None)

    def want(self, ports: Iterable[int]) -> None:
        """Map these UDP ports as well, and none that was wanted so before."""
        more = tuple((Forward(Transport.UDP, port),) for port in ports)
        for uplink in (self._ipv4, self._ipv6):
            uplink.want(more)

    async def settled(self, port: int) -> None:
        """Wait until it is known where a wanted port leads. At once where no router maps any; soon in any case."""
        with trio.move_on_after(SETTLED_S):
            while self.standing.by is not None and port not in self.standing.external:
                await self._ipv4.shown.wait()

    async def run(self) -> None:
        """Map, renew, and withdraw when cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ipv4.run)
            nursery.start_soon(self._ipv6.run)


def _need_ipv4() -> Link | Standing:
    """The router to ask, or why none is asked."""
    link = find_link()
    if link is None:
        return Standing(reason=Reason.NO_ROUTER, why="no default route leads to a router")
    if is_public(link.own):
        return Standing(reason=Reason.NOT_NEEDED, why="this device has a public address")
    return link


def _need_ipv6() -> Link | Standing:
    ipv4, link = find_link(), find_link_ipv6()
    if link is None:
        return Standing(reason=Reason.NO_ROUTER, why="no default route of IPv6 leads to a router")
    if not is_public(link.own):
        return Standing(reason=Reason.NO_ADDRESS, why="this device has no public address of IPv6")
    if ipv4 is not None and is_public(ipv4.own):
        return Standing(reason=Reason.NOT_NEEDED, why="this device has a public address of IPv4")
    return link


class Uplink:
    """The way to the internet by one family. `need` names the router that is to be asked now."""

    def __init__(
        self,
        need: Callable[[], Link | Standing],
        doors: Sequence[Door],
        secret: bytes,
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        self.standing = Standing(reason=Reason.SEARCHING, why="it has just begun")
        self._need = need
        self._doors = tuple(doors)
        self._secret = secret
        self.shown = trio.Event()  # set, and replaced, with each standing
        self._changed = changed
        self._more: tuple[Door, ...] = ()
        self._keeper: Keeper | None = None
        self._is_woken = self._is_asked = False
        self._fresh = trio.Event()  # set, and replaced, with either

    async def run(self) -> None:
        """Map, renew, and withdraw when cancelled."""
        with watch_addresses() as watch:
            while True:
                needed = self._need()
                if isinstance(needed, Standing):
                    await self._show(needed)
                    await self._other_need(needed, watch)
                else:
                    await self._serve(needed, watch)

    def want(self, more: tuple[Door, ...]) -> None:
        """Map these as well."""
        if more != self._more:
            self._more, self._is_asked = more, True
            if self._keeper is not None:
                self._keeper.want(more)
            self._fresh.set()

    async def _serve(self, link: Link, watch: AddressWatch) -> None:
        """Keep the ports mapped until the router or our address is another."""
        from clanmeshd.net.mapping.line import Line  # many devices have no router that they must ask

        with Line(link) as line:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep, link, line)
                nursery.start_soon(line.listen, self._wake_up)
                await self._other_need(link, watch)
                nursery.cancel_scope.cancel()

    async def _other_need(self, needed: Link | Standing, watch: AddressWatch) -> None:
        """Wait until the router or our address is another; wake up when the network changed otherwise."""
        woken_s = -inf
        while True:
            with trio.move_on_after(ROUTE_POLL_S) as poll:
                await watch.changed()
            if self._need() != needed:
                return
            if not poll.cancelled_caught and trio.current_time() >= woken_s + WAKE_PAUSE_S:
                woken_s = trio.current_time()
                self._wake_up()

    async def _keep(self, link: Link, line: "Line") -> None:
        from clanmeshd.net.mapping.keeper import Keeper

        keeper = Keeper(link, self._doors, self._nonces(link), random.Random(), trio.current_time())
        keeper.want(self._more)
        self._keeper = keeper
        try:
            await self._perform(line, keeper.run())
        finally:
            self._keeper = None
            with trio.move_on_after(WITHDRAW_S, shield=True):
                async with trio.open_nursery() as nursery:
                    for talk in keeper.withdrawals():
                        nursery.start_soon(self._perform, line, talk)

    async def _perform(self, line: "Line", talk: Talk[None]) -> None:
        with suppress(StopIteration):
            effect = next(talk)
            while True:
                effect = talk.send(await self._do(line, effect))

    async def _do(self, line: "Line", effect: Effect) -> Heard:
        begun_s, data, refused, woken, asked = trio.current_time(), None, False, False, False
        match effect:
            case Datagram():
                data, refused = await line.say(effect)
            case Search():
                data = await line.search(effect)
            case Ask():
                data = await line.ask(effect)
            case Rest():
                woken, asked = await self._rest(effect)
            case Show():
                await self._show(effect.standing)
        now_s = trio.current_time()
        return Heard(now_s, data, now_s - begun_s, refused, woken, asked)

    async def _rest(self, effect: Rest) -> tuple[bool, bool]:
        """Rest; whether that was ended early by the network, and by a wish. What does not end it is kept."""
        with trio.move_on_after(effect.wait_s):
            while not ((effect.wakes and self._is_woken) or (effect.heeds and self._is_asked)):
                self._fresh = trio.Event()
                await self._fresh.wait()
        woken, asked = effect.wakes and self._is_woken, effect.heeds and self._is_asked
        self._is_woken, self._is_asked = self._is_woken and not woken, self._is_asked and not asked
        await trio.lowlevel.checkpoint()
        return woken, asked

    async def _show(self, standing: Standing) -> None:
        if standing != self.standing:
            self.standing = standing
            self.shown.set()
            self.shown = trio.Event()
            await self._changed()

    def _wake_up(self) -> None:
        self._is_woken = True
        self._fresh.set()

    def _nonces(self, link: Link) -> Callable[[Forward], bytes]:
        def nonce_of(forward: Forward) -> bytes:
            words = link.gateway + link.own + bytes([forward.transport]) + forward.port.to_bytes(2, "big")
            return blake2b(words, key=self._secret, digest_size=NONCE_BYTES).digest()

        return nonce_of
