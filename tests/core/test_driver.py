"""The driver: what is announced is durable first; a disk that fails silences the device instead of lying."""

import os
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from clanmesh_protocol.control import Fault
from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmesh_protocol.keys import DeviceKeys, fingerprint_slot, make_device_keys
from clanmesh_protocol.messages import RecordFrame
from clanmesh_protocol.records import Credential, Kind, Record
from clanmesh_protocol.signing import read_untrusted, sign_record
from clanmeshd import driver as driving
from clanmeshd.core.mesh import Mesh
from clanmeshd.driver import INBOX_DATAGRAMS_MAX, Driver, instant
from clanmeshd.founding import found
from clanmeshd.net.strangers import JUNK_MAX, LET_THROUGH, Strangers
from clanmeshd.store import Store

NOW_UNIX_S = 1_800_000_000


class Wire:
    """Carries datagrams between drivers; keeps the order of what happened."""

    def __init__(self) -> None:
        self.drivers: dict[Endpoint, Driver] = {}
        self.ports: dict[Endpoint, Port] = {}
        self.happened: list[str] = []

    def port(self, own: Endpoint) -> "Port":
        port = self.ports[own] = Port(self, own)
        return port


def is_first(own: Endpoint) -> bool:
    """Whether it is the first of the pair, whose deeds are looked at."""
    return own == endpoint("192.0.2.1", 51871)


class Port:
    def __init__(self, wire: Wire, own: Endpoint) -> None:
        self.strangers = Strangers()
        self._wire = wire
        self._own = own

    def send(self, data: bytes, destination: Endpoint) -> None:
        self._wire.happened.append("send" if is_first(self._own) else "the other sends")
        receiver = self._wire.drivers.get(destination)
        if receiver is not None:
            trio.lowlevel.spawn_system_task(receiver.deliver, [(data, self._own)])


class WatchedStore(Store):
    def __init__(self, directory: Path, wire: Wire) -> None:
        super().__init__(directory)
        self._wire = wire
        self.failures = 0

    def append(self, records: Sequence[bytes]) -> None:
        if self.failures:
            self.failures -= 1
            self._wire.happened.append("full")
            raise OSError(28, "No space left on device")
        super().append(records)
        self._wire.happened.append("stored")


def _pair(tmp_path: Path, wire: Wire) -> list[tuple[Driver, WatchedStore, DeviceKeys]]:
    entropy = random.Random(1).randbytes
    keys = [make_device_keys(entropy, NOW_UNIX_S) for _ in range(2)]
    founded = found("family", "one", (), keys[0], entropy, NOW_UNIX_S)
    clan = founded.membership.clan
    second = sign_record(
        keys[0].identity_seed,
        clan,
        Credential(keys[1].node, "two", (), 0, None),
        kind=Kind.CREDENTIAL,
        slot=fingerprint_slot(keys[1].node),
        seq=(NOW_UNIX_S * 1000) << 16,
    )
    records = [*founded.records, read_untrusted(second, clan)]
    made = []
    for number, own in enumerate(keys):
        at = endpoint(f"192.0.2.{number + 1}", 51871)
        (tmp_path / str(number)).mkdir()
        store = WatchedStore(tmp_path / str(number), wire)
        mesh = Mesh(
            own,
            clan,
            records,
            rng=random.Random(number),
            entropy=os.urandom,
            now=instant(),
            control_port=51871,
            tunnel_port=51872,
        )
        mesh.set_endpoints([at], instant())
        driver = Driver(mesh, store, wire.port(at))
        wire.drivers[at] = driver
        made.append((driver, store, own))
    made[1][0].mesh.suggest(endpoint("192.0.2.1", 51871), instant())
    return made


@asynccontextmanager
async def _up(*drivers: Driver) -> AsyncIterator[None]:
    """They run, and have seen each other."""
    async with trio.open_nursery() as nursery:
        for driver in drivers:
            nursery.start_soon(driver.run)
        with trio.fail_after(30):
            while any(peer.state != "up" for driver in drivers for peer in driver.mesh.peers(instant())):
                await trio.sleep(0.05)
        yield
        nursery.cancel_scope.cancel()


async def _until_equal(one: Driver, two: Driver) -> None:
    with trio.fail_after(30):
        while one.mesh.ledger.root() != two.mesh.ledger.root():
            await trio.sleep(0.01)
    for driver in (one, two):
        await driver.settle()  # what the beginning brought is on disk


async def _until_heard(driver: Driver, record: Record) -> None:
    with trio.fail_after(30):
        while driver.mesh.ledger.get(*record.register) is None:
            await trio.sleep(0.01)


async def test_a_record_is_durable_before_it_is_sent(tmp_path: Path) -> None:
    wire = Wire()
    (one, store, _), (two, _, _) = _pair(tmp_path, wire)
    async with _up(one, two):
        await _until_equal(one, two)
        wire.happened.clear()
        published = one.mesh.withdraw(Kind.SECRET, "gone", instant())
        await one.settle()
        own = [what for what in wire.happened if what != "the other sends"]
        assert own[:2] == ["stored", "send"]
        assert published.data in store.load_records().records
        await _until_heard(two, published)


async def test_a_full_disk_silences_until_it_has_room(tmp_path: Path) -> None:
    wire = Wire()
    (one, store, _), (two, _, _) = _pair(tmp_path, wire)
    async with _up(one, two):
        await wait_all_tasks_blocked()
        store.failures = 1
        published = one.mesh.withdraw(Kind.SECRET, "gone", instant())
        before = len(wire.happened)
        await one.settle()
        own = wire.happened[before:]
        assert own.count("full") == 1
        assert published.data in store.load_records().records
        await _until_heard(two, published)


async def test_a_full_inbox_drops_and_counts(tmp_path: Path) -> None:
    wire = Wire()
    (one, _, _), _ = _pair(tmp_path, wire)
    noise = [(b"noise", endpoint("192.0.2.9", 1))] * 64
    for _ in range(INBOX_DATAGRAMS_MAX // 64 + 1):
        await one.deliver(noise)
    await one.deliver(noise[:3])
    assert one.inbox_dropped == 64 + 3


async def test_datagrams_of_one_moment_share_a_sync(tmp_path: Path) -> None:
    """Group commit: a node that is behind catches up, since its disk is asked once a turn, not once a record."""
    wire = Wire()
    (one, store, _), (two, _, keys) = _pair(tmp_path, wire)
    async with _up(one, two):
        await wait_all_tasks_blocked()
        wire.happened.clear()
        for number in range(20):
            two.mesh.withdraw(Kind.SECRET, f"gone{number}", instant())
        await two.settle()
        with trio.fail_after(20):
            while one.mesh.ledger.get(keys.node, Kind.SECRET, "gone19") is None:
                await trio.sleep(0.01)
        await one.settle()
        assert len(store.load_records().records) >= 20
        assert wire.happened.count("stored") <= 6  # two of them at least: one a side


async def test_a_cancelled_caller_loses_nothing(tmp_path: Path) -> None:
    """A stranger can have a join cut off while it settles: what the core wanted by then is stored all the same."""
    wire = Wire()
    (one, store, _), _ = _pair(tmp_path, wire)
    published = one.mesh.withdraw(Kind.SECRET, "gone", instant())
    with trio.CancelScope() as cut_off:
        cut_off.cancel()
        await one.settle()
    assert cut_off.cancelled_caught
    store.failures = 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.settle)
        with trio.fail_after(20):
            while one.disk_failure is None:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert not store.load_records().records
    await one.settle()
    assert published.data in store.load_records().records
    assert one.disk_failure is None


async def test_nobody_waits_for_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who types something is told why it is not done; it is done as soon as there is room."""
    wire = Wire()
    (one, store, _), _ = _pair(tmp_path, wire)
    await one.settle_soon()
    monkeypatch.setattr(driving, "PERSON_WAITS_S", 0.05)
    monkeypatch.setattr(driving, "DISK_RETRY_S", 0.01)
    store.failures = 1_000_000
    published = one.mesh.withdraw(Kind.SECRET, "gone", instant())
    with pytest.raises(Fault) as caught:
        await one.settle_soon()
    assert str(caught.value) == (
        f"this device: it can store nothing ({store.directory}: No space left on device); "
        "make room there, and it is done by itself"
    )
    with pytest.raises(Fault, match="and try again"):
        one.need_disk("make room there, and try again")
    store.failures = 0
    await one.settle()
    assert published.data in store.load_records().records
    one.need_disk("make room there")


async def test_a_turn_of_junk_settles_nothing_and_all_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire()
    (one, _, _), (two, _, _) = _pair(tmp_path, wire)
    settled: list[int] = []
    settle = one.settle

    async def counting() -> None:
        settled.append(one.mesh.counters["datagrams-received"])
        await settle()

    monkeypatch.setattr(one, "settle", counting)
    monkeypatch.setattr(one.mesh, "next_deadline", lambda: float("inf"))
    record = two.mesh._reception.own_record()
    assert record is not None
    hello = two.mesh._sessions.seal_hello(one.mesh.node, RecordFrame(record.data))
    assert hello is not None
    at = endpoint("192.0.2.9", 1234)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await wait_all_tasks_blocked()
        settled.clear()
        await one.deliver([(bytes([number]) * 100, at) for number in range(50)])
        await wait_all_tasks_blocked()
        assert one.mesh.counters["datagrams-received"] == 50
        assert settled == []
        await one.deliver([(bytes(100), at), (hello, at), (bytes(100), at)])
        await wait_all_tasks_blocked()
        assert settled
        nursery.cancel_scope.cancel()


async def test_who_sends_junk_is_blamed_and_a_member_never(tmp_path: Path) -> None:
    """Also where junk comes from its own address: whoever writes that on a datagram silences nobody."""
    wire = Wire()
    (one, _, _), (two, _, _) = _pair(tmp_path, wire)
    member, stranger = endpoint("192.0.2.2", 51871), endpoint("198.51.100.1", 1)
    async with _up(one, two):
        await one.deliver([(b"junk", at) for at in (member, stranger) for _ in range(JUNK_MAX)])
        await wait_all_tasks_blocked()
    strangers = wire.ports[endpoint("192.0.2.1", 51871)].strangers
    assert [strangers.lets_in(stranger.ip) for _ in range(LET_THROUGH)].count(True) == 1
    assert all(strangers.lets_in(member.ip) for _ in range(LET_THROUGH))
