"""What is due when, and whose turn it is: against the plain ways of finding out."""

from math import inf
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from clanmesh_protocol.keys import NodeId
from clanmeshd.core.agenda import Agenda
from clanmeshd.core.limits import PROBE_GREETING_INTERVAL_S, SWEEP_EVERY, WATCHED
from clanmeshd.core.subjects import Stage, State, Subject
from clanmeshd.core.turns import Rota, Turns
from clanmeshd.core.watching import watched_by

MOMENTS = st.one_of(st.integers(0, 9).map(float), st.just(inf))


@given(st.lists(st.one_of(st.tuples(st.integers(0, 5), MOMENTS), st.integers(0, 9).map(float)), max_size=80))
def test_an_agenda_is_a_table_of_moments(steps: list[tuple[int, float] | float]) -> None:
    agenda: Agenda[int] = Agenda()
    table: dict[int, float] = {}
    for step in steps:
        if isinstance(step, tuple):
            key, at_s = step
            agenda.set(key, at_s)
            table[key] = at_s
        else:
            due = agenda.pop_due(step)
            assert due == sorted(due, key=lambda key: table[key])
            assert set(due) == {key for key, at_s in table.items() if at_s <= step}
            for key in due:
                del table[key]
        table = {key: at_s for key, at_s in table.items() if at_s < inf}
        assert agenda.next_s() == min(table.values(), default=inf)
        assert len(agenda) == len(table)
        assert all(key in agenda for key in table)


def test_equal_moments_come_in_the_order_in_which_they_were_set() -> None:
    agenda: Agenda[str] = Agenda()
    for key in "cab":
        agenda.set(key, 1.0)
    agenda.set("c", 2.0)
    agenda.set("c", 1.0)
    assert agenda.pop_due(1.0) == ["a", "b", "c"]


def test_what_is_set_anew_for_ever_takes_no_more_room() -> None:
    agenda: Agenda[int] = Agenda()
    for number in range(10_000):
        agenda.set(number % 3, float(number + 1))
    assert len(agenda._heap) < 100
    agenda.drop(0)
    assert len(agenda.pop_due(inf)) == 2


def subjects(count: int) -> list[Subject]:
    return [Subject(NodeId(bytes([number]) * 32), probeable=True) for number in range(count)]


def test_whose_turn_it_is() -> None:
    for seed in range(50):
        dice = Random(seed)
        turns, members = Turns(dice), subjects(6)
        for now_s in range(1, 200):
            subject = dice.choice(members)
            match dice.randrange(5):
                case 0:
                    subject.heard_s = float(now_s)
                case 1:
                    subject.state = dice.choice(list(State))
                case 2:
                    subject.stage = dice.choice(list(Stage))
                case 3:
                    subject.tried_s = -inf
                case _:
                    subject.tried_s = float(now_s)
            turns.enter(subject)
            waiting = [each for each in members if each.awaits_turn and each.node in turns._entered]
            first = min((each.turn for each in waiting), default=None)
            assert turns.anybody() == (first is not None), seed
            assert turns.has_untried() == (first == -inf), seed
            if dice.random() < 0.3 and first is not None:
                chosen = turns.next()
                assert chosen is not None
                assert chosen.turn == first, seed
                chosen.tried_s = float(now_s)
                turns.enter(chosen)


def rota_of(count: int) -> tuple[Rota, list[Subject], list[Subject]]:
    """A rota of members who were all tried at 1 s: with those whom it watches, and the others."""
    own, members = NodeId(bytes([255]) * 32), subjects(count)
    watched = watched_by(own, [member.node for member in members])
    for member in members:
        member.tried_s = 1.0
    rota = Rota(own, Random(1))
    rota.assign({member.node: member for member in members})
    ours = [member for member in members if member.node in watched]
    return rota, ours, [member for member in members if member.node not in watched]


def taken(rota: Rota, count: int, now_s: float = 2.0) -> list[Subject]:
    """Who is tried next, and waits again."""
    chosen = []
    for step in range(count):
        subject = rota.next()
        assert subject is not None
        subject.tried_s = now_s + step
        rota.enter(subject)
        chosen.append(subject)
    return chosen


def test_the_watched_go_first_and_now_and_then_one_of_the_others() -> None:
    rota, ours, others = rota_of(20)
    chosen = taken(rota, SWEEP_EVERY * len(others))
    swept = chosen[SWEEP_EVERY - 1 :: SWEEP_EVERY]
    assert sorted(each.node for each in swept) == [each.node for each in others]
    watched = [each for step, each in enumerate(chosen, 1) if step % SWEEP_EVERY]
    assert [watched.count(each) for each in ours] == [len(watched) // WATCHED] * WATCHED


def test_the_untried_go_before_all() -> None:
    for seed in range(20):
        rota, ours, others = rota_of(20)
        untried = Random(seed).sample(ours + others, 4)
        taken(rota, seed % SWEEP_EVERY)
        assert rota.greeting_pause_s() == inf
        for member in untried:
            member.tried_s = -inf
            rota.enter(member)
        assert rota.greeting_pause_s() == PROBE_GREETING_INTERVAL_S
        chosen = taken(rota, len(untried), 100.0)
        assert sorted(each.node for each in chosen) == sorted(each.node for each in untried), seed
        assert rota.greeting_pause_s() == inf


def test_when_no_watched_one_waits_another_is_taken() -> None:
    rota, ours, others = rota_of(20)
    for member in ours:
        member.stage = Stage.SUSPECT
    assert all(each in others for each in taken(rota, 30))


def test_one_that_went_and_came_back_is_another() -> None:
    (member,) = subjects(1)
    rota = Rota(NodeId(bytes([255]) * 32), Random(1))
    rota.assign({member.node: member})
    rota.assign({})
    assert not rota.anybody()
    again = Subject(member.node, probeable=True)
    rota.assign({again.node: again})
    assert rota.next() is again
    assert not rota.anybody()
