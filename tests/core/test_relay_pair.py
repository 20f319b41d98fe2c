"""Two members behind one port of a relay: what is passed on, what moves a side, what is dropped."""

import struct
from hashlib import blake2s

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clanmesh_protocol.binds import make_bind, read_bound_untrusted
from clanmesh_protocol.endpoints import endpoint
from clanmesh_protocol.keys import NodeId
from clanmeshd.core.buckets import Budget
from clanmeshd.overlay.relay_pair import CLAIM_S, CLAIMS_BURST, HELD_S, INDEXES_MAX, Pair

ALICE, BOB = NodeId(b"a" * 32), NodeId(b"b" * 32)
KEYS = {ALICE: b"A" * 32, BOB: b"B" * 32}
TOKEN = b"t" * 32
HOME, OFFICE, CAFE, MALLORY, EVE = ((f"192.0.2.{number}", 51872) for number in range(5))
SEEN = endpoint("192.0.2.9", 51872)


def handshake(kind: int, sender: NodeId, index: int, answers: int = 0, key: bytes | None = None) -> bytes:
    """An initiation (1) or a response (2) by a member to the other one, with a mac1 that fits."""
    body = struct.pack("<III", kind, index, answers).ljust(116 if kind == 1 else 60, b"e")
    to = key or KEYS[BOB if sender == ALICE else ALICE]
    mac_key = blake2s(b"mac1----" + to).digest()
    return body + blake2s(body, digest_size=16, key=mac_key).digest() + bytes(16)


def data(receiver: int, size: int = 96) -> bytes:
    """A packet of data for the session with this index."""
    return struct.pack("<II", 4, receiver).ljust(size, b"d")


def cookie(receiver: int) -> bytes:
    """What a WireGuard under load answers."""
    return struct.pack("<II", 3, receiver).ljust(64, b"c")


class Relayed:
    """A pair with keys, and a clock."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.pair = Pair(ALICE, BOB, self.now_s, Budget(1e9, 1e9, self.now_s))
        for node, key in KEYS.items():
            self.pair.set_keys(node, [key])

    def __call__(self, packet: bytes, source: object) -> list[object]:
        """Where a packet goes that comes from a source; it goes there as it is."""
        to = self.pair.route(memoryview(packet), len(packet), source)
        if to is not None:
            return [to]
        sent = self.pair.receive(packet, source, SEEN, self.now_s)
        assert all(out == packet for out, _ in sent)
        return [to for _, to in sent]

    def joined(self) -> "Relayed":
        """After one handshake, and the data that ends it."""
        assert self(handshake(1, BOB, 1), OFFICE) == []
        assert self(handshake(1, ALICE, 2), HOME) == [OFFICE]
        assert self(handshake(2, BOB, 3, answers=2), OFFICE) == [HOME]
        assert self(data(3), HOME) == [OFFICE]
        assert self(data(2), OFFICE) == [HOME]
        return self


def test_a_handshake_joins_two() -> None:
    relayed = Relayed().joined()
    one, other = relayed.pair.sides
    assert (one.address, other.address) == (HOME, OFFICE)
    assert one.proven
    assert other.proven
    assert (one.packets, other.packets) == (2, 2)
    assert one.bytes == 148 + 96


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\0",
        bytes(148),
        data(1, 31),
        handshake(1, ALICE, 1, key=b"X" * 32),
        handshake(2, ALICE, 1, key=b"X" * 32),
        handshake(1, ALICE, 1)[:-1],
        handshake(1, ALICE, 1) + b"\0",
        cookie(7),
        data(7),
        make_bind(b"x" * 32, 1),
    ],
    ids=lambda packet: f"{len(packet)}-bytes-{packet[:1].hex()}",
)
def test_a_stranger_gets_nothing_and_moves_nobody(packet: bytes) -> None:
    relayed = Relayed()
    assert relayed(packet, MALLORY) == []
    relayed.joined()
    before = [(side.address, side.claim) for side in relayed.pair.sides]
    assert relayed(packet, MALLORY) == []
    assert [(side.address, side.claim) for side in relayed.pair.sides] == before
    assert relayed.pair.dropped.total() == 3  # the first of `joined` is one: nobody was there yet


def test_a_next_key_fits_too() -> None:
    relayed = Relayed()
    relayed.pair.set_keys(BOB, [KEYS[BOB], b"N" * 32])
    relayed(handshake(1, BOB, 1), OFFICE)
    assert relayed(handshake(1, ALICE, 2, key=b"N" * 32), HOME) == [OFFICE]


def test_who_knows_a_key_moves_nobody() -> None:
    relayed = Relayed().joined()
    assert relayed(handshake(1, ALICE, 66), MALLORY) == [OFFICE]  # WireGuard there will not answer it
    assert relayed(data(2), OFFICE) == [HOME]
    assert relayed(data(3), HOME) == [OFFICE]
    assert relayed(data(3), MALLORY) == [OFFICE]  # an index is known to who saw it, as WireGuard itself takes it
    assert relayed(data(3), HOME) == [OFFICE]
    assert relayed(data(2), OFFICE) == [HOME]


def test_a_claim_that_is_answered_moves_a_side() -> None:
    relayed = Relayed().joined()
    assert relayed(handshake(1, ALICE, 4), CAFE) == [OFFICE]
    assert relayed(data(2), OFFICE) == [HOME]  # not yet
    assert relayed(handshake(2, BOB, 5, answers=4), OFFICE) == [CAFE]
    assert relayed(data(2), OFFICE) == [CAFE]
    assert relayed(data(5), CAFE) == [OFFICE]


def test_a_response_from_elsewhere_moves_a_side_once_it_is_used() -> None:
    relayed = Relayed().joined()
    assert relayed(handshake(1, BOB, 4), OFFICE) == [HOME]
    assert relayed(handshake(2, ALICE, 5, answers=4), CAFE) == [OFFICE]
    assert relayed(handshake(1, BOB, 6), OFFICE) == [HOME, CAFE]
    assert relayed(data(5), OFFICE) == [CAFE]


def test_both_may_roam_at_once() -> None:
    relayed = Relayed().joined()
    assert relayed(handshake(1, ALICE, 4), CAFE) == [OFFICE]  # where nobody is any more
    assert relayed(handshake(1, BOB, 5), EVE) == [HOME, CAFE]
    assert relayed(handshake(2, ALICE, 6, answers=5), CAFE) == [EVE]
    assert relayed(data(6), EVE) == [CAFE]
    assert relayed(data(5), CAFE) == [EVE]


def test_two_keys_do_not_keep_a_session_apart() -> None:
    relayed = Relayed().joined()
    relayed(handshake(1, ALICE, 66), MALLORY)
    relayed(handshake(2, BOB, 67, answers=66), EVE)
    assert relayed(data(67), MALLORY) == [EVE]
    assert relayed(data(3), HOME) == [EVE]
    assert relayed(data(2), OFFICE) == [HOME]
    assert relayed(data(3), HOME) == [OFFICE]


def test_data_of_a_session_moves_a_side() -> None:
    relayed = Relayed().joined()
    assert relayed(data(3), CAFE) == [OFFICE]
    assert relayed(data(2), OFFICE) == [CAFE]
    assert relayed(data(3), HOME) == [OFFICE]


def test_a_claim_is_forgotten() -> None:
    relayed = Relayed().joined()
    relayed(handshake(1, ALICE, 4), CAFE)
    relayed.now_s += CLAIM_S
    assert relayed(handshake(1, BOB, 5), OFFICE) == [HOME]
    assert relayed.pair.sides[0].claimed == {}


def test_claims_are_few_and_leave_the_side_alone() -> None:
    relayed = Relayed().joined()
    passed = [relayed(handshake(1, ALICE, 100 + number), MALLORY) for number in range(1000)]
    assert sum(map(len, passed)) == CLAIMS_BURST
    assert relayed.pair.dropped["claims"] == 1000 - CLAIMS_BURST
    assert len(relayed.pair.sides[0].claimed) == INDEXES_MAX
    assert relayed(handshake(1, ALICE, 4), HOME) == [OFFICE]
    assert relayed(handshake(2, BOB, 5, answers=4), OFFICE) == [HOME]


def test_who_came_first_with_two_keys_does_not_stay() -> None:
    relayed = Relayed()
    relayed(handshake(1, ALICE, 66), MALLORY)
    relayed(handshake(1, BOB, 67), EVE)
    assert relayed(handshake(1, ALICE, 4), HOME) == [EVE]
    assert relayed(handshake(1, BOB, 5), OFFICE) == [MALLORY, HOME]
    assert relayed(handshake(2, ALICE, 6, answers=5), HOME) == [OFFICE]
    assert relayed(data(6), OFFICE) == [HOME]
    assert relayed(data(5), HOME) == [OFFICE]


def test_a_cookie_goes_where_its_handshake_came_from() -> None:
    relayed = Relayed().joined()
    relayed(handshake(1, ALICE, 4), CAFE)
    assert relayed(cookie(4), OFFICE) == [CAFE]
    assert relayed(data(2), OFFICE) == [HOME]  # a cookie proves nothing
    assert relayed(cookie(9), OFFICE) == []


def test_a_response_to_nothing_is_dropped() -> None:
    relayed = Relayed().joined()
    assert relayed(handshake(2, ALICE, 8, answers=77), HOME) == []


def test_a_repeated_handshake_does_not_take_the_answer() -> None:
    relayed = Relayed().joined()
    again = handshake(1, ALICE, 4)
    assert relayed(again, HOME) == [OFFICE]
    assert relayed(again, MALLORY) == [OFFICE]
    assert relayed(handshake(2, BOB, 5, answers=4), OFFICE) == [HOME]
    assert relayed(data(2), OFFICE) == [HOME]


def test_a_bind_moves_a_side_and_is_answered() -> None:
    relayed = Relayed()
    relayed.pair.set_token(ALICE, TOKEN)
    relayed.pair.set_token(BOB, b"u" * 32)
    [(answer, to)] = relayed.pair.receive(make_bind(TOKEN, 7), HOME, SEEN, relayed.now_s)
    assert to == HOME
    assert read_bound_untrusted(TOKEN, answer) == (7, SEEN, False)
    [(answer, _)] = relayed.pair.receive(make_bind(b"u" * 32, 7), OFFICE, SEEN, relayed.now_s)
    assert read_bound_untrusted(b"u" * 32, answer).other_is_bound
    assert relayed(data(1234), HOME) == [OFFICE]  # of a session that began elsewhere
    assert relayed(data(4321), OFFICE) == [HOME]


def test_who_binds_gets_the_handshake_that_came_before() -> None:
    relayed, first = Relayed(), handshake(1, BOB, 1)
    relayed.pair.set_token(ALICE, TOKEN)
    assert relayed(first, OFFICE) == []
    sent = relayed.pair.receive(make_bind(TOKEN, 7), HOME, SEEN, relayed.now_s + HELD_S)
    assert [to for _, to in sent] == [HOME, HOME]
    assert sent[1][0] == first
    assert len(relayed.pair.receive(make_bind(TOKEN, 8), HOME, SEEN, relayed.now_s)) == 1


def test_a_bind_that_comes_right_behind_a_handshake_leaves_that_its_answer() -> None:
    relayed = Relayed()
    for node in (ALICE, BOB):
        relayed.pair.set_token(node, TOKEN if node == ALICE else b"u" * 32)
    relayed.pair.receive(make_bind(b"u" * 32, 1), OFFICE, SEEN, relayed.now_s)
    assert relayed(handshake(1, ALICE, 2), HOME) == [OFFICE]
    relayed.pair.receive(make_bind(TOKEN, 1), HOME, SEEN, relayed.now_s)
    assert relayed(handshake(2, BOB, 3, answers=2), OFFICE) == [HOME]


def test_a_bind_from_elsewhere_leaves_nothing_of_who_was_there_before() -> None:
    relayed = Relayed()
    relayed.pair.set_token(ALICE, TOKEN)
    relayed.pair.set_token(BOB, b"u" * 32)
    relayed.pair.receive(make_bind(b"u" * 32, 1), OFFICE, SEEN, relayed.now_s)
    assert relayed(handshake(1, ALICE, 2), MALLORY) == [OFFICE]
    relayed.pair.receive(make_bind(TOKEN, 1), HOME, SEEN, relayed.now_s)
    assert relayed(handshake(2, BOB, 3, answers=2), OFFICE) == []


def test_an_old_handshake_is_not_kept() -> None:
    relayed, stream = Relayed(), object()
    relayed(handshake(1, BOB, 1), OFFICE)
    assert relayed.pair.attach(ALICE, stream, relayed.now_s + HELD_S + 1) == []
    other = Relayed()
    other(handshake(1, BOB, 1), OFFICE)
    assert other.pair.attach(ALICE, stream, other.now_s) == [(handshake(1, BOB, 1), stream)]


def test_an_old_bind_is_nothing() -> None:
    relayed = Relayed()
    relayed.pair.set_token(ALICE, TOKEN)
    relayed.pair.receive(make_bind(TOKEN, 7), HOME, SEEN, relayed.now_s)
    for number in (7, 6):
        assert relayed.pair.receive(make_bind(TOKEN, number), MALLORY, SEEN, relayed.now_s) == []
    relayed.pair.set_token(ALICE, b"n" * 32)
    assert relayed.pair.receive(make_bind(TOKEN, 8), MALLORY, SEEN, relayed.now_s) == []
    assert relayed.pair.sides[0].address == HOME


def test_a_stream_is_an_address_until_it_ends() -> None:
    relayed, stream = Relayed(), object()
    relayed.pair.attach(ALICE, stream, relayed.now_s)
    assert relayed(handshake(1, BOB, 1), OFFICE) == [stream]
    assert relayed(handshake(2, ALICE, 2, answers=1), stream) == [OFFICE]
    assert relayed(data(2), OFFICE) == [stream]
    relayed.pair.detach(stream)
    assert relayed(data(2), OFFICE) == []
    assert relayed(data(1), stream) == [OFFICE]  # the index is of the session still
    relayed.pair.detach(object())


sources = st.sampled_from([HOME, OFFICE, CAFE, MALLORY, EVE])
indexes = st.integers(0, 9)
packets = st.one_of(
    st.builds(
        handshake, st.sampled_from([1, 2]), st.sampled_from([ALICE, BOB]), st.integers(0, 9), st.integers(0, 9)
    ),
    st.builds(data, st.integers(0, 9)),
    st.builds(cookie, st.integers(0, 9)),
    st.builds(make_bind, st.sampled_from([TOKEN, b"x" * 32]), st.integers(0, 9)),
    st.binary(max_size=200),
)


@given(st.lists(st.tuples(packets, sources, st.floats(0, 20)), max_size=60))
def test_whatever_comes(arrivals: list[tuple[bytes, tuple[str, int], float]]) -> None:
    """Nobody is at both ends, nothing goes back or to somebody unheard of, tables are bounded, all is counted."""
    relayed = Relayed()
    pair = relayed.pair
    pair.set_token(ALICE, TOKEN)
    heard: set[object] = set()
    for packet, source, pause_s in arrivals:
        relayed.now_s += pause_s
        heard.add(source)
        to = pair.route(memoryview(packet), len(packet), source) if packet else None
        sent = [(packet, to)] if to else pair.receive(packet, source, SEEN, relayed.now_s)
        for out, address in sent:
            is_bind = packet[:4] == b"\x01rly"
            assert address in heard
            assert (address == source) == is_bind
            assert (len(out) == len(packet) or out[:4] == b"\1\0\0\0") if is_bind else out == packet
        assert len(sent) <= 2
        one, other = pair.sides
        assert one.address is None or one.address != other.address
        assert all(len(table) <= INDEXES_MAX for side in pair.sides for table in (side.indexes, side.claimed))
    assert sum(side.packets for side in pair.sides) + pair.dropped.total() <= len(arrivals)
