"""SSH signatures by Ed25519 keys, checked here: a twentieth of a millisecond, where OpenSSH takes three processes.

Only a yes counts. Whatever this does not find good (another kind of key, a form that it does not expect, a wrong
signature) is for OpenSSH to judge, whose no is the one that is shown.

The form is OpenSSH's PROTOCOL.sshsig: `SSHSIG | version u32 | key | namespace | reserved | hash | signature`, each
of the last five a string with its length in front; what is signed is `SSHSIG | namespace | reserved | hash name |
hash of the message`.
"""

import hashlib
import struct
from collections.abc import Callable
from typing import Final

from clanmesh_protocol.errors import SignatureError
from clanmesh_protocol.keys import verify_detached_untrusted
from clanmeshd.rollout.signers import Signature, Signer

KEY_TYPE: Final = b"ssh-ed25519"
KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

_PREAMBLE: Final = b"SSHSIG"
_VERSION: Final = struct.pack(">I", 1)
_HASHES: Final[dict[bytes, Callable[[bytes], bytes]]] = {
    b"sha256": lambda data: hashlib.sha256(data).digest(),
    b"sha512": lambda data: hashlib.sha512(data).digest(),
}


def surely_signed(signer: Signer, signature: Signature, namespace: str, message: bytes) -> bool:
    """Say whether this signer surely signed this message for this purpose. A no means only: not sure."""
    parts = _split(signature.binary)
    if parts is None:
        return False
    key, purpose, reserved, hash_name, proof = parts
    digest = _HASHES.get(hash_name)
    public, raw = _ed25519(key, KEY_BYTES), _ed25519(proof, SIGNATURE_BYTES)
    if digest is None or public is None or raw is None or key != signer.blob or purpose != namespace.encode():
        return False
    signed = _PREAMBLE + b"".join(map(_string, (purpose, reserved, hash_name, digest(message))))
    try:
        verify_detached_untrusted(public, signed, raw)
    except SignatureError:
        return False
    return True


def _split(binary: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes] | None:
    head = _PREAMBLE + _VERSION
    parts = _strings(binary[len(head) :])
    if not binary.startswith(head) or parts is None or len(parts) != 5:
        return None
    key, namespace, reserved, hash_name, proof = parts
    return key, namespace, reserved, hash_name, proof


def _ed25519(data: bytes, size: int) -> bytes | None:
    """The one value in a string that begins with the key type."""
    parts = _strings(data)
    if parts is None or len(parts) != 2 or parts[0] != KEY_TYPE or len(parts[1]) != size:
        return None
    return parts[1]


def _strings(data: bytes) -> list[bytes] | None:
    """All strings of which this consists, to the last byte."""
    found = []
    while data:
        length = int.from_bytes(data[:4], "big")
        if len(data) < 4 + length or len(data) < 4:
            return None
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return found


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
