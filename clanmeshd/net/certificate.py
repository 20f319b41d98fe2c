"""The one form of certificate: an identity key in an X.509 envelope that says nothing else.

TLS wants a certificate, clanmesh wants a key. So every byte is fixed but the key and the self-signature: there
are no names, dates or extensions to interpret, and none are. Whoever holds the key makes the same bytes each
time. TLS 1.3 itself proves possession: its CertificateVerify message is signed by the key over the handshake.

The identity key signs records, stream hellos, this envelope and CertificateVerify. No two can be confused:
records and hellos begin with `clanmesh/`, the envelope with the byte 0x30, CertificateVerify with 64 spaces.
"""

import base64
from typing import Final

from clanmesh_protocol.errors import MalformedError, SignatureError
from clanmesh_protocol.keys import NodeId, sign_detached, signing_public, verify_detached_untrusted
from clanmesh_protocol.limits import KEY_BYTES, SIGNATURE_BYTES

_INTEGER: Final = 0x02
_BIT_STRING: Final = 0x03
_OBJECT: Final = 0x06
_UTF8: Final = 0x0C
_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18  # for years from 2050 on (RFC 5280, 4.1.2.5)
_VERSION: Final = 0xA0  # [0] EXPLICIT


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    assert len(content) < 0x1_0000, "the form is a few hundred bytes"
    length = len(content).to_bytes(2 if len(content) > 0xFF else 1, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


_ED25519: Final = _der(_SEQUENCE, _der(_OBJECT, bytes.fromhex("2b6570")))  # 1.3.101.112
_COMMON_NAME: Final = _der(_OBJECT, bytes.fromhex("550403"))
_NAME: Final = _der(_SEQUENCE, _der(_SET, _der(_SEQUENCE, _COMMON_NAME, _der(_UTF8, b"clanmesh"))))
# From before any device to X.509's "no expiry": a device with a wrong clock must still be able to connect.
_VALIDITY: Final = _der(_SEQUENCE, _der(_UTC_TIME, b"000101000000Z"), _der(_GENERALIZED_TIME, b"99991231235959Z"))


def _statement(public: bytes) -> bytes:
    """The part that is signed: version 3, serial 1, and the key between names that say nothing."""
    key = _der(_SEQUENCE, _ED25519, _der(_BIT_STRING, b"\0", public))
    version, serial = _der(_VERSION, _der(_INTEGER, b"\2")), _der(_INTEGER, b"\1")
    return _der(_SEQUENCE, version, serial, _ED25519, _NAME, _VALIDITY, _NAME, key)


def _envelope(statement: bytes, signature: bytes) -> bytes:
    return _der(_SEQUENCE, statement, _ED25519, _der(_BIT_STRING, b"\0", signature))


_BLANK: Final = _envelope(_statement(bytes(KEY_BYTES)), bytes(SIGNATURE_BYTES))
_KEY_AT: Final = _BLANK.index(_der(_BIT_STRING, b"\0", bytes(KEY_BYTES))) + 3  # behind tag, length, unused bits
CERTIFICATE_BYTES: Final = len(_BLANK)


def make_certificate(seed: bytes) -> bytes:
    """Make the certificate (DER) of the identity that grows from `seed` (32 bytes). Always the same bytes."""
    statement = _statement(signing_public(seed))
    return _envelope(statement, sign_detached(seed, statement))


def identity_of_certificate_untrusted(der: bytes) -> NodeId:
    """Read the identity out of a certificate. Raises MalformedError or SignatureError.

    The whole certificate is made again from the key and signature found in it, and must be equal: no parser
    decides what an unexpected byte might mean.
    """
    if len(der) != CERTIFICATE_BYTES:
        raise MalformedError(f"a certificate of {len(der)} bytes, not {CERTIFICATE_BYTES}")
    public, signature = der[_KEY_AT : _KEY_AT + KEY_BYTES], der[-SIGNATURE_BYTES:]
    statement = _statement(public)
    if _envelope(statement, signature) != der:
        raise MalformedError("a certificate of another form")
    verify_detached_untrusted(public, statement, signature)
    return NodeId(public)


def check_certificate_untrusted(der: bytes | None, expected: NodeId) -> None:
    """Check that a certificate is the expected identity's. Raises MalformedError or SignatureError."""
    if der is None:
        raise MalformedError("no certificate")
    if identity_of_certificate_untrusted(der) != expected:
        raise SignatureError("the certificate is another identity's")


def private_key_der(seed: bytes) -> bytes:
    """Wrap the seed of an identity as a PKCS #8 private key. As secret as the seed."""
    octets = _der(0x04, _der(0x04, seed))  # an OCTET STRING (RFC 8410) within one (RFC 5208)
    return _der(_SEQUENCE, _der(_INTEGER, b"\0"), _ED25519, octets)


def pem(label: str, der: bytes) -> bytes:
    """Armour DER bytes as OpenSSL reads them from files."""
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n".encode()
