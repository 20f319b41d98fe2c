"""When a relay's port is guarded, against what, and for how long."""

import pytest

from clanmeshd.overlay.relay_guard import GUARD_S, JUNK_MAX, WINDOW_S, Guard
from clanmeshd.overlay.wireguard_packets import COOKIE, DATA, INITIATION

HERE = (bytes([192, 0, 2, 1]), 51872)
INDEX = b"\1\2\3\4"


def flooded(kind: bytes, count: int, now_s: float = 100.0) -> Guard:
    guard = Guard()
    for _ in range(count):
        guard.blame(kind + bytes(60), now_s)
    return guard


def test_a_few_are_no_flood() -> None:
    """Nor are as many again a while later."""
    guard = flooded(DATA, JUNK_MAX)
    for _ in range(JUNK_MAX):
        guard.blame(DATA, 100.0 + WINDOW_S)
    assert not guard.is_on
    assert guard.rules([HERE], [INDEX]) is None


@pytest.mark.parametrize("kind", [DATA, INITIATION, COOKIE])
def test_the_kind_that_floods_is_guarded_and_no_other(kind: bytes) -> None:
    """Data by what it names; all others are thinned."""
    guard = flooded(kind, JUNK_MAX + 1)
    rules = guard.rules([HERE], [INDEX])
    assert rules is not None
    assert (rules.addresses, rules.indexes) == ({HERE}, {INDEX})
    assert (rules.guards_data, rules.thinned) == (kind == DATA, frozenset({kind} - {DATA}))


def test_it_is_over_when_it_is_not_seen_again() -> None:
    """Each kind for itself."""
    guard = flooded(DATA, JUNK_MAX + 1)
    for _ in range(JUNK_MAX + 1):
        guard.blame(INITIATION, 100.0 + GUARD_S / 2)
    guard.expire(100.0 + GUARD_S)
    rules = guard.rules([HERE], [])
    assert rules is not None
    assert (rules.guards_data, rules.thinned) == (False, {INITIATION})
    guard.expire(100.0 + 1.5 * GUARD_S)
    assert not guard.is_on
