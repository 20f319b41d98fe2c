"""Whose a chain is, by the names that each tool gives its chains, and how that tool lets packets in. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from clanmeshd.checkup.firewall.fate import Fate
from clanmeshd.checkup.firewall.rules import Chain, Kind, Table

# Of firewalld, as nftables and iptables have them: with the name of a zone or policy, and maybe one of the parts.
_ZONE_CHAINS: Final = ("filter_IN_", "IN_")
_POLICY_CHAINS: Final = ("filter_OUT_policy_", "OUT_policy_", "OUT_")
_PARTS: Final = ("_pre", "_log", "_deny", "_allow", "_post", "_direct")
_POLICIES: Final = ("policy_", "POLICIES_")
_DEFAULT_ZONE: Final = "public"


class Block(NamedTuple):
    """Ports in a row, of which the first one stands for all."""

    protocol: str  # "udp" or "tcp"
    first: int
    last: int

    def spelt(self, until: str) -> str:
        """As a tool takes it that writes `until` between the first and the last one."""
        return str(self.first) if self.first == self.last else f"{self.first}{until}{self.last}"


class Ports(NamedTuple):
    """What shall come in from outside; or, where there is an interface, all that comes by it, from a network.

    Or what shall go out: by UDP from these ports here to whatever port, by TCP to these ports of others.
    """

    blocks: tuple[Block, ...] = ()
    interface: str | None = None
    network: str = ""
    is_outgoing: bool = False

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
    if table.tool == "iptables" or (table.family in ("ip", "ip6") and names & {"INPUT", "OUTPUT"}):
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
    way = "out" if ports.is_outgoing else "in"
    if ports.interface is not None:
        return Way((f"ufw allow {way} on {ports.interface}",))
    commands: list[str] = []
    for protocol, listed in ports.lists(":"):
        if ports.is_outgoing and protocol == "udp":
            commands.append(f"ufw allow out proto udp from any port {','.join(listed)}")
        else:
            commands.append(f"ufw allow {'out ' if ports.is_outgoing else ''}{','.join(listed)}/{protocol}")
    return Way(tuple(commands))


def _firewalld(ports: Ports, fate: Fate, families: Sequence[str]) -> Way:
    if ports.is_outgoing:
        return _firewalld_out(ports, fate, families)
    if ports.interface is not None:
        change = f"--zone=trusted --add-interface={ports.interface}"
    else:
        added = [f"--add-port={port}/{protocol}" for protocol, listed in ports.lists("-") for port in listed]
        change = " ".join([f"--zone={_named(fate.through, _ZONE_CHAINS) or _DEFAULT_ZONE}", *added])
    return Way((f"firewall-cmd --permanent {change}", "firewall-cmd --reload"))


def _firewalld_out(ports: Ports, fate: Fate, families: Sequence[str]) -> Way:
    """By the policy that keeps it in; where none does, by a rule before those that somebody gave directly."""
    policy = _named(fate.through, _POLICY_CHAINS)
    if policy is None:
        rule = "firewall-cmd --permanent --direct --add-rule"
        versions = [{"ip": "ipv4", "ip6": "ipv6"}[family] for family in families]
        changes = [
            f"{rule} {each} filter OUTPUT -1 {test} -j ACCEPT" for each in versions for test in _tests(ports)
        ]
    elif ports.interface is not None:
        rule = f"rule family=ipv6 destination address={ports.network} accept"
        changes = [f"firewall-cmd --permanent --policy={policy} --add-rich-rule='{rule}'"]
    else:
        # Each kind of thing that is added is a command of its own.
        kinds = {"udp": "source-port", "tcp": "port"}
        changes = [
            " ".join(
                [
                    f"firewall-cmd --permanent --policy={policy}",
                    *(f"--add-{kinds[name]}={port}/{name}" for port in listed),
                ]
            )
            for name, listed in ports.lists("-")
        ]
    return Way((*changes, "firewall-cmd --reload"))


def _named(through: Sequence[str], begins: Sequence[str]) -> str | None:
    """The zone or policy whose chains packets came by."""
    for chain in through:
        for begin in begins:
            name = chain.removeprefix(begin)
            if name != chain and not name.endswith(_PARTS) and not name.startswith(_POLICIES):
                return name
    return None


def _nixos(ports: Ports, fate: Fate, families: Sequence[str]) -> Way:
    lasts = "in the machine's configuration"
    if ports.is_outgoing:
        way = (_iptables if fate.table is not None and fate.table.tool == "iptables" else _nftables)(
            ports, fate, families
        )
        return Way(way.commands, f"and the same as `networking.firewall.extraCommands` {lasts}")
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
        return Way((f"{begin} {'oifname' if ports.is_outgoing else 'iifname'} {ports.interface} accept",), lasts)
    tests = [f"{protocol} {_end(ports, protocol)} {_set(listed)}" for protocol, listed in ports.lists("-")]
    return Way(tuple(f"{begin} {test} accept" for test in tests), lasts)


def _end(ports: Ports, protocol: str) -> str:
    return "sport" if ports.is_outgoing and protocol == "udp" else "dport"


def _set(listed: Sequence[str]) -> str:
    return listed[0] if len(listed) == 1 else f"'{{ {', '.join(listed)} }}'"


def _iptables(ports: Ports, fate: Fate, families: Sequence[str]) -> Way:
    table = fate.table.name if fate.table is not None else "filter"
    usual = "OUTPUT" if ports.is_outgoing else "INPUT"
    place = f"{f'-t {table} ' if table != 'filter' else ''}-I {fate.base.name if fate.base is not None else usual}"
    programs = [{"ip": "iptables", "ip6": "ip6tables"}[family] for family in families]
    commands = [f"{program} {place} {test} -j ACCEPT" for program in programs for test in _tests(ports)]
    return Way(tuple(commands), "and `netfilter-persistent save`, or whatever restores the rules here")


def _tests(ports: Ports) -> list[str]:
    """As iptables takes them."""
    if ports.interface is not None:
        return [f"{'-o' if ports.is_outgoing else '-i'} {ports.interface}"]
    return [
        f"-p {protocol} -m multiport --{_end(ports, protocol)}s {','.join(listed)}"
        for protocol, listed in ports.lists(":")
    ]
