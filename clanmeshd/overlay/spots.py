"""Where one peer's WireGuard may be, what probes have found there, and which of these places is best."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from math import inf

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.signalling import Candidate, CandidateKind
from clanmeshd.core.sightings import is_outer
from clanmeshd.overlay.path_terms import (
    AVOID_S,
    BRIEF_TRIES,
    MARGIN_S,
    MARGIN_SHARE,
    PENALTY_S,
    PONGS_NEEDED,
    PROBE_PAUSES_S,
    PROOF_S,
    RTT_GAIN,
    SPOTS_MAX,
    Rank,
)

_NETWORK_BYTES = {4: 3, 16: 8}  # of an address that two on one network share, as nearly all networks are laid out


def rank_of(endpoint: Endpoint, own: Collection[bytes]) -> Rank:
    """How near a spot is to a device with these addresses."""
    size = len(endpoint.ip)
    network = endpoint.ip[: _NETWORK_BYTES[size]]
    if any(len(ip) == size and ip.startswith(network) for ip in own):
        return Rank.LAN
    return Rank.DIRECT if is_outer(endpoint.ip) else Rank.PRIVATE


@dataclass(slots=True)
class Spot:
    """One endpoint."""

    endpoint: Endpoint
    rank: Rank
    is_shut: bool  # a router is in front that lets nobody in before its own side has sent there
    rtt_s: float = inf  # smoothed
    pongs: int = 0  # since it was last in doubt
    first_s: float = -inf  # the first of them
    last_s: float = -inf  # the last of them
    is_heard: bool = False  # in this search the peer's probe came from there: it is open by now
    tries: int = 0  # in this search
    next_s: float = -inf  # when it is probed again; a new one at once
    died_s: float = -inf

    @property
    def score_s(self) -> float:
        """The lowest is best."""
        return self.rtt_s + PENALTY_S[self.rank]

    def is_proven(self, now_s: float, needed: int = PONGS_NEEDED) -> bool:
        """Whether a path may be moved here."""
        signs = self.pongs + (self.is_heard and self.pongs > 0)  # a probe of the peer's came, too
        return signs >= needed and now_s < self.last_s + PROOF_S

    def beats(self, other: "Spot") -> bool:
        """Whether it is so much better than one in use that it pays to move."""
        return self.score_s < other.score_s * (1 - MARGIN_SHARE) - (MARGIN_S if self.rank >= other.rank else 0.0)

    def ponged(self, rtt_s: float, now_s: float) -> None:
        """An answer came."""
        if now_s >= self.last_s + PROOF_S:
            self.pongs = 0
        self.pongs += 1
        self.first_s = now_s if self.pongs == 1 else self.first_s
        self.last_s = now_s
        self.rtt_s = rtt_s if self.rtt_s == inf else self.rtt_s + RTT_GAIN * (rtt_s - self.rtt_s)

    def tried(self, now_s: float) -> None:
        """A probe was sent there."""
        pause_s = PROBE_PAUSES_S[self.tries] if self.tries < len(PROBE_PAUSES_S) else inf
        self.tries, self.next_s = self.tries + 1, now_s + pause_s

    def doubt(self) -> None:
        """What was proven before holds no more."""
        self.pongs, self.last_s, self.is_heard = 0, -inf, False


class Spots:
    """All endpoints of one peer. Bounded; the longest unproven go first."""

    def __init__(self) -> None:
        self._spots: dict[Endpoint, Spot] = {}

    def __iter__(self) -> Iterator[Spot]:
        """Each of them."""
        return iter(self._spots.values())

    def get(self, endpoint: Endpoint | None) -> Spot | None:
        """The spot at an endpoint."""
        return self._spots.get(endpoint) if endpoint is not None else None

    def add(self, endpoint: Endpoint, own: Collection[bytes], *, is_shut: bool, keep: Endpoint | None) -> bool:
        """Take a hint; `keep` is in use. True: it is new, or no router is in front of it as was thought."""
        known = self._spots.get(endpoint)
        if known is not None:
            is_news = known.is_shut and not is_shut
            known.is_shut = known.is_shut and is_shut
            return is_news
        while len(self._spots) >= SPOTS_MAX:
            worst = min((spot for spot in self._spots.values() if spot.endpoint != keep), key=_worth)
            del self._spots[worst.endpoint]
        self._spots[endpoint] = Spot(endpoint, rank_of(endpoint, own), is_shut)
        return True

    def take(self, candidates: Iterable[Candidate], own: Collection[bytes], keep: Endpoint | None) -> None:
        """Take the candidates of a call."""
        for each in candidates:
            if each.kind != CandidateKind.RELAY:
                self.add(each.endpoint, own, is_shut=each.kind == CandidateKind.SEEN, keep=keep)

    def begin(self, now_s: float, *, is_brief: bool) -> None:
        """A search begins: each has its tries again; in a brief one few, and private ones elsewhere none."""
        for spot in self._spots.values():
            spot.tries = len(PROBE_PAUSES_S) + 1 - BRIEF_TRIES if is_brief else 0
            spot.next_s = inf if is_brief and spot.rank is Rank.PRIVATE else now_s
            spot.is_heard = spot.is_proven(now_s)

    def doubt(self, own: Collection[bytes]) -> None:
        """This device has other addresses."""
        for spot in self._spots.values():
            spot.doubt()
            spot.rank = rank_of(spot.endpoint, own)

    def due(self, now_s: float, shut_from_s: float) -> list[Spot]:
        """Those that are to be probed now; those behind a router not before a moment."""
        return [spot for spot in self._spots.values() if now_s >= _due_s(spot, shut_from_s)]

    def next_s(self, shut_from_s: float) -> float:
        """When `due` gives one."""
        return min((_due_s(spot, shut_from_s) for spot in self._spots.values()), default=inf)

    def best(self, now_s: float, needed: int = PONGS_NEEDED) -> Spot | None:
        """The best that is proven, and not only before it died under traffic."""
        proven = [spot for spot in self._spots.values() if spot.is_proven(now_s, needed)]
        alive = [spot for spot in proven if now_s >= spot.died_s + AVOID_S or spot.first_s > spot.died_s]
        return min(alive, key=lambda spot: spot.score_s, default=None)


def _worth(spot: Spot) -> tuple[float, bool]:
    return spot.last_s, not spot.is_shut


def _due_s(spot: Spot, shut_from_s: float) -> float:
    return max(spot.next_s, shut_from_s) if spot.is_shut and not spot.is_heard else spot.next_s
