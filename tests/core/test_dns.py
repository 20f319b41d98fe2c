"""The messages of mDNS: what is written is read back, what strangers write is read in bounds or refused."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clanmesh_protocol.errors import LimitError, MalformedError, ProtocolError
from clanmeshd.dns import NAME_BYTES_MAX, Kind, Question, Record
from clanmeshd.net.discovery import ENDPOINTS_PER_TAG_MAX, make_tag
from clanmeshd.net.dns import (
    ENTRIES_MAX,
    MESSAGE_BYTES_MAX,
    Message,
    read_message_untrusted,
    text_entries_untrusted,
    text_value,
    write_message,
)
from clanmeshd.net.services import (
    KNOWN_MAX,
    KNOWN_TOLD_MAX,
    MARK,
    SERVICE_TTL_S,
    SERVICE_TYPE,
    TOLD_MAX,
    Known,
    Service,
    Told,
    announcement,
    asks_for,
    goodbye,
    question,
    told_untrusted,
)

SERVICE = Service(
    "6f" * 8, 51871, (bytes([192, 0, 2, 1]), bytes([0x20, 1, 0xD, 0xB8] + [0] * 11 + [1])), "00" * 24
)
PACKET_BYTES_MAX = 1232  # what IPv6 carries everywhere, less its headers

labels = st.binary(min_size=1, max_size=63).map(bytes.lower)
dns_names = st.lists(labels, max_size=3).map(tuple)
ttls = st.integers(0, 0xFFFFFFFF)
records = st.one_of(
    st.builds(Record, dns_names, st.just(int(Kind.POINTER)), ttls, target=dns_names, is_unique=st.booleans()),
    st.builds(Record, dns_names, st.just(int(Kind.SERVER)), ttls, target=dns_names, port=st.integers(0, 0xFFFF)),
    st.builds(Record, dns_names, st.sampled_from([1, 16, 28, 47, 65535]), ttls, st.binary(max_size=300)),
)
messages = st.builds(
    Message,
    st.booleans(),
    st.lists(st.builds(Question, dns_names, st.integers(0, 0xFFFF)), max_size=3).map(tuple),
    st.lists(records, max_size=5).map(tuple),
)


@given(messages)
def test_what_is_written_is_read_back(message: Message) -> None:
    assert read_message_untrusted(write_message(message)) == message


@given(st.one_of(st.binary(max_size=100), messages.map(write_message)), st.data())
def test_whatever_strangers_write_is_read_or_refused(data: bytes, dice: st.DataObject) -> None:
    broken = bytearray(data)
    for _ in range(dice.draw(st.integers(0, 4)) if data else 0):
        broken[dice.draw(st.integers(0, len(data) - 1))] = dice.draw(st.integers(0, 255))
    del broken[dice.draw(st.integers(0, len(data))) :]
    try:
        message = read_message_untrusted(bytes(broken))
    except ProtocolError:
        return
    list(told_untrusted(message))
    asks_for(message, SERVICE)


def _head(questions: int = 0, answers: int = 0, flags: int = 0) -> bytes:
    return struct.pack("!6H", 0, flags, questions, answers, 0, 0)


@pytest.mark.parametrize(
    "name",
    [b"\xc0\x0c", b"\xc0\x0e", b"\x01a\xc0\x0c", b"\xc0", b"\x40" + b"a" * 64, b"\x80a", b"\x05a", b"\x3f" * 400],
    ids=["itself", "ahead", "a loop", "half a pointer", "long label", "odd label", "cut", "long name"],
)
def test_a_name_that_leads_nowhere_is_refused(name: bytes) -> None:
    with pytest.raises(MalformedError):
        read_message_untrusted(_head(questions=1) + name + b"\x00\x0c\x00\x01")


def test_a_name_that_goes_back_through_all_before_it_ends_where_names_end() -> None:
    label = b"\x01a"
    names = [label + b"\x00"]
    at = 12
    for _ in range(ENTRIES_MAX - 1):
        names.append(label + struct.pack("!H", 0xC000 | at))
        at += len(names[-2]) + 4
    body = [name + b"\x00\x0c\x00\x01" for name in names]
    longest = NAME_BYTES_MAX // len(label)
    questions = read_message_untrusted(_head(longest) + b"".join(body[:longest])).questions
    assert [len(each.name) for each in questions] == list(range(1, longest + 1))
    with pytest.raises(MalformedError, match="too long"):
        read_message_untrusted(_head(longest + 1) + b"".join(body[: longest + 1]))


@pytest.mark.parametrize(("count", "is_read"), [(16, True), (17, False)])
def test_a_row_of_pointers_is_no_name(count: int, is_read: bool) -> None:
    """Each to the one before it: names that begin at its end would be followed through all of it, each anew."""
    places = [12, *(17 + 6 * number for number in range(count - 1))]  # where the questions' names stand
    names = [b"\x00", *(struct.pack("!H", 0xC000 | at) for at in places)]
    data = _head(len(names)) + b"".join(name + b"\x00\x0c\x00\x01" for name in names)
    if is_read:
        assert len(read_message_untrusted(data).questions) == count + 1
    else:
        with pytest.raises(MalformedError, match="leads nowhere"):
            read_message_untrusted(data)


@pytest.mark.parametrize("cut", range(12, len(announcement(SERVICE))))
def test_no_part_of_an_announcement_is_one(cut: int) -> None:
    with pytest.raises(MalformedError):
        read_message_untrusted(announcement(SERVICE)[:cut])


def test_what_is_too_large_or_no_plain_question_is_refused() -> None:
    with pytest.raises(LimitError):
        read_message_untrusted(bytes(MESSAGE_BYTES_MAX + 1))
    with pytest.raises(LimitError):
        read_message_untrusted(_head(questions=ENTRIES_MAX + 1) + b"\x00\x00\x0c\x00\x01" * (ENTRIES_MAX + 1))
    for flags in (0x0800, 0x2800, 0x8003):
        with pytest.raises(MalformedError):
            read_message_untrusted(_head(flags=flags))


def test_a_service_is_told_whole_in_one_packet() -> None:
    full = Service("ff" * 8, 1, tuple(bytes([0x20, *[0] * 14, n]) for n in range(ENDPOINTS_PER_TAG_MAX)), "0" * 48)
    for service in (SERVICE, full):
        data = announcement(service)
        assert len(data) <= PACKET_BYTES_MAX
        assert MARK in data
        (told,) = told_untrusted(read_message_untrusted(data))
        assert told == Told(service.instance, service.tag.encode(), service.port, service.addresses, is_over=False)
    assert list(told_untrusted(read_message_untrusted(goodbye(SERVICE)))) == [
        Told(SERVICE.instance, None, 0, (), is_over=True)
    ]


def test_a_message_tells_of_few_services_with_few_addresses() -> None:
    records: list[Record] = []
    for number in range(30):
        name = (bytes([97 + number]), *SERVICE_TYPE)
        records.append(Record(SERVICE_TYPE, Kind.POINTER, 1, target=name))
        records.append(Record(name, Kind.SERVER, 1, target=(b"h",), port=1))
        records.append(Record((b"h",), Kind.A, 1, bytes([192, 0, 2, number])))
        records.append(Record((b"h",), Kind.AAAA, 1, b"short"))
    told = list(told_untrusted(Message(True, (), tuple(records))))
    assert len(told) == TOLD_MAX
    assert {len(each.addresses) for each in told} == {ENDPOINTS_PER_TAG_MAX}
    assert {len(address) for each in told for address in each.addresses} == {4}
    assert list(told_untrusted(Message(False, (), tuple(records)))) == []  # a question's known answers are no news


def test_who_knows_us_is_not_answered() -> None:
    def asks(data: bytes) -> bool:
        return asks_for(read_message_untrusted(data), SERVICE)

    assert asks(question([]))
    assert asks(question([((b"other", *SERVICE_TYPE), SERVICE_TTL_S)]))
    assert not asks(question([(SERVICE.instance, SERVICE_TTL_S // 2)]))
    assert asks(question([(SERVICE.instance, SERVICE_TTL_S // 2 - 1)]))  # it will be forgotten soon
    assert not asks(announcement(SERVICE))
    for name in (SERVICE.instance, SERVICE.host):
        assert asks(write_message(Message(False, (Question(name, Kind.ANY),), ())))
    assert not asks(write_message(Message(False, (Question((b"_ipp", b"_tcp", b"local"), Kind.POINTER),), ())))


def test_what_is_known_is_said_as_long_as_it_is_fresh() -> None:
    known = Known()
    for number in range(KNOWN_MAX + 10):
        name = (f"{number:016}".encode(), *SERVICE_TYPE)
        known.note(Told(name, make_tag(b"", bytes(8)).encode(), 1, (), is_over=False), 0.0)
    data = question(known.newest(1.0))
    message = read_message_untrusted(data)
    assert len(data) <= PACKET_BYTES_MAX
    assert len(message.records) == KNOWN_TOLD_MAX
    assert {record.ttl_s for record in message.records} == {SERVICE_TTL_S - 1}
    last = message.records[-1].target
    known.note(Told(last, None, 0, (), is_over=True), 2.0)
    assert last not in [name for name, _ in known.newest(2.0)]
    assert known.newest(SERVICE_TTL_S / 2 + 1) == []
    known.newest(SERVICE_TTL_S + 1)
    known.note(Told(last, None, 1, (), is_over=False), SERVICE_TTL_S + 1)  # there is room again
    assert [name for name, _ in known.newest(SERVICE_TTL_S + 1)] == [last]


def test_a_question_of_another_spares_ours_if_it_lets_answer_whom_we_do_not_know() -> None:
    known, strange = Known(), (b"strange", *SERVICE_TYPE)
    known.note(Told(SERVICE.instance, None, 1, (), is_over=False), 0.0)
    assert known.would_ask(read_message_untrusted(question([])))
    assert known.would_ask(read_message_untrusted(question([(SERVICE.instance, 4000)])))
    assert not known.would_ask(read_message_untrusted(question([(SERVICE.instance, 4000), (strange, 4000)])))
    assert not known.would_ask(read_message_untrusted(announcement(SERVICE)))
    other = write_message(Message(False, (Question((b"_ipp", b"_tcp", b"local"), Kind.POINTER),), ()))
    assert not known.would_ask(read_message_untrusted(other))


def test_entries_of_a_text_are_read_as_far_as_they_are_whole() -> None:
    assert text_entries_untrusted(text_value([b"t=1", b"T=2", b"x", b"y=a=b"])) == {
        b"t": b"1",
        b"x": b"",
        b"y": b"a=b",
    }
    assert text_entries_untrusted(b"\x03t=1\x09t=2") == {b"t": b"1"}
    assert text_entries_untrusted(b"\x00\x00\xff") == {b"": b""}
