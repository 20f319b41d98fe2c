"""The kernel's filter on a relay's port: what has the shape of none of WireGuard's messages, and is no Bind, goes.

By type and size alone; and, in a flood, by what the pair knows of itself (`relay_guard`). What passes may still be
anything: a filter saves work, it decides nothing.
"""

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from clanmesh_protocol.binds import BIND_MAGIC
from clanmesh_protocol.limits import BIND_BYTES
from clanmeshd.filters import (
    ABOUT,
    AND,
    GO,
    INSTRUCTION,
    IS_AT_LEAST,
    IS_EQUAL,
    LOAD_HALF,
    LOAD_LENGTH,
    LOAD_WORD,
    PASS,
    RETURN,
)
from clanmeshd.overlay.relay_guard import Rules
from clanmeshd.overlay.wireguard_packets import (
    COOKIE,
    COOKIE_BYTES,
    DATA,
    DATA_BYTES_MIN,
    INITIATION,
    INITIATION_BYTES,
    RESPONSE,
    RESPONSE_BYTES,
)

_UDP_HEADER_BYTES: Final = 8  # a filter on a UDP socket sees it in front
_IP_HEADER: Final = 0xFFF0_0000  # linux/filter.h: SKF_NET_OFF, what is before the UDP header
_SOURCE_AT: Final = {4: 12, 16: 8}  # in an IP header, by the length of an address
_RANDOM: Final = ABOUT + 56  # SKF_AD_RANDOM
_KIND_AT, _INDEX_AT = _UDP_HEADER_BYTES, _UDP_HEADER_BYTES + 4  # of data
# One of so many passes of a kind that is thinned, a power of two: 3 % of a core in a flood of 50,000.
LET_THROUGH: Final = 32

_Test: TypeAlias = tuple[int, int, int]  # how to load, from where, what it must be


def port_filter() -> Iterator[bytes]:
    """The first word says the kind, big-endian as the filter reads it; then the length decides."""
    sizes = {INITIATION: INITIATION_BYTES, RESPONSE: RESPONSE_BYTES, COOKIE: COOKIE_BYTES, BIND_MAGIC: BIND_BYTES}
    yield INSTRUCTION.pack(LOAD_WORD, 0, 0, _UDP_HEADER_BYTES)
    for kind, size in sizes.items():
        yield from _judge(kind, IS_EQUAL, size)
    yield from _judge(DATA, IS_AT_LEAST, DATA_BYTES_MIN)
    yield INSTRUCTION.pack(RETURN, 0, 0, 0)


def guarded_filter(rules: Rules) -> Iterator[bytes]:
    """The same, for what passes these rules."""
    told: list[tuple[list[_Test], bool]] = [(_from(ip, port), True) for ip, port in sorted(rules.addresses)]
    if rules.guards_data:
        told += [([_is(DATA), (LOAD_WORD, _INDEX_AT, _word(each))], True) for each in sorted(rules.indexes)]
        told += [([_is(DATA)], False)]
    program = [instruction for tests, passes in told for instruction in _block(tests, passes=passes)]
    for kind in sorted(rules.thinned):
        program += _block([_is(kind)], passes=False, spares=LET_THROUGH)
    for at, (code, yes, no, k) in enumerate(program):
        yield INSTRUCTION.pack(code, yes, no, len(program) - at - 1 if code == GO else k)
    yield from port_filter()


def _word(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _is(kind: bytes) -> _Test:
    return LOAD_WORD, _KIND_AT, _word(kind)


def _from(ip: bytes, port: int) -> list[_Test]:
    """That it comes from there. (One of the other family may look as if; then it is passed for nothing.)"""
    at = _IP_HEADER + _SOURCE_AT[len(ip)]
    words = [(LOAD_WORD, at + part, _word(ip[part : part + 4])) for part in range(0, len(ip), 4)]
    return [(LOAD_HALF, 0, port), *words]


def _block(tests: Sequence[_Test], *, passes: bool, spares: int = 0) -> list[tuple[int, int, int, int]]:
    """What fits all tests goes on to the shapes, or goes; all else to the next block. `spares` one of so many."""
    chance = [(LOAD_WORD, 0, 0, _RANDOM), (AND, 0, 0, spares - 1), (IS_EQUAL, 1, 0, 0)] if spares else []
    end = [*chance, (GO, 0, 0, 0) if passes else (RETURN, 0, 0, 0)]
    made: list[tuple[int, int, int, int]] = end
    for load, at, value in reversed(tests):
        made = [(load, 0, 0, at), (IS_EQUAL, 0, len(made), value), *made]
    return made


def _judge(kind: bytes, comparison: int, size: int) -> Iterator[bytes]:
    """Packets of this kind are decided here, all others five instructions on."""
    yield INSTRUCTION.pack(IS_EQUAL, 0, 4, int.from_bytes(kind, "big"))
    yield INSTRUCTION.pack(LOAD_LENGTH, 0, 0, 0)
    yield INSTRUCTION.pack(comparison, 0, 1, size + _UDP_HEADER_BYTES)
    yield INSTRUCTION.pack(RETURN, 0, 0, PASS)
    yield INSTRUCTION.pack(RETURN, 0, 0, 0)
