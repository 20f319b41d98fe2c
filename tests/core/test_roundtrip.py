"""Round trips: what is taken as one, what is not, and how soon a slow moment is forgotten."""

from random import Random

import pytest

from clanmesh_protocol.keys import NodeId
from clanmeshd.core.limits import DOUBT_S, DOUBT_S_MAX, LOCAL_HEALTH_MAX, PROBE_TIMEOUT_S_MAX, PROBE_TIMEOUT_S_MIN
from clanmeshd.core.membership import Membership
from clanmeshd.core.roundtrip import Misses, RoundTrip
from clanmeshd.core.subjects import SendPing, State

OWN, PEER = NodeId(bytes(32)), NodeId(b"\x01" * 32)
NEAR_S = 0.001


def of(*samples_s: float) -> RoundTrip:
    """An estimate after these answers."""
    estimate = RoundTrip()
    for seconds in samples_s:
        estimate.sample(seconds)
    return estimate


class Pair:
    """A detector with one peer, in virtual time; answers come when the test says."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.detector = Membership(OWN, Random(1), self.now_s)
        self.detector.set_members([OWN, PEER], self.now_s)
        self.detector.set_probeable(PEER, self.now_s)

    def pinged(self, seconds: float) -> list[int]:
        """Let time pass with nobody answering; the numbers of the pings that were sent."""
        end_s, numbers = self.now_s + seconds, []
        while (due_s := self.detector.next_deadline()) <= end_s:
            self.now_s = max(self.now_s, due_s)
            self.detector.handle_deadline(self.now_s)
            self.detector.ballot.take(self.now_s)
            numbers += [a.number for a in self.detector.actions() if isinstance(a, SendPing)]
        self.now_s = end_s
        return numbers

    def answer(self, number: int, after_s: float = NEAR_S) -> None:
        """Let an answer come."""
        self.now_s += after_s
        self.detector.acked(PEER, number, self.now_s)
        self.detector.heard(PEER, self.now_s)

    def next_ping(self) -> int:
        """Let time pass until a ping is sent; its number."""
        while not (numbers := self.pinged(max(0.0, self.detector.next_deadline() - self.now_s))):
            pass
        return numbers[-1]

    def settle(self) -> None:
        """Let the next ping be answered at once."""
        self.answer(self.next_ping())


def test_what_comes_after_the_probe_is_over_is_no_sample() -> None:
    assert of(1.3).smoothed_s is None
    assert of(NEAR_S, 40.0).smoothed_s == NEAR_S
    assert not RoundTrip().sample(40.0)


@pytest.mark.parametrize("seconds", [0.3, 0.6, 0.75, 1.1])
def test_a_slow_link_is_measured_also_where_it_was_fast_before(seconds: float) -> None:
    estimate = of(*[NEAR_S] * 50, *[seconds] * 30)
    assert estimate.smoothed_s == pytest.approx(seconds, rel=0.05)
    assert estimate.timeout_s == pytest.approx(min(seconds, PROBE_TIMEOUT_S_MAX), rel=0.5)


def test_three_fast_answers_end_a_slow_estimate() -> None:
    slow = of(*[1.0] * 20, NEAR_S, NEAR_S)
    assert slow.smoothed_s is not None
    assert slow.smoothed_s > 0.5
    slow.sample(NEAR_S)
    assert slow.smoothed_s == NEAR_S
    assert slow.timeout_s == PROBE_TIMEOUT_S_MIN


def test_one_slow_answer_is_forgotten_after_a_few() -> None:
    estimate = of(*[NEAR_S] * 20, 1.2, *[NEAR_S] * 3)
    assert estimate.smoothed_s == NEAR_S


def test_single_fast_answers_move_it_slowly() -> None:
    estimate = of(*[0.2] * 20, *[0.05, 0.2] * 10)
    assert estimate.smoothed_s is not None
    assert 0.08 < estimate.smoothed_s < 0.2


def test_a_path_that_grows_slower_and_faster_never_restarts() -> None:
    rng = Random(7)
    estimate = of(*(rng.uniform(0.04, 0.06) for _ in range(500)))
    assert estimate.smoothed_s == pytest.approx(0.05, rel=0.15)


def test_a_ping_from_before_the_partition_proves_that_the_peer_lives_and_nothing_else() -> None:
    pair = Pair()
    pair.settle()
    first, *_ = pair.pinged(2.0)
    pair.pinged(40.0)
    assert pair.detector.state(PEER) is State.DOWN
    pair.answer(first)
    assert pair.detector.state(PEER) is State.UP
    assert pair.detector.round_trip_s(PEER) == pytest.approx(NEAR_S)


def test_all_that_lay_in_a_queue_comes_at_once() -> None:
    pair = Pair()
    pair.settle()
    for number in pair.pinged(60.0):
        pair.answer(number, 0.0)
    measured_s = pair.detector.round_trip_s(PEER)
    assert measured_s is not None
    assert measured_s < 1.2
    for _ in range(3):
        pair.settle()
    assert pair.detector.round_trip_s(PEER) == pytest.approx(NEAR_S)


@pytest.mark.parametrize("away_s", [0.9, 1.1, 5.0, 3600.0])
def test_a_stopped_process_measures_nothing(away_s: float) -> None:
    pair = Pair()
    for _ in range(3):
        pair.settle()
    pair.answer(pair.next_ping(), away_s)  # it came long ago; nobody was here to take it
    for _ in range(3):
        pair.settle()
    assert pair.detector.round_trip_s(PEER) == pytest.approx(NEAR_S)


def test_late_answers_still_say_that_this_device_hears() -> None:
    pair = Pair()
    pair.settle()
    numbers = pair.pinged(30.0)
    for number in numbers[-2 * LOCAL_HEALTH_MAX :]:
        pair.answer(number, 0.0)
    sent = pair.pinged(3.0)
    assert len(sent) >= 2  # at the full pace again: one a second


def test_a_vote_waits_for_more_pings_where_many_are_lost() -> None:
    misses = Misses()
    assert misses.doubt_s == DOUBT_S
    for number in range(200):
        misses.sample(missed=number % 20 == 0)
    assert misses.doubt_s <= 2 * DOUBT_S, "one of twenty says little"
    for number in range(200):
        misses.sample(missed=number % 2 == 0)
    assert misses.doubt_s == DOUBT_S_MAX
    for _ in range(200):
        misses.sample(missed=False)
    assert misses.doubt_s == DOUBT_S, "and is forgotten in minutes"
