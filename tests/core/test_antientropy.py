"""Repair between two record sets, by itself: the frames are carried by hand."""

from dataclasses import dataclass, field
from functools import cache
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.messages import PLAINTEXT_BYTES_MAX, Digest, Leaf, encode_frame
from clanmesh_protocol.records import Kind, Record
from clanmesh_protocol.signing import Verified, read_untrusted
from clanmeshd.core.antientropy import AntiEntropy
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.limits import LEAF_IDS_MAX, SYNC_BACKOFF_S_MAX, SYNC_FRAMES_BURST
from tests.core.worlds import START_SEQ, found

CLAN = found(2)
LOW, HIGH = sorted(keys.node for keys in CLAN.keys)


@cache
def record(number: int, seq: int = START_SEQ) -> Verified[Record]:
    """One of many records: an emptied register of its own."""
    data = CLAN.sign(number % 2, None, kind=Kind.SECRET, slot=f"s{number}", seq=seq)
    return read_untrusted(data, CLAN.id)


@dataclass
class Side:
    """A ledger and its repair."""

    node: NodeId
    ledger: Ledger = field(default_factory=lambda: Ledger(CLAN.id))

    def __post_init__(self) -> None:
        self.repair = AntiEntropy(self.node, self.ledger)
        self.sent_bytes = 0

    def hold(self, *records: Verified[Record]) -> "Side":
        """Put records in."""
        for item in records:
            self.ledger.apply(item)
        return self


class Pair:
    """Two sides, in virtual time; each tells its root with every ping."""

    def __init__(self, low: list[Verified[Record]], high: list[Verified[Record]]) -> None:
        self.low, self.high = Side(LOW).hold(*low), Side(HIGH).hold(*high)
        self.now_s = 0.0
        self.rounds = 0

    def equal(self) -> bool:
        """Whether both hold the same."""
        return self.low.ledger.root() == self.high.ledger.root()

    def contact(self, sender: Side) -> None:
        """A ping one way, an ack back, and whatever follows from it."""
        receiver = self.other(sender)
        self.carry(receiver, receiver.repair.hear_root(sender.node, sender.ledger.root(), self.now_s))
        self.carry(sender, sender.repair.hear_root(receiver.node, receiver.ledger.root(), self.now_s))

    def other(self, side: Side) -> Side:
        """The opposite one."""
        return self.high if side is self.low else self.low

    def carry(self, sender: Side, frames: list[Digest | Leaf]) -> None:
        """Bring frames over, trade records, and bring the answers back."""
        receiver = self.other(sender)
        for frame in frames:
            size = len(encode_frame(frame))
            assert size <= PLAINTEXT_BYTES_MAX
            sender.sent_bytes += size
            if isinstance(frame, Digest):
                self.carry(receiver, receiver.repair.hear_digest(sender.node, frame, self.now_s))
            else:
                wanted, given_ids = receiver.repair.hear_leaf(frame)
                self.move(sender, receiver, wanted)
                self.move(receiver, sender, given_ids)

    def move(self, source: Side, target: Side, ids: list[bytes]) -> None:
        """Hand records over."""
        for short_id in ids:
            found_record = source.ledger.by_short_id(short_id)
            if found_record is not None:
                target.hold(read_untrusted(found_record.data, CLAN.id))

    def run(self, seconds: float) -> None:
        """Let time pass, with a contact each second and one whenever a side asks for it."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s = min(self.low.repair.next_deadline(), self.high.repair.next_deadline(), self.now_s + 1.0)
            for side in (self.low, self.high):
                if side.repair.handle_deadline(self.now_s):
                    self.rounds += 1
                    self.contact(side)
            self.contact(self.low)


def test_equal_sets_cost_nothing() -> None:
    pair = Pair([record(1)], [record(1)])
    pair.run(60.0)
    assert (pair.low.sent_bytes, pair.high.sent_bytes) == (0, 0)
    assert pair.low.repair.next_deadline() == inf


@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)))
@settings(max_examples=40)
def test_any_difference_is_repaired(low: set[int], high: set[int]) -> None:
    pair = Pair([record(number) for number in sorted(low)], [record(number) for number in sorted(high)])
    pair.run(10.0)
    assert pair.equal()
    assert len(pair.low.ledger) == len(low | high)


def test_of_two_values_of_a_register_both_end_with_the_newer() -> None:
    pair = Pair([record(1)], [record(1, START_SEQ + 5)])
    pair.run(10.0)
    assert pair.low.ledger.known(record(1, START_SEQ + 5).value.id)
    assert pair.equal()


def test_one_missing_of_many_costs_one_digest_and_a_leaf() -> None:
    many = [record(number) for number in range(500)]
    pair = Pair(many, many[:-1])
    pair.run(10.0)
    assert pair.equal()
    assert pair.low.sent_bytes + pair.high.sent_bytes <= 2500


def test_parts_too_large_for_a_leaf_are_digested_again() -> None:
    many = [record(number) for number in range(400)]
    pair = Pair(many, many[::2])
    for side in (pair.low, pair.high):
        side.repair = AntiEntropy(side.node, side.ledger, leaf_ids_max=3)
    pair.run(60.0)
    assert pair.equal()


def test_a_young_difference_is_left_to_the_wave() -> None:
    pair = Pair([record(1)], [])
    pair.contact(pair.low)
    assert (pair.low.sent_bytes, pair.high.sent_bytes) == (0, 0)
    assert pair.low.repair.next_deadline() > pair.now_s


def test_one_side_of_a_pair_begins() -> None:
    pair = Pair([record(1)], [])
    pair.contact(pair.low)
    assert pair.low.repair.next_deadline() < pair.high.repair.next_deadline()


def test_a_peer_that_lies_about_its_root_costs_less_and_less() -> None:
    side = Side(LOW).hold(record(1))
    digests, now_s = 0, 0.0
    while now_s < 3600.0:
        side.repair.handle_deadline(now_s)
        digests += len(side.repair.hear_root(HIGH, bytes(16), now_s))
        now_s += 1.0
    assert 60 <= digests <= 3600 / SYNC_BACKOFF_S_MAX + 10


def test_answers_to_one_peer_are_bounded() -> None:
    side = Side(LOW).hold(*(record(number) for number in range(500)))
    lie = Digest(b"", tuple(bytes([1] * 8) for _ in range(64)))
    answers = [frame for _ in range(50) for frame in side.repair.hear_digest(HIGH, lie, 0.0)]
    assert len(answers) <= SYNC_FRAMES_BURST
    assert all(isinstance(frame, Leaf) and len(frame.ids) <= LEAF_IDS_MAX for frame in answers)


@pytest.mark.parametrize("prefix", [b"\x01\x02\x03", b"\x3f\x3f\x3f"])
def test_a_digest_below_the_deepest_prefix_is_ignored(prefix: bytes) -> None:
    side = Side(LOW).hold(record(1))
    assert side.repair.hear_digest(HIGH, Digest(prefix, (bytes(8),) * 64), 0.0) == []


def test_a_leaf_of_ids_nobody_has_is_wanted_and_nothing_breaks() -> None:
    side = Side(LOW).hold(record(1))
    wanted, given_ids = side.repair.hear_leaf(Leaf(b"", (b"nowhere!",)))
    assert wanted == [b"nowhere!"]
    assert given_ids == [record(1).value.id[:8]]
