"""Probes: what an answer proves, and what recordings, strangers and liars do not get."""

from collections import Counter
from random import Random

import pytest

from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmesh_protocol.errors import LimitError, MalformedError, ProtocolError, SignatureError
from clanmesh_protocol.keys import ClanId, NodeId, exchange_public
from clanmesh_protocol.probes import PROBE_BYTES, Kind, Packet
from clanmeshd.core.sessions import ReplayedError, UnknownSenderError
from clanmeshd.overlay import probes as module
from clanmeshd.overlay.probes import Heard, Probes, Proven

CLAN = ClanId(b"a clan of sixtee")
A, B, C = (NodeId(bytes([number]) * 32) for number in (1, 2, 3))
STATIC = {node: bytes([node[0] + 100]) * 32 for node in (A, B, C)}
PUBLIC = {node: exchange_public(private) for node, private in STATIC.items()}
AT = {A: endpoint("203.0.113.1", 40_001), B: endpoint("198.51.100.1", 51_872), C: endpoint("192.0.2.1", 51_872)}
VICTIM = endpoint("192.0.2.99", 53)


def device(node: NodeId, clan: ClanId = CLAN, seed: int = 0) -> Probes:
    """A member that knows the two others."""
    made = Probes(node, STATIC[node], clan, Random(f"{node[0]} {seed}").randbytes)
    made.set_members(PUBLIC)
    return made


def asked(sender: Probes, node: NodeId, now_s: float = 0.0, target: Endpoint | None = None) -> bytes:
    """A probe that may be sent."""
    data = sender.probe(node, target or AT[node], now_s)
    assert data is not None
    return data


def heard(receiver: Probes, data: bytes, source: Endpoint, now_s: float = 0.0) -> Heard:
    """A probe that is authentic."""
    got = receiver.receive_untrusted(data, source, now_s)
    assert isinstance(got, Heard)
    return got


def answered(receiver: Probes, data: bytes, source: Endpoint, now_s: float = 0.0) -> bytes:
    """Its answer."""
    answer = heard(receiver, data, source, now_s).answer
    assert answer is not None
    return answer


def test_an_answer_proves_the_path_and_tells_where_we_are_seen() -> None:
    a, b = device(A), device(B)
    question = asked(a, B, 10.0)
    got = heard(b, question, AT[A], 500.0)
    assert (got.node, got.source, got.aimed_at) == (A, AT[A], AT[B])
    assert got.answer is not None
    assert len(question) == len(got.answer) == PROBE_BYTES
    proven = a.receive_untrusted(got.answer, AT[B], 10.25)
    assert proven == Proven(B, AT[B], AT[A], 0.25)


def test_wireguard_takes_no_packet_for_one_of_its_own() -> None:
    assert asked(device(A), B)[0] not in range(1, 5)


def test_each_probe_has_a_nonce_of_its_own() -> None:
    a = device(A)
    assert asked(a, B)[20:28] != asked(a, B)[20:28]


def test_an_answer_counts_once() -> None:
    a, b = device(A), device(B)
    answer = answered(b, asked(a, B), AT[A])
    a.receive_untrusted(answer, AT[B], 0.1)
    with pytest.raises(ReplayedError):
        a.receive_untrusted(answer, AT[B], 0.2)


def test_an_answer_from_elsewhere_proves_nothing_and_spoils_nothing() -> None:
    a, b = device(A), device(B)
    answer = answered(b, asked(a, B), AT[A])
    for elsewhere in (AT[C], AT[B]._replace(port=1)):
        with pytest.raises(ReplayedError):
            a.receive_untrusted(answer, elsewhere, 0.1)
    assert isinstance(a.receive_untrusted(answer, AT[B], 0.2), Proven)


def test_a_forged_answer_does_not_take_the_true_one_s_place() -> None:
    a, b = device(A), device(B)
    answer = answered(b, asked(a, B), AT[A])
    with pytest.raises(SignatureError):
        a.receive_untrusted(answer[:-1] + bytes([answer[-1] ^ 1]), AT[B], 0.1)
    assert isinstance(a.receive_untrusted(answer, AT[B], 0.2), Proven)


def test_nobody_answers_in_another_member_s_place() -> None:
    a, b, c = device(A), device(B), device(C)
    question = asked(a, B)
    with pytest.raises(UnknownSenderError):
        c.receive_untrusted(question, AT[A], 0.0)
    forged = Packet(Kind.PONG, C[:8], A[:8], question[20:28], AT[A])
    own = answered(c, asked(a, C), AT[A])
    with pytest.raises(ReplayedError):
        a.receive_untrusted(forged.encode() + own[-16:], AT[B], 0.1)
    assert answered(b, question, AT[A])


def test_a_packet_given_back_to_its_sender_is_refused() -> None:
    a = device(A)
    question = asked(a, B)
    back = Packet(Kind.PROBE, B[:8], A[:8], question[20:28], AT[A]).encode() + question[-16:]
    with pytest.raises(UnknownSenderError):
        a.receive_untrusted(question, AT[B], 0.0)
    with pytest.raises(SignatureError):
        a.receive_untrusted(back, AT[B], 0.0)


def test_an_answer_that_comes_too_late_counts_no_more() -> None:
    a, b = device(A), device(B)
    answer = answered(b, asked(a, B), AT[A])
    with pytest.raises(ReplayedError):
        a.receive_untrusted(answer, AT[B], module.PROBE_LIFE_S)


def test_a_recorded_probe_has_no_second_answer() -> None:
    a, b = device(A), device(B)
    question = asked(a, B)
    assert heard(b, question, AT[A]).answer
    with pytest.raises(ReplayedError):
        b.receive_untrusted(question, VICTIM, 0.1)


def test_recordings_of_a_long_time_cost_a_bounded_rate_of_answers_no_longer_than_they_are() -> None:
    a, b = device(A), device(B)
    recorded = [asked(a, B, number / module.SENT_PER_S) for number in range(2000)]
    rounds, each_s, sent = 5, 2.0, 0
    for turn in range(rounds):
        for number, data in enumerate(recorded):
            try:
                got = b.receive_untrusted(data, VICTIM, 1e6 + turn * each_s + number * each_s / len(recorded))
            except ProtocolError:
                continue
            assert isinstance(got, Heard)
            sent += len(got.answer or b"")
    assert 0 < sent <= PROBE_BYTES * (module.ANSWERS_BURST + module.ANSWERS_PER_S * rounds * each_s)


def test_one_member_s_probes_do_not_use_up_the_answers_to_another() -> None:
    a, b, c = device(A), device(B), device(C)
    answers = [heard(b, asked(a, B, number), AT[A]).answer for number in range(int(module.ANSWERS_BURST) + 1)]
    assert answers[-1] is None
    assert all(answers[:-1])
    assert answered(b, asked(c, B), AT[C], 0.0)


def test_macs_for_strangers_are_worked_out_at_a_bounded_rate() -> None:
    b = device(B)
    refused: Counter[str] = Counter()
    for number in range(20_000):
        for kind in Kind:
            nonce = number.to_bytes(8, "big")
            forged = Packet(kind, A[:8], B[:8], nonce, AT[B]).encode() + b"\x01" * 16
            with pytest.raises(ProtocolError) as error:
                b.receive_untrusted(forged, AT[A], number / 20_000)
            refused[error.value.code] += 1
    assert 0 < refused["signature"] <= module.CHECKS_BURST + module.CHECKS_PER_S
    assert set(refused) == {"signature", "limit", "replayed"}


def test_after_a_flood_in_its_name_a_member_is_heard_within_a_moment() -> None:
    a, b = device(A), device(B)
    for number in range(1000):
        forged = Packet(Kind.PROBE, A[:8], B[:8], number.to_bytes(8, "big"), AT[B]).encode() + bytes(16)
        with pytest.raises((SignatureError, LimitError)):
            b.receive_untrusted(forged, VICTIM, 0.0)
    assert answered(b, asked(a, B), AT[A], 0.05)


def test_no_address_is_sent_more_than_its_share_whoever_names_it() -> None:
    a = device(A)
    sent = 0
    for number in range(1000):
        port = endpoint("192.0.2.99", 1 + number)
        sent += sum(a.probe(node, port, number / 100) is not None for node in (B, C))
    assert sent <= module.SENT_BURST + 10 * module.SENT_PER_S
    assert a.probe(B, AT[B], 10.0) is not None


def test_what_waits_for_an_answer_is_bounded_and_the_newest_stay() -> None:
    a, b = device(A), device(B)
    questions = []
    for number in range(2 * module.OUTSTANDING_MAX):
        target = endpoint(f"198.18.{number // 250}.{number % 250 + 1}", 51_872)
        questions.append((asked(a, B, 0.0, target), target))
    assert len(a._outstanding) == module.OUTSTANDING_MAX
    question, target = questions[-1]
    assert isinstance(a.receive_untrusted(answered(b, question, AT[A]), target, 0.1), Proven)
    question, target = questions[0]
    with pytest.raises(ReplayedError):
        a.receive_untrusted(answered(b, question, AT[A]), target, 0.1)


def test_who_is_no_member_any_more_is_a_stranger() -> None:
    a, b = device(A), device(B)
    question, waiting = asked(a, B), asked(b, A)
    answer = answered(a, waiting, AT[B])
    b.set_members({C: PUBLIC[C]})
    for data in (question, answer):
        with pytest.raises(UnknownSenderError):
            b.receive_untrusted(data, AT[A], 0.1)
    assert b.probe(A, AT[A], 0.1) is None
    b.set_members(PUBLIC)
    with pytest.raises(ReplayedError):
        b.receive_untrusted(answer, AT[A], 0.1)


def test_a_new_static_key_of_a_member_is_used_at_once() -> None:
    a, b = device(A), device(B)
    heard(b, asked(a, B), AT[A])
    other = bytes([77]) * 32
    later = Probes(A, other, CLAN, Random(5).randbytes)
    later.set_members(PUBLIC)
    with pytest.raises(SignatureError):
        b.receive_untrusted(asked(later, B), AT[A], 0.1)
    b.set_members({**PUBLIC, A: exchange_public(other)})
    assert heard(b, asked(later, B), AT[A], 0.2).node == A


def test_a_key_of_small_order_makes_its_owner_mute_and_nothing_else() -> None:
    a = device(A)
    a.set_members({**PUBLIC, B: bytes(32)})
    assert a.probe(B, AT[B], 0.0) is None
    forged = Packet(Kind.PROBE, B[:8], A[:8], bytes(8), AT[A])
    closed = forged.encode() + module.mac(bytes(32), forged.encode())
    with pytest.raises(SignatureError):
        a.receive_untrusted(closed, AT[B], 0.0)
    assert a.probe(C, AT[C], 0.0) is not None


def test_two_members_whose_ids_begin_alike_are_told_apart() -> None:
    twin = NodeId(A[:8] + bytes(24))
    b = Probes(B, STATIC[B], CLAN, Random(1).randbytes)
    b.set_members({A: PUBLIC[A], twin: PUBLIC[C]})
    of_twin = Probes(twin, STATIC[C], CLAN, Random(2).randbytes)
    of_twin.set_members(PUBLIC)
    assert heard(b, asked(of_twin, B), AT[C]).node == twin
    assert heard(b, asked(device(A), B), AT[A]).node == A


def test_another_clan_s_packets_are_no_member_s() -> None:
    a, b = device(A, ClanId(bytes(16))), device(B)
    with pytest.raises(SignatureError):
        b.receive_untrusted(asked(a, B), AT[A], 0.0)


def test_garbage_is_refused_by_its_shape() -> None:
    b = device(B)
    for data in (b"", b"\xc7", bytes(63), b"\x01" + bytes(147), asked(device(A), B)[:-1]):
        with pytest.raises(MalformedError):
            b.receive_untrusted(data, AT[A], 0.0)
