"""Checks of this machine itself: its overlay, what is in the way of it, names, disk. Pure."""

from collections.abc import Iterator
from typing import Final

from clanmeshd.checkup.members import spoken
from clanmeshd.checkup.terms import Detour, Finding, Level, Snapshot, Tunnels

DISK_PROBLEM_BYTES: Final = 32 << 20  # the state of a large clan is 10 MB, and is written anew beside itself
DISK_NOTE_BYTES: Final = 512 << 20  # a revision's checkout and its build
DISK_NOTE_SHARE: Final = 0.03


def overlay(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether there is WireGuard, and whose."""
    tunnels = snapshot.tunnels
    if not tunnels.is_wanted:
        yield Finding(Level.OK, "wireguard", "the overlay is switched off in the configuration")
    elif tunnels.failure is not None:
        failure = tunnels.failure
        yield Finding(Level.PROBLEM, "wireguard", "the overlay is not up", failure.why, failure.remedy)
    elif tunnels.backend == "kernel":
        yield Finding(Level.OK, "wireguard", f"the kernel's WireGuard runs on {tunnels.interface}")
    else:
        yield Finding(
            Level.NOTE,
            "wireguard",
            f"WireGuard runs as a program on {tunnels.interface}, not in the kernel",
            "it works, and takes more of the processor for each byte",
            "`modprobe wireguard`, where the kernel has it, then restart clanmeshd",
        )


def clashes(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether something else here takes the clan's network, or this device's addresses."""
    tunnels = snapshot.tunnels
    by_detour: dict[Detour, list[str]] = {}
    for name, detour in snapshot.clashes.detours:
        by_detour.setdefault(detour, []).append(name)
    for detour, names in by_detour.items():
        yield _detour(detour, names, tunnels)
    for interface, address in snapshot.clashes.strangers:
        yield Finding(
            Level.PROBLEM,
            "addresses",
            f"{interface} has the address {address}, which is of the clan's network {tunnels.prefix}",
            f"it belongs on {tunnels.interface} alone: what is sent there may leave by the wrong interface",
            f"take it away: `ip -6 address del {address} dev {interface}`",
        )
    for interface, address in snapshot.clashes.duplicates:
        yield Finding(
            Level.PROBLEM,
            "addresses",
            f"another machine on the network of {interface} has this device's address {address}",
            "the system found it there, and does not use it itself",
            "give one of the two another address",
        )


def _detour(detour: Detour, names: list[str], tunnels: Tunnels) -> Finding:
    by = f"leave by {detour.interface}, not" if detour.interface is not None else "are thrown away, not sent"
    dev = f" dev {detour.interface}" if detour.interface is not None else ""
    commands = [f"`ip -6 route del {detour.route}{dev}`"] if detour.route else []
    commands += [f"`ip -6 rule del priority {detour.rule}`"] if detour.rule is not None else []
    undone = f"until then {' or '.join(commands)}" if commands else f"`ip -6 route show table all{dev}` shows it"
    which = f"the route {detour.route}" if detour.route else "a route"
    ruled = f"rule {detour.rule} leads to {which}" if detour.route else f"rule {detour.rule}"
    origin = f", and {detour.origin}" if detour.origin else ""
    return Finding(
        Level.PROBLEM,
        "routes",
        f"packets for {spoken(names)} {by} by {tunnels.interface}",
        f"{ruled if detour.rule is not None else which} goes before the clan's own, {tunnels.prefix}{origin}",
        f"leave that network out where it comes from; {undone}",
    )


def names(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether the system looks the clan's names up here."""
    naming = snapshot.naming
    if not snapshot.tunnels.is_wanted or not naming.is_wanted:
        return
    if naming.failure is not None:
        failure = naming.failure
        yield Finding(Level.PROBLEM, "names", "the clan's names are not found", failure.why, failure.remedy)
    elif naming.by is not None:
        yield Finding(Level.OK, "names", f"the clan's names are looked up by {naming.by}")
    elif snapshot.tunnels.failure is None:
        why = naming.why or "it is being told just now"
        yield Finding(Level.NOTE, "names", "the system is not told of the clan's names", why)


def disk(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether there is room for the state."""
    found = snapshot.disk
    if found is None:
        return
    remedy = "make room there: what cannot be stored is not said to anybody"
    left = f"{found.free_bytes / 1e6:.0f} MB are left at {found.path}"
    if found.failure is not None:
        yield Finding(Level.PROBLEM, "disk", "the state cannot be stored", found.failure, remedy)
    elif found.free_bytes < DISK_PROBLEM_BYTES:
        yield Finding(Level.PROBLEM, "disk", "the disk is full", left, remedy)
    elif found.free_bytes < min(DISK_NOTE_BYTES, DISK_NOTE_SHARE * found.total_bytes):
        yield Finding(Level.NOTE, "disk", "the disk is nearly full", left, remedy)
    else:
        yield Finding(Level.OK, "disk", left)


def others(snapshot: Snapshot) -> Iterator[Finding]:
    """What `clanctl status` names besides."""
    for refusal in snapshot.others:
        yield Finding(Level.PROBLEM, "status", refusal.why, "", refusal.remedy)
