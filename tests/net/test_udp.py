"""The UDP port on loopback: both families, batches, floods, and faults that are counted instead of raised."""

import os
import socket

import pytest
import trio

from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmesh_protocol.limits import DATAGRAM_BYTES_MAX
from clanmeshd.net.pace import Allowance
from clanmeshd.net.ports import PortInUse
from clanmeshd.net.udp import BATCH_DATAGRAMS_MAX, FLOOD_BATCHES_MAX, Batch, DatagramPort

BOUND_S = 5.0


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
