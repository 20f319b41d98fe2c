"""Peers of a large clan that sleep, on a virtual clock: silent while nothing goes, and soon awake."""

import pytest

from clanmesh_protocol.endpoints import Endpoint
from clanmeshd.overlay.path_terms import AWAKE_MAX, KEEPALIVE_S, SLEEP_AFTER_S, SLEEP_CHECK_S, Why
from tests.core.path_network import BELL, LEG_S, PORT, Host, Net, couple, introduce
from tests.core.test_overlay_paths import are_direct

WAKE_S_MAX = 1.0  # from the first packet to its answer

# The first two are on one network for each other: such do not sleep again.
SLEEPERS = [("public", "public"), ("public", "hard"), ("easy", "easy"), ("easy", "hard"), ("hard", "hard")]


@pytest.mark.parametrize("kinds", [*SLEEPERS, *(pair[::-1] for pair in SLEEPERS if pair[0] != pair[1])])
@pytest.mark.parametrize("leg_s", [0.005, 0.04])
def test_the_first_packet_wakes_both(kinds: tuple[str, str], leg_s: float) -> None:
    net, one, other = sleepers(*kinds, leg_s=leg_s)
    net.run(30.0)
    assert one.engine.next_deadline() <= net.now_s + SLEEP_CHECK_S
    assert net.sent == one.rings == 0
    woken_s = net.now_s
    one.send(other.node, "ask")
    assert net.run_until(lambda: bool(one.replies), 10.0)
    print(f"{kinds}, {2 * leg_s:.3f} s round trips: {one.replies[0] - woken_s:.2f} s")
    assert one.replies[0] - woken_s <= WAKE_S_MAX
    assert one.rings == 1


@pytest.mark.parametrize("kinds", SLEEPERS[1:])
def test_when_nothing_goes_any_more_both_sleep_again_and_are_silent(kinds: tuple[str, str]) -> None:
    """What keeps their tunnel up goes on until one of them sleeps, and keeps neither awake."""
    net, one, other = sleepers(*kinds)
    one.send(other.node, "ask")
    assert net.run_until(lambda: bool(one.replies), WAKE_S_MAX)
    net.run(SLEEP_AFTER_S - 10.0)
    assert not {one.why(other), other.why(one)} & {Why.ASLEEP}
    net.run(10.0 + 2 * SLEEP_CHECK_S + KEEPALIVE_S)
    assert {one.why(other), other.why(one)} == {Why.ASLEEP}
    silent = net.sent
    net.run(600.0)
    assert net.sent == silent
    assert {one.why(other), other.why(one)} == {Why.ASLEEP}


@pytest.mark.parametrize("kinds", SLEEPERS[1:])
def test_a_packet_of_a_session_wakes_as_well(kinds: tuple[str, str]) -> None:
    """WireGuard has one for three minutes, and its packets do not say for whom they are."""
    net, one, other = sleepers(*kinds)
    one.send(other.node, "ask")
    net.run(SLEEP_AFTER_S + 60.0)
    assert one.why(other) is Why.ASLEEP
    for side, peer in ((one, other), (other, one)):
        side.tunnels[peer.node].endpoint = BELL  # as it is once WireGuard is brought back
    one.replies.clear()
    asked_s = net.now_s
    one.send(other.node, "ask")
    assert net.run_until(lambda: bool(one.replies), 10.0)
    assert one.replies[0] - asked_s <= WAKE_S_MAX


def test_one_that_is_not_found_is_where_its_record_says() -> None:
    """As before it slept. It rings no more, so that no packet of somebody's costs a search."""
    net, one, other = sleepers("public", "public")
    net.cut.add(frozenset({one.node, other.node}))
    one.has_carrier = False
    one.relayed_by()
    one.send(other.node, "ask")
    net.run(10.0)
    assert one.tunnels[other.node].endpoint == Endpoint(other.ip, PORT)
    assert one.rings == 1
    net.cut.clear()
    assert net.run_until(lambda: bool(one.replies), 10.0)


def test_a_call_wakes() -> None:
    net = Net()
    one = net.host("easy")
    others = [net.host("easy") for _ in range(AWAKE_MAX + 1)]
    one.meets(*others)
    net.run(1.0)
    others[0].meets(one)
    assert net.run_until(are_direct(one, others[0]), 1.0)


def sleepers(first: str, second: str, *, leg_s: float = LEG_S) -> tuple[Net, Host, Host]:
    """Two whose peers sleep, however few they are, and a relay."""
    net = Net(leg_s=leg_s, awake_max=0)
    one, other, _ = couple(net, first, second)
    introduce(one, other)
    net.run(5.0)
    return net, one, other
