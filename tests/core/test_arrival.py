"""When a device has heard what was said while it was away: after a start, a sleep, and being reached by nobody."""

from math import inf

from clanmesh_protocol.keys import NodeId
from clanmeshd.core.arrival import Arrival
from clanmeshd.core.limits import ARRIVAL_S_MAX, ARRIVAL_S_MIN, AWAY_S
from tests.core.worlds import instant

NAS, PHONE, NEW = (NodeId(bytes([number]) * 32) for number in range(3))
OTHERS = frozenset({NAS, PHONE})
YEAR_S = 365 * 86_400.0


def begun(others: frozenset[NodeId] = OTHERS) -> Arrival:
    """A device that starts at 0."""
    arrival = Arrival(instant(0.0))
    arrival.enlist(others)
    return arrival


def at_home() -> Arrival:
    """A device that started at 0 and hears a member until 100."""
    arrival = begun()
    arrival.heard(NAS, 0.0)
    for second in range(101):
        arrival.handle_deadline(float(second))
        arrival.heard(NAS, float(second))
    arrival.look(instant(100.0), 100.0)
    assert arrival.is_over
    return arrival


def over_s(arrival: Arrival) -> float:
    """When it will be over if nothing is heard any more."""
    assert not arrival.is_over
    due_s = arrival.next_deadline()
    assert not arrival.handle_deadline(due_s - 0.01)
    assert arrival.handle_deadline(due_s)
    assert arrival.is_over
    assert arrival.next_deadline() == inf
    return due_s


def test_who_has_nobody_else_is_there_at_once_and_whoever_joins_changes_nothing() -> None:
    arrival = begun(frozenset())
    assert arrival.is_over
    arrival.enlist(frozenset({NAS}))
    arrival.heard(NAS, 3600.0)
    assert arrival.is_over


def test_one_that_joins_where_all_others_are_off_changes_nothing_but_another_that_comes_back_does() -> None:
    arrival = begun()
    assert over_s(arrival) == ARRIVAL_S_MAX
    arrival.enlist(OTHERS | {NEW})
    arrival.heard(NEW, 100.0)
    assert arrival.is_over
    arrival.heard(NAS, 100.0 + AWAY_S)
    assert not arrival.is_over


def test_a_start_is_over_when_who_answers_holds_the_same_and_all_had_time_to() -> None:
    arrival = begun()
    arrival.heard(NAS, 0.3)
    arrival.answered(NAS, 0.2, is_alike=True)
    assert over_s(arrival) == 0.3 + ARRIVAL_S_MIN


def test_whoever_holds_something_else_is_waited_for_but_not_for_long() -> None:
    for first, second in ((True, False), (False, True), (False, False)):
        arrival = begun()
        arrival.heard(NAS, 0.3)
        arrival.answered(NAS, 0.2, is_alike=first)
        arrival.answered(PHONE, 0.2, is_alike=second)
        assert over_s(arrival) == 0.3 + ARRIVAL_S_MAX


def test_what_is_traded_meanwhile_ends_it() -> None:
    arrival = begun()
    arrival.heard(NAS, 0.3)
    arrival.answered(NAS, 0.3, is_alike=False)
    arrival.answered(NAS, 2.0, is_alike=True)
    assert arrival.handle_deadline(2.1)


def test_who_differs_and_is_put_out_is_waited_for_no_more() -> None:
    arrival = begun()
    arrival.heard(NAS, 0.3)
    arrival.answered(NAS, 0.3, is_alike=True)
    arrival.answered(PHONE, 0.3, is_alike=False)
    arrival.enlist(frozenset({NAS}))
    assert over_s(arrival) == 0.3 + ARRIVAL_S_MIN


def test_nobody_at_all_is_waited_for_as_long() -> None:
    assert over_s(begun()) == ARRIVAL_S_MAX


def test_one_that_comes_late_is_waited_for_from_then_on() -> None:
    arrival = begun()
    arrival.heard(NAS, ARRIVAL_S_MAX - 0.1)
    assert over_s(arrival) == 2 * ARRIVAL_S_MAX - 0.1


def test_a_silence_is_an_absence_and_what_is_heard_each_second_is_none() -> None:
    arrival = at_home()
    arrival.heard(PHONE, 100.0 + AWAY_S - 0.1)
    assert arrival.is_over
    arrival.heard(PHONE, 100.0 + 2 * AWAY_S)
    assert over_s(arrival) == 100.0 + 2 * AWAY_S + ARRIVAL_S_MAX


def test_a_machine_that_stood_still_was_away() -> None:
    arrival = at_home()
    arrival.look(instant(100.0 + AWAY_S), 100.1)
    assert arrival.is_over
    arrival.look(instant(100.0 + AWAY_S), None)
    assert arrival.is_over
    arrival.look(instant(101.0 + AWAY_S), 100.1)
    assert over_s(arrival) == 101.0 + AWAY_S + ARRIVAL_S_MAX


def test_a_machine_whose_monotonic_clock_slept_was_away_too() -> None:
    for wall_s in (AWAY_S, 3600.0, YEAR_S, -YEAR_S):
        arrival = at_home()
        arrival.look(instant(100.5, wall_s), 101.0)
        assert not arrival.is_over, wall_s
        arrival.look(instant(100.6, wall_s), 101.0)
        assert over_s(arrival) == 100.5 + ARRIVAL_S_MAX


def test_a_clock_that_is_corrected_by_little_is_no_absence() -> None:
    arrival = at_home()
    for second in range(20):
        arrival.look(instant(100.0 + second, second * (AWAY_S - 0.1)), 101.0 + second)
    assert arrival.is_over


def test_answers_from_before_the_sleep_count_for_nothing() -> None:
    arrival = at_home()
    arrival.look(instant(100.5, 3600.0), 101.0)
    arrival.heard(NAS, 100.5)
    arrival.answered(NAS, 100.4, is_alike=True)
    assert arrival.next_deadline() == 100.5 + ARRIVAL_S_MAX
    arrival.answered(NAS, 100.5, is_alike=True)
    assert arrival.next_deadline() == 100.5 + ARRIVAL_S_MIN


def test_a_sleep_while_it_arrives_begins_it_anew() -> None:
    arrival = begun()
    arrival.heard(NAS, 0.3)
    arrival.answered(NAS, 0.3, is_alike=True)
    arrival.look(instant(0.5, 3600.0), 1.3)
    assert over_s(arrival) == 0.5 + ARRIVAL_S_MAX


def test_who_is_alone_in_the_clan_sleeps_as_it_likes() -> None:
    arrival = begun(frozenset())
    arrival.look(instant(1.0, YEAR_S), 1.0)
    assert arrival.is_over
