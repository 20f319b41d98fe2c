"""How records spread in large clans, without what makes a device expensive: cryptography, ledger, sessions.

Only the parts that decide who is given and told what, of a thousand devices on one heap: so there can be enough
records to speak of the slowest of a hundred. What a whole core makes of them is `bench.sim_scale`'s.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import inf
from random import Random

from clanmesh_protocol.keys import NodeId, RecordId
from clanmesh_protocol.records import Kind, Record
from clanmeshd.core.dissemination import Dissemination, short_id_of
from clanmeshd.core.wants import Asked, Wants
from tests.core.worlds import START_SEQ

STREAM_S = 0.01  # a stream opened, used and closed
PING_S = 1.0
WATCHED = 5


@dataclass
class Device:
    """What is left of one."""

    node: NodeId
    up: tuple[NodeId, ...]  # all others
    dissemination: Dissemination
    wants: Wants = field(default_factory=Wants)
    has: set[bytes] = field(default_factory=set)  # short ids
    wake: int = 0  # the valid wake-up's number


class Wave:
    """A clan in which all see one another. `sends` counts by short id how often each record went out whole."""

    def __init__(
        self, size: int, seed: int, *, loss: float, latency_s: tuple[float, float] = (0.0005, 0.003)
    ) -> None:
        self.loss = loss
        self.latency_s = latency_s
        self.now_s = 0.0
        self.sends: Counter[bytes] = Counter()
        self.told = 0  # ids in datagrams of their own
        self._rng = Random(f"wave {seed}")
        self.nodes = sorted(NodeId(self._rng.randbytes(32)) for _ in range(size))
        self._devices = {
            node: Device(
                node,
                tuple(other for other in self.nodes if other != node),
                Dissemination(node, Random(f"{seed} {at}")),
            )
            for at, node in enumerate(self.nodes)
        }
        self._records: dict[bytes, Record] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        for device in self._devices.values():
            self._at(self._rng.uniform(0, PING_S), partial(self._ping, device))

    def publish(self, patience_s: float) -> tuple[Record, float]:
        """Let some device say something new; after how many seconds the last one had it; infinity: not in time."""
        author = self._devices[self._rng.choice(self.nodes)]
        number = len(self._records)
        identity = RecordId(self._rng.randbytes(32))
        record = Record(b"", identity, author.node, Kind.SECRET, f"s{number}", START_SEQ, 0, None, 0, 0)
        began_s, short_id = self.now_s, short_id_of(record)
        self._records[short_id] = record
        self._take(author, short_id, None)
        while any(short_id not in device.has for device in self._devices.values()):
            if self.now_s >= began_s + patience_s:
                return record, inf
            self._step()
        return record, self.now_s - began_s

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end_s = self.now_s + seconds
        while self._heap[0][0] <= end_s:
            self._step()
        self.now_s = end_s

    def _step(self) -> None:
        self.now_s, _, action = heappop(self._heap)
        action()

    def _at(self, when_s: float, action: Callable[[], None]) -> None:
        heappush(self._heap, (when_s, next(self._numbers), action))

    def _send(self, target: NodeId, hear: Callable[[Device], None]) -> None:
        if self._rng.random() >= self.loss:
            device = self._devices[target]
            self._at(self.now_s + self._rng.uniform(*self.latency_s), lambda: self._hear(device, hear))

    def _hear(self, device: Device, hear: Callable[[Device], None]) -> None:
        hear(device)
        self._schedule(device)

    def _schedule(self, device: Device) -> None:
        device.wake += 1
        due_s = min(device.dissemination.next_deadline(), device.wants.next_deadline())
        if due_s < inf:
            self._at(max(due_s, self.now_s), partial(self._wake, device, device.wake))

    def _wake(self, device: Device, number: int) -> None:
        if number != device.wake:
            return
        for node, short_id in device.dissemination.handle_deadline(device.up, self.now_s):
            self.told += 1
            self._tell(device, node, short_id)
        ask, fetch = device.wants.handle_deadline(self.now_s)
        self._ask(device, ask)
        for node, ids in fetch.items():
            for short_id in ids:
                self._at(self.now_s + STREAM_S, partial(self._hear, device, partial(self._given, short_id, node)))
        self._schedule(device)

    def _ping(self, device: Device) -> None:
        at = self.nodes.index(device.node)
        target = self.nodes[(at + self._rng.randrange(1, WATCHED + 1) * 7) % len(self.nodes)]
        for short_id in device.dissemination.names_for(target, self.now_s) if target != device.node else ():
            self._tell(device, target, short_id)
        self._at(self.now_s + PING_S, partial(self._ping, device))

    # --- what a datagram does -----------------------------------------------------------------------------

    def _push(self, device: Device, target: NodeId, short_id: bytes) -> None:
        self.sends[short_id] += 1
        self._send(target, partial(self._given, short_id, device.node))

    def _given(self, short_id: bytes, source: NodeId, device: Device) -> None:
        device.wants.arrived(short_id)
        device.dissemination.held_by(short_id, source)
        if short_id not in device.has:
            self._take(device, short_id, source)

    def _take(self, device: Device, short_id: bytes, source: NodeId | None) -> None:
        device.has.add(short_id)
        for node in device.dissemination.spread(self._records[short_id], source, device.up, self.now_s):
            self._push(device, node, short_id)
        self._schedule(device)

    def _tell(self, device: Device, target: NodeId, short_id: bytes) -> None:
        self._send(target, partial(self._told, short_id, device.node))

    def _told(self, short_id: bytes, source: NodeId, device: Device) -> None:
        device.dissemination.held_by(short_id, source)
        self._ask(
            device, {source: device.wants.advertised(source, [short_id], device.has.__contains__, self.now_s)}
        )

    def _ask(self, device: Device, asked: Asked) -> None:
        for target, ids in asked.items():
            for short_id in ids:
                self._send(target, partial(self._asked, short_id, device.node))

    def _asked(self, short_id: bytes, asker: NodeId, device: Device) -> None:
        if short_id in device.has:
            self._push(device, asker, short_id)
