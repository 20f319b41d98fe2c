"""How `bench.path_faults` tells when traffic is back, and what its lying relay does to packets."""

from pathlib import Path

import pytest

from bench import lying_relay
from bench.path_faults import FAULTS, SEEN_S, Outcome, figures_of
from bench.pings import Reply, back_s, read_replies
from clanmesh_protocol.keys import NodeId
from clanmeshd.core.buckets import Budget
from clanmeshd.overlay.relay_pair import Pair
from clanmeshd.overlay.wireguard_packets import DATA, INITIATION, INITIATION_BYTES

SAID = """PING fd00::1 (fd00::1) 56 data bytes
[1800000000.500000] 64 bytes from fd00::1: icmp_seq=1 ttl=64 time=40.0 ms
[1800000000.600000] From fd00::2 icmp_seq=2 Destination unreachable: Address unreachable
[1800000001.000000] 64 bytes from fd00::1: icmp_seq=3 ttl=64 time=100 ms
"""
ONE, OTHER = NodeId(b"1" * 32), NodeId(b"2" * 32)
HERE, THERE = ("192.0.2.1", 1), ("192.0.2.2", 2)


def replies(*times: float) -> list[Reply]:
    """Answers that came at once."""
    return [Reply(at_s, at_s) for at_s in times]


def test_answers_are_read_and_nothing_else() -> None:
    """With the moment of asking."""
    assert read_replies(SAID) == [
        Reply(pytest.approx(1_800_000_000.5), pytest.approx(1_800_000_000.46)),
        Reply(pytest.approx(1_800_000_001.0), pytest.approx(1_800_000_000.9)),
    ]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (tuple(9.0 + 0.4 * n for n in range(13)), 0.0),
        ((9.0, 13.0, 13.4, 13.8), 3.0),
        ((10.1, 11.0, 12.5, 12.9, 13.3, 13.7), 2.5),
        ((10.1, 10.2), None),
        ((), None),
    ],
)
def test_traffic_is_back_when_the_last_silence_is_over(times: tuple[float, ...], expected: float | None) -> None:
    """A fault at 10, watched until 14."""
    found = back_s(replies(*times), 10.0, 14.0)
    assert found == (pytest.approx(expected) if expected is not None else None)


def test_one_round_that_never_came_back_is_the_worst() -> None:
    """And a path that was to be left has a figure of its own."""
    named = {figure.name: figure for figure in figures_of(FAULTS[0], [Outcome(2.0, 1.5), Outcome(None, 3.9)])}
    worst, left = named["direct path cut: traffic back, worst"], named["direct path cut: path left, worst"]
    assert (worst.value, worst.holds) == (None, False)
    assert (left.value, left.target, left.holds) == (3.9, SEEN_S, True)


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the relay is told to do, in a file that is not there yet."""
    monkeypatch.setattr(lying_relay, "ORDER", tmp_path / "lie")
    return tmp_path / "lie"


def bound() -> Pair:
    """A pair of which both sides have an address."""
    pair = Pair(ONE, OTHER, 0.0, Budget(1e9, 1e9, 0.0))
    for node, address in ((ONE, HERE), (OTHER, THERE)):
        pair.attach(node, address, 0.0)
    return pair


def passed(pair: Pair, source: tuple[str, int]) -> bytes | None:
    """What of a packet of data goes on, as a relay's port does it."""
    packet = bytearray(DATA + bytes(100))
    to = lying_relay._route_or_not(pair, memoryview(packet), len(packet), source)
    if to is not None:
        return bytes(packet)
    sent = lying_relay._receive_or_not(pair, bytes(packet), source, None, 0.0)
    return sent[0][0] if sent else None


def test_a_lying_relay_is_a_good_one_until_it_is_told(order: Path) -> None:
    """Both ways."""
    assert passed(bound(), HERE) == passed(bound(), THERE) == DATA + bytes(100)


def test_what_a_lying_relay_does(order: Path) -> None:
    """To data, and to handshakes."""
    pair = bound()
    order.write_text(lying_relay.DROP)
    assert passed(pair, HERE) is passed(pair, THERE) is None
    order.write_text(lying_relay.ONE_WAY)
    assert (passed(pair, HERE), passed(pair, THERE)) == (None, DATA + bytes(100))
    order.write_text(lying_relay.GARBLE)
    garbled = passed(pair, HERE)
    assert garbled is not None
    assert garbled[:16] == (DATA + bytes(100))[:16]
    assert garbled[16:] != bytes(88)
    assert len(garbled) == 104
    packet = INITIATION + bytes(INITIATION_BYTES - 4)
    [(sent, to)] = [lying_relay._garbled((packet, THERE), HERE)]
    assert (to, len(sent), sent != packet) == (THERE, len(packet), True)
