"""The home router: where the kernel sends what goes to the internet, by IPv4 and by IPv6."""

import ipaddress
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from clanmeshd.net.mapping.terms import Link

ROUTES_BYTES_MAX: Final = 65_536  # 400 routes; what comes later is a router's own, which needs nobody's ports
_ROUTES_IPV4: Final = Path("/proc/net/route")  # of the own network namespace; see proc(5)
_ROUTES_IPV6: Final = Path("/proc/net/ipv6_route")
_COLUMNS_IPV4: Final = 8  # interface, destination, gateway, flags, references, uses, metric, mask
_COLUMNS_IPV6: Final = (
    10  # destination, its bits, source, its bits, gateway, metric, references, uses, flags, interface
)
_FLAGS: Final = 0x203  # up, gateway, reject
_FLAGS_WANTED: Final = 0x3
_ANY_PORT: Final = 9  # discard: connecting a UDP socket sends nothing
_INTERNET_IPV6: Final = "2000::"  # somewhere in it: only the source that the kernel would choose matters
_IPV6_ADDR_PREFERENCES: Final = 72  # Linux; not in the socket module
_PREFER_PUBLIC: Final = 2  # RFC 5014: the lasting address, not one of the passing ones


def find_link() -> Link | None:
    """The router of the best default route of IPv4 that has one, and our address towards it."""
    gateway = gateway_of(_table(_ROUTES_IPV4))
    if gateway is None:
        return None
    own = _own_address(socket.AF_INET, str(ipaddress.IPv4Address(gateway)))
    return Link(gateway, own) if own is not None else None


def find_link_ipv6() -> Link | None:
    """The same for IPv6, with our lasting address in the internet."""
    found = gateway_of_ipv6(_table(_ROUTES_IPV6))
    if found is None:
        return None
    gateway, interface = found
    own = _own_address(socket.AF_INET6, _INTERNET_IPV6)
    with suppress(OSError):  # the interface went away while we looked
        return Link(gateway, own, socket.if_nametoindex(interface)) if own is not None else None
    return None


def gateway_of(table: str) -> bytes | None:
    """Read the kernel's routes of IPv4: the packed address of the best gateway."""
    found: list[tuple[int, bytes]] = []
    for line in table.splitlines()[1:]:
        row = line.split()
        if len(row) < _COLUMNS_IPV4 or int(row[1], 16) or int(row[7], 16):
            continue
        if int(row[3], 16) & _FLAGS == _FLAGS_WANTED:
            found.append((int(row[6]), int(row[2], 16).to_bytes(4, sys.byteorder)))
    return min(found, key=lambda each: each[0])[1] if found else None


def gateway_of_ipv6(table: str) -> tuple[bytes, str] | None:
    """Read the kernel's routes of IPv6: the best gateway, packed, and the interface that leads to it."""
    found: list[tuple[int, bytes, str]] = []
    for line in table.splitlines():
        row = line.split()
        if len(row) < _COLUMNS_IPV6 or int(row[0], 16) or int(row[1], 16) or int(row[3], 16):
            continue
        if int(row[8], 16) & _FLAGS == _FLAGS_WANTED:
            found.append((int(row[5], 16), bytes.fromhex(row[4]), row[9]))
    best = min(found, key=lambda each: each[0]) if found else None
    return (best[1], best[2]) if best is not None else None


def _table(path: Path) -> str:
    try:
        with path.open("rb") as routes:
            return routes.read(ROUTES_BYTES_MAX).rpartition(b"\n")[0].decode("ascii", "replace")
    except OSError:  # a kernel without this family
        return ""


def _own_address(family: socket.AddressFamily, towards: str) -> bytes | None:
    with socket.socket(family, socket.SOCK_DGRAM) as asker:
        try:
            if family == socket.AF_INET6:
                asker.setsockopt(socket.IPPROTO_IPV6, _IPV6_ADDR_PREFERENCES, _PREFER_PUBLIC)
            asker.connect((towards, _ANY_PORT))
        except OSError:
            return None
        return ipaddress.ip_address(asker.getsockname()[0]).packed
