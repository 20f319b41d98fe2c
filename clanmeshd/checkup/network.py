"""Checks of what lies between this device and the others: routers, firewalls, what passes them. Pure."""

from collections.abc import Iterator
from typing import Final

from clanmesh_protocol.signalling import NatKind
from clanmeshd.checkup.terms import Finding, Level, Outside, Snapshot
from clanmeshd.net.mapping.terms import Reason

_AT_HOME: Final = "this device has an address of its own on the internet"


def _forwarding(snapshot: Snapshot) -> str:
    """What to do in a router that lets nothing in."""
    ports = f"UDP {snapshot.tunnel_port} and {snapshot.control_port} (and TCP {snapshot.control_port})"
    return f"switch on UPnP, NAT-PMP or PCP in the router, or forward {ports} to this device"


def udp(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether datagrams pass at all."""
    connects = any(fellow.connects for fellow in snapshot.fellows)
    if snapshot.outside.is_blocked or (connects and not snapshot.up):
        yield Finding(
            Level.PROBLEM,
            "udp",
            "no UDP passes from this network",
            "no member answers any datagram, but connections get through: a relay has to carry everything, slowly",
            f"let UDP out to any address in the firewall here, at least to ports {snapshot.control_port} and "
            f"{snapshot.tunnel_port}",
        )
    elif snapshot.up:
        yield Finding(Level.OK, "udp", "UDP passes")


def nat(snapshot: Snapshot) -> Iterator[Finding]:
    """What kind of router this device is behind."""
    outside = snapshot.outside
    match outside.nat:
        case NatKind.NONE if not snapshot.is_reachable:
            yield Finding(
                Level.OK,
                "nat",
                "no NAT in between: the members that are up see this device at its own address",
                "as on one network",
            )
        case NatKind.NONE:
            where = "others see this device at an address of its own" if outside.seen_by else _AT_HOME
            yield Finding(Level.OK, "nat", f"no NAT: {where}")
        case NatKind.EASY:
            what = f"easy NAT: {_observers(outside.seen_by)} at the same place, {outside.seen_at}"
            yield Finding(Level.OK, "nat", what, "direct paths can be made through it")
        case NatKind.HARD if outside.router.place is not None:
            what = f"hard (symmetric) NAT, but the router forwards {outside.router.place} to this device"
            yield Finding(Level.OK, "nat", what)
        case NatKind.HARD:
            yield Finding(
                Level.NOTE,
                "nat",
                f"hard (symmetric) NAT: {_observers(outside.seen_by)}, at different ports",
                "two devices behind such routers never reach each other directly, and go by a relay",
                _forwarding(snapshot),
            )
        case NatKind.BLOCKED:
            return  # said by the check of UDP
        case _:
            yield Finding(Level.OK, "nat", "the kind of NAT is not known", _unknown(snapshot))


def _observers(count: int) -> str:
    return "1 member sees this device" if count == 1 else f"{count} members see this device"


def _unknown(snapshot: Snapshot) -> str:
    outside: Outside = snapshot.outside
    if outside.seen_by:
        at = f", at {outside.seen_at}" if outside.seen_at is not None else ""
        return f"{_observers(outside.seen_by)} from outside{at}, and it takes two that compare"
    if snapshot.up:
        return "every member that is up reaches this device at an address of its own, as on one network"
    return "no member is up that could see this device"


def router(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether the router forwards ports, and if not, whether that matters."""
    asked = snapshot.outside.router
    if asked.place is not None:
        yield Finding(Level.OK, "router", f"the router forwards {asked.place} to WireGuard here ({asked.by})")
        return
    match asked.reason:
        case Reason.NOT_NEEDED:
            yield Finding(Level.OK, "router", "no port mapping is needed: this device is on the internet itself")
        case Reason.NO_ROUTER:
            yield Finding(Level.OK, "router", "no port mapping: there is no router here")
        case Reason.OFF:
            yield Finding(Level.OK, "router", "no port mapping: it is switched off in the configuration")
        case Reason.SEARCHING | None:
            yield Finding(Level.OK, "router", "the router is being asked to forward ports just now")
        case _:
            why = asked.why or "it did not say why"
            if snapshot.outside.pinhole.place is not None:
                yield Finding(Level.OK, "router", "the router forwards nothing by IPv4, but lets IPv6 in", why)
                return
            yield Finding(
                Level.NOTE, "router", "the router forwards no ports to this device", why, _forwarding(snapshot)
            )


def probing(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether paths can be looked for at all."""
    unprobed = snapshot.outside.unprobed
    if unprobed is not None and snapshot.tunnels.is_wanted:
        what = "direct paths through routers are not looked for"
        yield Finding(Level.PROBLEM, "probing", what, unprobed.why, unprobed.remedy)
