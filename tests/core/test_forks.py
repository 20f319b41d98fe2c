"""Which history is followed: each rule of the choice by a small chain, and what a removed key can do: nothing.

Ids are ground where a rule behind the tested one could decide the other way, so that only the tested one is left.
"""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from clanmesh_protocol.keys import RecordId
from clanmesh_protocol.limits import VOID_RECORDS_MAX
from clanmesh_protocol.records import (
    AdminAdd,
    AdminRemove,
    AdminReplace,
    AuthorityOp,
    Checkpoint,
    Record,
    RecoveryReplace,
    Setting,
    SignerAdd,
)
from clanmesh_protocol.signing import Verified
from clanmeshd.core.authority import Authority, fold
from clanmeshd.core.ledger import Ledger
from tests.core.authors import Author, Family, ledger_of

Entry = Verified[Record]
TraceFunction = Callable[[FrameType, str, Any], Any]
TWICE: Final = 2.2  # what twice as many operations may cost; where the cost grows with the square it is over 3


def behind(author: Author, parent: Entry, operation: AuthorityOp) -> Entry:
    """Sign an operation behind any other."""
    return author.write(operation, slot=f"{int(parent.value.slot) + 1:08d}", prev=parent.value.id)


def ground(author: Author, parent: Entry, other: Entry) -> Entry:
    """An operation behind `parent` whose id is below another's: a setting, tried until it fits."""
    for number in range(1000):
        found = behind(author, parent, Setting("ground", str(number)))
        if found.value.id < other.value.id:
            return found
    raise AssertionError("no id was low enough")


def three(**weights: int) -> Family:
    return Family(["desk", "attic", "nas"], ["sock"], list(weights.values()), recovery=True)


def head(family: Family, *records: Entry, final: RecordId | None = None) -> RecordId:
    """The head that all orders of arrival give."""
    forward = fold(family.ledger(*records), final)
    assert forward == fold(ledger_of(family.clan, [*reversed(records), family.genesis]), final)
    return forward.head


def removal(family: Family, subject: str, *, by: str, approved: str, parent: Entry) -> list[Entry]:
    operation = behind(family[by], parent, AdminRemove(family[subject].node))
    return [operation, family[approved].approval(operation)]


# --- the order of the rules ----------------------------------------------------------------------------


def test_the_recovery_key_goes_before_any_weight() -> None:
    family = three()
    heavy = behind(family["desk"], family.genesis, SignerAdd("ssh-ed25519 x"))
    records = [heavy, family["attic"].approval(heavy), family["nas"].approval(heavy)]
    recovery = behind(family.recovery, family.genesis, AdminAdd(family["sock"].node, 1))
    assert head(family, *records) == heavy.value.id
    assert head(family, *records, recovery) == recovery.value.id


def test_what_a_majority_follows_goes_before_weight_and_seniority() -> None:
    family = three()
    senior = behind(family["desk"], family.genesis, Checkpoint("a", bytes(20)))
    junior = behind(family["nas"], family.genesis, Checkpoint("b", bytes(20)))
    records = [senior, junior]
    assert head(family, *records) == senior.value.id
    records += [family["nas"].acknowledgement(junior)]
    assert head(family, *records) == senior.value.id  # one of three is no majority
    records += [family["attic"].acknowledgement(junior)]
    assert head(family, *records) == junior.value.id


def test_an_acknowledgement_of_what_rests_on_an_operation_counts_for_it() -> None:
    family = three()
    senior = behind(family["desk"], family.genesis, Checkpoint("a", bytes(20)))
    junior = behind(family["nas"], family.genesis, Checkpoint("b", bytes(20)))
    later = behind(family["nas"], junior, Checkpoint("c", bytes(20)))
    records = [
        senior,
        junior,
        later,
        family["attic"].acknowledgement(junior),
        family["nas"].acknowledgement(later),
    ]
    assert head(family, *records) == later.value.id


def test_weight_goes_before_a_removal() -> None:
    family = three(desk=3, attic=2, nas=2)
    heavy = behind(family["desk"], family.genesis, SignerAdd("ssh-ed25519 x"))
    light = removal(family, "desk", by="attic", approved="nas", parent=family.genesis)
    records = [heavy, family["attic"].approval(heavy), *light]
    # The removal pins desk; without desk's name the other branch lacks weight and is void.
    assert head(family, *records) == light[0].value.id
    spared = removal(family, "sock", by="attic", approved="nas", parent=family.genesis)
    assert head(family, records[0], records[1], *spared) == heavy.value.id


def test_a_removal_goes_before_seniority() -> None:
    family = Family(["desk", "attic", "nas", "phone"], recovery=True)
    senior = behind(family["desk"], family.genesis, SignerAdd("ssh-ed25519 x"))
    names = [family[name].approval(senior) for name in ("attic", "nas")]
    out = behind(family["attic"], family.genesis, AdminRemove(family["phone"].node))
    others = [family[name].approval(out) for name in ("desk", "nas")]
    assert head(family, senior, *names, out, *others) == out.value.id


def test_seniority_goes_before_the_id() -> None:
    family = three()
    senior = behind(family["desk"], family.genesis, Checkpoint("a", bytes(20)))
    junior = ground(family["attic"], family.genesis, senior)
    assert head(family, senior, junior) == senior.value.id


def test_of_one_admins_two_the_lower_id_goes_on() -> None:
    family = three()
    first = behind(family["desk"], family.genesis, Checkpoint("a", bytes(20)))
    second = ground(family["desk"], family.genesis, first)
    assert head(family, first, second) == second.value.id


# --- weight --------------------------------------------------------------------------------------------


def test_two_admins_must_both_sign_and_until_then_it_is_a_proposal() -> None:
    family = Family(["desk", "attic"], ["nas"])
    operation = behind(family["desk"], family.genesis, AdminAdd(family["nas"].node, 1))
    authority = family.authority(operation)
    assert authority.head == family.genesis.value.id
    [pending] = authority.pending
    assert (pending.id, pending.weight, pending.needed) == (operation.value.id, 1, 2)
    assert pending.signers == {family["desk"].node}
    stranger = family["nas"].approval(operation)
    assert family.authority(operation, stranger).pending == (pending,)
    assert family.authority(operation, family["attic"].approval(operation)).head == operation.value.id


def test_a_proposal_lapses_when_the_head_moves_on() -> None:
    family = Family(["desk", "attic"], ["nas"])
    operation = behind(family["desk"], family.genesis, AdminAdd(family["nas"].node, 1))
    other = behind(family["attic"], family.genesis, Checkpoint("a", bytes(20)))
    authority = family.authority(operation, other)
    assert (authority.head, authority.pending) == (other.value.id, ())


# --- pins ----------------------------------------------------------------------------------------------


def evicted() -> tuple[Family, list[Entry]]:
    """desk founded alone, let attic and nas in as admins, and was thrown out by them."""
    family = Family(["desk"], ["attic", "nas", "sock", "other"], recovery=True)
    first = behind(family["desk"], family.genesis, AdminAdd(family["attic"].node, 1))
    second = behind(family["desk"], first, AdminAdd(family["nas"].node, 1))
    records = [first, second, family["attic"].approval(second)]
    return family, [*records, *removal(family, "desk", by="attic", approved="nas", parent=second)]


def test_an_evicted_founder_cannot_rebuild_the_history_before_its_eviction() -> None:
    family, records = evicted()
    desk, out = family["desk"], records[3].value.id
    assert head(family, *records) == out
    rogue = ground(desk, family.genesis, records[0])
    sock = behind(desk, rogue, AdminAdd(family["sock"].node, 1))
    back_dated = desk.write(AdminAdd(family["sock"].node, 9), slot="00000001", prev=family.genesis.value.id, seq=1)
    assert head(family, *records, rogue, sock, back_dated) == out
    fake = behind(desk, sock, AdminAdd(family["other"].node, 1))
    signed = [fake, family["sock"].approval(fake)]
    gone = behind(desk, fake, AdminRemove(family["other"].node))
    signed += [gone, family["sock"].approval(gone)]
    assert head(family, *records, rogue, sock, *signed) == out


def test_what_an_evicted_admin_signs_changes_nothing_and_has_little_room() -> None:
    family, records = evicted()
    desk = family["desk"]
    void = [behind(desk, family.genesis, Setting("s", str(n))) for n in range(VOID_RECORDS_MAX + 20)]
    ledger = family.ledger(*records, desk.acknowledgement(void[0]), *void)
    crowded = fold(ledger)
    dropped = ledger.retain(crowded.lets_stay)
    assert crowded.head == records[3].value.id
    assert len(dropped) == 21  # the acknowledgement too: authority operations come first
    assert not any(crowded.lets_stay(record) for record in dropped)
    assert all(crowded.lets_stay(entry.value) for entry in [family.genesis, *records])
    assert fold(ledger) == crowded


def test_removals_of_each_other_are_decided_alike_everywhere() -> None:
    family = three()
    one = removal(family, "desk", by="attic", approved="nas", parent=family.genesis)
    two = removal(family, "attic", by="desk", approved="nas", parent=family.genesis)
    assert head(family, *one, *two) == two[0].value.id  # both void each other; desk is the more senior


def test_an_approval_by_the_evicted_does_not_lift_an_old_proposal() -> None:
    family = three()
    proposal = behind(family["nas"], family.genesis, SignerAdd("ssh-ed25519 x"))
    out = removal(family, "desk", by="attic", approved="nas", parent=family.genesis)
    assert head(family, proposal, *out, family["desk"].approval(proposal)) == out[0].value.id


def test_a_replaced_recovery_key_leads_nowhere() -> None:
    family = three()
    sock = family["sock"]
    replaced = behind(family["desk"], family.genesis, RecoveryReplace(bytes(sock.node)))
    records = [replaced, family["attic"].approval(replaced)]
    thief = behind(family.recovery, family.genesis, AdminAdd(sock.node, 99))
    assert head(family, *records, thief) == replaced.value.id
    late = behind(family.recovery, replaced, AdminAdd(sock.node, 99))
    assert head(family, *records, late) == replaced.value.id


# --- finality ------------------------------------------------------------------------------------------


def duel() -> tuple[Family, list[Entry], list[Entry]]:
    """Two removals, each of the other's author. With nothing final the first, by the more senior, is followed."""
    family = three()
    one = removal(family, "attic", by="desk", approved="nas", parent=family.genesis)
    two = removal(family, "desk", by="attic", approved="nas", parent=family.genesis)
    return family, one, two


def test_the_pins_up_to_what_is_final_count_before_those_of_others() -> None:
    family, one, two = duel()
    assert head(family, *one, *two) == one[0].value.id
    assert head(family, *one, *two, final=two[0].value.id) == two[0].value.id
    more = behind(family["desk"], one[0], Checkpoint("a", bytes(20)))
    assert head(family, *one, more, *two, final=two[0].value.id) == two[0].value.id


def test_a_final_operation_does_not_decide_between_those_who_both_have_a_say() -> None:
    family = three()
    senior = behind(family["desk"], family.genesis, Checkpoint("a", bytes(20)))
    junior = behind(family["nas"], family.genesis, Checkpoint("b", bytes(20)))
    assert head(family, senior, junior, final=junior.value.id) == senior.value.id


def test_a_majority_of_its_own_admins_leads_away_from_what_is_final() -> None:
    family, one, two = duel()
    records = [*one, *two, family["nas"].acknowledgement(one[0])]
    assert head(family, *records, final=two[0].value.id) == two[0].value.id  # one of attic and nas
    records.append(family["attic"].acknowledgement(one[0]))
    assert head(family, *records, final=two[0].value.id) == one[0].value.id


def test_the_recovery_key_leads_away_from_what_is_final() -> None:
    family, one, two = duel()
    recovery = behind(family.recovery, one[0], AdminAdd(family["sock"].node, 1))
    assert head(family, *one, *two, recovery, final=two[0].value.id) == recovery.value.id


def test_what_an_evicted_majority_signed_does_not_take_the_recovery_key_away() -> None:
    family = Family(["desk"], ["attic", "sock"], recovery=True)
    recovery = behind(family.recovery, family.genesis, AdminReplace(family["desk"].node, family["attic"].node))
    replaced = behind(family["desk"], family.genesis, RecoveryReplace(bytes(family["sock"].node)))
    friend = behind(family["desk"], family.genesis, AdminAdd(family["sock"].node, 9))
    more = behind(family["sock"], friend, RecoveryReplace(None))
    assert head(family, recovery, replaced) == recovery.value.id
    assert head(family, recovery, replaced, friend, more) == recovery.value.id
    assert head(family, recovery, replaced, friend, more, final=recovery.value.id) == recovery.value.id
    assert head(family, recovery, replaced, final=replaced.value.id) == replaced.value.id  # that was settled here


def test_admins_who_stay_may_replace_the_recovery_key_while_it_throws_another_out() -> None:
    family = three()
    recovery = behind(family.recovery, family.genesis, AdminRemove(family["desk"].node))
    replaced = behind(family["attic"], family.genesis, RecoveryReplace(None))
    assert head(family, recovery, replaced, family["nas"].approval(replaced)) == replaced.value.id
    assert head(family, recovery, replaced, family["desk"].approval(replaced)) == recovery.value.id


def final_of(authority: Authority) -> RecordId | None:
    return authority.final


def test_an_operation_is_final_when_over_half_of_its_own_admins_follow_it() -> None:
    family = three()
    first = behind(family["desk"], family.genesis, Checkpoint("a", bytes(20)))
    second = behind(family["desk"], first, Checkpoint("b", bytes(20)))
    records = [first, second, family["desk"].acknowledgement(second)]
    assert final_of(family.authority(*records)) == family.genesis.value.id
    records.append(family["attic"].acknowledgement(first))
    assert final_of(family.authority(*records)) == first.value.id
    records.append(family["sock"].acknowledgement(second))
    assert final_of(family.authority(*records)) == first.value.id
    records.append(family["nas"].acknowledgement(second))
    assert final_of(family.authority(*records)) == second.value.id


def test_where_the_final_operation_is_left_what_both_histories_share_stays_final() -> None:
    family, one, two = duel()
    first = behind(family.recovery, one[0], AdminAdd(family["sock"].node, 1))
    authority = fold(family.ledger(*one, *two, first), two[0].value.id)
    assert (authority.head, authority.final) == (first.value.id, family.genesis.value.id)
    followed = [family[name].acknowledgement(first) for name in ("desk", "nas")]
    assert fold(family.ledger(*one, *two, first, *followed), two[0].value.id).final == first.value.id


def test_a_final_operation_that_is_not_here_binds_nothing_but_is_not_forgotten() -> None:
    family, one, two = duel()
    followed = [family[name].acknowledgement(one[0]) for name in ("desk", "nas")]
    authority = fold(family.ledger(*one, *followed), two[0].value.id)
    assert (authority.head, authority.final) == (one[0].value.id, two[0].value.id)


# --- what it costs -------------------------------------------------------------------------------------


def lines_run(ledger: Ledger, final: RecordId | None) -> int:
    """How many lines of code the fold of a record set runs: the same on every machine."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> TraceFunction:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        fold(ledger, final)
    finally:
        sys.settrace(before)
    return count


def with_void_siblings(length: int, siblings: int) -> tuple[Ledger, RecordId]:
    """A settled chain of this length that begins by putting desk out, and what desk says at its beginning."""
    family = three()
    records = removal(family, "desk", by="attic", approved="nas", parent=family.genesis)
    last = records[0]
    for number in range(length):
        last = behind(family["attic"], last, Setting("s", str(number)))
        records.append(last)
    records += [family[name].acknowledgement(last) for name in ("attic", "nas")]
    records += [behind(family["desk"], family.genesis, Setting("v", str(n))) for n in range(siblings)]
    return family.ledger(*records), last.value.id


def with_a_sibling_each(length: int) -> tuple[Ledger, RecordId]:
    """A settled chain of this length, each operation with a sibling by the same admin."""
    family = three()
    last, records = family.genesis, []
    for _ in range(length):
        other, last = (behind(family["desk"], last, Setting(name, "x")) for name in ("t", "s"))
        last, other = sorted((last, other), key=lambda entry: entry.value.id)
        records += [other, last]
    records += [family[name].acknowledgement(last) for name in ("attic", "nas")]
    return family.ledger(*records), last.value.id


def costs(half: tuple[Ledger, RecordId], whole: tuple[Ledger, RecordId]) -> tuple[int, int]:
    """The lines that each fold runs, given that it follows what is settled there."""
    for ledger, settled in (half, whole):
        assert (fold(ledger).head, fold(ledger).final) == (settled, settled)
    return lines_run(*half), lines_run(*whole)


def test_many_void_siblings_cost_no_more_than_their_number() -> None:
    half, whole = costs(with_void_siblings(100, 500), with_void_siblings(200, 1000))
    assert whole < TWICE * half


def test_a_long_chain_with_a_sibling_each_costs_no_more_than_its_length() -> None:
    half, whole = costs(with_a_sibling_each(200), with_a_sibling_each(400))
    assert whole < TWICE * half
