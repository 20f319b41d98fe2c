"""The UDP port on loopback: both families, batches, floods, and faults that are counted instead of raised."""

import itertools
import os
import socket

import pytest
import trio

from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmesh_protocol.limits import DATAGRAM_BYTES_MAX
from clanmeshd.net import udp
from clanmeshd.net.pace import Allowance
from clanmeshd.net.ports import PortInUse
from clanmeshd.net.strangers import JUNK_MAX, LET_THROUGH
from clanmeshd.net.udp import (
    BATCH_DATAGRAMS_MAX,
    COPIES_KEPT,
    FLOOD_BATCHES_MAX,
    FLOOD_PAUSE_S,
    FLOOD_PAUSE_SHORT_S,
    PROMPT_TURNS_MAX,
    RECEIVE_BUFFER_BYTES,
    Batch,
    Copies,
    DatagramPort,
)

BOUND_S = 20.0


class Inbox:
    """Collects batches until there are enough datagrams."""

    def __init__(self, wanted: int) -> None:
        self.batches: list[Batch] = []
        self.enough = trio.Event()
        self._wanted = wanted

    async def deliver(self, batch: Batch) -> None:
        await trio.lowlevel.checkpoint()
        self.batches.append(batch)
        if len(self.datagrams) >= self._wanted:
            self.enough.set()

    @property
    def datagrams(self) -> Batch:
        return [each for batch in self.batches for each in batch]


async def _receive(port: DatagramPort, wanted: int) -> Inbox:
    inbox = Inbox(wanted)
    with trio.fail_after(BOUND_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(port.run, inbox.deliver)
            await inbox.enough.wait()
            nursery.cancel_scope.cancel()
    return inbox


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_datagram_arrives_with_its_source_in_its_own_family(host: str) -> None:
    with DatagramPort.open(0) as here, DatagramPort.open(0) as there:
        here.send(b"hello", endpoint(host, there.port))
        inbox = await _receive(there, 1)
        assert inbox.datagrams == [(b"hello", endpoint(host, here.port))]
        there.send(b"answer", inbox.datagrams[0][1])
        assert (await _receive(here, 1)).datagrams == [(b"answer", endpoint(host, there.port))]


async def test_what_waited_comes_in_full_batches_and_in_order() -> None:
    with DatagramPort.open(0) as port, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        count = 2 * BATCH_DATAGRAMS_MAX * FLOOD_BATCHES_MAX + 1
        for number in range(count):
            sender.sendto(number.to_bytes(4, "big"), ("127.0.0.1", port.port))
        inbox = await _receive(port, count)
    assert [data for data, _ in inbox.datagrams] == [number.to_bytes(4, "big") for number in range(count)]
    assert [len(batch) for batch in inbox.batches] == [BATCH_DATAGRAMS_MAX] * (count // BATCH_DATAGRAMS_MAX) + [1]


def _say(sender: socket.socket, port: DatagramPort, *data: bytes) -> None:
    for each in data:
        sender.sendto(each, ("127.0.0.1", port.port))


def _numbers(first: int, count: int) -> list[bytes]:
    return [number.to_bytes(4, "big") for number in range(first, first + count)]


async def test_few_are_read_at_once_and_a_flood_in_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each datagram is sent when the one before has come: without pauses there are as many reads as datagrams."""
    monkeypatch.setattr(udp, "PROMPT_TURNS_PER_S", 0.0)
    inbox, prompt, paused = Inbox(1_000_000), int(PROMPT_TURNS_MAX), 10
    with DatagramPort.open(0) as port, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(port.run, inbox.deliver)
            times = []
            with trio.fail_after(BOUND_S):
                for number in range(prompt + 1 + paused):
                    times.append(trio.current_time())
                    _say(sender, port, *_numbers(number * 8, 2))
                    while len(inbox.datagrams) < (number + 1) * 2:
                        await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    pauses = [after - before for before, after in itertools.pairwise(times)]
    pause_s = min(FLOOD_PAUSE_S, FLOOD_PAUSE_SHORT_S)
    # But for one that began while the machine stood still, and was over when it went on.
    assert sorted(pauses[prompt + 1 :])[1] >= pause_s / 2
    assert sorted(pauses[:prompt])[prompt // 2] < pause_s / 2


@pytest.mark.parametrize(("many", "enough"), [("TURNS", 1.0), ("DATAGRAMS", 2.0)])
async def test_copies_are_dropped_in_a_flood_alone(
    monkeypatch: pytest.MonkeyPatch, many: str, enough: float
) -> None:
    """Which is many turns, or many datagrams in few turns of one who is slow."""
    monkeypatch.setattr(udp, f"PROMPT_{many}_PER_S", 0.0)
    monkeypatch.setattr(udp, f"PROMPT_{many}_MAX", enough)
    with DatagramPort.open(0) as port, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        inbox = Inbox(1_000_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(port.run, inbox.deliver)
            with trio.fail_after(BOUND_S):
                for wanted, said in ((2, [b"a", b"a"]), (3, [b"b"]), (4, [b"c", b"c", b"c"]), (5, [b"c", b"d"])):
                    _say(sender, port, *said)
                    while len(inbox.datagrams) < wanted:
                        await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert [data for data, _ in inbox.datagrams] == [b"a", b"a", b"b", b"c", b"d"]
    assert port.counters == {"copy": 3}


async def test_of_whoever_is_blamed_little_is_read_in_a_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "PROMPT_TURNS_PER_S", 0.0)
    monkeypatch.setattr(udp, "PROMPT_TURNS_MAX", 1.0)
    with DatagramPort.open(0) as port, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        inbox = Inbox(1_000_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(port.run, inbox.deliver)
            with trio.fail_after(BOUND_S):
                for number in range(2):  # the second turn of a loop is a flood already
                    _say(sender, port, b"tick %d" % number)
                    while len(inbox.datagrams) <= number:
                        await trio.lowlevel.checkpoint()
                for _ in range(JUNK_MAX):
                    port.strangers.blame(bytes([127, 0, 0, 1]))
                _say(sender, port, *(b"%d" % number for number in range(LET_THROUGH)))
                while port.strangers.dropped < LET_THROUGH - 1 or len(inbox.datagrams) < 3:
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert len(inbox.datagrams) == 3


async def test_a_flood_that_is_over_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then what was dropped as a copy gets through again."""
    monkeypatch.setattr(udp, "PROMPT_TURNS_PER_S", 0.0)
    monkeypatch.setattr(udp, "PROMPT_TURNS_MAX", 1.0)
    monkeypatch.setattr(udp, "CALM_S", 0.1)
    monkeypatch.setattr(udp, "_calm_datagrams", lambda pause_s: 4)
    with DatagramPort.open(0) as port, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        inbox, number = Inbox(1_000_000), 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(port.run, inbox.deliver)
            with trio.fail_after(BOUND_S):
                while sum(data == b"same" for data, _ in inbox.datagrams) < 4:
                    number += 1
                    tick = b"tick %d" % number
                    _say(sender, port, b"same", tick)
                    while tick not in [data for data, _ in inbox.datagrams]:
                        await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert port.counters["copy"] >= 1


def test_copies_are_known_for_a_bounded_while() -> None:
    copies = Copies()
    numbers = _numbers(0, 5 * COPIES_KEPT)
    assert all(copies.is_first(data) for data in numbers)
    assert not any(copies.is_first(data) for data in numbers[-COPIES_KEPT:])
    assert copies.is_first(numbers[0])


def test_where_the_kernel_has_little_room_pauses_are_short() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as small:
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        assert udp._pause_s(small) == FLOOD_PAUSE_SHORT_S
    with DatagramPort.open(0) as port:
        granted = [opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) for opened in port._sockets.values()]
        pauses = [udp._pause_s(opened) for opened in port._sockets.values()]
    assert udp._calm_datagrams(FLOOD_PAUSE_S) > udp._calm_datagrams(FLOOD_PAUSE_SHORT_S) > 0
    assert pauses == [FLOOD_PAUSE_S if size >= RECEIVE_BUFFER_BYTES else FLOOD_PAUSE_SHORT_S for size in granted]


async def test_datagrams_that_cannot_be_ours_are_dropped_and_counted() -> None:
    with DatagramPort.open(0) as port, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for data in (b"", bytes(DATAGRAM_BYTES_MAX + 1), bytes(60_000), bytes(DATAGRAM_BYTES_MAX)):
            sender.sendto(data, ("127.0.0.1", port.port))
        inbox = await _receive(port, 1)
        assert [data for data, _ in inbox.datagrams] == [bytes(DATAGRAM_BYTES_MAX)]
        assert port.counters == {"empty": 1, "oversize": 2}


def test_faults_of_sending_are_counted_by_name() -> None:
    with DatagramPort.open(0) as port:
        port.send(bytes(70_000), endpoint("127.0.0.1", 9))
        port.send(b"broadcast is not ours to use", endpoint("255.255.255.255", 9))
        port.send(b"", Endpoint(bytes([127, 0, 0, 1]), 0))
        assert port.counters["EMSGSIZE"] == 1
        assert port.counters.total() == 3
        assert all(name.startswith("E") for name in port.counters)


def test_a_machine_without_ipv6_sends_nothing_there() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as only:
        port = DatagramPort(1, {4: only})
        port.send(b"hello", endpoint("::1", 9))
        assert port.counters == {"no-family": 1}


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")])
def test_a_port_in_use_is_one_line_with_a_remedy(family: int, host: str) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as other:
        if family == socket.AF_INET6:
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind((host, 0))
        port = other.getsockname()[1]
        with pytest.raises(PortInUse) as caught:
            DatagramPort.open(port)
    assert isinstance(caught.value, OSError)
    line = str(caught.value)
    assert line.startswith(f"UDP port {port} is in use")
    assert "set `port`" in line
    assert "\n" not in line


def test_closing_frees_the_port_and_both_sockets() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with DatagramPort.open(0) as first:
        assert len(os.listdir("/proc/self/fd")) == before + 2
    with DatagramPort.open(first.port):
        pass
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_failing_receiver_of_batches_is_not_hidden() -> None:
    async def deliver(batch: Batch) -> None:
        raise AssertionError("ours")

    with DatagramPort.open(0) as port:
        port.send(b"x", endpoint("127.0.0.1", port.port))
        with pytest.RaisesGroup(AssertionError, flatten_subgroups=True), trio.fail_after(BOUND_S):
            await port.run(deliver)


def test_an_allowance_is_a_burst_and_then_a_rate() -> None:
    allowance = Allowance(per_s=10, burst=3, now_s=100.0)
    assert [allowance.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert not allowance.take(100.05)
    assert allowance.take(100.11)
    assert not allowance.take(100.11)
    assert [allowance.take(200.0) for _ in range(4)] == [True, True, True, False]
