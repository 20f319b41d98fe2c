"""The loop between the world and the core: datagrams and deadlines in, effects out, in their order.

One rule makes it safe: what the core wants stored is durable before anything that tells of it is sent. All
other slow effects are complete wanted states and go into latest-wins slots, so the loop never waits for the
kernel, for git or for a disk other than the state directory's.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol, assert_never

import trio

from clanmesh_protocol.control import Fault
from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import DeviceKeys, RecordId, exchange_public
from clanmeshd.core.authority import Authority
from clanmeshd.core.effects import (
    Announce,
    Called,
    Effect,
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
from clanmeshd.core.reception import Worth
from clanmeshd.events import Events
from clanmeshd.net.strangers import Strangers
from clanmeshd.reconcile import Latest
from clanmeshd.store import Store

INBOX_DATAGRAMS_MAX: Final = 4096  # 5 MB; the core takes as many in 0.2 s
TURN_DATAGRAMS_MAX: Final = 256  # 12 ms of signatures; what they want stored shares one sync
FETCHES_MAX: Final = 32  # waiting for a stream; the core asks again for what is lost
DISK_RETRY_S: Final = 2.0
PERSON_WAITS_S: Final = 3.0  # for what takes a disk milliseconds, and a clan a second at most
PROBLEM_KINDS: Final = frozenset({"equivocation", "clone", "fork"})  # what people should look into
TURN_S_MAX: Final = 3600.0  # so that a core with nothing to do has a finite deadline

log = logging.getLogger(__name__)

Batch = list[tuple[bytes, Endpoint]]


class DatagramSender(Protocol):
    """What the driver needs of the UDP port."""

    @property
    def strangers(self) -> Strangers:
        """Who is told where junk came from."""
        ...

    def send(self, data: bytes, destination: Endpoint) -> None:
        """Send once; never blocks and never fails."""
        ...


@dataclass(slots=True)
class Slots:
    """Where the wanted states lie for the adapters."""

    tunnels: Latest[SetTunnels] = field(default_factory=Latest)
    names: Latest[SetNames] = field(default_factory=Latest)
    secrets: Latest[SetSecrets] = field(default_factory=Latest)
    rollout: Latest[SetRollout] = field(default_factory=Latest)
    carriers: Latest[SetCarriers] = field(default_factory=Latest)


def instant() -> Instant:
    """Read both clocks: trio's (which tests replace) and the wall's."""
    return Instant(trio.current_time(), time.time())


class Driver:
    """Owns the core of one clan. Everything runs on the trio thread; only `Store` goes to a worker."""

    def __init__(self, mesh: Mesh, store: Store, port: DatagramSender) -> None:
        self.mesh = mesh
        self.slots = Slots()
        self.events = Events()
        self.inbox_dropped = 0
        self.disk_failure: str | None = None  # why nothing can be stored now
        self.on_authority: Callable[[Authority], None] = lambda authority: None  # hears of each change at once
        self.on_signal: Callable[[Called | Reflected], None] = lambda signal: None  # hears of each at once
        self.carry: Callable[[bytes, Endpoint], None] = lambda data, destination: None  # on a stream, or drops it
        self.news = trio.Event()  # set, and replaced, when records, who is up, or how this device is have changed
        self._authority = mesh.authority
        self._version = mesh.ledger.version
        self._own_state = (False, mesh.has_arrived)  # whether UDP passes, and what was missed is known
        self._store = store
        self._port = port
        self._inbox: deque[tuple[bytes, Endpoint]] = deque()
        self._nudge = trio.Event()
        self._fetch_send, self.fetches = trio.open_memory_channel[FetchRecords](FETCHES_MAX)
        self._performing = trio.Lock()
        self._pending: list[Effect] = []  # drained from the core, not performed yet

    @property
    def counters(self) -> dict[str, int]:
        """What became of datagrams before the core had them, by name."""
        return {"inbox-dropped": self.inbox_dropped, "muted": self._port.strangers.dropped}

    async def deliver(self, batch: Batch) -> None:
        """Take datagrams from the port, as `take` does."""
        self.take(batch)
        await trio.lowlevel.checkpoint()

    def take(self, batch: Batch) -> None:
        """Take datagrams; when the core is behind, they are dropped and counted."""
        taken = batch[: INBOX_DATAGRAMS_MAX - len(self._inbox)]
        self._inbox += taken
        self.inbox_dropped += len(batch) - len(taken)
        self._nudge.set()

    async def run(self) -> None:
        """Turn for ever."""
        while True:
            deadline = min(self.mesh.next_deadline(), trio.current_time() + TURN_S_MAX)
            with trio.move_on_at(deadline):
                await self._nudge.wait()
            is_junk = self._receive()
            now = instant()
            if now.monotonic_s >= self.mesh.next_deadline():
                self.mesh.handle_deadline(now)
            elif is_junk:
                await trio.lowlevel.checkpoint()
                continue
            await self.settle()

    def _receive(self) -> bool:
        """Take what has come. True: it was nobody's, all of it, which is most turns in a flood."""
        now, heard = instant(), not self._inbox
        for _ in range(min(len(self._inbox), TURN_DATAGRAMS_MAX)):
            data, source = self._inbox.popleft()
            worth = self.mesh.receive(data, source, now)
            if worth is Worth.PROVEN:
                self._port.strangers.prove(source.ip)
            elif worth is Worth.NOTHING:
                self._port.strangers.blame(source.ip)
            heard |= bool(worth)
        if not self._inbox:
            self._nudge = trio.Event()
        return not heard

    async def settle(self) -> None:
        """Perform what the core wants by now. When this returns, what was published before is durable and sent.

        A caller that is cancelled meanwhile (a join that takes too long, a fetch) loses nothing of what is not its
        own: the next turn goes on where it stopped.
        """
        async with self._performing:
            self._pending += self.mesh.effects()
            await self._make_durable(self._pending)
            performing, self._pending = self._pending, []
            for effect in performing:
                self._perform(effect)
        if self.mesh.authority is not self._authority:
            self._authority = self.mesh.authority
            self.on_authority(self._authority)
        own_state = (self.mesh.is_blocked, self.mesh.has_arrived)
        changed = self.mesh.ledger.version != self._version or own_state != self._own_state
        if changed or any(isinstance(effect, Announce) for effect in performing):
            self._version, self._own_state = self.mesh.ledger.version, own_state
            self._tell_news()
        self.wake()

    async def settle_soon(self) -> None:
        """`settle`, for a person who waits. Raises Fault where nothing can be stored: it is done once that can."""
        while True:
            with trio.move_on_after(PERSON_WAITS_S):
                await self.settle()
                return
            self.need_disk("make room there, and it is done by itself")

    def need_disk(self, remedy: str) -> None:
        """Raises Fault where nothing can be stored now."""
        if self.disk_failure is not None:
            raise Fault("failed", "this device", f"it can store nothing ({self.disk_failure})", remedy)

    async def quiet(self, news: trio.Event, within_s: float, pause_s: float) -> None:
        """Wait for the news, or so long; then a pause, since news come in bursts.

        Take `news` from the driver before you look at what it tells of.
        """
        with trio.move_on_after(within_s):
            await news.wait()
        await trio.sleep(pause_s)

    def _tell_news(self) -> None:
        self.news.set()
        self.news = trio.Event()

    async def tunnels_applied(self, wanted: SetTunnels) -> None:
        """The overlay is as wanted: a new private key is in use."""
        self.mesh.tunnel_key_applied(exchange_public(wanted.private_key), instant())
        await self.settle()

    def wake(self) -> None:
        """Have the loop look again: a caller may have moved the next deadline nearer than its timer."""
        if self._nudge.statistics().tasks_waiting:
            self._nudge.set()

    async def _make_durable(self, effects: list[Effect]) -> None:
        records = [effect.record.value.data for effect in effects if isinstance(effect, StoreRecord)]
        keys = [effect.keys for effect in effects if isinstance(effect, StoreKeys)]
        anchors = [effect.operation for effect in effects if isinstance(effect, StoreAnchor)]
        if not records and not keys and not anchors:
            return
        await self._patiently(lambda: self._write(records, keys, anchors))
        if self._store.wants_compaction(len(self.mesh.ledger)):
            live = [record.data for record in self.mesh.ledger.records()]
            await self._patiently(lambda: self._store.compact(live))

    def _write(self, records: list[bytes], keys: list[DeviceKeys], anchors: list[RecordId]) -> None:
        if keys:
            self._store.save_keys(keys[-1])
        if records:
            self._store.append(records)
        if anchors:
            self._store.save_anchor(anchors[-1])  # behind the records: it names one of them

    async def _patiently(self, write: Callable[[], None]) -> None:
        # With a full or failing disk nothing is sent until it is stored: we would announce what we forget.
        while True:
            try:
                await trio.to_thread.run_sync(write)
            except OSError as error:
                why = f"{self._store.directory}: {error.strerror or error}"
                if self.disk_failure is None:
                    log.error("state: %s; free some room: this device says nothing until it can store", why)
                self.disk_failure = why
                await trio.sleep(DISK_RETRY_S)
            else:
                self.disk_failure = None
                return

    def _perform(self, effect: Effect) -> None:
        match effect:
            case SendDatagram(data=data, destination=destination):
                send = self.carry if is_carried(destination) else self._port.send
                send(data, destination)
            case StoreRecord() | StoreKeys() | StoreAnchor():
                return
            case FetchRecords():
                self._request_fetch(effect)
            case SetTunnels():
                self.slots.tunnels.put(effect)
            case SetNames():
                self.slots.names.put(effect)
            case SetSecrets():
                self.slots.secrets.put(effect)
            case SetRollout():
                self.slots.rollout.put(effect)
            case SetCarriers():
                self.slots.carriers.put(effect)
            case Announce():
                self.events.add(effect.kind, effect.text, effect.node, is_problem=effect.kind in PROBLEM_KINDS)
                log.info("%s: %s", effect.kind, effect.text)
            case Called() | Reflected():
                self.on_signal(effect)
            case _:
                assert_never(effect)

    def _request_fetch(self, effect: FetchRecords) -> None:
        try:
            self._fetch_send.send_nowait(effect)
        except trio.WouldBlock:
            log.debug("too many fetches wait; the core will ask again")
