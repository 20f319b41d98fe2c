"""Reads what `nft -j list ruleset` prints into rules. Pure; what it does not know stays unknown.

The format is that of libnftables-json(5).
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from clanmeshd.checkup.firewall.counting import counts, noted, rated
from clanmeshd.checkup.firewall.expressions import (
    compared,
    element_of,
    field_of,
    fields_of,
    listed,
    masked,
    routed,
)
from clanmeshd.checkup.firewall.rules import (
    EVERYTHING,
    NOT_UNDERSTOOD,
    Chain,
    Element,
    Kind,
    Listing,
    Match,
    Rule,
    Ruleset,
    Table,
    Verdict,
)

_KINDS: Final = {"accept": Kind.ACCEPT, "drop": Kind.DROP, "reject": Kind.DROP, "return": Kind.RETURN}
_TRANSLATED: Final = {"masquerade": Kind.ACCEPT, "snat": Kind.ACCEPT}
_SILENT: Final = frozenset(
    ("counter", "log", "comment", "notrack", "mangle", "last", "dup", "secmark", "continue")
)
_KNOWN: Final = _SILENT | {"match", "limit", "ct count", "set", "xt", "quota", "meter"}
_XT_SILENT: Final = frozenset(("LOG", "NFLOG", "TCPMSS", "CHECKSUM", "TRACE", "TOS", "DSCP"))
_XT_MARKS: Final = frozenset(("MARK", "CONNMARK", "CT", "NOTRACK"))

_Place: TypeAlias = tuple[str, str, str]  # family, table, name


def read(printed: bytes | str, *, terse: bool = False) -> Ruleset:
    """The rules of all tables. `terse`: printed without the elements of named sets. Raises ValueError."""
    try:
        objects = json.loads(printed)["nftables"]
    except (json.JSONDecodeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"not what nft prints: {error}") from None
    found: dict[str, list[dict[str, Any]]] = {}
    for each in objects if isinstance(objects, list) else ():
        for kind, thing in each.items() if isinstance(each, dict) else ():
            if isinstance(thing, dict):
                found.setdefault(kind, []).append(thing)
    reader = _Reader(found, terse=terse)
    return Ruleset(tuple(reader.tables()), frozenset(reader.disturbed))


class _Reader:
    def __init__(self, found: Mapping[str, list[dict[str, Any]]], *, terse: bool) -> None:
        self._found = found
        sets = [*found.get("set", ()), *found.get("map", ())]
        self._sets: dict[_Place, Any] = {
            _place(each, "name"): None if terse or counts(each) else each.get("elem", []) for each in sets
        }
        self._limits = {_place(each, "name"): each for each in found.get("limit", ())}
        self._rules: dict[_Place, list[dict[str, Any]]] = {}
        for rule in found.get("rule", ()):
            self._rules.setdefault(_place(rule, "chain"), []).append(rule)
        self.disturbed: set[str] = set()

    def tables(self) -> Iterator[Table]:
        for table in self._found.get("table", ()):
            if "dormant" in listed(table.get("flags")):
                continue
            family, name = str(table.get("family")), str(table.get("name"))
            chains = [
                self._chain(each)
                for each in self._found.get("chain", ())
                if _place(each, "name")[:2] == (family, name)
            ]
            yield Table(family, name, {chain.name: chain for chain in chains})

    def _chain(self, raw: dict[str, Any]) -> Chain:
        rules = self._rules.get(_place(raw, "name"), ())
        priority, hook = raw.get("prio"), raw.get("hook")
        return Chain(
            name=str(raw.get("name")),
            rules=[rule for each in rules for rule in self._rule(each)],
            hook=hook if isinstance(hook, str) else None,
            priority=priority if isinstance(priority, int) else 0,
            policy=Kind.DROP if raw.get("policy") == "drop" else Kind.ACCEPT,
            devices=tuple(map(str, listed(raw.get("dev")))),
        )

    def _rule(self, raw: dict[str, Any]) -> Iterator[Rule]:
        """A rule; one that looks up what to do makes one with branches, of which one fits."""
        matches: list[Match] = []
        is_known = True  # what is not may do anything
        for statement in listed(raw.get("expr")):
            kind, body = next(iter(statement.items())) if isinstance(statement, dict) and statement else ("", None)
            if kind == "vmap":
                yield Rule(tuple(matches), None)
                yield from self._branches(raw, body)
                return
            tests, verdict = self._statement(raw, kind, body)
            if verdict is not None:
                yield Rule(tuple(matches), verdict)
                return
            matches += tests
            is_known = is_known and kind in _KNOWN
        yield Rule(tuple(matches), None if is_known else Verdict(Kind.LOST))

    def _statement(self, raw: dict[str, Any], kind: str, body: Any) -> tuple[list[Match], Verdict | None]:
        if (verdict := _verdict({kind: body})) is not None:
            return [], verdict
        match kind:
            case "match" if isinstance(body, dict):
                return [self._match(raw, body)], None
            case "limit" | "ct count":
                named = self._limits.get((*_place(raw, "chain")[:2], body)) if isinstance(body, str) else None
                return [rated(kind, named or body)], None
            case "set" | "meter" if isinstance(body, dict):
                return noted(body, _set_name(raw, body.get("set", f"@{body.get('name')}"))), None
            case "xt":
                return self._extension(body)
            case _ if kind in _SILENT:
                self._disturb(kind, body)
                return [], None
        return [NOT_UNDERSTOOD], None

    def _extension(self, body: Any) -> tuple[list[Match], Verdict | None]:
        """What iptables has added to nft, of which no more than the name is printed."""
        kind, name = (body.get("type"), str(body.get("name"))) if isinstance(body, dict) else (None, "")
        if kind == "match":
            return ([] if name == "comment" else [NOT_UNDERSTOOD]), None
        if kind == "target" and name in _XT_MARKS:
            self.disturbed |= {"meta mark", "ct mark"} if "MARK" in name else {"ct state"}
            return [], None
        if kind == "target" and name in _XT_SILENT:
            return [], None
        return [], Verdict(Kind.DROP if kind == "target" and name == "REJECT" else Kind.LOST)

    def _disturb(self, kind: str, body: Any) -> None:
        if kind == "notrack":
            self.disturbed.add("ct state")
        if kind == "mangle" and isinstance(body, dict):
            self.disturbed.add(field_of(body.get("key")) or "")

    def _branches(self, raw: dict[str, Any], body: Any) -> Iterator[Rule]:
        key = body.get("key") if isinstance(body, dict) else None
        pairs = self._elements_of(raw, body.get("data")) if isinstance(body, dict) else None
        fields = fields_of(key)
        if fields is None or not isinstance(pairs, list):
            yield Rule((NOT_UNDERSTOOD,), Verdict(Kind.LOST), is_branch=True)
            return
        named: list[Element] = []
        for pair in sorted(pairs, key=lambda pair: pair[:1] == [EVERYTHING] if isinstance(pair, list) else False):
            element, verdict = _pair(pair, fields)
            if element is None or verdict is None:
                yield Rule((NOT_UNDERSTOOD,), Verdict(Kind.LOST), is_branch=True)
            elif element == EVERYTHING:
                yield Rule((Match(fields, tuple(named), negated=True),), verdict, is_branch=True)
            else:
                named.append(element)
                yield Rule((Match(fields, (element,)),), verdict, is_branch=True)

    def _match(self, raw: dict[str, Any], body: dict[str, Any]) -> Match:
        left, right, op = body.get("left"), body.get("right"), body.get("op")
        if isinstance(left, dict) and "&" in left:
            return masked(left["&"], right, op)
        if isinstance(left, dict) and "fib" in left:
            return routed(left["fib"], right, op)
        fields = fields_of(left)
        if fields is None or (op in ("==", "!=") and isinstance(right, list)):
            return NOT_UNDERSTOOD
        if op in ("<", "<=", ">", ">="):
            return compared(fields, right, op)
        if op not in ("==", "!=", "in", "!"):
            return NOT_UNDERSTOOD
        raws = self._elements_of(raw, right)
        found = [element_of(each, fields) for each in raws] if raws is not None else [None]
        if fields == ("ct status",) and not set(found) <= {"dnat", "snat"}:
            return NOT_UNDERSTOOD
        elements = tuple(each for each in found if each is not None)
        return Match(
            fields,
            elements if len(elements) == len(found) else None,
            negated=op in ("!=", "!"),
            listing=Listing(_set_name(raw, right), " . ".join(fields)),
        )

    def _elements_of(self, raw: dict[str, Any], right: Any) -> list[Any] | None:
        """The elements of a set, named or not; None where they are not known."""
        if isinstance(right, str) and right.startswith("@"):
            held = self._sets.get((*_place(raw, "chain")[:2], right[1:]))
            return held if isinstance(held, list) else None
        if isinstance(right, dict) and "set" in right:
            return listed(right["set"])
        return right if isinstance(right, list) else [right]


def _place(raw: Mapping[str, Any], key: str) -> _Place:
    return str(raw.get("family")), str(raw.get("table")), str(raw.get(key))


def _set_name(raw: Mapping[str, Any], name: Any) -> str:
    """A named set, told from those of other tables; "" for what is none."""
    is_named = isinstance(name, str) and name.startswith("@")
    return " ".join((*_place(raw, "chain")[:2], name)) if is_named else ""


def _verdict(raw: Any) -> Verdict | None:
    kind, body = next(iter(raw.items())) if isinstance(raw, dict) and len(raw) == 1 else ("", None)
    if kind in _KINDS or kind in _TRANSLATED:
        return Verdict({**_KINDS, **_TRANSLATED}[kind])
    if kind in ("jump", "goto") and isinstance(body, dict):
        return Verdict(Kind(kind), str(body.get("target")))
    if kind in ("queue", "dnat", "redirect", "tproxy", "synproxy", "fwd"):
        return Verdict(Kind.LOST)
    return None


def _pair(raw: Any, fields: tuple[str, ...]) -> tuple[Element | None, Verdict | None]:
    if not isinstance(raw, list) or len(raw) != 2:
        return None, None
    return element_of(raw[0], fields), _verdict(raw[1])
