"""The home router: where the kernel sends what goes to the internet."""

import ipaddress
import socket
import sys
from pathlib import Path
from typing import Final

from clanmeshd.net.mapping.terms import Link

ROUTES_BYTES_MAX: Final = 65_536  # 500 routes; the default one stands first
_ROUTES: Final = Path("/proc/net/route")  # of the own network namespace
_FLAGS_GATEWAY: Final = 0x3  # RTF_UP and RTF_GATEWAY
_COLUMNS: Final = 8  # interface, destination, gateway, flags, references, uses, metric, mask
_ANY_PORT: Final = 9  # discard: connecting a UDP socket sends nothing


def find_link() -> Link | None:
    """The router of the best default route of IPv4 that has one, and our address towards it."""
    try:
        with _ROUTES.open("rb") as routes:
            table = routes.read(ROUTES_BYTES_MAX).decode("ascii", "replace")
    except OSError:  # a kernel without IPv4
        return None
    gateway = gateway_of(table)
    own = _own_address(gateway) if gateway is not None else None
    return Link(gateway, own) if gateway is not None and own is not None else None


def gateway_of(table: str) -> bytes | None:
    """Read the kernel's table of routes (proc(5), /proc/net/route): the packed address of the best gateway."""
    found: list[tuple[int, bytes]] = []
    for line in table.splitlines()[1:]:
        row = line.split()
        if len(row) < _COLUMNS or int(row[1], 16) or int(row[7], 16):
            continue
        if int(row[3], 16) & _FLAGS_GATEWAY == _FLAGS_GATEWAY:
            found.append((int(row[6]), _packed(row[2])))
    return min(found, key=lambda each: each[0])[1] if found else None


def _packed(digits: str) -> bytes:
    """An address as the kernel prints it: a number in the machine's own byte order."""
    return int(digits, 16).to_bytes(4, sys.byteorder)


def _own_address(gateway: bytes) -> bytes | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        try:
            asker.connect((str(ipaddress.IPv4Address(gateway)), _ANY_PORT))
        except OSError:
            return None
        return ipaddress.IPv4Address(asker.getsockname()[0]).packed
