"""What `bench.throughput` and `bench.siege` are made of: runs of datagrams, junk in shapes, ratios, floors."""

import random
import socket

import pytest

from bench.figures import Figure
from bench.flood import Run, flood, runs
from bench.shapes import probe_kinds, tunnel_kinds
from bench.streams import Carried
from bench.throughput import Streams, figures
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.probes import PROBE_BYTES, Kind, read_packet_untrusted
from clanmeshd.overlay.wireguard_packets import fits, is_handshake, mac1_key
from tests.clock import Stopwatch

TRIES, FLOOD_S = 3, 0.1  # the kernel keeps what comes in that time
KEY = b"k" * 32
TARGET, MEMBER = NodeId(b"t" * 32), NodeId(b"m" * 32)


def test_neighbours_of_one_size_leave_together() -> None:
    """In their order, no more at once than is said, and no more bytes than a datagram has."""
    made = runs([b"aa", b"bb", b"cc", b"d", b"ee"], 2)
    assert made == [Run(b"aabb", 2, 2), Run(b"cc", 2, 1), Run(b"d", 1, 1), Run(b"ee", 2, 1)]
    assert [run.datagrams for run in runs([bytes(1400)] * 100, 64)] == [46, 46, 8]
    assert all(run.datagrams == 1 for run in runs([b"aa", b"bb"], 1))


def test_the_kernel_cuts_runs_apart() -> None:
    """What is received are the datagrams."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5.0)
        for _ in range(TRIES):
            with Stopwatch() as watch:
                made = runs([b"aa", b"bb", b"c"], 50)
                flooded = flood("127.0.0.1", receiver.getsockname()[1], made, 1000.0, FLOOD_S)
            heard = [receiver.recv(2048) for _ in range(flooded.sent)]
            if not watch.paused_s:
                break  # what a pause holds up is not caught up with
    assert heard[:6] == [b"aa", b"bb", b"c", b"aa", b"bb", b"c"]
    assert 20 <= flooded.sent <= 110


@pytest.mark.parametrize("kind", ["handshakes with no key", "handshakes with the key"])
def test_handshakes_of_the_junk(kind: str) -> None:
    """All have the shape, and fit the key where they say so."""
    made = tunnel_kinds(KEY, random.Random(1))[kind]
    assert all(map(is_handshake, made))
    assert {fits(each, [mac1_key(KEY)]) for each in made} == {kind.endswith("the key")}


def test_kinds_of_tunnels_leave_in_runs() -> None:
    """Else the stranger would have too little of the machine."""
    for kind, made in tunnel_kinds(KEY, random.Random(1)).items():
        assert len(made) / len(runs(made, 50)) > 25, kind


def test_probes_of_the_junk() -> None:
    """Each can be read, and is what its kind says."""
    kinds = probe_kinds(TARGET, [MEMBER], random.Random(1))
    for kind, made in kinds.items():
        assert {len(each) for each in made} == {PROBE_BYTES}
        packets = [read_packet_untrusted(each) for each in made]
        assert {packet.receiver == TARGET[:8] for packet in packets} == {kind != "for others"}
        assert {packet.kind for packet in packets} == {Kind.PONG if "answers" in kind else Kind.PROBE}
        assert {packet.sender == MEMBER[:8] for packet in packets} == {kind not in ("by nobody",)}


def test_what_was_lost() -> None:
    """In percent of what was sent."""
    assert Carried(200, 199).lost_percent == pytest.approx(0.5)


def test_a_ratio_is_of_neighbours_in_time() -> None:
    """One slow moment of the machine counts for both; and the target of the relayed is the lower of two."""
    found = {
        "bare": Streams([500e6, 100e6, 400e6], [0.0] * 3),
        "direct": Streams([490e6, 98e6, 400e6], [1.0] * 3),
        "relayed": Streams([190e6, 90e6, 210e6], [30.0] * 3),
    }
    named = {figure.name: figure for figure in figures(found)}
    assert named["direct, of bare"].value == pytest.approx(0.98)
    assert named["direct, of bare"].holds
    assert (named["relayed"].target, named["relayed"].holds) == (200, False)


@pytest.mark.parametrize(("value", "holds"), [(0.98, True), (0.97, True), (0.96, False), (None, False)])
def test_a_floor(value: float | None, holds: bool) -> None:
    """At least so much; and what was not measured falls short."""
    assert Figure("ratio", value, "", 0.97, is_floor=True).holds is holds
