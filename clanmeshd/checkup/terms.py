"""The words of a checkup: what was seen of the device, its network and the clan; and what is said of it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.signalling import NatKind
from clanmeshd.net.mapping.terms import Reason
from clanmeshd.overlay.path_terms import PathKind


class Level(StrEnum):
    """How much somebody should mind."""

    PROBLEM = "problem"  # something does not work, and somebody can do something about it
    NOTE = "note"  # it works, but not as well as it could; or it will not always
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what, why, and what to do. `check` names what was looked at, for programs."""

    level: Level
    check: str
    what: str
    why: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something cannot be had here, and what to do about it."""

    why: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Router:
    """The router of one family of addresses: what it lets in, or why not."""

    by: str | None = None  # the protocol that it was asked by
    place: Endpoint | None = None  # where WireGuard's port is reached through it
    reason: Reason | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Outside:
    """How this device looks from outside."""

    nat: NatKind = NatKind.UNKNOWN
    seen_by: int = 0  # members that said where they see it
    seen_at: Endpoint | None = None  # its WireGuard port, as most of them say
    is_blocked: bool = False  # streams get through, datagrams do not
    router: Router = Router()
    pinhole: Router = Router()  # the router's firewall for IPv6
    unprobed: Refusal | None = None  # why nothing is probed


@dataclass(frozen=True, slots=True)
class Tunnels:
    """The overlay here."""

    is_wanted: bool = True
    backend: str | None = "kernel"
    interface: str = "clan0"
    prefix: str = "fd00::/48"
    failure: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Naming:
    """How names are given to the system."""

    is_wanted: bool = True
    by: str | None = None
    why: str | None = None  # not by anybody
    failure: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Detour:
    """Where packets for members go instead of by our interface, and the route and rule that lead them there."""

    interface: str | None  # None: nowhere, they are thrown away
    route: str = ""  # as ip(8) takes it, without the interface: "fd00:1:2::/48 metric 50 table 99"
    origin: str = ""  # who made it, in words
    rule: int | None = None  # the priority of the rule that leads to that route's table, if it is not the main one


@dataclass(frozen=True, slots=True)
class Clashes:
    """What else on this machine is in the clan's way."""

    detours: tuple[tuple[str, Detour], ...] = ()  # of a member, by its name
    strangers: tuple[tuple[str, str], ...] = ()  # interface and address of ours, or in the clan's network
    duplicates: tuple[tuple[str, str], ...] = ()  # interface and address that another machine has


IN: Final = "in"  # what comes to this device
OUT: Final = "out"  # what it sends


@dataclass(frozen=True, slots=True)
class Barrier:
    """A firewall of this machine's that keeps out, or in, what the clan needs: one chain, and what it drops."""

    tool: str  # who owns it, as people call it: "ufw"
    chain: str  # which chain drops, in words
    dropped: tuple[str, ...]  # in words: "UDP 51871"
    commands: tuple[str, ...]  # that let it in, with that tool
    lasts: str = ""  # what else keeps it so after the next start of the machine
    scope: str = ""  # of whom, where not of everybody: "from other networks", "by IPv6"
    is_inside: bool = False  # what it drops comes through the tunnels
    is_shut: bool = False  # even answers to what was sent the other way are dropped
    is_outgoing: bool = False  # this device sends it


@dataclass(frozen=True, slots=True)
class Firewall:
    """What the packet filters of this machine do with what the clan needs."""

    barriers: tuple[Barrier, ...] = ()
    active: tuple[str, ...] = ()  # chains that filter, in words; none: nothing does
    needed: tuple[str, ...] = ()  # what was tried, in words
    ways: tuple[str, ...] = (IN,)  # that are filtered: OUT mostly is not
    doubt: str | None = None  # why it is not known whether they let it pass
    unsure: tuple[str, ...] = ()  # which way
    commands: tuple[str, ...] = ()  # that would let it in for sure, where there is a doubt


@dataclass(frozen=True, slots=True)
class Fellow:
    """Another member, as it looks from here."""

    name: str
    state: str  # of State
    kind: PathKind = PathKind.LAN
    via: str | None = None  # the relay
    why: str | None = None  # not direct
    next_try_s: float | None = None  # in how long that is tried again
    silent_s: float | None = None  # how long nothing was heard; None: never
    has_session: bool = True  # of WireGuard's
    echo_s: float | None = None  # a round trip through the tunnel just now
    mtu: int | None = None  # the largest packet in the tunnel that was answered, in bytes
    is_reachable: bool = False  # from outside of its network, by what it says itself
    same_network: str | None = None  # a network of this device that an address of the member's would be in
    connects: bool | None = None  # over a new stream, just now; None: not tried
    ahead_s: float | None = None  # its clock is by so much
    version: str | None = None  # None: it does not tell


@dataclass(frozen=True, slots=True)
class Disk:
    """Where the state is."""

    path: str
    free_bytes: int
    total_bytes: int
    failure: str | None = None  # why nothing can be stored now


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that was seen."""

    version: str
    outside: Outside
    tunnels: Tunnels
    naming: Naming
    clashes: Clashes
    fellows: tuple[Fellow, ...]
    disk: Disk | None
    is_member: bool = True  # this device; one that was removed speaks with nobody
    is_reachable: bool = False  # this device, from outside of its network
    tunnel_port: int = 51872
    control_port: int = 51871
    firewall: Firewall | None = None  # None: its rules are not known
    others: tuple[Refusal, ...] = ()  # what `status` calls a problem, and nothing of this says

    @property
    def up(self) -> list[Fellow]:
        """The others that are up."""
        return [fellow for fellow in self.fellows if fellow.state == "up"]
