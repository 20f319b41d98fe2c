"""How long peers take to answer: ping numbers, the estimate, and the patience that follows from it."""

from math import inf, log, log2
from typing import Final

from clanmesh_protocol.keys import NodeId
from clanmeshd.core.limits import (
    CONFIRM_INTERVAL_S,
    DOUBT_CHANCE,
    DOUBT_S,
    DOUBT_S_MAX,
    INDIRECT_TIMEOUT_S,
    PING_NUMBER_MAX,
    PINGS_OUTSTANDING_MAX,
    PROBE_TIMEOUT_S_MAX,
    PROBE_TIMEOUT_S_MIN,
    RECENT_ANSWERS,
)

_NEAR_S: Final = 0.005  # a round trip within one network; finer differences are noise
_MAGNITUDE_UNKNOWN: Final = 99
_PROBE_S_MAX: Final = PROBE_TIMEOUT_S_MAX + INDIRECT_TIMEOUT_S  # a whole probe; a satellite answers in 0.7 s
_MISSES_WEIGHT: Final = 1 / 16  # of the newest: a quarter of a minute of probing
_FAST_ANSWERS: Final = 3  # in a row, in less than half of the estimate: that is another path, not luck


class RoundTrip:
    """Smoothed round trip and its variation (RFC 6298), quick to forget a slow moment."""

    __slots__ = ("_fast", "_magnitude", "_smoothed_s", "_variation_s")

    def __init__(self) -> None:
        self._smoothed_s: float | None = None
        self._variation_s = 0.0
        self._magnitude = _MAGNITUDE_UNKNOWN
        self._fast = 0  # answers in a row that took less than half of the estimate

    @property
    def smoothed_s(self) -> float | None:
        """The estimate; None before the first answer."""
        return self._smoothed_s

    @property
    def timeout_s(self) -> float:
        """How long an answer is waited for."""
        if self._smoothed_s is None:
            return PROBE_TIMEOUT_S_MAX
        patience = self._smoothed_s + 4 * self._variation_s
        return min(max(patience, PROBE_TIMEOUT_S_MIN), PROBE_TIMEOUT_S_MAX)

    @property
    def magnitude(self) -> int:
        """How far away the peer is, roughly: fine differences change no order. The highest before an answer."""
        return self._magnitude

    def sample(self, seconds: float) -> None:
        """Take one measured round trip.

        One that took longer than a whole probe is none: it lay in the queue of a broken or sleeping link, or of a
        tunnel without a handshake, or this device itself was stopped.
        """
        if seconds > _PROBE_S_MAX:
            return
        self._fast = self._fast + 1 if self._smoothed_s is not None and seconds < self._smoothed_s / 2 else 0
        if self._smoothed_s is None or self._fast >= _FAST_ANSWERS:
            self._fast = 0
            self._smoothed_s, self._variation_s = seconds, seconds / 2
        else:
            self._variation_s += (abs(seconds - self._smoothed_s) - self._variation_s) / 4
            self._smoothed_s += (seconds - self._smoothed_s) / 8
        self._magnitude = round(log2(max(self._smoothed_s, _NEAR_S) / _NEAR_S) / 2)


class Quickest:
    """The quickest of the newest round trips: what slows single ones down is the machines' work, not the way."""

    __slots__ = ("_before_s", "_count", "_least_s")

    def __init__(self) -> None:
        self._count = 0
        self._least_s = inf  # of the newest
        self._before_s = inf  # of as many before these

    @property
    def seconds(self) -> float | None:
        """The quickest; None before the first one."""
        return min(self._least_s, self._before_s) if self._count else None

    def sample(self, seconds: float) -> None:
        """Take one measured round trip."""
        if self._count % RECENT_ANSWERS == 0:
            self._before_s, self._least_s = self._least_s, inf
        self._count, self._least_s = self._count + 1, min(self._least_s, seconds)


class Misses:
    """How many probes go unanswered of late, and how many pings more it takes until that says something of a peer.

    Where every second one is lost, two in a row are no sign. In a clan of a thousand a rash vote every minute from
    each would be twenty records a second for everybody; so the chance of one is kept the same at any loss.
    """

    def __init__(self) -> None:
        self._share = 0.0

    def sample(self, *, missed: bool) -> None:
        """A probe was answered at once, or not."""
        self._share += (missed - self._share) * _MISSES_WEIGHT

    @property
    def doubt_s(self) -> float:
        """How long one who was probed in vain is pinged before this device says so, in seconds."""
        if self._share <= 0.0:
            return DOUBT_S
        pings = log(DOUBT_CHANCE) / log(min(self._share, 0.9))
        return min(max(DOUBT_S, pings * CONFIRM_INTERVAL_S), DOUBT_S_MAX)


class PingNumbers:
    """Numbers of pings under way, so that an answer is matched with its question. Bounded; the oldest go."""

    def __init__(self, first: int) -> None:
        self._next = first
        self._sent: dict[int, tuple[NodeId, float]] = {}

    def issue(self, node: NodeId, now_s: float) -> int:
        """Give a fresh number for a ping to `node`."""
        number = self._next
        self._next = (number + 1) & PING_NUMBER_MAX
        self._sent[number] = (node, now_s)
        if len(self._sent) > PINGS_OUTSTANDING_MAX:
            del self._sent[next(iter(self._sent))]
        return number

    def answered(self, node: NodeId, number: int, now_s: float) -> float | None:
        """Give the round trip in seconds if this is the first answer to a ping that `node` was sent."""
        sent = self._sent.get(number)
        if sent is None or sent[0] != node:
            return None
        del self._sent[number]
        return max(0.0, now_s - sent[1])
