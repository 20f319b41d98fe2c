"""What devices of a clan say and ask on a LAN, as DNS messages (RFC 6762, RFC 6763). Pure.

A service is told whole, in one message: that there is one, where, its tag, and its addresses. So each message can
be judged by itself, and nothing that strangers say is kept but the names that need not be told us again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from clanmeshd.dns import Kind, Name, Question, Record
from clanmeshd.net.discovery import ENDPOINTS_PER_TAG_MAX
from clanmeshd.net.dns import Message, text_entries_untrusted, text_value, write_message

SERVICE_TYPE: Final = (b"_clanmesh", b"_udp", b"local")
MARK: Final = bytes([len(SERVICE_TYPE[0])]) + SERVICE_TYPE[0]  # in each message that can concern us
SERVICE_TTL_S: Final = 4500  # RFC 6762, 10: of what names no host
HOST_TTL_S: Final = 120  # and of what does
# Of answers that are known already: the message stays below 1280 bytes, which IPv6 carries everywhere.
KNOWN_TOLD_MAX: Final = 32
KNOWN_MAX: Final = 1024  # names that are remembered; what is new after that is told again
TOLD_MAX: Final = 8  # services of one message; ours tell of one
_TAG: Final = b"t"
_WHO: Final = (Kind.POINTER, Kind.ANY)
_ADDRESS_BYTES: Final[Mapping[int, int]] = {Kind.A: 4, Kind.AAAA: 16}


@dataclass(frozen=True, slots=True)
class Service:
    """What we announce: a random name, where we listen, and the tag."""

    name: str  # one DNS label
    port: int
    addresses: tuple[bytes, ...]
    tag: str

    @property
    def instance(self) -> Name:
        """The service's own name."""
        return (self.name.encode(), *SERVICE_TYPE)

    @property
    def host(self) -> Name:
        """The machine's name: as random, never its own."""
        return (self.name.encode(), b"local")


@dataclass(frozen=True, slots=True)
class Told:
    """What a stranger said of a service. `is_over`: that it goes; then the rest is empty."""

    name: Name
    tag: bytes | None
    port: int
    addresses: tuple[bytes, ...]
    is_over: bool


def announcement(service: Service) -> bytes:
    """All about a service, as an answer."""
    records = [
        Record(SERVICE_TYPE, Kind.POINTER, SERVICE_TTL_S, target=service.instance, is_unique=False),
        Record(service.instance, Kind.SERVER, HOST_TTL_S, target=service.host, port=service.port),
        Record(service.instance, Kind.TEXT, SERVICE_TTL_S, text_value([_TAG + b"=" + service.tag.encode()])),
    ]
    for address in service.addresses:
        kind = Kind.A if len(address) == 4 else Kind.AAAA
        records.append(Record(service.host, kind, HOST_TTL_S, address))
    return write_message(Message(True, (), tuple(records)))


def goodbye(service: Service) -> bytes:
    """That a service goes (RFC 6762, 10.1)."""
    gone = Record(SERVICE_TYPE, Kind.POINTER, 0, target=service.instance, is_unique=False)
    return write_message(Message(True, (), (gone,)))


def question(known: Iterable[tuple[Name, int]]) -> bytes:
    """Who is there, except for those: names, and how many seconds longer each is known."""
    answers = [Record(SERVICE_TYPE, Kind.POINTER, left_s, target=name, is_unique=False) for name, left_s in known]
    return write_message(Message(False, (Question(SERVICE_TYPE, Kind.POINTER),), tuple(answers)))


def asks_for(message: Message, service: Service) -> bool:
    """Whether a message asks for what we have, and does not know it already (RFC 6762, 7.1)."""
    if message.is_response:
        return False
    if any(asked.name in (service.instance, service.host) for asked in message.questions):
        return True
    return _asks_who(message) and not any(
        _points(record) and record.target == service.instance and record.ttl_s >= SERVICE_TTL_S / 2
        for record in message.records
    )


def _asks_who(message: Message) -> bool:
    return any(asked.name == SERVICE_TYPE and asked.kind in _WHO for asked in message.questions)


def told_untrusted(message: Message) -> Iterator[Told]:
    """The services that an answer tells whole, and those that it says goodbye for; each once."""
    if not message.is_response:
        return
    names = dict.fromkeys(record.target for record in message.records if _points(record))
    for name in islice(names, TOLD_MAX):
        pointers = [record for record in message.records if _points(record) and record.target == name]
        if not any(pointer.ttl_s for pointer in pointers):
            yield Told(name, None, 0, (), is_over=True)
        elif server := _first(message, name, Kind.SERVER):
            text = _first(message, name, Kind.TEXT)
            tag = text_entries_untrusted(text.value).get(_TAG) if text is not None else None
            yield Told(name, tag, server.port, _addresses(message, server.target), is_over=False)


def _points(record: Record) -> bool:
    return record.kind == Kind.POINTER and record.name == SERVICE_TYPE and record.target[1:] == SERVICE_TYPE


def _first(message: Message, name: Name, kind: Kind) -> Record | None:
    return next((record for record in message.records if record.kind == kind and record.name == name), None)


def _addresses(message: Message, host: Name) -> tuple[bytes, ...]:
    found = [
        record.value
        for record in message.records
        if record.name == host and _ADDRESS_BYTES.get(record.kind) == len(record.value)
    ]
    return tuple(found[:ENDPOINTS_PER_TAG_MAX])


class Known:
    """Which services were heard lately, ours to say when we ask, so that they need not answer."""

    def __init__(self) -> None:
        self._until_s: dict[Name, float] = {}  # the one that was heard longest ago first

    def note(self, told: Told, now_s: float) -> None:
        """A service was heard, or said goodbye."""
        self._until_s.pop(told.name, None)
        if not told.is_over and len(self._until_s) < KNOWN_MAX:
            self._until_s[told.name] = now_s + SERVICE_TTL_S

    def would_ask(self, message: Message) -> bool:
        """Whether a message asks who is there and knows nobody that we do not know (RFC 6762, 7.3)."""
        is_question = not message.is_response and _asks_who(message)
        return is_question and all(record.target in self._until_s for record in message.records)

    def newest(self, now_s: float) -> Sequence[tuple[Name, int]]:
        """Those that are known for half of their time yet, and for how long; what is over is forgotten."""
        self._until_s = {name: until_s for name, until_s in self._until_s.items() if until_s > now_s}
        fresh = [(name, int(until_s - now_s)) for name, until_s in self._until_s.items()]
        return [(name, left_s) for name, left_s in fresh if left_s >= SERVICE_TTL_S / 2][-KNOWN_TOLD_MAX:]
