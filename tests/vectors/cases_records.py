"""Vectors of the record's envelope and its signature: layer `record`."""

from collections.abc import Iterator
from typing import Any

from clanmesh_protocol.encoding import encode
from clanmesh_protocol.keys import CLAN_ID_NONE, ClanId, sign_detached, signing_public
from clanmesh_protocol.records import RECORD_CONTEXT, signing_input
from tests.vectors import edwards
from tests.vectors.form import Vector
from tests.vectors.people import (
    CLAN,
    FOUNDER,
    FOUNDER_ID,
    GENESIS_DATA,
    GENESIS_ID,
    MEMBER,
    MEMBER_ID,
    OTHER_CLAN,
    OTHER_GENESIS_DATA,
    SEQ,
    id_of,
    sign_body,
)

HOUR_S = 3600
STATUS_PAYLOAD = encode([None, None, 0, 0, 0, []])
GOOD: list[Any] = [3, "self", SEQ + 1, HOUR_S, None, STATUS_PAYLOAD]
GOOD_DATA = sign_body(MEMBER, encode(GOOD))
ALLOWED_BODY_BYTES = 66_560


def case(name: str, expect: str, comment: str, data: bytes, clan: ClanId = CLAN, **more: Any) -> Vector:
    """Make a vector of this layer."""
    parameters = {"clan": clan.hex(), **{key: str(value) for key, value in more.items() if key != "fill"}}
    return Vector(f"record/{name}", expect, comment, data, parameters, more.get("fill", 0))


def with_field(position: int, value: Any) -> bytes:
    """Sign the good body with one field exchanged."""
    return sign_body(MEMBER, encode([*GOOD[:position], value, *GOOD[position + 1 :]]))


def all_cases() -> Iterator[Vector]:
    """Give every vector of this layer."""
    yield from sound()
    yield from shapes()
    yield from fields()
    yield from encodings()
    yield from signatures()
    yield from lax_signatures()


def sound() -> Iterator[Vector]:
    """Records that must be read."""
    checked = bytes.fromhex(
        "0103a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
        "8141e050686e21bee1cba64f767405a9cdcafcf3e62639f64363f88e392ce936"
        "b36f25395348c1d4a5402848295912826ccd8de4d2662f2294813eaff322cb02"
        "9603a6737461747573cf019b76daa8000007cd0e10c0c40392c30c"
    )
    yield case(
        "ok-checked-by-hand",
        "ok",
        "kind 3 in slot `status`, seed 00 01 .. 1f; the id was computed apart from this implementation",
        checked,
        ClanId(bytes.fromhex("13dbf920f00f42e64221d5d0fdcd8044")),
        id="93fd486dcd662045560389e6efab941a5ed07e85b16c086e7e8eef877302d24d",
    )
    yield case("ok-status", "ok", "a plain record", GOOD_DATA, id=id_of(GOOD_DATA).hex())
    yield case("ok-genesis", "ok", "signed in the scope of zeros", GENESIS_DATA, id=GENESIS_ID.hex())
    prev = sign_body(FOUNDER, encode([0, "00000001", SEQ + 1, 0, GENESIS_ID, encode([2, "line"])]))
    yield case("ok-prev", "ok", "names its parent", prev, id=id_of(prev).hex())
    trailing = sign_body(MEMBER, encode([*GOOD, "later", 7, [None]]))
    yield case("ok-unknown-trailing-fields", "ok", "fields of a later version are ignored", trailing)
    kind = sign_body(MEMBER, encode([200, "later", SEQ + 1, 0, None, b"opaque"]))
    yield case("ok-unknown-kind", "ok", "a kind of a later version is kept and forwarded", kind)
    tombstone = sign_body(MEMBER, encode([6, "wifi", SEQ + 1, 0, None, b""]))
    yield case("ok-tombstone", "ok", "an empty payload withdraws", tombstone)
    largest = with_field(2, 2**64 - 1)
    yield case("ok-largest-seq", "ok", "a seq far ahead of any clock hurts its author alone", largest)
    slot = sign_body(MEMBER, encode([200, "s" * 32, SEQ + 1, 0, None, b"opaque"]))
    yield case("ok-longest-slot", "ok", "32 bytes of slot", slot)
    long_forms = encode(GOOD).replace(b"\x03\xa4self", b"\xcd\x00\x03\xd9\x04self")
    yield case(
        "ok-longer-forms",
        "ok",
        "kind and slot not in the shortest msgpack form: bytes are carried verbatim, so readers do not insist",
        sign_body(MEMBER, long_forms),
    )


def shapes() -> Iterator[Vector]:
    """Faults of the frame around the body."""
    body = encode(GOOD)
    yield case("empty", "malformed", "no bytes at all", b"")
    yield case("header-cut", "malformed", "ends within the signature", GOOD_DATA[:60])
    yield case("no-body", "malformed", "ends behind the signature", sign_body(MEMBER, b""))
    yield case("body-cut", "malformed", "the signed body lacks its last byte", sign_body(MEMBER, body[:-1]))
    yield case("trailing-byte", "malformed", "one signed byte behind the array", sign_body(MEMBER, body + b"\xc0"))
    yield case("version-2", "version", "a later version of records", sign_body(MEMBER, body, version=2))
    yield case("version-0", "version", "no version was ever 0", sign_body(MEMBER, body, version=0))
    large = encode([6, "wifi", SEQ + 1, 0, None, b""])[:-2] + b"\xc6" + (66_400).to_bytes(4, "big")
    fill = ALLOWED_BODY_BYTES - 97 - len(large) + 1
    yield case(
        "too-large", "limit", "one byte over 66560", sign_body(MEMBER, large + bytes(fill))[:-fill], fill=fill
    )


def fields() -> Iterator[Vector]:
    """One field of the body exchanged for one of a wrong type or size; the signature holds."""
    wrong: dict[str, tuple[int, Any, str]] = {
        "kind-text": (0, "3", "malformed"),
        "kind-negative": (0, -1, "malformed"),
        "kind-boolean": (0, True, "malformed"),
        "kind-nil": (0, None, "malformed"),
        "kind-256": (0, 256, "limit"),
        "slot-bytes": (1, b"self", "malformed"),
        "slot-integer": (1, 1, "malformed"),
        "slot-33-bytes": (1, "s" * 33, "limit"),
        "slot-control-character": (1, "self\n", "malformed"),
        "slot-delete-character": (1, "self\x7f", "malformed"),
        "seq-text": (2, "1", "malformed"),
        "seq-negative": (2, -1, "malformed"),
        "seq-nil": (2, None, "malformed"),
        "ttl-text": (3, "1", "malformed"),
        "ttl-over-32-bits": (3, 2**32, "limit"),
        "prev-31-bytes": (4, bytes(31), "malformed"),
        "prev-33-bytes": (4, bytes(33), "malformed"),
        "prev-text": (4, "0" * 32, "malformed"),
        "payload-text": (5, "payload", "malformed"),
        "payload-nil": (5, None, "malformed"),
        "payload-array": (5, [1], "malformed"),
        "status-payload-257-bytes": (5, bytes(257), "limit"),
    }
    for name, (position, value, expect) in wrong.items():
        yield case(name, expect, f"field {position} is {name}", with_field(position, value))
    yield case("payload-missing", "malformed", "an array of five", sign_body(MEMBER, encode(GOOD[:5])))
    yield case("array-empty", "malformed", "an array of none", sign_body(MEMBER, encode([])))
    unknown = sign_body(MEMBER, encode([200, "later", SEQ + 1, 0, None, bytes(801)]))
    yield case("unknown-kind-payload-801-bytes", "limit", "an unknown kind has at most 800", unknown)


def encodings() -> Iterator[Vector]:
    """Msgpack that the strict reader refuses; the signature holds."""
    body = encode(GOOD)
    one_more = b"\x97" + body[1:]
    raw = {
        "map-for-array": (b"\x81\x03" + b"\x96" + body[1:], "malformed", "the body is a map"),
        "integer-for-array": (b"\x07", "malformed", "the body is an integer"),
        "seq-float": (
            body.replace(b"\xcf" + GOOD[2].to_bytes(8, "big"), b"\xcb" + bytes(8)),
            "malformed",
            "a float",
        ),
        "slot-invalid-utf-8": (body.replace(b"\xa4self", b"\xa4sel\xff"), "malformed", "text that is no UTF-8"),
        "slot-surrogate": (body.replace(b"\xa4self", b"\xa4s\xed\xa0\x80"), "malformed", "half a surrogate pair"),
        "trailing-map": (one_more + b"\x80", "malformed", "an empty map as a later field"),
        "trailing-float": (one_more + b"\xca" + bytes(4), "malformed", "a float as a later field"),
        "trailing-extension": (one_more + b"\xd4\x01\x00", "malformed", "an extension as a later field"),
        "trailing-timestamp": (one_more + b"\xd6\xff" + bytes(4), "malformed", "a timestamp as a later field"),
        "trailing-reserved-byte": (one_more + b"\xc1", "malformed", "the byte that msgpack never uses"),
        "nested-5-deep": (one_more + b"\x91" * 4 + b"\xc0", "limit", "five arrays in one another"),
        "nested-2000-deep": (one_more + b"\x91" * 2000 + b"\xc0", "malformed", "no reader's stack may overflow"),
        "array-claims-4-billion": (b"\xdd\xff\xff\xff\xff", "malformed", "no memory is reserved for a claim"),
    }
    for name, (mangled, expect, comment) in raw.items():
        yield case(name, expect, comment, sign_body(MEMBER, mangled))


def flip(data: bytes, at: int, bit: int = 0) -> bytes:
    """Turn one bit of one byte."""
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def signatures() -> Iterator[Vector]:
    """Sound records that the signature does not stand for."""
    body = encode(GOOD)
    yield case("signature-first-bit", "signature", "a flipped bit in R", flip(GOOD_DATA, 33))
    yield case("signature-last-byte", "signature", "a flipped bit in S", flip(GOOD_DATA, 96, 3))
    yield case(
        "seq-flipped", "signature", "a flipped bit in seq", flip(GOOD_DATA, GOOD_DATA.index(b"\xcf", 97) + 8)
    )
    yield case("other-author", "signature", "the author exchanged", GOOD_DATA[:1] + FOUNDER_ID + GOOD_DATA[33:])
    yield case("zero-signature", "signature", "64 zeros", GOOD_DATA[:33] + bytes(64) + body)
    yield case("other-clan", "signature", "signed for another clan", sign_body(MEMBER, body, scope=OTHER_CLAN))
    yield case(
        "no-clan", "signature", "signed in the scope of a genesis", sign_body(MEMBER, body, scope=CLAN_ID_NONE)
    )
    genesis_body = GENESIS_DATA[97:]
    yield case(
        "genesis-in-a-clan", "signature", "a genesis signed in its own clan", sign_body(FOUNDER, genesis_body)
    )
    yield case("genesis-of-another-clan", "signature", "true, but it founds another clan", OTHER_GENESIS_DATA)
    statement = signing_input(CLAN, MEMBER_ID, body).replace(RECORD_CONTEXT, b"clanmesh/stream/1\0")
    other = bytes([1]) + MEMBER_ID + sign_detached(MEMBER, statement) + body
    yield case("other-context", "signature", "signed for streams, not for records", other)
    bare = bytes([1]) + MEMBER_ID + sign_detached(MEMBER, body) + body
    yield case("no-context", "signature", "the body alone was signed", bare)


def forged(author: bytes, r: bytes, s: int) -> bytes:
    """Put a record together from the parts of a signature."""
    return bytes([1]) + author + r + edwards.scalar_bytes(s) + encode(GOOD)


def lax_signatures() -> Iterator[Vector]:
    """Signatures that some verifiers accept and this protocol refuses: they would split a clan."""
    public = signing_public(MEMBER)
    private = edwards.private_scalar(MEMBER)
    torsion = edwards.decode(edwards.TORSION)
    identity = edwards.encode(edwards.IDENTITY)
    nonce = 0x5EED
    r = edwards.encode(edwards.multiply(nonce, edwards.BASE))

    good_s = int.from_bytes(GOOD_DATA[65:97], "little")
    yield case(
        "s-not-reduced",
        "signature",
        "S plus the group's order",
        forged(public, GOOD_DATA[33:65], good_s + edwards.L),
    )
    # With a key of small order, SB = R + kA holds for S = the nonce when kA vanishes.
    yield case("key-identity", "signature", "the key is the neutral point", forged(identity, r, nonce))
    unreduced = (edwards.P + 1).to_bytes(32, "little")
    yield case("key-not-canonical", "signature", "the neutral point with y = p + 1", forged(unreduced, r, nonce))
    minus_zero = identity[:31] + b"\x80"
    yield case("key-minus-zero", "signature", "the neutral point with x = -0", forged(minus_zero, r, nonce))
    nonce_8, r_8 = _nonce_for(edwards.TORSION)
    yield case(
        "key-of-order-8", "signature", "the key has order 8 and kA vanishes", forged(edwards.TORSION, r_8, nonce_8)
    )

    k = edwards.challenge(identity, public, signing_input(CLAN, public, encode(GOOD)))
    yield case(
        "r-identity", "signature", "R is the neutral point", forged(public, identity, k * private % edwards.L)
    )
    mixed_r = edwards.encode(edwards.add(edwards.decode(r), torsion))
    k = edwards.challenge(mixed_r, public, signing_input(CLAN, public, encode(GOOD)))
    yield case(
        "r-mixed-order",
        "signature",
        "R has a part of order 8: verifiers with the cofactor accept it, those without do not",
        forged(public, mixed_r, (nonce + k * private) % edwards.L),
    )
    mixed_key = edwards.encode(edwards.add(edwards.decode(public), torsion))
    nonce_m, r_m = _nonce_for(mixed_key)
    k = edwards.challenge(r_m, mixed_key, signing_input(CLAN, mixed_key, encode(GOOD)))
    yield case(
        "key-mixed-order",
        "signature",
        "the key has a part of order 8 and kA hides it: most verifiers accept this one signature",
        forged(mixed_key, r_m, (nonce_m + k * private) % edwards.L),
    )


def _nonce_for(key: bytes) -> tuple[int, bytes]:
    """Find a nonce for which the challenge is a multiple of 8, so that the part of order 8 vanishes."""
    for nonce in range(1, 1000):
        r = edwards.encode(edwards.multiply(nonce, edwards.BASE))
        if edwards.challenge(r, key, signing_input(CLAN, key, encode(GOOD))) % 8 == 0:
            return nonce, r
    raise AssertionError("no nonce")
