"""What the system says of this machine: addresses that clash, networks, how full its disk is."""

import ipaddress
import os
from collections.abc import Iterable
from pathlib import Path

import ifaddr

from clanmeshd.checkup.terms import Clashes, Disk
from clanmeshd.net.addresses import Assigned

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def address_clashes(found: Iterable[Assigned], interface: str, prefix: bytes) -> Clashes:
    """Addresses of the clan's network that are elsewhere than on its interface, and those that others have."""
    rows = list(found)
    strangers = [each for each in rows if each.interface != interface and each.address.startswith(prefix)]
    return Clashes(
        strangers=tuple((each.interface, _text(each.address)) for each in strangers),
        duplicates=tuple((each.interface, _text(each.address)) for each in rows if each.is_double),
    )


def _text(address: bytes) -> str:
    return str(ipaddress.IPv6Address(address))


def networks(interface: str) -> list[IPNetwork]:
    """The networks that this machine is on, but for the overlay, loopback and link-local ones."""
    found: list[IPNetwork] = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips if adapter.name != interface else ():
            text = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            network = ipaddress.ip_network(f"{text.partition('%')[0]}/{ip.network_prefix}", strict=False)
            if not network.is_loopback and not network.is_link_local:
                found.append(network)
    return found


def disk(path: Path, failure: str | None) -> Disk | None:
    """How full the disk is that the state is on."""
    try:
        told = os.statvfs(path)
    except OSError:
        return None
    return Disk(os.fspath(path), told.f_bavail * told.f_frsize, told.f_blocks * told.f_frsize, failure)
