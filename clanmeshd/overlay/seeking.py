"""The search for one peer's spots: calls, openers and probes, its own and those that the peer asks for. Pure."""

from collections.abc import Iterable
from math import inf

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.signalling import CallKind, Candidate, NatKind
from clanmeshd.core.sightings import is_outer
from clanmeshd.overlay.path_terms import (
    ASKED_AGAIN_S,
    CALL_PAUSES_S,
    NEAR_DELAY_S,
    Action,
    Around,
    Fellow,
    MakeCall,
    Open,
    Probe,
    Rank,
    Why,
)
from clanmeshd.overlay.searching import Search, begins, is_even, reason
from clanmeshd.overlay.spots import Spot, Spots


class Seeking:
    """Adds to `actions`. `keep`: the endpoint in use, which is not forgotten."""

    def __init__(self, node: NodeId, fellow: Fellow, around: Around, actions: list[Action]) -> None:
        self.spots = Spots()
        self.nat = NatKind.UNKNOWN  # the peer's
        self.search: Search | None = None
        self.keep: Endpoint | None = None
        self._node = node
        self._around = around
        self._actions = actions
        self._begun_s = -inf
        self.set_fellow(fellow)

    @property
    def begins(self) -> bool:
        """Whether this side is the one to probe first what is behind routers."""
        own = self._around.own
        return begins((own.nat, own.address), (self.nat, self._fellow.address))

    @property
    def is_near(self) -> bool:
        """Whether the peer may be on a network of this device."""
        return any(spot.rank is Rank.LAN for spot in self.spots)

    def set_fellow(self, fellow: Fellow) -> bool:
        """Take what the peer's record says. True: there is something new in it."""
        self._fellow = fellow
        added = [self._add(endpoint, is_shut=False) for endpoint in fellow.listed]
        return any(added)

    def take(self, nat: NatKind, candidates: Iterable[Candidate]) -> None:
        """Take what a call says."""
        self.nat = nat
        self.spots.take(candidates, self._around.own.ips, self.keep)

    def _add(self, endpoint: Endpoint, *, is_shut: bool) -> bool:
        return self.spots.add(endpoint, self._around.own.ips, is_shut=is_shut, keep=self.keep)

    def doubt(self) -> None:
        """This device has other addresses: nothing is proven any more."""
        self.spots.doubt(self._around.own.ips)

    # --- beginning and end ------------------------------------------------------------------------------

    def begin(self, now_s: float, *, calls: bool = True, delay_s: float = 0.0, is_brief: bool = False) -> None:
        """Begin a search. It calls later where the peer may be near, who would answer before that.

        A brief one tries less, and leaves out private addresses of other networks.
        """
        call_s = now_s + max(delay_s, NEAR_DELAY_S if self.is_near else 0.0)
        self.search = Search(now_s, call_s if calls else inf)
        self._begun_s = now_s
        self.spots.begin(now_s, is_brief=is_brief)

    def end(self) -> None:
        """Give up."""
        self.search = None

    def may_begin(self, now_s: float) -> bool:
        """Whether what somebody else does may begin a search again."""
        return now_s >= self._begun_s + ASKED_AGAIN_S

    def not_carried(self) -> None:
        """Nobody could take the last call."""
        if self.search is not None:
            self.search.was_carried = False

    def call_again(self, now_s: float) -> bool:
        """There is somebody more to take a call. Whether that helps: nobody could take the last one."""
        if self.search is None or not self.search.is_unheard:
            return False
        self.search.call_again(now_s)
        return True

    def reason(self, search: Search) -> Why:
        """Why a search found nothing."""
        was_answered = search.opened_s < inf
        return reason(self._around.own.nat, self.nat, was_carried=search.was_carried, was_answered=was_answered)

    # --- what the peer does -----------------------------------------------------------------------------

    def asked(self, now_s: float) -> None:
        """The peer asks to be met: open towards it, and say so."""
        if self.search is None:
            self.begin(now_s, delay_s=CALL_PAUSES_S[0])
        assert self.search is not None
        self._answer(self.search)

    def opened(self, now_s: float) -> None:
        """The peer has opened towards this side. Who is to probe first does; else the peer is to know, too."""
        if self.search is None:
            self.begin(now_s, calls=False)
        assert self.search is not None
        self.search.opened(now_s)
        if not self.begins and not self.search.is_answered:
            self._answer(self.search)

    def _answer(self, search: Search) -> None:
        shut = [spot for spot in self.spots if spot.is_shut]
        if not shut and not any(is_outer(spot.endpoint.ip) for spot in self.spots):
            return  # it does not say where it is seen yet: the own router would take its probes for its own
        self._actions += [Open(self._node, spot.endpoint) for spot in shut]
        search.is_answered = True
        self._actions.append(MakeCall(self._node, CallKind.OPENED, self._around.own.candidates))

    def heard(self, source: Endpoint, now_s: float) -> None:
        """A probe of the peer's came from here; it may be an old one that somebody recorded."""
        self._add(source, is_shut=True)
        if self.search is None and self.may_begin(now_s):
            self.begin(now_s, calls=False, is_brief=True)
        spot = self.spots.get(source)
        if spot is not None and self.search is not None and not spot.is_heard:
            spot.is_heard, spot.tries, spot.next_s = True, 0, now_s

    def proven(self, target: Endpoint, rtt_s: float, now_s: float, needed: int) -> bool:
        """A probe was answered. True: as often as is needed. It is asked until that would do anywhere."""
        spot = self.spots.get(target)
        if spot is None:
            return False
        spot.ponged(rtt_s, now_s)
        if not spot.is_proven(now_s):
            self._probe(spot, now_s)
        else:
            spot.next_s = inf
        return spot.is_proven(now_s, needed)

    def ask_again(self, spot: Spot, now_s: float) -> None:
        """Have one spot prove itself anew, soon."""
        if self.search is None:
            self.begin(now_s, calls=False, is_brief=True)
        spot.doubt()
        spot.is_heard, spot.tries, spot.next_s = True, 0, now_s

    # --- time -------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When `go_on` has something to do."""
        if self.search is None:
            return inf
        return min(self.search.next_deadline(), self.spots.next_s(self._shut_from_s(self.search)))

    def go_on(self, now_s: float) -> Search | None:
        """Call and probe what is due. Gives the search when it is over."""
        search = self.search
        if search is None:
            return None
        if search.takes_call(now_s):
            search.was_carried = True
            self._actions.append(MakeCall(self._node, CallKind.ASK, self._around.own.candidates))
        for spot in self.spots.due(now_s, self._shut_from_s(search)):
            self._probe(spot, now_s)
        if now_s < search.ends_s:
            return None
        self.search = None
        return search

    def _shut_from_s(self, search: Search) -> float:
        """From when on spots behind routers are probed: where it is even, by who first knows both to be open."""
        return search.shut_from_s(begins=self.begins or is_even(self._around.own.nat, self.nat))

    def _probe(self, spot: Spot, now_s: float) -> None:
        spot.tried(now_s)
        self._actions.append(Probe(self._node, spot.endpoint))
