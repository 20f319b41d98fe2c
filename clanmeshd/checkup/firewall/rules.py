"""Rules of a packet filter in one form, whichever tool shows them, and packets to try on them. Pure.

A field is named as nft(8) names it, `udp dport` or `meta iifname`. What a reader does not understand it still
hands on, as a test of the field UNKNOWN, which no packet has: then nobody knows whether the rule fits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

UNKNOWN: Final = "?"
EVERYTHING: Final = "*"  # an element that fits whatever is there

# Fields that only some packets have: `udp dport` of a TCP segment fits nothing, not even `!= 22`.
LAYERS: Final = frozenset(
    (
        "ip",
        "ip6",
        "udp",
        "tcp",
        "th",
        "icmp",
        "icmpv6",
        "sctp",
        "dccp",
        "udplite",
        "igmp",
        "esp",
        "ah",
        "comp",
        "arp",
    )
)

# A stranger is in networks as large as these, if they hold the sample, and in no list of single places.
_STRANGER_BITS: Final = {4: 8, 6: 12}
_SAMPLES: Final = {
    4: 0x51024501,
    6: 0x2A02_0000_0000_0000_0000_0000_0000_0001,
}  # in networks of European providers
_ADDRESS_BITS: Final = {4: 32, 6: 128}


class Span(NamedTuple):
    """All numbers from `low` to `high`: ports, or the addresses of a network."""

    low: int
    high: int


class Stranger(NamedTuple):
    """The address of somebody on the internet, of whom nothing is known. `version`: 4 or 6."""

    version: int

    def is_in(self, span: Span) -> bool:
        """Whether a network is so large that it takes everybody in, more or less."""
        size = 1 << (_ADDRESS_BITS[self.version] - _STRANGER_BITS[self.version])
        return span.low <= _SAMPLES[self.version] <= span.high and span.high - span.low + 1 >= size


Value: TypeAlias = int | str | Stranger
Element: TypeAlias = int | str | Span | tuple["Element", ...]


class Kind(StrEnum):
    """What a rule does with a packet."""

    ACCEPT = "accept"
    DROP = "drop"  # or refuse
    RETURN = "return"
    JUMP = "jump"
    GOTO = "goto"
    LOST = "lost"  # it goes where it cannot be followed: to a program, or to another address


class Verdict(NamedTuple):
    """A kind, and for jumps the chain."""

    kind: Kind
    target: str = ""


class Listing(NamedTuple):
    """A list that rules put packets on, and what of a packet it has: "ip saddr", or "" where nobody knows."""

    name: str = ""
    key: str = ""


NO_LISTING: Final = Listing()


class Effect(StrEnum):
    """What a test does to a list, besides testing."""

    NONE = "none"
    PUT = "put"  # the packet there, whether it fits or not
    AGAIN = "again"  # the packet there once more, if it is there and fits
    TAKE = "take"  # the packet off it


class Match(NamedTuple):
    """A test: the fields are one of the elements, which are tuples where there are several fields."""

    fields: tuple[str, ...]
    elements: tuple[Element, ...] | None  # None: they could not be read
    negated: bool = False
    listing: Listing = NO_LISTING  # what it is about, where rules keep lists of whose packets came by
    hits: int = 1  # how often a packet must have been put there to be on it
    effect: Effect = Effect.NONE  # on that list


NOT_UNDERSTOOD: Final = Match((UNKNOWN,), None)
ALWAYS: Final = Match(("meta l4proto",), (EVERYTHING,))
NEVER: Final = Match(("meta l4proto",), ())
NEVER_NOTED: Final = Span(0, 0)


class Rule(NamedTuple):
    """All tests have to fit. Without a verdict it only counts or logs.

    A branch has to fit besides the last rule before it that is none: one rule looked up what to do with what fits.
    """

    matches: tuple[Match, ...]
    verdict: Verdict | None
    is_branch: bool = False


@dataclass(frozen=True, slots=True)
class Chain:
    """Rules in order. Where `hook` is set, packets come here by themselves, and `policy` is what ends them."""

    name: str
    rules: Sequence[Rule]
    hook: str | None = None
    priority: int = 0
    policy: Kind = Kind.ACCEPT
    devices: tuple[str, ...] = ()  # of the hook `ingress`


@dataclass(frozen=True, slots=True)
class Table:
    """Chains that can jump to one another."""

    family: str  # "ip", "ip6", "inet", "netdev"
    name: str
    chains: Mapping[str, Chain]
    tool: str = "nft"  # or "iptables", which shows rules that nft does not understand


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Everything that filters. Of the fields in `disturbed`, rules change the value, so nobody knows it."""

    tables: tuple[Table, ...] = ()
    disturbed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet: no to fields of layers that it does not have; of others not in `facts`, nothing is known."""

    layers: frozenset[str]
    facts: Mapping[str, Value]
    is_outgoing: bool = False  # this machine sends it; else it comes in for this machine


def answer(
    match: Match, packet: Packet, disturbed: frozenset[str] = frozenset(), noted: Span = NEVER_NOTED
) -> bool | None:
    """Whether a test fits a packet; None where that is not known.

    `noted`: how often, at least and at most, rules have put the packet on the list that the test is about.
    """
    if any(_is_absent(field, packet) for field in match.fields):
        return False
    if match.elements is not None and EVERYTHING in match.elements:
        return not match.negated
    values = [None if field in disturbed else packet.facts.get(field) for field in match.fields]
    if match.elements is None or None in values:
        return None
    known = [value for value in values if value is not None]
    fits = noted.low >= match.hits or any(_fits(known, element) for element in match.elements)
    if not fits and noted.high >= match.hits:
        return None
    return fits != match.negated


def _is_absent(field: str, packet: Packet) -> bool:
    layer = field.partition(" ")[0]
    return layer in LAYERS and layer not in packet.layers


def _fits(values: Sequence[Value], element: Element) -> bool:
    if len(values) == 1:
        return _is(values[0], element)
    if not isinstance(element, tuple) or isinstance(element, Span) or len(element) != len(values):
        return False
    return all(_is(value, part) for value, part in zip(values, element, strict=True))


def _is(value: Value, element: Element) -> bool:
    if element == EVERYTHING:
        return True
    if isinstance(element, Span):
        if isinstance(value, Stranger):
            return value.is_in(element)
        return isinstance(value, int) and element.low <= value <= element.high
    if isinstance(element, str) and isinstance(value, str) and element.endswith("*"):
        return value.startswith(element[:-1])
    return value == element
