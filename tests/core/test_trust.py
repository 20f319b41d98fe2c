"""When the authority is worked out again: at once after quiet, at a bounded cost while others keep on."""

import random
from math import inf

import pytest

from clanmesh_protocol.records import Kind
from clanmeshd.core.authority import AUTHORITY_KINDS, fold
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.limits import (
    FAREWELL_RECORDS_MAX,
    FOLD_S,
    FOLD_S_PER_RECORD,
    FOLDING_BURST_S,
    FOLDING_DEBT_S_MAX,
    FOLDING_SHARE,
    FOLDING_URGENT_S,
)
from clanmeshd.core.trust import Pace, Trust
from tests.core.authors import Family

RECORDS = 2000


def spent(pace: Pace, now_s: float) -> float:
    """Fold as often as may be at one moment; give the estimated time that it took."""
    took_s = 0.0
    while pace.next_s() <= now_s:
        pace.folded(RECORDS, now_s)
        took_s += FOLD_S + FOLD_S_PER_RECORD * RECORDS
    return took_s


@pytest.mark.parametrize("seed", range(5))
def test_folds_take_their_share_and_no_more(seed: int) -> None:
    rng, pace, now_s, took_s = random.Random(seed), Pace(0.0), 0.0, 0.0
    one_s = FOLD_S + FOLD_S_PER_RECORD * RECORDS
    while now_s < 100.0:
        took_s += spent(pace, now_s)
        now_s += rng.expovariate(50.0)
    assert took_s <= FOLDING_BURST_S + FOLDING_SHARE * now_s + one_s, f"seed {seed}"
    assert took_s >= FOLDING_SHARE * now_s * 0.7, f"seed {seed}: what may be spent is"


def test_after_quiet_the_first_changes_are_folded_at_once() -> None:
    pace = Pace(0.0)
    spent(pace, 0.0)
    assert pace.next_s() > 0.0
    assert spent(pace, 100.0) >= FOLDING_BURST_S


def test_what_is_urgent_waits_for_no_debt() -> None:
    pace = Pace(0.0)
    for _ in range(100):
        pace.folded(RECORDS, 0.0)
    assert pace.next_s() == pytest.approx(FOLDING_DEBT_S_MAX / FOLDING_SHARE)
    pace.hurry(FOLDING_URGENT_S)
    assert pace.next_s() == FOLDING_URGENT_S
    pace.hurry(3.0)
    assert pace.next_s() == FOLDING_URGENT_S, "what came later makes it no later"
    pace.folded(RECORDS, FOLDING_URGENT_S)
    assert pace.next_s() > 3.0, "and is done with that"


@pytest.fixture
def family() -> Family:
    """Two admins and four others."""
    return Family(["desk", "attic"], ["nas", "phone", "tv", "car"])


def spent_up(family: Family) -> tuple[Trust, Ledger]:
    """An authority that has used up its time."""
    ledger = family.ledger(*(family["desk"].credential(family[name]) for name in ("nas", "phone")))
    trust = Trust(ledger, None, 0.0)
    while trust.is_due(0.0):
        trust.refold(0.0)
        ledger.touch(Kind.CREDENTIAL)
    assert trust.is_stale
    assert trust.next_deadline() > 0.0
    return trust, ledger


def test_others_words_wait_and_this_devices_own_do_not(family: Family) -> None:
    trust, ledger = spent_up(family)
    ledger.apply(word := family["attic"].credential(family["tv"]))
    trust.learn(word, 0.0, own=False)
    assert not trust.is_due(0.0)
    due_s = trust.next_deadline()
    assert 0.0 < due_s < FOLDING_URGENT_S
    assert trust.is_due(due_s)
    ledger.apply(word := family["attic"].credential(family["car"]))
    trust.learn(word, 0.0, own=True)
    assert trust.is_due(0.0)
    trust.refold(0.0)
    assert trust.authority == fold(ledger)
    assert trust.next_deadline() == inf


def test_a_removal_waits_for_half_a_second_at_most(family: Family) -> None:
    trust, ledger = spent_up(family)
    while trust.next_deadline() < 2 * FOLDING_URGENT_S:
        trust.refold(0.0)
        ledger.touch(Kind.CREDENTIAL)
    ledger.apply(word := family["attic"].credential(family["tv"]))
    trust.learn(word, 0.0, own=False)
    assert trust.next_deadline() >= 2 * FOLDING_URGENT_S
    ledger.apply(out := family["desk"].revocation(family["nas"]))
    trust.learn(out, 0.0, own=False)
    assert trust.next_deadline() == FOLDING_URGENT_S
    assert trust.is_due(FOLDING_URGENT_S)


def test_who_looks_at_versions_hears_of_a_late_fold(family: Family) -> None:
    trust, ledger = spent_up(family)
    ledger.apply(family["attic"].credential(family["tv"]))
    seen = ledger.version_of(*AUTHORITY_KINDS)
    trust.refold(1.0)
    assert ledger.version_of(*AUTHORITY_KINDS) > seen
    assert not trust.is_stale


def test_of_many_words_those_that_put_somebody_out_are_told(family: Family) -> None:
    trust, ledger = spent_up(family)
    ledger.apply(out := family["desk"].revocation(family["nas"]))
    trust.learn(out, 0.0, own=False)
    for number in range(3 * FAREWELL_RECORDS_MAX):
        ledger.apply(word := family["desk"].credential(family["tv"], name=f"tv-{number}"))
        trust.learn(word, 0.0, own=False)
    _, decisions = trust.refold(1.0)
    assert out.value in decisions
    assert len(decisions) == FAREWELL_RECORDS_MAX
    assert trust.refold(2.0)[1] == []
