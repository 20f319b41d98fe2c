"""Asks the kernel where packets for members go; and if not by our interface, by which route and rule they do.

What has a longer prefix than ours, a lower metric or a rule before the main table goes first: a wider network of
another VPN's, such as fd00::/8, does no harm. Whatever the reason, the kernel's own answer is what counts.
"""

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from clanmeshd.checkup.terms import Detour
from clanmeshd.overlay.netlink import NETLINK_ROUTE, NetlinkSocket, Request, attribute, parse_attributes

_RTM_GETROUTE, _RTM_GETRULE = 26, 34
_RTM_F_FIB_MATCH: Final = 0x2000  # tell the route itself, not what came of it
_RTA_DST, _RTA_OIF, _RTA_PRIORITY, _RTA_TABLE = 1, 4, 6, 15
_FRA_DST, _FRA_PRIORITY, _FRA_TABLE = 1, 6, 15
# Source, interfaces, mark, master device, users, protocol, ports.
_FRA_NARROWING: Final = frozenset((2, 3, 10, 17, 19, 20, 22, 23, 24))
_FIB_RULE_INVERT: Final = 0x2
_FR_ACT_TO_TABLE: Final = 1
_TABLE_MAIN, _TABLE_LOCAL = 254, 255
_METRIC_DEFAULT: Final = 1024  # of IPv6, which ip(8) takes for granted
_ADDRESS_BITS: Final = 128

# Types of routes and actions of rules that lead nowhere, by linux/rtnetlink.h, as ip(8) calls them.
_NOWHERE: Final = {6: "blackhole", 7: "unreachable", 8: "prohibit"}
_REFUSALS: Final = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL)
_ORIGINS: Final = {
    2: "it follows from an address of that interface",
    9: "a router announced it",
    16: "it came by DHCP",
    **dict.fromkeys((11, 12, 186, 187, 188, 189, 192), "a routing daemon made it"),
}
_BY_SOMEBODY: Final = "another VPN made it, or somebody by hand"

# Of routes and rules: family, bits of destination and source, tos, table, protocol, scope, type or action, flags
_HEADER: Final = struct.Struct("=BBBBBBBBI")


class Rule(NamedTuple):
    """An `ip rule`. `is_narrow`: it asks for more than the destination, so nobody knows what it is for."""

    priority: int
    table: int
    action: int
    destination: bytes
    bits: int
    is_narrow: bool

    def takes(self, address: bytes) -> bool:
        """Whether packets to an address follow it, whoever sends them."""
        return not self.is_narrow and _covers(self.destination, self.bits, address)


class Route(NamedTuple):
    """A route of any table. `kind` is its type."""

    destination: bytes
    bits: int
    table: int
    metric: int
    protocol: int
    kind: int
    oif: int

    def spelt(self) -> str:
        """As `ip -6 route del` takes it, without the interface."""
        network = f"{ipaddress.IPv6Address(self.destination)}/{self.bits}" if self.bits else "default"
        kind = f"{_NOWHERE[self.kind]} " if self.kind in _NOWHERE else ""
        metric = f" metric {self.metric}" if self.metric != _METRIC_DEFAULT else ""
        table = f" table {self.table}" if self.table != _TABLE_MAIN else ""
        return f"{kind}{network}{metric}{table}"


async def detours(members: Iterable[tuple[str, bytes]], interface: str) -> tuple[tuple[str, Detour], ...]:
    """The members (name, overlay address) whose packets do not leave by an interface, and where they go."""
    try:
        own = socket.if_nametoindex(interface)
        netlink = NetlinkSocket(NETLINK_ROUTE)
    except OSError:
        return ()
    found: list[tuple[str, Detour]] = []
    try:
        for name, address in members:
            index = await _leaves_by(netlink, address)
            if index != own and (detour := await _explained(netlink, address, index)) is not None:
                found.append((name, detour))
    except OSError:
        return tuple(found)
    finally:
        netlink.close()
    return tuple(found)


async def _leaves_by(netlink: NetlinkSocket, address: bytes) -> int | None:
    """The index of the interface by which the system sends to an address; None: by none."""
    try:
        route = await _ask(netlink, address, 0)
    except OSError as error:
        if error.errno in _REFUSALS:
            return None
        raise
    return route.oif if route is not None else None


async def _ask(netlink: NetlinkSocket, address: bytes, flags: int) -> Route | None:
    header = _HEADER.pack(socket.AF_INET6, _ADDRESS_BITS, 0, 0, 0, 0, 0, 0, flags)
    replies = await netlink.ask(Request(_RTM_GETROUTE, 0, header + attribute(_RTA_DST, address)))
    return read_route(replies[0]) if replies else None


async def _explained(netlink: NetlinkSocket, address: bytes, index: int | None) -> Detour | None:
    """The route and the rule behind a detour. None where nothing is in the way: our own route is not there yet."""
    rules = [read_rule(body) for body in await netlink.dump(Request(_RTM_GETRULE, 0, _any()))]
    if index is None:
        nowhere = [
            read_route(body)
            for kind in _NOWHERE
            for body in await netlink.dump(Request(_RTM_GETROUTE, 0, _any(kind)))
        ]
        return thrown_away(address, nowhere, rules)
    try:
        route = await _ask(netlink, address, _RTM_F_FIB_MATCH)
    except OSError:  # it changed meanwhile
        route = None
    return led_away(_interface_name(index), address, route, rules)


def led_away(interface: str, address: bytes, route: Route | None, rules: Sequence[Rule]) -> Detour:
    """What to say of packets that leave by another interface. Pure, as is all below."""
    if route is None:
        return Detour(interface)
    return Detour(
        interface, route.spelt(), _ORIGINS.get(route.protocol, _BY_SOMEBODY), _ruling(address, route.table, rules)
    )


def thrown_away(address: bytes, routes: Iterable[Route], rules: Sequence[Rule]) -> Detour | None:
    """What to say of packets that nothing takes: the rule or the most special route that refuses them."""
    refusing = [rule for rule in rules if rule.action in _NOWHERE and rule.takes(address)]
    if refusing:
        return Detour(None, rule=min(rule.priority for rule in refusing))
    covering = [each for each in routes if each.bits and _covers(each.destination, each.bits, address)]
    if not covering:
        return None
    route = max(covering, key=lambda each: (each.bits, -each.metric))
    return Detour(
        None, route.spelt(), _ORIGINS.get(route.protocol, _BY_SOMEBODY), _ruling(address, route.table, rules)
    )


def _ruling(address: bytes, table: int, rules: Sequence[Rule]) -> int | None:
    """The rule that leads to a table; None for those that all packets come to."""
    if table in (_TABLE_MAIN, _TABLE_LOCAL):
        return None
    leading = [rule for rule in rules if rule.table == table and rule.action == _FR_ACT_TO_TABLE]
    takers = [rule for rule in leading if rule.takes(address)] or leading
    return min((rule.priority for rule in takers), default=None)


def read_route(body: bytes) -> Route:
    """Read what the kernel tells of a route. Raises OSError(EBADMSG)."""
    _family, bits, _src, _tos, table, protocol, _scope, kind, _flags = _unpack(body)
    found = parse_attributes(body[_HEADER.size :])
    return Route(
        destination=found.get(_RTA_DST, bytes(16)),
        bits=bits,
        table=_number(found.get(_RTA_TABLE)) or table,
        metric=_number(found.get(_RTA_PRIORITY)),
        protocol=protocol,
        kind=kind,
        oif=_number(found.get(_RTA_OIF)),
    )


def read_rule(body: bytes) -> Rule:
    """Read what the kernel tells of a rule. Raises OSError(EBADMSG)."""
    _family, bits, source_bits, tos, table, _, _, action, flags = _unpack(body)
    found = parse_attributes(body[_HEADER.size :])
    return Rule(
        priority=_number(found.get(_FRA_PRIORITY)),
        table=_number(found.get(_FRA_TABLE)) or table,
        action=action,
        destination=found.get(_FRA_DST, bytes(16)),
        bits=bits,
        is_narrow=bool(flags & _FIB_RULE_INVERT or source_bits or tos or found.keys() & _FRA_NARROWING),
    )


def _any(kind: int = 0) -> bytes:
    return _HEADER.pack(socket.AF_INET6, 0, 0, 0, 0, 0, 0, kind, 0)


def _unpack(body: bytes) -> tuple[int, ...]:
    if len(body) < _HEADER.size:
        raise OSError(errno.EBADMSG, f"an rtnetlink message of {len(body)} bytes")
    return _HEADER.unpack_from(body)


def _number(payload: bytes | None) -> int:
    return int(struct.unpack("=I", payload)[0]) if payload is not None and len(payload) == 4 else 0


def _covers(destination: bytes, bits: int, address: bytes) -> bool:
    shift = _ADDRESS_BITS - bits
    return int.from_bytes(destination, "big") >> shift == int.from_bytes(address, "big") >> shift


def _interface_name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return "an interface that has just gone"
