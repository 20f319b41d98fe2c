"""What of the kernel's news is about us: our interface by its name, addresses and routes by how they begin."""

import struct

import pytest

from clanmeshd.overlay.drift import Drift
from clanmeshd.overlay.netlink import Message, attribute

PREFIX = b"\xfd\1\2\3\4\5"
OURS, THEIRS = PREFIX + bytes(10), b"\xfd\1\2\3\4\6" + bytes(10)
NEW_LINK, DEL_LINK, NEW_ADDRESS, DEL_ADDRESS, NEW_ROUTE, DEL_ROUTE, NEW_RULE = 16, 17, 20, 21, 24, 25, 32


def link(name: str) -> bytes:
    return struct.pack("=BxHiII", 0, 1, 7, 0, 0) + attribute(3, name.encode() + b"\0")


def address(ip: bytes) -> bytes:
    return struct.pack("=BBBBi", 10, 128, 0, 0, 7) + attribute(1, ip)


def route(to: bytes) -> bytes:
    return struct.pack("=BBBBBBBBI", 10, 48, 0, 0, 254, 4, 0, 1, 0) + attribute(1, to)


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        (NEW_LINK, link("clan0"), True),
        (DEL_LINK, link("clan0"), True),
        (DEL_LINK, link("clan01"), False),
        (DEL_ADDRESS, address(OURS), True),
        (NEW_ADDRESS, address(THEIRS), False),
        (DEL_ROUTE, route(OURS), True),
        (NEW_ROUTE, route(OURS), True),
        (NEW_ROUTE, route(THEIRS), False),
        (DEL_ROUTE, route(b""), False),
        (NEW_RULE, route(OURS), False),
    ],
)
def test_what_concerns_us(kind: int, body: bytes, expected: bool) -> None:
    assert Drift("clan0", lambda: PREFIX).concerns_us(Message(kind, 0, 0, body)) is expected


def test_without_a_clan_only_the_interface_does() -> None:
    drift = Drift("clan0", lambda: None)
    assert drift.concerns_us(Message(DEL_LINK, 0, 0, link("clan0")))
    assert not drift.concerns_us(Message(DEL_ROUTE, 0, 0, route(OURS)))
