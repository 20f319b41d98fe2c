"""The failure detector by itself: fed with what was heard, watched for what it does."""

from itertools import pairwise
from math import inf
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clanmesh_protocol.keys import NodeId
from clanmeshd.core.limits import (
    CONFIRMATIONS_PER_S,
    DOWN_INTERVAL_S,
    GREETINGS_AGAIN,
    PROBE_INTERVAL_S,
    REFUTATION_S,
    RELAYS_EACH_MAX,
    RELAYS_MAX,
    UNWITNESSED_S,
    WITNESSES_MAX,
)
from clanmeshd.core.membership import Membership
from clanmeshd.core.relays import Relayed
from clanmeshd.core.subjects import Action, AskIndirect, Changed, SendPing, State
from clanmeshd.core.suspicions import Suspicions, quorum

OWN = NodeId(b"\x00" * 32)
STEP_S = 0.01


def peer(number: int) -> NodeId:
    """The n-th other member, from 1."""
    return NodeId(bytes([number]) * 32)


class Watch:
    """A detector in virtual time, among peers of whom some answer each ping."""

    def __init__(self, others: int, *, incarnation: int = 10) -> None:
        self.now_s = 100.0
        self.detector = Membership(OWN, Random(1), self.now_s)
        self.peers = [peer(number) for number in range(1, others + 1)]
        self.answering = set(self.peers)
        self.vouching = False
        self.actions: list[tuple[float, Action]] = []
        self.votes: list[tuple[float, tuple[tuple[NodeId, int], ...]]] = []
        self.detector.set_members([OWN, *self.peers], self.now_s)
        for node in self.peers:
            self.detector.set_probeable(node, self.now_s)
            self.detector.set_incarnation(node, incarnation, self.now_s)

    def run(self, seconds: float) -> None:
        """Let time pass; each due moment is met exactly."""
        end_s = self.now_s + seconds
        while (due_s := self.detector.next_deadline()) <= end_s:
            self.now_s = max(self.now_s, due_s)
            self.detector.handle_deadline(self.now_s)
            self.drain()
        self.now_s = end_s

    def drain(self) -> None:
        """Answer pings, take votes."""
        votes = self.detector.ballot.take(self.now_s)
        if votes is not None:
            self.votes.append((self.now_s, votes))
        while actions := self.detector.actions():
            for action in actions:
                self.actions.append((self.now_s, action))
                self.answer(action)

    def answer(self, action: Action) -> None:
        """Do what the others would."""
        if isinstance(action, SendPing) and action.node in self.answering:
            self.detector.acked(action.node, action.number, self.now_s)
            self.detector.heard(action.node, self.now_s)
        if isinstance(action, AskIndirect):
            self.detector.vouched(action.via, action.number, reached=self.vouching, now_s=self.now_s)

    def suspect(self, node: NodeId, *authors: NodeId, incarnation: int = 10) -> None:
        """Let others publish a suspicion."""
        for author in authors:
            self.detector.suspected(author, ((node, incarnation),), self.now_s)
        self.drain()

    def state(self, node: NodeId) -> State:
        """The opinion."""
        return self.detector.state(node)

    def changes(self, node: NodeId) -> list[State]:
        """All opinions of a member, in order."""
        return [a.after for _, a in self.actions if isinstance(a, Changed) and a.node == node]

    def pings(self, node: NodeId, since_s: float = 0.0) -> list[float]:
        """When a member was pinged."""
        return [at for at, a in self.actions if isinstance(a, SendPing) and a.node == node and at >= since_s]


class TestProbing:
    def test_all_are_greeted_within_a_second(self) -> None:
        watch = Watch(9)
        watch.run(1.0)
        assert list(watch.detector.up()) == watch.peers

    def test_one_probe_a_second_then(self) -> None:
        watch = Watch(9)
        watch.run(5.0)
        before = len(watch.actions)
        watch.run(30.0)
        assert len(watch.actions) - before == pytest.approx(30 / PROBE_INTERVAL_S, abs=1)

    def test_who_was_heard_longest_ago_is_next(self) -> None:
        watch = Watch(4)
        watch.run(5.0)
        start_s = watch.now_s
        for _ in range(40):
            watch.detector.heard(peer(1), watch.now_s)
            watch.run(0.25)
        assert not watch.pings(peer(1), start_s)
        assert len(watch.pings(peer(2), start_s)) >= 3

    def test_a_member_without_an_address_is_unknown_and_left_alone(self) -> None:
        watch = Watch(1)
        watch.detector.set_members([peer(1), peer(2)], watch.now_s)
        watch.run(60.0)
        assert watch.state(peer(2)) is State.UNKNOWN
        assert not watch.pings(peer(2))

    def test_whom_only_others_reached_is_tried_again_at_once_a_few_times(self) -> None:
        watch = Watch(3)
        watch.vouching = True
        watch.answering.discard(peer(2))
        watch.run(20.0)
        asked = [at_s for at_s, action in watch.actions if isinstance(action, AskIndirect)]
        early = sorted({at_s for at_s in asked if at_s < 100.0 + 2.5})
        assert len(early) == 1 + GREETINGS_AGAIN
        assert min(b - a for a, b in pairwise(sorted({at_s for at_s in asked if at_s > early[-1]}))) > 1.0
        assert watch.state(peer(2)) is State.UNKNOWN

    def test_a_lost_ping_on_behalf_of_another_does_not_take_the_first_try(self) -> None:
        watch = Watch(3)
        watch.vouching = True
        watch.answering.discard(peer(2))
        watch.detector.asked(peer(1), 1, peer(2), watch.now_s)
        watch.drain()
        watch.answering.add(peer(2))
        watch.run(0.5)
        assert watch.state(peer(2)) is State.UP


class TestVerdict:
    def test_alone_with_one_own_evidence_is_enough(self) -> None:
        watch = Watch(1)
        watch.run(3.0)
        watch.answering.clear()
        watch.run(5.0)
        assert watch.changes(peer(1)) == [State.UP, State.SUSPECT, State.DOWN]

    def test_among_many_own_evidence_is_not(self) -> None:
        watch = Watch(9)
        watch.run(3.0)
        watch.answering.discard(peer(1))
        watch.run(25.0)
        assert watch.state(peer(1)) is State.SUSPECT
        watch.suspect(peer(1), peer(2))
        watch.run(5.0)
        assert watch.state(peer(1)) is State.SUSPECT
        watch.suspect(peer(1), peer(3))
        assert watch.state(peer(1)) is State.DOWN

    def test_one_author_counts_once(self) -> None:
        watch = Watch(9)
        watch.run(3.0)
        watch.answering.discard(peer(1))
        for _ in range(5):
            watch.run(5.0)
            watch.suspect(peer(1), peer(2))
        assert watch.state(peer(1)) is State.SUSPECT

    @pytest.mark.parametrize("incarnation", [9, 11, 2**64 - 1])
    def test_votes_on_another_incarnation_are_void(self, incarnation: int) -> None:
        watch = Watch(9)
        watch.run(3.0)
        watch.answering.discard(peer(1))
        watch.run(10.0)
        watch.suspect(peer(1), *watch.peers[1:], incarnation=incarnation)
        watch.run(10.0)
        assert watch.state(peer(1)) is State.SUSPECT

    def test_any_number_of_accusers_fails_against_an_answer(self) -> None:
        watch = Watch(9)
        watch.run(3.0)
        for _ in range(20):
            watch.suspect(peer(1), *watch.peers[1:])
            watch.run(1.0)
        assert watch.changes(peer(1)) == [State.UP]

    def test_the_refutation_window_is_kept(self) -> None:
        watch = Watch(9)
        watch.run(3.0)
        watch.answering.discard(peer(1))
        start_s = watch.now_s
        watch.suspect(peer(1), *watch.peers[1:])
        watch.run(10.0)
        down_s = next(at for at, a in watch.actions if a == Changed(peer(1), State.SUSPECT, State.DOWN))
        assert REFUTATION_S <= down_s - start_s <= REFUTATION_S + 0.5

    def test_a_signed_later_status_refutes(self) -> None:
        watch = Watch(9)
        watch.run(3.0)
        watch.answering.discard(peer(1))
        watch.suspect(peer(1), *watch.peers[1:])
        watch.run(1.5)
        assert watch.state(peer(1)) is State.SUSPECT
        watch.detector.set_incarnation(peer(1), 11, watch.now_s)
        assert watch.state(peer(1)) is State.UP
        watch.answering.add(peer(1))
        watch.run(3.0)
        assert State.DOWN not in watch.changes(peer(1))

    def test_an_older_status_does_not(self) -> None:
        watch = Watch(9)
        watch.run(3.0)
        watch.answering.discard(peer(1))
        watch.suspect(peer(1), *watch.peers[1:])
        watch.run(1.5)
        watch.detector.set_incarnation(peer(1), 10, watch.now_s)
        assert watch.state(peer(1)) is State.SUSPECT

    def test_an_indirect_answer_ends_the_probe(self) -> None:
        watch = Watch(9)
        watch.run(3.0)
        watch.answering.discard(peer(1))
        watch.vouching = True
        watch.run(60.0)
        assert watch.changes(peer(1)) == [State.UP]
        asked = [a for _, a in watch.actions if isinstance(a, AskIndirect)]
        assert {a.target for a in asked} == {peer(1)}
        assert len({a.via for a in asked[:3]}) == 3

    def test_with_too_few_witnesses_left_time_decides(self) -> None:
        # A power cut: of ten, this device alone remains.
        watch = Watch(9)
        watch.run(3.0)
        watch.answering.clear()
        watch.run(UNWITNESSED_S - 5)
        assert State.DOWN not in {watch.state(node) for node in watch.peers}
        watch.run(UNWITNESSED_S)
        assert {watch.state(node) for node in watch.peers} == {State.DOWN}

    def test_a_pause_of_our_own_is_no_evidence(self) -> None:
        watch = Watch(1)
        watch.run(3.0)
        watch.answering.clear()
        while watch.state(peer(1)) is not State.SUSPECT:
            watch.run(0.1)
        watch.now_s += 60.0  # suspended in the middle of the refutation window
        watch.detector.handle_deadline(watch.now_s)
        watch.drain()
        watch.answering = set(watch.peers)
        watch.run(3.0)
        assert State.DOWN not in watch.changes(peer(1))


class TestTheDown:
    def lost(self, others: int = 1) -> Watch:
        """A watch whose peers are all down."""
        watch = Watch(others)
        watch.run(3.0)
        watch.answering.clear()
        watch.run(60.0)
        assert {watch.state(node) for node in watch.peers} == {State.DOWN}
        return watch

    def test_are_tried_for_ever_at_a_slow_pace(self) -> None:
        watch = self.lost()
        start_s = watch.now_s
        watch.run(3600.0)
        assert len(watch.pings(peer(1), start_s)) == pytest.approx(3600 / DOWN_INTERVAL_S, abs=1)

    def test_come_back_with_the_first_answer(self) -> None:
        watch = self.lost()
        watch.answering.add(peer(1))
        watch.run(DOWN_INTERVAL_S)
        assert watch.state(peer(1)) is State.UP

    def test_one_that_comes_back_has_the_others_tried_at_once(self) -> None:
        watch = self.lost(9)
        watch.answering = set(watch.peers)
        watch.run(DOWN_INTERVAL_S + 1.0)
        assert list(watch.detector.up()) == watch.peers

    def test_a_signed_sign_of_life_has_it_tried_at_once(self) -> None:
        watch = self.lost()
        watch.answering.add(peer(1))
        watch.detector.set_incarnation(peer(1), 11, watch.now_s)
        watch.drain()
        assert watch.state(peer(1)) is State.UP

    def test_are_vouched_for_when_another_asks(self) -> None:
        # A member that just started finds one down; our vote from long ago has lapsed, and it needs votes.
        watch = self.lost(2)
        watch.votes.clear()
        watch.run(120.0)
        assert not watch.votes
        watch.suspect(peer(1), peer(2))
        watch.run(1.0)
        assert [votes for _, votes in watch.votes] == [((peer(1), 10),)]


class TestOthersProbes:
    def test_a_reached_target_is_reported(self) -> None:
        watch = Watch(3)
        watch.run(3.0)
        watch.detector.asked(peer(2), 77, peer(1), watch.now_s)
        watch.drain()
        watch.run(0.0)
        assert Relayed(peer(2), 77, True) in [a for _, a in watch.actions] + watch.detector.actions()

    def test_a_silent_one_too(self) -> None:
        watch = Watch(3)
        watch.run(3.0)
        watch.answering.discard(peer(1))
        watch.detector.asked(peer(2), 77, peer(1), watch.now_s)
        watch.run(1.0)
        assert Relayed(peer(2), 77, False) in [a for _, a in watch.actions]

    def test_are_bounded(self) -> None:
        watch = Watch(3)
        watch.run(3.0)
        watch.answering.discard(peer(1))
        start_s = watch.now_s
        for number in range(10 * RELAYS_MAX):
            watch.detector.asked(peer(2), number, peer(1), watch.now_s)
        watch.drain()
        assert len(watch.pings(peer(1), start_s)) == RELAYS_EACH_MAX

    def test_who_asks_without_end_takes_nobody_elses_turn(self) -> None:
        watch = Watch(9)
        watch.run(3.0)
        watch.answering.discard(peer(1))
        for asker in range(2, 10):
            for number in range(RELAYS_MAX if asker == 2 else 1):
                watch.detector.asked(peer(asker), number, peer(1), watch.now_s)
        watch.run(1.0)
        told = [action.asker for _, action in watch.actions if isinstance(action, Relayed)]
        assert {peer(asker) for asker in range(2, 10)} <= set(told)

    def test_accusations_make_us_send_a_bounded_number_of_pings(self) -> None:
        watch = Watch(200)
        watch.answering.clear()
        watch.run(1.0)
        sent = len(watch.actions)
        for author in watch.peers[:50]:
            watch.detector.suspected(author, tuple((node, 10) for node in watch.peers[100:120]), watch.now_s)
        watch.drain()
        assert len(watch.actions) - sent <= 20

    def test_those_it_has_no_time_for_have_their_turn_later(self) -> None:
        watch = Watch(200)
        watch.run(12.0)
        watch.answering.clear()
        accused = watch.peers[100:140]
        for author, few in ((peer(1), accused[:20]), (peer(2), accused[20:])):
            watch.detector.suspected(author, tuple((node, 10) for node in few), watch.now_s)
        watch.run(len(accused) / CONFIRMATIONS_PER_S + 3.0)
        assert {watch.state(node) for node in accused} == {State.SUSPECT}

    def test_what_enough_have_said_is_not_said_again(self) -> None:
        watch = Watch(9)
        watch.run(3.0)
        watch.answering.discard(peer(1))
        watch.suspect(peer(1), *[peer(2 + number) for number in range(WITNESSES_MAX)])
        watch.run(5.0)
        assert watch.state(peer(1)) is State.DOWN
        assert not watch.votes


class TestSuspicions:
    def test_quorum(self) -> None:
        assert [quorum(members) for members in (2, 3, 4, 5, 6, 7, 1000)] == [1, 1, 2, 2, 3, 3, 3]

    def test_a_new_record_replaces_the_votes_of_its_author(self) -> None:
        votes = Suspicions()
        votes.hear(peer(2), [(peer(1), 5)], 0.0)
        votes.hear(peer(2), [], 1.0)
        assert votes.against(peer(1), 5, 2.0) == 0

    def test_votes_lapse(self) -> None:
        votes = Suspicions()
        votes.hear(peer(2), [(peer(1), 5)], 0.0)
        assert (votes.against(peer(1), 5, 59.0), votes.against(peer(1), 5, 61.0)) == (1, 0)


Event = tuple[str, int, float]


@given(
    st.integers(1, 6),
    st.lists(
        st.tuples(
            st.sampled_from(["silence", "answer", "suspect", "status", "asked", "vouched", "pause"]),
            st.integers(1, 6),
            st.floats(0.0, 8.0),
        ),
        max_size=30,
    ),
)
@settings(max_examples=60)
def test_deadlines_are_exact_whatever_happens(others: int, events: list[Event]) -> None:
    """A handled deadline lies in the future, and a call before the time does nothing."""
    watch = Watch(others)
    for what, number, wait_s in events:
        node = peer(1 + number % others)
        match what:
            case "silence":
                watch.answering.discard(node)
            case "answer":
                watch.answering.add(node)
            case "suspect":
                watch.suspect(node, *[other for other in watch.peers if other != node])
            case "status":
                watch.detector.set_incarnation(node, 11 + number, watch.now_s)
            case "asked":
                watch.detector.asked(peer(1), number, node, watch.now_s)
            case "vouched":
                watch.detector.vouched(node, number, reached=bool(number % 2), now_s=watch.now_s)
            case "pause":
                watch.now_s += wait_s
        watch.drain()
        watch.run(wait_s)
        assert watch.detector.next_deadline() > watch.now_s
        watch.detector.handle_deadline(watch.now_s)
        assert watch.detector.actions() == []
        assert watch.detector.next_deadline() < inf
