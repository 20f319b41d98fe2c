"""DNS messages as they are used to find services on a LAN (RFC 6762): a strict reader and a writer. Pure."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from clanmesh_protocol.errors import LimitError, MalformedError
from clanmeshd.dns import HEADER, IS_AUTHORITATIVE, IS_RESPONSE, Question, Reader, Record, Writer

MESSAGE_BYTES_MAX: Final = 9000  # RFC 6762, 17
ENTRIES_MAX: Final = 128  # questions and records of a message, which bounds what reading one costs: 1 ms

_ERROR_OR_OTHER: Final = 0x780F  # bits of operations other than a plain question, and of errors


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
    writer = Writer(shortens_servers=True)
    flags = IS_RESPONSE | IS_AUTHORITATIVE if message.is_response else 0
    writer.data += HEADER.pack(0, flags, len(message.questions), len(message.records), 0, 0)
    for question in message.questions:
        writer.question(question)
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
    _, flags, questions, *sections = HEADER.unpack_from(data)
    records = sum(sections)
    if flags & _ERROR_OR_OTHER:
        raise MalformedError("a DNS message that neither asks nor answers")
    if questions + records > ENTRIES_MAX:
        raise LimitError(f"a DNS message of more than {ENTRIES_MAX} entries")
    reader = Reader(data, HEADER.size)
    return Message(
        bool(flags & IS_RESPONSE),
        tuple(reader.question()[0] for _ in range(questions)),
        tuple(reader.record() for _ in range(records)),
    )
