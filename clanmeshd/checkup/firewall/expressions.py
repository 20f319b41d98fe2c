"""Expressions of nft's JSON: which fields a rule looks at, and which values it wants of them. Pure."""

import ipaddress
from collections.abc import Iterable
from typing import Any, Final

from clanmeshd.checkup.firewall.rules import EVERYTHING, NOT_UNDERSTOOD, Element, Match, Span

PROTOCOLS: Final = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 50: "esp", 51: "ah", 58: "ipv6-icmp"}
_ALIASES: Final = {"meta l4proto": {"icmpv6": "ipv6-icmp"}, "meta pkttype": {"unicast": "host"}}
_META: Final = frozenset(("iif", "iifname", "oif", "oifname", "l4proto", "nfproto", "protocol", "mark", "pkttype"))
_FLAG_FIELDS: Final = frozenset(("ct state", "ct status", "tcp flags"))  # of which several can be set at once
NESTED_MAX: Final = 8  # expressions in one another that are looked into: `ip6 saddr & mask` in a set takes three
CONNECTING: Final = ("syn", "ack")  # the first segment of a connection has the one flag, later ones the other


def listed(raw: Any) -> list[Any]:
    """What may stand alone or in a list, as a list."""
    return raw if isinstance(raw, list) else [] if raw is None else [raw]


def field_of(raw: Any) -> str | None:
    """The field that an expression reads, by nft's name of it; None for one that is not known."""
    match raw:
        case {"meta": {"key": str(key)}} if key in _META:
            return f"meta {key}"
        case {"ct": {"key": str(key)}}:
            return f"ct {key}"
        case {"payload": {"protocol": str(protocol), "field": str(field)}}:
            return f"{protocol} {field}"
        case {"fib": {"result": "type", "flags": ["daddr", *_]}}:
            return "fib daddr type"
    return None


def fields_of(raw: Any) -> tuple[str, ...] | None:
    """The fields of an expression that may join several."""
    parts = raw["concat"] if isinstance(raw, dict) and isinstance(raw.get("concat"), list) else [raw]
    found = [field_of(part) for part in parts]
    return tuple(each for each in found if each is not None) if None not in found else None


def layered(raw: Any, depth: int = 0) -> tuple[str, ...]:
    """The fields that an expression reads, however it does: a packet that lacks one of them has no value of it."""
    field = field_of(raw)
    if field is not None or depth > NESTED_MAX:
        return (field,) if field is not None else ()
    parts = raw.values() if isinstance(raw, dict) else raw if isinstance(raw, list) else ()
    return tuple(found for part in parts for found in layered(part, depth + 1))


def element_of(raw: Any, fields: tuple[str, ...]) -> Element | None:
    """A value, a range or a network that fields are held against; None for what is not known."""
    match raw:
        case {"elem": {"val": value}}:
            return element_of(value, fields)
        case "*":
            return EVERYTHING
        case {"concat": list(parts)} if len(parts) == len(fields):
            made = [element_of(part, (field,)) for part, field in zip(parts, fields, strict=True)]
            return tuple(each for each in made if each is not None) if None not in made else None
    return _single(raw, fields[0]) if len(fields) == 1 else None


def _single(raw: Any, field: str) -> Element | None:
    match raw:
        case bool():
            return None
        case int():
            return PROTOCOLS.get(raw, raw) if field in ("meta l4proto", "ip protocol", "ip6 nexthdr") else raw
        case str() if field.endswith(("saddr", "daddr")):
            network = network_of(raw, "")
            return network if network is not None else raw
        case str():
            return word_of(raw, field)
        case {"prefix": {"addr": str(address), "len": int(bits)}}:
            return network_of(address, f"/{bits}")
        case {"range": [low, high]}:
            first, last = _single(low, field), _single(high, field)
            first = first.low if isinstance(first, Span) else first
            last = last.high if isinstance(last, Span) else last
            return Span(first, last) if isinstance(first, int) and isinstance(last, int) else None
    return None


def word_of(raw: str, field: str) -> str:
    """A word as packets have it, where there are two for one thing."""
    return _ALIASES.get(field, {}).get(raw, raw)


def network_of(address: str, bits: str) -> Span | None:
    """The addresses of a network, as numbers; None for what is none."""
    try:
        network = ipaddress.ip_network(f"{address}{bits}", strict=False)
    except ValueError:
        return None
    return Span(int(network.network_address), int(network.broadcast_address))


def compared(fields: tuple[str, ...], right: Any, op: str) -> Match:
    """Whether a number is below or above another one."""
    if not isinstance(right, int) or len(fields) != 1:
        return NOT_UNDERSTOOD
    low, high = {"<": (0, right - 1), "<=": (0, right), ">": (right + 1, 1 << 128), ">=": (right, 1 << 128)}[op]
    return Match(fields, (Span(low, high),))


def masked(sides: Any, right: Any, op: Any) -> Match:
    """`field & mask == value`, of what is understood so: marks, which are 0 until a rule sets one; flags."""
    field = field_of(sides[0]) if isinstance(sides, list) and len(sides) == 2 else None
    if op not in ("==", "!="):
        return NOT_UNDERSTOOD
    if field in ("meta mark", "ct mark") and isinstance(right, int):
        return Match((field,), (0,) if right == 0 else (), op == "!=")
    mask = set(_flags(sides[1])) if field in _FLAG_FIELDS else set()
    if field == "tcp flags":
        wanted = set(_flags(right))
        return Match((field,), tuple(flag for flag in CONNECTING if {flag} & mask == wanted), op == "!=")
    if field == "ct state" and right == 0:
        return Match((field,), tuple(mask), op == "==")
    return NOT_UNDERSTOOD


def _flags(raw: Any) -> Iterable[str]:
    joined = raw["|"] if isinstance(raw, dict) and "|" in raw else raw
    return [each for each in listed(joined) if isinstance(each, str)]


def routed(raw: Any, right: Any, op: Any) -> Match:
    """Whether a reply would leave by the interface that a packet came by; and what kind an address is of."""
    found = (raw.get("result"), tuple(listed(raw.get("flags")))) if isinstance(raw, dict) else (None, ())
    if (
        found[0] in ("oif", "check")
        and "saddr" in found[1]
        and right in (False, True, 0, "0")
        and op in ("==", "!=")
    ):
        return Match(("fib saddr oif",), ("exists" if right is True else "missing",), op == "!=")
    if found[0] == "type" and "daddr" in found[1] and op in ("==", "!="):
        kinds = listed(right["set"]) if isinstance(right, dict) and "set" in right else [right]
        return Match(("fib daddr type",), tuple(map(str, kinds)), op == "!=")
    return NOT_UNDERSTOOD
