"""Tries the packets that the clan needs on the rules of this machine, and says who drops which of them. Pure."""

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from clanmeshd.checkup.firewall.fate import Answer, Fate, fate, filters
from clanmeshd.checkup.firewall.owners import Block, Ports, owner_called, owner_of, spelt
from clanmeshd.checkup.firewall.packets import (
    MDNS_PORT,
    MEMBER,
    NEIGHBOUR,
    NEW,
    REPLY,
    STRANGER,
    Wire,
    incoming,
    outgoing,
)
from clanmeshd.checkup.firewall.rules import Chain, Kind, Ruleset, Table, Verdict
from clanmeshd.checkup.terms import IN, OUT, Barrier, Firewall
from clanmeshd.core.wanted import PREFIX_BITS

ACTIVE_MAX: Final = 4  # chains that are named
_MDNS: Final = Block("udp", MDNS_PORT, MDNS_PORT)
_PLAIN: Final = Block("tcp", 1, 1)  # tcpmux: no rule names it, so it stands for all that have no rule of their own
_ECHO: Final = Block("ipv6-icmp", 0, 0)


@dataclass(frozen=True, slots=True)
class Scene:
    """What of this machine matters: where packets come in and go out, and the ports that they are for."""

    wires: tuple[Wire, ...]
    tunnel: Wire | None
    ports: Ports
    has_mdns: bool = False


class Trial(NamedTuple):
    """One kind of packet: by which wire, from whom or to whom, for what, and what became of it."""

    wire: Wire
    whom: str
    block: Block
    is_outgoing: bool
    fate: Fate
    is_shut: bool = False

    @property
    def way(self) -> str:
        """IN or OUT."""
        return OUT if self.is_outgoing else IN


def judge(
    ruleset: Ruleset, scene: Scene, unseen: str | None = None, tools: Sequence[str] = (), hint: str | None = None
) -> Firewall | None:
    """Try everything.

    `unseen`: why there may be more rules than these; `tools`: whose they would be. `hint`: why these are not all
    understood, where that is known. None where there is nothing to try, and no rule that could do anything.
    """
    trials = list(_trials(ruleset, scene))
    chains = [*_chains(ruleset, is_outgoing=False), *_chains(ruleset, is_outgoing=True)]
    doubtful = [trial for trial in trials if _is_doubtful(trial)]
    unsure = tuple(dict.fromkeys(trial.way for trial in doubtful))
    if unseen is None and not scene.wires:
        if not chains:
            return None
        unseen = "this device has no network that packets could come by"
    commands: tuple[str, ...] = ()
    if doubtful:
        found = doubtful[0].fate
        assert found.table is not None
        assert found.base is not None
        chains.insert(0, spelt(found.table, found.base))
        ports = scene.ports._replace(is_outgoing=doubtful[0].is_outgoing)
        commands = owner_of(found.table).way(ports, found, _families(scene.wires)).commands
    elif unseen is not None and not chains and tools:
        chains, nothing = list(tools), Fate(Answer.NOT_UNDERSTOOD)
        commands = owner_called(tools[0]).way(scene.ports, nothing, _families(scene.wires)).commands
    return Firewall(
        barriers=tuple(_barriers(trials)),
        active=tuple(dict.fromkeys(chains))[:ACTIVE_MAX],
        needed=scene.ports.words(),
        ways=(IN, OUT) if any(_chains(ruleset, is_outgoing=True)) else (IN,),
        doubt=unseen or ((hint or "not all of its rules are understood") if doubtful else None),
        unsure=(IN, OUT) if unseen is not None else unsure,
        commands=commands,
    )


def _is_doubtful(trial: Trial) -> bool:
    return trial.whom != MEMBER and trial.fate.answer is Answer.NOT_UNDERSTOOD and trial.fate.table is not None


def _chains(ruleset: Ruleset, *, is_outgoing: bool) -> list[str]:
    """The chains that filter, in words. What leaves comes by many that only translate addresses."""
    found = filters(ruleset, is_outgoing=is_outgoing)
    return [spelt(table, base) for table, base in found if not is_outgoing or _may_drop(table, base)]


def _may_drop(table: Table, base: Chain) -> bool:
    rules = (rule for chain in table.chains.values() for rule in chain.rules)
    return base.policy is Kind.DROP or any(rule.verdict == Verdict(Kind.DROP) for rule in rules)


def _families(wires: Iterable[Wire]) -> list[str]:
    versions = {wire.version for wire in wires}
    return [family for family, version in (("ip", 4), ("ip6", 6)) if version in versions]


def _trials(ruleset: Ruleset, scene: Scene) -> Iterator[Trial]:
    for is_outgoing in (False, True):
        for wire in scene.wires:
            for whom in (NEIGHBOUR, STRANGER):
                for block in scene.ports.blocks:
                    yield _try(ruleset, wire, whom, block, is_outgoing=is_outgoing)
            if scene.has_mdns:
                yield _try(ruleset, wire, NEIGHBOUR, _MDNS, is_outgoing=is_outgoing)
        if scene.tunnel is not None:
            yield _try(ruleset, scene.tunnel, MEMBER, _PLAIN, is_outgoing=is_outgoing)
            yield _try(ruleset, scene.tunnel, MEMBER, _ECHO, is_outgoing=is_outgoing)


def _try(ruleset: Ruleset, wire: Wire, whom: str, block: Block, *, is_outgoing: bool) -> Trial:
    made = outgoing if is_outgoing else incoming
    found = fate(ruleset, made(wire, block.protocol, block.first, whom, NEW))
    if found.answer is not Answer.DROPPED:
        return Trial(wire, whom, block, is_outgoing, found)
    reply = fate(ruleset, made(wire, block.protocol, block.first, whom, REPLY))
    return Trial(wire, whom, block, is_outgoing, found, reply.answer is Answer.DROPPED)


class _Kind(NamedTuple):
    """What one barrier is about: a chain, and whether it keeps out or in, and how much."""

    owner: str
    chain: str
    is_inside: bool
    is_shut: bool
    is_outgoing: bool


def _barriers(trials: Sequence[Trial]) -> Iterator[Barrier]:
    """One for each chain that drops, and for what it drops of everybody and of some alone."""
    by_port: dict[tuple[_Kind, Block], list[Trial]] = {}
    for trial in trials:
        found = trial.fate
        if found.answer is Answer.DROPPED and found.table is not None:
            owner = owner_of(found.table).name
            kind = _Kind(owner, found.chain, trial.whom == MEMBER, trial.is_shut, trial.is_outgoing)
            by_port.setdefault((kind, trial.block), []).append(trial)
    by_scope: dict[tuple[_Kind, str], list[Trial]] = {}
    for (kind, block), dropped in by_port.items():
        tried = [trial for trial in trials if (trial.block, trial.is_outgoing) == (block, kind.is_outgoing)]
        by_scope.setdefault((kind, _scope(dropped, tried)), []).extend(dropped)
    for (kind, scope), dropped in by_scope.items():
        yield _barrier(dropped, scope, kind)


def _barrier(dropped: Sequence[Trial], scope: str, kind: _Kind) -> Barrier:
    found, wire = dropped[0].fate, dropped[0].wire
    assert found.table is not None
    assert found.base is not None
    owner = owner_of(found.table)
    if kind.is_inside:
        network = f"{ipaddress.IPv6Address(wire.own)}/{PREFIX_BITS}"
        ports = Ports(interface=wire.name, network=str(ipaddress.IPv6Network(network, strict=False)))
    else:
        ports = Ports(tuple(dict.fromkeys(trial.block for trial in dropped)))
    ports = ports._replace(is_outgoing=kind.is_outgoing)
    way = owner.way(ports, found, _families(trial.wire for trial in dropped))
    return Barrier(
        tool=owner.name,
        chain=spelt(found.table, found.base, found.chain),
        dropped=_inside(dropped) if kind.is_inside else ports.words(),
        commands=way.commands,
        lasts=way.lasts,
        scope=scope,
        is_inside=kind.is_inside,
        is_shut=kind.is_shut,
        is_outgoing=kind.is_outgoing,
    )


def _inside(dropped: Iterable[Trial]) -> tuple[str, ...]:
    names = {"tcp": "new connections", "ipv6-icmp": "pings"}
    return tuple(dict.fromkeys(names[trial.block.protocol] for trial in dropped))


def _scope(dropped: Sequence[Trial], tried: Sequence[Trial]) -> str:
    """Of whom something is dropped, where not of everybody that it was tried of."""
    said: list[str] = []
    if {trial.whom for trial in dropped} == {STRANGER}:
        said.append(f"{'to' if dropped[0].is_outgoing else 'from'} other networks than its own")
    versions, all_versions = ({trial.wire.version for trial in each} for each in (dropped, tried))
    if len(versions) < len(all_versions):
        said.append(f"by IPv{min(versions)}")
    names, all_names = ({trial.wire.name for trial in each} for each in (dropped, tried))
    if len(names) < len(all_names):
        said.append(f"at {' and '.join(sorted(names))}")
    return " ".join(said)
