"""Runs of packets with one call each arrive as they would one by one, on loopback."""

import errno
import os
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clanmeshd.overlay.relay_sending import RUN_PACKETS_MAX, Sender

BOUND_S = 20.0
Receivers = list[socket.socket]


@pytest.fixture(scope="module")
def receivers() -> Iterator[Receivers]:
    """Where two sides are."""
    made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
    for each in made:
        each.bind(("127.0.0.1", 0))
        each.settimeout(BOUND_S)
    yield made
    for each in made:
        each.close()


def sent(sender: Sender, receivers: Receivers, packets: list[tuple[int, bytes]]) -> None:
    """Send packets to where they shall go, and see that they came there, whole and in order."""
    to = [each.getsockname() for each in receivers]
    for number, packet in packets:
        sender.add(memoryview(packet), len(packet), to[number])
    sender.flush()
    for number, packet in packets:
        assert receivers[number].recv(65_536) == packet


sizes = st.sampled_from([32, 33, 96, 148, 1400, 1452, 9000])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), sizes), max_size=100))
def test_whatever_is_sent_comes_whole_and_in_order(receivers: Receivers, kinds: list[tuple[int, int]]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        counters = Counter[str]()
        packets = [(number, os.urandom(size)) for number, size in kinds]
        sent(Sender(opened, counters), receivers, packets)
        assert not counters


class Counting:
    """A socket that counts calls; it takes no runs if it has an error for them."""

    def __init__(self, opened: socket.socket, error: int = 0) -> None:
        self.calls = Counter[str]()
        self._opened = opened
        self._error = error

    def sendto(self, *arguments: Any) -> int:
        """Send one."""
        self.calls["one"] += 1
        return self._opened.sendto(*arguments)

    def sendmsg(self, *arguments: Any) -> int:
        """Send some."""
        self.calls["run"] += 1
        if self._error:
            raise OSError(self._error, "no")
        return self._opened.sendmsg(*arguments)


def test_bulk_takes_few_calls(receivers: Receivers) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        counting = Counting(opened)
        there = [(0, os.urandom(1000)) for _ in range(RUN_PACKETS_MAX)]
        acknowledged = [(1, os.urandom(96)) for _ in range(RUN_PACKETS_MAX)]
        mixed = [each for pair in zip(there, acknowledged, strict=True) for each in pair]
        sent(Sender(cast("socket.socket", counting), Counter()), receivers, mixed)
        assert counting.calls == {"run": 2}


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EIO])
def test_where_the_network_takes_no_runs(receivers: Receivers, error: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        counting, counters = Counting(opened, error), Counter[str]()
        sender = Sender(cast("socket.socket", counting), counters)
        for _ in range(2):
            sent(sender, receivers, [(0, os.urandom(1000)) for _ in range(5)])
        assert counting.calls == {"run": 1, "one": 10}
        assert not counters


def test_what_is_refused_is_counted(receivers: Receivers) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        counting, counters = Counting(opened, errno.ENETUNREACH), Counter[str]()
        sender = Sender(cast("socket.socket", counting), counters)
        to = receivers[0].getsockname()
        for _ in range(2):
            sender.add(memoryview(bytes(100)), 100, to)
        sender.flush()
        assert counters == {"ENETUNREACH": 1}
        assert sender.takes_runs
