"""The path engine: how each peer's packets go, as the peers, the probes and WireGuard's counters say. Pure.

It is told what happens, with the time (monotonic s), and gives actions, in their order. It knows no clock, no
socket, and no dice but those it is given. What it decides is one endpoint for each peer, which the overlay puts in
the place of the one that the peer's record names.

With more than `awake_max` peers those sleep that nothing has gone to or come from for a while, unless they are on
this network: no keepalive, no probes, no relay. WireGuard rings when it has something for one, and that wakes it,
as does a call of its, or a probe.
"""

from collections.abc import Mapping
from math import inf
from random import Random

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.signalling import Candidate, CandidateKind, NatKind
from clanmeshd.core.agenda import Agenda
from clanmeshd.core.effects import Called
from clanmeshd.overlay.path import PeerPath
from clanmeshd.overlay.path_terms import AWAKE_MAX, SLEEP_CHECK_S, Action, Around, Fellow, Own, Relay, Standing


class Paths:
    """All paths of one device. Every method that takes the time may change `actions` and `next_deadline`."""

    def __init__(self, own: Own, dice: Random, awake_max: int = AWAKE_MAX) -> None:
        self._around = Around(own, dice)
        self._awake_max = awake_max
        self._paths: dict[NodeId, PeerPath] = {}
        self._waiting: set[NodeId] = set()  # paths for which a look may be a verdict
        self._agenda: Agenda[NodeId] = Agenda()
        self._actions: list[Action] = []
        self._sleep_s = inf

    def actions(self) -> list[Action]:
        """Drain what is to be done."""
        actions, self._actions = self._actions, []
        return actions

    @property
    def own(self) -> Own:
        """Where this device is, as it was last told."""
        return self._around.own

    def standing(self, node: NodeId) -> Standing | None:
        """How it is with a peer, for people. None: it is none."""
        path = self._paths.get(node)
        return path.standing() if path is not None else None

    # --- who and where ----------------------------------------------------------------------------------

    def set_fellows(self, fellows: Mapping[NodeId, Fellow], now_s: float) -> None:
        """Say who the other members with a tunnel are: all of them."""
        for gone in self._paths.keys() - fellows.keys():
            self._agenda.drop(gone)
            self._waiting.discard(gone)
            left = self._paths.pop(gone)
            left.leave()
            self._actions += left.actions
        self._around.is_crowd = len(fellows) > self._awake_max
        for node in sorted(fellows):
            path = self._paths.get(node)
            if path is None:
                path = self._paths[node] = PeerPath(node, fellows[node], self._around, now_s)
                if self._around.is_crowd:
                    path.sleep()
                else:
                    path.begin(now_s)
            else:
                path.set_fellow(fellows[node], now_s)
            self._settle(path)
        self._sleep_s = min(self._sleep_s, now_s + SLEEP_CHECK_S) if self._around.is_crowd else inf

    def set_own(self, own: Own, now_s: float) -> None:
        """Say where this device is. Other addresses are a move; better candidates are worth another search."""
        before, self._around.own = self._around.own, own
        if own.ips != before.ips:
            self.moved(now_s)
        elif _worth_a_search(own) != _worth_a_search(before):
            has_ended = own.nat is NatKind.BLOCKED and before.nat is not NatKind.BLOCKED
            for path in self._paths.values():
                if has_ended:
                    path.udp_ended(now_s)
                if not path.is_settled:
                    path.search_again(now_s)
                self._settle(path)

    def set_relays(self, relays: tuple[Relay, ...], now_s: float) -> None:
        """Say which members relay, and are up."""
        before, self._around.relays = self._around.relays, relays
        for path in self._paths.values() if relays and not before else ():
            path.relays_came(now_s)
            self._settle(path)

    def moved(self, now_s: float) -> None:
        """This device is somewhere else, or has slept: whatever was proven is so no longer."""
        for path in self._paths.values():
            path.moved(now_s)
            self._settle(path)

    # --- what happens -----------------------------------------------------------------------------------

    def called(self, call: Called, now_s: float) -> None:
        """A peer called."""
        path = self._paths.get(call.caller)
        if path is not None:
            path.called(call.kind, call.nat, call.candidates, now_s)
            self._settle(path)

    def not_carried(self, node: NodeId) -> None:
        """There was nobody to take the last call to a peer."""
        if node in self._paths:
            self._paths[node].seeking.not_carried()

    def heard(self, node: NodeId, source: Endpoint, now_s: float) -> None:
        """A probe of a peer's came from somewhere; it may be a recording."""
        path = self._paths.get(node)
        if path is not None:
            path.heard(source, now_s)
            self._settle(path)

    def proven(self, node: NodeId, target: Endpoint, rtt_s: float, now_s: float) -> None:
        """A peer answered a probe of ours."""
        path = self._paths.get(node)
        if path is not None:
            path.proven(target, rtt_s, now_s)
            self._settle(path)

    def looked(self, now_s: float) -> None:
        """WireGuard's counters were looked at; those that changed are told to `counted` after this."""
        if now_s > self._around.looks_s[0]:
            self._around.looks_s = now_s, self._around.looks_s[0]
            for node in list(self._waiting):
                self._settle(self._paths[node])

    def counted(self, node: NodeId, sent: int, received: int, now_s: float) -> bool:
        """WireGuard has counted so many bytes to and from a peer. Say it each second while they change.

        True: it slept, and this woke it.
        """
        path = self._paths.get(node)
        if path is None:
            return False
        was_asleep = path.is_asleep
        path.counted(sent, received, now_s)
        self._settle(path)
        return was_asleep and not path.is_asleep

    def answers(self, node: NodeId, now_s: float) -> None:
        """A peer that was silent answers the core again: it may be reached without a relay, and carry calls."""
        for each in self._paths.values():
            if each.seeking.call_again(now_s):
                self._settle(each)
        path = self._paths.get(node)
        if path is not None and not path.is_direct:
            path.search_again(now_s)
            self._settle(path)

    def rang(self, node: NodeId, now_s: float) -> None:
        """WireGuard has something for a peer that sleeps."""
        path = self._paths.get(node)
        if path is not None:
            path.wake(now_s)
            self._settle(path)

    def relay_ready(
        self, node: NodeId, via: NodeId, endpoint: Endpoint, shared: tuple[Endpoint, ...], now_s: float
    ) -> None:
        """A member relays for a pair: WireGuard here sends to `endpoint`, the peer to one of `shared`."""
        path = self._paths.get(node)
        if path is not None:
            path.relay_ready(via, endpoint, shared, now_s)
            self._settle(path)

    def relay_failed(self, node: NodeId, via: NodeId, now_s: float) -> None:
        """A member does not relay for a pair, or no longer."""
        path = self._paths.get(node)
        if path is not None:
            path.relay_failed(via, now_s)
            self._settle(path)

    # --- time -------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When `handle_deadline` has something to do (monotonic s); infinity for never."""
        return min(self._agenda.next_s(), self._sleep_s)

    def handle_deadline(self, now_s: float) -> None:
        """Do what is due; a call before the time does nothing."""
        for node in self._agenda.pop_due(now_s):
            path = self._paths[node]
            path.handle_deadline(now_s)
            self._settle(path)
        if now_s >= self._sleep_s:
            self._sleep_s = now_s + SLEEP_CHECK_S
            for path in self._paths.values():
                if not path.is_asleep and path.may_sleep(now_s):
                    path.sleep()
                    self._settle(path)

    def _settle(self, path: PeerPath) -> None:
        self._actions += path.actions
        path.actions.clear()
        self._agenda.set(path.node, path.next_deadline())
        (self._waiting.add if path.is_waiting else self._waiting.discard)(path.node)


def _worth_a_search(own: Own) -> tuple[NatKind, frozenset[Candidate]]:
    # What is seen of a symmetric router's ports changes all the time, and helps nobody.
    is_hard = own.nat is NatKind.HARD
    useful = (each for each in own.candidates if not (is_hard and each.kind == CandidateKind.SEEN))
    return own.nat, frozenset(useful)
