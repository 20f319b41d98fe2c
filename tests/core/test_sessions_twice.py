"""Boot tokens that change under one boot id of a peer: somebody else runs with this device's key."""

import pytest

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.messages import Seal
from clanmeshd.core.sessions import TOKEN_BYTES, USURPED_CHANGES, USURPED_PATIENCE, Opened, Sessions
from tests.core.test_sessions import node, ping, sealed, sessions


class Hearing:
    """One side, and what it hears of peer 1 as proven."""

    def __init__(self) -> None:
        self.side: Sessions = sessions(0)
        self.runs = 0
        self.restart()

    def restart(self) -> None:
        """The peer starts anew, and proves it."""
        self.runs += 1
        data = sealed(sessions(1, self.runs), 0, ping(echo=self.side.token(node(1))))
        opened = self.side.prove(self.side.open_untrusted(data))
        assert opened.proven
        self.boot, self.counter = opened.boot, opened.counter

    def hear(self, token: int, *, late: int = 0) -> list[NodeId]:
        """The peer tells a token, in a datagram that so many others have overtaken; who runs twice by that."""
        self.hear_answer(token, late=late)
        return self.side.running_twice()

    def hear_answer(self, token: int, *, late: int = 0) -> bool:
        """The same, in an answer; whether this device has yet to prove itself by that."""
        self.counter += 1
        opened = Opened(node(1), Seal.SESSION, [], self.boot, self.counter - late, proven=True)
        return self.side.hear_token(opened, token.to_bytes(TOKEN_BYTES, "big"), is_answer=True)


def test_a_token_that_changes_on_and_on_tells_of_a_twin() -> None:
    hearing = Hearing()
    told = [hearing.hear(token) for token in range(2 * USURPED_CHANGES + 1)]
    assert [index for index, who in enumerate(told) if who] == [USURPED_CHANGES, 2 * USURPED_CHANGES]
    assert told[USURPED_CHANGES] == [node(0)]


def test_fewer_changes_tell_nothing() -> None:
    hearing = Hearing()
    assert not any(hearing.hear(token) for token in range(USURPED_CHANGES))


def test_changes_that_are_long_over_do_not_count() -> None:
    hearing = Hearing()
    for token in range(100):
        assert not any(hearing.hear(token) for _ in range(USURPED_PATIENCE + 1))


def test_a_twin_that_speaks_seldom_is_noticed_too() -> None:
    hearing = Hearing()
    assert any(hearing.hear(index // (USURPED_PATIENCE // 2)) for index in range(USURPED_PATIENCE * 8))


def test_a_peer_that_starts_anew_has_other_tokens() -> None:
    hearing = Hearing()
    for run in range(20):
        hearing.restart()
        assert not any(hearing.hear(10 * run + token) for token in (1, 2, 2))


@pytest.mark.parametrize("late", [2, 5, 50])
def test_a_datagram_that_was_overtaken_tells_no_token(late: int) -> None:
    hearing = Hearing()
    hearing.counter += 100
    hearing.hear(2)
    for _ in range(50):
        assert not hearing.hear(1, late=late)
        hearing.counter -= 1
        assert hearing.side.their_token(node(1)) == (2).to_bytes(TOKEN_BYTES, "big")
        assert not hearing.hear(2)


def test_what_is_not_proven_tells_no_token() -> None:
    hearing = Hearing()
    for token in range(3 * USURPED_CHANGES):
        opened = Opened(node(1), Seal.SESSION, [], b"another boot", token, proven=False)
        hearing.side.hear_token(opened, token.to_bytes(TOKEN_BYTES, "big"))
    assert not hearing.side.running_twice()


def test_the_change_behind_our_echo_says_that_it_was_taken() -> None:
    hearing = Hearing()
    assert [hearing.hear_answer(token) for token in (1, 2, 2, 3, 4)] == [True, False, False, True, False]
    assert not hearing.hear_answer(9, late=2)


def test_to_a_peer_that_starts_anew_we_prove_ourselves_anew() -> None:
    hearing = Hearing()
    for run in range(3):
        assert hearing.hear_answer(2 * run + 1)
        hearing.restart()
