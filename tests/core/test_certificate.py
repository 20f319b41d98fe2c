"""The certificate has one form: every other byte is refused, and OpenSSL reads it as what it is."""

import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from clanmesh_protocol.errors import MalformedError, ProtocolError, SignatureError
from clanmesh_protocol.keys import NodeId, sign_detached, signing_public
from clanmeshd.net.certificate import (
    CERTIFICATE_BYTES,
    check_certificate_untrusted,
    identity_of_certificate_untrusted,
    make_certificate,
    pem,
)
from clanmeshd.net.tls import server_context

SEED, OTHER_SEED = b"s" * 32, b"o" * 32
IDENTITY, OTHER = NodeId(signing_public(SEED)), NodeId(signing_public(OTHER_SEED))
CHECKOUT = Path(__file__).resolve().parents[2]

# The form is part of the protocol: another implementation must make the same bytes.
BEFORE_KEY = bytes.fromhex(
    "3081d4"  # Certificate
    "308187"  # TBSCertificate
    "a003020102"  # version 3
    "020101"  # serial 1
    "300506032b6570"  # Ed25519
    "30133111300f06035504030c08636c616e6d657368"  # issuer: CN=clanmesh
    "3020170d3030303130313030303030305a180f39393939313233313233353935395a"  # 2000-01-01 to 9999-12-31
    "30133111300f06035504030c08636c616e6d657368"  # subject
    "302a300506032b6570032100"  # the key follows
)
BETWEEN = bytes.fromhex("300506032b6570034100")  # Ed25519; the signature follows


def test_the_form_is_frozen() -> None:
    der = make_certificate(SEED)
    assert der == make_certificate(SEED)
    assert len(der) == CERTIFICATE_BYTES
    signature = sign_detached(SEED, der[3 : -len(BETWEEN) - 64])
    assert der == BEFORE_KEY + IDENTITY + BETWEEN + signature


def test_an_identity_comes_out_as_it_went_in() -> None:
    assert identity_of_certificate_untrusted(make_certificate(SEED)) == IDENTITY
    check_certificate_untrusted(make_certificate(SEED), IDENTITY)


def test_every_flipped_bit_is_refused() -> None:
    der = make_certificate(SEED)
    for position in range(len(der)):
        for bit in (0, 7):
            damaged = bytearray(der)
            damaged[position] ^= 1 << bit
            with pytest.raises(ProtocolError):
                identity_of_certificate_untrusted(bytes(damaged))


@pytest.mark.parametrize("length", [0, 1, CERTIFICATE_BYTES - 1, CERTIFICATE_BYTES + 1, 100_000])
def test_another_length_is_refused(length: int) -> None:
    data = make_certificate(SEED).ljust(length, b"\0")[:length]
    with pytest.raises(MalformedError):
        identity_of_certificate_untrusted(data)


def test_a_key_in_a_foreign_envelope_is_refused() -> None:
    """The key of one identity anywhere in another's certificate proves nothing."""
    mine, theirs = make_certificate(SEED), make_certificate(OTHER_SEED)
    mixed = theirs.replace(OTHER, IDENTITY)
    assert mixed.count(bytes(IDENTITY)) == 1
    with pytest.raises(SignatureError):
        check_certificate_untrusted(mixed, IDENTITY)
    with pytest.raises(MalformedError):
        check_certificate_untrusted(theirs[:-32] + IDENTITY[:31], IDENTITY)
    with pytest.raises(SignatureError):
        check_certificate_untrusted(mine[:-64] + theirs[-64:], IDENTITY)


def test_another_identity_is_refused() -> None:
    with pytest.raises(SignatureError):
        check_certificate_untrusted(make_certificate(OTHER_SEED), IDENTITY)
    with pytest.raises(MalformedError):
        check_certificate_untrusted(None, IDENTITY)


def test_openssl_reads_it_and_its_signature_holds() -> None:
    """A verifier that knows nothing of us, told to check even the self-signature, accepts the handshake."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(cadata=make_certificate(SEED))
    client.verify_flags |= ssl.VerifyFlags(0x4000)  # X509_V_FLAG_CHECK_SS_SIGNATURE
    assert _shake_hands(client, server_context(SEED)) == make_certificate(SEED)


def test_openssl_refuses_a_damaged_self_signature() -> None:
    damaged = make_certificate(SEED)[:-1] + b"\0"
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(cadata=pem("CERTIFICATE", damaged).decode())
    client.verify_flags |= ssl.VerifyFlags(0x4000)
    with pytest.raises(ssl.SSLCertVerificationError):
        _shake_hands(client, server_context(SEED))


def test_only_tls_1_3_is_spoken() -> None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
        _shake_hands(client, server_context(SEED))


def test_no_library_for_certificates_is_imported() -> None:
    """One costs 10 MB of the daemon's 45."""
    script = (
        "import sys, clanmeshd.net.stream, clanmeshd.net.udp, clanmeshd.net.mdns, clanmeshd.net.addresses\n"
        "clanmeshd.net.stream.server_context(bytes(32))\n"
        "print([name for name in ('cryptography', 'OpenSSL', 'asyncio', 'zeroconf') if name in sys.modules])"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script],
        cwd=CHECKOUT,
        env={"PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'protocol'}"},
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert finished.stdout.decode().strip() == "[]"


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> bytes | None:
    """Let two contexts shake hands in memory; the certificate that the client saw."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert ends[0].version() == "TLSv1.3"
    return ends[0].getpeercert(binary_form=True)
