"""The clan that the vectors speak of: who is in it, with keys from names. Every byte is the same at each run."""

from base64 import b64encode
from hashlib import blake2b
from typing import Any

from clanmesh_protocol.encoding import encode
from clanmesh_protocol.keys import CLAN_ID_NONE, ClanId, NodeId, RecordId, sign_detached, signing_public
from clanmesh_protocol.records import Admin, Genesis, parse_untrusted, record_id, signing_input
from clanmesh_protocol.signing import sign_genesis

UNIX_S = 1_770_000_000  # a day in February 2026
SEQ = UNIX_S * 1000 << 16


def secret(name: str, size: int = 32) -> bytes:
    """Make the same private bytes from the same name."""
    return blake2b(name.encode(), digest_size=size, person=b"clanmesh vectors").digest()


FOUNDER = secret("founder")
MEMBER = secret("member")
STRANGER = secret("stranger")
INVITE = secret("invite")
TUNNEL = secret("tunnel")
RECOVERY = secret("recovery")

FOUNDER_ID = NodeId(signing_public(FOUNDER))
MEMBER_ID = NodeId(signing_public(MEMBER))
STRANGER_ID = NodeId(signing_public(STRANGER))
INVITE_KEY = signing_public(INVITE)

_SIGNER_BLOB = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + signing_public(secret("signer"))
SIGNER = f"ssh-ed25519 {b64encode(_SIGNER_BLOB).decode()} ann@laptop"

GENESIS = Genesis("family", (Admin(FOUNDER_ID, 1),), signing_public(RECOVERY), (SIGNER,))
GENESIS_DATA, CLAN = sign_genesis(FOUNDER, GENESIS, SEQ)
GENESIS_ID = parse_untrusted(GENESIS_DATA, CLAN).id
OTHER_GENESIS_DATA, OTHER_CLAN = sign_genesis(
    STRANGER, Genesis("neighbours", (Admin(STRANGER_ID, 1),), None, ()), SEQ
)


def sign_body(seed: bytes, body: bytes, scope: ClanId = CLAN, version: int = 1) -> bytes:
    """Sign any bytes as the body of a record, sound or not."""
    author = signing_public(seed)
    signature = sign_detached(seed, signing_input(scope, author, body))
    return bytes([version]) + author + signature + body


def sign_payload(
    seed: bytes,
    kind: int,
    slot: str,
    payload: bytes | list[Any],
    *,
    seq: int = SEQ + 1,
    ttl_s: int = 0,
    prev: RecordId | None = None,
) -> bytes:
    """Sign a record around a payload, given as bytes or as an array."""
    packed = payload if isinstance(payload, bytes) else encode(payload)
    genesis = kind == 0 and slot == "00000000"
    return sign_body(seed, encode([kind, slot, seq, ttl_s, prev, packed]), scope=CLAN_ID_NONE if genesis else CLAN)


def id_of(data: bytes, scope: ClanId = CLAN) -> RecordId:
    """The id of a record, from its bytes alone."""
    return record_id(signing_input(scope, data[1:33], data[97:]))
