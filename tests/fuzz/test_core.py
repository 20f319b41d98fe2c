"""Damaged datagrams and records at a real core: whatever they are, they leave nothing behind but counts."""

from random import Random

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from clanmesh_protocol.messages import RecordFrame, Seal, encode_frame
from clanmeshd.core.effects import SendDatagram
from clanmeshd.core.limits import HELLO_ANSWER_INTERVAL_S
from tests.core.worlds import instant, status
from tests.fuzz.attacked import STRANGE, Attacked
from tests.fuzz.bounds import fuzzed
from tests.fuzz.mutations import MUTATIONS, Mutation, damage, rearrange, roll
from tests.hostile.stage import NOW, TRACE_OBJECTS_MAX, objects
from tests.vectors.people import sign_body

EXAMPLES = 250
HEAD_BYTES = 97
PLAINTEXT_BYTES = 1000  # of frames that fit a datagram
REFUSALS = (
    "duplicate",
    "limit",
    "malformed",
    "seal",
    "signature",
    "unauthorized",
    "unknown-prekey",
    "unknown-sender",
)
FLOOD = 3000  # inputs, of which a core must not grow

ATTACKED = Attacked()


def drawn(data: st.DataObject, messages: tuple[bytes, ...], mutations: list[Mutation]) -> bytes:
    """A damaged one of them."""
    message, other = (data.draw(st.sampled_from(messages)) for _ in range(2))
    damaged = damage(message, other, mutations)
    note(damaged.hex())
    return damaged


@given(data=st.data(), mutations=MUTATIONS)
@fuzzed(EXAMPLES)
def test_damaged_datagrams_by_strangers(data: st.DataObject, mutations: list[Mutation]) -> None:
    datagram = drawn(data, ATTACKED.datagrams, mutations)
    for answer in ATTACKED.hears(datagram):
        assert isinstance(answer, SendDatagram)
        assert len(answer.data) <= len(datagram) or answer.destination != STRANGE


@given(data=st.data(), mutations=MUTATIONS, seal=st.sampled_from(Seal))
@fuzzed(EXAMPLES)
def test_damaged_frames_by_a_member(data: st.DataObject, mutations: list[Mutation], seal: Seal) -> None:
    plaintext = drawn(data, ATTACKED.frames, mutations)[:PLAINTEXT_BYTES]
    sealed = ATTACKED.sealed(plaintext, seal)
    assert sealed is not None
    ATTACKED.hears(sealed, ATTACKED.member.at)


@given(data=st.data(), mutations=MUTATIONS)
@fuzzed(EXAMPLES)
def test_damaged_records_by_a_member(data: st.DataObject, mutations: list[Mutation]) -> None:
    ATTACKED.hears_record(drawn(data, ATTACKED.records, mutations))


@given(data=st.data(), mutations=MUTATIONS, is_sound=st.booleans())
@fuzzed(2 * EXAMPLES)
def test_signed_nonsense_by_a_member_changes_no_authority(
    data: st.DataObject, mutations: list[Mutation], is_sound: bool
) -> None:
    """It may fill registers of its author's, which have their bounds. `is_sound`: it is msgpack at least."""
    if is_sound:
        body = rearrange(data.draw(st.sampled_from(_SIGNED.records))[HEAD_BYTES:], mutations)
    else:
        body = drawn(data, _SIGNED.records, mutations)[HEAD_BYTES:]
    note(body.hex())
    stage, seed = _SIGNED.stage, _SIGNED.stage.clan.keys[1].identity_seed
    before = stage.authority
    _SIGNED.mesh.receive_record(sign_body(seed, body, stage.clan.id), _SIGNED.member.node, NOW)
    _SIGNED.mesh.effects()
    after = stage.authority
    assert (after.chain, after.final, after.head) == (before.chain, before.final, before.head)
    assert set(after.members) == set(before.members) or _SIGNED.member.node in before.revoked | after.revoked


_SIGNED = Attacked()


def test_a_trace_would_be_seen() -> None:
    attacked = Attacked()
    fresh = attacked.stage.says(1, status(7), slot="self")
    sealed = attacked.sealed(encode_frame(RecordFrame(fresh)), Seal.SESSION)
    assert sealed is not None
    with pytest.raises(AssertionError):
        attacked.hears(sealed, attacked.member.at)


def test_a_core_does_not_grow_of_damage() -> None:
    """Datagrams, frames and records; the dice are always the same."""
    attacked, dice = Attacked(), Random(1)
    before = objects(attacked.mesh)
    for number in range(FLOOD):
        now = instant(NOW.monotonic_s + number * HELLO_ANSWER_INTERVAL_S / 100)
        messages = (attacked.datagrams, attacked.frames, attacked.records)[number % 3]
        damaged = damage(dice.choice(messages), dice.choice(messages), roll(dice))
        if number % 3 == 2:
            attacked.mesh.receive_record(damaged, attacked.member.node, now)
        else:
            sealed = attacked.sealed(damaged[:PLAINTEXT_BYTES], Seal.SESSION) if number % 3 else damaged
            attacked.mesh.receive(sealed or b"", STRANGE, now)
        attacked.mesh.effects()
    grown = objects(attacked.mesh) - before
    assert grown <= 2 * TRACE_OBJECTS_MAX, f"{grown} things are left"
    assert set(REFUSALS) <= set(attacked.mesh.counters), "some doors were never reached"
