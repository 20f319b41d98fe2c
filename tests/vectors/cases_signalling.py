"""Vectors of what devices tell one another of where they are: frames SEEN and CALL, and a call's signature."""

from collections.abc import Iterator
from dataclasses import replace

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.messages import Frame, encode_frames
from clanmesh_protocol.signalling import Call, CallKind, Candidate, CandidateKind, NatKind, Seen, sign_call
from tests.vectors.cases_datagrams import PING, flipped, framed
from tests.vectors.form import Vector
from tests.vectors.people import CLAN, FOUNDER_ID, MEMBER, MEMBER_ID, OTHER_CLAN, SEQ, STRANGER, STRANGER_ID

V4 = Endpoint(bytes([192, 0, 2, 7]), 51872)
V6 = Endpoint(bytes.fromhex("20010db8") + bytes(11) + b"\7", 40001)
LAN = Endpoint(bytes([10, 0, 0, 7]), 51872)
CANDIDATES = (
    Candidate(CandidateKind.LAN, LAN),
    Candidate(CandidateKind.SEEN, V4),
    Candidate(CandidateKind.MAPPED, V6),
)
ASK = sign_call(
    MEMBER, CLAN, MEMBER_ID, FOUNDER_ID, SEQ, kind=CallKind.ASK, nat=NatKind.EASY, candidates=CANDIDATES
)
OPENED = sign_call(
    MEMBER, CLAN, MEMBER_ID, FOUNDER_ID, SEQ + 1, kind=CallKind.OPENED, nat=NatKind.HARD, candidates=()
)
RELAY = sign_call(
    MEMBER,
    CLAN,
    MEMBER_ID,
    FOUNDER_ID,
    SEQ + 2,
    kind=CallKind.RELAY,
    nat=NatKind.BLOCKED,
    candidates=[Candidate(CandidateKind.RELAY, V4)],
)
BYE = sign_call(MEMBER, CLAN, MEMBER_ID, FOUNDER_ID, SEQ + 3, kind=CallKind.BYE, nat=NatKind.NONE, candidates=())
FRAMES: dict[str, Frame] = {
    "seen": Seen(V4, V6),
    "seen-control": Seen(V6, None),
    "seen-tunnel": Seen(None, V4),
    "call-ask": ASK,
    "call-opened": OPENED,
    "call-relay": RELAY,
    "call-bye": BYE,
}
_COUNT_AT = 64 + 64 + 8 + 2  # in the body of a call: how many candidates


def all_cases() -> Iterator[Vector]:
    """Give every vector of these frames."""
    yield from frames()
    yield from signatures()


def frames() -> Iterator[Vector]:
    """The plaintext of a datagram."""

    def case(name: str, expect: str, comment: str, data: bytes) -> Vector:
        return Vector(f"frame/{name}", expect, comment, data)

    for name, frame in FRAMES.items():
        yield case(f"ok-{name}", "ok", f"one {name} frame", encode_frames([frame]))
    later = Call(MEMBER_ID, FOUNDER_ID, SEQ, 200, 200, (Candidate(200, V4),))
    yield case("ok-call-later-kinds", "ok", "kinds of a later version; they are passed on", encode_frames([later]))
    many = replace(ASK, candidates=CANDIDATES[:1] * 8)
    yield case("ok-call-8-candidates", "ok", "as many as there may be", encode_frames([many, PING]))
    yield from (case(name, "malformed", why, framed(10, body)) for name, why, body in _faulty_seen())
    yield from (case(name, "malformed", why, framed(11, body)) for name, why, body in _faulty_calls())
    too_many = replace(ASK, candidates=CANDIDATES[:1] * 9)
    yield case("call-9-candidates", "limit", "more than 8", encode_frames([too_many]))


def _faulty_seen() -> Iterator[tuple[str, str, bytes]]:
    body = Seen(V4, None).encode()
    yield "seen-empty", "no address at all", b""
    yield "seen-one-address", "the second is missing", body[:-1]
    yield "seen-trailing", "a byte behind the end", body + b"\0"
    yield "seen-size-5", "an address of five bytes", b"\5" + bytes(5) + b"\1\1\0"
    yield "seen-cut", "an address that is cut", b"\x10" + bytes(17) + b"\0"
    yield "seen-port-0", "no port", b"\4" + V4.ip + b"\0\0\0"
    yield "seen-mapped", "IPv4 in mapped IPv6 form", b"\x10" + bytes(10) + b"\xff\xff" + V4.ip + b"\1\1\0"


def _faulty_calls() -> Iterator[tuple[str, str, bytes]]:
    body = ASK.encode()
    yield "call-cut", "no count of candidates", body[:_COUNT_AT]
    yield "call-candidate-cut", "the last candidate is cut", body[:-1]
    yield "call-candidate-missing", "fewer than are counted", body[:_COUNT_AT] + b"\1"
    yield "call-trailing", "a byte behind the end", body + b"\0"
    yield "call-to-itself", "caller and callee are one", replace(ASK, callee=MEMBER_ID).encode()
    yield "call-no-address", "a candidate without an address", body[:_COUNT_AT] + b"\1\2\0"


def signatures() -> Iterator[Vector]:
    """The body of a well-formed call."""

    def case(name: str, expect: str, comment: str, call: Call) -> Vector:
        return Vector(f"call/{name}", expect, comment, call.encode(), {"clan": CLAN.hex()})

    def by(seed: bytes, clan: bytes = CLAN) -> Call:
        return sign_call(
            seed,
            type(CLAN)(clan),
            MEMBER_ID,
            FOUNDER_ID,
            SEQ,
            kind=CallKind.ASK,
            nat=NatKind.EASY,
            candidates=CANDIDATES,
        )

    yield case("ok-ask", "ok", "by the caller", ASK)
    yield case("ok-bye", "ok", "without candidates", BYE)
    yield case("stranger", "signature", "by another key than the caller's", by(STRANGER))
    yield case("other-clan", "signature", "said in another clan", by(MEMBER, OTHER_CLAN))
    yield case("bit", "signature", "a flipped bit", replace(ASK, signature=flipped(ASK.signature, 40)))
    yield case("callee", "signature", "carried to another one", replace(ASK, callee=STRANGER_ID))
    yield case("number", "signature", "an old call with a later number", replace(ASK, number=SEQ + 9))
    yield case("kind", "signature", "a question made an answer", replace(ASK, kind=CallKind.OPENED))
    yield case("nat", "signature", "another NAT", replace(ASK, nat=NatKind.HARD))
    yield case("candidate", "signature", "one candidate less", replace(ASK, candidates=CANDIDATES[:2]))
