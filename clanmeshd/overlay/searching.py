"""One search for a direct path to a peer: when it calls, whose turn it is to probe, when it is over.

Behind most routers a packet from outside arrives only after one from inside has gone the same way. So both open
first, with packets that do not arrive at the other, since a router may take what comes too early for a connection
of its own, and give the inside another port then. Then one side probes first, the one whose router is harder,
since the other must answer to wherever the first packet really comes from; a moment later the other does, too.
"""

from math import inf
from random import Random

from clanmesh_protocol.signalling import NatKind
from clanmeshd.overlay.path_terms import (
    CALL_PAUSES_S,
    HARDNESS,
    IMPROVE_S,
    OPENED_TURN_S,
    OTHERS_TURN_S,
    RETRY_JITTER,
    RETRY_S,
    SEARCH_S,
    SILENT_RETRY_S,
    PathKind,
    Why,
)


class Search:
    """`calls_s`: when the peer is called first; infinity: it is not called."""

    def __init__(self, now_s: float, calls_s: float) -> None:
        self.began_s = now_s
        self.ends_s = max(now_s, calls_s if calls_s < inf else now_s) + SEARCH_S
        self.is_answered = False  # the peer knows that this side has opened
        self.was_carried = True  # some member took the last call
        self.opened_s = inf  # since when this side knows that the peer has
        self._call_s = calls_s
        self._calls = 0

    def takes_call(self, now_s: float) -> bool:
        """Whether to call now: until the peer has opened, a few times."""
        if now_s < self._call_s:
            return False
        pause_s = CALL_PAUSES_S[self._calls] if self._calls < len(CALL_PAUSES_S) else inf
        self._calls, self._call_s = self._calls + 1, now_s + pause_s
        return True

    @property
    def is_unheard(self) -> bool:
        """Whether it has called, and nobody could take the call."""
        return self._calls > 0 and not self.was_carried

    def call_again(self, now_s: float) -> None:
        """There is something new to say."""
        self._call_s = min(self._call_s, now_s)

    def opened(self, now_s: float) -> None:
        """The peer says that it has opened."""
        self.opened_s, self._call_s = min(self.opened_s, now_s), inf

    def shut_from_s(self, *, begins: bool) -> float:
        """From when on spots behind routers are probed."""
        own_s = self.opened_s if begins else self.opened_s + OPENED_TURN_S
        return min(own_s, self.began_s + OTHERS_TURN_S)

    def next_deadline(self) -> float:
        """When it calls or is over."""
        return min(self._call_s, self.ends_s)


def is_even(one: NatKind, other: NatKind) -> bool:
    """Whether neither side's router is the harder one: then it does not matter who probes first."""
    return HARDNESS[one] == HARDNESS[other]


def begins(own: tuple[NatKind, bytes], other: tuple[NatKind, bytes]) -> bool:
    """Whether the own side probes first: the one with the harder router; of equals, the lower overlay address."""
    mine, theirs = HARDNESS[own[0]], HARDNESS[other[0]]
    return mine > theirs if mine != theirs else own[1] < other[1]


def is_hopeless(own: NatKind, other: NatKind) -> bool:
    """Whether no search can succeed, unless by addresses that no router is in front of."""
    return NatKind.BLOCKED in (own, other) or own == other == NatKind.HARD


def pause_s(kind: PathKind, failures: int, dice: Random) -> float:
    """How long until the next search, with such a path and so many in vain; infinity where nothing is better."""
    if kind is PathKind.LAN:
        return inf
    even_s = IMPROVE_S if kind is PathKind.DIRECT else RETRY_S[min(max(failures, 1), len(RETRY_S)) - 1]
    if kind is PathKind.NONE and failures > len(RETRY_S):
        even_s = SILENT_RETRY_S
    return even_s * (1 + RETRY_JITTER * (2 * dice.random() - 1))


def reason(own: NatKind, other: NatKind, *, was_carried: bool, was_answered: bool) -> Why:
    """Why a search that is over has found nothing."""
    if own is NatKind.BLOCKED:
        return Why.BLOCKED_HERE
    if other is NatKind.BLOCKED:
        return Why.BLOCKED_THERE
    if not was_carried:
        return Why.NO_CARRIER
    if own is other is NatKind.HARD:
        return Why.HARD_BOTH
    if was_answered and {own, other} == {NatKind.HARD, NatKind.EASY}:
        return Why.HARD_ONE
    return Why.SILENT
