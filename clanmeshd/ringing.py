"""What WireGuard wants to send to peers that sleep: it rings, is held until there is a way, and goes on there."""

from math import inf
from typing import Final

import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmeshd.steering_terms import NOWHERE, Bell, Prober, Way

HELD_S: Final = 4.5  # after five seconds WireGuard makes another handshake, and wants no answer to the former one
AGAIN_S: Final = (0.1, 0.2, 0.4, 0.8)  # until it is sent once more: a relay may not know the peer yet
HELD_MAX: Final = 8  # packets of one peer; more than the first few come again by themselves
ALIKE_MAX: Final = 4  # peers that one packet may be for: more are a crowd, which comes again by itself
STRAY_S: Final = 1.0  # that one waits which does not tell for whom it is
LOOKS_S: Final = (0.01, 0.03, 0.06)  # between looks at first: WireGuard counts a packet once it has sent it


class Ringing:
    """Bounded: some packets of each peer, and as many of which it is not known yet for whom they are.

    Without a bell nobody rings: it is looked each second whether something was sent.
    """

    def __init__(self, bell: Bell | None, prober: Prober) -> None:
        self.endpoint = bell.endpoint if bell is not None else None
        self._bell = bell
        self._prober = prober
        self._packets: dict[NodeId | None, list[tuple[float, bytes]]] = {}
        self._again: dict[NodeId, tuple[float, int, Endpoint]] = {}  # when, how often it was, and where
        self._woken: dict[NodeId, float] = {}  # those that were lately found to be sent to, and when
        self._look_s, self._looks = inf, 0  # when the counters are worth the next look, and how many were in vain

    @property
    def way(self) -> Way | None:
        """The way of a peer that sleeps."""
        return Way(self.endpoint, 0) if self.endpoint is not None else None

    def set_peers(self, nodes: dict[bytes, NodeId]) -> None:
        """Say who may be rung for, by WireGuard's public key."""
        if self._bell is not None:
            self._bell.set_peers(nodes)

    def hold(self, node: NodeId | None, packet: bytes) -> None:
        """Take a packet; None: for somebody."""
        now_s = trio.current_time()
        for each in list(self._packets):
            self._fresh(each, now_s)
        self._packets[node] = [*self._packets.get(node, ()), (now_s, packet)][-HELD_MAX:]
        if node is None:
            self._look_s = now_s

    def attribute(self, woken: list[NodeId]) -> list[NodeId]:
        """Those for somebody are for one of whom was just found to be sent to, or a moment ago. Gives who got any.

        Where nobody was just found, some more looks may tell. Of a few each gets them, and all but one drop them.
        """
        now_s = trio.current_time()
        lately = {node: at_s for node, at_s in self._woken.items() if now_s < at_s + STRAY_S}
        self._woken = lately | dict.fromkeys(woken, now_s)
        strays, self._look_s = self._fresh(None, now_s), inf
        if strays and not woken and self._looks < len(LOOKS_S):
            self._look_s, self._looks = now_s + LOOKS_S[self._looks], self._looks + 1
            return []
        found = list(self._woken)
        if strays and not found:
            return []
        self._looks = 0
        self._packets.pop(None, None)
        if not strays or len(found) > ALIKE_MAX:
            return []
        for node in found:
            self._packets[node] = [*self._fresh(node, now_s), *strays][-HELD_MAX:]
        return found

    def wants_look(self, now_s: float) -> bool:
        """Whether the counters may tell by now for whom something is: then `attribute` is to be called."""
        return now_s >= self._look_s

    def holds(self, node: NodeId) -> bool:
        """Whether something waits for a peer."""
        return bool(self._fresh(node, trio.current_time()))

    def send_on(self, node: NodeId, endpoint: Endpoint) -> None:
        """Send what waits for a peer there, some times: whoever gets it twice takes it once."""
        if endpoint not in (NOWHERE, self.endpoint) and self.holds(node):
            self._send(node, endpoint, 0)

    def next_deadline(self) -> float:
        """When `go_on` has something to do, or the counters are to be looked at."""
        return min([self._look_s, *(due_s for due_s, *_ in self._again.values())])

    def go_on(self, now_s: float) -> None:
        """Send once more what is due."""
        for node, (due_s, times, endpoint) in list(self._again.items()):
            if now_s >= due_s:
                self._send(node, endpoint, times)

    def _send(self, node: NodeId, endpoint: Endpoint, times: int) -> None:
        now_s = trio.current_time()
        self._again.pop(node, None)
        for _, packet in self._fresh(node, now_s):
            self._prober.send_on(packet, endpoint)
        if times < len(AGAIN_S):
            self._again[node] = (now_s + AGAIN_S[times], times + 1, endpoint)

    def _fresh(self, node: NodeId | None, now_s: float) -> list[tuple[float, bytes]]:
        until_s = HELD_S if node is not None else STRAY_S
        fresh = [held for held in self._packets.pop(node, ()) if now_s < held[0] + until_s]
        if fresh:
            self._packets[node] = fresh
        return fresh
