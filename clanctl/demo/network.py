"""What a laboratory network consists of, and the commands that make it. Pure.

One bridge is the LAN; each machine has a port on it. Addresses are those set aside for documentation, so that
nothing here can be mistaken for a real network.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

BRIDGE: Final = "lan"
INTERFACE: Final = "eth0"  # each machine's own
IPV4_NETWORK: Final = ipaddress.IPv4Network("192.0.2.0/24")  # RFC 5737
IPV6_NETWORK: Final = ipaddress.IPv6Network("2001:db8:c1a::/64")  # RFC 3849
MACHINES_MAX: Final = 250  # addresses of the /24

_NAMES: Final = ("laptop", "nas", "desktop", "server", "tablet", "media", "garage", "attic")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a machine is plugged in. `number` counts from 1."""

    number: int
    name: str

    @property
    def port(self) -> str:
        """The bridge's side of its cable."""
        return f"port{self.number}"

    @property
    def ipv4(self) -> str:
        """Its address, with the prefix length."""
        return f"{IPV4_NETWORK[self.number]}/{IPV4_NETWORK.prefixlen}"

    @property
    def ipv6(self) -> str:
        """Its address, with the prefix length."""
        return f"{IPV6_NETWORK[self.number]}/{IPV6_NETWORK.prefixlen}"


def names(count: int) -> tuple[str, ...]:
    """Names for a demonstration's machines."""
    return tuple(_NAMES[at] if at < len(_NAMES) else f"node{at + 1}" for at in range(count))


def bridge_batch(bridge: str = BRIDGE) -> str:
    """Input of `ip -batch -` in the switch's namespace: an empty LAN.

    Snooping would hold multicast back until somebody asks for it, and there is no querier here.
    """
    return f"link add {bridge} type bridge stp_state 0 mcast_snooping 0\nlink set {bridge} up\n"


def island(number: int) -> str:
    """The name of another LAN, which nothing joins to the first. `number` counts from 1."""
    return f"island{number}"


def cable_batch(place: Place, pid: int) -> str:
    """Input of `ip -batch -` in the switch's namespace: a cable to the machine whose first process is `pid`."""
    return (
        f"link add {place.port} type veth peer name {INTERFACE} netns {pid}\n"
        f"link set {place.port} master {BRIDGE} up\n"
    )


def machine_batch(place: Place) -> str:
    """Input of `ip -batch -` on the machine: its addresses."""
    return (
        "link set lo up\n"
        f"address add {place.ipv4} dev {INTERFACE}\n"
        f"address add {place.ipv6} dev {INTERFACE} nodad\n"
        f"link set {INTERFACE} up\n"
    )


def link_batch(place: Place, *, up: bool) -> str:
    """Input of `ip -batch -` in the switch's namespace: pull a cable, or plug it in again."""
    return f"link set {place.port} {'up' if up else 'down'}\n"


def isolate_batch(places: Iterable[Place], *, isolated: bool) -> str:
    """Input of `ip -batch -` in the switch's namespace: ports that reach all others, but not one another."""
    word = "on" if isolated else "off"
    return "".join(f"link set {place.port} type bridge_slave isolated {word}\n" for place in places)


def move_batch(places: Iterable[Place], bridge: str) -> str:
    """Input of `ip -batch -` in the switch's namespace: plug cables into another bridge.

    The machines notice nothing of it: their links stay up, they only fall silent for one another.
    """
    return "".join(f"link set {place.port} master {bridge}\n" for place in places)


def holder_script(place: Place) -> str:
    """The first process of a machine: prepares it, says so, and lives until its stdin ends.

    Everything else of the machine dies with it. It reaps what is orphaned (SIGCHLD is ignored). Its /run is its
    own; on NixOS the link to the system's programs lies there and is kept. Duplicate address detection would
    hold IPv6 back for a second, on a network that has no strangers.
    """
    return (
        "system=$(readlink /run/current-system || true)\n"
        "mount -t tmpfs -o mode=0755 tmpfs /run || exit 1\n"
        '[ -z "$system" ] || ln -s "$system" /run/current-system\n'
        f"hostname {place.name}\n"
        "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad\n"
        "echo ready\n"
        "exec env --ignore-signal=CHLD cat\n"
    )


def unshare_words(*, mapped_root: bool) -> list[str]:
    """The flags of unshare(1) for a world of its own, as root or as anybody (who is root inside only)."""
    words = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return [*words, "--user", "--map-root-user"] if mapped_root else words


def enter_words(pid: int) -> list[str]:
    """The flags of nsenter(1) for a machine, given its first process."""
    spaces = {"net": "net", "mount": "mnt", "pid": "pid", "uts": "uts"}
    return ["nsenter", *(f"--{flag}=/proc/{pid}/ns/{file}" for flag, file in spaces.items()), "--"]


def network_words(pid: int) -> list[str]:
    """The same for its network alone. What runs so takes nsenter's place, and signals reach it."""
    return ["nsenter", f"--net=/proc/{pid}/ns/net"]


def pairs(count: int) -> Sequence[tuple[int, int]]:
    """Every ordered pair of machines, by index."""
    return [(one, other) for one in range(count) for other in range(count) if one != other]
