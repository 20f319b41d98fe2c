"""What becomes of a packet: accepted, dropped by a chain, or not understood. Pure.

Where a rule may fit or not, both are followed. So what is called dropped is dropped whatever was not understood,
and what is called accepted as well. To rules that count it is the first packet of its kind (see `counting`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

from clanmeshd.checkup.firewall.rules import (
    NEVER_NOTED,
    Chain,
    Effect,
    Kind,
    Listing,
    Match,
    Packet,
    Rule,
    Ruleset,
    Span,
    Table,
    Verdict,
    answer,
)

STEPS_MAX: Final = 10_000  # rules and elements of sets that one packet is held against: 10 ms
DEPTH_MAX: Final = 64  # of jumps: nftables allows 16

# In the order that packets meet them; "input" and "output" are of this machine alone.
_INCOMING: Final = ("ingress", "prerouting", "input")
_OUTGOING: Final = ("output", "postrouting", "egress")


class Answer(StrEnum):
    """The three that there are."""

    ACCEPTED = "accepted"
    DROPPED = "dropped"
    NOT_UNDERSTOOD = "not understood"


@dataclass(frozen=True, slots=True)
class Fate:
    """An answer; for DROPPED and NOT_UNDERSTOOD, the chain that packets come to and the one in it that decides."""

    answer: Answer
    table: Table | None = None
    base: Chain | None = None
    chain: str = ""
    through: tuple[str, ...] = ()  # chains that it certainly comes by, in order


class _End(NamedTuple):
    """One way that a chain can end."""

    kind: Kind
    chain: str = ""
    by_policy: bool = False


_Ends: TypeAlias = frozenset[_End]
_Coming: TypeAlias = tuple[
    str, bool, frozenset[tuple[Listing, Span]]
]  # to a chain, certainly or not, on which lists
_FALLEN_OUT: Final = _End(Kind.RETURN)  # of the chain, at its end
_LOST: Final = _End(Kind.LOST)


def fate(ruleset: Ruleset, packet: Packet) -> Fate:
    """Follow a packet that is for this machine, or from it, through all chains."""
    doubt: Fate | None = None
    noted: dict[Listing, Span] = {}
    for table, base in _bases(ruleset, packet):
        walk = _Walk(ruleset, table, packet, noted)
        ends = walk.base(base)
        kinds = {end.kind for end in ends}
        through = tuple(walk.through)
        if kinds == {Kind.DROP}:
            last = min(ends, key=lambda end: (end.by_policy, end.chain))
            return Fate(Answer.DROPPED, table, base, last.chain, through)
        if kinds != {Kind.ACCEPT} and doubt is None:
            doubt = Fate(Answer.NOT_UNDERSTOOD, table, base, base.name, through)
        if Kind.LOST in kinds:
            break  # what comes after may see another packet
    return doubt or Fate(Answer.ACCEPTED)


def filters(ruleset: Ruleset, *, is_outgoing: bool = False) -> Iterator[tuple[Table, Chain]]:
    """The chains that may keep anything out, or in: those with rules, or with a policy of their own."""
    hooks = _OUTGOING if is_outgoing else _INCOMING
    for table in ruleset.tables:
        for chain in table.chains.values():
            if chain.hook in hooks and (chain.rules or chain.policy is Kind.DROP):
                yield table, chain


def is_outgoing(base: Chain) -> bool:
    """Whether what comes by a chain is what this machine sends."""
    return base.hook in _OUTGOING


def _bases(ruleset: Ruleset, packet: Packet) -> list[tuple[Table, Chain]]:
    families = {"inet", "netdev", *(packet.layers & {"ip", "ip6"})}
    hooks, field = (_OUTGOING, "meta oifname") if packet.is_outgoing else (_INCOMING, "meta iifname")
    found = [
        (table, chain)
        for table, chain in filters(ruleset, is_outgoing=packet.is_outgoing)
        if table.family in families and (not chain.devices or packet.facts.get(field) in chain.devices)
    ]
    return sorted(found, key=lambda each: (hooks.index(each[1].hook or ""), each[1].priority))


def _both(one: bool | None, other: bool | None) -> bool | None:
    return False if False in (one, other) else None if None in (one, other) else True


@dataclass(slots=True)
class _Walk:
    """One packet on its way through the chains of a table.

    What a chain does with it is worked out once, or anew where it was put on lists since. `noted`: how often, at
    least and at most, it was put on each.
    """

    ruleset: Ruleset
    table: Table
    packet: Packet
    noted: dict[Listing, Span]
    through: list[str] = field(default_factory=list)
    steps: int = 0
    known: dict[_Coming, tuple[_Ends, dict[Listing, Span]]] = field(default_factory=dict)

    def base(self, chain: Chain) -> _Ends:
        """The ways that a packet can end which comes to this chain by itself: accepted, dropped or lost."""
        ends = self._chain(chain, certain=True, depth=0)
        policy = _End(chain.policy, chain.name, by_policy=True)
        return frozenset(policy if end == _FALLEN_OUT else end for end in ends)

    def _chain(self, chain: Chain, *, certain: bool, depth: int) -> _Ends:
        if certain and chain.name not in self.through:
            self.through.append(chain.name)
        coming = (chain.name, certain, frozenset(self.noted.items()))
        if coming not in self.known:
            self.known[coming] = frozenset((_LOST,)), self.noted.copy()  # for who jumps back into it
            self.known[coming] = self._rules(chain, certain=certain, depth=depth), self.noted.copy()
        ends, noted = self.known[coming]
        self.noted.update(noted)
        return ends

    def _rules(self, chain: Chain, *, certain: bool, depth: int) -> _Ends:
        ends: set[_End] = set()
        head: bool | None = True
        for rule in chain.rules:
            fits = self._fits(rule, certain=certain and not ends)
            if rule.is_branch:
                fits = _both(head, fits)
            else:
                head = fits
            if self.steps > STEPS_MAX:
                return frozenset((*ends, _LOST))
            if fits is False or rule.verdict is None:
                continue
            is_certain = certain and not ends and fits is True
            done = self._verdict(chain, rule.verdict, certain=is_certain, depth=depth)
            ends |= {end for end in done if end != _FALLEN_OUT or rule.verdict.kind is not Kind.JUMP}
            goes_on = rule.verdict.kind is Kind.JUMP and _FALLEN_OUT in done
            if fits is True and not goes_on:
                return frozenset(ends)
        return frozenset((*ends, _FALLEN_OUT))

    def _fits(self, rule: Rule, *, certain: bool) -> bool | None:
        self.steps += 1
        is_sure = True
        for match in rule.matches:
            found = self._answer(match)
            if match.effect is not Effect.NONE:
                self._note(match, found, certain=certain and is_sure)
            if found is False:
                return False
            is_sure = is_sure and found is True
        return True if is_sure else None

    def _answer(self, match: Match) -> bool | None:
        self.steps += len(match.elements or ())
        noted = self._noted(match.listing) if match.listing.name else NEVER_NOTED
        return answer(match, self.packet, self.ruleset.disturbed, noted)

    def _noted(self, listing: Listing) -> Span:
        """How often it was put on a list: at least the same of it, at most anything."""
        high = sum(span.high for each, span in self.noted.items() if each.name == listing.name)
        return Span(self.noted.get(listing, NEVER_NOTED).low, high)

    def _note(self, match: Match, found: bool | None, *, certain: bool) -> None:
        listing = match.listing
        low, high = self.noted.get(listing, NEVER_NOTED)
        is_known = certain and listing.key != ""
        match match.effect:
            case Effect.PUT if found is not False or match.negated:
                self.noted[listing] = Span(low + is_known, high + 1)
            case Effect.AGAIN if found is not False and high > 0:
                self.noted[listing] = Span(low + (is_known and found is True and low > 0), high + 1)
            case Effect.TAKE:
                forgotten = {listing: Span(0, 0 if is_known else high)}
                others = {} if listing.key else {each: Span(0, span.high) for each, span in self.noted.items()}
                self.noted |= {**others, **forgotten}

    def _verdict(self, chain: Chain, verdict: Verdict, *, certain: bool, depth: int) -> _Ends:
        match verdict.kind:
            case Kind.JUMP | Kind.GOTO:
                target = self.table.chains.get(verdict.target)
                if target is None or depth >= DEPTH_MAX:
                    return frozenset((_LOST,))
                return self._chain(target, certain=certain, depth=depth + 1)
            case Kind.RETURN:
                return frozenset((_FALLEN_OUT,))
            case Kind.DROP:
                return frozenset((_End(Kind.DROP, chain.name),))
            case kind:
                return frozenset((_End(kind),))
