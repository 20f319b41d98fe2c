"""Vectors of recovery keys as people keep them: layer `recovery`. The hex is the text in ASCII."""

from collections.abc import Iterator

from clanmesh_protocol.keys import NodeId, node_text, signing_public
from tests.vectors.bech32 import ALPHABET, BECH32, digits_of, spell
from tests.vectors.form import Vector
from tests.vectors.people import RECOVERY

PREFIX = "clanrecovery"
BODY = b"\x01" + RECOVERY
TEXT = spell(PREFIX, digits_of(BODY))
OLD_TEXT = node_text(NodeId(RECOVERY))


def case(name: str, expect: str, comment: str, text: str) -> Vector:
    """Make a vector of this layer."""
    derived = {"seed": RECOVERY.hex(), "key": signing_public(RECOVERY).hex()} if expect == "ok" else {}
    return Vector(f"recovery/{name}", expect, comment, text.encode(), derived)


def packed(data: bytes) -> str:
    """Spell any bytes with a good checksum."""
    return spell(PREFIX, digits_of(data))


def all_cases() -> Iterator[Vector]:
    """Give every vector of this layer."""
    yield case("ok", "ok", "small letters", TEXT)
    yield case("ok-capitals", "ok", "capitals, as in a QR code", TEXT.upper())
    groups = " ".join(TEXT[at : at + 5] for at in range(0, len(TEXT), 5))
    yield case("ok-in-groups", "ok", "white space between and around, as it was written down", f" {groups}\n")
    yield case("ok-base32", "ok", "the spelling of the first version, without a checksum", OLD_TEXT)
    yield case("ok-base32-capitals", "ok", "the same in capitals", OLD_TEXT.upper())
    wrong = TEXT[:30] + ALPHABET[(ALPHABET.index(TEXT[30]) + 1) % 32] + TEXT[31:]
    yield case("one-character", "malformed", "one character mistyped", wrong)
    at = next(place for place in range(20, 60) if TEXT[place] != TEXT[place + 1])
    swapped = TEXT[:at] + TEXT[at + 1] + TEXT[at] + TEXT[at + 2 :]
    yield case("two-swapped", "malformed", "two neighbours exchanged", swapped)
    yield case("cut-one", "malformed", "the last character is missing", TEXT[:-1])
    yield case("mixed-case", "malformed", "capitals and small letters", TEXT[:30] + TEXT[30:].upper())
    yield case("empty", "malformed", "no characters at all", "")
    yield case("bech32-checksum", "malformed", "the checksum of bech32", spell(PREFIX, digits_of(BODY), BECH32))
    yield case("version-2", "version", "a later version of recovery keys", packed(b"\x02" + RECOVERY))
    yield case("no-payload", "version", "a good checksum of nothing: no version", packed(b""))
    yield case("31-bytes", "malformed", "a seed that is cut", packed(BODY[:-1]))
    yield case("33-bytes", "malformed", "one byte behind the seed", packed(BODY + b"\0"))
    yield case("token", "malformed", "an invite's prefix", spell("clan", digits_of(BODY)))
    yield case("base32-51-characters", "malformed", "the old spelling, cut", OLD_TEXT[:-1])
    spare = OLD_TEXT[:-1] + chr(ord(OLD_TEXT[-1]) + 1)
    yield case("base32-spare-bit", "malformed", "the old spelling with a spare bit set", spare)
