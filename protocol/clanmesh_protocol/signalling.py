"""How two devices behind routers learn where to meet: what a peer sees of an address, and calls that others carry.

SEEN is a hint by one member, CALL is signed by the caller, since it comes by way of a third. Both are frames of a
datagram; `messages` puts them into one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import ClassVar, Final, NamedTuple

from clanmesh_protocol.endpoints import MAPPED_PREFIX, Endpoint
from clanmesh_protocol.errors import LimitError, MalformedError
from clanmesh_protocol.keys import ClanId, NodeId, sign_detached, verify_detached_untrusted
from clanmesh_protocol.limits import CALL_CANDIDATES_MAX, KEY_BYTES, SIGNATURE_BYTES

CALL_CONTEXT: Final = b"clanmesh/call/1\0"
_CALL_HEAD_BYTES: Final = 2 * KEY_BYTES + 8 + 3  # from, to, number, kind, NAT, how many candidates
_ADDRESS_SIZES: Final = (4, 16)


class CallKind(IntEnum):
    """What a call asks of its receiver."""

    ASK = 1  # open your router towards these, and say where I may try you
    OPENED = 2  # the answer: I have opened towards yours
    RELAY = 3  # send to me by this relay until something better works
    BYE = 4  # I use no relay for this pair any more


class NatKind(IntEnum):
    """What stands between a device and the others, as it knows from what several of them see."""

    UNKNOWN = 0  # fewer than two have said what they see
    NONE = 1  # an address of its own is what they see
    EASY = 2  # all of them see the same
    HARD = 3  # different ones see different ports: what one sees is no use to another
    BLOCKED = 4  # no UDP passes


class CandidateKind(IntEnum):
    """Where a candidate comes from."""

    LAN = 1  # an address of the device itself
    SEEN = 2  # what others see
    MAPPED = 3  # the router promised it
    RELAY = 4  # a member that passes packets on


class Candidate(NamedTuple):
    """Where WireGuard may be reached. `kind` is a CandidateKind, or a later version's."""

    kind: int
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class Seen:
    """Where the sender sees the receiver: its control port, and its WireGuard port. None: not known, or listed."""

    TYPE: ClassVar[int] = 10
    control: Endpoint | None
    tunnel: Endpoint | None

    def encode(self) -> bytes:
        """The body of the frame."""
        return _address(self.control) + _address(self.tunnel)

    @classmethod
    def read_untrusted(cls, body: bytes) -> "Seen":
        """Read the body of the frame."""
        control, rest = _read_address(body, "seen")
        tunnel, rest = _read_address(rest, "seen")
        if rest:
            raise MalformedError(f"seen: {len(rest)} bytes behind the end")
        return cls(control, tunnel)


@dataclass(frozen=True, slots=True)
class Call:
    """A word from one member to another, by way of whoever reaches both. Its bytes follow from its fields."""

    TYPE: ClassVar[int] = 11
    caller: NodeId
    callee: NodeId
    number: int  # u64, grows for each pair of caller and callee
    kind: int  # a CallKind, or a later version's
    nat: int  # a NatKind, or a later version's: the caller's
    candidates: tuple[Candidate, ...]  # the caller's; of a RELAY where the callee is to send to
    signature: bytes = bytes(SIGNATURE_BYTES)

    def encode(self) -> bytes:
        """The body of the frame."""
        return self.signature + self._said()

    def _said(self) -> bytes:
        head = self.caller + self.callee + self.number.to_bytes(8, "big")
        counts = bytes([self.kind, self.nat, len(self.candidates)])
        return head + counts + b"".join(bytes([each.kind]) + _address(each.endpoint) for each in self.candidates)

    def signing_input(self, clan: ClanId) -> bytes:
        """What the signature covers."""
        return CALL_CONTEXT + clan + self._said()

    @classmethod
    def read_untrusted(cls, body: bytes) -> "Call":
        """Read the body of the frame; the signature is not checked."""
        signature, said = body[:SIGNATURE_BYTES], body[SIGNATURE_BYTES:]
        if len(said) < _CALL_HEAD_BYTES:
            raise MalformedError(f"call: {len(body)} bytes are cut short")
        caller, callee = NodeId(said[:KEY_BYTES]), NodeId(said[KEY_BYTES : 2 * KEY_BYTES])
        if caller == callee:
            raise MalformedError("call: to the caller itself")
        kind, nat, count = said[_CALL_HEAD_BYTES - 3 : _CALL_HEAD_BYTES]
        number = int.from_bytes(said[2 * KEY_BYTES : _CALL_HEAD_BYTES - 3], "big")
        candidates = _read_candidates(said[_CALL_HEAD_BYTES:], count)
        return cls(caller, callee, number, kind, nat, candidates, signature)


def sign_call(
    seed: bytes,
    clan: ClanId,
    caller: NodeId,
    callee: NodeId,
    number: int,
    *,
    kind: CallKind,
    nat: NatKind,
    candidates: Iterable[Candidate],
) -> Call:
    """Make a call by the member whose identity grows from `seed`. Candidates beyond the maximum are left out."""
    call = Call(caller, callee, number, kind, nat, tuple(candidates)[:CALL_CANDIDATES_MAX])
    return replace(call, signature=sign_detached(seed, call.signing_input(clan)))


def check_call_untrusted(call: Call, clan: ClanId) -> None:
    """Check that the caller has said this in this clan. 45 microseconds. Raises SignatureError."""
    verify_detached_untrusted(call.caller, call.signing_input(clan), call.signature)


def _address(endpoint: Endpoint | None) -> bytes:
    if endpoint is None:
        return b"\0"
    return bytes([len(endpoint.ip)]) + endpoint.ip + endpoint.port.to_bytes(2, "big")


def _read_address(body: bytes, what: str) -> tuple[Endpoint | None, bytes]:
    size = body[0] if body else -1
    if size == 0:
        return None, body[1:]
    if size not in _ADDRESS_SIZES or len(body) < size + 3:
        raise MalformedError(f"{what}: no address")
    ip, port = body[1 : 1 + size], int.from_bytes(body[1 + size : 3 + size], "big")
    if port == 0 or ip.startswith(MAPPED_PREFIX):
        raise MalformedError(f"{what}: port 0, or an IPv4 address in mapped IPv6 form")
    return Endpoint(ip, port), body[3 + size :]


def _read_candidates(rest: bytes, count: int) -> tuple[Candidate, ...]:
    if count > CALL_CANDIDATES_MAX:
        raise LimitError(f"call: over {CALL_CANDIDATES_MAX} candidates")
    candidates = []
    for _ in range(count):
        endpoint, after = _read_address(rest[1:], "call")
        if endpoint is None:
            raise MalformedError("call: a candidate without an address")
        candidates.append(Candidate(rest[0], endpoint))
        rest = after
    if rest:
        raise MalformedError(f"call: {len(rest)} bytes behind the end")
    return tuple(candidates)
