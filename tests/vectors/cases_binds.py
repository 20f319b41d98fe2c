"""Vectors of what goes between a member and a relay's port (`bind`)."""

from collections.abc import Iterator
from hashlib import blake2b

from clanmesh_protocol.binds import Bound, make_bind, make_bound
from clanmesh_protocol.endpoints import endpoint
from tests.vectors.form import Vector
from tests.vectors.people import secret

TOKEN = secret("token")
NUMBER = 1_800_000_000_000_000
BIND = make_bind(TOKEN, NUMBER)
SEEN, SEEN_6 = endpoint("198.51.100.9", 40_000), endpoint("2001:db8::9", 40_000)
NOWHERE = SEEN._replace(port=0)
BOUND = make_bound(TOKEN, Bound(NUMBER, SEEN, True))


def all_cases() -> Iterator[Vector]:
    """Give every vector of this layer."""
    yield from sound()
    yield _member("token", "signature", "another pair's, or an older one", make_bind(secret("old token"), NUMBER))
    yield _member("flipped-bit", "signature", "another number", BIND[:11] + bytes([BIND[11] ^ 1]) + BIND[12:])
    yield _member("answer", "malformed", "an answer that was sent back", BOUND)
    yield _member("cut", "malformed", "47 bytes", BIND[:-1])
    yield _member("trailing-byte", "malformed", "49 bytes", BIND + b"\0")
    yield _member("not-zero", "malformed", "a byte where zeros belong", _sealed(BIND[:12] + b"\1" + bytes(19)))
    yield _relay("question", "malformed", "a question that was sent back", BIND)
    yield _relay("bound-token", "signature", "who has no token", make_bound(secret("old"), Bound(1, SEEN, False)))
    yield _relay(
        "port-0", "malformed", "a port that nobody has", make_bound(TOKEN, Bound(1, SEEN._replace(port=0), True))
    )


def _sealed(body: bytes) -> bytes:
    return body + blake2b(body, digest_size=16, key=TOKEN, person=b"clanmesh-bind").digest()


def sound() -> Iterator[Vector]:
    """Give those that are as they should be."""
    yield _member("ok", "ok", "a member shows where it is", BIND, number=str(NUMBER))
    parts = {"number": str(NUMBER), "seen": str(SEEN), "other": "true"}
    yield _relay("ok-bound", "ok", "the relay knows both ways", BOUND, **parts)
    alone = make_bound(TOKEN, Bound(1, SEEN_6, False))
    yield _relay("ok-bound-alone", "ok", "the other one is not there yet", alone, seen=str(SEEN_6), other="false")


def _member(name: str, expect: str, comment: str, data: bytes, **parts: str) -> Vector:
    return Vector(f"bind/{name}", expect, comment, data, {"from": "member", "token": TOKEN.hex(), **parts})


def _relay(name: str, expect: str, comment: str, data: bytes, **parts: str) -> Vector:
    return Vector(f"bind/{name}", expect, comment, data, {"from": "relay", "token": TOKEN.hex(), **parts})
