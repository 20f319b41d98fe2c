"""When silence of a path is asked about, and when it is judged."""

from math import inf

import pytest

from clanmeshd.overlay.path_terms import DEAD_S, SILENCE_S
from clanmeshd.overlay.silence import Silence


def silent() -> Silence:
    """Something was sent at 11, and nothing has come since 10."""
    silence = Silence(9.0)
    silence.counted(100, 100, 10.0)
    silence.counted(200, 100, 11.0)
    return silence


def test_it_is_asked_at_once_where_nothing_came_since_the_look_before() -> None:
    assert silent().takes_echo(11.0)
    brief = Silence(9.0)
    brief.counted(100, 100, 10.9)
    brief.counted(200, 100, 11.0)
    assert not brief.takes_echo(11.0)
    assert brief.takes_echo(10.9 + SILENCE_S)


@pytest.mark.parametrize("is_alive", [True, False])
def test_whoever_was_kept_from_its_work_looks_before_it_judges(is_alive: bool) -> None:
    silence, late_s = silent(), 11.0 + 2 * DEAD_S
    assert silence.next_deadline() <= 11.0 + DEAD_S
    assert not silence.is_over(late_s)
    assert silence.takes_look(late_s)
    silence.takes_echo(late_s)
    assert silence.next_deadline() > late_s, "it waits for what it has asked for"
    silence.counted(300, 200 if is_alive else 100, late_s + 0.001)
    assert silence.is_over(late_s + 0.001) is not is_alive
    assert (silence.next_deadline() == inf) is is_alive
