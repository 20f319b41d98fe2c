"""This machine's own addresses: candidates that peers may try, and where mDNS may speak. Hints, never more."""

import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import ifaddr
import trio

from clanmesh_protocol.endpoints import Endpoint, is_candidate
from clanmesh_protocol.limits import ENDPOINTS_MAX

INTERFACES_MAX: Final = 16  # mDNS keeps two sockets for each; more are a container host's bridges
SETTLE_S: Final = 0.5  # a network comes up in several steps: link, address, the other family

# Bridges of container and virtual machine hosts: the same addresses on every such machine, so worth trying last.
_BRIDGES: Final = ("docker", "br-", "virbr", "veth", "cni", "lxc", "lxd", "podman", "vnet")

_SIOCGIFFLAGS: Final = 0x8913
_IFF_UP: Final = 0x1
_IFF_LOOPBACK: Final = 0x8
_IFF_POINTOPOINT: Final = 0x10  # tunnels, ours too: there is no LAN behind them
_IFF_RUNNING: Final = 0x40  # the cable is in
_IFF_MULTICAST: Final = 0x1000
_IFNAMSIZ: Final = 16

_IF_INET6: Final = Path("/proc/net/if_inet6")  # of the own network namespace
_IF_INET6_COLUMNS: Final = 6  # address, index, length of the prefix, scope, flags, interface
_IFA_F_DADFAILED: Final = 0x08
_IFA_F_TENTATIVE: Final = 0x40

_RTMGRP_IPV4_IFADDR: Final = 0x10
_RTMGRP_IPV6_IFADDR: Final = 0x100
_RTMGRP_LINK: Final = 0x1
_NETLINK_BYTES: Final = 65_536
_DRAIN_READS_MAX: Final = 1000  # the socket's buffer holds fewer; what comes later is another change


@dataclass(frozen=True, slots=True)
class Interface:
    """A network that mDNS can speak on. `addresses` are packed, sorted, link-local ones included."""

    name: str
    index: int
    addresses: tuple[bytes, ...]


class Assigned(NamedTuple):
    """An IPv6 address of an interface, with the kernel's flags of it (IFA_F_*)."""

    interface: str
    address: bytes
    flags: int

    @property
    def is_double(self) -> bool:
        """Whether the system found it at another machine."""
        return bool(self.flags & _IFA_F_DADFAILED)


def local_endpoints(port: int, exclude_prefix: bytes) -> list[Endpoint]:
    """List where others may reach `port` of this machine, best first, at most 8.

    Left out: addresses that begin with the bytes `exclude_prefix` (the overlay's own), loopback and link-local
    ones. The order depends on nothing but the addresses, so an unchanged machine gives an equal list.
    """
    found = [
        (_rank(interface.name, address), address)
        for interface in interfaces()
        for address in interface.addresses
        if is_candidate(address) and not (exclude_prefix and address.startswith(exclude_prefix))
    ]
    return [Endpoint(address, port) for _, address in sorted(set(found))][:ENDPOINTS_MAX]


def multicast_interfaces() -> tuple[Interface, ...]:
    """List the networks where mDNS can speak: up, connected, able to multicast, neither loopback nor tunnel."""
    wanted = _IFF_UP | _IFF_RUNNING | _IFF_MULTICAST
    found = [
        interface
        for interface, flags in _with_flags(interfaces())
        if flags & wanted == wanted and not flags & (_IFF_LOOPBACK | _IFF_POINTOPOINT)
    ]
    found.sort(key=lambda interface: (is_bridge(interface.name), interface.index))
    return tuple(found[:INTERFACES_MAX])


def interfaces() -> list[Interface]:
    """List all interfaces that have an address which can be used by now. Takes 0.3 ms."""
    unusable = _unusable_ipv6()
    found: list[Interface] = []
    for adapter in ifaddr.get_adapters():
        addresses = {_packed(ip.ip) for ip in adapter.ips} - unusable
        if addresses and adapter.index is not None:  # None: it went away while we looked
            found.append(Interface(adapter.name, adapter.index, tuple(sorted(addresses))))
    return found


def assigned_ipv6() -> list[Assigned]:
    """List all IPv6 addresses, usable or not; none with a kernel without IPv6."""
    try:
        return list(read_ipv6_table(_IF_INET6.read_text()))
    except OSError:
        return []


def read_ipv6_table(table: str) -> Iterator[Assigned]:
    """Read /proc/net/if_inet6."""
    for columns in map(str.split, table.splitlines()):
        if len(columns) == _IF_INET6_COLUMNS:
            yield Assigned(columns[5], bytes.fromhex(columns[0]), int(columns[4], 16))


def _unusable_ipv6() -> set[bytes]:
    """Addresses that a socket cannot have yet, or never: duplicate address detection takes a second or two."""
    unusable = _IFA_F_TENTATIVE | _IFA_F_DADFAILED
    return {each.address for each in assigned_ipv6() if each.flags & unusable}


def _packed(address: str | tuple[str, int, int]) -> bytes:
    text = address if isinstance(address, str) else address[0]
    return ipaddress.ip_address(text.partition("%")[0]).packed


def _rank(name: str, address: bytes) -> int:
    """Order candidates: real networks before bridges, IPv4 (short headers, always routed in a LAN) first."""
    return 2 * is_bridge(name) + (len(address) != 4)


def is_bridge(name: str) -> bool:
    """Whether an interface is a bridge of a container host's or the like, by its name."""
    return name.startswith(_BRIDGES)


def _with_flags(found: Iterable[Interface]) -> Iterator[tuple[Interface, int]]:
    # An ioctl and not /sys, which shows the network namespace that it was mounted in.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        for interface in found:
            request = struct.pack("16sH14x", interface.name.encode()[: _IFNAMSIZ - 1], 0)
            try:
                answer = fcntl.ioctl(asker, _SIOCGIFFLAGS, request)
            except OSError:
                continue  # it went away while we looked
            yield interface, struct.unpack_from("=H", answer, _IFNAMSIZ)[0]


class AddressWatch:
    """Wakes when the kernel changes an address or a link. Costs nothing in between."""

    def __init__(self, listener: socket.socket | None) -> None:
        self._listener = listener

    async def changed(self) -> None:
        """Wait for a change since the last call, and until the changes have settled a little.

        Where netlink is not permitted this waits for ever: bound it by a timeout, and look.
        """
        if self._listener is None:
            await trio.sleep_forever()
        await trio.lowlevel.wait_readable(self._listener)
        await trio.sleep(SETTLE_S)
        self._drain(self._listener)

    def _drain(self, listener: socket.socket) -> None:
        # What changed is not read: the addresses are listed anew. A full buffer (ENOBUFS) is a change as well.
        for _ in range(_DRAIN_READS_MAX):
            try:
                listener.recv(_NETLINK_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue


@contextmanager
def watch_addresses() -> Iterator[AddressWatch]:
    """Watch this machine's addresses."""
    try:
        listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    except OSError:  # a sandbox without netlink
        yield AddressWatch(None)
        return
    with listener:
        listener.setblocking(False)
        listener.bind((0, _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR | _RTMGRP_LINK))
        yield AddressWatch(listener)
