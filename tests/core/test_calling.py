"""Calls by way of others: who carries and takes them, and that forged, repeated and too many ones do nothing."""

from dataclasses import replace

import pytest

from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.records import Kind
from clanmesh_protocol.signalling import Call, CallKind, Candidate, CandidateKind, NatKind, sign_call
from clanmeshd.core.effects import Called, Effect
from clanmeshd.core.limits import CALLS_BURST, CALLS_CARRIED_BURST, CALLS_CHECKED_BURST, CALLS_WAITING_MAX
from clanmeshd.core.mesh import Mesh
from clanmeshd.core.wanted import overlay_address
from tests.core.worlds import START_SEQ, Puppet, endpoint_of, found, instant, make_mesh, status

CLAN = found(6)
LATER_SEQ = START_SEQ + (1 << 40)
WHERE = Candidate(CandidateKind.SEEN, endpoint("203.0.113.5", 50000))
NOW = instant(2.0)


class Scene:
    """Device 0 as a core; of the others those that were met are up, as puppets."""

    def __init__(self, *up: int) -> None:
        self.mesh: Mesh = make_mesh(CLAN, 0)
        self.mesh.set_endpoints([endpoint_of(0)], instant(0.0))
        self.mesh.set_status(status(), instant(0.0))
        self.mesh.effects()
        self.puppets = {index: Puppet(CLAN, index, self.mesh) for index in up}
        for puppet in self.puppets.values():
            puppet.meet(instant(1.0))

    def give(self, index: int, *calls: Call) -> list[Effect]:
        """A member sends calls; what comes of it."""
        self.mesh.receive(self.puppets[index].seal(*calls), self.puppets[index].at, NOW)
        return self.mesh.effects()

    def call(self, callee: int) -> dict[int, list[Call]]:
        """The core calls somebody; who is given the call."""
        self.mesh.meeting.call(node(callee), CallKind.ASK, NatKind.EASY, [WHERE], NOW)
        return self.sent(self.mesh.effects())

    def sent(self, effects: list[Effect]) -> dict[int, list[Call]]:
        """The calls that members were given."""
        found = {}
        for index, puppet in self.puppets.items():
            calls = [frame for frame in puppet.read(effects) if isinstance(frame, Call)]
            if calls:
                found[index] = calls
        return found


def node(index: int) -> NodeId:
    return CLAN.keys[index].node


def call_by(
    caller: int, callee: int, number: int, *, signer: int | None = None, where: tuple[Candidate, ...] = (WHERE,)
) -> Call:
    seed = CLAN.keys[caller if signer is None else signer].identity_seed
    return sign_call(
        seed,
        CLAN.id,
        node(caller),
        node(callee),
        LATER_SEQ + number,
        kind=CallKind.ASK,
        nat=NatKind.HARD,
        candidates=where,
    )


def taken(effects: list[Effect]) -> list[Called]:
    return [effect for effect in effects if isinstance(effect, Called)]


class TestCalling:
    def test_who_is_up_is_called_both_ways(self) -> None:
        direct, carried = Scene(1, 2).call(2).values()
        assert direct == carried
        assert list(Scene(2).call(2)) == [2]

    def test_who_is_not_is_called_by_way_of_each_of_the_others_in_turn(self) -> None:
        scene = Scene(1, 2, 3)
        carriers = [carrier for _ in range(6) for carrier in scene.call(4)]
        assert sorted(carriers[:3]) == sorted(carriers[3:]) == [1, 2, 3]

    def test_who_is_reached_from_everywhere_carries_first(self) -> None:
        for _ in range(4):
            scene = Scene(1, 2)
            public = Puppet(CLAN, 3, scene.mesh)
            public.at = endpoint("198.51.100.3", 51871)
            scene.puppets[3] = public
            public.meet(instant(1.5))
            assert list(scene.call(4)) == [3]

    def test_nobody_carries_to_nobody(self) -> None:
        scene = Scene()
        assert not scene.mesh.meeting.call(node(4), CallKind.ASK, NatKind.EASY, [WHERE], NOW)
        assert not scene.mesh.meeting.call(NodeId(bytes(32)), CallKind.ASK, NatKind.EASY, [WHERE], NOW)
        assert scene.sent(scene.mesh.effects()) == {}

    def test_it_says_what_it_shall_with_growing_numbers(self) -> None:
        scene = Scene(1)
        calls = [call for _ in range(3) for call in scene.call(4)[1]]
        assert {(call.caller, call.callee, call.candidates) for call in calls} == {(node(0), node(4), (WHERE,))}
        assert calls[0].number < calls[1].number < calls[2].number

    @pytest.mark.parametrize("offset_s", [0.0, -3600.0])
    def test_numbers_go_on_after_a_restart_above_all_that_was_stored(self, offset_s: float) -> None:
        scene = Scene(1)
        [before] = scene.call(4)[1]
        records = tuple(entry for kind in Kind for entry in scene.mesh.ledger.of_kind(kind))
        again = make_mesh(CLAN, 0, seed=1, now=instant(3.0, offset_s), records=(*CLAN.records, *records))
        puppet = Puppet(CLAN, 1, again)
        puppet.meet(instant(4.0, offset_s))
        again.meeting.call(node(4), CallKind.ASK, NatKind.EASY, [WHERE], instant(5.0, offset_s))
        [after] = [frame for frame in puppet.read(again.effects()) if isinstance(frame, Call)]
        said = max(entry.value.seq for entry in records if entry.value.author == node(0))
        assert after.number > (said if offset_s else before.number)


class TestCarrying:
    def test_a_call_is_passed_on_as_it_is(self) -> None:
        scene = Scene(1, 2)
        call = call_by(1, 2, 1)
        effects = scene.give(1, call)
        assert scene.sent(effects) == {2: [call]}
        assert taken(effects) == []

    def test_it_is_passed_on_once(self) -> None:
        scene = Scene(1, 2, 3)
        assert scene.sent(scene.give(3, call_by(1, 2, 1))) == {}
        assert scene.mesh.counters["unauthorized"] == 1

    def test_not_to_one_who_is_not_here_or_is_no_member(self) -> None:
        scene = Scene(1, 2)
        stranger = sign_call(
            CLAN.keys[1].identity_seed,
            CLAN.id,
            node(1),
            NodeId(bytes(range(32))),
            1,
            kind=CallKind.ASK,
            nat=NatKind.EASY,
            candidates=(),
        )
        assert scene.sent(scene.give(1, call_by(1, 4, 1), stranger)) == {}

    def test_a_later_kind_is_passed_on(self) -> None:
        scene = Scene(1, 2)
        call = replace(call_by(1, 2, 1), kind=77)
        assert scene.sent(scene.give(1, call)) == {2: [call]}

    def test_a_flood_is_passed_on_by_a_budget_for_each_caller(self) -> None:
        scene = Scene(1, 2, 3)
        passed = sum(
            len(calls)
            for number in range(500)
            for calls in scene.sent(scene.give(1, call_by(1, 2, number))).values()
        )
        assert passed == CALLS_CARRIED_BURST
        assert scene.mesh.counters["limit"] == 500 - CALLS_CARRIED_BURST
        assert list(scene.sent(scene.give(3, call_by(3, 2, 1)))) == [2]


class TestBeingCalled:
    @pytest.mark.parametrize("carrier", [1, 2])
    def test_a_call_is_taken_from_whoever_brings_it(self, carrier: int) -> None:
        scene = Scene(1, 2)
        expected = Called(node(1), CallKind.ASK, NatKind.HARD, (WHERE,))
        assert taken(scene.give(carrier, call_by(1, 0, 1))) == [expected]

    def test_once(self) -> None:
        scene = Scene(1, 2)
        call = call_by(1, 0, 5)
        assert len(taken(scene.give(1, call))) == 1
        assert taken(scene.give(2, call)) == []
        assert taken(scene.give(1, call_by(1, 0, 4))) == []
        assert len(taken(scene.give(1, call_by(1, 0, 6)))) == 1
        assert scene.mesh.counters["stale"] == 2

    def test_a_restart_makes_no_call_good_that_is_older_than_the_node_record(self) -> None:
        scene = Scene(1)
        entry = next(each for each in scene.mesh.ledger.of_kind(Kind.NODE) if each.value.author == node(1))
        assert taken(scene.give(1, call_by(1, 0, entry.value.seq - LATER_SEQ))) == []
        assert len(taken(scene.give(1, call_by(1, 0, entry.value.seq + 1 - LATER_SEQ)))) == 1

    def test_a_forged_one_has_no_effect_and_keeps_no_later_one_out(self) -> None:
        scene = Scene(1, 2)
        forged = call_by(1, 0, 1 << 20, signer=2)
        assert taken(scene.give(2, forged, replace(call_by(1, 0, 1), number=LATER_SEQ + 2))) == []
        assert scene.mesh.counters["signature"] == 2
        assert len(taken(scene.give(2, call_by(1, 0, 1)))) == 1

    def test_who_is_no_member_calls_nobody(self) -> None:
        scene = Scene(1)
        other = found(6, seed=9).keys[1]
        call = sign_call(
            other.identity_seed,
            CLAN.id,
            other.node,
            node(0),
            LATER_SEQ,
            kind=CallKind.ASK,
            nat=NatKind.EASY,
            candidates=(),
        )
        assert taken(scene.give(1, call)) == []
        assert scene.mesh.counters["unauthorized"] == 1

    def test_candidates_where_nobody_can_be_are_left_out(self) -> None:
        hosts = ("127.0.0.1", "224.0.0.1", "169.254.0.1", "0.0.0.0", "fe80::1", "255.255.255.255")
        bad = [Candidate(CandidateKind.LAN, endpoint(host, 1)) for host in hosts]
        inside = Candidate(CandidateKind.SEEN, Endpoint(overlay_address(CLAN.id, node(1)), 1))
        [called] = taken(Scene(1).give(1, call_by(1, 0, 1, where=(*bad, WHERE, inside))))
        assert called.candidates == (WHERE,)
        [called] = taken(Scene(1).give(1, call_by(1, 0, 1, where=(WHERE._replace(kind=9), WHERE, WHERE))))
        assert called.candidates == (WHERE,)

    def test_a_later_kind_is_ignored_and_a_later_nat_unknown(self) -> None:
        keys = CLAN.keys[1]
        later = Call(keys.node, node(0), LATER_SEQ, 77, 99, ())
        for number, kind in enumerate((77, CallKind.BYE)):
            call = replace(later, number=LATER_SEQ + number, kind=kind)
            signed = sign_call(
                keys.identity_seed,
                CLAN.id,
                call.caller,
                call.callee,
                call.number,
                kind=call.kind,  # type: ignore[arg-type]
                nat=call.nat,  # type: ignore[arg-type]
                candidates=(),
            )
            calls = taken(Scene(1).give(1, signed))
            assert calls == ([] if kind == 77 else [Called(keys.node, CallKind.BYE, NatKind.UNKNOWN, ())])

    def test_a_flood_by_one_caller_is_bounded(self) -> None:
        scene = Scene(1, 2)
        assert sum(len(taken(scene.give(1, call_by(1, 0, number)))) for number in range(90)) == CALLS_BURST
        assert len(taken(scene.give(2, call_by(2, 0, 1)))) == 1

    def test_a_flood_of_forged_ones_costs_few_checks_and_the_caller_nothing(self) -> None:
        scene = Scene(1, 2)
        for number in range(500):
            scene.give(2, replace(call_by(1, 0, number), nat=NatKind.NONE))
        assert scene.mesh.counters["signature"] == CALLS_CHECKED_BURST
        assert len(taken(scene.give(1, call_by(1, 0, 1)))) == 1

    def test_what_waits_is_bounded(self) -> None:
        scene = Scene(1, 2, 3, 4, 5)
        for number in range(CALLS_WAITING_MAX):
            for index, puppet in scene.puppets.items():
                when = instant(2.0 + number)
                scene.mesh.receive(puppet.seal(call_by(index, 0, number)), puppet.at, when)
        assert len(taken(scene.mesh.effects())) == CALLS_WAITING_MAX
