"""The path engine against a small internet on a virtual clock: how soon, by which way, and what it costs."""

from collections.abc import Callable
from functools import partial
from math import inf
from random import Random
from statistics import median

import pytest

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import CALL_CANDIDATES_MAX
from clanmesh_protocol.signalling import CallKind, Candidate, CandidateKind, NatKind
from clanmeshd.core.effects import Called
from clanmeshd.overlay.path_terms import (
    BRIEF_TRIES,
    CALL_PAUSES_S,
    OPENED_TURN_S,
    RETRY_JITTER,
    RETRY_S,
    SEARCH_S,
    SILENT_RETRY_S,
    SPOTS_MAX,
    Action,
    AskRelay,
    DropRelay,
    Fellow,
    MakeCall,
    Own,
    PathKind,
    Probe,
    Relay,
    Why,
)
from clanmeshd.overlay.paths import Paths
from tests.core.path_network import (
    KINDS,
    LEG_S,
    PORT,
    Host,
    Net,
    Packet,
    Router,
    Tunnel,
    couple,
    gap_s,
    introduce,
    silent_s,
    steady,
)

PAIRS = [(first, second) for first in KINDS for second in KINDS]
SHUT = {"easy", "open"}  # what a symmetric router cannot reach


def is_punchable(first: str, second: str) -> bool:
    kinds = {first, second}
    return "blocked" not in kinds and kinds != {"hard"} and not ("hard" in kinds and kinds & SHUT)


def are_direct(first: Host, second: Host) -> Callable[[], bool]:
    return lambda: first.kind(second) is second.kind(first) is PathKind.DIRECT


def direct(first: str = "easy", second: str = "easy", seed: int = 0, relays: int = 1) -> tuple[Net, Host, Host]:
    """Two with a direct path and traffic on it, some seconds on."""
    net = Net(seed)
    one, other, _ = couple(net, first, second, relays=relays)
    introduce(one, other)
    steady(one, other)
    assert net.run_until(are_direct(one, other), 2.0)
    net.run(5.0)
    assert gap_s(one, net.now_s - 1.0) < 1.0
    return net, one, other


def relayed(relays: int = 2, seed: int = 0) -> tuple[Net, Host, Host, list[Host]]:
    """Two that only relays connect, with traffic, some seconds on."""
    net = Net(seed)
    one, other, able = couple(net, "hard", "hard", relays=relays)
    introduce(one, other)
    steady(one, other)
    net.run(5.0)
    assert one.kind(other) is other.kind(one) is PathKind.RELAY
    return net, one, other, able


def done(host: Host, kind: type[Action], since_s: float = 0.0) -> list[Action]:
    return [action for at_s, action in host.actions if at_s >= since_s and isinstance(action, kind)]


class TestMatrix:
    @pytest.mark.parametrize(("first", "second"), PAIRS)
    def test_pair(self, first: str, second: str) -> None:
        net = Net(1)
        one, other, _ = couple(net, first, second)
        introduce(one, other)
        steady(one, other)
        assert net.run_until(are_direct(one, other), 1.0) == is_punchable(first, second)
        print(f"{first} x {second}: {net.now_s:.2f} s")
        assert net.run_until(lambda: bool(one.replies), 1.0)
        assert one.replies[0] <= 1.0
        net.run(4.0)
        standing = one.engine.standing(other.node)
        assert standing is not None
        assert standing.kind is (PathKind.DIRECT if is_punchable(first, second) else PathKind.RELAY)
        assert (standing.why is Why.NOTHING) == is_punchable(first, second)
        assert gap_s(one, net.now_s - 1.0) < 1.0

    def test_half_of_those_that_can_are_soon_direct(self) -> None:
        times = []
        for number, (first, second) in enumerate(PAIRS):
            if is_punchable(first, second):
                net = Net(number)
                one, other, _ = couple(net, first, second)
                introduce(one, other)
                assert net.run_until(are_direct(one, other), 1.0)
                times.append(net.now_s)
        print(f"median {median(times):.2f} s, at most {max(times):.2f} s")
        assert median(times) <= 0.3

    @pytest.mark.parametrize("seed", range(10))
    def test_with_a_tenth_of_all_packets_lost(self, seed: int) -> None:
        for first, second in (("easy", "easy"), ("hard", "cone"), ("restricted", "open")):
            net = Net(seed, loss=0.1)
            one, other, _ = couple(net, first, second)
            introduce(one, other)
            assert net.run_until(are_direct(one, other), 20.0)

    @pytest.mark.parametrize("late_s", [0.01, 0.1, 0.5, 3.0])
    def test_one_of_two_may_know_of_the_other_first(self, late_s: float) -> None:
        for first, second in (("easy", "easy"), ("hard", "restricted"), ("restricted", "hard"), ("open", "open")):
            net = Net(3)
            one, other, _ = couple(net, first, second)
            one.meets(other)
            net.run(late_s)
            other.meets(one)
            assert net.run_until(are_direct(one, other), 1.0)


class TestNear:
    def test_on_one_network_it_is_at_once_and_costs_nothing_then(self) -> None:
        net = Net()
        one = net.host("hard")
        other = net.host("hard", router=one.router)
        relay = net.host("public")
        for host in (one, other):
            host.relayed_by(relay)
        introduce(one, other)
        assert net.run_until(lambda: one.kind(other) is other.kind(one) is PathKind.LAN, 0.05)
        net.run(10.0)
        assert not done(one, AskRelay)
        assert not done(one, MakeCall)
        sent, quiet_s = net.sent, net.now_s
        net.run(600.0)
        assert net.sent == sent
        assert [action for host in (one, other) for at_s, action in host.actions if at_s > quiet_s] == []
        assert one.uses[-1][1].keepalive_s == 0

    def test_public_ones_need_no_call(self) -> None:
        net = Net()
        one, other = net.host("public"), net.host("easy")
        one.has_carrier = other.has_carrier = False
        introduce(one, other)
        assert net.run_until(lambda: other.kind(one) is not PathKind.NONE, 0.2)
        assert net.run_until(lambda: one.kind(other) is not PathKind.NONE, 0.3)

    def test_who_comes_home_goes_over_to_the_network_there(self) -> None:
        net, one, other = direct()
        other.move(one.router, 99)
        assert net.run_until(lambda: one.kind(other) is other.kind(one) is PathKind.LAN, 2.0)
        net.run(5.0)
        assert gap_s(one, net.now_s - 1.0) < 1.0


class TestDeath:
    @pytest.mark.parametrize("seed", range(6))
    def test_a_black_hole_is_seen_and_left(self, seed: int) -> None:
        net, one, other = direct(seed=seed)
        net.run(Random(seed).uniform(0, 1))
        net.cut.add(frozenset({one.node, other.node}))
        cut_s = net.now_s
        assert net.run_until(lambda: one.kind(other) is not PathKind.DIRECT, 4.0)
        print(f"seen after {net.now_s - cut_s:.1f} s")
        net.run(10.0)
        back_s = gap_s(one, cut_s)
        print(f"traffic after {back_s:.1f} s")
        assert back_s <= 5.0
        assert one.kind(other) is PathKind.RELAY

    @pytest.mark.parametrize("seed", range(6))
    def test_a_relay_that_passes_nothing_on_is_left(self, seed: int) -> None:
        net, one, other, able = relayed(seed=seed)
        standing = one.engine.standing(other.node)
        assert standing is not None
        used = next(host for host in able if host.node == standing.via)
        net.run(Random(seed).uniform(0, 1))
        net.dead.add(used.ip)
        dead_s = net.now_s
        net.run(10.0)
        print(f"traffic after {gap_s(one, dead_s):.1f} s")
        assert gap_s(one, dead_s) <= 5.0
        standing = one.engine.standing(other.node)
        assert standing is not None
        assert standing.via != used.node

    @pytest.mark.parametrize("is_lower", [True, False])
    @pytest.mark.parametrize("is_asker", [True, False])
    @pytest.mark.parametrize("seed", range(6))
    def test_a_relay_that_passes_on_one_way_alone_is_left(self, seed: int, is_asker: bool, is_lower: bool) -> None:
        """Whoever of the two it is deaf to, and whoever of them asks; one of them hears the other as before."""
        net = Net(seed)
        one, other, able = couple(net, "hard", "hard", relays=2)
        introduce(one, other)
        asker = one if is_asker else other
        steady(asker, other if asker is one else one)
        net.run(5.0)
        standing = one.engine.standing(other.node)
        assert standing is not None
        used = next(host for host in able if host.node == standing.via)
        net.run(Random(seed).uniform(0, 1))
        net.deaf.add((used.ip, (one if is_lower else other).node))
        deaf_s = net.now_s
        net.run(10.0)
        print(f"traffic after {silent_s(asker, deaf_s):.1f} s")
        assert silent_s(asker, deaf_s) <= 5.0
        for host, peer in ((one, other), (other, one)):
            standing = host.engine.standing(peer.node)
            assert standing is not None
            assert standing.via != used.node

    @pytest.mark.parametrize("seed", range(6))
    def test_after_a_relay_that_says_so_itself_the_next_one_is_asked_at_once(self, seed: int) -> None:
        net, one, other, able = relayed(seed=seed)
        net.run(Random(seed).uniform(0, 1))
        standing = one.engine.standing(other.node)
        assert standing is not None
        assert standing.via is not None
        ended_s = net.now_s
        one.engine.relay_failed(other.node, standing.via, ended_s)
        one.perform()
        net.run(LEG_S)
        [asked] = done(one, AskRelay, ended_s)
        assert isinstance(asked, AskRelay)
        assert asked.via in {host.node for host in able} - {standing.via}

    def test_traffic_one_way_is_no_death(self) -> None:
        net, one, other = direct()
        for _ in range(300):
            net.run(0.2)
            other._emit(one.node, Packet("data", other.node))
        assert len(one.uses) == len(other.uses) == 1

    def test_who_is_off_is_not_run_after(self) -> None:
        net, one, other, able = relayed()
        net.dead |= {host.ip for host in able}
        net.cut |= {frozenset({one.node, host.node}) for host in net.hosts.values()}
        other.has_carrier = one.has_carrier = False
        net.run(60.0)
        before_s, sent = net.now_s, net.sent
        net.run(3600.0)
        print(
            f"{(net.sent - sent) / 3600:.2f} packets a second, {len(done(one, AskRelay, before_s))} relays asked"
        )
        searches = 3600 / SILENT_RETRY_S / (1 - RETRY_JITTER) + 1
        assert not done(one, AskRelay, before_s)
        assert len(done(one, Probe, before_s)) <= searches * SPOTS_MAX * BRIEF_TRIES
        assert len(done(one, MakeCall, before_s)) <= searches * (len(CALL_PAUSES_S) + 1)


class TestMoving:
    @pytest.mark.parametrize(("first", "second"), [pair for pair in PAIRS if pair[0] != "blocked"])
    def test_one_moves(self, first: str, second: str) -> None:
        net = Net(2)
        one, other, _ = couple(net, first, second)
        introduce(one, other)
        steady(one, other)
        net.run(6.0)
        one.move(new_router(net, first), 50)
        moved_s = net.now_s
        net.run(6.0)
        print(f"{first} x {second}: {gap_s(one, moved_s):.2f} s")
        assert gap_s(one, moved_s) <= 2.0
        expected = PathKind.DIRECT if is_punchable(first, second) else PathKind.RELAY
        assert one.kind(other) is other.kind(one) is expected

    @pytest.mark.parametrize("second", ["easy", "hard"])
    def test_both_move_at_once(self, second: str) -> None:
        net, one, other = direct("cone", second)
        one.move(new_router(net, "cone"), 50)
        other.move(new_router(net, second), 51)
        moved_s = net.now_s
        net.run(10.0)
        print(f"{gap_s(one, moved_s):.2f} s")
        assert gap_s(one, moved_s) <= 10.0

    def test_waking_is_moving(self) -> None:
        net, one, other = direct()
        one.router.ports.clear()  # it has forgotten this device meanwhile
        one.engine.set_own(one.own(), net.now_s)
        one.engine.moved(net.now_s)
        one.perform()
        woken_s = net.now_s
        net.run(5.0)
        assert gap_s(one, woken_s) <= 2.0
        assert are_direct(one, other)()


def new_router(net: Net, kind: str) -> Router:
    number = 200 + len(net.routers)
    router = Router(kind, bytes([203, 0, 113, number]), bytes([10, 1, number]))
    net.routers[router.ip] = router
    return router


class TestTryingAgain:
    @pytest.mark.parametrize("seed", range(5))
    def test_a_better_path_is_found_within_a_minute(self, seed: int) -> None:
        net, one, other, _ = relayed(seed=seed)
        net.run(600.0 + 20 * seed)
        one.router.kind = other.router.kind = "cone"
        opened_s = net.now_s
        assert net.run_until(are_direct(one, other), 60.0)
        print(f"after {net.now_s - opened_s:.0f} s")

    def test_an_hour_on_a_relay(self) -> None:
        net, one, other, _ = relayed()
        began_s, sent = net.now_s, net.sent
        seen: list[float] = []
        while net.now_s < began_s + 3600.0:
            net.run(1.0)
            standing = one.engine.standing(other.node)
            assert standing is not None
            assert standing.why in (Why.HARD_BOTH, Why.TRYING)
            assert standing.next_try_s is not None
            longest_s = RETRY_S[-1] * (1 + RETRY_JITTER) + SEARCH_S
            assert net.now_s - 1.0 <= standing.next_try_s <= net.now_s + longest_s
            seen.append(standing.next_try_s)
        searches = len(set(seen))
        assert 3600 / 60 <= searches <= 2 * 3600 / (RETRY_S[-1] * (1 - RETRY_JITTER)) + 10
        asks = sum(isinstance(action, MakeCall) for _, action in one.actions)
        print(f"{asks} calls, {(net.sent - sent) / 3600:.1f} packets a second with traffic")
        assert len([use for at_s, use in one.uses if at_s > began_s]) == 0

    def test_noise_moves_nothing(self) -> None:
        net = Net(4)
        net.noise = 0.05
        one, other = net.host("public"), net.host("easy")
        seconds = Endpoint(bytes([198, 51, 100, 77]), PORT)
        net.routers[seconds.ip] = one.router
        one.ip = bytes([198, 51, 100, 1])
        introduce(one, other)
        steady(one, other, every_s=1.0)
        net.run(5.0)
        before = len(one.uses), len(other.uses)
        dice = Random(4)
        # A second address of the same host, as far away: both are probed again and again, with noise.
        path = other.engine._paths[one.node]
        path.seeking._add(seconds, is_shut=False)
        end_s = net.now_s + 600.0
        while net.now_s < end_s:
            net.run(0.5)
            for endpoint in (path._endpoint, seconds):
                assert endpoint is not None
                other.engine.proven(one.node, endpoint, 2 * LEG_S * dice.uniform(0.95, 1.05), net.now_s)
                other.perform()
        assert (len(one.uses), len(other.uses)) == before

    def test_a_clearly_faster_spot_is_taken(self) -> None:
        net, one, other = direct()
        fast = Endpoint(bytes([198, 51, 100, 9]), 9)
        one.engine._paths[other.node].seeking._add(fast, is_shut=False)
        for _ in range(2):
            one.engine.proven(other.node, fast, LEG_S, net.now_s)
        one.perform()
        assert one.uses[-1][1].endpoint == fast

    def test_one_answer_is_not_enough(self) -> None:
        net, one, other = direct()
        fast = Endpoint(bytes([198, 51, 100, 9]), 9)
        one.engine._paths[other.node].seeking._add(fast, is_shut=False)
        one.engine.proven(other.node, fast, LEG_S, net.now_s)
        one.engine.proven(other.node, Endpoint(bytes([198, 51, 100, 10]), 9), LEG_S, net.now_s)
        one.perform()
        assert one.uses[-1][1].endpoint != fast
        assert one.actions[-1][1] == Probe(other.node, fast)

    @pytest.mark.parametrize(("second", "is_even"), [("easy", True), ("hard", False)])
    def test_where_it_is_even_either_side_probes_as_soon_as_both_are_open(
        self, second: str, is_even: bool
    ) -> None:
        net = Net(2)
        one, other, _ = couple(net, "easy", second)
        introduce(one, other)
        seekings = [here.engine._paths[there.node].seeking for here, there in ((one, other), (other, one))]

        def opened() -> bool:
            return all(each.search is not None and each.search.opened_s < inf for each in seekings)

        assert net.run_until(opened, 1.0)
        waits_s = [
            each._shut_from_s(each.search) - each.search.opened_s for each in seekings if each.search is not None
        ]
        assert waits_s == ([0.0, 0.0] if is_even else [pytest.approx(OPENED_TURN_S), 0.0])

    def test_one_answer_is_enough_where_there_is_no_path(self) -> None:
        net = Net()
        one, other, _ = couple(net, "public", "public", relays=0)
        introduce(one, other)
        spot = Endpoint(bytes([198, 51, 100, 9]), 9)
        one.engine._paths[other.node].seeking._add(spot, is_shut=False)
        one.engine.proven(other.node, spot, LEG_S, net.now_s)
        one.perform()
        assert [use.endpoint for _, use in one.uses] == [spot]
        assert Probe(other.node, spot) in done(one, Probe), "it is asked once more all the same"


class TestReasons:
    def test_a_call_that_nobody_took_is_made_again_when_there_is_somebody(self) -> None:
        net = Net()
        one, other, _ = couple(net, "easy", "easy", relays=0)
        one.has_carrier = other.has_carrier = False
        introduce(one, other)
        net.run(0.05)
        calls = len(done(one, MakeCall))
        one.has_carrier = True
        one.engine.answers(NodeId(bytes(32)), net.now_s)
        one.perform()
        net.run(0.01)
        assert len(done(one, MakeCall)) == calls + 1
        one.engine.answers(NodeId(bytes(32)), net.now_s)
        one.perform()
        net.run(0.01)
        assert len(done(one, MakeCall)) == calls + 1, "that one was taken"

    def test_nobody_carries(self) -> None:
        net = Net()
        one, other, _ = couple(net, "easy", "easy", relays=0)
        one.has_carrier = other.has_carrier = False
        introduce(one, other)
        net.run(SEARCH_S + 0.5)
        standing = one.engine.standing(other.node)
        assert standing is not None
        assert (standing.kind, standing.why) == (PathKind.NONE, Why.NO_CARRIER)
        assert standing.next_try_s is not None

    def test_who_does_not_answer(self) -> None:
        net = Net()
        one, other, _ = couple(net, "easy", "easy", relays=0)
        other.called = lambda call: None  # type: ignore[method-assign]
        one.meets(other)
        net.run(SEARCH_S + 0.5)
        standing = one.engine.standing(other.node)
        assert standing is not None
        assert standing.why is Why.SILENT


class TestBounds:
    @pytest.mark.parametrize("seed", range(20))
    def test_whatever_happens_it_stays_small_and_calm(self, seed: int) -> None:
        dice = Random(f"storm {seed}")
        nodes = [NodeId(number.to_bytes(32, "big")) for number in range(1, 5)]
        own = Own(bytes(16), frozenset({bytes([10, 0, 0, 1])}), (), NatKind.EASY)
        paths = Paths(own, dice)
        paths.set_fellows({node: Fellow(node[-16:], ()) for node in nodes}, 0.0)
        paths.set_relays(tuple(Relay(node, 0.01, frozenset({node[-4:]})) for node in nodes), 0.0)
        now_s, actions, handled = 0.0, 0, 0
        for _ in range(3000):
            now_s = max(now_s, min(now_s + dice.expovariate(5.0), paths.next_deadline()))
            if now_s >= paths.next_deadline():
                handled += 1
                paths.handle_deadline(now_s)
                assert paths.next_deadline() > now_s
            self._anything(paths, dice, dice.choice(nodes), now_s)
            actions += len(paths.actions())
            for node in nodes:
                standing = paths.standing(node)
                assert standing is not None
                assert (standing.why is Why.NOTHING) == (standing.kind in (PathKind.LAN, PathKind.DIRECT))
                if standing.kind in (PathKind.NONE, PathKind.RELAY):
                    assert standing.next_try_s is not None
                assert len(list(paths._paths[node].seeking.spots)) <= SPOTS_MAX
        assert actions < 100 * 3000
        assert paths.next_deadline() < inf

    def _anything(self, paths: Paths, dice: Random, node: NodeId, now_s: float) -> None:
        where = Endpoint(bytes([203, 0, dice.randrange(2), dice.randrange(40)]), dice.randrange(1, 5))
        match dice.randrange(9):
            case 0:
                count = dice.randrange(CALL_CANDIDATES_MAX + 1)
                kinds = [dice.choice(list(CandidateKind)) for _ in range(count)]
                candidates = tuple(
                    Candidate(kind, where._replace(port=port + 1)) for port, kind in enumerate(kinds)
                )
                call = Called(node, dice.choice(list(CallKind)), dice.choice(list(NatKind)), candidates)
                paths.called(call, now_s)
            case 1:
                paths.heard(node, where, now_s)
            case 2 | 3:
                known = [spot.endpoint for spot in paths._paths[node].seeking.spots]
                paths.proven(node, dice.choice(known) if known else where, dice.random(), now_s)
            case 4 | 5:
                sent, received = dice.randrange(10**6), dice.randrange(10**6)
                paths.looked(now_s)
                paths.counted(node, sent, received, now_s)
            case 6:
                via = NodeId(dice.randrange(1, 5).to_bytes(32, "big"))
                paths.relay_ready(node, via, where, (where,), now_s)
            case 7:
                paths.relay_failed(node, NodeId(dice.randrange(1, 5).to_bytes(32, "big")), now_s)
            case 8:
                ips = frozenset({bytes([10, 0, dice.randrange(3), 1])})
                paths.set_own(Own(bytes(16), ips, (), dice.choice(list(NatKind))), now_s)

    def test_who_is_gone_is_forgotten(self) -> None:
        net, one, other = direct()
        one.engine.set_fellows({}, net.now_s)
        assert one.engine.standing(other.node) is None
        assert one.engine.next_deadline() == inf
        one.engine.heard(other.node, Endpoint(bytes(4), 1), net.now_s)
        one.engine.counted(other.node, 1, 1, net.now_s)
        assert one.engine.actions() == []

    def test_the_relay_to_who_is_gone_is_given_back(self) -> None:
        net, one, other, _ = relayed()
        standing = one.engine.standing(other.node)
        assert standing is not None
        assert standing.via is not None
        one.engine.set_fellows({}, net.now_s)
        assert one.engine.actions() == [DropRelay(other.node, standing.via)]


class TestTheModel:
    def test_a_packet_that_is_too_early_makes_an_open_router_take_another_port(self) -> None:
        router = Router("open", bytes([203, 0, 113, 1]), bytes([10, 0, 1]))
        inside, outside = bytes([10, 0, 1, 2]), Endpoint(bytes([203, 0, 113, 2]), 9)
        usual = router.out(inside, Endpoint(bytes([192, 0, 2, 1]), 1), 0.0)
        assert router.into(usual.port, outside, 0.0) is None
        assert router.out(inside, outside, 1.0) != usual

    def test_two_handshakes_that_cross_cost_five_seconds(self) -> None:
        net = Net()
        one, other = net.host("public"), net.host("public")
        for host, peer in ((one, other), (other, one)):
            host.meets(peer)
            host.engine.set_fellows({}, 0.0)
            host.tunnels[peer.node].endpoint = Endpoint(peer.ip, PORT)
        net._heap.clear()
        one.send(other.node, "ask")
        other.send(one.node, "ask")
        net.run(4.9)
        assert not one.replies


class TestOldVersions:
    def test_who_answers_no_probes_but_is_reached_needs_no_relay(self) -> None:
        net = Net()
        one, other, relay = net.host("public"), net.host("public"), net.host("public")
        one.relayed_by(relay)
        other.arrive = partial(without_probes, other.arrive)  # type: ignore[method-assign]
        one.meets(other)
        one.tunnels[other.node].endpoint = Endpoint(other.ip, PORT)  # as the core has it, by the record
        other.tunnels[one.node] = Tunnel()
        steady(one, other)
        net.run(60.0)
        assert not done(one, AskRelay)
        assert gap_s(one, net.now_s - 1.0) < 1.0
        net.cut.add(frozenset({one.node, other.node}))
        net.run(10.0)
        assert done(one, AskRelay)


def without_probes(arrive: Callable[[Packet, Endpoint], None], packet: Packet, source: Endpoint) -> None:
    if packet.what != "probe":
        arrive(packet, source)
