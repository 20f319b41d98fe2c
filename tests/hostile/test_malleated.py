"""Bytes changed on the way, and second spellings of one thing."""

import pytest

from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import fingerprint_slot
from clanmesh_protocol.records import AdminAdd, Setting, parse_untrusted
from clanmesh_protocol.signing import read_untrusted
from tests.hostile.rules import hostile
from tests.hostile.stage import Stage

ORDER = 2**252 + 27742317777372353535851937790883648493  # of Ed25519's group


def with_another_s(data: bytes) -> bytes:
    """The signature's other spelling: S + L, which a lax verifier takes as well."""
    s = int.from_bytes(data[65:97], "little") + ORDER
    return data[:65] + s.to_bytes(32, "little") + data[97:]


@hostile("Signatures", "record/s-not-reduced")
def test_a_second_signature_is_no_second_record() -> None:
    stage = Stage()
    data = stage.operation(0, Setting("a", "b"))
    changed = with_another_s(data)
    assert stage.read(changed).id == stage.read(data).id
    stage.refuses(changed, code="signature")
    stage.takes(data)
    stage.refuses(changed, code="duplicate")


@hostile("Signatures", "record/signature-first-bit")
def test_a_duplicates_signature_is_not_taken_over() -> None:
    stage = Stage()
    data = stage.operation(0, Setting("a", "b"))
    stage.takes(data)
    changed = bytearray(data)
    changed[33] ^= 1
    stage.refuses(bytes(changed), code="duplicate")
    assert stage.held(stage.read(data).id).data == data


@hostile("Signatures", "record/seq-flipped")
def test_each_bit_counts() -> None:
    stage = Stage()
    data = stage.operation(0, AdminAdd(stage.node(1), 1))
    before = stage.trace()
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << (place % 8)
        with pytest.raises(ProtocolError):
            read_untrusted(bytes(changed), stage.clan.id)
        if place % 8 == 0:
            stage.hears(bytes(changed))
    assert stage.trace() == before


@hostile("Notation", "record/trailing-byte")
def test_a_byte_more() -> None:
    stage = Stage()
    stage.refuses(stage.operation(0, Setting("a", "b")) + b"\0", code="malformed")


@hostile("Notation", "record/ok-longer-forms")
def test_another_spelling_of_a_number_is_another_record_and_not_signed() -> None:
    stage = Stage()
    data = stage.credential(0, 3, "other")
    assert data[97:99] == b"\x96\x01"
    longer = data[:98] + b"\xcc\x01" + data[99:]
    assert parse_untrusted(longer, stage.clan.id).id != stage.read(data).id
    stage.refuses(longer, code="signature")


@hostile("Registers", "content/revocation-other-slot")
def test_one_subject_has_one_register() -> None:
    stage = Stage()
    data = stage.says(0, AdminAdd(stage.node(1), 1), slot="00000001")
    stage.refuses(data[:97] + data[97:].replace(b"00000001", b"0000001x"), code="signature")
    away = stage.credential(0, 3, "other").replace(
        fingerprint_slot(stage.node(3)).encode(), fingerprint_slot(stage.node(2)).encode()
    )
    stage.refuses(away, code="signature")
