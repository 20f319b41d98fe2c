"""TLS 1.3 as a pipe that nobody can read or change. Who is at its ends is settled by keys, not by authorities.

The server's certificate is the fixed form of `certificate.py`; the client compares all of it with the key that
it expects. The client has no certificate: it signs the server's nonce inside the pipe.
"""

import functools
import os
import ssl

from clanmeshd.net.certificate import make_certificate, pem, private_key_der


def server_context(seed: bytes) -> ssl.SSLContext:
    """Make the server's side for the identity that grows from `seed`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # a resumed session would show no certificate, and tickets are bytes for strangers
    chain = pem("CERTIFICATE", make_certificate(seed)) + pem("PRIVATE KEY", private_key_der(seed))
    # The ssl module reads keys from files only; this one is in no file system and gone when it is closed.
    descriptor = os.memfd_create("clanmesh-identity", os.MFD_CLOEXEC)
    with open(descriptor, "wb") as file:
        file.write(chain)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    return context


@functools.cache
def client_context() -> ssl.SSLContext:
    """Make the client's side, once: it holds no secret."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # No authority vouches for a device. `check_certificate_untrusted` takes the place of both checks, and the
    # handshake fails by itself when the server does not hold the certificate's key (CertificateVerify).
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
