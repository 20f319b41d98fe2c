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

    def attribute(self, woken: list[NodeId]) -> None:
        """Those for somebody are for whom was just found to be sent to, if that is one alone."""
        now_s = trio.current_time()
        strays = self._fresh(None, now_s)
        self._packets.pop(None, None)
        if strays and len(woken) == 1:
            self._packets[woken[0]] = [*self._fresh(woken[0], now_s), *strays][-HELD_MAX:]

    def holds(self, node: NodeId) -> bool:
        """Whether something waits for a peer."""
        return bool(self._fresh(node, trio.current_time()))

    def send_on(self, node: NodeId, endpoint: Endpoint) -> None:
        """Send what waits for a peer there, some times: whoever gets it twice takes it once."""
        if endpoint not in (NOWHERE, self.endpoint) and self.holds(node):
            self._send(node, endpoint, 0)

    def next_deadline(self) -> float:
        """When `go_on` has something to do."""
        return min((due_s for due_s, *_ in self._again.values()), default=inf)

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
        fresh = [held for held in self._packets.pop(node, ()) if now_s < held[0] + HELD_S]
        if fresh:
            self._packets[node] = fresh
        return fresh
