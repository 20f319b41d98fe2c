"""DNS as it is on the wire (RFC 1035): names, questions and records, which multicast and unicast DNS have alike.

Pure. Names are tuples of labels without the root's, in lower case, since DNS compares them so. What a record of a
kind that nobody here needs says is kept as its bytes. What makes a whole message is known to those who speak it:
`net/dns.py` on a LAN, `naming/messages.py` in a resolver.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from clanmesh_protocol.errors import MalformedError

NAME_BYTES_MAX: Final = 255  # RFC 1035, 2.3.4
LABEL_BYTES_MAX: Final = 63
POINTERS_MAX: Final = 16  # of a name, beyond one for each label: a chain of pointers alone would cost 40 ms

HEADER: Final = struct.Struct("!6H")  # id, flags, counts of questions and of three kinds of records
IS_RESPONSE: Final = 0x8000  # of the flags
IS_AUTHORITATIVE: Final = 0x0400  # the answer is by who knows it best
INTERNET: Final = 1  # the class of all that is said here

_QUESTION: Final = struct.Struct("!HH")  # kind, class
_RECORD: Final = struct.Struct("!HHIH")  # kind, class, time to live, bytes of data
_SERVER: Final = struct.Struct("!HHH")  # priority, weight, port
_POINTER: Final = 0xC000  # two bytes in place of a label: the rest of the name stands there
_UNIQUE: Final = 0x8000  # RFC 6762, 10.2: beside the class of a record that nobody else has

Name = tuple[bytes, ...]


class Kind(IntEnum):
    """Kinds of records, by their numbers on the wire."""

    A = 1
    NAME_SERVER = 2
    AUTHORITY = 6  # SOA: where a zone begins
    POINTER = 12
    TEXT = 16
    AAAA = 28
    SERVER = 33
    OPTIONS = 41  # no record: what the sender can do (RFC 6891)
    ANY = 255  # in questions alone


_POINTING: Final = (Kind.NAME_SERVER, Kind.POINTER, Kind.SERVER)


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody wants to know."""

    name: Name
    kind: int


@dataclass(frozen=True, slots=True)
class Record:
    """What is said about a name. `target` is of POINTER, NAME_SERVER and SERVER, `value` of the others.

    `priority`, `weight` and `port` are of SERVER alone. `is_unique` is multicast DNS' own: the record takes the
    place of what is known of its name and kind.
    """

    name: Name
    kind: int
    ttl_s: int  # on a LAN, 0: not true any more
    value: bytes = b""
    target: Name = ()
    port: int = 0
    is_unique: bool = True
    priority: int = 0
    weight: int = 0


class RecordHead(NamedTuple):
    """What stands before the data of a record, and where that ends."""

    name: Name
    kind: int
    class_: int
    ttl_s: int
    end: int


def wire_name(name: Name) -> bytes:
    """A name as it is written where it may not be shortened."""
    return b"".join(bytes([len(label)]) + label for label in name) + b"\0"


class Reader:
    """Where the reading of a message has come to. Raises MalformedError; IndexError or struct.error at the end."""

    def __init__(self, data: bytes, at: int) -> None:
        self.at = at
        self._data = data

    def question(self) -> tuple[Question, int]:
        """A question and its class."""
        name = self.name()
        kind, class_ = _QUESTION.unpack_from(self._data, self.at)
        self.at += _QUESTION.size
        return Question(name, kind), class_

    def head(self) -> RecordHead:
        """What stands before the data of a record."""
        name = self.name()
        kind, class_, ttl_s, size = _RECORD.unpack_from(self._data, self.at)
        self.at += _RECORD.size
        end = self.at + size
        if end > len(self._data):
            raise MalformedError("a DNS record ends early")
        return RecordHead(name, kind, class_, ttl_s, end)

    def record(self) -> Record:
        """A whole record."""
        name, kind, class_, ttl_s, end = self.head()
        value, priority, weight, port = b"", 0, 0, 0
        target: Name = ()
        if kind == Kind.SERVER:
            priority, weight, port = _SERVER.unpack_from(self._data, self.at)
            self.at += _SERVER.size
        if kind in _POINTING:
            target = self.name()
        else:
            value, self.at = self._data[self.at : end], end
        if self.at != end:
            raise MalformedError("a name in a DNS record is not as long as the record says")
        return Record(name, kind, ttl_s, value, target, port, bool(class_ & _UNIQUE), priority, weight)

    def name(self) -> Name:
        """A name, which may go on at places before it; each further before, so that it ends."""
        data, at, origin = self._data, self.at, self.at
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
        self.at = at + 1 if behind is None else behind
        return tuple(labels)


class Writer:
    """A message in the making, with repeated names shortened. `data` is it so far.

    `shortens_servers`: also those that SERVER records point to, which RFC 6762, 18.14 wants and RFC 2782 forbids.
    """

    def __init__(self, *, shortens_servers: bool) -> None:
        self.data = bytearray()
        self._shortens_servers = shortens_servers
        self._places: dict[Name, int] = {}

    def question(self, question: Question) -> None:
        """Ask for something."""
        self.name(question.name)
        self.data += _QUESTION.pack(question.kind, INTERNET)

    def asked(self, name: Name, question: bytes) -> None:
        """Repeat a question as it was written, with `name` read from it; what follows may point into it."""
        at = len(self.data)
        for index, label in enumerate(name):
            self._places.setdefault(name[index:], at)
            at += 1 + len(label)
        self.data += question

    def record(self, record: Record) -> None:
        """Say something."""
        self.name(record.name)
        class_ = INTERNET | (_UNIQUE if record.is_unique else 0)
        at = len(self.data)
        self.data += _RECORD.pack(record.kind, class_, record.ttl_s, 0)
        begin = len(self.data)
        if record.kind == Kind.SERVER:
            self.data += _SERVER.pack(record.priority, record.weight, record.port)
        if record.kind == Kind.SERVER and not self._shortens_servers:
            self.data += wire_name(record.target)
        elif record.kind in _POINTING:
            self.name(record.target)
        self.data += record.value
        _RECORD.pack_into(self.data, at, record.kind, class_, record.ttl_s, len(self.data) - begin)

    def name(self, name: Name) -> None:
        """A name, from where on it is new."""
        for index, label in enumerate(name):
            place = self._places.setdefault(name[index:], len(self.data))
            if place < len(self.data):
                self.data += struct.pack("!H", _POINTER | place)  # a message of ours is shorter than it can reach
                return
            self.data += bytes([len(label)]) + label
        self.data.append(0)
