"""Tries the packets that the clan needs on the rules of this machine, and says who drops which of them. Pure."""

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from clanmeshd.checkup.firewall.fate import Answer, Fate, fate, filters
from clanmeshd.checkup.firewall.owners import Block, Ports, owner_called, owner_of, spelt
from clanmeshd.checkup.firewall.rules import Packet, Ruleset, Stranger, Value
from clanmeshd.checkup.terms import Barrier, Firewall

ACTIVE_MAX: Final = 4  # chains that are named
MDNS_PORT: Final = 5353
_MDNS_GROUPS: Final = {4: "224.0.0.251", 6: "ff02::fb"}  # RFC 6762
_MDNS: Final = Block("udp", MDNS_PORT, MDNS_PORT)
_PLAIN: Final = Block("tcp", 1, 1)  # tcpmux: no rule names it, so it stands for all that have no rule of their own
_ECHO: Final = Block("ipv6-icmp", 0, 0)

_NEW: Final = "new"
_REPLY: Final = "established"
_NEIGHBOUR, _STRANGER, _MEMBER = "neighbour", "stranger", "member"


class Wire(NamedTuple):
    """An interface with an address of its own, packed, and a neighbour's. For the tunnels that is a member's."""

    name: str
    own: bytes
    neighbour: bytes

    @property
    def version(self) -> int:
        """Of the internet protocol."""
        return 4 if len(self.own) == 4 else 6


@dataclass(frozen=True, slots=True)
class Scene:
    """What of this machine matters: where packets come in, and the ports that they are for."""

    wires: tuple[Wire, ...]
    tunnel: Wire | None
    ports: Ports
    has_mdns: bool = False


class Trial(NamedTuple):
    """One kind of packet: by which wire, from whom, for what, and what became of it."""

    wire: Wire
    source: str
    block: Block
    fate: Fate
    is_shut: bool = False


def packet(wire: Wire, protocol: str, port: int, source: str, state: str) -> Packet:
    """A packet for this machine, as rules see it. `protocol`: "udp", "tcp" or "ipv6-icmp" (an echo request)."""
    family = "ip" if wire.version == 4 else "ip6"
    is_group = port == MDNS_PORT and protocol == "udp"
    group = ipaddress.ip_address(_MDNS_GROUPS[wire.version]).packed
    facts: dict[str, Value] = {
        "meta iif": wire.name,
        "meta iifname": wire.name,
        "meta oif": "",
        "meta oifname": "",
        "meta l4proto": protocol,
        "meta nfproto": f"ipv{wire.version}",
        "meta protocol": family,
        "meta mark": 0,
        "meta pkttype": "multicast" if is_group else "host",
        "ct state": state,
        "ct mark": 0,
        "ct status": "none",
        "fib daddr type": "multicast" if is_group else "local",
        "fib saddr oif": "exists",
        f"{family} daddr": _number(group if is_group else wire.own),
        f"{family} saddr": Stranger(wire.version) if source == _STRANGER else _number(wire.neighbour),
        "ip protocol": protocol,
        "ip6 nexthdr": protocol,
    }
    if state == _NEW:
        facts["ct direction"] = "original"
    if protocol == "ipv6-icmp":
        facts["icmpv6 type"] = "echo-request"
        return Packet(frozenset((family, "icmpv6")), facts)
    for layer in (protocol, "th"):
        facts[f"{layer} dport"] = facts[f"{layer} sport"] = port  # other members have the same settings, mostly
    facts["tcp flags"] = "syn" if state == _NEW else "ack"
    return Packet(frozenset((family, protocol, "th")), facts)


def _number(address: bytes) -> int:
    return int.from_bytes(address, "big")


def judge(ruleset: Ruleset, scene: Scene, unseen: str | None = None, tools: Sequence[str] = ()) -> Firewall | None:
    """Try everything. `unseen`: why there may be more rules than these; `tools`: whose they would be.

    None where nothing is known, and no firewall is switched on.
    """
    trials = list(_trials(ruleset, scene))
    barriers = tuple(_barriers(trials))
    unseen = unseen or (None if scene.wires else "this device has no network that packets could come by")
    active = list(dict.fromkeys(spelt(table, base) for table, base in filters(ruleset)))
    outer = [trial.fate for trial in trials if trial.source != _MEMBER]
    doubtful = next((found for found in outer if found.answer is Answer.NOT_UNDERSTOOD), None)
    ways: tuple[str, ...] = ()
    if doubtful is not None and doubtful.table is not None and doubtful.base is not None:
        active = list(dict.fromkeys([spelt(doubtful.table, doubtful.base), *active]))
        ways = owner_of(doubtful.table).way(scene.ports, doubtful, _families(scene.wires)).commands
        unseen = unseen or "not all of its rules are understood"
    elif unseen is not None and not active:
        if not tools:
            return None
        active = list(tools)
        ways = (
            owner_called(tools[0]).way(scene.ports, Fate(Answer.NOT_UNDERSTOOD), _families(scene.wires)).commands
        )
    return Firewall(barriers, tuple(active[:ACTIVE_MAX]), scene.ports.words(), unseen, ways)


def _families(wires: Iterable[Wire]) -> list[str]:
    versions = {wire.version for wire in wires}
    return [family for family, version in (("ip", 4), ("ip6", 6)) if version in versions]


def _trials(ruleset: Ruleset, scene: Scene) -> Iterator[Trial]:
    for wire in scene.wires:
        for source in (_NEIGHBOUR, _STRANGER):
            for block in scene.ports.blocks:
                yield _try(ruleset, wire, source, block)
        if scene.has_mdns:
            yield _try(ruleset, wire, _NEIGHBOUR, _MDNS)
    if scene.tunnel is not None:
        yield _try(ruleset, scene.tunnel, _MEMBER, _PLAIN)
        yield _try(ruleset, scene.tunnel, _MEMBER, _ECHO)


def _try(ruleset: Ruleset, wire: Wire, source: str, block: Block) -> Trial:
    found = fate(ruleset, packet(wire, block.protocol, block.first, source, _NEW))
    if found.answer is not Answer.DROPPED:
        return Trial(wire, source, block, found)
    reply = fate(ruleset, packet(wire, block.protocol, block.first, source, _REPLY))
    return Trial(wire, source, block, found, reply.answer is Answer.DROPPED)


def _barriers(trials: Sequence[Trial]) -> Iterator[Barrier]:
    """One for each chain that drops, and for what it drops of everybody and of some alone."""
    by_port: dict[tuple[str, str, bool, bool, Block], list[Trial]] = {}
    for trial in trials:
        found = trial.fate
        if found.answer is Answer.DROPPED and found.table is not None:
            whose = (owner_of(found.table).name, found.chain, trial.source == _MEMBER, trial.is_shut)
            by_port.setdefault((*whose, trial.block), []).append(trial)
    by_scope: dict[tuple[str, str, bool, bool, str], list[Trial]] = {}
    for (owner, chain, is_inside, is_shut, block), dropped in by_port.items():
        scope = _scope(dropped, [trial for trial in trials if trial.block == block])
        by_scope.setdefault((owner, chain, is_inside, is_shut, scope), []).extend(dropped)
    for (_, _, is_inside, is_shut, scope), dropped in by_scope.items():
        yield _barrier(dropped, scope, is_inside=is_inside, is_shut=is_shut)


def _barrier(dropped: Sequence[Trial], scope: str, *, is_inside: bool, is_shut: bool) -> Barrier:
    found = dropped[0].fate
    assert found.table is not None
    assert found.base is not None
    owner = owner_of(found.table)
    blocks = tuple(dict.fromkeys(trial.block for trial in dropped))
    ports = Ports(interface=dropped[0].wire.name) if is_inside else Ports(blocks)
    way = owner.way(ports, found, _families(trial.wire for trial in dropped))
    return Barrier(
        tool=owner.name,
        chain=spelt(found.table, found.base, found.chain),
        dropped=_inside(dropped) if is_inside else ports.words(),
        commands=way.commands,
        lasts=way.lasts,
        scope=scope,
        is_inside=is_inside,
        is_shut=is_shut,
    )


def _inside(dropped: Iterable[Trial]) -> tuple[str, ...]:
    names = {"tcp": "new connections", "ipv6-icmp": "pings"}
    return tuple(dict.fromkeys(names[trial.block.protocol] for trial in dropped))


def _scope(dropped: Sequence[Trial], tried: Sequence[Trial]) -> str:
    """Of whom something is dropped, where not of everybody that it was tried of."""
    said: list[str] = []
    if {trial.source for trial in dropped} == {_STRANGER}:
        said.append("from other networks than its own")
    versions, all_versions = ({trial.wire.version for trial in each} for each in (dropped, tried))
    if len(versions) < len(all_versions):
        said.append(f"by IPv{min(versions)}")
    names, all_names = ({trial.wire.name for trial in each} for each in (dropped, tried))
    if len(names) < len(all_names):
        said.append(f"at {' and '.join(sorted(names))}")
    return " ".join(said)
