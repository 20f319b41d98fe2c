"""The zone of a clan, by the bytes: what is asked and answered, and what is refused, whoever asks."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clanmesh_protocol.errors import MalformedError, ProtocolError
from clanmeshd.dns import HEADER, Kind, Name, Reader, Record
from clanmeshd.naming.messages import ANSWER_BYTES_MAX, PLAIN_BYTES_MAX, QUERY_BYTES_MAX, read_query_untrusted
from clanmeshd.naming.zone import SERVICES_PER_NAME_MAX, TTL_S, Service, Zone, name_of, reverse_name

PREFIX = bytes.fromhex("fd0102030405")
NAS, TV = (PREFIX + bytes(9) + bytes([number]) for number in (1, 2))
MEMBERS = [("nas.family.internal", NAS), ("tv.family.internal", TV)]
WEB = Service("_http._tcp.family.internal", "nas.family.internal", 8080, priority=1, weight=2)
ZONE = Zone("family.internal", MEMBERS, own=TV, prefix=PREFIX, services=[WEB])

OK, MALFORMED, NO_SUCH_NAME, NOT_IMPLEMENTED, REFUSED, BAD_VERSION = 0, 1, 3, 4, 5, 16
NAMED = "036e61730666616d696c7908696e7465726e616c00"  # nas.family.internal


def ask(
    name: str | Name, kind: int, *, class_: int = 1, number: int = 7, flags: int = 0x0100, options: bytes = b""
) -> bytes:
    """A question as a resolver would write it."""
    labels = name if isinstance(name, tuple) else name_of(name) if name else ()
    written = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    head = HEADER.pack(number, flags, 1, 0, 0, 1 if options else 0)
    return head + written + struct.pack("!HH", kind, class_) + options


def edns(size: int, *, version: int = 0, flags: int = 0) -> bytes:
    """Options of a question."""
    return struct.pack("!BHHIH", 0, 41, size, version << 16 | flags, 0)


def read(answer: bytes | None) -> tuple[int, list[Record], list[Record]]:
    """Code, answers and authority of an answer, whose form is checked to its end."""
    assert answer is not None
    number, flags, questions, answers, authority, extras = HEADER.unpack_from(answer)
    assert number == 7
    assert flags & 0x8000
    assert not flags & 0x0080, "there is no recursion"
    reader = Reader(answer, HEADER.size)
    for _ in range(questions):
        reader.question()
    found = [[reader.record() for _ in range(count)] for count in (answers, authority)]
    code = flags & 0x000F
    for _ in range(extras):
        head = reader.head()
        assert (head.name, head.kind, head.class_) == ((), Kind.OPTIONS, ANSWER_BYTES_MAX)
        code |= head.ttl_s >> 24 << 4
        reader.at = head.end
    assert reader.at == len(answer)
    return code, found[0], found[1]


def respond(data: bytes) -> tuple[int, list[Record], list[Record]]:
    """Ask the zone."""
    return read(ZONE.respond(data))


def soa_of(records: list[Record]) -> Name:
    """The zone whose beginning is told, which says for how long the answer holds."""
    (record,) = records
    assert (record.kind, record.ttl_s) == (Kind.AUTHORITY, TTL_S)
    assert struct.unpack("!5I", record.value[-20:])[4] == TTL_S
    return record.name


def test_an_address_by_the_bytes() -> None:
    """A whole exchange, as a resolver with options has it."""
    question = bytes.fromhex(f"0007 0100 0001 0000 0000 0001 {NAMED} 001c 0001 00 0029 04d0 00000000 0000")
    wanted = bytes.fromhex(
        f"0007 8500 0001 0001 0000 0001 {NAMED} 001c 0001"
        "c00c 001c 0001 00000001 0010 fd010203040500000000000000000001"
        "00 0029 04d0 00000000 0000"
    )
    assert ZONE.respond(question) == wanted


def test_a_name_of_an_address_by_the_bytes() -> None:
    """And without options."""
    name = "".join(f"01{ord(digit):02x}" for digit in reversed(NAS.hex())) + "03697036046172706100"
    question = bytes.fromhex(f"0007 0000 0001 0000 0000 0000 {name} 000c 0001")
    wanted = bytes.fromhex(f"0007 8400 0001 0001 0000 0000 {name} 000c 0001 c00c 000c 0001 00000001 0015 {NAMED}")
    assert ZONE.respond(question) == wanted


def test_what_stands_at_a_name() -> None:
    """Addresses both ways, a service, the beginning of either zone."""
    code, answers, _ = respond(ask("nas.family.internal", Kind.AAAA))
    assert (code, [record.value for record in answers]) == (OK, [NAS])
    code, answers, _ = respond(ask(reverse_name(TV), Kind.POINTER))
    assert (code, [record.target for record in answers]) == (OK, [name_of("tv.family.internal")])
    code, (server,), _ = respond(ask("_http._tcp.family.internal", Kind.SERVER))
    assert (server.priority, server.weight, server.port) == (1, 2, 8080)
    assert server.target == name_of("nas.family.internal")
    for apex in (name_of("family.internal"), reverse_name(PREFIX)):
        code, answers, _ = respond(ask(apex, Kind.AUTHORITY))
        assert (code, soa_of(answers)) == (OK, apex)
        code, answers, _ = respond(ask(apex, Kind.NAME_SERVER))
        assert [record.target for record in answers] == [name_of("tv.family.internal")]  # who answers
        code, answers, _ = respond(ask(apex, Kind.ANY))
        assert sorted(record.kind for record in answers) == [Kind.NAME_SERVER, Kind.AUTHORITY]


def test_the_letters_of_a_question_are_repeated() -> None:
    """Resolvers hide a nonce in them; the answer is found nevertheless."""
    asked = ask((b"nAs", b"FAMILY", b"internaL"), Kind.AAAA)
    answer = ZONE.respond(asked)
    assert answer is not None
    assert answer[HEADER.size : len(asked)] == asked[HEADER.size :]
    assert [record.value for record in read(answer)[1]] == [NAS]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("nas.family.internal", Kind.A),
        ("nas.family.internal", Kind.TEXT),
        ("family.internal", Kind.AAAA),
        ("_tcp.family.internal", Kind.SERVER),  # nothing stands there itself
        ("_http._tcp.family.internal", Kind.AAAA),
        (reverse_name(NAS), Kind.AAAA),
        (reverse_name(PREFIX + bytes(1)), Kind.POINTER),
        (reverse_name(PREFIX), Kind.POINTER),
    ],
)
def test_a_name_without_such_a_record_is_there(name: str | Name, kind: int) -> None:
    """An empty answer, not the one that says that nothing is below either."""
    code, answers, authority = respond(ask(name, kind))
    assert (code, answers) == (OK, [])
    assert soa_of(authority) in (ZONE.forward, ZONE.reverse)


@pytest.mark.parametrize(
    "name",
    [
        "printer.family.internal",
        "x.nas.family.internal",
        "na.family.internal",
        "_udp.family.internal",
        reverse_name(PREFIX + bytes(9) + b"\x03"),
        (b"1", *reverse_name(NAS)),
        (b"x", *reverse_name(PREFIX)),
    ],
)
def test_a_name_that_nobody_has_is_not_there(name: str | Name) -> None:
    """Said so, with how long that holds."""
    code, answers, authority = respond(ask(name, Kind.ANY))
    assert (code, answers) == (NO_SUCH_NAME, [])
    assert soa_of(authority) in (ZONE.forward, ZONE.reverse)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "internal",
        "example.org",
        "nas.shop.internal",
        "xfamily.internal",
        "family.internal.org",
        reverse_name(PREFIX[:-1]),
        reverse_name(bytes.fromhex("fd0102030406")),
        reverse_name(bytes([0x20, 1, 0xD, 0xB8] + [0] * 12)),
    ],
)
def test_nothing_else_is_answered(name: str | Name) -> None:
    """Least of all by asking others."""
    assert respond(ask(name, Kind.AAAA)) == (REFUSED, [], [])


def test_a_question_of_another_kind_or_class_is_refused() -> None:
    """Whole zones are given to nobody; what is neither asks nor is understood."""
    for kind in (251, 252):  # IXFR, AXFR
        assert respond(ask("family.internal", kind)) == (REFUSED, [], [])
    for class_ in (3, 254, 255):
        assert respond(ask("nas.family.internal", Kind.AAAA, class_=class_)) == (REFUSED, [], [])
    for operation in (0x0800, 0x2000, 0x2800):  # an inverse question, a notification, an update
        assert respond(ask("family.internal", 6, flags=operation)) == (NOT_IMPLEMENTED, [], [])
    assert respond(ask("nas.family.internal", Kind.AAAA, options=edns(1232, version=1)))[0] == BAD_VERSION


def test_options_are_answered_by_options() -> None:
    """With the same wish for signatures, of which there are none."""
    answer = ZONE.respond(ask("nas.family.internal", Kind.AAAA, options=edns(4096, flags=0x8000)))
    assert answer is not None
    assert answer.endswith(struct.pack("!BHHIH", 0, 41, ANSWER_BYTES_MAX, 0x8000, 0))


def test_what_asks_nothing_is_not_answered() -> None:
    """Or two resolvers would talk for ever; and a scrap has no number to answer to."""
    whole = ask("nas.family.internal", Kind.AAAA)
    assert ZONE.respond(ask("nas.family.internal", Kind.AAAA, flags=0x8000)) is None
    for data in (b"", whole[: HEADER.size - 1], whole + bytes(QUERY_BYTES_MAX)):
        assert ZONE.respond(data) is None


@pytest.mark.parametrize("cut", range(HEADER.size, len(ask("nas.family.internal", 28, options=edns(1232)))))
def test_a_part_of_a_question_is_malformed(cut: int) -> None:
    """And said to be, in twelve bytes."""
    data = ask("nas.family.internal", Kind.AAAA, options=edns(1232))[:cut]
    with pytest.raises(MalformedError):
        read_query_untrusted(data)
    assert ZONE.respond(data) == HEADER.pack(7, 0x8101, 0, 0, 0, 0)


@pytest.mark.parametrize(
    "data",
    [
        ask("nas.family.internal", Kind.AAAA) + b"\0",
        HEADER.pack(7, 0, 2, 0, 0, 0) + ask("a", 1)[HEADER.size :] * 2,
        HEADER.pack(7, 0, 0, 0, 0, 0),
        HEADER.pack(7, 0, 1, 1, 0, 0) + ask("a", 1)[HEADER.size :],
        HEADER.pack(7, 0, 1, 0, 0, 2) + ask("a", 1)[HEADER.size :] + edns(512) * 2,
        HEADER.pack(7, 0, 1, 0, 0, 5) + ask("a", 1)[HEADER.size :] + edns(512),
        HEADER.pack(7, 0, 1, 0, 0, 0) + b"\xc0\x0b" + struct.pack("!HH", 1, 1),  # a name in the header
        HEADER.pack(7, 0, 1, 0, 0, 0) + b"\x40" + b"a" * 64 + b"\0" + struct.pack("!HH", 1, 1),
    ],
    ids=["behind", "two", "none", "an answer", "options twice", "many", "pointer", "long label"],
)
def test_what_is_no_plain_question_is_malformed(data: bytes) -> None:
    """Each in its own way."""
    assert respond(data) == (MALFORMED, [], [])


def test_what_does_not_fit_is_left_out_and_said_to_be() -> None:
    """Over UDP without options there are 512 bytes; a stream, or options, have room for all."""
    services = [
        Service("_x._tcp.family.internal", f"{'n' * 31}{number}.{'c' * 32}.internal", number)
        for number in range(SERVICES_PER_NAME_MAX + 1)
    ]
    zone = Zone("family.internal", MEMBERS, own=NAS, prefix=PREFIX, services=services)
    plain = zone.respond(ask("_x._tcp.family.internal", Kind.SERVER))
    assert plain is not None
    assert len(plain) <= PLAIN_BYTES_MAX
    assert HEADER.unpack_from(plain)[1] & 0x0200
    assert read(plain)[1] == []
    asked = ask("_x._tcp.family.internal", Kind.SERVER)
    roomy = ask("_x._tcp.family.internal", Kind.SERVER, options=edns(4096))
    for answer in (zone.respond(asked, is_stream=True), zone.respond(roomy)):
        assert answer is not None
        assert PLAIN_BYTES_MAX < len(answer) <= ANSWER_BYTES_MAX
        assert len(read(answer)[1]) == SERVICES_PER_NAME_MAX
    small = zone.respond(ask("nas.family.internal", Kind.AAAA, options=edns(0)))  # RFC 6891: as good as 512
    assert len(read(small)[1]) == 1


def test_a_device_that_is_no_member_any_more_answers_still() -> None:
    """Its zone begins at itself, with no name of its own."""
    zone = Zone("family.internal", MEMBERS, own=PREFIX + bytes(10), prefix=PREFIX)
    assert [each.target for each in read(zone.respond(ask("family.internal", 2)))[1]] == [zone.forward]


def test_the_serial_is_another_one_when_the_zone_is() -> None:
    """And the same for the same, on every device whose name is told alike."""

    def serial(members: list[tuple[str, bytes]]) -> bytes:
        zone = Zone("family.internal", members, own=NAS, prefix=PREFIX)
        return read(zone.respond(ask("family.internal", Kind.AUTHORITY)))[1][0].value[-20:-16]

    assert serial(MEMBERS) == serial(MEMBERS[::-1])
    assert serial(MEMBERS) != serial([MEMBERS[0], ("cellar.family.internal", TV)])


questions = st.builds(
    ask,
    st.sampled_from([ZONE.forward, ZONE.reverse, reverse_name(NAS), name_of("nas.family.internal"), ()]),
    st.sampled_from([*map(int, Kind), 252]),
    class_=st.sampled_from([1, 255]),
    flags=st.sampled_from([0, 0x0100, 0x0800, 0x8000]),
    options=st.sampled_from([b"", edns(100), edns(65535)]),
)


@given(st.one_of(st.binary(max_size=60), questions), st.data())
def test_whatever_comes_is_answered_in_bounds_or_not_at_all(data: bytes, dice: st.DataObject) -> None:
    """Damaged questions among it: no answer is larger than it may be, and each can be read."""
    broken = bytearray(data)
    for _ in range(dice.draw(st.integers(0, 3)) if data else 0):
        broken[dice.draw(st.integers(0, len(data) - 1))] = dice.draw(st.integers(0, 255))
    del broken[dice.draw(st.integers(0, len(data))) :]
    try:
        query = read_query_untrusted(bytes(broken))
    except (ProtocolError, struct.error):
        query = None
    answer = ZONE.respond(bytes(broken))
    if answer is not None:
        bound = PLAIN_BYTES_MAX if query is None or query.options is None else ANSWER_BYTES_MAX
        assert len(answer) <= bound
        assert answer[:2] == bytes(broken[:2])
        assert HEADER.unpack_from(answer)[1] & 0x8000
    else:
        assert len(broken) < HEADER.size or broken[2] & 0x80
