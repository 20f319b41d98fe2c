"""Reads what iptables-save and ip6tables-save print into rules. Pure; what it does not know stays unknown.

nft shows such rules, too, but of most tests no more than their names: firewalls that are made of iptables (ufw,
NixOS, Docker) are understood from here alone.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Final

from clanmeshd.checkup.firewall.counting import MODULES as COUNTING
from clanmeshd.checkup.firewall.counting import Option, extension
from clanmeshd.checkup.firewall.expressions import CONNECTING, PROTOCOLS, network_of, word_of
from clanmeshd.checkup.firewall.rules import (
    NOT_UNDERSTOOD,
    Chain,
    Element,
    Kind,
    Match,
    Rule,
    Ruleset,
    Span,
    Table,
    Verdict,
)

# iptables(8): the tables that packets for this machine, and from it, come through, with the priorities of
# linux/netfilter_ipv4.h
_BASES: Final = {
    ("raw", "PREROUTING"): ("prerouting", -300),
    ("mangle", "PREROUTING"): ("prerouting", -150),
    ("nat", "PREROUTING"): ("prerouting", -100),
    ("mangle", "INPUT"): ("input", -150),
    ("filter", "INPUT"): ("input", 0),
    ("security", "INPUT"): ("input", 50),
    ("nat", "INPUT"): ("input", 100),
    ("raw", "OUTPUT"): ("output", -300),
    ("mangle", "OUTPUT"): ("output", -150),
    ("nat", "OUTPUT"): ("output", -100),
    ("filter", "OUTPUT"): ("output", 0),
    ("security", "OUTPUT"): ("output", 50),
    ("mangle", "POSTROUTING"): ("postrouting", -150),
    ("nat", "POSTROUTING"): ("postrouting", 100),
}
_KINDS: Final = {
    "ACCEPT": Kind.ACCEPT,
    "DROP": Kind.DROP,
    "REJECT": Kind.DROP,
    "RETURN": Kind.RETURN,
    "MASQUERADE": Kind.ACCEPT,
    "SNAT": Kind.ACCEPT,
    **dict.fromkeys(("NFQUEUE", "QUEUE", "DNAT", "REDIRECT", "TPROXY", "NETMAP", "SYNPROXY"), Kind.LOST),
}
_SILENT: Final = frozenset(
    ("LOG", "NFLOG", "TCPMSS", "CHECKSUM", "TRACE", "TOS", "DSCP", "SET", "MARK", "CONNMARK")
)
_TRACKING: Final = frozenset(("CT", "NOTRACK"))
_MODULES: Final = frozenset(
    (
        *("udp", "tcp", "icmp", "icmp6", "multiport", "conntrack", "state", "addrtype", "limit", "comment"),
        *("mark", "pkttype", "rpfilter", *COUNTING),
    )
)
_TESTING_NOTHING: Final = frozenset(("--comment", "--limit", "--limit-burst", "--validmark", "--loose"))
# Options whose value is one word or several, any of which fits; {} stands for "ip" or "ip6".
_FIELDS: Final = {
    "-p": "meta l4proto",
    "-i": "meta iifname",
    "-o": "meta oifname",
    "-s": "{} saddr",
    "-d": "{} daddr",
    **dict.fromkeys(("--dport", "--dports"), "th dport"),
    **dict.fromkeys(("--sport", "--sports"), "th sport"),
    **dict.fromkeys(("--ctstate", "--state"), "ct state"),
    "--ctdir": "ct direction",
    "--ctstatus": "ct status",
    "--dst-type": "fib daddr type",
    "--pkt-type": "meta pkttype",
    "--icmp-type": "icmp type",
    "--icmpv6-type": "icmpv6 type",
}
_OPTION: Final = re.compile(r"--?[A-Za-z][A-Za-z0-9-]*")
_ICMP: Final = {"8": "echo-request", "128": "echo-request"}


def read(printed: str, family: str) -> Ruleset:
    """The rules of one family, "ip" or "ip6". Raises ValueError."""
    tables: list[Table] = []
    disturbed: set[str] = set()
    name, policies, rules = "", dict[str, str](), dict[str, list[Rule]]()
    for line in printed.splitlines():
        if line.startswith("*"):
            name, policies, rules = line[1:].strip(), {}, {}
        elif line.startswith(":"):
            chain, policy = line[1:].split()[:2]
            policies[chain] = policy
        elif line.startswith("-A "):
            _, chain, *words = shlex.split(line)
            rules.setdefault(chain, []).append(_rule(words, family))
            disturbed |= _disturbed(words)
        elif line.strip() == "COMMIT":
            chains = [_chain(name, chain, policy, rules.get(chain, [])) for chain, policy in policies.items()]
            tables.append(Table(family, name, {chain.name: chain for chain in chains}, "iptables"))
    return Ruleset(tuple(tables), frozenset(disturbed))


def _chain(table: str, name: str, policy: str, rules: Sequence[Rule]) -> Chain:
    hook, priority = _BASES.get((table, name), (None, 0))
    return Chain(name, rules, hook, priority, Kind.DROP if policy == "DROP" else Kind.ACCEPT)


def _disturbed(words: Sequence[str]) -> set[str]:
    if {"MARK", "CONNMARK"} & set(words):
        return {"meta mark", "ct mark"}
    return {"ct state"} if {"NOTRACK", "--notrack"} & set(words) else set()


def _rule(words: Sequence[str], family: str) -> Rule:
    matches: list[Match] = []
    for module, options in _sections(words):
        if options and options[0].name in ("-j", "-g"):
            return Rule(tuple(matches), _verdict(options[0]))
        counting = [each for each in options if module in COUNTING and COUNTING[module].fullmatch(each.name)]
        matches += [extension(module, counting)] if module in COUNTING else []
        for option in options:
            if option not in counting and (test := _test(option, family)) is not None:
                matches.append(test._replace(negated=test.negated != option.negated))
    return Rule(tuple(matches), None)


def _sections(words: Sequence[str]) -> Iterator[tuple[str, list[Option]]]:
    """The modules that a rule loads, each with its options; what belongs to none has the name ""."""
    module, options = "", list[Option]()
    for option in _options(words):
        if option.name in ("-m", "-j", "-g"):
            yield module, options
            module, options = (option.value if option.name == "-m" else ""), []
        options.append(option)
    yield module, options


def _options(words: Sequence[str]) -> Iterator[Option]:
    starts = [at for at, word in enumerate(words) if _OPTION.fullmatch(word)]
    for start, end in zip(starts, [*starts[1:], len(words)], strict=True):
        first, second, *_ = [*(word for word in words[start + 1 : end] if word != "!"), "", ""]
        yield Option(words[start], first, second, start > 0 and words[start - 1] == "!")


def _verdict(option: Option) -> Verdict | None:
    target = option.value
    if target in _SILENT or target in _TRACKING:
        return None
    if option.name == "-j" and target in _KINDS:
        return Verdict(_KINDS[target])
    return Verdict(Kind.GOTO if option.name == "-g" else Kind.JUMP, target)


def _test(option: Option, family: str) -> Match | None:
    """What an option of a rule tests; None for one that tests nothing."""
    name, value, second, _ = option
    if name in _TESTING_NOTHING or (name, value) == ("-p", "all"):
        return None
    if name in _FIELDS:
        field = _FIELDS[name].format(family)
        elements = [_element(field, word) for word in value.split(",")]
        known = tuple(each for each in elements if each is not None)
        return Match((field,), known) if len(known) == len(elements) else NOT_UNDERSTOOD
    match name:
        case "-m":
            return _fib("exists") if value == "rpfilter" else None if value in _MODULES else NOT_UNDERSTOOD
        case "--invert":  # of rpfilter
            return _fib("missing")
        case "--mark":
            return Match(("meta mark",), (0,) if int(value.partition("/")[0], 0) == 0 else ())
        case "--tcp-flags":
            mask, wanted = set(value.lower().split(",")), set(second.lower().split(",")) - {"none"}
            return Match(("tcp flags",), tuple(flag for flag in CONNECTING if {flag} & mask == wanted))
    return NOT_UNDERSTOOD


def _element(field: str, word: str) -> Element | None:
    """One value as rules have it; None where it is not known what it means."""
    match field.rpartition(" ")[2]:
        case "saddr" | "daddr":
            return network_of(word, "")
        case "dport" | "sport":
            return _ports(word)
        case "l4proto":
            return PROTOCOLS.get(int(word), word) if word.isdecimal() else word_of(word, field)
        case "iifname" | "oifname":
            return f"{word[:-1]}*" if word.endswith("+") else word
        case "status":
            return word.lower() if word in ("DNAT", "SNAT") else None
        case "type" if field.startswith("icmp"):
            return _ICMP.get(word, word)
        case _:
            return word_of(word.lower(), field)


def _fib(route: str) -> Match:
    return Match(("fib saddr oif",), (route,))


def _ports(value: str) -> Element:
    low, colon, high = value.partition(":")
    return Span(int(low or 0), int(high or 65_535)) if colon else int(low)
