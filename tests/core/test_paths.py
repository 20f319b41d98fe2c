"""Where a peer may be reached: what a node record may make us send to."""

from math import inf

import pytest

from clanmesh_protocol.endpoints import endpoint
from clanmesh_protocol.keys import NodeId
from clanmeshd.core.paths import Paths, carried_endpoint

PEER = NodeId(bytes(32))
OVERLAY = endpoint("fd00::1", 1)


@pytest.mark.parametrize(
    ("host", "is_taken"),
    [
        ("223.255.255.255", True),
        ("224.0.0.0", False),
        ("239.255.255.255", False),
        ("240.0.0.1", True),
        ("255.255.255.255", False),
        ("0.0.0.0", False),
        ("fe80::1", True),
        ("ff02::fb", False),
        ("::", False),
        ("e000::1", True),
    ],
)
def test_a_record_that_lists_no_machine_is_no_reason_to_shout(host: str, is_taken: bool) -> None:
    paths, listed = Paths(), endpoint(host, 51871)
    paths.retain(frozenset({PEER}))
    paths.set_listed(PEER, [listed], OVERLAY)
    assert (listed in paths.all(PEER)) == is_taken


HOME, CAFE, OTHER_HOME = endpoint("192.0.2.1", 51871), endpoint("198.51.100.7", 7), endpoint("192.0.2.2", 51871)
LISTED, LISTED_ELSEWHERE = [endpoint("10.0.1.2", 51871)], [endpoint("10.0.2.2", 51871)]


def at_home() -> Paths:
    """A peer that was proven at one place."""
    paths = Paths()
    paths.retain(frozenset({PEER}))
    paths.set_listed(PEER, LISTED, OVERLAY)
    paths.prove(PEER, HOME, 100.0)
    return paths


def test_who_has_two_networks_stays_on_one() -> None:
    """Its record says the same as before, in whatever order."""
    paths = at_home()
    paths.prove(PEER, OTHER_HOME, 100.5)
    paths.set_listed(PEER, LISTED, OVERLAY)
    paths.prove(PEER, OTHER_HOME, 101.0)
    assert paths.live(PEER) == HOME


@pytest.mark.parametrize("is_heard_first", [True, False])
def test_who_says_that_it_has_other_addresses_is_where_it_is_heard(is_heard_first: bool) -> None:
    """At once, whichever comes first; where it was is a hint still."""
    paths = at_home()
    if is_heard_first:
        paths.prove(PEER, CAFE, 100.5)
        assert paths.live(PEER) == HOME
    paths.set_listed(PEER, LISTED_ELSEWHERE, OVERLAY)
    if not is_heard_first:
        assert paths.live(PEER) == HOME
        paths.prove(PEER, CAFE, 100.5)
    assert paths.live(PEER) == CAFE
    assert HOME in paths.all(PEER)


def test_another_record_moves_nobody_who_is_heard_where_it_was() -> None:
    """Nor to the tunnel, which leads there as well."""
    paths = at_home()
    paths.prove(PEER, OVERLAY, 100.5)
    paths.set_listed(PEER, LISTED_ELSEWHERE, OVERLAY)
    paths.prove(PEER, OVERLAY, 100.6)
    paths.prove(PEER, HOME, 101.0)
    paths.prove(PEER, CAFE, 101.5)
    assert paths.live(PEER) == HOME


def test_a_stream_is_used_until_anything_better_is_proven() -> None:
    paths, stream, plain = Paths(), carried_endpoint(PEER), endpoint("192.0.2.1", 51871)
    paths.retain(frozenset({PEER}))
    paths.set_listed(PEER, [plain], OVERLAY)
    paths.prove(PEER, stream, 0.0)
    assert paths.live(PEER) is None  # no stream there is
    paths.set_carried(PEER, is_carried=True)
    paths.prove(PEER, stream, 1.0)
    assert (paths.live(PEER), paths.plain(PEER), paths.heard_s) == (stream, None, -inf)
    assert paths.is_makeshift(PEER)
    assert stream in paths.several(PEER)
    assert stream not in paths.signed(PEER)
    paths.prove(PEER, plain, 1.1)
    assert (paths.live(PEER), paths.open_s) == (plain, 1.1)
    paths.prove(PEER, stream, 1.2)
    assert paths.live(PEER) == plain
    paths.doubt(PEER)
    paths.prove(PEER, stream, 1.3)
    assert paths.live(PEER) == stream
    paths.set_carried(PEER, is_carried=False)
    assert paths.live(PEER) is None
    assert stream not in paths.all(PEER)


def test_a_tunnel_says_that_somebody_is_there_and_not_that_datagrams_pass() -> None:
    paths = Paths()
    paths.retain(frozenset({PEER}))
    paths.set_listed(PEER, [], OVERLAY)
    paths.prove(PEER, OVERLAY, 2.0)
    assert (paths.heard_s, paths.open_s) == (2.0, -inf)


def test_a_stream_that_ended_is_no_hint() -> None:
    paths = Paths()
    paths.retain(frozenset({PEER}))
    paths.set_listed(PEER, [], OVERLAY)
    paths.hint(PEER, carried_endpoint(PEER))
    assert paths.all(PEER) == (OVERLAY,)
    assert paths.surest(PEER) == OVERLAY
    paths.set_carried(PEER, is_carried=True)
    assert paths.surest(PEER) == carried_endpoint(PEER)
