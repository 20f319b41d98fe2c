"""The packets that a clan needs, as rules see them: what comes to this machine, and what it sends. Pure."""

import ipaddress
from typing import Final, NamedTuple

from clanmeshd.checkup.firewall.rules import Packet, Stranger, Value

MDNS_PORT: Final = 5353
_MDNS_GROUPS: Final = {4: "224.0.0.251", 6: "ff02::fb"}  # RFC 6762
_PASSING_PORT: Final = 40_000  # of those that connections begin at: net.ipv4.ip_local_port_range

# The states of a packet's connection, and who is at its other end.
NEW: Final = "new"
REPLY: Final = "established"
NEIGHBOUR, STRANGER, MEMBER = "neighbour", "stranger", "member"


class Wire(NamedTuple):
    """An interface with an address of its own, packed, and a neighbour's. For the tunnels that is a member's."""

    name: str
    own: bytes
    neighbour: bytes

    @property
    def version(self) -> int:
        """Of the internet protocol."""
        return 4 if len(self.own) == 4 else 6


def incoming(wire: Wire, protocol: str, port: int, source: str, state: str) -> Packet:
    """A packet that comes to a port here. `protocol`: "udp", "tcp" or "ipv6-icmp" (an echo request)."""
    family, own, other = _ends(wire, protocol, port, source, is_outgoing=False)
    is_group = _is_group(protocol, port)
    facts: dict[str, Value] = {
        **_common(wire, protocol, state),
        "meta iif": wire.name,
        "meta iifname": wire.name,
        "meta oif": "",
        "meta oifname": "",
        "meta pkttype": "multicast" if is_group else "host",
        "fib daddr type": "multicast" if is_group else "local",
        "fib saddr oif": "exists",
        f"{family} daddr": own,
        f"{family} saddr": other,
    }
    # Other members have the same settings, mostly.
    return _packet(family, protocol, facts, sport=port, dport=port, state=state)


def outgoing(wire: Wire, protocol: str, port: int, target: str, state: str) -> Packet:
    """A packet that this machine sends: from a UDP port of its own, or to a TCP port of others."""
    family, own, other = _ends(wire, protocol, port, target, is_outgoing=True)
    facts: dict[str, Value] = {
        **_common(wire, protocol, state),
        "meta iif": "",
        "meta iifname": "",
        "meta oif": wire.name,
        "meta oifname": wire.name,
        "fib daddr type": "multicast" if _is_group(protocol, port) else "unicast",
        f"{family} daddr": other,
        f"{family} saddr": own,
    }
    sport, dport = (port, port) if protocol == "udp" else (_PASSING_PORT, port)
    if state == REPLY:
        sport, dport = dport, sport
    return _packet(family, protocol, facts, sport=sport, dport=dport, state=state, is_outgoing=True)


def _ends(wire: Wire, protocol: str, port: int, whom: str, *, is_outgoing: bool) -> tuple[str, Value, Value]:
    """The family, the address here (of a group that everybody listens to, where it is one), and the other one."""
    own: Value = _number(wire.own)
    other: Value = Stranger(wire.version) if whom == STRANGER else _number(wire.neighbour)
    if _is_group(protocol, port):
        group = _number(ipaddress.ip_address(_MDNS_GROUPS[wire.version]).packed)
        own, other = (own, group) if is_outgoing else (group, other)
    return ("ip" if wire.version == 4 else "ip6"), own, other


def _is_group(protocol: str, port: int) -> bool:
    return port == MDNS_PORT and protocol == "udp"


def _common(wire: Wire, protocol: str, state: str) -> dict[str, Value]:
    return {
        "meta l4proto": protocol,
        "meta nfproto": f"ipv{wire.version}",
        "meta protocol": "ip" if wire.version == 4 else "ip6",
        "meta mark": 0,
        "ct state": state,
        "ct mark": 0,
        "ct status": "none",
        "ip protocol": protocol,
        "ip6 nexthdr": protocol,
        **({"ct direction": "original"} if state == NEW else {}),
    }


def _packet(
    family: str,
    protocol: str,
    facts: dict[str, Value],
    *,
    sport: int,
    dport: int,
    state: str,
    is_outgoing: bool = False,
) -> Packet:
    if protocol == "ipv6-icmp":
        facts["icmpv6 type"] = "echo-request"
        return Packet(frozenset((family, "icmpv6")), facts, is_outgoing)
    for layer in (protocol, "th"):
        facts[f"{layer} sport"], facts[f"{layer} dport"] = sport, dport
    facts["tcp flags"] = "syn" if state == NEW else "ack"
    return Packet(frozenset((family, protocol, "th")), facts, is_outgoing)


def _number(address: bytes) -> int:
    return int.from_bytes(address, "big")
