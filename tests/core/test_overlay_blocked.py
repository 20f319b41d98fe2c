"""The path engine where it turns out that no UDP leaves this device: relays by streams, asked for once."""

from dataclasses import replace
from random import Random

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.signalling import CallKind, Candidate, CandidateKind, NatKind
from clanmeshd.core.effects import Called
from clanmeshd.overlay.path_terms import Action, AskRelay, Fellow, Own, PathKind, Relay, UseEndpoint
from clanmeshd.overlay.paths import Paths

LOW, HIGH = b"\xfd" + bytes(15), b"\xfd" + b"\xff" * 15
PEER_ID, RELAY_ID = NodeId(b"p" * 32), NodeId(b"r" * 32)
AT_RELAY = Endpoint(bytes((192, 0, 2, 9)), 51_873)


def paths_of() -> Paths:
    """One that knows of a relay, before it is known that no UDP leaves it."""
    paths = Paths(Own(LOW, frozenset({b"\x0a\0\0\2"}), (), NatKind.UNKNOWN), Random(1))
    paths.set_relays((Relay(RELAY_ID, 0.04, frozenset({AT_RELAY.ip})),), 0.0)
    paths.set_fellows({PEER_ID: Fellow(HIGH, ())}, 0.0)
    return paths


def call(paths: Paths, now_s: float) -> list[Action]:
    """The peer says that it has a relay."""
    relay = (Candidate(CandidateKind.RELAY, AT_RELAY),)
    paths.called(Called(PEER_ID, CallKind.RELAY, NatKind.EASY, relay), now_s)
    return paths.actions()


def test_a_relay_is_asked_for_by_a_stream_once_that_is_known() -> None:
    paths = paths_of()
    assert AskRelay(PEER_ID, RELAY_ID, False) in call(paths, 1.0)
    paths.set_own(replace(paths.own, nat=NatKind.BLOCKED), 1.1)
    assert AskRelay(PEER_ID, RELAY_ID, True) in paths.actions()
    standing = paths.standing(PEER_ID)
    assert standing is not None
    assert standing.kind is PathKind.NONE


def test_a_relay_that_is_told_of_again_is_not_asked_again() -> None:
    paths = paths_of()
    paths.set_own(replace(paths.own, nat=NatKind.BLOCKED), 0.1)
    asked = [each for at_s in (1.0, 1.3, 1.7) for each in call(paths, at_s) if isinstance(each, AskRelay)]
    assert asked == [AskRelay(PEER_ID, RELAY_ID, True)]
    local = Endpoint(b"\x7f\0\0\1", 4444)
    paths.relay_ready(PEER_ID, RELAY_ID, local, (AT_RELAY,), 1.8)
    later = [*paths.actions(), *call(paths, 2.5)]
    assert [each.endpoint for each in later if isinstance(each, UseEndpoint)] == [local]
    assert not [each for each in later if isinstance(each, AskRelay)]
