"""When silence of a path is asked about, and when it is judged."""

from dataclasses import dataclass, field
from math import inf
from random import Random

import pytest

from clanmesh_protocol.signalling import NatKind
from clanmeshd.overlay.path_terms import DEAD_S, SILENCE_S, Around, Own
from clanmeshd.overlay.silence import Silence


@dataclass
class Watched:
    """A path, with the looks at its counters told as the engine does."""

    around: Around = field(
        default_factory=lambda: Around(Own(bytes(16), frozenset(), (), NatKind.UNKNOWN), Random(0))
    )
    silence: Silence = field(init=False)

    def __post_init__(self) -> None:
        self.silence = Silence(9.0, self.around)

    def counted(self, sent: int, received: int, now_s: float) -> None:
        """A look, and what it showed."""
        self.around.looks_s = now_s, self.around.looks_s[0]
        self.silence.counted(sent, received, now_s)


def silent() -> Watched:
    """Something was sent at 11, and nothing has come since 10."""
    watched = Watched()
    watched.counted(100, 100, 10.0)
    watched.counted(200, 100, 11.0)
    return watched


def test_it_is_asked_at_once_where_nothing_came_since_the_look_before() -> None:
    assert silent().silence.takes_echo(11.0)
    brief = Watched()
    brief.counted(100, 100, 10.9)
    brief.counted(200, 100, 11.0)
    assert not brief.silence.takes_echo(11.0)
    assert brief.silence.takes_echo(10.9 + SILENCE_S)


@pytest.mark.parametrize("is_alive", [True, False])
def test_whoever_was_kept_from_its_work_looks_before_it_judges(is_alive: bool) -> None:
    watched, late_s = silent(), 11.0 + 2 * DEAD_S
    silence = watched.silence
    assert silence.next_deadline() <= 11.0 + DEAD_S
    assert not silence.is_over(late_s)
    assert silence.takes_look(late_s)
    silence.takes_echo(late_s)
    assert silence.next_deadline() > late_s, "it waits for what it has asked for"
    watched.counted(300, 200 if is_alive else 100, late_s + 0.001)
    assert silence.is_over(late_s + 0.001) is not is_alive
    assert (silence.next_deadline() == inf) is is_alive
