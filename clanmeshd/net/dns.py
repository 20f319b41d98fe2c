"""DNS messages as they are used to find services on a LAN (RFC 1035, RFC 6762): a strict reader and a writer.

Pure. Names are tuples of labels without the root's, in lower case, since DNS compares them so. What a record of a
kind that nobody here needs says is kept as its bytes.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from clanmesh_protocol.errors import LimitError, MalformedError

MESSAGE_BYTES_MAX: Final = 9000  # RFC 6762, 17
ENTRIES_MAX: Final = 128  # questions and records of a message, which bounds what reading one costs: 1 ms
NAME_BYTES_MAX: Final = 255  # RFC 1035, 2.3.4
LABEL_BYTES_MAX: Final = 63
POINTERS_MAX: Final = 16  # of a name, beyond one for each label: a chain of pointers alone would cost 40 ms

_HEADER: Final = struct.Struct("!6H")  # id, flags, counts of questions and of three kinds of records
_QUESTION: Final = struct.Struct("!HH")  # kind, class
_RECORD: Final = struct.Struct("!HHIH")  # kind, class, time to live, bytes of data
_SERVER: Final = struct.Struct("!HHH")  # priority, weight, port
_POINTER: Final = 0xC000  # two bytes in place of a label: the rest of the name stands there
_RESPONSE: Final = 0x8400  # an answer, by who knows it best
_IS_RESPONSE: Final = 0x8000
_ERROR_OR_OTHER: Final = 0x780F  # bits of operations other than a plain question, and of errors
_INTERNET: Final = 1
_UNIQUE: Final = 0x8000  # beside the class of a record that nobody else has: it replaces what is known

Name = tuple[bytes, ...]


class Kind(IntEnum):
    """Kinds of records, by their numbers on the wire."""

    A = 1
    POINTER = 12
    TEXT = 16
    AAAA = 28
    SERVER = 33
    ANY = 255  # in questions alone


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody wants to know."""

    name: Name
    kind: int


@dataclass(frozen=True, slots=True)
class Record:
    """What is said about a name. `target` is of POINTER and SERVER, `port` of SERVER, `value` of the others."""

    name: Name
    kind: int
    ttl_s: int  # 0: not true any more
    value: bytes = b""
    target: Name = ()
    port: int = 0
    is_unique: bool = True


@dataclass(frozen=True, slots=True)
class Message:
    """A question with the answers that are known already, or answers."""

    is_response: bool
    questions: tuple[Question, ...]
    records: tuple[Record, ...]


def read_message_untrusted(data: bytes) -> Message:
    """Read a message from the LAN. Raises MalformedError or LimitError."""
    try:
        return _read(data)
    except (struct.error, IndexError):
        raise MalformedError("a DNS message ends early") from None


def write_message(message: Message) -> bytes:
    """Write a message, with repeated names shortened."""
    writer = _Writer()
    flags = _RESPONSE if message.is_response else 0
    writer.data += _HEADER.pack(0, flags, len(message.questions), len(message.records), 0, 0)
    for question in message.questions:
        writer.name(question.name)
        writer.data += _QUESTION.pack(question.kind, _INTERNET)
    for record in message.records:
        writer.record(record)
    return bytes(writer.data)


def text_entries_untrusted(value: bytes) -> dict[bytes, bytes]:
    """Read the `key=value` entries of a TEXT record; the first of each key (RFC 6763, 6.4) and what is whole."""
    entries: dict[bytes, bytes] = {}
    at = 0
    while at < len(value):
        end = at + 1 + value[at]
        key, _, content = value[at + 1 : end].partition(b"=")
        if end <= len(value):
            entries.setdefault(key.lower(), content)
        at = end
    return entries


def text_value(entries: Sequence[bytes]) -> bytes:
    """Write the entries of a TEXT record."""
    return b"".join(bytes([len(entry)]) + entry for entry in entries)


def _read(data: bytes) -> Message:
    if len(data) > MESSAGE_BYTES_MAX:
        raise LimitError(f"a DNS message of more than {MESSAGE_BYTES_MAX} bytes")
    _, flags, questions, *sections = _HEADER.unpack_from(data)
    records = sum(sections)
    if flags & _ERROR_OR_OTHER:
        raise MalformedError("a DNS message that neither asks nor answers")
    if questions + records > ENTRIES_MAX:
        raise LimitError(f"a DNS message of more than {ENTRIES_MAX} entries")
    reader = _Reader(data, _HEADER.size)
    return Message(
        bool(flags & _IS_RESPONSE),
        tuple(reader.question() for _ in range(questions)),
        tuple(reader.record() for _ in range(records)),
    )


class _Reader:
    """Where the reading of a message has come to. Raises IndexError or struct.error behind the end."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    def question(self) -> Question:
        name = self.name()
        kind, _ = _QUESTION.unpack_from(self._data, self._at)
        self._at += _QUESTION.size
        return Question(name, kind)

    def record(self) -> Record:
        name = self.name()
        kind, class_, ttl_s, size = _RECORD.unpack_from(self._data, self._at)
        self._at += _RECORD.size
        end = self._at + size
        if end > len(self._data):
            raise MalformedError("a DNS record ends early")
        value, port = b"", 0
        target: Name = ()
        if kind == Kind.SERVER:
            _, _, port = _SERVER.unpack_from(self._data, self._at)
            self._at += _SERVER.size
        if kind in (Kind.SERVER, Kind.POINTER):
            target = self.name()
        else:
            value, self._at = self._data[self._at : end], end
        if self._at != end:
            raise MalformedError("a name in a DNS record is not as long as the record says")
        return Record(name, kind, ttl_s, value, target, port, bool(class_ & _UNIQUE))

    def name(self) -> Name:
        """Read a name, which may go on at places before it; each further before, so that it ends."""
        data, at, origin = self._data, self._at, self._at
        labels: list[bytes] = []
        behind: int | None = None  # where the reading goes on once a pointer was followed
        left, pointers = NAME_BYTES_MAX - 1, POINTERS_MAX
        while size := data[at]:
            if size > LABEL_BYTES_MAX:
                target = (size << 8 | data[at + 1]) - _POINTER
                pointers -= 1
                if not 0 <= target < origin or pointers < 0:
                    raise MalformedError("a DNS name leads nowhere")
                behind = at + 2 if behind is None else behind
                at = origin = target
                continue
            left -= 1 + size
            if left < 0 or at + 1 + size > len(data):
                raise MalformedError("a DNS name is too long")
            pointers += 1
            labels.append(data[at + 1 : at + 1 + size].lower())
            at += 1 + size
        self._at = at + 1 if behind is None else behind
        return tuple(labels)


class _Writer:
    """A message in the making, and where the names in it stand."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._places: dict[Name, int] = {}

    def record(self, record: Record) -> None:
        self.name(record.name)
        class_ = _INTERNET | (_UNIQUE if record.is_unique else 0)
        at = len(self.data)
        self.data += _RECORD.pack(record.kind, class_, record.ttl_s, 0)
        begin = len(self.data)
        if record.kind == Kind.SERVER:
            self.data += _SERVER.pack(0, 0, record.port)
        if record.kind in (Kind.SERVER, Kind.POINTER):
            self.name(record.target)
        self.data += record.value
        _RECORD.pack_into(self.data, at, record.kind, class_, record.ttl_s, len(self.data) - begin)

    def name(self, name: Name) -> None:
        for index, label in enumerate(name):
            place = self._places.setdefault(name[index:], len(self.data))
            if place < len(self.data):
                self.data += struct.pack("!H", _POINTER | place)  # a message of ours is shorter than it can reach
                return
            self.data += bytes([len(label)]) + label
        self.data.append(0)
