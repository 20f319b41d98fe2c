"""An address and a port: where a datagram came from or may be sent to. A hint, never an identity."""

import ipaddress
from typing import NamedTuple

from clanmesh_protocol.encoding import Fields
from clanmesh_protocol.errors import MalformedError

_PORT_MAX = 65_535
MAPPED_PREFIX = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96


class Endpoint(NamedTuple):
    """`ip` is packed, 4 or 16 bytes; IPv4 is never carried in mapped IPv6 form."""

    ip: bytes
    port: int

    @property
    def host(self) -> str:
        """The address as text, without brackets."""
        return str(ipaddress.ip_address(self.ip))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if len(self.ip) == 16 else f"{self.host}:{self.port}"


def endpoint(host: str, port: int) -> Endpoint:
    """Make an Endpoint from numbers as text; a zone (`%eth0`) is dropped. Raises ValueError for names."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return Endpoint(address.packed, port)


def parse_endpoint(text: str) -> Endpoint:
    """Read `192.0.2.1:51871` or `[2001:db8::1]:51871`. Raises ValueError."""
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdigit() or not 0 < int(port) <= _PORT_MAX:
        raise ValueError(f"{text!r} is not ADDRESS:PORT")
    return endpoint(host.removeprefix("[").removesuffix("]"), int(port))


def is_candidate(ip: bytes) -> bool:
    """Say whether a peer may be tried at this address: no loopback, link-local, multicast or unspecified one.

    Link-local addresses would need a zone that means nothing on another machine.
    """
    address = ipaddress.ip_address(ip)
    return not (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or (isinstance(address, ipaddress.IPv4Address) and address.is_reserved)
    )


def is_public(ip: bytes) -> bool:
    """Whether an address is one of the internet's: not private, shared, reserved, multicast or for examples."""
    address = ipaddress.ip_address(ip)
    return address.is_global and not address.is_multicast and not address.is_reserved


def endpoint_from_fields_untrusted(fields: Fields) -> Endpoint:
    """Read `[ip, port]`. Raises MalformedError or LimitError."""
    ip = fields.blob("ip", at_most=16)
    if len(ip) not in (4, 16):
        raise MalformedError(f"an address of {len(ip)} bytes")
    if len(ip) == 16 and ip.startswith(MAPPED_PREFIX):
        raise MalformedError("an IPv4 address in mapped IPv6 form")
    port = fields.uint("port", _PORT_MAX)
    if port == 0:
        raise MalformedError("port 0")
    return Endpoint(ip, port)
