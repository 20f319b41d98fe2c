"""The round trip that `peers` shows is that of the way that packets go, or none."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmesh_protocol.keys import NodeId
from clanmeshd.calls.path_view import path_view
from clanmeshd.core.limits import RECENT_ANSWERS, SETTLING_S
from clanmeshd.core.paths import Paths, carried_endpoint
from clanmeshd.core.peers import Peer
from clanmeshd.core.roundtrip import Quickest
from clanmeshd.core.subjects import State
from clanmeshd.overlay.device import TunnelState
from clanmeshd.overlay.path_terms import PathKind, Standing, Why
from tests.core.households import Household
from tests.core.test_mesh_records import formed

NODE = NodeId(bytes([7]) * 32)
ADDRESS = endpoint("fd00::7", 1).ip
NAS_V4, NAS_V6, FAR, RELAY = (
    endpoint(host, 51872) for host in ("192.0.2.9", "2001:db8:1::9", "198.51.100.7", "203.0.113.1")
)


def standing(kind: PathKind, at: Endpoint, rtt_s: float | None) -> Standing:
    """What the engine says of a way."""
    return Standing(kind, at, None, rtt_s, Why.NOTHING, None)


@pytest.mark.parametrize(
    ("pinged", "kind", "at", "probed_s", "shown_ms"),
    [
        ("192.0.2.9", PathKind.LAN, NAS_V4, 0.05, 3.0),
        ("2001:db8:1::9", PathKind.LAN, NAS_V4, 0.05, 3.0),  # one network, two addresses
        ("198.51.100.7", PathKind.DIRECT, FAR, 0.05, 3.0),
        ("fd00::7", PathKind.RELAY, RELAY, None, 3.0),  # through the tunnel
        ("fd00::7", PathKind.DIRECT, FAR, 0.05, 3.0),
        ("192.0.2.9", PathKind.DIRECT, FAR, 0.05, 50.0),
        ("198.51.100.7", PathKind.LAN, NAS_V4, 0.001, 1.0),
        ("198.51.100.7", PathKind.RELAY, RELAY, None, None),
        ("198.51.100.7", PathKind.NONE, FAR, None, None),
        (None, PathKind.DIRECT, FAR, 0.05, 50.0),
        (None, PathKind.RELAY, RELAY, None, None),
    ],
)
async def test_pings_count_where_they_go_the_same_way(
    tmp_path: Path,
    pinged: str | None,
    kind: PathKind,
    at: Endpoint,
    probed_s: float | None,
    shown_ms: float | None,
) -> None:
    desk = Household(tmp_path)["desk"]
    desk.mesh.set_endpoints([endpoint("192.0.2.1", 51871), endpoint("2001:db8:1::1", 51871)], desk.mesh._now)
    way = standing(kind, at, probed_s)
    if kind is PathKind.NONE:
        way = replace(way, why=Why.ASLEEP)
    clan = replace(desk.clan, traversal=SimpleNamespace(standing=lambda node: way))  # type: ignore[arg-type]
    reached = endpoint(pinged, 51871) if pinged is not None else None
    peer = Peer(NODE, "nas", (), ADDRESS, State.UP, reached, (), 70.0, 0.0, None, endpoint_rtt_ms=3.0)
    view = path_view(clan, peer, TunnelState(at, 0, 0, 0))
    assert (view["kind"], view["rtt_ms"]) == (kind, shown_ms)


def test_the_quickest_of_late_is_what_the_way_takes() -> None:
    quickest = Quickest()
    assert quickest.seconds is None
    for seconds in (0.04, 0.2, 0.05):
        quickest.sample(seconds)
    assert quickest.seconds == 0.04
    for _ in range(2 * RECENT_ANSWERS):
        quickest.sample(0.06)
    assert quickest.seconds == 0.06, "the way has become a longer one"


HOME, CAFE = endpoint("192.0.2.9", 51871), endpoint("198.51.100.7", 7)


def proven() -> Paths:
    """A member that was proven at home."""
    paths = Paths()
    paths.retain(frozenset({NODE}))
    paths.prove(NODE, HOME, 100.0)
    return paths


def test_what_a_start_takes_is_not_what_the_way_takes() -> None:
    paths = proven()
    paths.answered(NODE, HOME, 0.2, 100.0 + SETTLING_S / 2)
    assert paths.round_trip_s(NODE) is None
    paths.answered(NODE, HOME, 0.001, 100.0 + SETTLING_S)
    assert paths.round_trip_s(NODE) == 0.001


def test_another_way_is_measured_anew_and_answers_from_elsewhere_do_not_count() -> None:
    paths = proven()
    paths.answered(NODE, HOME, 0.001, 105.0)
    paths.answered(NODE, CAFE, 0.0001, 105.0)
    assert paths.round_trip_s(NODE) == 0.001
    paths.prove(NODE, CAFE, 120.0)
    assert paths.round_trip_s(NODE) is None
    paths.answered(NODE, CAFE, 0.05, 122.0)
    assert paths.round_trip_s(NODE) == 0.05


def test_after_a_stream_nothing_is_known_of_any_way() -> None:
    paths, stream = proven(), carried_endpoint(NODE)
    paths.set_carried(NODE, is_carried=True)
    paths.prove(NODE, stream, 120.0)
    paths.answered(NODE, stream, 0.3, 122.0)
    paths.set_carried(NODE, is_carried=False)
    assert paths.round_trip_s(NODE) is None


def test_a_member_is_shown_with_the_round_trip_to_where_it_is() -> None:
    world = formed(3)
    world.run(10.0)
    for peer in world.mesh(0).peers(world.now()):
        if peer.node != world.devices[0].node:
            assert peer.endpoint_rtt_ms is not None
            assert 1.0 <= peer.endpoint_rtt_ms <= 6.0
