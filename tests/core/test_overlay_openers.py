"""How the TTL of openers is found: by routers that say where one died, and by nothing that a liar could use."""

import struct

import pytest

from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmesh_protocol.keys import NodeId
from clanmeshd.overlay.openers import (
    OPENERS_MAX,
    TTL_MAX,
    TTL_MIN,
    Died,
    Openers,
    read_died_untrusted,
)

NODE = NodeId(bytes(32))
THERE = endpoint("203.0.113.7", 51_872)
CARRIER, INTERNET = bytes([100, 64, 1, 1]), bytes([9, 9, 9, 9])
PORT = 51_872


def opened(*destinations: Endpoint) -> Openers:
    made = Openers()
    for each in destinations:
        made.sent(NODE, each)
    return made


def test_a_router_of_the_own_side_makes_openers_go_further() -> None:
    openers = opened(THERE)
    assert openers.ttl == TTL_MIN
    assert openers.died(Died(CARRIER, THERE)) == NODE
    assert openers.ttl == TTL_MIN + 1


def test_a_router_of_the_internet_is_where_they_shall_die() -> None:
    openers = opened(THERE)
    assert openers.died(Died(INTERNET, THERE)) is None
    assert openers.ttl == TTL_MIN


def test_all_openers_of_a_search_are_repeated_and_the_ttl_grows_once_for_them() -> None:
    others = [endpoint("203.0.113.8", port) for port in (1, 2, 3)]
    openers = opened(*others)
    assert [openers.died(Died(CARRIER, each)) for each in others] == [NODE] * 3
    assert openers.ttl == TTL_MIN + 1


def test_the_same_word_twice_repeats_nothing_once_the_next_has_left() -> None:
    openers = opened(THERE)
    for ttl in range(TTL_MIN + 1, TTL_MAX + 1):
        assert openers.died(Died(CARRIER, THERE)) == NODE
        openers.sent(NODE, THERE)
        assert openers.ttl == ttl
    assert openers.died(Died(CARRIER, THERE)) is None
    assert openers.ttl == TTL_MAX


def test_words_about_what_was_not_sent_change_nothing() -> None:
    openers = opened(THERE)
    assert openers.died(Died(CARRIER, THERE._replace(port=1))) is None
    assert openers.ttl == TTL_MIN


def test_another_network_begins_anew() -> None:
    openers = opened(THERE)
    openers.died(Died(CARRIER, THERE))
    openers.moved()
    assert openers.ttl == TTL_MIN
    assert openers.died(Died(CARRIER, THERE)) is None


def test_the_newest_are_remembered_and_no_more() -> None:
    many = [endpoint("203.0.113.8", port) for port in range(1, OPENERS_MAX + 2)]
    openers = opened(*many)
    assert openers.died(Died(CARRIER, many[0])) is None
    assert openers.died(Died(CARRIER, many[1])) == NODE


def ipv4(protocol: int, source: bytes, destination: bytes, payload: bytes, options: bytes = b"") -> bytes:
    first = 0x40 | (20 + len(options)) // 4
    head = struct.pack("!BBHHHBBH4s4s", first, 0, 0, 0, 0, 64, protocol, 0, source, destination)
    return head + options + payload


def said(
    kind: int = 11, code: int = 0, *, source_port: int = PORT, protocol: int = 17, options: bytes = b""
) -> bytes:
    quoted = ipv4(protocol, bytes([10, 0, 0, 2]), THERE.ip, struct.pack("!HHHH", source_port, THERE.port, 71, 0))
    return ipv4(1, CARRIER, bytes([10, 0, 0, 2]), bytes([kind, code]) + bytes(6) + quoted, options)


def test_a_router_s_word_is_read() -> None:
    assert read_died_untrusted(said(), PORT) == Died(CARRIER, THERE)
    assert read_died_untrusted(said(options=bytes(8)), PORT) == Died(CARRIER, THERE)


@pytest.mark.parametrize(
    "packet",
    [
        said(3),
        said(11, 1),
        said(source_port=1),
        said(protocol=6),
        b"",
        b"\x45",
        said()[:-5],
        said()[:24],
        b"\xff" * 200,
    ],
)
def test_another_s_word_is_not(packet: bytes) -> None:
    assert read_died_untrusted(packet, PORT) is None


def test_every_part_of_one_is_read_or_not_and_nothing_else_happens() -> None:
    for end in range(len(said())):
        assert read_died_untrusted(said()[:end], PORT) in (None, Died(CARRIER, THERE))
