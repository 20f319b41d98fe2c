"""Vectors of status, node, head, secret and suspicion payloads: layer `content` too."""

from collections.abc import Iterator
from typing import Any

from tests.vectors.cases_content import case, changed
from tests.vectors.form import Vector
from tests.vectors.people import MEMBER_ID, secret

PREKEY = secret("prekey 7")
IPV4 = bytes([192, 0, 2, 7])

WRONG: dict[str, tuple[str, int, Any, str, str]] = {
    "status-commit-21-bytes": ("status", 0, bytes(21), "malformed", "neither SHA-1 nor SHA-256"),
    "status-wanted-33-bytes": ("status", 1, bytes(33), "limit", "a commit over 32 bytes"),
    "status-rollout-10": ("status", 2, 10, "limit", "no such state: a later version has a later field for it"),
    "status-rollout-text": ("status", 2, "current", "malformed", "a state that is text"),
    "status-epoch-negative": ("status", 3, -1, "malformed", "an epoch below 0"),
    "status-secrets-2": ("status", 4, 2, "limit", "no such state"),
    "status-5-bad-commits": ("status", 5, [bytes(20)] * 5, "limit", "more than 4"),
    "status-bad-commit-text": ("status", 5, ["x" * 20], "malformed", "a commit that is text"),
    "node-static-key-31-bytes": ("node", 0, bytes(31), "malformed", "a key that is cut"),
    "node-sealing-key-nil": ("node", 1, None, "malformed", "no key"),
    "node-no-prekey": ("node", 2, [], "malformed", "nobody could write to it"),
    "node-5-prekeys": ("node", 2, [[i, PREKEY] for i in range(5)], "limit", "more than 4"),
    "node-prekey-256": ("node", 2, [[256, PREKEY]], "limit", "an id over one byte"),
    "node-prekey-31-bytes": ("node", 2, [[1, PREKEY[:31]]], "malformed", "a key that is cut"),
    "node-prekey-flat": ("node", 2, [PREKEY], "malformed", "a prekey that is no array"),
    "node-9-endpoints": ("node", 3, [[IPV4, 1]] * 9, "limit", "more than 8"),
    "node-port-0": ("node", 3, [[IPV4, 0]], "malformed", "nothing can be sent to port 0"),
    "node-port-65536": ("node", 3, [[IPV4, 65_536]], "limit", "a port over 16 bits"),
    "node-address-5-bytes": ("node", 3, [[bytes(5), 1]], "malformed", "neither IPv4 nor IPv6"),
    "node-address-17-bytes": ("node", 3, [[bytes(17), 1]], "limit", "longer than any address"),
    "node-address-text": ("node", 3, [["192.0.2.7", 1]], "malformed", "an address that is text"),
    "node-address-mapped": ("node", 3, [[bytes(10) + b"\xff\xff" + IPV4, 1]], "malformed", "IPv4 in mapped form"),
    "node-tunnel-port-65536": ("node", 4, 65_536, "limit", "a port over 16 bits"),
    "node-tunnel-key-33-bytes": ("node", 5, bytes(33), "malformed", "a key that is too long"),
    "node-tunnel-number-over-32-bits": ("node", 6, 2**32, "limit", "a count over 32 bits"),
    "node-tunnel-proof-63-bytes": ("node", 7, bytes(63), "malformed", "a signature that is cut"),
    "head-new-nil": ("head", 1, None, "malformed", "a ref cannot be deleted"),
    "head-new-12-bytes": ("head", 1, bytes(12), "malformed", "an abbreviated commit"),
    "head-signature-1901-bytes": ("head", 2, bytes(1901), "limit", "a signature over 1900 bytes"),
    "head-signature-text": ("head", 2, "-----BEGIN SSH SIGNATURE-----", "malformed", "armour for binary"),
    "secret-predecessor-31-bytes": ("secret", 1, bytes(31), "malformed", "an id that is cut"),
    "secret-owner-slash": ("secret", 2, "../root", "malformed", "no account has such a name"),
    "secret-owner-number": ("secret", 2, "0", "malformed", "a number that would be taken for an id"),
    "secret-group-33-bytes": ("secret", 3, "g" * 33, "limit", "a group over 32 bytes"),
    "secret-mode-setuid": ("secret", 4, 0o4755, "limit", "a mode over 0777"),
    "secret-targets-text": ("secret", 5, "all", "malformed", "targets that are no array"),
    "secret-wrap-79-bytes": ("secret", 6, [[MEMBER_ID, bytes(79)]], "malformed", "a sealed key that is cut"),
    "secret-wrap-node-text": ("secret", 6, [["nas", bytes(80)]], "malformed", "a recipient that is text"),
    "secret-nonce-23-bytes": ("secret", 7, bytes(23), "malformed", "a nonce that is cut"),
    "suspicion-21-suspects": ("suspicion", 0, [[MEMBER_ID, 1]] * 21, "limit", "more than 20"),
    "suspicion-incarnation-negative": ("suspicion", 0, [[MEMBER_ID, -1]], "malformed", "an incarnation below 0"),
    "suspicion-flat": ("suspicion", 0, [MEMBER_ID], "malformed", "a suspect that is no array"),
}


def all_cases() -> Iterator[Vector]:
    """Give every vector of these kinds, one faulty field each."""
    for name, (kind, position, value, expect, comment) in WRONG.items():
        yield case(name, expect, comment, changed(kind, position, value))
