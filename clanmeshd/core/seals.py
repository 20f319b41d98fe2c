"""The seal of a datagram and the keys behind it: XChaCha20-Poly1305 (IETF) and X25519, by libsodium.

With PyNaCl's wrappers a seal takes 4 us, without them 1.6, since they write the texts of errors before they know
of any; and sealing is what a daemon does most. So the library is called here as PyNaCl calls it. C relies on the
lengths of keys and nonces, which are asserted.
"""

from typing import Final

from nacl import bindings
from nacl._sodium import ffi, lib
from nacl.exceptions import CryptoError

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import DATAGRAM_HEADER_BYTES, DATAGRAM_TAG_BYTES, KEY_BYTES
from clanmesh_protocol.messages import NONCE_BYTES

_NONCE_PADDING: Final = bytes(8)  # the wire carries 16 of XChaCha20's 24 bytes


def seal(key: bytes, lead: bytes, plaintext: bytes) -> bytes:
    """Give the datagram: `lead`, the header, whose end is the nonce, and the sealed plaintext."""
    assert len(key) == KEY_BYTES
    assert len(lead) == DATAGRAM_HEADER_BYTES
    nonce = lead[-NONCE_BYTES:] + _NONCE_PADDING
    sealed = ffi.new("unsigned char[]", len(plaintext) + DATAGRAM_TAG_BYTES)
    failed = lib.crypto_aead_xchacha20poly1305_ietf_encrypt(
        sealed, ffi.NULL, plaintext, len(plaintext), lead, len(lead), ffi.NULL, nonce, key
    )
    assert not failed
    return lead + bytes(ffi.buffer(sealed))


def unseal(key: bytes, data: bytes) -> bytes | None:
    """Give the plaintext of a datagram that is long enough to have one. None when the seal does not hold."""
    assert len(key) == KEY_BYTES
    assert len(data) >= DATAGRAM_HEADER_BYTES + DATAGRAM_TAG_BYTES
    lead, sealed = data[:DATAGRAM_HEADER_BYTES], data[DATAGRAM_HEADER_BYTES:]
    nonce = lead[-NONCE_BYTES:] + _NONCE_PADDING
    plaintext = ffi.new("unsigned char[]", len(sealed) - DATAGRAM_TAG_BYTES)
    failed = lib.crypto_aead_xchacha20poly1305_ietf_decrypt(
        plaintext, ffi.NULL, ffi.NULL, sealed, len(sealed), lead, len(lead), nonce, key
    )
    return bytes(ffi.buffer(plaintext)) if not failed else None


def exchange(private: bytes, public: bytes) -> bytes | None:
    """X25519. None for a public key of low order, which a hostile member may publish."""
    try:
        return bindings.crypto_scalarmult(private, public)
    except (CryptoError, RuntimeError):
        return None


def montgomery_private(identity_seed: bytes) -> bytes:
    """The X25519 form of an Ed25519 key."""
    _, secret = bindings.crypto_sign_seed_keypair(identity_seed)
    return bindings.crypto_sign_ed25519_sk_to_curve25519(secret)


def montgomery_public(node: NodeId) -> bytes | None:
    """The X25519 form of a node id. None for a point that has none."""
    try:
        return bindings.crypto_sign_ed25519_pk_to_curve25519(node)
    except (CryptoError, RuntimeError):
        return None
