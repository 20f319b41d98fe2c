"""What the kernel passes to a relay's port, on loopback: by shape, and by what a pair knows of itself."""

import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

import pytest

from clanmesh_protocol.binds import BIND_MAGIC
from clanmesh_protocol.endpoints import endpoint
from clanmesh_protocol.limits import BIND_BYTES
from clanmeshd.filters import attach_filter
from clanmeshd.overlay.relay_filter import LET_THROUGH, guarded_filter, port_filter
from clanmeshd.overlay.relay_guard import Rules
from clanmeshd.overlay.wireguard_packets import (
    COOKIE,
    COOKIE_BYTES,
    DATA,
    INITIATION,
    INITIATION_BYTES,
    RESPONSE,
    RESPONSE_BYTES,
)

INDEX, OTHER_INDEX = b"\x81\2\3\4", b"\5\6\7\x88"
SHAPES = {
    "initiation": INITIATION.ljust(INITIATION_BYTES, b"i"),
    "response": RESPONSE.ljust(RESPONSE_BYTES, b"r"),
    "cookie": COOKIE.ljust(COOKIE_BYTES, b"c"),
    "bind": BIND_MAGIC.ljust(BIND_BYTES, b"b"),
}
MANY = 3200
RUN = 32  # that fit into a small buffer
END = DATA + INDEX + b"e" * 30  # from an address of the pair: what comes before it has been decided


class Port:
    """A relay's, and two that send to it. The first one is where one of the pair is."""

    def __init__(self, stack: ExitStack, family: socket.AddressFamily) -> None:
        host = "127.0.0.1" if family == socket.AF_INET else "::1"
        self.socket = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.bind(("", 0))
        self.socket.settimeout(5.0)
        self.inside, self.outside = (stack.enter_context(socket.socket(family, socket.SOCK_DGRAM)) for _ in "ab")
        for each in (self.inside, self.outside):
            each.bind((host, 0))
            each.connect((host, self.socket.getsockname()[1]))

    def guard(self, *, thinned: Iterable[bytes] = (), guards_data: bool = False) -> None:
        """Set the filter of a flood."""
        at = endpoint(*self.inside.getsockname()[:2])
        rules = Rules(frozenset({at}), frozenset({INDEX, OTHER_INDEX}), frozenset(thinned), guards_data)
        attach_filter(self.socket, guarded_filter(rules))

    def passed(self, sender: socket.socket, packets: Iterable[bytes]) -> list[bytes]:
        """Those that come through."""
        came, waiting = list[bytes](), list(packets)
        while waiting:
            for packet in waiting[:RUN]:
                sender.send(packet)
            del waiting[:RUN]
            self.inside.send(END)  # packets on loopback keep their order
            while (got := self.socket.recv(65_536)) != END:
                came.append(got)
        return came


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def port(request: pytest.FixtureRequest) -> Iterator[Port]:
    with ExitStack() as stack:
        made = Port(stack, request.param)
        attach_filter(made.socket, port_filter())
        yield made


def test_shapes_pass_and_nothing_else(port: Port) -> None:
    """One byte more or less is another shape; data is of any size from a keepalive on."""
    right = [*SHAPES.values(), DATA.ljust(32, b"d"), DATA.ljust(1452, b"d")]
    wrong = [change for each in SHAPES.values() for change in (each[:-1], each + b"x")]
    wrong += [DATA.ljust(31, b"d"), b"", b"\4", b"\5\0\0\0".ljust(148, b"x"), os.urandom(3)]
    assert port.passed(port.outside, [*wrong, *right, *wrong]) == right


def test_guarded_data_passes_by_its_index_or_its_source(port: Port) -> None:
    """Handshakes pass as before."""
    port.guard(guards_data=True)
    known = [DATA + each + bytes(24) for each in (INDEX, OTHER_INDEX)]
    unknown = [DATA + each + bytes(24) for each in (bytes(4), INDEX[::-1], INDEX[:3] + b"\0")]
    short = DATA + INDEX + bytes(23)
    assert port.passed(port.outside, [*unknown, *known, short]) == known
    assert port.passed(port.inside, [*unknown, short]) == unknown
    assert port.passed(port.outside, SHAPES.values()) == list(SHAPES.values())


@pytest.mark.parametrize("name", SHAPES)
def test_of_a_thinned_kind_one_of_many_passes(port: Port, name: str) -> None:
    """From elsewhere; all from an address of the pair, and all of other kinds. The bounds are six deviations."""
    packet = SHAPES[name]
    port.guard(thinned=[packet[:4]])
    others = [other for other in SHAPES.values() if other != packet] + [DATA.ljust(40, b"d")]
    assert port.passed(port.outside, others) == others
    assert port.passed(port.inside, [packet] * 200) == [packet] * 200
    came = len(port.passed(port.outside, [packet] * MANY))
    assert MANY / LET_THROUGH - 60 < came < MANY / LET_THROUGH + 60


def test_what_has_a_wrong_shape_is_not_saved_by_its_source(port: Port) -> None:
    """The rules come before the shapes, not in their place."""
    port.guard(thinned=[INITIATION], guards_data=True)
    assert port.passed(port.inside, [os.urandom(100), SHAPES["cookie"] + b"x"]) == []
