"""A clan of whole cores on one heap of events: no socket, no clock, every fault from one seed.

The world carries datagrams with latency, loss, duplication and (since latencies differ) reordering; it cuts links
one way or both, pauses devices, kills them and starts them again from what they had stored. Every event goes into
a hash, so that two runs of one seed can be shown to be one and the same.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from random import Random
from struct import Struct
from typing import NamedTuple

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import DeviceKeys, NodeId, RecordId
from clanmesh_protocol.messages import Seal
from clanmesh_protocol.records import Kind, Record
from clanmesh_protocol.signing import Verified
from clanmeshd.core.effects import (
    Announce,
    Called,
    FetchRecords,
    Instant,
    Reflected,
    SendDatagram,
    SetCarriers,
    SetNames,
    SetRollout,
    SetSecrets,
    SetTunnels,
    StoreAnchor,
    StoreKeys,
    StoreRecord,
)
from clanmeshd.core.mesh import Mesh
from clanmeshd.core.paths import is_carried
from tests.core.worlds import Clan, endpoint_of, found, instant, make_mesh, status
from tests.sim.streams import Streams

_SENT = Struct("<iidi")  # a datagram in the trace, before its bytes: from, to, when, length
IP_UDP_BYTES = 28  # of an IPv4 header and UDP's
OVERHEARD = 200  # datagrams that can be sent again
STREAM_S = 0.01  # a stream opened, used and closed
TURNS_WITHOUT_TIME_MAX = 64  # a core that asks for more at one moment is in a busy loop


@dataclass
class Device:
    """One machine: what runs on it, and what its disk holds."""

    index: int
    keys: DeviceKeys
    disk: list[Verified[Record]]
    at: Endpoint
    mesh: Mesh | None = None
    anchor: RecordId | None = None  # on its disk too
    run: int = 0  # counts starts
    wake: int = 0  # the valid wake-up's number
    wake_s: float = inf  # when that is
    wall_offset_s: float = 0.0
    paused_until_s: float = 0.0
    waiting: list[tuple[bytes, Endpoint]] = field(default_factory=list)  # in the socket's buffer while paused
    bytes_sent: int = 0
    datagrams_sent: int = 0
    turns: tuple[float, int] = (0.0, 0)
    serves: bool = True  # records that others fetch over a stream
    states: dict[str, list[tuple[float, object]]] = field(default_factory=dict)
    events: list[tuple[float, Announce]] = field(default_factory=list)
    calls: list[tuple[float, Called]] = field(default_factory=list)

    @property
    def node(self) -> NodeId:
        """Its identity."""
        return self.keys.node


class Disk(NamedTuple):
    """A copy of what a device has stored."""

    records: tuple[Verified[Record], ...]
    keys: DeviceKeys
    anchor: RecordId | None


class World:
    """Devices 0 to n-1 at 10.0.0.1 and up. All are started within the first `stagger_s`, if it `begins`."""

    def __init__(
        self,
        size: int,
        seed: int,
        *,
        loss: float = 0.0,
        duplication: float = 0.0,
        latency_s: tuple[float, float] = (0.0005, 0.003),
        stagger_s: float = 0.5,
        clan: Clan | None = None,
        begins: bool = True,
    ) -> None:
        self.seed = seed
        self.loss = loss
        self.duplication = duplication
        self.latency_s = latency_s
        self.now_s = 0.0
        self.clan = clan or found(size, seed)
        self.cut: set[tuple[int, int]] = set()  # (from, to) that nothing passes
        self.blocked: set[int] = set()  # devices that no UDP leaves or reaches
        self.shut: set[int] = set()  # devices that no stream reaches, though they may open some
        self.streams = Streams(self)
        self.devices = [
            Device(index, self.clan.keys[index], list(self.clan.records), endpoint_of(index))
            for index in range(size)
        ]
        self.delivered = 0
        self.overheard: deque[bytes] = deque(maxlen=OVERHEARD)  # by whoever listens on the way
        self._rng = Random(f"world {seed}")
        self._trace = blake2b(digest_size=16)
        self._numbers = count()
        self._heap: list[tuple[float, int, Callable[[], object]]] = []
        self._by_ip = {endpoint_of(index).ip: index for index in range(size)}
        for index in range(size) if begins else ():
            self.at(self._rng.uniform(0, stagger_s) if index else 0.0, partial(self.start, index))

    # --- running ------------------------------------------------------------------------------------------

    def at(self, when_s: float, action: Callable[[], object]) -> None:
        """Do something at a moment."""
        heappush(self._heap, (when_s, next(self._numbers), action))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.run_until(lambda: False, seconds)

    def run_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Let time pass until a condition holds, looked at ten times a second; say whether it did in time."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            if condition():
                return True
            self._run_to(min(end_s, self.now_s + 0.1))
        return condition()

    def _run_to(self, end_s: float) -> None:
        while self._heap and self._heap[0][0] <= end_s:
            self.now_s, _, action = heappop(self._heap)
            action()
        self.now_s = end_s

    def sleep(self, seconds: float) -> None:
        """Suspend everything at once: time passes, and what was due meanwhile is due now."""
        self.now_s += seconds
        self._heap = [(max(when_s, self.now_s), number, action) for when_s, number, action in self._heap]
        heapify(self._heap)

    def trace(self) -> str:
        """A hash over everything that happened."""
        return self._trace.hexdigest()

    def _note(self, *parts: object) -> None:
        self._trace.update(repr(parts).encode())

    # --- devices ------------------------------------------------------------------------------------------

    def start(self, index: int, *, wall_offset_s: float | None = None) -> Mesh:
        """Start a device from what is on its disk."""
        device = self.devices[index]
        device.run += 1
        if wall_offset_s is not None:
            device.wall_offset_s = wall_offset_s
        self._note("start", index, self.now_s)
        device.mesh = make_mesh(
            self.clan,
            index,
            seed=hash_of(self.seed, device.run),
            now=self.clock(device),
            records=tuple(device.disk),
            keys=device.keys,
            anchor=device.anchor,
        )
        device.mesh.set_endpoints([device.at], self.clock(device))
        device.mesh.set_status(status(), self.clock(device))
        self._introduce(device)
        self._settle(device)
        return device.mesh

    def _introduce(self, device: Device) -> None:
        """Let a device that knows nobody's address hear of device 0, as by mDNS, which says it again and again."""
        mesh = device.mesh
        if (
            mesh is not None
            and device.index
            and not any(entry.value.author != device.node for entry in mesh.ledger.of_kind(Kind.NODE))
        ):
            mesh.suggest(endpoint_of(0), self.clock(device))

    def kill(self, index: int) -> None:
        """Cut a device's power. What it stored stays."""
        self.devices[index].mesh = None
        self.devices[index].waiting.clear()
        self.streams.ended(index)
        self._note("kill", index, self.now_s)

    def snapshot(self, index: int) -> Disk:
        """Copy what is on a device's disk."""
        device = self.devices[index]
        return Disk(tuple(device.disk), device.keys, device.anchor)

    def restore(self, index: int, disk: Disk) -> None:
        """Put a copy back. The device does not run."""
        device = self.devices[index]
        device.disk, device.keys, device.anchor = list(disk.records), disk.keys, disk.anchor
        self._note("restore", index, self.now_s)

    def pause(self, index: int, seconds: float) -> None:
        """Suspend a device; datagrams wait for it in its socket."""
        self.devices[index].paused_until_s = self.now_s + seconds
        self.at(self.now_s + seconds, lambda: self._resume(index))

    def _resume(self, index: int) -> None:
        device = self.devices[index]
        waiting, device.waiting = device.waiting, []
        for data, source in waiting:
            self._receive(device, data, source)
        self._wake(device, device.wake)

    def mesh(self, index: int) -> Mesh:
        """The core of a device that runs."""
        mesh = self.devices[index].mesh
        assert mesh is not None
        return mesh

    def clock(self, device: Device) -> Instant:
        """What a device's clocks show."""
        return instant(self.now_s, device.wall_offset_s)

    def now(self, index: int = 0) -> Instant:
        """What the n-th device's clocks show."""
        return self.clock(self.devices[index])

    @property
    def stopped(self) -> list[int]:
        """Those that do not run."""
        return [device.index for device in self.devices if device.mesh is None]

    @property
    def alive(self) -> list[int]:
        """Those that run."""
        return [device.index for device in self.devices if device.mesh is not None]

    def settle(self, index: int) -> None:
        """Perform what a core wants after it was called from outside."""
        self._settle(self.devices[index])

    def move(self, index: int, endpoint: Endpoint) -> None:
        """Give a device another address; it notices, and its old one is nobody's."""
        self._by_ip = {ip: other for ip, other in self._by_ip.items() if other != index}
        self._by_ip[endpoint.ip] = index
        self.devices[index].at = endpoint
        self.mesh(index).set_endpoints([endpoint], self.now(index))
        self.settle(index)

    # --- links --------------------------------------------------------------------------------------------

    def partition(self, *groups: Iterable[int]) -> None:
        """Let only those of one group reach each other."""
        side = {index: number for number, group in enumerate(groups) for index in group}
        everyone = [(a, b) for a in side for b in side]
        self.cut = {(a, b) for a, b in everyone if side[a] != side[b]}

    def heal(self) -> None:
        """Let everybody reach everybody."""
        self.cut = set()
        for device in self.devices:
            self._introduce(device)
            self._settle(device)

    # --- what cores want ----------------------------------------------------------------------------------

    def _settle(self, device: Device) -> None:
        mesh = device.mesh
        if mesh is None:
            return
        stored_all = False
        for effect in mesh.effects():
            match effect:
                case SendDatagram(data=data, destination=destination):
                    stored_all = True
                    self._send(device, data, destination)
                case StoreRecord(record=record):
                    assert not stored_all, "what must be durable stands in front"
                    device.disk.append(record)
                case StoreKeys(keys=keys):
                    assert not stored_all, "what must be durable stands in front"
                    device.keys = keys
                case StoreAnchor(operation=operation):
                    assert not stored_all, "what must be durable stands in front"
                    device.anchor = operation
                case SetCarriers():
                    self.streams.want(device, effect)
                case FetchRecords(peer=peer, ids=ids):
                    stored_all = True
                    self._fetch(device, peer, ids)
                case SetTunnels() | SetNames() | SetSecrets() | SetRollout() | Reflected():
                    device.states.setdefault(type(effect).__name__, []).append((self.now_s, effect))
                case Announce():
                    device.events.append((self.now_s, effect))
                case Called():
                    device.calls.append((self.now_s, effect))
        self._schedule(device)

    def _schedule(self, device: Device) -> None:
        assert device.mesh is not None
        due_s = max(device.mesh.next_deadline(), self.now_s)
        if due_s < device.wake_s:  # a wake-up that comes too early looks again: most deadlines only move away
            device.wake, device.wake_s = device.wake + 1, due_s
            self.at(due_s, partial(self._wake, device, device.wake))

    def _wake(self, device: Device, number: int) -> None:
        mesh = device.mesh
        if number != device.wake:
            return
        device.wake_s = inf
        if mesh is None or self.now_s < device.paused_until_s:
            return
        moment, turns = device.turns
        device.turns = (self.now_s, turns + 1 if moment == self.now_s else 1)
        assert device.turns[1] <= TURNS_WITHOUT_TIME_MAX, "a busy loop"
        if mesh.next_deadline() > self.now_s:
            self._schedule(device)
            return
        self._note("wake", device.index, self.now_s)
        mesh.handle_deadline(self.clock(device))
        assert mesh.next_deadline() > self.now_s, "a deadline is dealt with when it was handled"
        self._settle(device)

    def _send(self, device: Device, data: bytes, destination: Endpoint) -> None:
        if is_carried(destination):
            self.streams.send(device, data, destination)
            return
        device.bytes_sent += len(data) + IP_UDP_BYTES
        device.datagrams_sent += 1
        target = self._by_ip.get(destination.ip)
        self._trace.update(
            _SENT.pack(device.index, -1 if target is None else target, self.now_s, len(data)) + data
        )
        self.overheard.append(data)
        if target is None or (device.index, target) in self.cut or self.blocked & {device.index, target}:
            return
        arrive = partial(self._receive, self.devices[target], data, device.at)
        copies = 1 + (self._rng.random() < self.duplication)
        for _ in range(copies):
            if self._rng.random() >= self.loss:
                self.at(self.now_s + self._rng.uniform(*self.latency_s), arrive)

    def inject(self, data: bytes, source: Endpoint, target: int) -> None:
        """Bring a datagram that no core has asked for, from any address that whoever sends it likes to write."""
        self._note("inject", target, self.now_s, data)
        self.at(self.now_s + self.latency_s[0], partial(self._receive, self.devices[target], data, source))

    def deliver(self, index: int, data: bytes, source: Endpoint) -> None:
        """Bring a datagram to a device."""
        self._receive(self.devices[index], data, source)

    def _receive(self, device: Device, data: bytes, source: Endpoint) -> None:
        if device.mesh is None:
            return
        if self.now_s < device.paused_until_s:
            if len(device.waiting) < 200:
                device.waiting.append((data, source))
            return
        self.delivered += 1
        device.mesh.receive(data, source, self.clock(device))
        self._settle(device)

    def _fetch(self, device: Device, peer: NodeId, ids: tuple[bytes, ...]) -> None:
        other = next(d for d in self.devices if d.node == peer)
        run = device.run

        def serve() -> None:
            blocked = {(device.index, other.index), (other.index, device.index)} & self.cut
            if other.mesh is None or not other.serves or device.mesh is None or device.run != run or blocked:
                return
            for short_id in ids:
                record = other.mesh.ledger.by_short_id(short_id)
                if record is not None:
                    device.mesh.receive_record(record.data, peer, self.clock(device))
            self._settle(device)

        self.at(self.now_s + STREAM_S, serve)

    # --- asking -------------------------------------------------------------------------------------------

    def state(self, observer: int, subject: int) -> str:
        """One device's opinion of another."""
        node = self.devices[subject].node
        return next(peer.state for peer in self.mesh(observer).peers(self.now(observer)) if peer.node == node)

    def all_up(self, among: Iterable[int] | None = None) -> bool:
        """Whether each of some devices (default: all that run) sees each other one up."""
        group = list(self.alive if among is None else among)
        wanted = {self.devices[index].node for index in group}
        return all(
            wanted <= {peer.node for peer in self.mesh(index).peers(self.now(index)) if peer.state == "up"}
            for index in group
            if self.devices[index].mesh is not None
        ) and all(self.devices[index].mesh is not None for index in group)

    def roots_equal(self, among: Iterable[int] | None = None) -> bool:
        """Whether some devices hold the same record set."""
        return len({self.mesh(index).ledger.root() for index in (self.alive if among is None else among)}) <= 1

    def holds(self, index: int, record: Record) -> bool:
        """Whether a device has a record."""
        return self.mesh(index).ledger.known(record.id)


def hash_of(*parts: int) -> int:
    """One seed out of several numbers."""
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=6).digest(), "big")


def is_hello(data: bytes) -> bool:
    """Whether a datagram is a hello."""
    return data[2] == Seal.HELLO
