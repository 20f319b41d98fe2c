"""D-Bus messages: as much of them as a client of few calls needs (D-Bus Specification, "Message Protocol"). Pure.

A library for it, the small jeepney, costs the daemon 1.9 MB of its 40, for half a dozen calls; this costs 0.2.
Values are written by their signature and read by the one that comes with them; file descriptors, floating point
and what else none of our calls has are not there. All is read in bounds, although the bus has looked at it before.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from clanmesh_protocol.errors import LimitError, MalformedError

MESSAGE_BYTES_MAX: Final = 65_536  # ours have 300; a resolver's answer to us is a line
DEPTH_MAX: Final = 8  # of values inside of values; ours have 3
HEAD_BYTES: Final = 16  # of each message: until all lengths are known

_LITTLE: Final = ord("l")
_BIG: Final = ord("B")
_VERSION: Final = 1
_ALIGNMENT: Final = 8  # of a body, and of a structure
_FIELDS: Final = "a(yv)"
_FIXED: Final = {"y": "B", "b": "I", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q"}
_ALIGNMENTS: Final = {"s": 4, "o": 4, "g": 1, "a": 4, "(": 8, "{": 8, "v": 1}
_CLOSING: Final = {"(": ")", "{": "}"}


class MessageKind(IntEnum):
    """What a message is."""

    CALL = 1
    RETURN = 2
    ERROR = 3
    SIGNAL = 4


class Field(IntEnum):
    """What the head of a message tells beside."""

    PATH = 1
    INTERFACE = 2
    MEMBER = 3
    ERROR_NAME = 4
    REPLY_SERIAL = 5
    DESTINATION = 6
    SENDER = 7
    SIGNATURE = 8


NO_START: Final = 2  # a flag: do not start whoever would answer to this name

_FIELD_TYPES: Final = {
    Field.PATH: "o",
    Field.INTERFACE: "s",
    Field.MEMBER: "s",
    Field.ERROR_NAME: "s",
    Field.REPLY_SERIAL: "u",
    Field.DESTINATION: "s",
    Field.SENDER: "s",
    Field.SIGNATURE: "g",
}


@dataclass(frozen=True, slots=True)
class BusMessage:
    """One message. `fields` has what its head told, by the numbers of `Field`."""

    kind: int
    serial: int
    fields: dict[int, Any]
    body: tuple[Any, ...] = ()
    flags: int = 0

    def text(self, field: Field) -> str:
        """A field that is text; empty when it is not there."""
        value = self.fields.get(field, "")
        return value if isinstance(value, str) else ""


def write_message(message: BusMessage) -> bytes:
    """Write a message, with the least significant byte first."""
    writer = _Writer()
    signature = message.text(Field.SIGNATURE)
    for type_, value in zip(_types(signature), message.body, strict=True):
        writer.value(type_, value)
    fields = [(number, (_FIELD_TYPES[Field(number)], value)) for number, value in sorted(message.fields.items())]
    head = _Writer()
    head.data += struct.pack(
        "<4B2I", _LITTLE, message.kind, message.flags, _VERSION, len(writer.data), message.serial
    )
    head.value(_FIELDS, fields)
    head.align(_ALIGNMENT)
    return bytes(head.data + writer.data)


def message_bytes_untrusted(head: bytes) -> int:
    """How long the message is whose first `HEAD_BYTES` bytes these are. Raises MalformedError or LimitError."""
    order = _order(head)
    body, _, fields = struct.unpack_from(f"{order}3I", head, 4)
    size: int = -(-(HEAD_BYTES + fields) // _ALIGNMENT) * _ALIGNMENT + body
    if size > MESSAGE_BYTES_MAX:
        raise LimitError(f"a D-Bus message of more than {MESSAGE_BYTES_MAX} bytes")
    return size


def read_message_untrusted(data: bytes) -> BusMessage:
    """Read a whole message. Raises MalformedError or LimitError."""
    if len(data) < HEAD_BYTES or len(data) != message_bytes_untrusted(data[:HEAD_BYTES]):
        raise MalformedError("a D-Bus message is not as long as it says")
    order = _order(data)
    _, kind, flags, _, _, serial = struct.unpack_from(f"{order}4B2I", data)
    try:
        reader = _Reader(data, order, at=12)
        fields = dict(reader.value(_FIELDS, DEPTH_MAX))
        reader.align(_ALIGNMENT)
        message = BusMessage(kind, serial, fields, (), flags)
        types = _types(message.text(Field.SIGNATURE))
        body = tuple(reader.value(type_, DEPTH_MAX) for type_ in types)
    except (struct.error, IndexError, UnicodeDecodeError):
        raise MalformedError("a D-Bus message is damaged") from None
    if reader.at != len(data):
        raise MalformedError("something stands behind a D-Bus message")
    return BusMessage(kind, serial, fields, body, flags)


def _order(head: bytes) -> str:
    if head[0] not in (_LITTLE, _BIG) or head[3] != _VERSION:
        raise MalformedError("this is no D-Bus message")
    return "<" if head[0] == _LITTLE else ">"


def _types(signature: str) -> Iterator[str]:
    """The single types of a signature. Raises MalformedError."""
    at = 0
    while at < len(signature):
        end = _end_of_type(signature, at, DEPTH_MAX)
        yield signature[at:end]
        at = end


def _end_of_type(signature: str, at: int, depth: int) -> int:
    if depth == 0 or at >= len(signature):
        raise MalformedError("a D-Bus signature ends early, or is too deep")
    first = signature[at]
    if first == "a":
        return _end_of_type(signature, at + 1, depth - 1)
    if first in _CLOSING:
        at += 1
        begin = at
        while signature[at : at + 1] != _CLOSING[first]:
            at = _end_of_type(signature, at, depth - 1)
        if at == begin:
            raise MalformedError("a D-Bus structure of nothing")
        return at + 1
    if first not in _FIXED and first not in _ALIGNMENTS:
        raise MalformedError("a D-Bus signature with an unknown type")
    return at + 1


def _alignment(type_: str) -> int:
    first = type_[0]
    return struct.calcsize(f"={_FIXED[first]}") if first in _FIXED else _ALIGNMENTS[first]


class _Writer:
    def __init__(self) -> None:
        self.data = bytearray()

    def align(self, size: int) -> None:
        self.data += bytes(-len(self.data) % size)

    def value(self, type_: str, value: Any) -> None:
        self.align(_alignment(type_))
        first = type_[0]
        if first in _FIXED:
            self.data += struct.pack(f"<{_FIXED[first]}", value)
        elif first in "so":
            text = value.encode()
            self.data += struct.pack("<I", len(text)) + text + b"\0"
        elif first == "g":
            self.data += bytes([len(value)]) + value.encode() + b"\0"
        elif first == "v":
            self.value("g", value[0])
            self.value(*value)
        elif first == "a":
            self._array(type_[1:], value)
        else:
            for part, each in zip(_types(type_[1:-1]), value, strict=True):
                self.value(part, each)

    def _array(self, type_: str, values: Sequence[Any]) -> None:
        at = len(self.data)
        self.data += bytes(4)
        self.align(_alignment(type_))  # does not count
        begin = len(self.data)
        for each in values:
            self.value(type_, each)
        struct.pack_into("<I", self.data, at, len(self.data) - begin)


class _Reader:
    """Where the reading has come to. Raises struct.error, IndexError or UnicodeDecodeError for damage."""

    def __init__(self, data: bytes, order: str, at: int) -> None:
        self.at = at
        self._data = data
        self._order = order

    def align(self, size: int) -> None:
        self.at += -self.at % size

    def value(self, type_: str, depth: int) -> Any:
        if depth == 0:
            raise MalformedError("a D-Bus message is too deep")
        self.align(_alignment(type_))
        first = type_[0]
        if first in _FIXED:
            return self._fixed(first)
        if first in "so":
            return self._text(self._fixed("u"))
        if first == "g":
            return self._text(self._fixed("y"))
        if first == "v":
            return self._variant(depth)
        if first == "a":
            return self._array(type_[1:], depth)
        return tuple(self.value(part, depth - 1) for part in _types(type_[1:-1]))

    def _variant(self, depth: int) -> Any:
        types = list(_types(self.value("g", depth)))
        if len(types) != 1:
            raise MalformedError("a D-Bus variant of not one value")
        return self.value(types[0], depth - 1)

    def _fixed(self, type_: str) -> int:
        layout = f"{self._order}{_FIXED[type_]}"
        (value,) = struct.unpack_from(layout, self._data, self.at)
        self.at += struct.calcsize(layout)
        return int(value)

    def _text(self, size: int) -> str:
        end = self.at + size
        if self._data[end]:  # raises IndexError behind the end
            raise MalformedError("a D-Bus text has no end")
        text = self._data[self.at : end].decode()
        self.at = end + 1
        return text

    def _array(self, type_: str, depth: int) -> list[Any]:
        size = self._fixed("u")
        self.align(_alignment(type_))
        end = self.at + size
        if end > len(self._data):
            raise MalformedError("a D-Bus array is longer than its message")
        values = []
        while self.at < end:
            values.append(self.value(type_, depth - 1))
        if self.at != end:
            raise MalformedError("a D-Bus array is not as long as it says")
        return values
