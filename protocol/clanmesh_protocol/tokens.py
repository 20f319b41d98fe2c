"""Invite tokens: all that a new device must know, as one word that can be typed, pasted or scanned.

A token is bech32m (BIP-350) with the prefix `clan` over `version u8 | msgpack array`. It holds a private key:
whoever reads it can join, once. Capitals and small letters mean the same, but not mixed, and white space is
ignored, so that a token survives a QR code, a mail and a line break.
"""

from dataclasses import dataclass, field
from typing import Final, NoReturn

from clanmesh_protocol.encoding import Fields, decode_untrusted, encode
from clanmesh_protocol.endpoints import Endpoint, endpoint_from_fields_untrusted
from clanmesh_protocol.errors import LimitError, MalformedError, VersionError
from clanmesh_protocol.keys import ClanId, NodeId, RecordId, node_from_text_untrusted
from clanmesh_protocol.limits import (
    CLAN_ID_BYTES,
    DISCOVERY_BYTES,
    KEY_BYTES,
    NAME_BYTES_MAX,
    RECORD_ID_BYTES,
    TOKEN_BYTES_MAX,
    TOKEN_ENDPOINTS_MAX,
    TOKEN_VERSION,
)
from clanmesh_protocol.names import check_label_untrusted

TOKEN_PREFIX: Final = "clan"
RECOVERY_PREFIX: Final = "clanrecovery"

_ALPHABET: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"  # BIP-173: no 1, b, i, o
_VALUES: Final = {character: value for value, character in enumerate(_ALPHABET)}
_SEPARATOR: Final = "1"
_CHECKSUM_CHARACTERS: Final = 6
_RESIDUE_BECH32M: Final = 0x2BC8_30A3
_GENERATOR: Final = (0x3B6A_57B2, 0x2650_8E6D, 0x1EA1_19FA, 0x3D42_33DD, 0x2A14_62B3)
# Below 1024, where the code's period ends: up to there every single wrong character is found.
_CHARACTERS_MAX: Final = len(TOKEN_PREFIX) + 1 + -(-TOKEN_BYTES_MAX * 8 // 5) + _CHECKSUM_CHARACTERS
_TEXT_CHARACTERS_MAX: Final = 4 * _CHARACTERS_MAX  # with the white space of any mail program


@dataclass(frozen=True, slots=True)
class Token:
    """One invite as it travels. `repr` shows no secret."""

    clan: ClanId
    clan_name: str
    invite_seed: bytes = field(repr=False)  # 32: Ed25519 seed of the one-time key
    invite_id: RecordId  # of the invite record
    authority_head: RecordId  # the joiner accepts no older authority than this
    inviter: NodeId
    floor: int  # the inviter's newest seq: the joiner must be shown a record at least as new
    discovery: bytes = field(repr=False)  # 16: the secret under the mDNS tag
    expires_unix_s: int
    endpoints: tuple[Endpoint, ...]  # of members' control ports, best first; hints


def encode_token(token: Token) -> str:
    """Spell a token in small letters."""
    fields = [
        token.clan,
        token.clan_name,
        token.invite_seed,
        token.invite_id,
        token.authority_head,
        token.inviter,
        token.floor,
        token.discovery,
        token.expires_unix_s,
        [[at.ip, at.port] for at in token.endpoints],
    ]
    data = bytes([TOKEN_VERSION]) + encode(fields)
    assert len(data) <= TOKEN_BYTES_MAX, "a token's fields are bounded by their makers"
    return encode_bech32m(TOKEN_PREFIX, data)


def decode_token_untrusted(text: str) -> Token:
    """Read a token that a person typed, pasted or scanned.

    Raises MalformedError (mistyped, cut, not a token), LimitError or VersionError. What it says is only as
    true as the member that it leads to: the joiner checks the records that it is given.
    """
    if len(text) > _TEXT_CHARACTERS_MAX:
        raise LimitError(f"a token has at most {_CHARACTERS_MAX} characters")
    data = decode_bech32m_untrusted(TOKEN_PREFIX, "".join(text.split()))
    if not data:
        raise MalformedError("the token is empty")
    if data[0] != TOKEN_VERSION:
        raise VersionError(f"token version {data[0]}, this is version {TOKEN_VERSION}: update clanmesh")
    fields = Fields(decode_untrusted(data[1:], bytes_max=TOKEN_BYTES_MAX - 1), "token")
    return Token(
        clan=ClanId(fields.blob("clan", exactly=CLAN_ID_BYTES)),
        clan_name=check_label_untrusted(fields.text("clan name", NAME_BYTES_MAX), "clan name"),
        invite_seed=fields.blob("invite seed", exactly=KEY_BYTES),
        invite_id=RecordId(fields.blob("invite id", exactly=RECORD_ID_BYTES)),
        authority_head=RecordId(fields.blob("authority head", exactly=RECORD_ID_BYTES)),
        inviter=NodeId(fields.blob("inviter", exactly=KEY_BYTES)),
        floor=fields.uint("floor"),
        discovery=fields.blob("discovery", exactly=DISCOVERY_BYTES),
        expires_unix_s=fields.uint("expires"),
        endpoints=tuple(
            endpoint_from_fields_untrusted(row) for row in fields.rows("endpoints", TOKEN_ENDPOINTS_MAX)
        ),
    )


def encode_recovery(seed: bytes) -> str:
    """Spell the seed (32 bytes) of a recovery key for paper: a wrong letter is found when it is typed again."""
    return encode_bech32m(RECOVERY_PREFIX, bytes([TOKEN_VERSION]) + seed)


def decode_recovery_untrusted(text: str) -> bytes:
    """Read the seed of a recovery key. Raises MalformedError, LimitError or VersionError.

    The first version spelled it as a node id, 52 characters without a checksum: that is read too.
    """
    compact = "".join(text[:_TEXT_CHARACTERS_MAX].split())
    if not compact.lower().startswith(RECOVERY_PREFIX):
        return bytes(node_from_text_untrusted(compact))
    data = decode_bech32m_untrusted(RECOVERY_PREFIX, compact)
    if data[:1] != bytes([TOKEN_VERSION]):
        raise VersionError("a recovery key of another version: update clanmesh")
    if len(data) != 1 + KEY_BYTES:
        raise MalformedError("the recovery key is cut short, or has too much at its end")
    return data[1:]


# --- bech32m -------------------------------------------------------------------------------------------


def encode_bech32m(prefix: str, data: bytes) -> str:
    """Spell bytes in bech32m behind a prefix of small letters."""
    digits = _digits_of(data)
    residue = _polymod(_expanded(prefix) + digits + [0] * _CHECKSUM_CHARACTERS) ^ _RESIDUE_BECH32M
    checksum = [residue >> 5 * place & 31 for place in reversed(range(_CHECKSUM_CHARACTERS))]
    return prefix + _SEPARATOR + "".join(_ALPHABET[digit] for digit in digits + checksum)


def decode_bech32m_untrusted(prefix: str, text: str) -> bytes:
    """Read what `encode_bech32m` wrote, in small letters or in capitals. Raises MalformedError or LimitError."""
    if len(text) > _CHARACTERS_MAX:
        raise LimitError(f"{len(text)} characters where a token has at most {_CHARACTERS_MAX}")
    if text not in (text.lower(), text.upper()):
        raise MalformedError("capitals and small letters are mixed: some characters were mistyped")
    found, separator, rest = text.lower().rpartition(_SEPARATOR)
    if not separator or found != prefix:
        raise MalformedError(f"not a token: one begins with {prefix}{_SEPARATOR}")
    digits = [_VALUES[character] for character in rest if character in _VALUES]
    if len(digits) != len(rest) or len(digits) < _CHECKSUM_CHARACTERS:
        _refuse_damaged()
    if _polymod(_expanded(prefix) + digits) != _RESIDUE_BECH32M:
        _refuse_damaged()
    return _bytes_of_untrusted(digits[:-_CHECKSUM_CHARACTERS])


def _refuse_damaged() -> NoReturn:
    raise MalformedError("the token is damaged: characters were mistyped or cut off")


def _polymod(digits: list[int]) -> int:
    """Divide by the generator of the code: the remainder of a polynomial over GF(32), 30 bits."""
    residue = 1
    for digit in digits:
        top = residue >> 25
        residue = (residue & 0x1FF_FFFF) << 5 ^ digit
        for bit, term in enumerate(_GENERATOR):
            if top >> bit & 1:
                residue ^= term
    return residue


def _expanded(prefix: str) -> list[int]:
    return [ord(character) >> 5 for character in prefix] + [0] + [ord(character) & 31 for character in prefix]


def _digits_of(data: bytes) -> list[int]:
    """Cut bytes into digits of 5 bits, the last one filled with zeros."""
    count = -(-len(data) * 8 // 5)
    number = int.from_bytes(data, "big") << count * 5 - len(data) * 8
    return [number >> 5 * place & 31 for place in reversed(range(count))]


def _bytes_of_untrusted(digits: list[int]) -> bytes:
    size, spare = divmod(len(digits) * 5, 8)
    number = 0
    for digit in digits:
        number = number << 5 | digit
    if spare >= 5 or number & (1 << spare) - 1:
        raise MalformedError("the token does not end where a whole number of bytes does")
    return (number >> spare).to_bytes(size, "big")
