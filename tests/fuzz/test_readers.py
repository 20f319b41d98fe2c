"""Damaged messages are refused by what the reader promises to raise, and by nothing else, in good time."""

import time

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from clanmesh_protocol.errors import ProtocolError
from tests.fuzz.bounds import fuzzed
from tests.fuzz.mutations import KINDS, MUTATIONS, Mutation, damage
from tests.fuzz.readers import READERS, Reader

EXAMPLES = 150
SMALL_S = 0.25  # of CPU, for any damaged message here: the dearest takes a hundredth, a collection a tenth


@pytest.mark.parametrize("name", READERS)
@given(data=st.data(), mutations=MUTATIONS)
@fuzzed(EXAMPLES)
def test_damaged_messages(name: str, data: st.DataObject, mutations: list[Mutation]) -> None:
    reader = READERS[name]
    message, other = (data.draw(st.sampled_from(reader.scraps())) for _ in range(2))
    damaged = damage(message, other, mutations)
    note(f"{name}: {damaged.hex()}")
    begun_s = time.thread_time()
    reader.takes(damaged)
    assert time.thread_time() - begun_s < SMALL_S


@pytest.mark.parametrize("name", READERS)
def test_each_reader_takes_something_and_refuses_something(name: str) -> None:
    """Else it would be fuzzed at its door only."""
    reader = READERS[name]
    assert any(reader.takes(data) for data in reader.scraps())
    if name not in ("mdns tag", "log of records"):  # which give nothing for what is not for them
        assert not reader.takes(b"\xc1")


def test_another_exception_would_be_seen() -> None:
    def careless(data: bytes) -> int:
        if not data:
            raise ProtocolError("nothing")
        return data[100]

    reader = Reader(careless, lambda: (b"",), 10)
    assert not reader.takes(b"")
    with pytest.raises(IndexError):
        reader.takes(b"x")


@pytest.mark.parametrize("kind", KINDS)
def test_each_mutation_damages(kind: str) -> None:
    message = bytes(range(100))
    damaged = {Mutation(kind, at, size, b"!").apply(message, b"other") for at in (3, 50) for size in (1, 7)}
    assert damaged - {message}
    assert all(Mutation(kind, 5, 9).apply(b"", b"") is not None for _ in "x")
