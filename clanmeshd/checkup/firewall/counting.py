"""Tests that count: rates, connections, and lists of who sent something. Pure.

A packet is followed as the first of its kind: nobody counted anything before, so it is below every rate, and on no
list but those that the rules themselves put it on. What is said below of each test is what Linux does in the file
that is named with it.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from clanmeshd.checkup.firewall.expressions import fields_of, layered, listed
from clanmeshd.checkup.firewall.rules import ALWAYS, NEVER, NO_LISTING, NOT_UNDERSTOOD, Effect, Listing, Match

# The modules of iptables-extensions(8), each with the options that belong to it.
MODULES: Final = {
    "recent": re.compile(r"--(set|rcheck|update|remove|seconds|reap|hitcount|rttl|name|mask|rsource|rdest)"),
    "hashlimit": re.compile(r"--hashlimit.*"),
    "connlimit": re.compile(r"--connlimit.*"),
}
_IN_BYTES: Final = re.compile(r"\d+b/s")  # so small a rate may be less than one packet; others are in kb or mb
_BURST: Final = 5  # packets, where nft prints none
_SILENT: Final = frozenset(("counter", "last"))


class Option(NamedTuple):
    """One option of a rule of iptables: its first value, its second one, and whether a `!` stands before it."""

    name: str
    value: str
    second: str
    negated: bool


# --- nftables --------------------------------------------------------------------------------------------


def rated(kind: str, body: Any, listing: Listing = NO_LISTING) -> Match:
    """What `limit` and `ct count` test. `listing`: the set in which each element has its own.

    A bucket is full at first, and holds `burst` packets (net/netfilter/nft_limit.c). The connection that begins is
    counted, too (nft_connlimit.c): it is the only one.
    """
    is_over = isinstance(body, dict) and body.get("inv") is True
    match kind, body:
        case "limit", {"rate": int(), "rate_unit": unit}:
            return NOT_UNDERSTOOD if unit == "bytes" else NEVER if is_over else ALWAYS
        case "limit", {"rate": int()} if isinstance(burst := body.get("burst", _BURST), int):
            return NEVER._replace(negated=not is_over, listing=listing, hits=max(1, burst) + 1)
        case "ct count", {"val": int(most)}:
            return ALWAYS if (most < 1) == is_over else NEVER
    return NOT_UNDERSTOOD


def noted(body: dict[str, Any], set_name: str) -> list[Match]:
    """What `add`, `update` and `delete` of a set test, and a meter, which is a set of its own.

    Who is not in it is put there, and what stands with it counts for that element alone
    (net/netfilter/nft_dynset.c): a packet that comes by twice counts twice. One without the fields that the set is
    made of does not fit.
    """
    key = body.get("elem", body.get("key"))
    needed, fields = layered(key), fields_of(key)
    if not needed:
        return [NOT_UNDERSTOOD]
    listing = Listing(set_name, " . ".join(fields or ()))
    effect = Effect.TAKE if body.get("op") == "delete" else Effect.PUT
    tests = [Match(needed, ALWAYS.elements, listing=listing, effect=effect)]
    for statement in listed(body.get("stmt")):
        kind, inner = next(iter(statement.items())) if isinstance(statement, dict) and statement else ("", None)
        tests += [] if kind in _SILENT else [rated(kind, inner, listing)]
    return tests


def counts(raw: dict[str, Any]) -> bool:
    """Whether each element of a set counts, so that who is in it may fit or not."""
    kinds = [next(iter(each), "") for each in listed(raw.get("stmt")) if isinstance(each, dict)]
    return not _SILENT.issuperset(kinds)


# --- iptables --------------------------------------------------------------------------------------------


def extension(module: str, options: Sequence[Option]) -> Match:
    """What one of MODULES tests, by the options that belong to it."""
    match module:
        case "recent":
            return _recent(options)
        case "hashlimit":
            return _hashlimit(options)
    return _connlimit(options)


def _recent(options: Sequence[Option]) -> Match:
    """A list has the times of the last packets of each sender, or receiver, and none of who sends the first one.

    `--set` notes the packet, and always fits. `--rcheck`, `--update` and `--remove` fit when there were
    `--hitcount` packets of that sender, one if it is not given; then `--update` notes this one, too, and
    `--remove` forgets them all. The mask is the list's own, that of its first rule, so that sender and receiver
    may be the same there (net/netfilter/xt_recent.c).
    """
    values = {option.name: option.value for option in options}
    listing = Listing(f"recent {values.get('--name')}", "receiver" if "--rdest" in values else "sender")
    hits = max(1, int(values.get("--hitcount", 1)))
    for name, _, _, negated in options:
        match name:
            case "--set":
                return ALWAYS._replace(negated=negated, listing=listing, effect=Effect.PUT)
            case "--rcheck" | "--update" | "--remove":
                effect = {"--rcheck": Effect.NONE, "--update": Effect.AGAIN, "--remove": Effect.TAKE}[name]
                return Match(NEVER.fields, (), negated=negated, listing=listing, hits=hits, effect=effect)
    return NOT_UNDERSTOOD


def _hashlimit(options: Sequence[Option]) -> Match:
    """A bucket for each sender, or what the mode says, which is full at first (net/netfilter/xt_hashlimit.c)."""
    names = {option.name for option in options}
    for option in options:
        if option.name in ("--hashlimit", "--hashlimit-upto", "--hashlimit-above"):
            if "--hashlimit-rate-match" in names or _IN_BYTES.fullmatch(option.value):
                return NOT_UNDERSTOOD
            return NEVER if (option.name == "--hashlimit-above") != option.negated else ALWAYS
    return NOT_UNDERSTOOD


def _connlimit(options: Sequence[Option]) -> Match:
    """The connection that begins is counted, too (net/netfilter/xt_connlimit.c): it is the only one."""
    for option in options:
        if option.name in ("--connlimit-upto", "--connlimit-above"):
            is_over = (option.name == "--connlimit-above") != option.negated
            return ALWAYS if (int(option.value) < 1) == is_over else NEVER
    return NOT_UNDERSTOOD
