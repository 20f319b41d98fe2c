"""Vectors of datagrams: their clear header (`datagram`), their frames (`frame`), their seal (`session`)."""

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

from nacl import bindings

from clanmesh_protocol.keys import exchange_public, signing_public
from clanmesh_protocol.messages import (
    Ack,
    Digest,
    Frame,
    Header,
    IHave,
    IndirectResult,
    Leaf,
    Ping,
    PingRequest,
    RecordFrame,
    Seal,
    Want,
    encode_frames,
)
from tests.vectors.cases_records import GOOD_DATA
from tests.vectors.form import Vector
from tests.vectors.people import CLAN, FOUNDER, MEMBER, OTHER_CLAN, STRANGER, secret

PING = Ping(7, b"token..7", b"echo...7", bytes(range(16)))
SHORT_IDS = (b"record 1", b"record 2")
FRAMES: dict[str, Frame] = {
    "ping": PING,
    "ack": Ack(7, b"token..8", bytes(8), bytes(16)),
    "ping-request": PingRequest(8, signing_public(MEMBER)),
    "indirect-result": IndirectResult(8, True),
    "record": RecordFrame(GOOD_DATA),
    "ihave": IHave(SHORT_IDS),
    "want": Want(SHORT_IDS),
    "digest": Digest(b"", tuple(bytes([i]) * 8 for i in range(64))),
    "leaf": Leaf(b"\x3f\x00", SHORT_IDS),
}
HEADER = Header(Seal.SESSION, 7, 9, signing_public(MEMBER)[:8], b"boot.id." + (42).to_bytes(8, "big"))
DATAGRAM = HEADER.encode() + bytes(16)


def all_cases() -> Iterator[Vector]:
    """Give every vector of these layers."""
    yield from headers()
    yield from frames()
    yield from sessions()


def headers() -> Iterator[Vector]:
    """The 29 clear bytes."""
    cases: dict[str, tuple[str, str, bytes, int]] = {
        "ok-session": ("ok", "a header and an empty sealed part", DATAGRAM, 0),
        "ok-hello": ("ok", "sealed with the identities alone", DATAGRAM[:2] + b"\x02" + DATAGRAM[3:], 0),
        "ok-largest": ("ok", "1200 bytes", DATAGRAM, 1200 - len(DATAGRAM)),
        "empty": ("malformed", "no bytes at all", b"", 0),
        "cut": ("malformed", "one byte short of a header and a tag", DATAGRAM[:-1], 0),
        "magic": ("malformed", "not a datagram of ours", b"\xc6" + DATAGRAM[1:], 0),
        "version-2": ("version", "a later version of datagrams", DATAGRAM[:1] + b"\x02" + DATAGRAM[2:], 0),
        "version-0": ("version", "no version was ever 0", DATAGRAM[:1] + b"\x00" + DATAGRAM[2:], 0),
        "seal-0": ("malformed", "no such seal", DATAGRAM[:2] + b"\x00" + DATAGRAM[3:], 0),
        "seal-3": ("malformed", "no such seal", DATAGRAM[:2] + b"\x03" + DATAGRAM[3:], 0),
        "1201-bytes": ("limit", "one byte over 1200", DATAGRAM, 1201 - len(DATAGRAM)),
    }
    for name, (expect, comment, data, fill) in cases.items():
        yield Vector(f"datagram/{name}", expect, comment, data, fill=fill)


def framed(number: int, body: bytes) -> bytes:
    """Put a frame together from its parts."""
    return bytes([number]) + len(body).to_bytes(2, "big") + body


def frames() -> Iterator[Vector]:
    """The plaintext of a datagram."""

    def case(name: str, expect: str, comment: str, data: bytes) -> Vector:
        return Vector(f"frame/{name}", expect, comment, data)

    for name, frame in FRAMES.items():
        yield case(f"ok-{name}", "ok", f"one {name} frame", encode_frames([frame]))
    yield case("ok-none", "ok", "a datagram without frames", b"")
    yield case(
        "ok-several", "ok", "a ping, ids and a record", encode_frames([PING, IHave(SHORT_IDS), FRAMES["record"]])
    )
    yield case(
        "ok-unknown-type",
        "ok",
        "skipped; the ping behind it counts",
        framed(200, b"later") + framed(1, PING.encode()),
    )
    yield case("ok-padding", "ok", "type 0 is padding", framed(0, bytes(5)) + framed(1, PING.encode()))
    yield case("ok-64-frames", "ok", "as many as a datagram may have", framed(200, b"") * 64)
    body = PING.encode()
    yield case("head-cut", "malformed", "a frame of two bytes", b"\x01\x00")
    yield case("body-cut", "malformed", "the body ends early", framed(1, body)[:-1])
    yield case("65-frames", "limit", "more than 64 frames", framed(200, b"") * 65)
    yield case("ping-35-bytes", "malformed", "a ping that is cut, its length says so", framed(1, body[:-1]))
    yield case("ping-37-bytes", "malformed", "a ping with a byte behind it", framed(1, body + b"\x00"))
    yield case("ack-0-bytes", "malformed", "an empty ack", framed(2, b""))
    yield case("ping-request-35-bytes", "malformed", "the target is cut", framed(3, bytes(35)))
    yield case("indirect-result-2", "malformed", "neither yes nor no", framed(4, bytes(4) + b"\x02"))
    yield case("indirect-result-4-bytes", "malformed", "no answer", framed(4, bytes(4)))
    yield case("record-1001-bytes", "limit", "records over 1000 bytes go over a stream", framed(5, bytes(1001)))
    yield case("ihave-15-bytes", "malformed", "an id that is cut", framed(6, bytes(15)))
    yield case("want-9-bytes", "malformed", "an id and a byte", framed(7, bytes(9)))
    yield case("digest-no-prefix", "malformed", "an empty digest", framed(8, b""))
    yield case("digest-63-buckets", "malformed", "a bucket is missing", framed(8, b"\x00" + bytes(63 * 8)))
    yield case("digest-prefix-4-digits", "malformed", "deeper than 3", framed(8, b"\x04" + bytes(4 + 512)))
    yield case("digest-prefix-cut", "malformed", "a prefix longer than the frame", framed(8, b"\x03\x00"))
    yield case("digest-digit-64", "malformed", "a digit over 63", framed(8, b"\x01\x40" + bytes(512)))
    yield case("leaf-digit-255", "malformed", "a digit over 63", framed(9, b"\x01\xff" + bytes(8)))
    yield case("leaf-7-bytes", "malformed", "an id that is cut", framed(9, b"\x00" + bytes(7)))


# --- seals ---------------------------------------------------------------------------------------------

SENDER_STATIC, SENDER_PREKEY = secret("sender's static key"), secret("sender's prekey")
RECEIVER_STATIC, RECEIVER_PREKEY = secret("receiver's static key"), secret("receiver's prekey")
PARAMETERS: dict[str, str] = {
    "clan": CLAN.hex(),
    "sender": signing_public(MEMBER).hex(),
    "sender-static": exchange_public(SENDER_STATIC).hex(),
    "sender-prekey": "7 " + exchange_public(SENDER_PREKEY).hex(),
    "receiver-identity-seed": FOUNDER.hex(),
    "receiver-static-private": RECEIVER_STATIC.hex(),
    "receiver-prekey-private": "9 " + RECEIVER_PREKEY.hex(),
}


def session_key(seed: bytes = MEMBER, clan: bytes = CLAN, backwards: bool = False) -> bytes:
    """Derive the key from the member to the founder, as the specification says."""
    sender, receiver = signing_public(seed), signing_public(FOUNDER)
    if backwards:
        sender, receiver = receiver, sender
    static = bindings.crypto_scalarmult(SENDER_STATIC, exchange_public(RECEIVER_STATIC))
    prekey = bindings.crypto_scalarmult(SENDER_PREKEY, exchange_public(RECEIVER_PREKEY))
    material = static + prekey + sender + receiver + clan
    return blake2b(material, digest_size=32, person=b"clanmesh-dgram").digest()


def hello_key() -> bytes:
    """Derive the key of a hello from the member to the founder."""
    private = bindings.crypto_sign_ed25519_sk_to_curve25519(bindings.crypto_sign_seed_keypair(MEMBER)[1])
    public = bindings.crypto_sign_ed25519_pk_to_curve25519(signing_public(FOUNDER))
    material = (
        bindings.crypto_scalarmult(private, public) + signing_public(MEMBER) + signing_public(FOUNDER) + CLAN
    )
    return blake2b(material, digest_size=32, person=b"clanmesh-hello").digest()


def sealed(header: Header, plaintext: bytes, key: bytes) -> bytes:
    """Seal a datagram."""
    lead = header.encode()
    nonce = header.nonce + bytes(8)
    return lead + bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, lead, nonce, key)


def flipped(data: bytes, at: int) -> bytes:
    """The data with the lowest bit of one byte flipped."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def sessions() -> Iterator[Vector]:
    """Sealed datagrams, from the member to the founder."""
    plaintext = encode_frames([PING])
    good = sealed(HEADER, plaintext, session_key())
    hello_lead = Header(Seal.HELLO, 0, 0, HEADER.sender, HEADER.nonce)
    hello_plaintext = encode_frames([RecordFrame(GOOD_DATA)])

    def case(name: str, expect: str, comment: str, data: bytes, **changes: Any) -> Vector:
        return Vector(f"session/{name}", expect, comment, data, {**PARAMETERS, **changes})

    yield case("ok-session", "ok", "a ping", good, plaintext=plaintext.hex())
    hello = sealed(hello_lead, hello_plaintext, hello_key())
    yield case("ok-hello", "ok", "a record under the identities", hello, plaintext=hello_plaintext.hex())
    yield case("tag-bit", "seal", "a flipped bit in the tag", flipped(good, len(good) - 1))
    yield case("text-bit", "seal", "a flipped bit in the ciphertext", flipped(good, 29))
    yield case("counter-bit", "seal", "a flipped bit in the counter", flipped(good, 28))
    yield case(
        "seal-changed", "seal", "a session's datagram that claims to be a hello", good[:2] + b"\x02" + good[3:]
    )
    yield case(
        "hello-changed",
        "unknown-prekey",
        "a hello that claims a session without prekeys",
        hello[:2] + b"\x01" + hello[3:],
    )
    yield case(
        "other-clan", "seal", "sealed for another clan", sealed(HEADER, plaintext, session_key(clan=OTHER_CLAN))
    )
    yield case(
        "backwards",
        "seal",
        "the key of the other direction",
        sealed(HEADER, plaintext, session_key(backwards=True)),
    )
    stranger = Header(Seal.SESSION, 7, 9, signing_public(STRANGER)[:8], HEADER.nonce)
    yield case(
        "stranger",
        "unknown-sender",
        "dropped before any crypto",
        sealed(stranger, plaintext, session_key(STRANGER)),
    )
    theirs = Header(Seal.SESSION, 8, 9, HEADER.sender, HEADER.nonce)
    yield case(
        "sender-prekey",
        "unknown-prekey",
        "not in the sender's node record",
        sealed(theirs, plaintext, session_key()),
    )
    ours = Header(Seal.SESSION, 7, 10, HEADER.sender, HEADER.nonce)
    yield case(
        "receiver-prekey",
        "unknown-prekey",
        "the receiver has no such prekey",
        sealed(ours, plaintext, session_key()),
    )
    cut = sealed(HEADER, plaintext[:-1], session_key())
    yield case("frame-cut", "malformed", "well sealed, but the frame inside is cut", cut)
    many = sealed(HEADER, framed(200, b"") * 65, session_key())
    yield case("65-frames", "limit", "well sealed, but too many frames", many)
    late = sealed(Header(Seal.SESSION, 7, 9, HEADER.sender, b"boot.id." + bytes(8)), plaintext, session_key())
    yield case(
        "ok-unproven",
        "ok",
        "authentic, though nothing yet proves when it was made",
        late,
        plaintext=plaintext.hex(),
    )
