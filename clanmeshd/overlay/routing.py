"""The interface's network half through rtnetlink: the link itself, its addresses, the routes through it.

The few messages are packed by hand: the message classes of a library for all of rtnetlink cost a megabyte of
memory for them.
"""

import errno
import ipaddress
import random
import socket
import struct
from typing import Final

from clanmeshd.overlay.device import Link, Network
from clanmeshd.overlay.netlink import (
    NETLINK_ROUTE,
    NLA_F_NESTED,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NetlinkSocket,
    Request,
    attribute,
    parse_attributes,
)

OWNED_ALIAS: Final = "clanmesh"  # `ip link` shows it; an interface without it is none of ours

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK, _RTM_SETLINK = 16, 17, 18, 19
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26

_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_EXT_MASK = 3, 4, 18, 20, 29
_IFLA_INFO_KIND: Final = 1
_RTEXT_FILTER_SKIP_STATS: Final = 1 << 3
_IFF_UP: Final = 1
_IFA_ADDRESS, _IFA_FLAGS = 1, 8
_IFA_F_NODAD: Final = 0x02  # nobody else on a tunnel can have it, so it is usable at once
_RTA_DST, _RTA_OIF, _RTA_METRICS = 1, 4, 8
_RTAX_MTU: Final = 2
_RT_TABLE_MAIN: Final = 254
_RTPROT_KERNEL: Final = 2  # the kernel's own, which follow from addresses
_RTPROT_STATIC: Final = 4
_RTN_UNICAST: Final = 1
_SCOPE_UNIVERSE: Final = 0

_LINK: Final = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ADDRESS: Final = struct.Struct("=BBBBi")  # family, prefix bits, flags, scope, index
_ROUTE: Final = struct.Struct(
    "=BBBBBBBBI"
)  # family, bits of dst and src, tos, table, protocol, scope, type, flags
_U32: Final = struct.Struct("=I")

# Above what the kernel counts up to, so that asking for an index never takes the next one of somebody else.
_INDEX_MIN, _INDEX_MAX = 1 << 24, (1 << 31) - 1


class Routing:
    """Reads and changes one interface by name. All methods raise OSError with the kernel's errno."""

    def __init__(self) -> None:
        self._netlink = NetlinkSocket(NETLINK_ROUTE)
        self._routes: dict[bytes, tuple[Network, int] | None] = {}  # what was told last, and what that means
        self._index = 0  # for this interface

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    async def read_link(self, name: str) -> Link | None:
        """The interface of this name, without its addresses and routes; None when there is none."""
        body = _link() + _name(name) + attribute(_IFLA_EXT_MASK, _U32.pack(_RTEXT_FILTER_SKIP_STATS))
        try:
            replies = await self._netlink.ask(Request(_RTM_GETLINK, 0, body))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return _parse_link(replies[0])

    async def read_networks(self, index: int) -> tuple[frozenset[Network], dict[Network, int]]:
        """The IPv6 addresses of an interface but link-local ones, and the routes through it but the kernel's.

        With the MTU of each route, 0 where it has none of its own. What is told again is not read again: a clan of
        500 has as many routes.
        """
        address_filter = _ADDRESS.pack(socket.AF_INET6, 0, 0, 0, index)
        addresses = await self._netlink.dump(Request(_RTM_GETADDR, 0, address_filter))
        route_filter = _ROUTE.pack(socket.AF_INET6, 0, 0, 0, _RT_TABLE_MAIN, 0, 0, _RTN_UNICAST, 0)
        route_filter += attribute(_RTA_OIF, _U32.pack(index))
        routes = await self._netlink.dump(Request(_RTM_GETROUTE, 0, route_filter))
        before, self._index = self._routes if index == self._index else {}, index
        self._routes = {body: before[body] if body in before else _parse_route(body, index) for body in routes}
        return (
            frozenset(found for body in addresses if (found := _parse_address(body, index)) is not None),
            dict(route for route in self._routes.values() if route is not None),
        )

    async def create_wireguard(self, name: str) -> None:
        """Make a kernel WireGuard interface that carries our mark from its first moment.

        Raises OSError: EEXIST, EPERM, or EOPNOTSUPP when the kernel has no WireGuard.
        """
        index = random.randint(_INDEX_MIN, _INDEX_MAX)
        kind = attribute(_IFLA_LINKINFO | NLA_F_NESTED, attribute(_IFLA_INFO_KIND, b"wireguard"))
        create = Request(_RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, _link(index) + _name(name) + kind)
        # By the index that we asked for, not by the name: if the name was taken, this finds nothing to mark.
        await self._netlink.ask(create, _mark(index))

    async def mark(self, index: int) -> None:
        """Mark an interface as ours."""
        await self._netlink.ask(_mark(index))

    async def delete_link(self, index: int) -> None:
        """Remove an interface; that it is gone already is fine."""
        try:
            await self._netlink.ask(Request(_RTM_DELLINK, 0, _link(index)))
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise

    async def set_mtu(self, index: int, mtu: int) -> None:
        """Set the largest packet in bytes."""
        await self._netlink.ask(Request(_RTM_SETLINK, 0, _link(index) + attribute(_IFLA_MTU, _U32.pack(mtu))))

    async def set_up(self, index: int) -> None:
        """Switch the interface on."""
        body = _LINK.pack(socket.AF_UNSPEC, 0, index, _IFF_UP, _IFF_UP)
        await self._netlink.ask(Request(_RTM_SETLINK, 0, body))

    async def add_address(self, index: int, address: Network) -> None:
        """Add an IPv6 address, usable at once."""
        flags = attribute(_IFA_FLAGS, _U32.pack(_IFA_F_NODAD))
        await self._netlink.ask(
            Request(_RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, _address(index, address) + flags)
        )

    async def remove_address(self, index: int, address: Network) -> None:
        """Remove an IPv6 address; that it is gone already is fine."""
        await self._ask_unless(errno.EADDRNOTAVAIL, Request(_RTM_DELADDR, 0, _address(index, address)))

    async def add_route(self, index: int, route: Network, mtu: int) -> None:
        """Route a network through the interface, in packets of `mtu` bytes at most.

        In the place of a route of the same rank that leads elsewhere.
        """
        metrics = attribute(_RTA_METRICS | NLA_F_NESTED, attribute(_RTAX_MTU, _U32.pack(mtu)))
        body = _route(index, route) + metrics
        await self._netlink.ask(Request(_RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body))

    async def remove_route(self, index: int, route: Network) -> None:
        """Remove a route through the interface; that it is gone already is fine."""
        await self._ask_unless(errno.ESRCH, Request(_RTM_DELROUTE, 0, _route(index, route)))

    async def _ask_unless(self, harmless: int, request: Request) -> None:
        try:
            await self._netlink.ask(request)
        except OSError as error:
            if error.errno != harmless:
                raise


def _link(index: int = 0) -> bytes:
    return _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0)


def _name(name: str) -> bytes:
    return attribute(_IFLA_IFNAME, name.encode() + b"\0")


def _mark(index: int) -> Request:
    return Request(_RTM_SETLINK, 0, _link(index) + attribute(_IFLA_IFALIAS, OWNED_ALIAS.encode()))


def _address(index: int, address: Network) -> bytes:
    header = _ADDRESS.pack(socket.AF_INET6, address.bits, 0, _SCOPE_UNIVERSE, index)
    return header + attribute(_IFA_ADDRESS, address.ip)


def _route(index: int, route: Network) -> bytes:
    header = _ROUTE.pack(
        socket.AF_INET6, route.bits, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, _SCOPE_UNIVERSE, _RTN_UNICAST, 0
    )
    return header + attribute(_RTA_DST, route.ip) + attribute(_RTA_OIF, _U32.pack(index))


def _parse_link(body: bytes) -> Link:
    _family, _type, index, flags, _change = _unpack(_LINK, body)
    found = parse_attributes(body[_LINK.size :])
    info = parse_attributes(found.get(_IFLA_LINKINFO, b""))
    return Link(
        index=index,
        kind=_text(info.get(_IFLA_INFO_KIND, b"")),
        alias=_text(found.get(_IFLA_IFALIAS, b"")),
        mtu=_u32(found.get(_IFLA_MTU, b"")),
        up=bool(flags & _IFF_UP),
    )


def _parse_address(body: bytes, index: int) -> Network | None:
    """The address, if it belongs to the interface and is not a link-local one."""
    family, bits, _flags, _scope, owner = _unpack(_ADDRESS, body)
    ip = parse_attributes(body[_ADDRESS.size :]).get(_IFA_ADDRESS, b"")
    if owner != index or family != socket.AF_INET6 or len(ip) != 16 or ipaddress.IPv6Address(ip).is_link_local:
        return None
    return Network(ip, bits)


def _parse_route(body: bytes, index: int) -> tuple[Network, int] | None:
    """Where a route leads and its MTU, if it goes through the interface and the kernel did not make it itself."""
    family, bits, _src, _tos, table, protocol, _scope, kind, _flags = _unpack(_ROUTE, body)
    found = parse_attributes(body[_ROUTE.size :])
    ours = family == socket.AF_INET6 and table == _RT_TABLE_MAIN and kind == _RTN_UNICAST
    if not ours or protocol == _RTPROT_KERNEL or found.get(_RTA_OIF) != _U32.pack(index):
        return None
    metrics = found.get(_RTA_METRICS)
    mtu = _u32(parse_attributes(metrics).get(_RTAX_MTU, b"")) if metrics else 0
    return Network(found.get(_RTA_DST, bytes(16)), bits), mtu


def _unpack(layout: struct.Struct, body: bytes) -> tuple[int, ...]:
    if len(body) < layout.size:
        raise OSError(errno.EBADMSG, f"an rtnetlink message of {len(body)} bytes")
    return layout.unpack_from(body)


def _u32(payload: bytes) -> int:
    return int.from_bytes(payload, "little" if _U32.pack(1)[0] else "big")


def _text(payload: bytes) -> str:
    return payload.rstrip(b"\0").decode(errors="replace")
