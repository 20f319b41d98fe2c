"""Whose a chain is, by the names that each tool gives its chains, and how that tool lets packets in. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from clanmeshd.checkup.firewall.fate import Fate
from clanmeshd.checkup.firewall.rules import Chain, Kind, Table

_ZONE_CHAIN: Final = "filter_IN_"  # of firewalld, with the zone's name and one of these at its end
_ZONE_PARTS: Final = ("_pre", "_log", "_deny", "_allow", "_post")
_DEFAULT_ZONE: Final = "public"
_POLICY_CHAINS: Final = ("policy_", "POLICIES_")


class Block(NamedTuple):
    """Ports in a row, of which the first one stands for all."""

    protocol: str  # "udp" or "tcp"
    first: int
    last: int

    def spelt(self, until: str) -> str:
        """As a tool takes it that writes `until` between the first and the last one."""
        return str(self.first) if self.first == self.last else f"{self.first}{until}{self.last}"


class Ports(NamedTuple):
    """What shall come in from outside; or, where there is an interface, all that comes by it."""

    blocks: tuple[Block, ...] = ()
    interface: str | None = None

    def words(self) -> tuple[str, ...]:
        """Each one as people write it."""
        return tuple(f"{protocol.upper()} {port}" for protocol, listed in self.lists("-") for port in listed)

    def lists(self, until: str) -> list[tuple[str, list[str]]]:
        """The protocols that there are ports of, with those."""
        found: dict[str, list[str]] = {}
        for protocol in ("udp", "tcp"):
            for block in self.blocks:
                if block.protocol == protocol:
                    found.setdefault(protocol, []).append(block.spelt(until))
        return list(found.items())


def single_ports(udp: Sequence[int], tcp: Sequence[int]) -> Ports:
    """Single ports."""
    return Ports(
        tuple(Block(name, each, each) for name, listed in (("udp", udp), ("tcp", tcp)) for each in listed)
    )


@dataclass(frozen=True, slots=True)
class Way:
    """The commands that let packets in, and what else keeps that so after the next start."""

    commands: tuple[str, ...]
    lasts: str = ""


class Owner(NamedTuple):
    """A tool by the name that people know, and its way for a packet that a chain dropped."""

    name: str
    way: Callable[[Ports, Fate, Sequence[str]], Way]


def owner_of(table: Table) -> Owner:
    """Whose a table is. Where nobody is recognised it is its own tool's: nft's, or iptables'."""
    names = table.chains.keys()
    if any(name.startswith(("ufw-", "ufw6-")) for name in names):
        return Owner("ufw", _ufw)
    if table.name == "firewalld" or "INPUT_direct" in names:
        return Owner("firewalld", _firewalld)
    if table.name == "nixos-fw" or any(name.startswith("nixos-fw") for name in names):
        return Owner("the firewall of NixOS", _nixos)
    if table.tool == "iptables" or (table.family in ("ip", "ip6") and "INPUT" in names):
        return Owner("iptables", _iptables)
    return Owner("nftables", _nftables)


def owner_called(name: str) -> Owner:
    """A tool whose rules nobody could read, by the name of its service."""
    return Owner(name, {"ufw": _ufw, "firewalld": _firewalld}.get(name, _nftables))


def spelt(table: Table, base: Chain, chain: str = "") -> str:
    """Where packets are filtered, in words: with the policy, or the chain that decides if it is another one."""
    kind = "iptables table" if table.tool == "iptables" else "nftables table"
    name = f"{kind} {table.name}" if table.tool == "iptables" else f"{kind} {table.family} {table.name}"
    if chain and chain != base.name:
        return f"{name}, chain {chain}"
    policy = "drop" if base.policy is Kind.DROP else "accept"
    return f"{name}, chain {base.name}, policy {policy}"


def _ufw(ports: Ports, _fate: Fate, _families: Sequence[str]) -> Way:
    if ports.interface is not None:
        return Way((f"ufw allow in on {ports.interface}",))
    return Way(tuple(f"ufw allow {','.join(listed)}/{protocol}" for protocol, listed in ports.lists(":")))


def _firewalld(ports: Ports, fate: Fate, _families: Sequence[str]) -> Way:
    if ports.interface is not None:
        change = f"--zone=trusted --add-interface={ports.interface}"
    else:
        added = [f"--add-port={port}/{protocol}" for protocol, listed in ports.lists("-") for port in listed]
        change = " ".join([f"--zone={_zone(fate.through)}", *added])
    return Way((f"firewall-cmd --permanent {change}", "firewall-cmd --reload"))


def _zone(through: Sequence[str]) -> str:
    """The zone that packets came by."""
    for chain in through:
        zone = chain.removeprefix(_ZONE_CHAIN)
        if zone != chain and not zone.endswith(_ZONE_PARTS) and not zone.startswith(_POLICY_CHAINS):
            return zone
    return _DEFAULT_ZONE


def _nixos(ports: Ports, _fate: Fate, _families: Sequence[str]) -> Way:
    lasts = "in the machine's configuration"
    if ports.interface is not None:
        return Way((f'networking.firewall.trustedInterfaces = [ "{ports.interface}" ];',), lasts)
    lasts += ", where `services.clanmesh.openFirewall = true;` says the same but for a relay's ports"
    commands: list[str] = []
    for protocol in ("udp", "tcp"):
        own = [block for block in ports.blocks if block.protocol == protocol]
        single = [str(block.first) for block in own if block.first == block.last]
        rows = [f"{{ from = {block.first}; to = {block.last}; }}" for block in own if block.first != block.last]
        begin = f"networking.firewall.allowed{protocol.upper()}Port"
        commands += [f"{begin}s = [ {' '.join(single)} ];"] if single else []
        commands += [f"{begin}Ranges = [ {' '.join(rows)} ];"] if rows else []
    return Way(tuple(commands), lasts)


def _nftables(ports: Ports, fate: Fate, _families: Sequence[str]) -> Way:
    if fate.table is None or fate.base is None:
        return Way((), "in /etc/nftables.conf")
    begin = f"nft insert rule {fate.table.family} {fate.table.name} {fate.base.name}"
    lasts = "and the same rule in /etc/nftables.conf, or where that table is made"
    if ports.interface is not None:
        return Way((f"{begin} iifname {ports.interface} accept",), lasts)
    return Way(
        tuple(f"{begin} {protocol} dport {_set(listed)} accept" for protocol, listed in ports.lists("-")), lasts
    )


def _set(listed: Sequence[str]) -> str:
    return listed[0] if len(listed) == 1 else f"'{{ {', '.join(listed)} }}'"


def _iptables(ports: Ports, fate: Fate, families: Sequence[str]) -> Way:
    table = fate.table.name if fate.table is not None else "filter"
    place = (
        f"{f'-t {table} ' if table != 'filter' else ''}-I {fate.base.name if fate.base is not None else 'INPUT'}"
    )
    if ports.interface is not None:
        tests = [f"-i {ports.interface}"]
    else:
        tests = [
            f"-p {protocol} -m multiport --dports {','.join(listed)}" for protocol, listed in ports.lists(":")
        ]
    programs = [{"ip": "iptables", "ip6": "ip6tables"}[family] for family in families]
    commands = [f"{program} {place} {test} -j ACCEPT" for program in programs for test in tests]
    return Way(tuple(commands), "and `netfilter-persistent save`, or whatever restores the rules here")
