"""Vectors of stream frames (`stream`), of the client's proof (`hello`) and of the control socket (`control`)."""

from collections.abc import Iterator
from typing import Any

import msgpack

from clanmesh_protocol.encoding import encode
from clanmesh_protocol.endpoints import endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.stream_relay import Relayed, Release, WantRelay
from clanmesh_protocol.stream_rollout import Ask, Pack, Tried, WantPack
from clanmesh_protocol.streams import (
    Accept,
    Bundle,
    End,
    Frame,
    Greeting,
    Join,
    Log,
    Purpose,
    RecordData,
    Refuse,
    WantRecords,
    Welcome,
    encode_frame,
    make_hello,
)
from tests.vectors.cases_content import PROOF
from tests.vectors.cases_records import GOOD_DATA
from tests.vectors.form import Vector
from tests.vectors.people import (
    CLAN,
    FOUNDER_ID,
    GENESIS_DATA,
    INVITE_KEY,
    MEMBER,
    MEMBER_ID,
    OTHER_CLAN,
    STRANGER_ID,
    secret,
)

NONCE = secret("nonce")
COMMIT, OLD_COMMIT = secret("commit", 20), secret("old commit", 20)
HELLO = make_hello(MEMBER, CLAN, FOUNDER_ID, NONCE, Purpose.RECORDS)
FRAMES: dict[str, Frame] = {
    "greeting": Greeting(1, NONCE, FOUNDER_ID),
    "hello": HELLO,
    "accept": Accept(),
    "refuse": Refuse("used", "the token was used before"),
    "join": Join(secret("invite id"), INVITE_KEY, STRANGER_ID, "phone", PROOF, PROOF),
    "welcome": Welcome(secret("discovery", 16), "family"),
    "bundle": Bundle((GENESIS_DATA, GOOD_DATA)),
    "want-records": WantRecords((b"record 1", b"record 2")),
    "record": RecordData(GOOD_DATA),
    "log": Log(("building", "done")),
    "end": End(),
}
OF_THE_ROLLOUT: dict[str, Frame] = {
    "want-pack": WantPack(COMMIT, (OLD_COMMIT,)),
    "want-rest-of-pack": WantPack(COMMIT, (OLD_COMMIT, bytes(32)), secret("pack", 20), 70_000),
    "pack": Pack(secret("pack", 20), (OLD_COMMIT,), 80_000, 70_000),
    "ask": Ask("log", COMMIT),
    "ask-history": Ask("history"),
    "tried": Tried(COMMIT, "rolled-back", "health exited with 3", 1_800_000_000, 1234),
}
OF_THE_RELAY: dict[str, Frame] = {
    "want-relay": WantRelay(NodeId(MEMBER_ID), False),
    "want-relay-carried": WantRelay(NodeId(MEMBER_ID), True),
    "relayed": Relayed((endpoint("203.0.113.7", 51873), endpoint("2001:db8::7", 51873)), 300, secret("token")),
    "relayed-by-streams-alone": Relayed((), 300, secret("token")),
    "release": Release(NodeId(MEMBER_ID)),
}
ALL = FRAMES | OF_THE_ROLLOUT | OF_THE_RELAY


def all_cases() -> Iterator[Vector]:
    """Give every vector of these layers."""
    yield from frames()
    yield from faulty_fields()
    yield from hellos()
    yield from control()


def raw(number: int, body: bytes) -> bytes:
    """Put a stream frame together from its parts."""
    return (len(body) + 1).to_bytes(4, "big") + bytes([number]) + body


def frames() -> Iterator[Vector]:
    """Whole frames, and faults of their frame."""

    def case(name: str, expect: str, comment: str, data: bytes, fill: int = 0) -> Vector:
        return Vector(f"stream/{name}", expect, comment, data, fill=fill)

    for name, frame in ALL.items():
        yield case(f"ok-{name}", "ok", f"one {name} frame", encode_frame(frame))
    yield case("ok-trailing-field", "ok", "a field of a later version", raw(4, encode(["used", "why", 1])))
    yield case(
        "ok-unknown-purpose", "ok", "read, then refused by name", raw(2, encode([CLAN, MEMBER_ID, "later", PROOF]))
    )
    yield case("length-cut", "malformed", "three bytes", bytes(3))
    yield case("length-0", "malformed", "no type", bytes(4))
    yield case("length-1", "malformed", "a type without its array", b"\0\0\0\x01\x03")
    yield case(
        "length-262145", "limit", "one byte over 262144", (262_145).to_bytes(4, "big") + b"\x03\x90", 262_143
    )
    yield case("unknown-type", "version", "a frame of a later version ends the stream", raw(99, encode([])))
    yield case("type-0", "version", "no type was ever 0", raw(0, encode([])))
    yield case("array-cut", "malformed", "an array that is cut", raw(4, encode(["used", "why"])[:-1]))
    yield case("trailing-byte", "malformed", "one byte behind the array", raw(3, encode([]) + b"\xc0"))
    yield case("map", "malformed", "a map for an array", raw(3, b"\x80"))
    yield case("nested", "limit", "a later field nests too deeply", raw(3, b"\x91" * 5 + b"\xc0"))


def faulty_fields() -> Iterator[Vector]:
    """One field of a frame exchanged."""
    short = GOOD_DATA[:97]
    wrong: dict[str, tuple[str, int, Any, str, str]] = {
        "greeting-version-2": ("greeting", 0, 2, "version", "a later version of streams"),
        "greeting-version-text": ("greeting", 0, "1", "malformed", "a version that is text"),
        "greeting-nonce-31-bytes": ("greeting", 1, NONCE[:31], "malformed", "a nonce that is cut"),
        "greeting-server-nil": ("greeting", 2, None, "malformed", "no identity"),
        "hello-clan-15-bytes": ("hello", 0, CLAN[:15], "malformed", "a clan id that is cut"),
        "hello-client-text": ("hello", 1, "nas", "malformed", "an identity that is text"),
        "hello-purpose-capital": ("hello", 2, "Join", "malformed", "a purpose that is no lower-case label"),
        "hello-purpose-17-bytes": ("hello", 2, "p" * 17, "limit", "a purpose over 16 bytes"),
        "hello-signature-63-bytes": ("hello", 3, bytes(63), "malformed", "a signature that is cut"),
        "refuse-code-space": ("refuse", 0, "not now", "malformed", "a code that is no label"),
        "refuse-why-257-bytes": ("refuse", 1, "x" * 257, "limit", "a reason over 256 bytes"),
        "refuse-why-escape": ("refuse", 1, "\x1b]0;\x07", "malformed", "a terminal escape"),
        "join-invite-31-bytes": ("join", 0, bytes(31), "malformed", "an id that is cut"),
        "join-name-dot": ("join", 3, "a.b", "malformed", "a name of two labels"),
        "join-proof-65-bytes": ("join", 4, bytes(65), "malformed", "a signature that is too long"),
        "welcome-discovery-15-bytes": ("welcome", 0, bytes(15), "malformed", "a secret that is cut"),
        "welcome-name-33-bytes": ("welcome", 1, "n" * 33, "limit", "a name over 32 bytes"),
        "bundle-record-cut": ("bundle", 0, [GENESIS_DATA, short], "malformed", "a record without a body"),
        "bundle-text": ("bundle", 0, ["record"], "malformed", "a record that is text"),
        "want-records-7-bytes": ("want-records", 0, [bytes(7)], "malformed", "an id that is cut"),
        "want-1025-records": ("want-records", 0, [bytes(8)] * 1025, "limit", "more than 1024"),
        "record-nil": ("record", 0, None, "malformed", "no record"),
        "log-line-end": ("log", 0, ["one\ntwo"], "malformed", "lines have no line ends"),
        "want-pack-commit-21-bytes": ("want-pack", 0, bytes(21), "malformed", "no name of git's"),
        "want-pack-17-haves": ("want-pack", 1, [COMMIT] * 17, "limit", "more than 16"),
        "want-pack-have-nil": ("want-pack", 1, [None], "malformed", "no commit"),
        "want-pack-offset-alone": ("want-pack", 3, 1, "malformed", "an offset into no pack"),
        "want-pack-name-33-bytes": ("want-rest-of-pack", 2, bytes(33), "limit", "a name over 32 bytes"),
        "pack-name-nil": ("pack", 0, None, "malformed", "no name"),
        "pack-17-commits": ("pack", 1, [COMMIT] * 17, "limit", "more than 16"),
        "pack-offset-behind-end": ("pack", 3, 80_001, "malformed", "a rest that begins behind the end"),
        "ask-capital": ("ask", 0, "Log", "malformed", "what is asked is a lower-case label"),
        "ask-commit-text": ("ask", 1, "main", "malformed", "a commit that is text"),
        "tried-state-space": ("tried", 1, "rolled back", "malformed", "a state that is no label"),
        "tried-why-1025-bytes": ("tried", 2, "x" * 1025, "limit", "a reason over 1024 bytes"),
        "tried-why-escape": ("tried", 2, "\x1b[2J", "malformed", "a terminal escape"),
        "tried-at-negative": ("tried", 3, -1, "malformed", "a time before 1970"),
        "want-relay-peer-31-bytes": ("want-relay", 0, bytes(31), "malformed", "an identity that is cut"),
        "want-relay-carried-1": ("want-relay", 1, 1, "malformed", "1 is not true"),
        "relayed-9-endpoints": ("relayed", 0, [[bytes(4), 1]] * 9, "limit", "more than 8"),
        "relayed-port-0": ("relayed", 0, [[bytes(4), 0]], "malformed", "a port that nobody has"),
        "relayed-lifetime-3601": ("relayed", 1, 3601, "limit", "over an hour"),
        "relayed-token-31-bytes": ("relayed", 2, bytes(31), "malformed", "a token that is cut"),
        "release-nil": ("release", 0, None, "malformed", "no identity"),
        "log-1001-lines": ("log", 0, [""] * 1001, "limit", "more than 1000 lines"),
    }
    for name, (frame, position, value, expect, comment) in wrong.items():
        whole = ALL[frame]
        fields = whole.fields()
        fields[position] = value
        yield Vector(f"stream/{name}", expect, comment, raw(whole.TYPE, encode(fields)))


def hellos() -> Iterator[Vector]:
    """The client's signature, as the founder's server checks it."""

    def case(name: str, expect: str, comment: str, hello: Frame, server: bytes = FOUNDER_ID) -> Vector:
        parameters = {"server": server.hex(), "nonce": NONCE.hex()}
        return Vector(f"hello/{name}", expect, comment, encode_frame(hello), parameters)

    yield case("ok", "ok", "the member asks for records", HELLO)
    later = make_hello(MEMBER, CLAN, FOUNDER_ID, NONCE, "later")
    yield case("ok-unknown-purpose", "ok", "who it is holds, whatever it wants", later)
    yield case(
        "other-nonce", "signature", "an old hello", make_hello(MEMBER, CLAN, FOUNDER_ID, bytes(32), "records")
    )
    yield case(
        "other-server",
        "signature",
        "passed on by a server in the middle",
        make_hello(MEMBER, CLAN, STRANGER_ID, NONCE, "records"),
    )
    changed: dict[str, tuple[int, Any, str]] = {
        "other-clan": (0, OTHER_CLAN, "the clan exchanged"),
        "other-client": (1, STRANGER_ID, "the client exchanged"),
        "other-purpose": (2, "git", "the purpose exchanged"),
        "flipped-bit": (3, bytes([HELLO.signature[0] ^ 1]) + HELLO.signature[1:], "a flipped bit"),
    }
    for name, (position, value, comment) in changed.items():
        fields = HELLO.fields()
        fields[position] = value
        parameters = {"server": FOUNDER_ID.hex(), "nonce": NONCE.hex()}
        yield Vector(f"hello/{name}", "signature", comment, raw(2, encode(fields)), parameters)


def control() -> Iterator[Vector]:
    """Requests on the control socket, with their length."""

    def case(name: str, expect: str, comment: str, body: bytes | dict[Any, Any], fill: int = 0) -> Vector:
        packed = body if isinstance(body, bytes) else msgpack.packb(body)
        length = (len(packed) + fill).to_bytes(4, "big")
        return Vector(f"control/{name}", expect, comment, length + packed, fill=fill)

    good = {"v": 1, "call": "peers", "args": {}}
    yield case("ok-peers", "ok", "a request without arguments", good)
    invite = {"v": 1, "call": "invite", "args": {"tags": ["backup"], "uses": 1, "ttl_s": 3600}}
    yield case("ok-invite", "ok", "a request with arguments", invite)
    yield case("ok-later-key", "ok", "a key of a later version is ignored", {**good, "later": True})
    yield case("version-2", "version", "a later version", {**good, "v": 2})
    yield case("version-true", "malformed", "true is not 1", {**good, "v": True})
    yield case("version-missing", "malformed", "no version", {"call": "peers", "args": {}})
    yield case("call-unknown", "malformed", "no such call", {**good, "call": "explode"})
    yield case("call-bytes", "malformed", "a call that is bytes", {**good, "call": b"peers"})
    yield case("args-array", "malformed", "arguments without names", {**good, "args": []})
    yield case("args-missing", "malformed", "no arguments", {"v": 1, "call": "peers"})
    yield case("key-integer", "malformed", "a key that is a number", {**good, 1: 2})
    yield case("array", "malformed", "an array for a map", b"\x93\x01\xa5peers\x80")
    yield case("trailing-byte", "malformed", "one byte behind the map", msgpack.packb(good) + b"\xc0")
    yield case("cut", "malformed", "the map is cut", msgpack.packb(good)[:-1])
    yield case(
        "extension",
        "malformed",
        "an extension as an argument",
        b"\x83\xa1v\x01\xa4call\xa5peers\xa4args\x81\xa1x\xd4\x01\x00",
    )
    yield case(
        "too-long", "limit", "one byte over 4194304", msgpack.packb(good), 4_194_305 - len(msgpack.packb(good))
    )
    yield Vector("control/length-cut", "malformed", "three bytes of a length", bytes(3))
