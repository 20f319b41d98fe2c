"""The record set: newest value per register, whatever the order, and hashes that show every difference."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clanmesh_protocol.keys import RecordId
from clanmesh_protocol.limits import SLOTS_PER_AUTHOR_MAX, SLOTS_PER_AUTHOR_UNKNOWN_KINDS_MAX
from clanmesh_protocol.records import Head, Kind, Record, RolloutState, SecretsState, SignerAdd, Status
from clanmesh_protocol.signing import Verified
from clanmeshd.core.ledger import VOLATILE_TTL_S_MAX, Ledger, Outcome
from clanmeshd.core.limits import FLOORS_OF_OTHERS_MAX
from clanmeshd.core.trie import Trie, digits_of
from tests.core.authors import Author, Family, ledger_of


def head(author: Author, slot: str, content: int = 0, seq: int | None = None) -> Verified[Record]:
    return author.write(Head(None, bytes([content]) * 20, b""), slot=slot, seq=seq)


def status(author: Author, secrets_epoch: int, ttl_s: int = 60) -> Verified[Record]:
    content = Status(None, None, RolloutState.BEHIND, secrets_epoch, SecretsState.CURRENT)
    return author.write(content, ttl_s=ttl_s)


@pytest.fixture
def family() -> Family:
    return Family(["desk"], ["nas", "phone"])


# --- registers -----------------------------------------------------------------------------------------


def test_the_newest_value_of_a_register_stands(family: Family) -> None:
    nas, ledger = family["nas"], family.ledger()
    old, new = head(nas, "main", 1), head(nas, "main", 2)
    assert ledger.apply(old).outcome is Outcome.NEW
    applied = ledger.apply(new)
    assert (applied.outcome, applied.replaced, applied.equivocation) == (Outcome.NEW, old.value, False)
    assert ledger.get(nas.node, Kind.HEAD, "main") is new
    assert not ledger.known(old.value.id)


@pytest.mark.parametrize("again", ["stale", "duplicate"])
def test_what_is_not_taken_leaves_nothing_behind(family: Family, again: str) -> None:
    old, new = head(family["nas"], "main", 1), head(family["nas"], "main", 2)
    ledger = family.ledger(old, new)
    before = (ledger.root(), ledger.version, ledger.records())
    record, outcome = {"stale": (old, Outcome.STALE), "duplicate": (new, Outcome.DUPLICATE)}[again]
    assert not ledger.newer(record.value)
    assert ledger.apply(record).outcome is outcome
    assert (ledger.root(), ledger.version, ledger.records()) == before


def test_of_two_contents_with_one_seq_the_higher_id_stays_and_it_is_told(family: Family) -> None:
    low, high = sorted((head(family["nas"], "main", n, seq=7) for n in (1, 2)), key=lambda r: r.value.id)
    for first, second, outcome in ((low, high, Outcome.NEW), (high, low, Outcome.STALE)):
        ledger = family.ledger(first)
        assert ledger.newer(second.value), "it must pass the order check, or nobody would ever see it"
        applied = ledger.apply(second)
        assert (applied.outcome, applied.equivocation) == (outcome, True)
        assert ledger.get(family["nas"].node, Kind.HEAD, "main") is high


def test_authority_operations_are_all_kept(family: Family) -> None:
    desk, authority = family["desk"], family.authority()
    several = [
        desk.write(SignerAdd(f"ssh-ed25519 {n}"), slot=authority.next_slot, prev=authority.head, seq=seq)
        for n, seq in ((1, 5), (2, 5), (3, 6))
    ]
    ledger = family.ledger(several[0])
    assert ledger.apply(several[1]).equivocation
    assert not ledger.apply(several[2]).equivocation
    assert all(ledger.known(record.value.id) for record in several)
    assert ledger.get(desk.node, Kind.AUTHORITY, authority.next_slot) is several[2]


def test_ids_are_found_by_their_short_form(family: Family) -> None:
    record = head(family["nas"], "main")
    ledger = family.ledger(record)
    assert ledger.known(record.value.id[:8])
    assert not ledger.known(record.value.id[:8] + bytes(24))
    assert ledger.by_short_id(record.value.id[:8]) == record.value
    assert ledger.by_short_id(bytes(8)) is None


# --- quotas --------------------------------------------------------------------------------------------


@given(order=st.permutations(range(SLOTS_PER_AUTHOR_MAX[Kind.HEAD] + 5)))
@settings(max_examples=30, deadline=None)
def test_with_too_many_slots_the_same_ones_stay_in_every_order(order: list[int]) -> None:
    family = Family(["desk"], ["nas", "other"])
    records = [head(family["nas"], f"ref-{number:02d}") for number in range(len(order))]
    other = head(family["other"], "ref-99")
    ledger = family.ledger(other, *(records[number] for number in order))
    kept = {entry.value.slot for entry in ledger.of_kind(Kind.HEAD) if entry.value.author == family["nas"].node}
    assert kept == {f"ref-{number:02d}" for number in range(SLOTS_PER_AUTHOR_MAX[Kind.HEAD])}
    assert ledger.known(other.value.id), "one author's excess costs no other anything"
    assert ledger.root() == family.ledger(other, *records).root()


def test_a_full_shelf_refuses_and_makes_room(family: Family) -> None:
    records = [head(family["nas"], f"ref-{number:02d}") for number in range(SLOTS_PER_AUTHOR_MAX[Kind.HEAD] + 1)]
    first, last = records[0], records[-1]
    ledger = family.ledger(*records[:-1])
    assert not ledger.newer(last.value)
    assert ledger.apply(last).outcome is Outcome.FULL
    ledger = family.ledger(*records[1:])
    assert ledger.apply(first).displaced == last.value


def later(author: Author, number: int) -> Verified[Record]:
    """A record of one of many kinds that this version does not know."""
    return author.write(Head(None, bytes(20), b"s"), kind=20 + number % 100, slot=f"{number:04d}", seq=1 + number)


@pytest.mark.parametrize("seed", range(4))
def test_all_later_kinds_of_an_author_share_their_slots(family: Family, seed: int) -> None:
    nas, phone = family["nas"], family["phone"]
    records = [later(nas, number) for number in range(SLOTS_PER_AUTHOR_UNKNOWN_KINDS_MAX + 60)]
    lowest = sorted(records, key=lambda each: (each.value.kind, each.value.slot))
    expected = family.ledger(*lowest[:SLOTS_PER_AUTHOR_UNKNOWN_KINDS_MAX], later(phone, 1))
    random.Random(seed).shuffle(records)
    ledger = family.ledger(later(phone, 1), *records)
    assert ledger.root() == expected.root(), f"seed {seed}: by kind and slot, whatever came first"
    highest = lowest[-1]
    assert not ledger.newer(highest.value)
    assert ledger.would_displace(highest.value)
    assert ledger.apply(highest).outcome is Outcome.FULL


# --- volatile kinds ------------------------------------------------------------------------------------


def test_volatile_records_stay_out_of_the_hashed_set(family: Family) -> None:
    ledger = family.ledger()
    before = (ledger.root(), len(ledger), ledger.records(), ledger.version)
    ledger.apply(record := status(family["nas"], 1), now_s=0)
    assert (ledger.root(), len(ledger), ledger.records()) == before[:3]
    assert ledger.version > before[3]
    assert ledger.by_short_id(record.value.id[:8]) == record.value


def test_a_volatile_record_lapses_and_its_echo_does_not_come_back(family: Family) -> None:
    nas, ledger = family["nas"], family.ledger()
    ledger.apply(old := status(nas, 1, ttl_s=60), now_s=100)
    assert ledger.next_lapse_s() == 160
    assert ledger.expire(159.9) == []
    assert ledger.expire(160) == [old.value]
    assert not ledger.newer(old.value)
    assert ledger.apply(old, now_s=161).outcome is Outcome.STALE
    assert ledger.apply(status(nas, 2), now_s=161).is_new


def test_what_lapsed_of_authors_that_are_gone_is_not_remembered_for_ever(family: Family) -> None:
    nas, ledger = family["nas"], family.ledger()
    ledger.apply(kept := status(nas, 1, ttl_s=1), now_s=0)
    gone = [Author(f"gone-{number}", 200 + number) for number in range(FLOORS_OF_OTHERS_MAX + 50)]
    for author in gone:
        author.clan = family.clan
    lapsed = [status(author, 1, ttl_s=1) for author in gone]
    for record in lapsed:
        ledger.apply(record, now_s=0)
    ledger.expire(10)
    ledger.retain(lambda record: record.author == nas.node)
    assert sum(not ledger.newer(record.value) for record in lapsed) == FLOORS_OF_OTHERS_MAX
    assert not ledger.newer(kept.value), "members' are all remembered"


def test_a_newer_volatile_record_begins_its_time_anew(family: Family) -> None:
    nas, ledger = family["nas"], family.ledger()
    ledger.apply(status(nas, 1, ttl_s=60), now_s=0)
    ledger.apply(new := status(nas, 2, ttl_s=60), now_s=50)
    assert ledger.expire(60) == []
    assert ledger.expire(110) == [new.value]


def test_no_volatile_record_stays_for_ever(family: Family) -> None:
    ledger = family.ledger()
    ledger.apply(status(family["nas"], 1, ttl_s=0), now_s=0)
    ledger.apply(status(family["phone"], 1, ttl_s=0xFFFF_FFFF), now_s=0)
    assert len(ledger.expire(VOLATILE_TTL_S_MAX)) == 2


# --- versions, retain ----------------------------------------------------------------------------------


def test_versions_tell_which_kinds_changed(family: Family) -> None:
    ledger = family.ledger()
    before = (ledger.version_of(Kind.HEAD), ledger.version_of(Kind.SECRET, Kind.NODE))
    ledger.apply(head(family["nas"], "main"))
    assert ledger.version_of(Kind.HEAD) > before[0]
    assert ledger.version_of(Kind.SECRET, Kind.NODE) == before[1]


def test_a_verdict_is_worked_out_once_as_long_as_its_record_stands(family: Family) -> None:
    nas, ledger, asked = family["nas"], family.ledger(), []

    def work_out() -> bool:
        asked.append(1)
        return True

    ledger.apply(record := head(nas, "main"))
    assert all(ledger.verdict(record.value, work_out) for _ in range(5))
    assert len(asked) == 1
    ledger.retain(lambda each: each.author != nas.node)
    for _ in range(2):
        ledger.verdict(record.value, work_out)
    assert len(asked) == 3, "nothing is kept of what does not stand here"


def test_retain_drops_and_tells(family: Family) -> None:
    nas, phone = family["nas"], family["phone"]
    records = [head(nas, "main"), head(phone, "main"), status(phone, 1)]
    ledger = family.ledger(*records)
    dropped = ledger.retain(lambda record: record.author != phone.node)
    assert {record.id for record in dropped} == {records[1].value.id, records[2].value.id}
    assert ledger.root() == family.ledger(records[0]).root()
    assert ledger.expire(1e9) == []


# --- the trie ------------------------------------------------------------------------------------------


def test_digits_are_the_most_significant_bits_first() -> None:
    assert digits_of(bytes([0b000001_00, 0b0010_0000, 0b11_000100]) + bytes(29), 4) == bytes([1, 2, 3, 4])


@given(st.sets(st.binary(min_size=32, max_size=32), max_size=40), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_a_trie_is_a_function_of_its_set(ids: set[bytes], rng: random.Random) -> None:
    straight, crooked = Trie(), Trie()
    extra = [RecordId(rng.randbytes(32)) for _ in range(10)]
    for record in sorted(ids):
        straight.add(RecordId(record))
    shuffled = [*map(RecordId, ids), *extra]
    rng.shuffle(shuffled)
    for place, record in enumerate(shuffled):
        crooked.add(record)
        if place % 3 == 0:
            crooked.root()
    for record in extra:
        crooked.remove(record)
    assert len(crooked) == len(ids)
    for prefix in (b"", *(digits_of(record, length) for record in ids for length in (1, 2, 3))):
        assert crooked.digest(prefix) == straight.digest(prefix)
        assert crooked.leaf(prefix) == straight.leaf(prefix)
    assert crooked.root() == straight.root()


@given(st.sets(st.binary(min_size=32, max_size=32), min_size=1, max_size=40), st.data())
@settings(max_examples=60, deadline=None)
def test_every_difference_is_found_by_descending(ids: set[bytes], data: st.DataObject) -> None:
    lacking = data.draw(st.sampled_from(sorted(ids)))
    whole, part = Trie(), Trie()
    for record in ids:
        whole.add(RecordId(record))
        if record != lacking:
            part.add(RecordId(record))
    assert whole.root() != part.root()
    prefix = b""
    for _ in range(3):
        pairs = enumerate(zip(whole.digest(prefix), part.digest(prefix), strict=True))
        differing = [digit for digit, (one, other) in pairs if one != other]
        assert differing == [digits_of(lacking, len(prefix) + 1)[-1]]
        prefix += bytes(differing)
    assert set(whole.leaf(prefix)) - set(part.leaf(prefix)) == {lacking[:8]}
    assert whole.count(prefix) == part.count(prefix) + 1


def test_an_empty_set_has_a_root_of_zeros(family: Family) -> None:
    trie = Trie()
    assert trie.root() == bytes(16)
    trie.add(RecordId(bytes(32)))
    assert trie.root() != bytes(16)
    trie.remove(RecordId(bytes(32)))
    assert trie.root() == bytes(16)
    assert ledger_of(family.clan, []).root() == Ledger(family.clan).root() == bytes(16)
