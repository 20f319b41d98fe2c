"""Reads the rules of this machine's packet filters, and changes none: bounded in time and in what is printed."""

import ipaddress
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import trio

from clanmeshd.checkup.firewall import iptables, nftables
from clanmeshd.checkup.firewall.packets import Wire
from clanmeshd.checkup.firewall.rules import Ruleset, Table
from clanmeshd.net.addresses import interfaces, is_bridge, multicast_interfaces
from clanmeshd.process import run

PRINT_S: Final = 2.0  # it takes 10 ms
RULES_BYTES_MAX: Final = 1 << 20  # of one program: thousands of rules, where the elements of sets are left out
WIRES_MAX: Final = 4  # interfaces: who has more is a router
SETTINGS_BYTES_MAX: Final = 65_536
_ANSWER_S: Final = 1.0  # of systemctl

_NFT: Final = ("nft", "-j", "list", "ruleset")
_NFT_TERSE: Final = ("nft", "-j", "-t", "list", "ruleset")  # without the elements of named sets
_SAVERS: Final = {"ip": "iptables-save", "ip6": "ip6tables-save"}
_LEGACY_SAVERS: Final = {"ip": "iptables-legacy-save", "ip6": "ip6tables-legacy-save"}
_PACKAGES: Final = {  # that have them, by the same names everywhere
    "nft": "nftables",
    **dict.fromkeys((*_SAVERS.values(), *_LEGACY_SAVERS.values()), "iptables"),
}
_LEGACY_TABLES: Final = {"ip": Path("/proc/net/ip_tables_names"), "ip6": Path("/proc/net/ip6_tables_names")}
_NEWER: Final = "(nf_tables)"  # the iptables that makes rules which nft shows, too, signs with it
_XT: Final = '"xt"'  # an expression of nft's that stands for a test of iptables
_UFW: Final = Path("/etc/ufw/ufw.conf")
_SERVICES: Final = ("firewalld", "nftables")  # ufw's is called active even where ufw is switched off


class Printed(NamedTuple):
    """What a program printed; or why not."""

    text: str | None
    why: str = ""
    is_terse: bool = False


class Seen(NamedTuple):
    """The rules, and why there may be others; then `tools` are the firewalls that are switched on.

    `hint`: why no more than the names of some rules are known.
    """

    ruleset: Ruleset
    unseen: str | None = None
    tools: tuple[str, ...] = ()
    hint: str | None = None


async def see() -> Seen:
    """Read everything that filters on this machine."""
    printed: dict[str, Printed] = {}

    async def ask(program: str) -> None:
        printed[program] = await (_rules_of_nft() if program == _NFT[0] else _print(program))

    async with trio.open_nursery() as nursery:
        for program in (_NFT[0], *_SAVERS.values(), *_LEGACY_SAVERS.values()):
            nursery.start_soon(ask, program)
    older = [family for family, path in _LEGACY_TABLES.items() if _head(path)]
    ruleset, unseen = await trio.to_thread.run_sync(put_together, printed, older)  # a megabyte takes 0.2 s
    tools = await _tools() if unseen is not None else ()
    return Seen(ruleset, unseen, tools, unnamed(printed, ruleset))


def put_together(printed: Mapping[str, Printed], legacy: Collection[str]) -> tuple[Ruleset, str | None]:
    """One rule set of what the programs printed, and what is missing. `legacy`: families with older rules.

    Of a table that two programs show, what iptables-save prints is taken: it knows what its rules mean. Pure.
    """
    missing: list[str] = []
    sets: list[Ruleset] = []
    shown: set[tuple[str, str]] = set()  # in nft's list as well

    def add(program: str, family: str) -> None:
        text = printed[program].text
        if text is None:
            return
        try:
            found = iptables.read(text, family)
        except ValueError:
            missing.append(f"what {program} prints is not understood")
            return
        sets.append(found)
        if _NEWER in text:
            shown.update((table.family, table.name) for table in found.tables)

    for family, program in _SAVERS.items():
        add(program, family)
        older = _LEGACY_SAVERS[family]
        if family in legacy and _NEWER in (printed[program].text or _NEWER):
            add(older, family)
            missing += (
                [f"rules of the older iptables are hidden: {printed[older].why}"] if printed[older].why else []
            )
    tables, why = _natively(printed[_NFT[0]], shown, sets)
    return tables, why or next(iter(missing), None)


def unnamed(printed: Mapping[str, Printed], ruleset: Ruleset) -> str | None:
    """Why only the names of iptables' tests are known, which is all that nft shows of them. Pure."""
    shown = {table.family for table in ruleset.tables if table.tool == "iptables"}
    if _XT not in (printed[_NFT[0]].text or ""):
        return None
    whys = [printed[program].why for family, program in _SAVERS.items() if family not in shown]
    return next((f"nft shows only names of rules that iptables made, and {why}" for why in whys if why), None)


def _natively(nft: Printed, shown: Collection[tuple[str, str]], sets: list[Ruleset]) -> tuple[Ruleset, str | None]:
    """Add nft's own tables to those of iptables."""
    why: str | None = nft.why or None
    own: tuple[Table, ...] = ()
    disturbed = frozenset[str]().union(*(each.disturbed for each in sets))
    if nft.text is not None:
        try:
            found = nftables.read(nft.text, terse=nft.is_terse)
        except ValueError:
            why = "what nft prints is not understood"
        else:
            own = tuple(table for table in found.tables if (table.family, table.name) not in shown)
            disturbed |= found.disturbed
    return Ruleset((*own, *(table for each in sets for table in each.tables)), disturbed), why


async def _rules_of_nft() -> Printed:
    """Where long sets make it too much, all but those."""
    whole = await _print(*_NFT)
    if whole.why != _too_much(_NFT[0]):
        return whole
    return (await _print(*_NFT_TERSE))._replace(is_terse=True)


async def _print(*words: str) -> Printed:
    try:
        done = await run(
            words, timeout_s=PRINT_S, output_bytes_max=RULES_BYTES_MAX, end_at_overflow=True, cwd=Path("/")
        )
    except OSError:
        return Printed(None, f"{words[0]}, of the package {_PACKAGES[words[0]]}, is not there to ask")
    if done.overflowed:
        return Printed(None, _too_much(words[0]))
    if not done.ok:
        return Printed(None, f"{words[0]}: {'no answer' if done.timed_out else done.complaint}")
    return Printed(done.stdout.decode(errors="replace"))


def _too_much(program: str) -> str:
    return f"{program} prints more than {RULES_BYTES_MAX >> 10} KiB"


async def _tools() -> tuple[str, ...]:
    """The firewalls that are switched on, by their services and settings."""
    tools = ["ufw"] if "ENABLED=yes" in _head(_UFW).split() else []
    try:
        told = await run(("systemctl", "is-active", *_SERVICES), timeout_s=_ANSWER_S)
    except OSError:
        return tuple(tools)
    states = told.stdout.decode(errors="replace").split()
    return (*tools, *(name for name, state in zip(_SERVICES, states, strict=False) if state == "active"))


def _head(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as opened:
            return opened.read(SETTINGS_BYTES_MAX)
    except OSError:
        return ""


def wires(interface: str, prefix: bytes) -> tuple[Wire, ...]:
    """Where packets of others come in: interfaces with an address, but for ours and bridges of containers."""
    found = [each for each in multicast_interfaces() if each.name != interface]
    found = found or [each for each in interfaces() if each.name != interface]  # a modem, say
    outer = [each for each in found if not is_bridge(each.name)] or found
    made: list[Wire] = []
    for each in outer[:WIRES_MAX]:
        usable = [address for address in each.addresses if _is_usable(address) and not address.startswith(prefix)]
        for size in (4, 16):
            own = next((address for address in usable if len(address) == size), None)
            made += [Wire(each.name, own, bytes((*own[:-1], own[-1] ^ 1)))] if own is not None else []
    return tuple(made)


def _is_usable(address: bytes) -> bool:
    read = ipaddress.ip_address(address)
    return not read.is_link_local and not read.is_loopback
