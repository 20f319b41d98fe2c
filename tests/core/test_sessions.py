"""Datagrams: what opens them, what they prove, and what never gets that far."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import ClanId, NodeId
from clanmesh_protocol.limits import DATAGRAM_BYTES_MAX
from clanmesh_protocol.messages import SENDER_BYTES, Ack, Ping, RecordFrame, Seal
from clanmesh_protocol.records import Node
from clanmeshd.core.author import node_content
from clanmeshd.core.limits import REPLAY_WINDOW_BITS
from clanmeshd.core.replay import ReplayWindow
from clanmeshd.core.sessions import (
    TOKEN_NONE,
    Opened,
    ReplayedError,
    SealError,
    Sessions,
    UnknownPrekeyError,
    UnknownSenderError,
)
from tests.core.worlds import Clan, found

CLAN = found(3)
ROOT = bytes(16)


def sessions(index: int, run: int = 1, clan: Clan = CLAN, clan_id: ClanId | None = None) -> Sessions:
    """The n-th device's sessions with both others, in some run of it."""
    made = Sessions(clan.keys[index], clan_id or clan.id, Random(f"{index} {run}").randbytes)
    made.set_members(keys.node for keys in clan.keys)
    for keys in clan.keys:
        made.set_record(keys.node, record_of(keys.node, clan))
    return made


def record_of(node: NodeId, clan: Clan = CLAN) -> Node:
    """A member's node record."""
    keys = next(keys for keys in clan.keys if keys.node == node)
    return node_content(keys, clan.id, (), 0)


def node(index: int) -> NodeId:
    """The n-th device's id."""
    return CLAN.keys[index].node


def ping(echo: bytes = TOKEN_NONE, token: bytes = bytes(8)) -> Ping:
    """A ping with an echo."""
    return Ping(7, token, echo, ROOT)


def sealed(sender: Sessions, receiver: int, *frames: Ping | Ack) -> bytes:
    """Seal, for a peer whose keys are known."""
    data = sender.seal(node(receiver), frames or (ping(),))
    assert data is not None
    return data


def prove(left: Sessions, right: Sessions, left_index: int, right_index: int) -> Opened:
    """Let `right` prove `left`'s run."""
    data = sealed(left, right_index, ping(echo=right.token(node(left_index))))
    opened = right.prove(right.open_untrusted(data))
    assert opened.proven
    return opened


class TestSealing:
    def test_opens_what_the_peer_sealed(self) -> None:
        opened = sessions(1).open_untrusted(sealed(sessions(0), 1, ping(token=b"12345678")))
        assert opened.node == node(0)
        assert opened.frames == [ping(token=b"12345678")]
        assert not opened.proven

    def test_directions_have_keys_of_their_own(self) -> None:
        # The sender's own datagram, with the sender field replaced by the receiver's, sent back to it.
        left = sessions(0)
        data = sealed(left, 1)
        reflected = data[:5] + node(1)[:SENDER_BYTES] + data[13:]
        with pytest.raises(SealError):
            left.open_untrusted(reflected)

    def test_a_third_member_cannot_open_it(self) -> None:
        with pytest.raises(SealError):
            sessions(2).open_untrusted(sealed(sessions(0), 1))

    def test_the_clan_is_part_of_the_key(self) -> None:
        other = sessions(1, clan_id=ClanId(bytes(16)))
        with pytest.raises(SealError):
            other.open_untrusted(sealed(sessions(0), 1))

    def test_an_unknown_sender_is_dropped_by_its_prefix(self) -> None:
        receiver = sessions(1)
        receiver.set_members([node(2)])
        with pytest.raises(UnknownSenderError):
            receiver.open_untrusted(sealed(sessions(0), 1))

    def test_members_with_one_prefix_are_told_apart_by_the_seal(self) -> None:
        receiver = sessions(1)
        twin = NodeId(node(0)[:SENDER_BYTES] + node(2)[SENDER_BYTES:])
        receiver.set_members([node(0), twin])
        receiver.set_record(node(0), record_of(node(0)))
        receiver.set_record(twin, record_of(node(2)))
        assert receiver.open_untrusted(sealed(sessions(0), 1)).node == node(0)

    @pytest.mark.parametrize("place", [2, 3, 4, 13, 21, 29, -1])
    def test_every_byte_is_authenticated(self, place: int) -> None:
        data = bytearray(sealed(sessions(0), 1))
        data[place] ^= 0x02
        with pytest.raises(ProtocolError):
            sessions(1).open_untrusted(bytes(data))

    def test_an_unknown_prekey_names_the_claimed_sender(self) -> None:
        data = bytearray(sealed(sessions(0), 1))
        data[3] = 77
        with pytest.raises(UnknownPrekeyError) as caught:
            sessions(1).open_untrusted(bytes(data))
        assert caught.value.node == node(0)

    def test_a_static_key_of_low_order_is_of_no_use(self) -> None:
        sender = sessions(0)
        sender.set_record(node(1), replace(record_of(node(1)), static_key=bytes(32)))
        assert sender.seal(node(1), [ping()]) is None

    def test_two_runs_never_share_a_nonce(self) -> None:
        nonces = {sealed(sessions(0, run), 1)[13:29] for run in range(20)}
        assert len(nonces) == 20


class TestForgetting:
    """A peer may leave the members and come back while both sides run on."""

    def forget(self, side: Sessions) -> None:
        """Drop everybody and take them again."""
        side.set_members([])
        side.set_members(keys.node for keys in CLAN.keys)
        for keys in CLAN.keys:
            side.set_record(keys.node, record_of(keys.node))

    def test_no_nonce_comes_twice(self) -> None:
        left = sessions(0)
        nonces = []
        for _ in range(5):
            nonces += [sealed(left, 1)[13:29] for _ in range(5)]
            self.forget(left)
        assert len(set(nonces)) == 25

    def test_no_token_comes_twice(self) -> None:
        left, right = sessions(0), sessions(1)
        recorded = sealed(left, 1, ping(echo=right.token(node(0))))
        assert right.prove(right.open_untrusted(recorded)).proven
        self.forget(right)
        assert not right.prove(right.open_untrusted(recorded)).proven


class TestHello:
    def test_needs_no_node_record(self) -> None:
        left, right = sessions(0), sessions(1)
        for side in (left, right):
            side.set_members([])
            side.set_members(keys.node for keys in CLAN.keys)
        assert left.seal(node(1), [ping()]) is None
        data = left.seal_hello(node(1), RecordFrame(b"a record"))
        assert data is not None
        opened = right.open_untrusted(data)
        assert (opened.seal, opened.proven) == (Seal.HELLO, False)
        assert RecordFrame(b"a record") in opened.frames

    def test_all_are_of_one_length(self) -> None:
        lengths = {len(sessions(0).seal_hello(node(1), RecordFrame(bytes(size))) or b"") for size in (1, 300, 630)}
        assert len(lengths) == 1

    def test_never_proves_a_run(self) -> None:
        left, right = sessions(0), sessions(1)
        data = left.seal_hello(node(1), RecordFrame(b"x"))
        assert data is not None
        opened = right.open_untrusted(data)
        assert not right.prove(opened._replace(frames=[ping(echo=right.token(node(0)))])).proven


class TestProof:
    def test_an_echoed_token_proves_the_run(self) -> None:
        left, right = sessions(0), sessions(1)
        prove(left, right, 0, 1)
        assert right.open_untrusted(sealed(left, 1)).proven

    def test_a_wrong_echo_does_not(self) -> None:
        right = sessions(1)
        opened = right.open_untrusted(sealed(sessions(0), 1, ping(echo=b"wrong---")))
        assert not right.prove(opened).proven
        assert not right.is_proven(node(0))

    def test_an_unproven_datagram_marks_no_place(self) -> None:
        right, data = sessions(1), sealed(sessions(0), 1)
        assert right.open_untrusted(data) == right.open_untrusted(data)

    def test_a_proven_one_opens_once(self) -> None:
        left, right = sessions(0), sessions(1)
        prove(left, right, 0, 1)
        data = sealed(left, 1)
        right.open_untrusted(data)
        with pytest.raises(ReplayedError):
            right.open_untrusted(data)

    def test_the_proving_datagram_counts_too(self) -> None:
        left, right = sessions(0), sessions(1)
        data = sealed(left, 1, ping(echo=right.token(node(0))))
        right.prove(right.open_untrusted(data))
        with pytest.raises(ReplayedError):
            right.open_untrusted(data)

    def test_a_recording_of_an_earlier_run_proves_nothing(self) -> None:
        # The attack: record run 1 (which echoed our token), let the peer restart and prove run 2, then play run 1.
        first, second, right = sessions(0, 1), sessions(0, 2), sessions(1)
        recorded = [sealed(first, 1, ping(echo=right.token(node(0)))) for _ in range(3)]
        right.prove(right.open_untrusted(recorded[0]))
        prove(second, right, 0, 1)
        for data in recorded:
            assert not right.prove(right.open_untrusted(data)).proven
        assert right.open_untrusted(sealed(second, 1)).proven

    def test_a_recording_from_before_our_own_restart_proves_nothing(self) -> None:
        left, before, after = sessions(0), sessions(1, 1), sessions(1, 2)
        recorded = sealed(left, 1, ping(echo=before.token(node(0))))
        assert not after.prove(after.open_untrusted(recorded)).proven

    def test_only_the_newest_moves_an_endpoint(self) -> None:
        left, right = sessions(0), sessions(1)
        prove(left, right, 0, 1)
        early, late = sealed(left, 1), sealed(left, 1)
        assert right.is_newest(right.open_untrusted(late))
        assert not right.is_newest(right.open_untrusted(early))


class TestWindow:
    @given(st.lists(st.integers(0, 3 * REPLAY_WINDOW_BITS), max_size=200))
    def test_agrees_with_a_set(self, counters: list[int]) -> None:
        window, seen, highest = ReplayWindow(), set[int](), -1
        for counter in counters:
            fresh = counter not in seen and counter > highest - REPLAY_WINDOW_BITS
            assert window.accept(counter) is fresh
            seen.add(counter)
            highest = max(highest, counter)

    def test_a_hostile_jump_costs_nothing(self) -> None:
        window = ReplayWindow()
        assert window.accept(0)
        assert window.accept(2**64 - 1)
        assert not window.accept(5)


_RECEIVER = sessions(1)
_SAMPLES = [sealed(sessions(0), 1), sessions(0).seal_hello(node(1), RecordFrame(b"x")) or b""]


class TestHostileBytes:
    @given(st.binary(max_size=DATAGRAM_BYTES_MAX + 10))
    @settings(max_examples=300)
    def test_noise(self, data: bytes) -> None:
        with pytest.raises(ProtocolError):
            _RECEIVER.open_untrusted(data)

    @given(st.sampled_from(_SAMPLES), st.integers(0, 2000), st.integers(1, 255))
    @settings(max_examples=300)
    def test_one_wrong_byte(self, sample: bytes, place: int, mask: int) -> None:
        data = bytearray(sample)
        data[place % len(data)] ^= mask
        with pytest.raises(ProtocolError):
            _RECEIVER.open_untrusted(bytes(data))

    @given(st.sampled_from(_SAMPLES), st.integers(0, 2000))
    def test_cut_short(self, sample: bytes, size: int) -> None:
        with pytest.raises(ProtocolError):
            _RECEIVER.open_untrusted(sample[: size % len(sample)])
