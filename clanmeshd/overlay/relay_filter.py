"""The kernel's filter on a relay's port: what has the shape of none of WireGuard's messages, and is no Bind, goes.

By type and size alone. What passes may still be anything: a filter saves work, it decides nothing.
"""

from collections.abc import Iterator
from typing import Final

from clanmesh_protocol.binds import BIND_MAGIC
from clanmesh_protocol.limits import BIND_BYTES
from clanmeshd.overlay.sockets import INSTRUCTION
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
_LOAD_WORD, _LOAD_LENGTH, _IS_EQUAL, _IS_AT_LEAST, _RETURN = 0x20, 0x80, 0x15, 0x35, 0x06  # linux/bpf_common.h


def port_filter() -> Iterator[bytes]:
    """The first word says the kind, big-endian as the filter reads it; then the length decides."""
    sizes = {INITIATION: INITIATION_BYTES, RESPONSE: RESPONSE_BYTES, COOKIE: COOKIE_BYTES, BIND_MAGIC: BIND_BYTES}
    yield INSTRUCTION.pack(_LOAD_WORD, 0, 0, _UDP_HEADER_BYTES)
    for kind, size in sizes.items():
        yield from _judge(kind, _IS_EQUAL, size)
    yield from _judge(DATA, _IS_AT_LEAST, DATA_BYTES_MIN)
    yield INSTRUCTION.pack(_RETURN, 0, 0, 0)


def _judge(kind: bytes, comparison: int, size: int) -> Iterator[bytes]:
    """Packets of this kind are decided here, all others five instructions on."""
    yield INSTRUCTION.pack(_IS_EQUAL, 0, 4, int.from_bytes(kind, "big"))
    yield INSTRUCTION.pack(_LOAD_LENGTH, 0, 0, 0)
    yield INSTRUCTION.pack(comparison, 0, 1, size + _UDP_HEADER_BYTES)
    yield INSTRUCTION.pack(_RETURN, 0, 0, 0xFFFF)
    yield INSTRUCTION.pack(_RETURN, 0, 0, 0)
