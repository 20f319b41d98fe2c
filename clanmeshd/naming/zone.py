"""What a clan's names are, as DNS has it: the zone of its domain, and the one of its addresses. Pure.

Both are worked out from the list of members, so every device answers alike and none is the one to ask. A question
for anything else is refused: nobody is asked on somebody's behalf.

A name that is missing is told from one that has no record of the kind: of the first a resolver learns that nothing
can stand below it either (RFC 8020), of the second that it may ask for another kind.
"""

import struct
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Final, NamedTuple

from clanmesh_protocol.errors import ProtocolError
from clanmeshd.dns import INTERNET, Kind, Name, Record, wire_name
from clanmeshd.naming.messages import (
    ANSWER_BYTES_MAX,
    PLAIN_BYTES_MAX,
    Code,
    Query,
    operation_untrusted,
    read_query_untrusted,
    write_answer,
    write_refusal_untrusted,
)

TTL_S: Final = 1  # a rename is known everywhere within two seconds, and asking again costs nothing on the device
SERVICES_PER_NAME_MAX: Final = 8  # 8 of them with the longest names of devices are 1,000 bytes of an answer

_REVERSE: Final = (b"ip6", b"arpa")
_PERSON: Final = b"hostmaster"  # whom to write to, in form; there is no mail
_SECONDARIES_S: Final = (3600, 600, 86400)  # when others would fetch the zone again, which none does: RFC 1912's
_TRANSFERS: Final = range(249, 255)  # kinds that ask for whole zones, or change what is known


class Found(NamedTuple):
    """What there is to say to a question."""

    code: Code
    answers: Sequence[Record]
    authority: Sequence[Record]


@dataclass(frozen=True, slots=True)
class Service:
    """Where a service is, told under names such as `_http._tcp` of a device or of the clan (RFC 2782)."""

    name: str  # whole, without the last dot
    target: str
    port: int
    priority: int = 0
    weight: int = 0


class Zone:
    """The names of one clan. `own` is the address of the device that answers, `prefix` its leading bytes."""

    def __init__(
        self,
        domain: str,
        addresses: Iterable[tuple[str, bytes]],
        *,
        own: bytes,
        prefix: bytes,
        services: Iterable[Service] = (),
    ) -> None:
        self.forward = name_of(domain)
        self.reverse = reverse_name(prefix)
        self._records: dict[Name, list[Record]] = {}
        server, members, services = self.forward, sorted(addresses), list(services)
        serial = _serial(members, services)
        for text, address in members:
            name = name_of(text)
            server = name if address == own else server
            self._add(Record(name, Kind.AAAA, TTL_S, address, is_unique=False))
            self._add(Record(reverse_name(address), Kind.POINTER, TTL_S, target=name, is_unique=False))
        for service in services:
            self._add(_server_record(service))
        for apex in (self.forward, self.reverse):
            self._add(_authority(apex, server, serial))
            self._add(Record(apex, Kind.NAME_SERVER, TTL_S, target=server, is_unique=False))
        self._ordered = sorted(name[::-1] for name in self._records)

    def find(self, name: Name, kind: int) -> Found:
        """Answer a question of the Internet's class."""
        apex = next((apex for apex in (self.forward, self.reverse) if name[-len(apex) :] == apex), None)
        if apex is None or kind in _TRANSFERS:
            return Found(Code.REFUSED, (), ())
        records = self._records.get(name, [])
        answers = [record for record in records if kind in (record.kind, Kind.ANY)]
        if answers:
            return Found(Code.OK, list(islice(answers, SERVICES_PER_NAME_MAX)), ())
        code = Code.OK if records or self._is_above_another(name) else Code.NO_SUCH_NAME
        return Found(code, (), [record for record in self._records[apex] if record.kind == Kind.AUTHORITY])

    def respond(self, data: bytes, *, is_stream: bool = False) -> bytes | None:
        """Answer a message of anybody's, or not: answers and scraps get none."""
        operation = operation_untrusted(data)
        if operation is None:
            return None
        if operation:
            return write_refusal_untrusted(data, Code.NOT_IMPLEMENTED)
        try:
            query = read_query_untrusted(data)
        except ProtocolError:
            return write_refusal_untrusted(data, Code.MALFORMED)
        return write_answer(query, *self._found(query), bytes_max=_room(query, is_stream=is_stream))

    def _found(self, query: Query) -> Found:
        if query.options is not None and query.options.version:
            return Found(Code.OPTIONS_VERSION, (), ())
        if query.class_ != INTERNET:
            return Found(Code.REFUSED, (), ())
        return self.find(query.name, query.kind)

    def _is_above_another(self, name: Name) -> bool:
        """Whether a name is there since something stands below it, as every part of an address."""
        wanted = name[::-1]
        at = bisect_left(self._ordered, wanted)
        return at < len(self._ordered) and self._ordered[at][: len(wanted)] == wanted

    def _add(self, record: Record) -> None:
        self._records.setdefault(record.name, []).append(record)


def name_of(text: str) -> Name:
    """A name in its written form, without the last dot."""
    return tuple(text.lower().encode().split(b"."))


def text_of(name: Name) -> str:
    """The written form of a name of ours, without the last dot."""
    return b".".join(name).decode()


def reverse_name(address: bytes) -> Name:
    """The name under which an IPv6 address, or the leading bytes of one, is looked up (RFC 3596, 2.5)."""
    return (*(digit.encode() for digit in reversed(address.hex())), *_REVERSE)


def _room(query: Query, *, is_stream: bool) -> int:
    if is_stream:
        return ANSWER_BYTES_MAX
    if query.options is None:
        return PLAIN_BYTES_MAX
    return max(PLAIN_BYTES_MAX, min(query.options.bytes_max, ANSWER_BYTES_MAX))


def _server_record(service: Service) -> Record:
    return Record(
        name_of(service.name),
        Kind.SERVER,
        TTL_S,
        target=name_of(service.target),
        port=service.port,
        is_unique=False,
        priority=service.priority,
        weight=service.weight,
    )


def _authority(apex: Name, server: Name, serial: int) -> Record:
    names = wire_name(server) + wire_name((_PERSON, *apex))
    value = names + struct.pack("!5I", serial, *_SECONDARIES_S, TTL_S)
    return Record(apex, Kind.AUTHORITY, TTL_S, value, is_unique=False)


def _serial(members: Sequence[tuple[str, bytes]], services: Sequence[Service]) -> int:
    """A number that is another one when the zone is. There is no order in it: nobody fetches the zone."""
    digest = blake2b(repr((members, services)).encode(), digest_size=4)
    return int.from_bytes(digest.digest(), "big")
