"""Which member relays for one pair, as seen from one side: chosen, asked, told to the peer, given back. Pure.

Each side may ask one. Where both have, the choice of the lower address stands, and the other takes it up.
"""

from collections.abc import Iterable
from math import inf

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.signalling import CallKind, Candidate, CandidateKind, NatKind
from clanmeshd.overlay.path_terms import (
    AVOID_ALONE_S,
    AVOID_S,
    AVOIDED_MAX,
    CALL_PAUSES_S,
    NEAR_DELAY_S,
    RELAY_DELAY_S,
    RELAY_LINGER_S,
    RELAY_PATIENCE_S,
    WOKEN_RELAY_DELAY_S,
    Action,
    Around,
    AskRelay,
    DropRelay,
    MakeCall,
)
from clanmeshd.overlay.searching import is_hopeless


class Relaying:
    """The relay of one pair: none, asked, or ready. Adds to `actions`."""

    def __init__(self, node: NodeId, around: Around, actions: list[Action]) -> None:
        self.via: NodeId | None = None  # None beside an endpoint: the peer's choice, not known here by name
        self.endpoint: Endpoint | None = None  # where WireGuard is to send; None: not ready
        self.is_adopted = False  # the peer's choice
        self.wanted_s = inf  # when to ask one
        self._node = node
        self._around = around
        self._actions = actions
        self._shared: tuple[Endpoint, ...] = ()  # where the peer is to send
        self._until_s = inf  # of a question, or of a relay that is not needed any more
        self._call_s = inf
        self._calls = 0
        self._avoided: dict[NodeId, tuple[float, float]] = {}  # until when, and until when if there is no other

    @property
    def is_blocked(self) -> bool:
        """Whether nothing but a stream leaves this device."""
        return self._around.own.nat is NatKind.BLOCKED

    # --- asking -----------------------------------------------------------------------------------------

    def want(self, now_s: float, nat: NatKind, *, is_near: bool) -> None:
        """Ask one unless a direct path is found soon; at once where routers like the peer's, `nat`, allow none."""
        delay_s = RELAY_DELAY_S
        if is_hopeless(self._around.own.nat, nat):
            delay_s = NEAR_DELAY_S if is_near else 0.0
        self.wanted_s = min(self.wanted_s, now_s + delay_s)

    def want_soon(self, now_s: float) -> None:
        """The same where a packet waits."""
        self.wanted_s = min(self.wanted_s, now_s + WOKEN_RELAY_DELAY_S)

    def ask(self, via: NodeId, now_s: float) -> None:
        """Ask a member; also one that was asked before, when it must learn of another address."""
        self._clear()
        self.via, self._until_s = via, now_s + RELAY_PATIENCE_S
        self._actions.append(AskRelay(self._node, via, self.is_blocked))

    def renew(self, now_s: float) -> bool:
        """Ask for it in another way, or for another where nobody knows whose it is. False: there is none."""
        if self.via is None and self.endpoint is None:
            return False
        if self.via is not None:
            self.ask(self.via, now_s)
        else:
            self._clear()
            self.wanted_s = now_s
        return True

    def _choose(self, now_s: float) -> NodeId | None:
        """The nearest that is not avoided; the peer itself only where all else than a stream is hopeless."""
        able = [relay for relay in self._around.relays if self.is_blocked or relay.node != self._node]
        avoided = {relay.node: self._avoided.get(relay.node, (-inf, -inf)) for relay in able}
        good = [relay for relay in able if now_s >= avoided[relay.node][0]]
        if not good:
            good = [relay for relay in able if now_s >= avoided[relay.node][1]]
            again_s = [alone_s for until_s, alone_s in avoided.values() if alone_s < until_s]
            self.wanted_s = inf if good else min(again_s, default=inf)
        best = min(good, key=lambda relay: (relay.node != self._node, relay.rtt_s, relay.node), default=None)
        return best.node if best is not None else None

    def ready(self, via: NodeId, endpoint: Endpoint, shared: tuple[Endpoint, ...], now_s: float) -> bool:
        """A member relays. False: it is not asked any more, and was told so."""
        if via != self.via:
            self._give_back(via)
            return False
        self.endpoint, self._until_s = endpoint, inf
        if not self.is_adopted:
            self._shared, self._calls, self._call_s = shared, 0, now_s
        return True

    def adopt(self, candidates: Iterable[Candidate], *, yields: bool) -> Endpoint | None:
        """Take up the peer's choice, if this side has none that stands. Gives where to send by now."""
        endpoint = next((each.endpoint for each in candidates if each.kind == CandidateKind.RELAY), None)
        is_own = self.endpoint is not None and not self.is_adopted
        if endpoint is None or (is_own and not yields):
            return None
        via = next((relay.node for relay in self._around.relays if endpoint.ip in relay.ips), None)
        self.wanted_s = inf
        if (
            via is not None and via == self.via
        ):  # one port for the pair, whoever asks: there is nothing to ask anew
            if self.endpoint is None and not self.is_blocked:
                self.endpoint = endpoint
        elif (self.via, self.endpoint, self.is_adopted) != (via, endpoint, True):
            self._give_back(self.via)
            self._clear()
            self.via, self.is_adopted = via, True
            self.endpoint = None if self.is_blocked else endpoint
            if via is not None:
                self._actions.append(AskRelay(self._node, via, self.is_blocked))
        return self.endpoint

    # --- parting ----------------------------------------------------------------------------------------

    def linger(self, now_s: float) -> None:
        """A direct path has begun: keep it a little, for what the peer still sends."""
        self.wanted_s = self._call_s = inf
        if self.via is not None or self.endpoint is not None:
            self._until_s = now_s + RELAY_LINGER_S

    def keep(self) -> None:
        """It is needed after all."""
        self._until_s = inf

    def drop(self) -> None:
        """Give it back."""
        self._give_back(self.via)
        self._clear()
        self.wanted_s = inf

    def avoid(self, now_s: float, *, is_refused: bool) -> None:
        """It does not answer or does not want to; else it passes nothing on, which may be the peer's fault."""
        if self.via is not None:
            self._give_back(self.via)
            self._avoided.pop(self.via, None)
            until_s = now_s + AVOID_S
            self._avoided[self.via] = (until_s, until_s if is_refused else now_s + AVOID_ALONE_S)
            if len(self._avoided) > AVOIDED_MAX:
                del self._avoided[next(iter(self._avoided))]
        self._clear()
        self.wanted_s = now_s

    def _give_back(self, via: NodeId | None) -> None:
        if via is not None:
            self._actions.append(DropRelay(self._node, via))

    def _clear(self) -> None:
        self.via = self.endpoint = None
        self._shared, self.is_adopted = (), False
        self._until_s = self._call_s = inf

    # --- time -------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When `go_on` has something to do."""
        return min(self._until_s, self._call_s, self.wanted_s)

    def go_on(self, now_s: float, *, is_direct: bool, is_answered: bool) -> None:
        """Do what is due. `is_answered`: something came from the peer since the relay is used."""
        if now_s >= self._until_s:
            if self.endpoint is not None and is_direct:
                self.drop()
                self._actions.append(MakeCall(self._node, CallKind.BYE, ()))
            else:
                self.avoid(now_s, is_refused=True)
        if now_s >= self.wanted_s:
            self.wanted_s = inf
            via = self._choose(now_s) if self.via is None and not is_direct else None
            if via is not None:
                self.ask(via, now_s)
        if now_s >= self._call_s:
            self._tell(now_s, is_answered=is_answered)

    def _tell(self, now_s: float, *, is_answered: bool) -> None:
        if is_answered:
            self._call_s = inf
            return
        pause_s = CALL_PAUSES_S[self._calls] if self._calls < len(CALL_PAUSES_S) else inf
        self._calls, self._call_s = self._calls + 1, now_s + pause_s
        shared = tuple(Candidate(CandidateKind.RELAY, endpoint) for endpoint in self._shared)
        self._actions.append(MakeCall(self._node, CallKind.RELAY, shared))
