"""Vectors of probes on WireGuard's port: their shape (`probe`), and whose they are (`probe-mac`)."""

from collections.abc import Iterator
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from nacl import bindings

from clanmesh_protocol.endpoints import endpoint
from clanmesh_protocol.keys import exchange_public
from clanmesh_protocol.probes import MAC_BYTES, Kind, Packet
from tests.vectors.cases_datagrams import flipped
from tests.vectors.form import Vector
from tests.vectors.people import CLAN, FOUNDER_ID, MEMBER_ID, OTHER_CLAN, STRANGER_ID, secret

SENDER_STATIC, RECEIVER_STATIC = secret("sender's static key"), secret("receiver's static key")
NONCE = secret("probe nonce", 8)
PROBE = Packet(Kind.PROBE, MEMBER_ID[:8], FOUNDER_ID[:8], NONCE, endpoint("203.0.113.7", 51872))
PONG = Packet(Kind.PONG, MEMBER_ID[:8], FOUNDER_ID[:8], NONCE, endpoint("2001:db8::7", 40001))
PACKETS = {"probe": PROBE, "pong": PONG}
PARAMETERS: dict[str, str] = {
    "clan": CLAN.hex(),
    "sender": MEMBER_ID.hex(),
    "sender-static": exchange_public(SENDER_STATIC).hex(),
    "receiver": FOUNDER_ID.hex(),
    "receiver-static-private": RECEIVER_STATIC.hex(),
}
ENDPOINT_AT = 28


def all_cases() -> Iterator[Vector]:
    """Give every vector of both layers."""
    yield from shapes()
    yield from macs()


def direction(sender: bytes = MEMBER_ID, receiver: bytes = FOUNDER_ID, clan: bytes = CLAN) -> bytes:
    """Derive the key from one to the other, as the specification says."""
    shared = bindings.crypto_scalarmult(SENDER_STATIC, exchange_public(RECEIVER_STATIC))
    return blake2b(shared + sender + receiver + clan, digest_size=32, person=b"clanmesh-probe").digest()


def closed(packet: Packet, key: bytes | None = None) -> bytes:
    """Put the MAC behind a packet."""
    covered = packet.encode()
    return covered + blake2b(covered, digest_size=16, key=direction() if key is None else key).digest()


def shapes() -> Iterator[Vector]:
    """The 63 bytes, whatever their MAC is worth."""
    good = PROBE.encode() + bytes(MAC_BYTES)

    def at_endpoint(packed: bytes) -> bytes:
        return good[:ENDPOINT_AT] + packed + good[ENDPOINT_AT + len(packed) :]

    mapped = bytes([6]) + bytes(10) + b"\xff\xff" + bytes(4)
    cases: dict[str, tuple[str, str, bytes]] = {
        "ok-probe": ("ok", "a question, to an IPv4 address", good),
        "ok-pong": ("ok", "an answer, seen from an IPv6 address", PONG.encode() + bytes(MAC_BYTES)),
        "empty": ("malformed", "no bytes at all", b""),
        "cut": ("malformed", "a byte is missing", good[:-1]),
        "longer": ("malformed", "a byte too many: an answer would be smaller", good + b"\0"),
        "wireguard": ("malformed", "begins as a handshake of WireGuard's", b"\x01\0\0\0" + good[4:]),
        "datagram": ("malformed", "begins as a datagram of the control port", b"\xc7\x01" + good[2:]),
        "version-2": ("version", "a later version, of another length perhaps", good[:2] + b"\x02" + good[3:40]),
        "version-0": ("version", "no version was ever 0", good[:2] + b"\x00" + good[3:]),
        "kind-0": ("malformed", "no such kind", good[:3] + b"\x00" + good[4:]),
        "kind-3": ("malformed", "no such kind", good[:3] + b"\x03" + good[4:]),
        "family-5": ("malformed", "neither IPv4 nor IPv6", at_endpoint(b"\x05")),
        "ipv4-longer": ("malformed", "bytes behind an IPv4 address", at_endpoint(b"\x04" + bytes(15) + b"\x01")),
        "mapped": ("malformed", "IPv4 in mapped IPv6 form", at_endpoint(mapped)),
        "port-0": ("malformed", "nothing is sent to port 0", at_endpoint(b"\x04" + bytes(18))),
    }
    for name, (expect, comment, data) in cases.items():
        yield Vector(f"probe/{name}", expect, comment, data)


def macs() -> Iterator[Vector]:
    """From the member to the founder."""

    def case(name: str, expect: str, comment: str, data: bytes, **derived: Any) -> Vector:
        return Vector(f"probe-mac/{name}", expect, comment, data, {**PARAMETERS, **derived})

    good = closed(PROBE)
    key = direction().hex()
    yield case("ok-probe", "ok", "a question", good, key=key, endpoint=str(PROBE.endpoint))
    yield case("ok-pong", "ok", "an answer", closed(PONG), key=key, endpoint=str(PONG.endpoint))
    yield case("mac-bit", "signature", "a flipped bit at the end", flipped(good, 62))
    yield case("kind-changed", "signature", "a question made an answer", good[:3] + b"\x02" + good[4:])
    yield case("nonce-bit", "signature", "a flipped bit in the nonce", flipped(good, 20))
    yield case("port-bit", "signature", "a flipped bit in the endpoint", flipped(good, ENDPOINT_AT + 18))
    yield case("zero", "signature", "no MAC at all", PROBE.encode() + bytes(MAC_BYTES))
    back = direction(FOUNDER_ID, MEMBER_ID)
    yield case(
        "backwards", "signature", "the key of the other direction: a packet given back", closed(PROBE, back)
    )
    yield case("other-clan", "signature", "the key of another clan", closed(PROBE, direction(clan=OTHER_CLAN)))
    stranger = replace(PROBE, sender=STRANGER_ID[:8])
    yield case("stranger", "unknown-sender", "no member's id begins so", closed(stranger))
    elsewhere = replace(PROBE, receiver=STRANGER_ID[:8])
    yield case("other-receiver", "unknown-sender", "meant for another device", closed(elsewhere))
