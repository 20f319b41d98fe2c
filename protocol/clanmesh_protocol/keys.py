"""Names for keys and ids, and the private keys of one device.

A node *is* its Ed25519 public key. All private keys are made on the device and never leave it.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NewType, TypeAlias

from nacl import bindings
from nacl.exceptions import CryptoError

from clanmesh_protocol.errors import MalformedError, SignatureError
from clanmesh_protocol.limits import CLAN_ID_BYTES, KEY_BYTES, SIGNATURE_BYTES

NodeId = NewType("NodeId", bytes)  # 32 bytes, an Ed25519 public key
ClanId = NewType("ClanId", bytes)  # 16 bytes
RecordId = NewType("RecordId", bytes)  # 32 bytes

Entropy: TypeAlias = Callable[[int], bytes]  # count of bytes -> as many random bytes; `os.urandom` outside tests

CLAN_ID_NONE = ClanId(bytes(CLAN_ID_BYTES))  # the scope of a genesis, which is what the clan id is made from


def clan_id_of(author: NodeId, genesis_body: bytes) -> ClanId:
    """Hash a genesis record into the id of its clan; the signature is left out, as for record ids."""
    digest = blake2b(author + genesis_body, digest_size=CLAN_ID_BYTES, person=b"clanmesh-clan-id")
    return ClanId(digest.digest())


@lru_cache(maxsize=4096)
def node_text(node: bytes) -> str:
    """Spell a key in lower-case base32 without padding (52 characters)."""
    return base64.b32encode(node).decode().lower().rstrip("=")


def node_from_text_untrusted(text: str) -> NodeId:
    """Read what `node_text` wrote. Raises MalformedError."""
    try:
        raw = base64.b32decode(text.upper() + "====")
    except ValueError as error:
        raise MalformedError("not a node id: base32 was expected") from error
    if len(raw) != KEY_BYTES:
        raise MalformedError(f"not a node id: {len(raw)} bytes, not {KEY_BYTES}")
    if node_text(raw) != text.lower():
        raise MalformedError("not a node id: its last character holds spare bits")
    return NodeId(raw)


@lru_cache(maxsize=4096)
def fingerprint_slot(key: bytes) -> str:
    """Name a key within the 32 bytes of a slot: base32 of BLAKE2b-160."""
    return base64.b32encode(blake2b(key, digest_size=20).digest()).decode().lower()


def sign_detached(seed: bytes, message: bytes) -> bytes:
    """Sign with the Ed25519 key that grows from `seed` (32 bytes)."""
    _, secret = bindings.crypto_sign_seed_keypair(seed)
    return bindings.crypto_sign(message, secret)[:SIGNATURE_BYTES]


def verify_detached_untrusted(public: bytes, message: bytes, signature: bytes) -> None:
    """Check an Ed25519 signature by libsodium's strict rules. Raises SignatureError.

    Strict: S is canonical, the key is canonically encoded, key and R are points of the prime-order subgroup
    and not of small order, and R = SB - kA. The rules are part of the specification: verifiers that differ
    would let an attacker split a clan. 45 microseconds.
    """
    try:
        bindings.crypto_sign_open(signature + message, public)
    except (CryptoError, ValueError) as error:
        raise SignatureError("the signature does not hold") from error
    if not _is_full_order(public) or (_COFACTORED and not _is_full_order(signature[:KEY_BYTES])):
        raise SignatureError("a point of the signature has a part of small order")


@lru_cache(maxsize=4096)  # authors are few: the check would nearly double the cost of a verification
def _is_full_order(point: bytes) -> bool:
    return bindings.crypto_core_ed25519_is_valid_point(point)


def _library_is_cofactored() -> bool:
    """Try a signature whose R has a part of order 8: some releases of libsodium accept it, others do not."""
    public = bytes.fromhex("03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8")
    r = bytes.fromhex("6a84d583f06569edb3f5ed77df65544b27d6948b4f0b2cb76f33dd8413b20719")
    s = bytes.fromhex("15da68038bc680a63ac519dd94f1e8303c251222ca0863e246757faadf148205")
    try:
        bindings.crypto_sign_open(r + s + b"cofactor", public)
    except CryptoError:
        return False
    return True


_COFACTORED: Final = _library_is_cofactored()


def signing_public(seed: bytes) -> bytes:
    """Give the Ed25519 public key of a seed."""
    public, _ = bindings.crypto_sign_seed_keypair(seed)
    return public


def exchange_untrusted(private: bytes, public: bytes) -> bytes:
    """Agree on 32 bytes by X25519 with somebody's public key. Raises MalformedError for one of small order."""
    try:
        return bindings.crypto_scalarmult(private, public)
    except (CryptoError, RuntimeError, ValueError) as error:
        raise MalformedError("an exchange key of small order") from error


def exchange_public(private: bytes) -> bytes:
    """Give the X25519 public key of a private one."""
    return bindings.crypto_scalarmult_base(private)


def tunnel_private(seed: bytes) -> bytes:
    """Derive WireGuard's X25519 private key from the Ed25519 seed that the tunnel key is published under."""
    _, secret = bindings.crypto_sign_seed_keypair(seed)
    return bindings.crypto_sign_ed25519_sk_to_curve25519(secret)


def tunnel_public_untrusted(signing_key: bytes) -> bytes:
    """Derive WireGuard's X25519 public key from the published Ed25519 form. Raises SignatureError."""
    try:
        return bindings.crypto_sign_ed25519_pk_to_curve25519(signing_key)
    except (CryptoError, RuntimeError, ValueError) as error:
        raise SignatureError("the tunnel key is not a point of full order") from error


@dataclass(frozen=True, slots=True, repr=False)
class NextTunnelKey:
    """The tunnel key that takes the other's place once the clan knows of it. `repr` shows nothing of it."""

    seed: bytes  # Ed25519 form
    prekey: int  # id of the prekey that was published with it: who seals with that one knows of both
    made_unix_s: int

    def __repr__(self) -> str:
        return f"NextTunnelKey(made_unix_s={self.made_unix_s})"


@dataclass(frozen=True, slots=True, repr=False)
class DeviceKeys:
    """The private keys of one device. `repr` shows none of them."""

    identity_seed: bytes  # Ed25519; its public half is the node id
    static_private: bytes  # X25519, datagrams
    sealing_private: bytes  # X25519, secrets
    tunnel_seed: bytes  # Ed25519 form of the WireGuard key
    tunnel_number: int  # counts tunnel keys; part of what their proof signs
    prekeys: tuple[tuple[int, bytes, int], ...]  # (id 0-255, X25519 private, made at unix s), newest last
    tunnel_made_unix_s: int = 0  # 0: nobody wrote it down
    tunnel_next: NextTunnelKey | None = None
    node: NodeId = field(init=False, compare=False)  # the public identity

    def __post_init__(self) -> None:
        object.__setattr__(self, "node", NodeId(signing_public(self.identity_seed)))

    def __repr__(self) -> str:
        return f"DeviceKeys(node={node_text(self.node)[:10]})"


def make_device_keys(entropy: Entropy, now_unix_s: int) -> DeviceKeys:
    """Make all keys of a new device."""
    return DeviceKeys(
        identity_seed=entropy(32),
        static_private=entropy(32),
        sealing_private=entropy(32),
        tunnel_seed=entropy(32),
        tunnel_number=1,
        prekeys=((0, entropy(32), now_unix_s),),
        tunnel_made_unix_s=now_unix_s,
    )
