"""The path engine where one member alone has seen both: nobody knows which router is harder."""

from random import Random

import pytest

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.signalling import CallKind, Candidate, CandidateKind, NatKind
from clanmeshd.core.effects import Called
from clanmeshd.overlay.path_terms import Fellow, MakeCall, Open, Own
from clanmeshd.overlay.paths import Paths
from tests.core.path_network import Net, couple, introduce, steady
from tests.core.test_overlay_paths import PAIRS, are_direct, is_punchable


@pytest.mark.parametrize(("first", "second"), [pair for pair in PAIRS if is_punchable(*pair)])
def test_who_begins_wrongly_does_not_keep_the_other_for_long(first: str, second: str) -> None:
    net = Net(1, knows_nats=False)
    one, other, _ = couple(net, first, second)
    introduce(one, other)
    steady(one, other)
    assert net.run_until(are_direct(one, other), 3.0)
    print(f"{first} x {second}: {net.now_s:.2f} s")
    assert net.now_s <= 0.7


def test_who_does_not_say_where_it_is_seen_is_not_told_that_the_way_is_open() -> None:
    """It would probe at once, and a router that nothing has left for there takes that for its own."""
    peer = NodeId(b"p" * 32)
    home, seen = Endpoint(bytes((10, 0, 2, 2)), 51_872), Endpoint(bytes((203, 0, 113, 2)), 51_872)
    paths = Paths(Own(bytes(16), frozenset({bytes((10, 0, 1, 2))}), (), NatKind.UNKNOWN), Random(1))
    paths.set_fellows({peer: Fellow(b"\xff" * 16, (home,))}, 0.0)
    paths.actions()
    lan, outside = Candidate(CandidateKind.LAN, home), Candidate(CandidateKind.SEEN, seen)
    for kind in (CallKind.ASK, CallKind.OPENED):
        paths.called(Called(peer, kind, NatKind.UNKNOWN, (lan,)), 0.1)
        assert not [each for each in paths.actions() if isinstance(each, MakeCall | Open)]
    paths.called(Called(peer, CallKind.ASK, NatKind.UNKNOWN, (lan, outside)), 0.2)
    opened, said = (each for each in paths.actions() if isinstance(each, MakeCall | Open))
    assert opened == Open(peer, seen)
    assert isinstance(said, MakeCall)
    assert said.kind is CallKind.OPENED
