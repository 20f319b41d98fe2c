"""Checks of the other members, and of this device among them: reached or not, clocks, versions. Pure."""

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Final

from clanmeshd.checkup.terms import Fellow, Finding, Level, Snapshot
from clanmeshd.overlay.path_terms import PathKind, Why
from clanmeshd.overlay.plan import MTU_BYTES, MTU_PROVEN_BYTES

NAMED_MAX: Final = 5  # members in one line
EACH_MAX: Final = 8  # lines of one kind
CLOCK_NOTE_S: Final = 30.0  # what an unkept clock loses in a week
CLOCK_PROBLEM_S: Final = 300.0  # memberships end and invites expire by it, and so much is forgiven
_SET_CLOCK: Final = "`timedatectl` says whether it is kept right, and `timedatectl set-ntp true` does that"


def spoken(names: Sequence[str]) -> str:
    """Name a few, and count the rest."""
    shown = [*names[:NAMED_MAX], *([f"{len(names) - NAMED_MAX} more"] if len(names) > NAMED_MAX else [])]
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def span(seconds: float) -> str:
    """Spell a time in its largest unit."""
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(1, round(seconds))} s"


def meeting(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether anybody can be reached from outside: by whom do the others find one another?"""
    reachable = [*(["this device"] if snapshot.is_reachable else [])]
    reachable += [fellow.name for fellow in snapshot.fellows if fellow.is_reachable]
    if not snapshot.fellows:
        return
    if reachable:
        yield Finding(Level.OK, "meeting", f"reached from anywhere: {spoken(reachable)}")
        return
    yield Finding(
        Level.NOTE if snapshot.up else Level.PROBLEM,
        "meeting",
        "no member of the clan can be reached from outside of its network",
        "two devices at different places do not find each other, and nothing relays between hard NATs",
        f"forward UDP {snapshot.control_port} and {snapshot.tunnel_port} and TCP {snapshot.control_port} to one "
        "that is always on, name that place under `endpoints` in its configuration, and give it the tag `relay`",
    )


def silent(snapshot: Snapshot) -> Iterator[Finding]:
    """Who does not answer."""
    away = [fellow for fellow in snapshot.fellows if fellow.state != "up"]
    if not snapshot.fellows:
        yield Finding(
            Level.OK, "members", "this device is alone in its clan", "", "`clanctl invite` lets others in"
        )
    elif not snapshot.up:
        yield Finding(
            Level.PROBLEM,
            "members",
            f"no other member answers: {spoken([each.name for each in away])}",
            "they are off, or the network here or there does not let them through",
            "see whether this device has a network at all, and whether one of them is on",
        )
    elif not away:
        only = snapshot.fellows[0].name
        what = (
            f"all {len(snapshot.fellows)} other members are up" if len(snapshot.fellows) > 1 else f"{only} is up"
        )
        yield Finding(Level.OK, "members", what)
    else:
        for fellow in away[:EACH_MAX]:
            heard = f"for {span(fellow.silent_s)}" if fellow.silent_s is not None else "since this daemon started"
            why = fellow.why or "it is off, or has no network"
            yield Finding(Level.NOTE, "members", f"nothing was heard of {fellow.name} {heard}", why)


def tunnels(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether the tunnels to those that are up pass anything, just now."""
    if not snapshot.tunnels.is_wanted or snapshot.tunnels.failure is not None:
        return
    mute = [each for each in snapshot.up if each.echo_s is None and not is_asleep(each)]
    for fellow in mute[:EACH_MAX]:
        if fellow.has_session:
            yield Finding(
                Level.NOTE,
                "tunnels",
                f"{fellow.name} answers no ping through the tunnel, though the tunnel stands",
                "a firewall there keeps ICMPv6 away, or its packets get lost",
                f"try a service of {fellow.name}; if that fails, too, look at the firewalls on both devices",
            )
        else:
            yield Finding(
                Level.PROBLEM,
                "tunnels",
                f"the tunnel to {fellow.name} passes nothing, though {fellow.name} is up",
                fellow.why or "WireGuard's port is not reached at one side at least",
                f"let UDP {snapshot.tunnel_port} in and out in the firewalls of both devices",
            )
    well = [each for each in snapshot.up if each.echo_s is not None]
    if well:
        slowest = max(well, key=lambda each: each.echo_s or 0.0)
        rtt = f"{1000 * (slowest.echo_s or 0.0):.1f} ms"
        what, how = ("pass", f"{slowest.name} answers last, in") if len(well) > 1 else ("passes", "answered in")
        yield Finding(Level.OK, "tunnels", f"{_tunnels_to(well)} {what} data ({how} {rtt})")


def sizes(snapshot: Snapshot) -> Iterator[Finding]:
    """How large packets can be in the tunnels that stand."""
    up = [each for each in snapshot.up if each.mtu is not None]
    for fellow in [each for each in up if (each.mtu or 0) < MTU_PROVEN_BYTES][:EACH_MAX]:
        yield Finding(
            Level.PROBLEM,
            "mtu",
            f"only small packets get through the tunnel to {fellow.name}",
            f"something on the way drops what has {MTU_PROVEN_BYTES} bytes in the tunnel, without a word",
            "look for a network card, router or other VPN on the way whose MTU is below 1360, and raise that",
        )
    less = [each for each in up if MTU_PROVEN_BYTES <= (each.mtu or 0) < MTU_BYTES]
    for fellow in less[:EACH_MAX]:
        what = f"packets in the tunnel to {fellow.name} have {fellow.mtu} bytes at most, not {MTU_BYTES}"
        yield Finding(Level.OK, "mtu", what, "the way takes no larger ones, and larger ones are not sent")
    full = [each for each in up if (each.mtu or 0) >= MTU_BYTES]
    if full:
        yield Finding(Level.OK, "mtu", f"packets of {MTU_BYTES} bytes pass in {_tunnels_to(full)}")


def _tunnels_to(fellows: Sequence[Fellow]) -> str:
    tunnels = "the tunnels" if len(fellows) > 1 else "the tunnel"
    return f"{tunnels} to {spoken([each.name for each in fellows])}"


def streams(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether new connections to those that are up get through."""
    tried = [each for each in snapshot.up if each.connects is not None]
    failed = [each.name for each in tried if not each.connects]
    if failed:
        yield Finding(
            Level.PROBLEM if len(failed) == len(tried) else Level.NOTE,
            "streams",
            f"no new connection gets through to {spoken(failed)}, though datagrams do",
            "commits, their logs, large secrets and new members come by connections",
            f"let TCP {snapshot.control_port} in, in the firewalls there",
        )
    elif tried:
        yield Finding(Level.OK, "streams", f"connections get through to {spoken([each.name for each in tried])}")


def is_asleep(fellow: Fellow) -> bool:
    """Whether a tunnel rests until something is to be sent: in large clans."""
    return fellow.kind is PathKind.NONE and fellow.why == Why.ASLEEP


def relayed(snapshot: Snapshot) -> Iterator[Finding]:
    """Who is reached by way of another member, and why."""
    found = [fellow for fellow in snapshot.up if fellow.kind is PathKind.RELAY]
    for fellow in found[:EACH_MAX]:
        by = f" {fellow.via}" if fellow.via else ""
        again = f"; tried again in {span(fellow.next_try_s)}" if fellow.next_try_s is not None else ""
        yield Finding(
            Level.NOTE,
            "relays",
            f"{fellow.name} is reached by way of the relay{by}",
            f"not directly: {fellow.why or 'it is being tried'}{again}",
            f"forward UDP {snapshot.tunnel_port} to one of the two devices in its router",
        )


def same_network(snapshot: Snapshot) -> Iterator[Finding]:
    """Two homes whose routers give out the same addresses: harmless, but confusing."""
    for fellow in [each for each in snapshot.fellows if each.same_network is not None][:EACH_MAX]:
        yield Finding(
            Level.NOTE,
            "addresses",
            f"{fellow.name} is elsewhere, in a network with the same addresses as here ({fellow.same_network})",
            "its address there means another machine here; the tunnel does not mind",
            "choose another network in one of the routers if you route between both",
        )


def clocks(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether this device and the others agree what time it is."""
    told = [fellow for fellow in snapshot.fellows if fellow.ahead_s is not None]
    if not told:
        return
    middle = median(fellow.ahead_s or 0.0 for fellow in told)
    is_own = len(told) > 1 and abs(middle) > CLOCK_NOTE_S
    if is_own:
        yield _clock("this device's clock", -middle, f"{len(told)} members", _SET_CLOCK)
    for fellow in told[:EACH_MAX]:
        ahead_s = (fellow.ahead_s or 0.0) - (middle if is_own else 0.0)
        if abs(ahead_s) > CLOCK_NOTE_S:
            others = "most others'" if is_own else "this device's"
            yield _clock(f"{fellow.name}'s clock", ahead_s, others, f"on the one that is wrong, {_SET_CLOCK}")
    if not is_own and all(abs(fellow.ahead_s or 0.0) <= CLOCK_NOTE_S for fellow in told):
        worst = max(abs(fellow.ahead_s or 0.0) for fellow in told)
        others = f"{'those' if len(told) > 1 else 'that'} of {spoken([each.name for each in told])}"
        what = f"the clock agrees with {others} ({worst:.1f} s at most)"
        yield Finding(Level.OK, "clock", what)


def _clock(whose: str, ahead_s: float, than: str, remedy: str) -> Finding:
    side = "ahead of" if ahead_s > 0 else "behind"
    level = Level.PROBLEM if abs(ahead_s) > CLOCK_PROBLEM_S else Level.NOTE
    why = "memberships, invites and what was said last are judged by it"
    return Finding(level, "clock", f"{whose} is {span(abs(ahead_s))} {side} {than}", why, remedy)


def versions(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether all run the same."""
    asked = [fellow for fellow in snapshot.fellows if fellow.connects]
    others = [fellow for fellow in asked if fellow.version != snapshot.version]
    by_version: dict[str | None, list[str]] = {}
    for fellow in others:
        by_version.setdefault(fellow.version, []).append(fellow.name)
    for version, names in list(by_version.items())[:EACH_MAX]:
        what = f"{version} on {spoken(names)}" if version else f"a version on {spoken(names)} too old to tell"
        yield Finding(
            Level.NOTE,
            "version",
            f"daemons differ: {snapshot.version} here, {what}",
            "they share a clan, but what is new works among the new ones alone",
            "bring the older ones up to date",
        )
    if asked and not others:
        what = f"{spoken([*(each.name for each in asked), 'this device'])} run {snapshot.version}"
        yield Finding(Level.OK, "version", what)
