"""Vectors of invite tokens: layer `token`. The hex is the token's text in ASCII."""

from collections.abc import Iterator
from typing import Any

from clanmesh_protocol.encoding import encode
from clanmesh_protocol.endpoints import endpoint
from clanmesh_protocol.tokens import Token, encode_bech32m, encode_token
from tests.vectors.bech32 import ALPHABET, BECH32, digits_of, spell
from tests.vectors.form import Vector
from tests.vectors.people import CLAN, FOUNDER_ID, GENESIS_ID, INVITE, SEQ, UNIX_S, secret

TOKEN = Token(
    clan=CLAN,
    clan_name="family",
    invite_seed=INVITE,
    invite_id=secret("invite id"),
    authority_head=GENESIS_ID,
    inviter=FOUNDER_ID,
    floor=SEQ + 9,
    discovery=secret("discovery", 16),
    expires_unix_s=UNIX_S + 86_400,
    endpoints=(endpoint("192.0.2.7", 51871), endpoint("2001:db8::7", 51871)),
)
TEXT = encode_token(TOKEN)
FIELDS: list[Any] = [
    TOKEN.clan,
    TOKEN.clan_name,
    TOKEN.invite_seed,
    TOKEN.invite_id,
    TOKEN.authority_head,
    TOKEN.inviter,
    TOKEN.floor,
    TOKEN.discovery,
    TOKEN.expires_unix_s,
    [[at.ip, at.port] for at in TOKEN.endpoints],
]
BODY = b"\x01" + encode(FIELDS)


def case(name: str, expect: str, comment: str, text: str, **parameters: str) -> Vector:
    """Make a vector of this layer."""
    return Vector(f"token/{name}", expect, comment, text.encode(), parameters)


def packed(data: bytes, prefix: str = "clan") -> str:
    """Spell any bytes as a token with a good checksum."""
    return encode_bech32m(prefix, data)


def changed(position: int, value: Any) -> str:
    """Spell the sound token with one field exchanged."""
    return packed(b"\x01" + encode([*FIELDS[:position], value, *FIELDS[position + 1 :]]))


def all_cases() -> Iterator[Vector]:
    """Give every vector of this layer."""
    yield from spellings()
    yield from contents()


def spellings() -> Iterator[Vector]:
    """Whether the characters hold together."""
    body = BODY.hex()
    yield case("ok", "ok", "small letters", TEXT, payload=body)
    yield case("ok-capitals", "ok", "capitals, as in a QR code", TEXT.upper(), payload=body)
    lines = "\n".join(TEXT[at : at + 76] for at in range(0, len(TEXT), 76))
    yield case("ok-wrapped", "ok", "white space around and within", f"  {lines}\r\n\t", payload=body)
    swapped = TEXT[:50] + ALPHABET[(ALPHABET.index(TEXT[50]) + 1) % 32] + TEXT[51:]
    yield case("one-character", "malformed", "one character mistyped", swapped)
    at = next(i for i in range(60, 90) if TEXT[i] != TEXT[i + 1])
    two = TEXT[:at] + TEXT[at + 1] + TEXT[at] + TEXT[at + 2 :]
    yield case("two-swapped", "malformed", "two neighbours exchanged", two)
    yield case("cut-one", "malformed", "the last character is missing", TEXT[:-1])
    yield case("cut-half", "malformed", "the second half is missing", TEXT[: len(TEXT) // 2])
    yield case("character-more", "malformed", "one character too many", TEXT + "q")
    yield case("character-foreign", "malformed", "the letter b is never used", TEXT[:50] + "b" + TEXT[51:])
    yield case("mixed-case", "malformed", "capitals and small letters", TEXT[:50] + TEXT[50:].upper())
    yield case("other-prefix", "malformed", "a bech32m text of something else", packed(BODY, "bc"))
    yield case("no-separator", "malformed", "the 1 is missing", TEXT.replace("1", "", 1))
    yield case("empty", "malformed", "no characters at all", "")
    yield case("prefix-alone", "malformed", "no more than clan1", "clan1")
    digits = digits_of(BODY)
    bech32 = spell("clan", digits, BECH32)
    yield case("bech32-checksum", "malformed", "the checksum of bech32, not of bech32m", bech32)
    padded = spell("clan", [*digits[:-1], digits[-1] | 1])
    yield case("padding-not-zero", "malformed", "a spare bit is set behind the last byte", padded)
    yield case("padding-digit", "malformed", "a whole digit of padding", spell("clan", [*digits, 0]))
    yield case("too-long", "limit", "over 831 characters", packed(b"\x01" + bytes(512)))
    yield case("not-ascii", "malformed", "a letter from elsewhere", TEXT[:50] + "\u0430" + TEXT[51:])


def contents() -> Iterator[Vector]:
    """Tokens that were copied well and do not mean anything sound."""
    body = encode(FIELDS)
    yield case("ok-trailing-field", "ok", "a field of a later version", packed(b"\x01" + encode([*FIELDS, 7])))
    yield case("ok-no-endpoint", "ok", "mDNS has to find the inviter", changed(9, []))
    yield case("version-2", "version", "a later version of tokens", packed(b"\x02" + body))
    yield case("version-0", "version", "no version was ever 0", packed(b"\x00" + body))
    yield case("no-payload", "malformed", "a good checksum of nothing", packed(b""))
    yield case("version-alone", "malformed", "nothing behind the version", packed(b"\x01"))
    yield case("trailing-byte", "malformed", "one byte behind the array", packed(b"\x01" + body + b"\xc0"))
    yield case("field-missing", "malformed", "no endpoints", packed(b"\x01" + encode(FIELDS[:9])))
    wrong: dict[str, tuple[int, Any, str, str]] = {
        "clan-15-bytes": (0, CLAN[:15], "malformed", "a clan id that is cut"),
        "clan-name-capital": (1, "Family", "malformed", "a name that is no lower-case label"),
        "clan-name-33-bytes": (1, "n" * 33, "limit", "a name over 32 bytes"),
        "seed-31-bytes": (2, INVITE[:31], "malformed", "a seed that is cut"),
        "invite-id-text": (3, "x" * 32, "malformed", "an id that is text"),
        "authority-head-nil": (4, None, "malformed", "no floor for the authority"),
        "inviter-33-bytes": (5, bytes(33), "malformed", "a key that is too long"),
        "floor-negative": (6, -1, "malformed", "a seq below 0"),
        "discovery-17-bytes": (7, bytes(17), "malformed", "a secret that is too long"),
        "expires-text": (8, "tomorrow", "malformed", "a time that is text"),
        "port-0": (9, [[bytes(4), 0]], "malformed", "nothing can be sent to port 0"),
        "7-endpoints": (9, [[bytes([192, 0, 2, i]), 1] for i in range(7)], "limit", "more than 6"),
    }
    for name, (position, value, expect, comment) in wrong.items():
        yield case(name, expect, comment, changed(position, value))
