"""Every vector gets the verdict that it names, from the layer that it names."""

from collections import Counter

import pytest

from clanmesh_protocol.errors import ProtocolError
from tests.vectors import layers, layers_daemon, make_vectors
from tests.vectors.form import Vector, read, read_folder, write

VECTORS = read_folder(make_vectors.FOLDER)
LAYERS = layers.LAYERS | layers_daemon.LAYERS
COUNT_MIN = 80


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_verdict(vector: Vector) -> None:
    layer = LAYERS[vector.layer]
    if vector.expect == "ok":
        derived = layer(vector)
        named = {key: value for key, value in vector.parameters.items() if key in derived}
        assert named == {key: derived[key] for key in named}
        return
    with pytest.raises(ProtocolError) as raised:
        layer(vector)
    assert raised.value.code == vector.expect, str(raised.value)


@pytest.mark.parametrize(
    "vector",
    [each for each in VECTORS if each.layer == "record" and each.expect in ("malformed", "limit", "version")],
    ids=lambda vector: vector.name,
)
def test_faulty_envelopes_are_well_signed(vector: Vector) -> None:
    # Else a reader that checked the signature first would refuse them for another reason.
    if len(vector.input) >= 97:
        assert layers.signature_holds(vector)


def test_there_are_enough_and_most_are_failures() -> None:
    verdicts = Counter(vector.expect for vector in VECTORS)
    assert len(VECTORS) >= COUNT_MIN
    assert verdicts["ok"] * 2 <= len(VECTORS)
    assert {vector.layer for vector in VECTORS} == set(LAYERS)


def test_no_two_vectors_are_one_case() -> None:
    inputs = Counter((vector.layer, vector.input, tuple(vector.parameters.items())) for vector in VECTORS)
    assert [case[0] for case, count in inputs.items() if count > 1] == []


def test_the_generator_gives_these_bytes() -> None:
    made = {vector.name: vector for vector in make_vectors.all_cases()}
    for vector in VECTORS:
        assert made[vector.name] == vector
    assert sorted(made) == sorted(vector.name for vector in VECTORS)


def test_the_generator_edits_nothing(tmp_path: make_vectors.Path) -> None:
    assert make_vectors.write_new(tmp_path, {"record/a.txt": "one\n"}) == []
    assert make_vectors.write_new(tmp_path, {"record/a.txt": "two\n", "record/b.txt": "three\n"}) == [
        "record/a.txt"
    ]
    assert (tmp_path / "record/a.txt").read_text() == "one\n"
    assert (tmp_path / "record/b.txt").read_text() == "three\n"


@pytest.mark.parametrize(
    "text",
    [
        "expect: ok\nlayer: record\ncomment: c\n\nzz\n",
        "expect: maybe\nlayer: record\ncomment: c\n\n00\n",
        "expect: ok\nlayer: token\ncomment: c\n\n00\n",
        "expect: ok\nexpect: ok\nlayer: record\ncomment: c\n\n00\n",
        "expect: ok\nlayer: record\nno colon\n\n00\n",
    ],
)
def test_a_file_that_is_not_understood_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any wording will do
        read("record/x", text)


def test_files_are_read_as_they_were_written() -> None:
    vector = Vector("record/x", "limit", "c", b"\x01" * 40, {"clan": "00"}, 3)
    assert read("record/x", write(vector)) == vector
    assert vector.input.endswith(b"\x01\0\0\0")
