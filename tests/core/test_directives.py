"""Whose word on the rollout counts, which of several stands, and what members show of what they tried."""

from itertools import permutations

import pytest

from clanmesh_protocol.encoding import UINT64_MAX
from clanmesh_protocol.records import (
    AdminRemove,
    Directive,
    Record,
    Resolution,
    RolloutState,
    SecretsState,
    Status,
    Verb,
)
from clanmesh_protocol.signing import Verified
from clanmeshd.core.authority import fold
from clanmeshd.core.chain import RESOLUTIONS_MAX
from clanmeshd.core.directives import directive, standing, trials
from clanmeshd.core.effects import Order, Trial
from clanmeshd.core.phrases import operation_text
from tests.core.authors import NOW_UNIX_S, Author, Family, fresh_seed

A, B, C = (bytes([number]) * 20 for number in (1, 2, 3))


@pytest.fixture
def family() -> Family:
    return Family(["desk", "nas"], ["phone", "tv"])


def orders(family: Family, *records: Verified[Record]) -> list[Order]:
    ledger = family.ledger(*members(family), *records)
    return list(standing(fold(ledger), ledger))


def members(family: Family) -> list[Verified[Record]]:
    desk = family["desk"]
    tags = {"desk": (), "nas": ("testers",), "phone": ("testers",), "tv": ()}
    return [desk.credential(family[name], tags=tags[name]) for name in ("desk", "nas", "phone", "tv")]


def pause(author: Author, number: int, ref: str = "main") -> Verified[Record]:
    return author.write(Directive(Verb.PAUSE, ref, number, None, "holidays"))


def resume(author: Author, number: int) -> Verified[Record]:
    return author.write(Directive(Verb.RESUME, "main", number, None))


def test_a_pause_stands_until_a_later_resume_whoever_says_it(family: Family) -> None:
    desk, nas = family["desk"], family["nas"]
    paused = pause(desk, 1)
    [order] = orders(family, paused)
    assert (order.verb, order.by, order.reason) == (Verb.PAUSE, "desk", "holidays")
    assert orders(family, paused, resume(nas, 2)) == []
    [again] = orders(family, resume(nas, 2), pause(desk, 3))
    assert again.verb is Verb.PAUSE


def test_of_equal_numbers_the_same_one_stands_in_any_order(family: Family) -> None:
    records = [pause(family["desk"], 5), resume(family["nas"], 5), resume(family["desk"], 4)]
    ends = {tuple(order.verb for order in orders(family, *shuffled)) for shuffled in permutations(records)}
    assert len(ends) == 1


def test_a_pause_holds_its_own_ref(family: Family) -> None:
    [other] = orders(family, pause(family["desk"], 1, "stable"), resume(family["nas"], 9))
    assert other.ref == "stable"


def test_no_other_member_gives_orders(family: Family) -> None:
    phone = family["phone"]
    promoted = phone.write(Directive(Verb.PROMOTE, "main", 1, A))
    assert orders(family, pause(phone, 9), promoted) == []


def test_who_is_no_admin_any_more_pauses_nothing(family: Family) -> None:
    desk, nas = family["desk"], family["nas"]
    removal = desk.operation(AdminRemove(nas.node), family.authority())
    assert orders(family, pause(nas, 1))
    assert orders(family, pause(nas, 2), removal, nas.approval(removal)) == []


def test_promotions_and_retries_of_all_admins_count(family: Family) -> None:
    desk, nas = family["desk"], family["nas"]
    promoted = [
        author.write(Directive(Verb.PROMOTE, "main", 1, commit)) for author, commit in ((desk, A), (nas, B))
    ]
    retried = desk.write(Directive(Verb.RETRY, "main", 1, C))
    found = orders(family, *promoted, retried)
    assert {(order.verb, order.commit) for order in found} == {
        (Verb.PROMOTE, A),
        (Verb.PROMOTE, B),
        (Verb.RETRY, C),
    }
    assert [order.seq for order in found if order.verb is Verb.RETRY] == [retried.value.seq]


def test_a_verb_of_a_later_version_asks_for_nothing(family: Family) -> None:
    assert orders(family, family["desk"].write(Directive(99, "main", 1, A))) == []


def test_the_next_word_is_above_all_that_count(family: Family) -> None:
    ledger = family.ledger(*members(family), pause(family["nas"], 7), pause(family["phone"], 100))
    authority = fold(ledger)
    assert directive(authority, ledger, Verb.RESUME, "main").number == 8
    assert directive(authority, ledger, Verb.PAUSE, "stable").number == 1
    assert directive(authority, ledger, Verb.RETRY, "main", A).number == 1


def test_a_number_at_the_end_of_all_is_no_reason_to_fail(family: Family) -> None:
    ledger = family.ledger(*members(family), pause(family["nas"], UINT64_MAX))
    assert directive(fold(ledger), ledger, Verb.RESUME, "main").number == 1


# --- what members show ---------------------------------------------------------------------------------


def shown(author: Author, state: RolloutState, bad: tuple[bytes, ...] = ()) -> Verified[Record]:
    return author.write(Status(A, B, state, 0, SecretsState.CURRENT, bad), ttl_s=60)


def seen(family: Family, *records: Verified[Record], own: str = "desk") -> dict[str, Trial]:
    ledger = family.ledger(*members(family), *records)
    names = {author.node: name for name, author in family.authors.items()}
    found = trials(fold(ledger), ledger, family[own].node, NOW_UNIX_S)
    return {names[trial.node]: trial for trial in found}


def test_members_without_a_tag_and_this_one_are_left_out(family: Family) -> None:
    assert set(seen(family)) == {"nas", "phone"}
    assert set(seen(family, own="nas")) == {"phone"}


@pytest.mark.parametrize("state", list(RolloutState))
def test_only_who_says_current_found_it_well(family: Family, state: RolloutState) -> None:
    trial = seen(family, shown(family["nas"], state, (C, B)))["nas"]
    assert trial == Trial(family["nas"].node, ("testers",), A if state is RolloutState.CURRENT else None, (C, B))


def test_who_shows_nothing_is_counted(family: Family) -> None:
    assert seen(family)["phone"] == Trial(family["phone"].node, ("testers",), None, ())


def test_who_came_by_an_invite_alone_is_of_no_ring(family: Family) -> None:
    desk, guest, seed = family["desk"], Author("guest", 50), fresh_seed()
    guest.clan = family.clan
    invite = desk.invite(seed, tags=("testers",))
    ledger = family.ledger(*members(family), invite, desk.redemption(invite, seed, guest))
    authority = fold(ledger)
    assert authority.members[guest.node].tags == ("testers",)
    assert guest.node not in {trial.node for trial in trials(authority, ledger, desk.node, NOW_UNIX_S)}


# --- forks that were ended -----------------------------------------------------------------------------


def test_resolutions_are_bounded_and_each_once() -> None:
    alone = Family(["desk"])
    records: list[Verified[Record]] = []
    for number in range(RESOLUTIONS_MAX + 2):
        operation = Resolution("main", A, (bytes([number + 10]) * 20,))
        records.append(alone["desk"].operation(operation, alone.authority(*records)))
    again = alone["desk"].operation(operation, alone.authority(*records))
    kept = alone.authority(*records, again).resolutions
    assert [each.abandoned[0][0] for each in kept] == list(range(12, RESOLUTIONS_MAX + 12))


def test_a_resolution_says_what_it_leaves() -> None:
    text = operation_text(Family(["desk"]).authority(), Resolution("main", A, (B, C)))
    assert text == "let 010101010101 stand as the head of main and leave 020202020202 and 030303030303"
