"""Vectors of what payloads mean: layer `content`. Envelope and signature of each are sound."""

from collections.abc import Iterator, Mapping
from typing import Any

from clanmesh_protocol.encoding import encode
from clanmesh_protocol.keys import ClanId, RecordId, clan_id_of, fingerprint_slot, signing_public
from tests.vectors.form import Vector
from tests.vectors.people import (
    CLAN,
    FOUNDER,
    FOUNDER_ID,
    GENESIS,
    GENESIS_DATA,
    GENESIS_ID,
    INVITE_KEY,
    MEMBER,
    MEMBER_ID,
    SIGNER,
    STRANGER_ID,
    TUNNEL,
    UNIX_S,
    secret,
    sign_payload,
)

COMMIT = bytes(range(20))
COMMIT_SHA256 = bytes(range(32))
PROOF = bytes(64)
MEMBER_SLOT = fingerprint_slot(MEMBER_ID)
REDEMPTION_SLOT = fingerprint_slot(INVITE_KEY + STRANGER_ID)
ENDPOINTS = [[bytes([192, 0, 2, 7]), 51871], [bytes.fromhex("20010db8") + bytes(11) + b"\x07", 51871]]

CREDENTIAL = [MEMBER_ID, "nas", ["backup", "home"], UNIX_S + 86_400, None]
REVOCATION = [MEMBER_ID, "sold"]
STATUS = [COMMIT, COMMIT_SHA256, 1, 3, 0, [bytes(20)]]
NODE = [
    secret("static key"),
    secret("sealing key"),
    [[7, secret("prekey 7")], [8, secret("prekey 8")]],
    ENDPOINTS,
    51872,
    signing_public(TUNNEL),
    1,
    PROOF,
]
HEAD = [COMMIT, bytes(range(1, 21)), b"SSHSIG" + bytes(64)]
SECRET = [1, None, "root", "users", 0o440, ["backup"], [[MEMBER_ID, bytes(80)]], bytes(24), bytes(40)]
SUSPICION = [[[MEMBER_ID, 5], [FOUNDER_ID, 6]]]
INVITE = [INVITE_KEY, "nas", ["backup"], 1, UNIX_S + 86_400]
REDEMPTION = [RecordId(secret("invite id")), INVITE_KEY, STRANGER_ID, "phone", UNIX_S, PROOF, PROOF]

GOOD: Mapping[str, tuple[int, str, list[Any]]] = {
    "credential": (1, MEMBER_SLOT, CREDENTIAL),
    "revocation": (2, MEMBER_SLOT, REVOCATION),
    "status": (3, "self", STATUS),
    "node": (4, "self", NODE),
    "head": (5, "main", HEAD),
    "secret": (6, "wifi", SECRET),
    "suspicion": (7, "self", SUSPICION),
    "invite": (10, fingerprint_slot(INVITE_KEY), INVITE),
    "redemption": (11, REDEMPTION_SLOT, REDEMPTION),
}


def case(name: str, expect: str, comment: str, data: bytes, clan: ClanId = CLAN) -> Vector:
    """Make a vector of this layer."""
    return Vector(f"content/{name}", expect, comment, data, {"clan": clan.hex()})


def good(name: str) -> bytes:
    """Sign the sound record of a kind."""
    kind, slot, payload = GOOD[name]
    return sign_payload(FOUNDER, kind, slot, payload)


def changed(name: str, position: int, value: Any) -> bytes:
    """Sign the sound record of a kind with one field of its payload exchanged."""
    kind, slot, payload = GOOD[name]
    return sign_payload(FOUNDER, kind, slot, [*payload[:position], value, *payload[position + 1 :]])


def moved(name: str, slot: str) -> bytes:
    """Sign the sound record of a kind in another slot."""
    kind, _, payload = GOOD[name]
    return sign_payload(FOUNDER, kind, slot, payload)


def genesis_case(name: str, expect: str, comment: str, *changes: tuple[int, Any]) -> Vector:
    """Found a clan with some fields of the genesis exchanged; the clan id is that clan's own."""
    payload = GENESIS.fields()
    for position, value in changes:
        payload[position] = value
    data = sign_payload(FOUNDER, 0, "00000000", payload)
    return case(f"genesis-{name}", expect, comment, data, clan_id_of(FOUNDER_ID, data[97:]))


def all_cases() -> Iterator[Vector]:
    """Give every vector of this layer."""
    yield from sound()
    yield from authority()
    yield from credentials()
    yield from invites()
    yield from slots()
    yield from shapes()


def sound() -> Iterator[Vector]:
    """One of each kind that must be understood or passed on."""
    yield case("ok-genesis", "ok", "founds the clan of these vectors", GENESIS_DATA)
    for name in GOOD:
        yield case(f"ok-{name}", "ok", f"a {name} record", good(name))
    operations = {
        "signer-add": [1, SIGNER],
        "signer-remove": [2, SIGNER],
        "checkpoint": [3, "main", COMMIT_SHA256],
    }
    for name, payload in operations.items():
        data = sign_payload(FOUNDER, 0, "00000001", payload, prev=GENESIS_ID)
        yield case(f"ok-{name}", "ok", "an operation on the authority", data)
    later = sign_payload(FOUNDER, 0, "00000001", [99, "later"], prev=GENESIS_ID)
    yield case("ok-unknown-operation", "ok", "kept, not understood", later)
    yield case(
        "ok-unknown-kind", "ok", "an opaque payload, no msgpack at all", sign_payload(MEMBER, 200, "x", b"\xc1")
    )
    trailing = sign_payload(FOUNDER, 1, MEMBER_SLOT, [*CREDENTIAL, "later", [1]])
    yield case("ok-unknown-trailing-field", "ok", "a field of a later version is ignored", trailing)
    yield case("ok-tombstone", "ok", "the invite is withdrawn", moved_tombstone(10, fingerprint_slot(INVITE_KEY)))
    yield case("ok-invite-without-name", "ok", "the device chooses its name", changed("invite", 1, None))
    yield case("ok-head-first", "ok", "the first head has no predecessor", changed("head", 0, None))
    yield case("ok-status-empty", "ok", "nothing runs yet", changed("status", 0, None))


def moved_tombstone(kind: int, slot: str) -> bytes:
    """Sign an empty payload."""
    return sign_payload(FOUNDER, kind, slot, b"")


def authority() -> Iterator[Vector]:
    """Faults of authority operations and revocations."""
    admin = [FOUNDER_ID, 1]
    many = [[secret(f"admin {i}"), 1] for i in range(33)]
    yield genesis_case("no-admin", "malformed", "nobody could ever change anything", (2, []))
    yield genesis_case("admin-twice", "malformed", "one node with two votes", (2, [admin, admin]))
    yield genesis_case("weight-0", "malformed", "an admin whose word weighs nothing", (2, [[FOUNDER_ID, 0]]))
    yield genesis_case("weight-1001", "limit", "a weight over 1000", (2, [[FOUNDER_ID, 1001]]))
    yield genesis_case("33-admins", "limit", "more than 32 admins", (2, many))
    yield genesis_case("admin-31-bytes", "malformed", "a key that is cut", (2, [[FOUNDER_ID[:31], 1]]))
    yield genesis_case("admins-flat", "malformed", "admins that are no arrays", (2, [FOUNDER_ID]))
    yield genesis_case("name-capital", "malformed", "a name that is no lower-case label", (1, "Family"))
    yield genesis_case("recovery-31-bytes", "malformed", "a recovery key that is cut", (3, bytes(31)))
    yield genesis_case("65-signers", "limit", "more than 64 signers", (4, ["ssh-ed25519 x"] * 65))

    def operation(payload: list[Any] | bytes, slot: str = "00000001") -> bytes:
        return sign_payload(FOUNDER, 0, slot, payload, prev=GENESIS_ID)

    yield case("genesis-in-slot-1", "malformed", "a second genesis inside the clan", operation(GENESIS.fields()))
    yield case(
        "authority-slot-name", "malformed", "an operation in a slot of letters", operation([2, "x"], "00000abc")
    )
    yield case("authority-slot-7-digits", "malformed", "a slot of seven digits", operation([2, "x"], "0000001"))
    yield case("authority-slot-arabic", "malformed", "digits, but not ASCII", operation([2, "x"], "\u0660" * 8))
    yield case("authority-tombstone", "malformed", "an operation cannot be withdrawn", operation(b""))
    yield case("operation-text", "malformed", "an operation that is no number", operation(["1", SIGNER]))
    yield case("operation-missing", "malformed", "an empty array", operation([]))
    yield case(
        "signer-two-lines", "malformed", "a line end would smuggle in a second signer", operation([1, "a\nb"])
    )
    yield case("signer-1025-bytes", "limit", "a signer's line over 1024 bytes", operation([1, "x" * 1025]))
    yield case(
        "checkpoint-19-bytes",
        "malformed",
        "a commit that is neither SHA-1 nor SHA-256",
        operation([3, "main", bytes(19)]),
    )
    yield case("checkpoint-33-bytes", "limit", "a commit over 32 bytes", operation([3, "main", bytes(33)]))
    yield case("checkpoint-ref-path", "malformed", "a ref with a slash", operation([3, "a/b", COMMIT]))
    yield case("revocation-tombstone", "malformed", "a key that is out stays out", moved_tombstone(2, MEMBER_SLOT))
    yield case(
        "revocation-reason-129-bytes", "limit", "a reason over 128 bytes", changed("revocation", 1, "x" * 129)
    )
    yield case("revocation-reason-escape", "malformed", "a terminal escape", changed("revocation", 1, "\x1b[2J"))


def credentials() -> Iterator[Vector]:
    """Faults of credentials, one field each."""
    wrong: dict[str, tuple[int, Any, str, str]] = {
        "node-31-bytes": (0, MEMBER_ID[:31], "malformed", "a key that is cut"),
        "node-text": (0, "nas", "malformed", "a key that is text"),
        "name-bytes": (1, b"nas", "malformed", "a name that is bytes"),
        "name-empty": (1, "", "malformed", "no name"),
        "name-33-bytes": (1, "n" * 33, "limit", "a name over 32 bytes"),
        "name-dot": (1, "nas.lan", "malformed", "a name of two labels"),
        "name-hyphen-first": (1, "-nas", "malformed", "a name that begins with a hyphen"),
        "name-hyphen-last": (1, "nas-", "malformed", "a name that ends with a hyphen"),
        "name-underscore": (1, "my_nas", "malformed", "no label has an underscore"),
        "name-not-ascii": (1, "n\u00e4s", "malformed", "letters outside of a-z"),
        "tags-text": (2, "backup", "malformed", "tags that are no array"),
        "tags-unsorted": (2, ["home", "backup"], "malformed", "tags out of order"),
        "tags-duplicate": (2, ["home", "home"], "malformed", "a tag twice"),
        "tag-33-bytes": (2, ["t" * 33], "limit", "a tag over 32 bytes"),
        "tag-capital": (2, ["Home"], "malformed", "a tag that is no lower-case label"),
        "tag-integer": (2, [1], "malformed", "a tag that is a number"),
        "17-tags": (2, [f"t{i:02}" for i in range(17)], "limit", "more than 16 tags"),
        "expires-negative": (3, -1, "malformed", "before 1970"),
        "expires-nil": (3, None, "malformed", "never is 0, not nil"),
        "redemption-31-bytes": (4, bytes(31), "malformed", "an id that is cut"),
    }
    for name, (position, value, expect, comment) in wrong.items():
        yield case(f"credential-{name}", expect, comment, changed("credential", position, value))
    short = sign_payload(FOUNDER, 1, MEMBER_SLOT, CREDENTIAL[:4])
    yield case("credential-field-missing", "malformed", "the last field is missing", short)


def invites() -> Iterator[Vector]:
    """Faults of invites and redemptions, one field each."""
    wrong: dict[str, tuple[str, int, Any, str, str]] = {
        "invite-uses-0": ("invite", 3, 0, "malformed", "an invite for nobody"),
        "invite-uses-1001": ("invite", 3, 1001, "limit", "more than 1000 uses"),
        "invite-uses-boolean": ("invite", 3, True, "malformed", "true is not 1"),
        "invite-name-dot": ("invite", 1, "a.b", "malformed", "a name of two labels"),
        "invite-key-33-bytes": ("invite", 0, bytes(33), "malformed", "a key that is too long"),
        "redemption-name-slash": ("redemption", 3, "a/b", "malformed", "a name with a slash"),
        "redemption-invite-text": ("redemption", 0, "x" * 32, "malformed", "an id that is text"),
        "redemption-proof-63-bytes": ("redemption", 5, bytes(63), "malformed", "a signature that is cut"),
        "redemption-at-nil": ("redemption", 4, None, "malformed", "no time vouched for"),
    }
    for name, (kind, position, value, expect, comment) in wrong.items():
        yield case(name, expect, comment, changed(kind, position, value))


def slots() -> Iterator[Vector]:
    """Sound contents in slots that are not theirs: a second register would speak of one subject."""
    other = fingerprint_slot(STRANGER_ID)
    for name in ("credential", "revocation", "invite", "redemption"):
        yield case(f"{name}-other-slot", "malformed", "the slot names another key", moved(name, other))
    for name in ("status", "node", "suspicion"):
        yield case(f"{name}-other-slot", "malformed", "the slot is not `self`", moved(name, "other"))
    yield case("head-slot-path", "malformed", "a ref that is no label", moved("head", "../main"))
    yield case("secret-slot-path", "malformed", "a secret outside of its folder", moved("secret", "../passwd"))
    yield case("secret-slot-dot", "malformed", "a hidden file", moved("secret", ".ssh"))
    yield case("secret-slot-empty", "malformed", "no name", moved("secret", ""))


def shapes() -> Iterator[Vector]:
    """Payloads that are no sound array."""
    packed = encode(CREDENTIAL)
    raw = {
        "trailing-byte": (packed + b"\xc0", "malformed", "one byte behind the array"),
        "cut": (packed[:-1], "malformed", "the last byte is missing"),
        "map": (b"\x81\x00" + packed, "malformed", "a map"),
        "text": (encode(["x"])[1:], "malformed", "text for an array"),
        "float": (packed[:-6] + b"\xca" + bytes(4) + b"\xc0", "malformed", "an expiry that is a float"),
        "nested": (b"\x96" + packed[1:] + b"\x91" * 4 + b"\xc0", "limit", "a later field nests too deeply"),
    }
    for name, (payload, expect, comment) in raw.items():
        yield case(f"payload-{name}", expect, comment, sign_payload(FOUNDER, 1, MEMBER_SLOT, payload))
