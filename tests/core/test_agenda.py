"""What is due when, and whose turn it is: against the plain ways of finding out."""

from math import inf
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from clanmesh_protocol.keys import NodeId
from clanmeshd.core.agenda import Agenda
from clanmeshd.core.subjects import Stage, State, Subject
from clanmeshd.core.turns import Turns

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


def test_one_that_went_and_came_back_is_another() -> None:
    turns, (member,) = Turns(Random(1)), subjects(1)
    turns.enter(member)
    turns.retain(())
    assert not turns.anybody()
    again = Subject(member.node, probeable=True)
    turns.enter(again)
    assert turns.next() is again
    assert not turns.anybody()
