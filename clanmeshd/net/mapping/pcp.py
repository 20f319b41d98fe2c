"""The Port Control Protocol (RFC 6887): its MAP request, and reading answers. Pure."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from clanmesh_protocol.errors import LimitError, MalformedError
from clanmeshd.net.mapping.terms import (
    LIFETIME_S,
    WHY_OFFLINE,
    Epoch,
    Forward,
    Grant,
    Link,
    Refused,
    Silent,
    Talk,
    bounded_lifetime_s,
    exchange,
)

PORT: Final = 5351  # RFC 6887, 19.1; NAT-PMP's as well
ANNOUNCEMENT_PORT: Final = 5350
MESSAGE_BYTES_MAX: Final = 1100  # RFC 6887, 7
VERSION: Final = 2

# RFC 6887, 8.1.1 begins with 3 s and doubles. It never gives up, which is for a server that is known to be there.
FIRST_WAITS_S: Final = (3.0, 6.0)
RENEW_WAITS_S: Final = (3.0, 6.0, 12.0)
REMOVE_WAITS_S: Final = (0.15,)  # a stop does not wait for a router

_REQUEST: Final = struct.Struct("!BBHI16s")  # version, opcode, reserved, lifetime, own address
_ANSWER: Final = struct.Struct("!BBBBII12x")  # version, opcode, reserved, result, lifetime, epoch
_MAP: Final = struct.Struct("!12sB3xHH16s")  # nonce, transport, port, port outside, address outside
_OPCODE_MAP: Final = 1
_IS_ANSWER: Final = 0x80
_UNSUPPORTED_VERSION: Final = 1
_MAPPED_PREFIX: Final = bytes(10) + b"\xff\xff"  # IPv4 in 16 bytes
_WITHDRAWING_S: Final = 1  # raised by the router to the least that it gives, for one that cannot withdraw
_VERSION_ANSWER_BYTES: Final = 4  # as much as one of NAT-PMP has in common: version, opcode, result

_REFUSALS: Final = {
    2: "the router does not permit it",
    4: "the router's PCP knows no mappings",
    7: WHY_OFFLINE,
    8: "the router has no room for it",
    9: "the router does not forward this kind of traffic",
    10: "this device has all the mappings that the router allows it",
    11: "the router cannot give that port",
    12: "there is another NAT between this device and the router",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a MAP request. `is_version`: the router speaks another version, and the rest says nothing."""

    is_version: bool
    result: int = 0
    lifetime_s: int = 0
    epoch_s: int = 0
    nonce: bytes = b""
    transport: int = 0
    port: int = 0
    external_port: int = 0
    external_ip: bytes = b""


def map_request(own: bytes, nonce: bytes, forward: Forward, external_port: int, lifetime_s: int) -> bytes:
    """Write a MAP request (RFC 6887, 7.1 and 11.1). A lifetime of 0 withdraws; then no port is suggested."""
    return _REQUEST.pack(VERSION, _OPCODE_MAP, 0, lifetime_s, _wide(own)) + _MAP.pack(
        nonce, forward.transport, forward.port, external_port, _wide(bytes(len(own)))
    )


def read_answer_untrusted(data: bytes) -> Answer:
    """Read an answer to a MAP request (RFC 6887, 8.3 and 11.4). Raises MalformedError or LimitError."""
    if len(data) > MESSAGE_BYTES_MAX:
        raise LimitError(f"a PCP message of more than {MESSAGE_BYTES_MAX} bytes")
    if len(data) < _VERSION_ANSWER_BYTES or not data[1] & _IS_ANSWER:
        raise MalformedError("no answer of PCP")
    if data[0] != VERSION:
        return Answer(is_version=True)
    if len(data) < _ANSWER.size or len(data) % 4:
        raise MalformedError(f"a PCP answer of {len(data)} bytes")
    _, opcode, _, result, lifetime_s, epoch_s = _ANSWER.unpack_from(data)
    if result == _UNSUPPORTED_VERSION:
        return Answer(is_version=True)
    if opcode != _IS_ANSWER | _OPCODE_MAP or len(data) < _ANSWER.size + _MAP.size:
        raise MalformedError("a PCP answer to something else")
    nonce, transport, port, external_port, external = _MAP.unpack_from(data, _ANSWER.size)
    if result == 0 and lifetime_s and external_port == 0:
        raise MalformedError("a PCP answer without a port outside")
    return Answer(False, result, lifetime_s, epoch_s, nonce, transport, port, external_port, _narrow(external))


def _wide(ip: bytes) -> bytes:
    return ip if len(ip) == 16 else _MAPPED_PREFIX + ip


def _narrow(ip: bytes) -> bytes:
    return ip[-4:] if ip.startswith(_MAPPED_PREFIX) else ip


class Pcp:
    """PCP with one router. With IPv6 it has its firewall let in what comes to our own address and port.

    The nonce of a forward must be the same after a restart of ours (RFC 6887, 11.2).
    """

    name = "PCP"

    def __init__(self, link: Link, nonce_of: Callable[[Forward], bytes]) -> None:
        self.external_ip: bytes | None = None
        self._own = link.own
        self._nonce_of = nonce_of
        self._epoch = Epoch()
        self._is_same = True  # the router went on as it was, at the last answer

    def add(self, forward: Forward, external_port: int) -> Talk[Grant]:
        """Map a port, or renew it."""
        waits_s = FIRST_WAITS_S if self.external_ip is None else RENEW_WAITS_S
        answer, now_s = yield from self._ask(forward, external_port, LIFETIME_S, waits_s)
        if answer.is_version:
            raise Silent
        if answer.result:
            raise Refused(_REFUSALS.get(answer.result, f"the router answers with PCP's error {answer.result}"))
        went_on = self._epoch.note(answer.epoch_s, now_s)
        self._is_same = went_on and self.external_ip in (None, answer.external_ip)
        self.external_ip = answer.external_ip
        return Grant(answer.external_port, bounded_lifetime_s(answer.lifetime_s))

    def remove(self, forward: Forward, external_port: int) -> Talk[None]:
        """Withdraw a mapping."""
        try:
            answer, _ = yield from self._ask(forward, 0, 0, REMOVE_WAITS_S)
            if answer.result:  # miniupnpd 2.3 does so with IPv6
                yield from self._ask(forward, external_port, _WITHDRAWING_S, REMOVE_WAITS_S)
        except Silent:
            return

    def is_unchanged(self, forward: Forward, external_port: int) -> Talk[bool]:
        """Renew one mapping, whose answer tells all: clock, address, port."""
        grant = yield from self.add(forward, external_port)
        return self._is_same and grant.external_port == external_port

    def _ask(
        self, forward: Forward, external_port: int, lifetime_s: int, waits_s: tuple[float, ...]
    ) -> Talk[tuple[Answer, float]]:
        nonce = self._nonce_of(forward)

        def read(data: bytes) -> Answer:
            answer = read_answer_untrusted(data)
            fits = (answer.nonce, answer.transport, answer.port) == (nonce, forward.transport, forward.port)
            if not fits and not answer.is_version:
                raise MalformedError("a PCP answer to another request")
            is_granted = fits and answer.result == 0 and lifetime_s
            if is_granted and (len(answer.external_ip) != len(self._own) or not answer.lifetime_s):
                raise MalformedError("a PCP answer with an address of another family")
            return answer

        request = map_request(self._own, nonce, forward, external_port, lifetime_s)
        return (yield from exchange(request, waits_s, read))
