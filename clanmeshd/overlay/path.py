"""One peer's path: what it is, what becomes of it, and when a better one is sought. Pure.

- It starts on what works now: a relay is asked for while a direct path is being sought.
- A spot becomes the path after two answers from it, or one where there is no path; a better one only if it is
  clearly better.
- Where something is sent and nothing comes, the peer is asked for a sign of life through the tunnel; without one
  the path is dead, and the next best is taken: another proven spot, or a relay, while a new search runs.
- There is always a reason why it is not direct, and a next try.
"""

from math import inf

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.signalling import CallKind, Candidate, NatKind
from clanmeshd.overlay.path_terms import (
    CONFIRM_S,
    DEATHS_MAX,
    KEEPALIVE_S,
    LOOKED_S,
    LOOKING_S,
    PONGS_NEEDED,
    PONGS_WITHOUT,
    RELAY_PATIENCE_S,
    SILENT_MAX,
    SLEEP_AFTER_S,
    Action,
    Around,
    Echo,
    Fellow,
    Hold,
    Leave,
    Look,
    PathKind,
    Rank,
    Sleep,
    Standing,
    UseEndpoint,
    Wake,
    Why,
)
from clanmeshd.overlay.relaying import Relaying
from clanmeshd.overlay.searching import Search, pause_s
from clanmeshd.overlay.seeking import Seeking
from clanmeshd.overlay.silence import Silence


class PeerPath:
    """Takes what happens and the time (monotonic s); adds to `actions`. Its state is bounded."""

    def __init__(self, node: NodeId, fellow: Fellow, around: Around, now_s: float) -> None:
        self.node = node
        self.kind = PathKind.NONE
        self.is_asleep = False
        self.actions: list[Action] = []
        self._fellow = fellow
        self._around = around
        self._endpoint: Endpoint | None = None
        self._used_s = -inf  # since when WireGuard sends there
        self._confirm_s = inf  # when it must have proven itself anew
        self._is_held = False  # until then it sends nowhere
        self._yields = False  # it slept, and was woken by the peer
        self._rings = False  # it slept, and WireGuard still sends to where it rings
        self._silence = Silence(now_s, around)
        self.seeking = Seeking(node, fellow, around, self.actions)
        self._relaying = Relaying(node, around, self.actions)
        self._why = Why.TRYING
        self._failures = 0  # searches in vain, one after the other
        self._looked_s = -inf  # when it was last looked whether WireGuard has got through by itself
        self._deaths = 0  # of paths, with nothing heard in between
        self._retry_s = inf

    # --- what is known ----------------------------------------------------------------------------------

    def standing(self) -> Standing:
        """How it is, for people."""
        spot = self.seeking.spots.get(self._endpoint) if self.is_direct else None
        search = self.seeking.search
        next_s = search.ends_s if search is not None else self._retry_s
        return Standing(
            self.kind,
            self._endpoint if self.kind is not PathKind.NONE else None,
            self._relaying.via if self.kind is PathKind.RELAY else None,
            spot.rtt_s if spot is not None and spot.rtt_s < inf else None,
            Why.NOTHING if self.is_direct else self._why,
            next_s if next_s < inf else None,
        )

    @property
    def is_direct(self) -> bool:
        """Whether it goes without a relay."""
        return self.kind in (PathKind.LAN, PathKind.DIRECT)

    @property
    def is_settled(self) -> bool:
        """Whether it goes without a relay, and nothing casts doubt on that."""
        return self.is_direct and self._confirm_s == inf

    @property
    def is_waiting(self) -> bool:
        """Whether something was sent that nothing came back for: each look at the counters may be a verdict."""
        return self._silence.is_waiting

    def may_sleep(self, now_s: float) -> bool:
        """Whether nothing has gone either way for long, and to go on would cost something."""
        return self.kind is not PathKind.LAN and now_s >= self._silence.used_s + SLEEP_AFTER_S

    # --- what changes -----------------------------------------------------------------------------------

    def set_fellow(self, fellow: Fellow, now_s: float) -> None:
        """The peer's record says this."""
        if fellow == self._fellow:
            return
        self._fellow = fellow
        if self.seeking.set_fellow(fellow) and self.kind is not PathKind.LAN:
            self.search_again(now_s)

    def search_again(self, now_s: float) -> None:
        """Something has changed that may help: search, unless that has only just begun."""
        if not self.is_asleep and self.seeking.may_begin(now_s):
            self._failures = 0
            self._search(now_s)
        elif self.seeking.search is not None:
            self.seeking.search.call_again(now_s)

    def moved(self, now_s: float) -> None:
        """This device has other addresses, or was asleep: nothing is proven any more."""
        self.seeking.doubt()
        self._failures = self._deaths = 0
        if self.is_asleep:
            return
        if self.is_direct:
            self._confirm_s = now_s + CONFIRM_S
            spot = self.seeking.spots.get(self._endpoint)
            if spot is not None and spot.is_shut:
                self._is_held = True
                self.actions.append(Hold(self.node))
        elif self._relaying.via is not None:
            self._relaying.ask(self._relaying.via, now_s)  # it knows the way to an address that is no more
        self._search(now_s)

    def leave(self) -> None:
        """It is no peer any more: its relay is given back."""
        self._relaying.drop()

    def udp_ended(self, now_s: float) -> None:
        """Nothing but streams leaves this device any more: a relay that was asked for otherwise is none."""
        if self._relaying.renew(now_s) and self.kind is PathKind.RELAY:
            self.kind = PathKind.NONE

    def sleep(self) -> None:
        """There is nothing to send, and there are many others."""
        self._relaying.drop()
        self.seeking.end()
        self._silence.bury()
        self.is_asleep, self._rings, self.kind, self._why = True, True, PathKind.NONE, Why.ASLEEP
        self._retry_s, self._confirm_s, self._is_held = inf, inf, False
        self.actions.append(Sleep(self.node))

    def wake(self, now_s: float, *, is_called: bool = False) -> None:
        """There is something to send, or the peer wants to: then it makes the handshake."""
        self._yields = is_called and (self._yields or self.is_asleep)
        if self.is_asleep:
            self.is_asleep, self._failures, self._deaths = False, 0, 0
            self.actions.append(Wake(self.node))
            self._silence.used_s = now_s
            self._search(now_s)
            self._relaying.want_soon(now_s)

    # --- searching --------------------------------------------------------------------------------------

    def begin(self, now_s: float) -> None:
        """Search for the first time."""
        self._search(now_s)

    def _search(self, now_s: float, *, calls: bool = True) -> None:
        is_brief = self.is_direct or self._failures >= SILENT_MAX
        self.seeking.begin(now_s, calls=calls, is_brief=is_brief)
        self._retry_s = inf
        if self.kind is PathKind.NONE:
            self._why = Why.TRYING
            if self._failures < SILENT_MAX:
                self._want_relay(now_s)

    def _want_relay(self, now_s: float) -> None:
        self._relaying.want(now_s, self.seeking.nat, is_near=self.seeking.is_near)

    def called(self, kind: CallKind, nat: NatKind, candidates: tuple[Candidate, ...], now_s: float) -> None:
        """The peer called."""
        self.wake(now_s, is_called=True)
        self.seeking.take(nat, candidates)
        match kind:
            case CallKind.ASK:
                self.seeking.asked(now_s)
                self._retry_s = inf
            case CallKind.OPENED:
                self.seeking.opened(now_s)
                self._retry_s = inf
            case CallKind.RELAY:
                self._take_up(candidates, now_s)
            case CallKind.BYE:
                self._part(now_s)
        if self.kind is PathKind.NONE and self._relaying.endpoint is None:
            self._want_relay(now_s)

    def heard(self, source: Endpoint, now_s: float) -> None:
        """A probe of the peer's came from here; it may be an old one that somebody recorded."""
        if self.is_direct and source == self._endpoint and self._confirm_s == inf:
            return
        self.wake(now_s, is_called=True)
        self.seeking.heard(source, now_s)
        if self.seeking.search is not None:
            self._retry_s = inf

    def proven(self, target: Endpoint, rtt_s: float, now_s: float) -> None:
        """A probe there was answered."""
        if not self.is_asleep and self.seeking.proven(target, rtt_s, now_s, self._pongs_needed):
            self._choose(now_s)

    # --- choosing ---------------------------------------------------------------------------------------

    @property
    def _pongs_needed(self) -> int:
        return PONGS_WITHOUT if self.kind is PathKind.NONE else PONGS_NEEDED

    def _choose(self, now_s: float) -> bool:
        spots = self.seeking.spots
        best = spots.best(now_s, self._pongs_needed)
        if best is None:
            return False
        current = spots.get(self._endpoint) if self.is_direct and not self._is_held else None
        if current is not None and (best is current or (self._confirm_s == inf and not best.beats(current))):
            if self._confirm_s < inf:
                self._confirm_s = inf
                self._relaying.linger(now_s)
            return True
        self.kind = PathKind.LAN if best.rank is Rank.LAN else PathKind.DIRECT
        self._failures = 0
        self._relaying.linger(now_s)
        self._use(best.endpoint, KEEPALIVE_S if best.rank is Rank.DIRECT else 0, now_s)
        if self.kind is PathKind.LAN:
            self.seeking.end()  # nothing is better
            self._retry_s = inf
        return True

    def _use(self, endpoint: Endpoint, keepalive_s: int, now_s: float) -> None:
        self._endpoint = self.seeking.keep = endpoint
        self._used_s, self._confirm_s, self._is_held, self._rings = now_s, inf, False, False
        # Both ways are open by now, so it need not be the side that probes first; and that depends on what is not
        # known of the other where nobody called: two handshakes that cross cost five seconds.
        begins = self._around.own.address < self._fellow.address and not self._yields
        self.actions.append(UseEndpoint(self.node, endpoint, keepalive_s, begins))
        if self._silence.is_waiting or now_s < self._silence.came_s + SLEEP_AFTER_S:
            # The peer's WireGuard learns of it by this, and this side whether it works.
            self.actions.append(Echo(self.node))
        self._silence.forgive()

    def counted(self, sent: int, received: int, now_s: float) -> None:
        """WireGuard has sent and received so many bytes for the peer."""
        before_s = self._silence.heard_s
        self._silence.counted(sent, received, now_s)
        self._deaths = 0 if self._silence.heard_s > before_s else self._deaths
        if self._silence.is_wanted:
            self.wake(now_s)

    def _die(self, now_s: float) -> None:
        """The path is dead: take the next one."""
        self._deaths += 1
        self._silence.bury()
        self._confirm_s, self._is_held = inf, False
        spot = self.seeking.spots.get(self._endpoint) if self.is_direct else None
        if spot is not None:
            spot.died_s = now_s
            spot.doubt()
        elif self.kind is PathKind.RELAY:
            self._relaying.avoid(now_s, is_refused=False)
        self.kind, self._failures = PathKind.NONE, 0
        if self._choose(now_s):
            return
        self._search(now_s)
        if self._relaying.endpoint is not None:
            self._relaying.keep()
            self._use_relay(self._relaying.endpoint, now_s)
        else:
            self._relaying.wanted_s = now_s

    # --- relays -----------------------------------------------------------------------------------------

    def relay_ready(self, via: NodeId, endpoint: Endpoint, shared: tuple[Endpoint, ...], now_s: float) -> None:
        """A member relays: WireGuard here sends to `endpoint`, the peer to one of `shared`."""
        if self._relaying.ready(via, endpoint, shared, now_s) and not self.is_direct:
            self._use_relay(endpoint, now_s)

    def relay_failed(self, via: NodeId, now_s: float) -> None:
        """A member does not relay, or no longer."""
        if via == self._relaying.via:
            self._relaying.avoid(now_s, is_refused=True)
            if self.kind is PathKind.RELAY:
                self.kind = PathKind.NONE
                self._silence.bury()
                self._looked_s = now_s  # what the counters show came by that relay

    def relays_came(self, now_s: float) -> None:
        """There are members that relay, where there were none."""
        if self.kind is PathKind.NONE and not self.is_asleep and self._failures < SILENT_MAX:
            self._want_relay(now_s)

    def _use_relay(self, endpoint: Endpoint, now_s: float) -> None:
        if self.kind is PathKind.RELAY and endpoint == self._endpoint and self._confirm_s == inf:
            return
        self.kind = PathKind.RELAY
        self._use(endpoint, KEEPALIVE_S, now_s)
        if self.seeking.search is None and self._retry_s == inf:
            self._retry(now_s)

    def _take_up(self, candidates: tuple[Candidate, ...], now_s: float) -> None:
        """The peer has a relay: it has no direct path, or has one no more, or just had none yet."""
        yields = self._fellow.address < self._around.own.address or self._is_relied_on(now_s)
        endpoint = self._relaying.adopt(candidates, yields=yields)
        spot = self.seeking.spots.get(self._endpoint) if self.is_direct else None
        if spot is not None and spot.is_proven(now_s, PONGS_WITHOUT):
            self._confirm_s = min(self._confirm_s, now_s + CONFIRM_S)
            self.seeking.ask_again(spot, now_s)
            return
        if endpoint is not None:
            self._use_relay(endpoint, now_s)
        self.search_again(now_s)

    def _is_relied_on(self, now_s: float) -> bool:
        """Whether the peer has come by this relay for a while: where it names another now, it hears nothing."""
        is_heard = self._silence.heard_s > self._used_s
        return self.kind is PathKind.RELAY and is_heard and now_s >= self._used_s + RELAY_PATIENCE_S

    def _part(self, now_s: float) -> None:
        """The peer needs no relay any more."""
        if self.is_direct:
            self._relaying.drop()
        else:
            self.search_again(now_s)

    # --- time -------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When `handle_deadline` has something to do; infinity for never."""
        return min(
            self.seeking.next_deadline(),
            self._relaying.next_deadline(),
            self._retry_s,
            self._confirm_s,
            self._silence.next_deadline() if self._deaths < DEATHS_MAX else inf,
        )

    def handle_deadline(self, now_s: float) -> None:
        """Do what is due."""
        self._watch(now_s)
        if now_s >= self._retry_s:
            self._search(now_s, calls=not self.is_direct)
        search = self.seeking.go_on(now_s)
        if search is not None:
            self._end(search, now_s)
        if now_s >= self._relaying.wanted_s and self.kind is PathKind.NONE and not self._deaths:
            self._look_first(now_s)
        self._relaying.go_on(now_s, is_direct=self.is_direct, is_answered=self._silence.heard_s > self._used_s)

    def _look_first(self, now_s: float) -> None:
        """Before a relay is asked for: WireGuard may have got through to where the record says that the peer is.

        So it is with one whose version answers no probes.
        """
        if now_s < self._silence.heard_s + SLEEP_AFTER_S:
            self._relaying.wanted_s = inf
        elif now_s >= self._looked_s + LOOKED_S:
            self._looked_s, self._relaying.wanted_s = now_s, now_s + LOOKING_S
            self.actions.append(Look(self.node))

    def _watch(self, now_s: float) -> None:
        if now_s >= self._confirm_s or (self._deaths < DEATHS_MAX and self._silence.is_over(now_s)):
            self._die(now_s)
        elif self._deaths < DEATHS_MAX:
            self.actions += self._silence.questions(self.node, now_s)

    def _end(self, search: Search, now_s: float) -> None:
        if self.is_direct:
            spot = self.seeking.spots.get(self._endpoint)
            if spot is not None and max(spot.last_s, self._silence.heard_s) < search.began_s:
                self._die(now_s)
                return
        else:
            self._why = self.seeking.reason(search)
            self._failures += 1
            if self._rings:
                self._rings = False
                self.actions.append(Leave(self.node))
            if self.kind is PathKind.NONE and self._relaying.via is None and self._failures < SILENT_MAX:
                self._relaying.wanted_s = now_s
        self._retry(now_s)

    def _retry(self, now_s: float) -> None:
        self._retry_s = now_s + pause_s(self.kind, self._failures, self._around.dice)
