"""D-Bus messages by the bytes: what is written is what others write, what is damaged is refused in bounds."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clanmesh_protocol.errors import LimitError, MalformedError, ProtocolError
from clanmeshd.naming.dbus import (
    HEAD_BYTES,
    MESSAGE_BYTES_MAX,
    NO_START,
    BusMessage,
    Field,
    MessageKind,
    message_bytes_untrusted,
    read_message_untrusted,
    write_message,
)

FIELDS = {
    Field.PATH: "/org/freedesktop/resolve1",
    Field.INTERFACE: "org.freedesktop.resolve1.Manager",
    Field.MEMBER: "SetLinkDomains",
    Field.DESTINATION: "org.freedesktop.resolve1",
    Field.SIGNATURE: "ia(sb)",
}
CALL = BusMessage(MessageKind.CALL, 2, dict(FIELDS), (3, [("family.internal", True)]), NO_START)

# The same call as another library, jeepney 0.9, writes it.
CALL_DATA = bytes.fromhex(
    "6c0102012000000002000000a4000000"
    "01016f00190000002f6f72672f667265656465736b746f702f7265736f6c766531000000000000000201730020000000"
    "6f72672e667265656465736b746f702e7265736f6c7665312e4d616e616765720000000000000000030173000e000000"
    "5365744c696e6b446f6d61696e73000006017300180000006f72672e667265656465736b746f702e7265736f6c766531"
    "00000000000000000801670006696128736229000000000003000000180000000f00000066616d696c792e696e746572"
    "6e616c0001000000"
)


def body(signature: str, *values: Any) -> bytes:
    """A message with values of some types."""
    return write_message(BusMessage(MessageKind.SIGNAL, 1, {Field.SIGNATURE: signature}, values))


def test_a_call_is_written_as_others_write_it() -> None:
    """And read back: a truth value is a number there."""
    assert write_message(CALL) == CALL_DATA
    assert read_message_untrusted(CALL_DATA) == BusMessage(
        MessageKind.CALL, 2, dict(FIELDS), (3, [("family.internal", 1)]), NO_START
    )
    assert message_bytes_untrusted(CALL_DATA[:HEAD_BYTES]) == len(CALL_DATA)


def test_the_other_byte_order_is_read() -> None:
    """Whoever sends says which it is; the bus passes both on."""
    text = b"\0\0\0\x02hi\0"
    fields = b"\x08\x01g\0\x02su\0"
    data = struct.pack(">4B3I", ord("B"), MessageKind.SIGNAL, 0, 1, 12, 9, len(fields)) + fields
    data += text + b"\0" + struct.pack(">I", 7)
    assert read_message_untrusted(data) == BusMessage(MessageKind.SIGNAL, 9, {Field.SIGNATURE: "su"}, ("hi", 7))


@pytest.mark.parametrize(
    ("signature", "value"),
    [
        ("y", 255),
        ("n", -2),
        ("q", 65535),
        ("i", -(2**31)),
        ("u", 2**32 - 1),
        ("x", -(2**63)),
        ("t", 2**64 - 1),
        ("s", "Grüße"),
        ("o", "/"),
        ("g", "a(sb)"),
        ("as", []),
        ("at", []),
        ("a(iay)", [(10, list(range(16))), (2, [])]),
        ("a{sas}", [("a", ["b", "c"]), ("", [])]),
        ("(y(sx)y)", (1, ("two", 3), 4)),
        ("aay", [[1], [], [2, 3]]),
    ],
)
def test_values_come_back(signature: str, value: object) -> None:
    """Behind a byte, so that each is aligned."""
    assert read_message_untrusted(body(f"y{signature}", 1, value)).body == (1, value)


def test_a_variant_gives_its_value() -> None:
    """Whatever it is of."""
    assert read_message_untrusted(body("va{sv}", ("ai", [1, 2]), [("k", ("s", "v"))])).body == (
        [1, 2],
        [("k", "v")],
    )


@pytest.mark.parametrize("cut", range(0, len(CALL_DATA), 7))
def test_a_part_is_refused(cut: int) -> None:
    """Wherever it ends."""
    with pytest.raises(ProtocolError):
        read_message_untrusted(CALL_DATA[:cut])


@pytest.mark.parametrize(
    "signature", ["a", "(", "()", "(i", "i)", "d", "h", "m", "a" * 9 + "i", "(" * 9 + "i" + ")" * 9, "{sv"]
)
def test_a_signature_that_is_none_is_refused(signature: str) -> None:
    """Too deep ones among them, which would be a stack of ours."""
    fields = b"\x08\x01g\0" + bytes([len(signature)]) + signature.encode() + b"\0"
    data = struct.pack("<4B3I", ord("l"), MessageKind.SIGNAL, 0, 1, 0, 9, len(fields)) + fields
    data += bytes(-len(data) % 8)
    with pytest.raises(MalformedError):
        read_message_untrusted(data)


def test_variants_inside_of_variants_end() -> None:
    """Each level costs three bytes, so only their number bounds them."""
    value: tuple[str, Any] = ("y", 1)
    for _ in range(9):
        value = ("v", value)
    with pytest.raises(MalformedError, match="deep"):
        read_message_untrusted(body("v", value))


def test_a_size_beyond_bounds_is_refused_by_its_head() -> None:
    """Before any of it is kept."""
    for sizes in ((MESSAGE_BYTES_MAX, 1, 0), (0, 1, 2**32 - 1), (2**32 - 1, 1, 2**32 - 1)):
        with pytest.raises(LimitError):
            message_bytes_untrusted(struct.pack("<4B3I", ord("l"), 1, 0, 1, *sizes))
    for head in (b"x\x01\x00\x01" + bytes(12), b"l\x01\x00\x02" + bytes(12)):
        with pytest.raises(MalformedError):
            message_bytes_untrusted(head)


@given(st.data())
def test_damage_is_read_or_refused(dice: st.DataObject) -> None:
    """Nothing else comes of it, whatever is changed."""
    data = bytearray(dice.draw(st.sampled_from([CALL_DATA, body("va{sv}", ("ai", [1, 2]), [("k", ("s", "v"))])])))
    for _ in range(dice.draw(st.integers(1, 4))):
        data[dice.draw(st.integers(0, len(data) - 1))] = dice.draw(st.integers(0, 255))
    try:
        read_message_untrusted(bytes(data))
    except ProtocolError:
        return
