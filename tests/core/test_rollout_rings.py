"""Whose turn it is to run a commit, as a table and as a machine; what a device shows meanwhile."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.records import RolloutState, Verb
from clanmeshd.core.effects import Order, Trial
from clanmeshd.rollout.journal import Entry, Memory
from clanmeshd.rollout.rings import Go, Ring, Stop, Wait, gate, place
from clanmeshd.rollout.standing import Facts, state_of, view, why

NEW, OLD, OTHER = (bytes([number]) * 20 for number in (1, 2, 3))
TESTERS = Ring("testers", 2, 60)
CANARY = Ring("canary", 1, 10)
BOTH = (TESTERS, CANARY)


def node(number: int) -> NodeId:
    return NodeId(bytes([number]) * 32)


def trial(number: int, what: str = "", *, tag: str = "testers") -> Trial:
    """What a device shows: `well` or `bad` of the new commit, or nothing."""
    return Trial(node(number), (tag,), NEW if what == "well" else OLD, (NEW,) if what == "bad" else ())


def shown(*whats: str, tag: str = "testers", first: int = 1) -> list[Trial]:
    return [trial(first + number, what, tag=tag) for number, what in enumerate(whats)]


def order(verb: Verb, commit: bytes | None = None) -> Order:
    return Order(verb, "main", node(99), "laptop", 1, commit, "holidays")


def rest(trials: Sequence[Trial], rings: Sequence[Ring] = (TESTERS,), orders: Sequence[Order] = ()) -> object:
    """What a device without a tag may do."""
    return gate(NEW, tags=(), rings=rings, trials=trials, orders=orders)


# --- one ring ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "healthy", "needed"),
    [(1, 0, 1), (2, 0, 2), (3, 0, 2), (4, 0, 3), (5, 0, 3), (3, 1, 1), (3, 3, 3), (2, 5, 2)],
)
def test_how_many_are_enough(members: int, healthy: int, needed: int) -> None:
    assert Ring("testers", healthy).needed(members) == needed


@pytest.mark.parametrize(
    ("whats", "may"),
    [
        (("", "", ""), Wait),
        (("well", "", ""), Wait),
        (("well", "well", ""), Go),
        (("well", "well", "well"), Go),
        (("well", "well", "bad"), Go),  # one of three cannot hold everybody up
        (("well", "bad", ""), Wait),
        (("", "bad", ""), Wait),
        (("bad", "bad", ""), Stop),
        (("bad", "bad", "well"), Stop),
        (("bad",), Stop),
        (("well",), Go),
        (("bad", ""), Stop),  # of two both must find it well
        (("well", "well", "bad", "bad"), Stop),  # in doubt not
    ],
)
def test_the_verdict_of_one_ring(whats: tuple[str, ...], may: type) -> None:
    assert isinstance(rest(shown(*whats)), may)


def test_who_calls_the_running_commit_bad_found_it_bad() -> None:
    both = [Trial(node(number), ("testers",), NEW, (NEW,)) for number in (1, 2)]
    assert isinstance(rest(both), Stop)


def test_a_ring_without_members_holds_nobody() -> None:
    assert rest([trial(1, "bad", tag="backup")]) == Go()


def test_a_device_of_the_first_ring_waits_for_nobody_and_watches() -> None:
    assert gate(NEW, tags=("backup", "testers"), rings=(TESTERS,), trials=shown("bad", "bad"), orders=()) == Go(60)


def test_without_rings_everybody_goes() -> None:
    assert rest(shown("bad", "bad"), rings=()) == Go()


def test_the_reasons_name_the_ring_and_how_far_it_is() -> None:
    waits, stops = rest(shown("well", "", "")), rest(shown("bad", "bad", ""))
    assert isinstance(waits, Wait)
    assert isinstance(stops, Stop)
    assert waits.why == "waiting for testers: 1 of the 2 that it takes found it well"
    assert stops.why.startswith("2 of 3 testers went back from it")


# --- several rings, and orders ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "expected"),
    [((), 2), (("testers",), 0), (("canary",), 1), (("canary", "testers"), 0), (("backup",), 2)],
)
def test_a_device_is_of_the_first_ring_that_it_has_the_tag_of(tags: tuple[str, ...], expected: int) -> None:
    assert place(tags, BOTH) == expected


@pytest.mark.parametrize(
    ("testers", "canary", "may_canary", "may_rest"),
    [
        (("", ""), "", Wait, Wait),
        (("well", "well"), "", Go, Wait),
        (("well", "well"), "well", Go, Go),
        (("well", "well"), "bad", Go, Stop),
        (("", ""), "bad", Wait, Stop),
        (("bad", "bad"), "well", Stop, Stop),
        (("well", ""), "well", Wait, Wait),
    ],
)
def test_rings_go_one_after_the_other(
    testers: tuple[str, ...], canary: str, may_canary: type, may_rest: type
) -> None:
    trials = [*shown(*testers), trial(9, canary, tag="canary")]
    assert isinstance(gate(NEW, tags=("canary",), rings=BOTH, trials=trials, orders=()), may_canary)
    assert isinstance(rest(trials, BOTH), may_rest)


def test_a_pause_holds_everybody_and_says_who_and_why() -> None:
    orders = [order(Verb.PAUSE), order(Verb.PROMOTE, NEW)]
    for tags in ((), ("testers",)):
        found = gate(NEW, tags=tags, rings=(TESTERS,), trials=shown("well", "well"), orders=orders)
        assert isinstance(found, Stop)
        assert "laptop paused the rollout (holidays)" in found.why


def test_a_promotion_is_of_one_commit() -> None:
    assert rest(shown("bad", "bad"), orders=[order(Verb.PROMOTE, NEW)]) == Go()
    assert isinstance(rest(shown("bad", "bad"), orders=[order(Verb.PROMOTE, OTHER)]), Stop)
    assert gate(NEW, tags=("canary",), rings=BOTH, trials=shown("bad"), orders=[order(Verb.PROMOTE, NEW)]) == Go(
        10
    )


def test_diverging_heads_hold_everybody_whatever_was_promoted() -> None:
    found = gate(NEW, tags=("testers",), rings=BOTH, trials=(), orders=[order(Verb.PROMOTE, NEW)], held="diverge")
    assert found == Stop("diverge")


@given(st.lists(st.sampled_from(["", "well", "bad"]), max_size=6), st.integers(0, 7), st.integers(2, 9))
def test_nobody_outside_of_the_rings_has_a_say(whats: list[str], healthy: int, outsiders: int) -> None:
    ring, trials = Ring("testers", healthy), shown(*whats)
    said = rest(trials, (ring,))
    for what in ("well", "bad"):
        others = shown(*[what] * outsiders, tag="backup", first=50)
        assert rest([*others, *trials], (ring,)) == said


@pytest.mark.parametrize("members", range(3, 9))
def test_in_a_ring_of_three_or_more_one_liar_neither_stops_nor_lets_through(members: int) -> None:
    ring, honest = Ring("testers"), members - 1
    assert isinstance(rest(shown("bad", *["well"] * honest), (ring,)), Go)
    assert isinstance(rest(shown("well", *["bad"] * honest), (ring,)), Stop)


# --- what is shown -------------------------------------------------------------------------------------

RUNS = Memory(good=NEW)
FAILED = Memory(good=OLD, bad=(Entry(NEW.hex(), "failed", "build exited with 1", 0, 0),))
BACK = Memory(good=OLD, bad=(Entry(NEW.hex(), "rolled-back", "health exited with 3", 0, 0),))
BEHIND = Memory(good=OLD)


@pytest.mark.parametrize(
    ("facts", "state", "reason"),
    [
        (Facts(None, Memory()), RolloutState.CURRENT, None),
        (Facts(None, Memory(), looking=RolloutState.VERIFYING), RolloutState.VERIFYING, None),
        (Facts(None, RUNS.with_soak(NEW, 60)), RolloutState.SOAKING, None),
        (Facts(NEW, RUNS), RolloutState.CURRENT, None),
        (Facts(NEW, RUNS, looking=RolloutState.VERIFYING), RolloutState.CURRENT, None),
        (Facts(NEW, RUNS, looking=RolloutState.FETCHING), RolloutState.FETCHING, None),
        (Facts(NEW, RUNS.with_soak(NEW, 60)), RolloutState.SOAKING, "it is watched for 60 s before others follow"),
        (Facts(NEW, RUNS.with_soak(OTHER, 60)), RolloutState.CURRENT, None),
        (Facts(NEW, BEHIND), RolloutState.BEHIND, None),
        (Facts(NEW, BEHIND, gate=Wait("a ring")), RolloutState.BEHIND, "a ring"),
        (Facts(NEW, BEHIND, gate=Stop("paused")), RolloutState.HELD, "paused"),
        (Facts(NEW, RUNS, gate=Stop("paused")), RolloutState.CURRENT, None),
        (Facts(NEW, BEHIND, attempt=RolloutState.BUILDING), RolloutState.BUILDING, None),
        (Facts(NEW, FAILED), RolloutState.FAILED, "build exited with 1"),
        (Facts(NEW, BACK, gate=Stop("2 of 3")), RolloutState.ROLLED_BACK, "health exited with 3"),
        (Facts(NEW, RUNS, held="diverge"), RolloutState.HELD, "diverge"),
        (Facts(NEW, BEHIND, attempt=RolloutState.TESTING, held="diverge"), RolloutState.TESTING, "diverge"),
        (Facts(NEW, BEHIND, trouble="disk full"), RolloutState.BEHIND, "disk full"),
        (Facts(NEW, RUNS, missing=True), RolloutState.CURRENT, "no reachable member has the commits yet"),
    ],
)
def test_what_is_shown_and_why(facts: Facts, state: RolloutState, reason: str | None) -> None:
    assert (state_of(facts), why(facts)) == (state, reason)


def test_a_view_names_the_heads_of_a_fork() -> None:
    seen = view(Facts(NEW, RUNS, held="diverge"), ((NEW, "alice"), (OTHER, "bob")), ())
    assert seen["heads"] == [{"commit": NEW.hex(), "signer": "alice"}, {"commit": OTHER.hex(), "signer": "bob"}]


# --- as a machine --------------------------------------------------------------------------------------

MEMBERS = 5
COMMITS = tuple(bytes([number]) * 20 for number in range(10, 14))


class Promotion(RuleBasedStateMachine):
    """Testers say what they find, but for one that says what it likes; their words come when they come."""

    def __init__(self) -> None:
        super().__init__()
        self.rings = (Ring("testers", 0, 60),)
        self.bad = frozenset(COMMITS[1::2])
        self.wanted = 0
        self.truth: dict[int, Trial] = {number: self._blank(number) for number in range(MEMBERS)}
        self.heard = dict(self.truth)  # by the device that waits: older words of some
        self.paused = False
        self.promoted: set[bytes] = set()
        self.ran: list[bytes] = []

    @staticmethod
    def _blank(number: int) -> Trial:
        return Trial(node(number), ("testers",), None, ())

    @property
    def commit(self) -> bytes:
        return COMMITS[self.wanted]

    @precondition(lambda self: self.wanted < len(COMMITS) - 1)
    @rule()
    def push(self) -> None:
        self.wanted += 1

    @rule(number=st.integers(1, MEMBERS - 1))
    def an_honest_tester_tries(self, number: int) -> None:
        before = self.truth[number]
        if self.commit in self.bad:
            known = (*(commit for commit in before.bad if commit != self.commit), self.commit)
            self.truth[number] = Trial(before.node, before.tags, before.well, known[-4:])
        else:
            self.truth[number] = Trial(before.node, before.tags, self.commit, before.bad)

    @rule(well=st.sampled_from([None, *COMMITS]), bad=st.lists(st.sampled_from(COMMITS), max_size=4))
    def the_liar_says(self, well: bytes | None, bad: list[bytes]) -> None:
        self.truth[0] = Trial(node(0), ("testers",), well, tuple(bad))

    @rule(number=st.integers(0, MEMBERS - 1))
    def news_arrives(self, number: int) -> None:
        self.heard[number] = self.truth[number]

    @rule(number=st.integers(0, MEMBERS - 1))
    def a_status_lapses(self, number: int) -> None:
        self.heard[number] = self._blank(number)

    @rule(paused=st.booleans())
    def an_admin_pauses_or_resumes(self, paused: bool) -> None:
        self.paused = paused

    @rule(commit=st.sampled_from(COMMITS[::2]))
    def an_admin_promotes_a_good_one(self, commit: bytes) -> None:
        self.promoted.add(commit)

    def _gate(self) -> object:
        orders = [order(Verb.PROMOTE, commit) for commit in sorted(self.promoted)]
        orders += [order(Verb.PAUSE)] if self.paused else []
        trials = list(self.heard.values())
        return gate(self.commit, tags=(), rings=self.rings, trials=trials, orders=orders)

    @invariant()
    def no_bad_commit_is_let_through(self) -> None:
        if isinstance(self._gate(), Go):
            assert self.commit not in self.bad
            assert not self.paused

    @invariant()
    def a_good_one_is_never_stopped_but_by_a_pause(self) -> None:
        if self.commit not in self.bad and not self.paused:
            assert not isinstance(self._gate(), Stop)

    @invariant()
    def what_enough_found_well_goes(self) -> None:
        well = sum(trial.well == self.commit and self.commit not in trial.bad for trial in self.heard.values())
        if well >= self.rings[0].needed(MEMBERS) and not self.paused:
            assert isinstance(self._gate(), Go)


TestPromotion = Promotion.TestCase
