"""The small parts of the core by themselves: bounds, order, pace."""

from collections import Counter
from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import FRAMES_PER_DATAGRAM_MAX
from clanmesh_protocol.messages import (
    PLAINTEXT_BYTES_MAX,
    Frame,
    IHave,
    Ping,
    RecordFrame,
    Want,
    encode_frames,
)
from clanmesh_protocol.records import SINGLE_SLOT, Kind, Record
from clanmesh_protocol.signing import read_untrusted
from clanmeshd.core.author import node_content
from clanmeshd.core.buckets import Buckets, TokenBucket
from clanmeshd.core.dissemination import Dissemination
from clanmeshd.core.limits import (
    ADVERTISERS_MAX,
    IDS_PER_FRAME_MAX,
    LAZY_PEERS,
    LAZY_ROUNDS,
    LAZY_TELLINGS,
    OUTBOX_FRAMES_MAX,
    PARKED_BYTES_MAX,
    PARKED_RECORDS_MAX,
    PUSH_ALL_PEERS_MAX,
    RECENT_RECORDS_MAX,
    REFUSED_MAX,
    REFUSED_S,
    TELL_STEPS_S,
    TELL_TICK_S,
    WANT_AGAIN_S,
    WANT_TRIES_MAX,
    WANTS_MAX,
    WANTS_PER_PEER_MAX,
)
from clanmeshd.core.outbox import URGENCY_PROBE, Outbox, urgency_of
from clanmeshd.core.own_status import OwnStatus, refresh_s
from clanmeshd.core.parking import Parking
from clanmeshd.core.wants import Wants
from tests.core.worlds import START_SEQ, found, status

CLAN = found(1)
OWN = NodeId(bytes(32))
PEERS = [NodeId(bytes([number]) * 32) for number in range(1, 40)]


def ids(count: int, start: int = 0) -> list[bytes]:
    """Distinct short ids."""
    return [(start + number).to_bytes(8, "big") for number in range(count)]


def unknown(short_id: bytes) -> bool:
    """Nothing is known."""
    return not short_id


def record(number: int, kind: int = Kind.SECRET) -> Record:
    """Some record."""
    return read_untrusted(CLAN.sign(0, None, kind=kind, slot=f"s{number}", seq=START_SEQ), CLAN.id).value


class TestWants:
    def test_asks_once_then_others_then_by_stream_then_gives_up(self) -> None:
        wants = Wants()
        one = ids(1)
        assert wants.advertised(PEERS[0], one, unknown, 0.0) == one
        assert wants.advertised(PEERS[1], one, unknown, 0.0) == []
        tries = []
        while (due_s := wants.next_deadline()) < inf:
            ask, fetch = wants.handle_deadline(due_s)
            tries += [("ask", *ask)] if ask else []
            tries += [("fetch", *fetch)] if fetch else []
        assert tries == [
            ("ask", PEERS[1]),
            *[("fetch", PEERS[number % 2]) for number in range(WANT_TRIES_MAX - 2)],
        ]

    def test_what_is_too_large_is_fetched_once_and_from_who_said_so(self) -> None:
        wants = Wants()
        one = ids(1)
        assert wants.advertised(PEERS[1], one, unknown, 0.0) == one
        assert wants.advertised(PEERS[1], one, unknown, WANT_AGAIN_S / 2) == [], "told twice is no answer"
        assert wants.lacking(PEERS[0], one, unknown, 0.2) == one
        assert wants.lacking(PEERS[1], one, unknown, 0.3) == []
        ask, fetch = wants.handle_deadline(wants.next_deadline())
        assert (ask, fetch) == ({}, {PEERS[1]: one}), "the other one, when the first does not give it"

    def test_who_tells_of_it_while_the_answer_is_long_in_coming_is_asked_too(self) -> None:
        wants = Wants()
        one = ids(1)
        assert wants.advertised(PEERS[0], one, unknown, 0.0) == one
        for peer in PEERS[1 : 2 * ADVERTISERS_MAX]:
            assert wants.advertised(peer, one, unknown, WANT_AGAIN_S / 2) == []
        for number, peer in enumerate(PEERS[: 2 * ADVERTISERS_MAX], start=1):
            assert wants.advertised(peer, one, unknown, number * WANT_AGAIN_S) == one
            assert wants.advertised(peer, one, unknown, number * WANT_AGAIN_S) == [], "not twice at once"

    def test_what_came_is_wanted_no_more(self) -> None:
        wants = Wants()
        wants.advertised(PEERS[0], ids(2), unknown, 0.0)
        for short_id in ids(2):
            wants.arrived(short_id)
        assert wants.next_deadline() == inf

    def test_what_was_refused_is_let_be_for_a_while_or_until_the_authority_changes(self) -> None:
        for how in ("time", "authority"):
            wants = Wants()
            wants.refuse(ids(1)[0], 0.0)
            assert wants.advertised(PEERS[0], ids(1), unknown, REFUSED_S / 2) == []
            if how == "authority":
                wants.reconsider()
            later_s = REFUSED_S / 2 if how == "authority" else REFUSED_S + 1
            assert wants.advertised(PEERS[0], ids(1), unknown, later_s) == ids(1)

    def test_bounds(self) -> None:
        wants = Wants()
        asked = wants.advertised(PEERS[0], ids(3 * WANTS_MAX), unknown, 0.0)
        assert len(asked) == WANTS_PER_PEER_MAX
        asked = wants.advertised(PEERS[1], ids(3 * WANTS_MAX, 10**6), unknown, 0.0)
        assert len(asked) == WANTS_MAX - WANTS_PER_PEER_MAX

    def test_refusals_are_bounded_and_the_oldest_forgotten(self) -> None:
        wants = Wants()
        for short_id in ids(2 * REFUSED_MAX):
            wants.refuse(short_id, 0.0)
        first, last = ids(1), ids(1, 2 * REFUSED_MAX - 1)
        assert wants.advertised(PEERS[0], first + last, unknown, 0.0) == first


class TestOutbox:
    def test_the_urgent_leave_first(self) -> None:
        outbox = Outbox()
        kinds = [Kind.STATUS, Kind.SECRET, Kind.NODE, Kind.CREDENTIAL, Kind.AUTHORITY, Kind.REVOCATION, 200]
        for kind in kinds:
            outbox.put(PEERS[0], RecordFrame(bytes([kind])), urgency_of(kind))
        outbox.put(PEERS[0], Ping(1, bytes(8), bytes(8), bytes(16)), URGENCY_PROBE)
        ((_, frames),) = outbox.drain()
        order = [frame.data[0] for frame in frames if isinstance(frame, RecordFrame)]
        assert isinstance(frames[0], Ping)
        assert order == [
            Kind.AUTHORITY,
            Kind.REVOCATION,
            Kind.CREDENTIAL,
            Kind.NODE,
            Kind.SECRET,
            200,
            Kind.STATUS,
        ]

    @given(st.lists(st.integers(1, 1000), max_size=80))
    def test_every_datagram_fits_and_nothing_is_lost(self, sizes: list[int]) -> None:
        outbox = Outbox()
        frames: list[Frame] = [
            RecordFrame(number.to_bytes(2, "big") + bytes(size)) for number, size in enumerate(sizes)
        ]
        for frame in frames:
            outbox.put(PEERS[0], RecordFrame(frame.data[:1000]) if isinstance(frame, RecordFrame) else frame, 5)
        sent = []
        for node, packed in outbox.drain():
            assert node == PEERS[0]
            assert len(packed) <= FRAMES_PER_DATAGRAM_MAX
            assert len(encode_frames(packed)) <= PLAINTEXT_BYTES_MAX
            sent += packed
        assert len(sent) == len(sizes)
        assert list(outbox.drain()) == []

    def test_the_ids_of_large_records_are_said_twice_in_one_frame(self) -> None:
        outbox = Outbox()
        outbox.announce(PEERS[0], ids(1))
        outbox.announce(PEERS[0], ids(100, 50), is_large=True)
        frames = [frame for _, packed in outbox.drain() for frame in packed if isinstance(frame, IHave)]
        times = [Counter(frame.ids) for frame in frames]
        assert sum(times, Counter()) == {ids(1)[0]: 1, **dict.fromkeys(ids(100, 50), 2)}
        assert all(count[short_id] == 2 for count in times for short_id in count if short_id != ids(1)[0])

    def test_ids_are_gathered(self) -> None:
        outbox = Outbox()
        for short_id in ids(100):
            outbox.announce(PEERS[0], [short_id, short_id])
            outbox.want(PEERS[1], [short_id])
        sent = dict(outbox.drain())
        assert sent[PEERS[0]] == [IHave(tuple(ids(64))), IHave(tuple(ids(36, 64)))]
        assert sent[PEERS[1]] == [Want(tuple(ids(64))), Want(tuple(ids(36, 64)))]

    def test_is_bounded_and_drops_the_least_urgent(self) -> None:
        outbox = Outbox()
        outbox.put(PEERS[0], Want(()), URGENCY_PROBE)
        for number in range(3 * OUTBOX_FRAMES_MAX):
            outbox.put(PEERS[0], RecordFrame(number.to_bytes(2, "big")), 9)
        sent = [frame for _, frames in outbox.drain() for frame in frames]
        assert len(sent) == OUTBOX_FRAMES_MAX
        assert Want(()) in sent
        assert outbox.dropped == 3 * OUTBOX_FRAMES_MAX + 1 - OUTBOX_FRAMES_MAX


class TestDissemination:
    def test_few_are_all_pushed_to_by_the_author_alone(self) -> None:
        up = PEERS[:PUSH_ALL_PEERS_MAX]
        wave = Dissemination(OWN, Random(1))
        assert wave.spread(record(1), None, up, 0.0) == up
        forwarded = Dissemination(OWN, Random(1)).spread(record(1), CLAN.keys[0].node, up, 0.0)
        assert forwarded == []

    def test_what_came_by_another_is_pushed_on(self) -> None:
        up = PEERS[:4]
        assert Dissemination(OWN, Random(1)).spread(record(1), PEERS[0], up, 0.0) == PEERS[1:4]

    def test_where_its_author_is_it_may_have_been_able_to_tell_one_other_alone(self) -> None:
        place = node_content(CLAN.keys[0], CLAN.id, [], 0)
        said = read_untrusted(CLAN.sign(0, place, kind=Kind.NODE, slot=SINGLE_SLOT, seq=START_SEQ), CLAN.id).value
        assert Dissemination(OWN, Random(1)).spread(said, CLAN.keys[0].node, PEERS[:4], 0.0) == PEERS[:4]

    def test_of_many_the_ring_neighbours_and_one_more(self) -> None:
        targets = Dissemination(PEERS[10], Random(1)).spread(record(1), None, PEERS[:10] + PEERS[11:], 0.0)
        assert targets[:2] == [PEERS[9], PEERS[11]]
        assert len(set(targets)) == 3

    def test_the_ring_closes(self) -> None:
        targets = Dissemination(OWN, Random(1)).spread(record(1), None, PEERS, 0.0)
        assert targets[:2] == [PEERS[-1], PEERS[0]]

    def test_who_showed_it_is_not_told_of_it(self) -> None:
        wave = Dissemination(OWN, Random(1))
        wave.spread(record(1), PEERS[0], PEERS[:4], 0.0)
        short_id = record(1).id[:8]
        wave.held_by(short_id, PEERS[1])
        assert wave.names_for(PEERS[1], 1.0) == []
        told = [wave.names_for(PEERS[2], 1.0) for _ in range(LAZY_ROUNDS + 2)]
        assert told == [[short_id]] * LAZY_ROUNDS + [[], []]
        assert wave.handle_deadline(PEERS[:4], 1.0) == [(PEERS[0], short_id)], "who brought it: that it came"

    def test_a_neighbour_is_told_until_it_shows_the_record_and_not_for_ever(self) -> None:
        wave = Dissemination(PEERS[10], Random(1))
        up = PEERS[:10] + PEERS[11:]
        wave.spread(record(1), None, up, 0.0)
        told: dict[float, list[NodeId]] = {}
        while (due_s := wave.next_deadline()) < inf:
            told[round(due_s, 3)] = [node for node, _ in wave.handle_deadline(up, due_s)]
            wave.held_by(record(1).id[:8], PEERS[9])
        first, *later = told.values()
        assert list(told) == pytest.approx(list(TELL_STEPS_S), abs=2 * TELL_TICK_S)
        assert len(first) == LAZY_PEERS
        assert not {PEERS[9], PEERS[11]} & set(first), "they were pushed it just now"
        assert later == [[PEERS[11]]] * (len(TELL_STEPS_S) - 1)

    def test_a_neighbour_that_brought_it_is_told_that_it_came(self) -> None:
        wave = Dissemination(PEERS[10], Random(1))
        up = PEERS[:10] + PEERS[11:]
        wave.spread(record(1), PEERS[9], up, 0.0)
        wave.held_by(record(1).id[:8], PEERS[11])
        assert wave.handle_deadline(up, TELL_STEPS_S[0])[0] == (PEERS[9], record(1).id[:8])
        assert wave.next_deadline() == inf, "both have it"

    def test_of_many_new_records_only_those_remembered_are_told(self) -> None:
        wave = Dissemination(OWN, Random(1))
        for number in range(RECENT_RECORDS_MAX + 50):
            wave.spread(record(number), None, PEERS, 0.0)
        told = wave.handle_deadline(PEERS, TELL_STEPS_S[0])
        assert len({short_id for _, short_id in told}) == RECENT_RECORDS_MAX

    def test_each_ping_names_a_frame_full_and_the_next_one_others(self) -> None:
        wave = Dissemination(OWN, Random(1))
        for number in range(RECENT_RECORDS_MAX + 50):
            wave.spread(record(number), None, [], 0.0)
        pings = RECENT_RECORDS_MAX // IDS_PER_FRAME_MAX
        named = [wave.names_for(PEERS[0], 1.0) for _ in range(pings)]
        assert {len(names) for names in named} == {IDS_PER_FRAME_MAX}
        assert len({short_id for names in named for short_id in names}) == RECENT_RECORDS_MAX

    def test_after_some_tellings_the_rest_is_for_the_comparing_of_sets(self) -> None:
        wave = Dissemination(OWN, Random(1))
        wave.spread(record(1), None, [], 0.0)
        told = [node for _ in range(LAZY_ROUNDS) for node in PEERS if wave.names_for(node, 1.0)]
        assert len(told) == LAZY_TELLINGS

    def test_whose_set_is_the_same_has_all_of_it(self) -> None:
        wave = Dissemination(OWN, Random(1))
        wave.spread(record(1), None, [], 0.0)
        wave.agrees(PEERS[0])
        wave.spread(record(2), None, [], 0.0)
        assert wave.names_for(PEERS[0], 1.0) == [record(2).id[:8]]
        assert PEERS[0] in wave.holders(record(1).id[:8])
        assert PEERS[0] not in wave.holders(record(2).id[:8])
        wave.retain(frozenset())
        assert PEERS[0] not in wave.holders(record(1).id[:8])


class TestParking:
    def test_is_bounded_in_number_and_bytes(self) -> None:
        parking = Parking()
        for number in range(2 * PARKED_RECORDS_MAX):
            parking.put(record(number), PEERS[0])
        kept = parking.take_all()
        assert len(kept) == PARKED_RECORDS_MAX
        assert kept[-1] == (record(2 * PARKED_RECORDS_MAX - 1).data, PEERS[0])
        assert sum(len(data) for data, _ in kept) <= PARKED_BYTES_MAX
        assert parking.take_all() == []


class TestPace:
    def test_a_bucket_gives_its_rate(self) -> None:
        bucket = TokenBucket(10.0, 5.0, 0.0)
        taken = sum(bucket.take(step / 100) for step in range(1001))
        assert taken == pytest.approx(105, abs=1)

    def test_a_clock_that_stands_or_goes_back_gives_nothing(self) -> None:
        bucket = TokenBucket(10.0, 1.0, 100.0)
        assert [bucket.take(at) for at in (100.0, 100.0, 50.0)] == [True, False, False]

    @pytest.mark.parametrize(("members", "seconds"), [(2, 300.0), (15, 300.0), (100, 2000.0)])
    def test_a_status_is_refreshed_the_more_seldom_the_larger_the_clan(self, members: int, seconds: float) -> None:
        assert refresh_s(members) == seconds
        own = OwnStatus()
        own.set(status(1), 0.0)
        assert own.take(members, 0.0) == (status(1), 3 * int(seconds))
        assert own.take(members, seconds - 1) is None
        assert own.take(members, seconds) is not None

    def test_nothing_is_said_before_anything_was_set(self) -> None:
        own = OwnStatus()
        assert own.next_deadline() == inf
        own.set(OwnStatus().value, 5.0)
        assert own.take(2, 5.0) is not None

    def test_buckets_of_many_keys_are_forgotten_once_they_are_full_again(self) -> None:
        buckets: Buckets[int] = Buckets(1.0, 2.0)
        for key in range(5000):
            assert buckets.take(key, key * 1.0)
            assert len(buckets) <= 100, "one bucket is full again a second later"
        assert buckets.take(4999, 4999.0)
        assert not buckets.has(4999, 4999.0)
        assert not buckets.take(4999, 4999.0), "what was taken just now is remembered"
        assert buckets.has(4999, 5000.0)
        assert buckets.has(-1, 0.0), "who never took has all of it"
