"""NAT-PMP (RFC 6886): two short requests, and reading their answers. Pure.

It has no nonces: that an answer comes from the router's address is all that speaks for it.
"""

import struct
from dataclasses import dataclass
from typing import Final

from clanmesh_protocol.errors import MalformedError
from clanmeshd.net.mapping.terms import (
    LIFETIME_S,
    WHY_OFFLINE,
    Epoch,
    Forward,
    Grant,
    Refused,
    Silent,
    Talk,
    Transport,
    bounded_lifetime_s,
    exchange,
)

VERSION: Final = 0
# RFC 6886, 3.1 doubles from 0.25 s up to 64 s. Four tries are enough to find out, and a renewal is tried again.
WAITS_S: Final = (0.25, 0.5, 1.0, 2.0)
REMOVE_WAITS_S: Final = (0.15,)  # a stop does not wait for a router

_HEAD: Final = struct.Struct("!BBHI")  # version, opcode, result, epoch
_REQUEST: Final = struct.Struct("!BBHHHI")  # version, opcode, reserved, port, port outside, lifetime
_MAPPING: Final = struct.Struct("!HHI")  # port, port outside, lifetime
_ADDRESS_BYTES: Final = 4
_OPCODE_ADDRESS: Final = 0
_OPCODES: Final = {Transport.UDP: 1, Transport.TCP: 2}
_IS_ANSWER: Final = 0x80
_UNSUPPORTED_VERSION: Final = 1

_REFUSALS: Final = {
    2: "port mapping is switched off at the router",
    3: WHY_OFFLINE,
    4: "the router has no room for it",
    5: "the router's NAT-PMP does not know mappings",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to the question for the address (opcode 0) or for a mapping. Only a `result` of 0 has the rest."""

    opcode: int
    result: int
    epoch_s: int
    external_ip: bytes = b""
    port: int = 0
    external_port: int = 0
    lifetime_s: int = 0


def address_request() -> bytes:
    """Ask for the router's address outside (RFC 6886, 3.2)."""
    return bytes([VERSION, _OPCODE_ADDRESS])


def map_request(forward: Forward, external_port: int, lifetime_s: int) -> bytes:
    """Ask for a mapping (RFC 6886, 3.3). A lifetime and port of 0 withdraw it (3.4)."""
    return _REQUEST.pack(VERSION, _OPCODES[forward.transport], 0, forward.port, external_port, lifetime_s)


def read_answer_untrusted(data: bytes) -> Answer:
    """Read an answer. Raises MalformedError."""
    if len(data) < _HEAD.size:
        raise MalformedError(f"a NAT-PMP answer of {len(data)} bytes")
    version, opcode, result, epoch_s = _HEAD.unpack_from(data)
    opcode ^= _IS_ANSWER
    if version != VERSION or opcode not in (_OPCODE_ADDRESS, *_OPCODES.values()):
        raise MalformedError("no answer of NAT-PMP")
    body = data[_HEAD.size :]
    if result:
        return Answer(opcode, result, epoch_s)  # what follows is undefined, and left out by some
    if len(body) != (_ADDRESS_BYTES if opcode == _OPCODE_ADDRESS else _MAPPING.size):
        raise MalformedError(f"a NAT-PMP answer of {len(data)} bytes")
    if opcode == _OPCODE_ADDRESS:
        return Answer(opcode, result, epoch_s, external_ip=body)
    port, external_port, lifetime_s = _MAPPING.unpack(body)
    return Answer(opcode, result, epoch_s, b"", port, external_port, lifetime_s)


class NatPmp:
    """NAT-PMP with one router."""

    name = "NAT-PMP"

    def __init__(self) -> None:
        self.external_ip: bytes | None = None
        self._epoch = Epoch()

    def add(self, forward: Forward, external_port: int) -> Talk[Grant]:
        """Map a port, or renew it. The first time the router's address is asked for before."""
        if self.external_ip is None:
            yield from self._look()
        request = map_request(forward, external_port, LIFETIME_S)
        answer = yield from self._ask(request, _OPCODES[forward.transport], forward.port, WAITS_S)
        if answer.external_port == 0:
            raise Refused("the router gave no port")
        return Grant(answer.external_port, bounded_lifetime_s(answer.lifetime_s))

    def remove(self, forward: Forward, external_port: int) -> Talk[None]:
        """Withdraw a mapping."""
        request = map_request(forward, 0, 0)
        try:
            yield from self._ask(request, _OPCODES[forward.transport], forward.port, REMOVE_WAITS_S)
        except (Silent, Refused):
            return

    def is_unchanged(self, forward: Forward, external_port: int) -> Talk[bool]:
        """Whether clock and address go on as they were."""
        return (yield from self._look())

    def _look(self) -> Talk[bool]:
        def read(data: bytes) -> Answer:
            return _fitting(read_answer_untrusted(data), _OPCODE_ADDRESS, 0)

        answer, now_s = yield from exchange(address_request(), WAITS_S, read)
        _insist(answer)
        went_on = self._epoch.note(answer.epoch_s, now_s)
        before, self.external_ip = self.external_ip, answer.external_ip
        return went_on and before in (None, self.external_ip)

    def _ask(self, request: bytes, opcode: int, port: int, waits_s: tuple[float, ...]) -> Talk[Answer]:
        def read(data: bytes) -> Answer:
            return _fitting(read_answer_untrusted(data), opcode, port)

        answer, _ = yield from exchange(request, waits_s, read)
        _insist(answer)
        return answer


def _fitting(answer: Answer, opcode: int, port: int) -> Answer:
    if answer.opcode != opcode or (answer.result == 0 and answer.port != port):
        raise MalformedError("a NAT-PMP answer to another request")
    return answer


def _insist(answer: Answer) -> None:
    """Raise what a result that is no success means."""
    if answer.result == _UNSUPPORTED_VERSION:
        raise Silent
    if answer.result:
        raise Refused(_REFUSALS.get(answer.result, f"the router answers with NAT-PMP's error {answer.result}"))
