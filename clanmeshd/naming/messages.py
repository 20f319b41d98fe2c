"""Questions and answers of unicast DNS (RFC 1035, with the options of RFC 6891). Pure.

Read strictly, answered briefly: one question a message, no answer larger than what passes everywhere in one
packet, and what was asked is repeated as it was written, since some resolvers hide a nonce in its upper and
lower case.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from clanmesh_protocol.errors import MalformedError
from clanmeshd.dns import HEADER, IS_AUTHORITATIVE, IS_RESPONSE, Kind, Name, Reader, Record, Writer, wire_name

ANSWER_BYTES_MAX: Final = 1232  # what IPv6 carries everywhere, 1280 bytes, less its and UDP's headers
PLAIN_BYTES_MAX: Final = 512  # RFC 1035, 4.2.1: to those who do not say that they take more
QUERY_BYTES_MAX: Final = 1232  # names and options of real ones take 300
EXTRAS_MAX: Final = 4  # records of a question behind it: options, and perhaps a signature that we do not read

_OPERATION: Final = 0x7800
_TRUNCATED: Final = 0x0200
_WANTS_RECURSION: Final = 0x0100
_RCODE_BITS: Final = 4  # in the header; the rest of a code stands in the options
_OPTIONS: Final = struct.Struct("!BHHIH")  # the root's name, kind, size, code and version and flags, data's size
_WANTS_SIGNATURES: Final = 0x8000  # among the flags of the options


class Code(IntEnum):
    """How a question was answered."""

    OK = 0
    MALFORMED = 1
    NO_SUCH_NAME = 3
    NOT_IMPLEMENTED = 4
    REFUSED = 5
    OPTIONS_VERSION = 16


@dataclass(frozen=True, slots=True)
class Options:
    """What the sender of a question can take."""

    bytes_max: int
    version: int
    wants_signatures: bool


@dataclass(frozen=True, slots=True)
class Query:
    """A question. `question` is its section as it was written."""

    id: int
    wants_recursion: bool
    name: Name
    kind: int
    class_: int
    question: bytes
    options: Options | None


def read_query_untrusted(data: bytes) -> Query:
    """Read a message that asks one thing. Raises MalformedError."""
    try:
        return _read(data)
    except (struct.error, IndexError):
        raise MalformedError("a DNS question ends early") from None


def write_answer(
    query: Query, code: Code, answers: Sequence[Record], authority: Sequence[Record], *, bytes_max: int
) -> bytes:
    """Answer a question in at most `bytes_max` bytes: what does not fit is left out whole, and said to be."""
    data = _written(query, code, answers, authority, flags=0)
    return data if len(data) <= bytes_max else _written(query, code, (), (), flags=_TRUNCATED)


def write_refusal_untrusted(data: bytes, code: Code) -> bytes:
    """Answer what cannot be read with its number alone, and no longer than it is."""
    number, flags, *_ = HEADER.unpack_from(data)
    return HEADER.pack(number, IS_RESPONSE | flags & (_OPERATION | _WANTS_RECURSION) | code, 0, 0, 0, 0)


def operation_untrusted(data: bytes) -> int | None:
    """What a message wants, 0 being an answer to a question; None of what is none or an answer itself."""
    if not HEADER.size <= len(data) <= QUERY_BYTES_MAX:
        return None
    flags = HEADER.unpack_from(data)[1]
    return None if flags & IS_RESPONSE else flags & _OPERATION


def _read(data: bytes) -> Query:
    number, flags, questions, answers, authority, extras = HEADER.unpack_from(data)
    if (questions, answers, authority) != (1, 0, 0) or extras > EXTRAS_MAX:
        raise MalformedError("a DNS message that is not one plain question")
    reader = Reader(data, HEADER.size)
    asked, class_ = reader.question()
    question = data[HEADER.size : reader.at]
    if len(question) != len(wire_name(asked.name)) + 4:
        raise MalformedError("a DNS question that points to before it")
    options: Options | None = None
    for _ in range(extras):
        head = reader.head()
        if head.kind == Kind.OPTIONS:
            if options is not None or head.name:
                raise MalformedError("DNS options twice, or of a name")
            version, wants = head.ttl_s >> 16 & 0xFF, bool(head.ttl_s & _WANTS_SIGNATURES)
            options = Options(head.class_, version, wants)
        reader.at = head.end
    if reader.at != len(data):
        raise MalformedError("something stands behind a DNS question")
    return Query(number, bool(flags & _WANTS_RECURSION), asked.name, asked.kind, class_, question, options)


def _written(
    query: Query, code: Code, answers: Sequence[Record], authority: Sequence[Record], *, flags: int
) -> bytes:
    writer = Writer(shortens_servers=False)
    flags |= IS_RESPONSE | (_WANTS_RECURSION if query.wants_recursion else 0)
    flags |= IS_AUTHORITATIVE if code in (Code.OK, Code.NO_SUCH_NAME) else 0
    low = code & ((1 << _RCODE_BITS) - 1)
    extras = 1 if query.options is not None else 0
    writer.data += HEADER.pack(query.id, flags | low, 1, len(answers), len(authority), extras)
    writer.asked(query.name, query.question)
    for record in (*answers, *authority):
        writer.record(record)
    if query.options is not None:
        further = (code >> _RCODE_BITS) << 24 | (_WANTS_SIGNATURES if query.options.wants_signatures else 0)
        writer.data += _OPTIONS.pack(0, Kind.OPTIONS, ANSWER_BYTES_MAX, further, 0)
    return bytes(writer.data)
