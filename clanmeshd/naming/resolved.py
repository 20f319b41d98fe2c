"""Registration with systemd-resolved: the overlay's link gets its server and the names that are asked there.

What is asked of `org.freedesktop.resolve1` (its manual page of that name) is all about the one link. Its domains
are routing-only, so names of the clan and of its addresses go to our resolver, all others where they went
before, and no name is completed that was not typed whole. The zone is not signed and the way to it is this
machine's own: no DNSSEC, no TLS. A resolver keeps settings of a link as long as it and the link live; after
either was made anew they are told again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from clanmeshd.naming.bus import Bus, BusError
from clanmeshd.naming.trouble import NamesUnavailable

NAME: Final = "org.freedesktop.resolve1"

_PATH: Final = "/org/freedesktop/resolve1"
_INTERFACE: Final = "org.freedesktop.resolve1.Manager"
_AF_INET6: Final = 10
_GONE: Final = ("NoSuchLink", "ServiceUnknown", "NameHasNoOwner")  # and what it knew of the link
_UNKNOWN: Final = "UnknownMethod"  # of versions before the one that brought it


@dataclass(frozen=True, slots=True)
class LinkNames:
    """What a link is told: the resolver's address, packed, and the domains that it answers for."""

    index: int
    interface: str
    server: bytes
    domains: tuple[str, ...]


async def register(bus: Bus, link: LinkNames) -> None:
    """Tell resolved of our resolver. Doing it twice is harmless. Raises OSError; NamesUnavailable with a remedy.

    The server comes last: before the others are in force it would be asked what is not its business.
    """
    domains = [(domain, True) for domain in link.domains]
    try:
        await _set(bus, "SetLinkDomains", "ia(sb)", link.index, domains)
        await _set(bus, "SetLinkDefaultRoute", "ib", link.index, False)
        for protocol in ("DNSSEC", "DNSOverTLS", "LLMNR", "MulticastDNS"):
            await _set(bus, f"SetLink{protocol}", "is", link.index, "no")
        await _set(bus, "SetLinkDNS", "ia(iay)", link.index, [(_AF_INET6, list(link.server))])
    except BusError as error:
        raise _explained(error, link) from error


async def revert(bus: Bus, index: int) -> None:
    """Take back what was told of a link, which may be gone. Raises OSError."""
    try:
        await _call(bus, "RevertLink", "i", index)
    except BusError as error:
        if error.name not in _GONE:
            raise


async def _set(bus: Bus, member: str, signature: str, *values: Any) -> None:
    try:
        await _call(bus, member, signature, *values)
    except BusError as error:
        if error.name != _UNKNOWN:
            raise


async def _call(bus: Bus, member: str, signature: str, *values: Any) -> Sequence[Any]:
    return await bus.call(NAME, _PATH, _INTERFACE, member, signature, *values)


def _explained(error: BusError, link: LinkNames) -> OSError:
    what = f"systemd-resolved on {link.interface}"
    if error.name == "LinkBusy":
        return NamesUnavailable(
            what,
            "systemd-networkd manages this interface, and its DNS",
            f"leave it to clanmesh: in a file of /etc/systemd/network, [Match] Name={link.interface}, "
            "[Link] Unmanaged=yes, and sorted before the one that matches it now",
        )
    if error.name in ("AccessDenied", "InteractiveAuthorizationRequired"):
        return NamesUnavailable(what, "it does not let us", "run clanmeshd as root, by its unit")
    return error
