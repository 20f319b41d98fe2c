"""Vectors of what several admins say together, and of fields that came later: layer `content`."""

from collections.abc import Iterator
from typing import Any

from clanmesh_protocol.encoding import encode
from clanmesh_protocol.keys import RecordId, clan_id_of, fingerprint_slot, signing_public
from tests.vectors.cases_content import (
    CREDENTIAL,
    INVITE,
    MEMBER_SLOT,
    NODE,
    PROOF,
    SECRET,
    case,
    moved_tombstone,
)
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
    OTHER_CLAN,
    SEQ,
    STRANGER_ID,
    id_of,
    secret,
    sign_body,
    sign_payload,
)

NEXT_RECOVERY = signing_public(secret("next recovery"))
OPERATION_ID = RecordId(secret("operation id"))
OPERATION_SLOT = fingerprint_slot(OPERATION_ID)
FOUNDER_SLOT = fingerprint_slot(FOUNDER_ID)
NEXT_TUNNEL = [signing_public(secret("next tunnel")), 2, PROOF]


def all_cases() -> Iterator[Vector]:
    """Give every vector of these payloads."""
    yield from sound_operations()
    yield from faulty_operations()
    yield from approvals()
    yield from acknowledgements()
    yield from proofs()
    yield from faulty_proofs()
    yield from later_fields_of_credentials()
    yield from later_fields_of_invites()
    yield from later_fields_of_nodes()
    yield from later_fields_of_secrets()
    yield from reserved()


def operation(payload: list[Any] | bytes, slot: str = "00000001") -> bytes:
    """Sign an operation behind the genesis."""
    return sign_payload(FOUNDER, 0, slot, payload, prev=GENESIS_ID)


def sound_operations() -> Iterator[Vector]:
    """One of each operation, and what its fields allow."""
    sound: dict[str, tuple[list[Any], str]] = {
        "admin-add": ([4, MEMBER_ID, 1], "makes an admin"),
        "admin-add-1000": ([4, MEMBER_ID, 1000], "the greatest weight"),
        "admin-remove": ([5, MEMBER_ID], "ends an admin's say"),
        "admin-replace": ([6, MEMBER_ID, STRANGER_ID], "another key in an admin's place"),
        "admin-replace-itself": ([6, MEMBER_ID, MEMBER_ID], "understood; without effect"),
        "thresholds": ([7, 3, 2], "what operations need"),
        "thresholds-0": ([7, 0, 0], "the majority, and any admin"),
        "thresholds-over-all": ([7, 2**32 - 1, 2**32 - 1], "more than 32 admins can weigh: understood"),
        "recovery-replace": ([8, NEXT_RECOVERY], "another recovery key"),
        "recovery-replace-none": ([8, None], "no recovery key any more"),
        "setting": ([128, "credential-days", "90"], "what all members heed"),
        "setting-empty": ([128, "credential-days", ""], "takes a setting back"),
        "setting-unknown": ([128, "of-a-later-version", "\u00e4 b"], "any name that is a label, any text"),
        "setting-256-bytes": ([128, "a", "x" * 256], "the longest value"),
        "operation-trailing-field": ([5, MEMBER_ID, "later"], "a field of a later version is ignored"),
        "unknown-routine-operation": ([255, "later"], "kept, not understood"),
    }
    for name, (payload, comment) in sound.items():
        yield case(f"ok-{name}", "ok", comment, operation(payload))


def faulty_operations() -> Iterator[Vector]:
    """One fault each."""
    wrong: dict[str, tuple[list[Any], str, str]] = {
        "admin-add-weight-0": ([4, MEMBER_ID, 0], "malformed", "an admin whose word weighs nothing"),
        "admin-add-weight-1001": ([4, MEMBER_ID, 1001], "limit", "a weight over 1000"),
        "admin-add-weight-negative": ([4, MEMBER_ID, -1], "malformed", "a weight below 0"),
        "admin-add-weight-boolean": ([4, MEMBER_ID, True], "malformed", "true is not 1"),
        "admin-add-weight-missing": ([4, MEMBER_ID], "malformed", "the last field is missing"),
        "admin-add-31-bytes": ([4, MEMBER_ID[:31], 1], "malformed", "a key that is cut"),
        "admin-add-text": ([4, "ben", 1], "malformed", "a key that is text"),
        "admin-remove-33-bytes": ([5, bytes(33)], "malformed", "a key that is too long"),
        "admin-remove-nobody": ([5], "malformed", "the key is missing"),
        "admin-remove-nil": ([5, None], "malformed", "no key"),
        "admin-replace-31-bytes": ([6, MEMBER_ID[:31], STRANGER_ID], "malformed", "a key that is cut"),
        "admin-replace-successor-33-bytes": ([6, MEMBER_ID, bytes(33)], "malformed", "a successor too long"),
        "admin-replace-successor-nil": ([6, MEMBER_ID, None], "malformed", "that would be a removal"),
        "admin-replace-successor-missing": ([6, MEMBER_ID], "malformed", "the last field is missing"),
        "thresholds-govern-negative": ([7, -1, 1], "malformed", "a weight below 0"),
        "thresholds-govern-over-32-bits": ([7, 2**32, 1], "limit", "a weight over 32 bits"),
        "thresholds-routine-over-32-bits": ([7, 1, 2**32], "limit", "a weight over 32 bits"),
        "thresholds-routine-nil": ([7, 1, None], "malformed", "any admin is 0 or 1, not nil"),
        "thresholds-routine-missing": ([7, 1], "malformed", "the last field is missing"),
        "recovery-replace-31-bytes": ([8, NEXT_RECOVERY[:31]], "malformed", "a key that is cut"),
        "recovery-replace-empty": ([8, b""], "malformed", "none is nil, not an empty key"),
        "recovery-replace-missing": ([8], "malformed", "none is nil, not a missing field"),
        "setting-name-capital": ([128, "Credential-days", "90"], "malformed", "a name that is no label"),
        "setting-name-empty": ([128, "", "90"], "malformed", "no name"),
        "setting-name-33-bytes": ([128, "n" * 33, "90"], "limit", "a name over 32 bytes"),
        "setting-value-integer": ([128, "a", 90], "malformed", "values are text"),
        "setting-value-nil": ([128, "a", None], "malformed", "taken back is the empty text, not nil"),
        "setting-value-257-bytes": ([128, "a", "x" * 257], "limit", "a value over 256 bytes"),
        "setting-value-line-end": ([128, "a", "b\nc"], "malformed", "a control character"),
        "operation-256": ([256, "later"], "limit", "a number over one byte"),
    }
    for name, (payload, expect, comment) in wrong.items():
        yield case(name, expect, comment, operation(payload))
    first = sign_payload(FOUNDER, 0, "00000000", [4, FOUNDER_ID, 1])
    clan = clan_id_of(FOUNDER_ID, first[97:])
    yield case("admin-add-in-slot-0", "malformed", "nothing but a genesis founds a clan", first, clan)


def approvals() -> Iterator[Vector]:
    """An admin's name under another's operation."""

    def approval(payload: list[Any] | bytes, slot: str = OPERATION_SLOT) -> bytes:
        return sign_payload(FOUNDER, 12, slot, payload)

    withdrawn = moved_tombstone(11, fingerprint_slot(INVITE_KEY + MEMBER_ID))
    yield case("redemption-tombstone", "malformed", "a use of an invite is not given back", withdrawn)
    yield case("ok-approval", "ok", "an approval record", approval([OPERATION_ID]))
    yield case("ok-approval-trailing-field", "ok", "a later field is ignored", approval([OPERATION_ID, 1]))
    yield case("approval-31-bytes", "malformed", "an id that is cut", approval([OPERATION_ID[:31]]))
    yield case("approval-nil", "malformed", "no id", approval([None]))
    yield case("approval-empty-array", "malformed", "the id is missing", approval([]))
    yield case("approval-other-slot", "malformed", "the slot of another id", approval([OPERATION_ID], MEMBER_SLOT))
    yield case("approval-self-slot", "malformed", "one for each operation", approval([OPERATION_ID], "self"))
    yield case("approval-tombstone", "malformed", "an approval cannot be withdrawn", approval(b""))


def acknowledgements() -> Iterator[Vector]:
    """The head that an admin's device follows."""

    def acknowledgement(payload: list[Any] | bytes, slot: str = "self") -> bytes:
        return sign_payload(FOUNDER, 13, slot, payload)

    yield case("ok-acknowledgement", "ok", "an acknowledgement record", acknowledgement([3, OPERATION_ID]))
    yield case("ok-acknowledgement-genesis", "ok", "of the genesis", acknowledgement([0, GENESIS_ID]))
    yield case("ok-acknowledgement-tombstone", "ok", "withdrawn: it follows nothing", acknowledgement(b""))
    wrong: dict[str, tuple[list[Any], str, str]] = {
        "number-negative": ([-1, OPERATION_ID], "malformed", "a number below 0"),
        "number-over-32-bits": ([2**32, OPERATION_ID], "limit", "a number over 32 bits"),
        "number-text": (["00000003", OPERATION_ID], "malformed", "a slot for a number"),
        "head-33-bytes": ([3, bytes(33)], "malformed", "an id that is too long"),
        "head-nil": ([3, None], "malformed", "no head"),
        "head-missing": ([3], "malformed", "the last field is missing"),
    }
    for name, (payload, expect, comment) in wrong.items():
        yield case(f"acknowledgement-{name}", expect, comment, acknowledgement(payload))
    other = acknowledgement([3, OPERATION_ID], "other")
    yield case("acknowledgement-other-slot", "malformed", "each author has one", other)


def said(value: int, *, slot: str = "wifi", seq: int = SEQ + 10, seed: bytes = FOUNDER, kind: int = 6) -> bytes:
    """A secret record; another value makes another content."""
    return sign_payload(seed, kind, slot, [*SECRET[:8], bytes([value]) * 40], seq=seq)


def ordered(*several: bytes) -> list[bytes]:
    """Records by their ids."""
    return sorted(several, key=id_of)


def proof_of(records: list[Any], slot: str = FOUNDER_SLOT) -> bytes:
    """Sign a proof: by a member, since anybody may say it."""
    return sign_payload(MEMBER, 14, slot, records)


def proofs() -> Iterator[Vector]:
    """An author signed two things at once."""
    pair = ordered(said(1), said(2))
    yield case("ok-equivocation", "ok", "two values of one register and seq", proof_of(pair))
    operations = ordered(*(sign_payload(FOUNDER, 0, "00000001", [2, x], prev=GENESIS_ID) for x in "ab"))
    yield case("ok-equivocation-operations", "ok", "two operations of one number and seq", proof_of(operations))
    empty = ordered(said(1), sign_payload(FOUNDER, 6, "wifi", b"", seq=SEQ + 10))
    yield case("ok-equivocation-tombstone", "ok", "a value and a tombstone", proof_of(empty))
    unknown = ordered(*(sign_payload(FOUNDER, 200, "x", payload, seq=SEQ + 10) for payload in (b"a", b"b")))
    yield case("ok-equivocation-unknown-kind", "ok", "whatever the contents mean", proof_of(unknown))
    faulty = ordered(*(sign_payload(FOUNDER, 1, MEMBER_SLOT, payload) for payload in (b"\xc1", b"\xc2")))
    yield case("ok-equivocation-faulty-payloads", "ok", "payloads are not looked into", proof_of(faulty))
    yield case("ok-equivocation-trailing-field", "ok", "a later field is ignored", proof_of([*pair, 1]))
    withdrawn = sign_payload(MEMBER, 14, FOUNDER_SLOT, b"")
    yield case("ok-equivocation-withdrawn", "ok", "its author takes it back", withdrawn)


def faulty_proofs() -> Iterator[Vector]:
    """What proves nothing, one fault each."""
    lower, higher = ordered(said(1), said(2))
    changed = bytes([higher[40] ^ 1])
    two_geneses = sorted([GENESIS_DATA, sign_payload(FOUNDER, 0, "00000000", [*GENESIS.fields(), 1], seq=SEQ)])
    foreign = [
        sign_body(FOUNDER, encode([6, "wifi", SEQ + 10, 0, None, packed]), OTHER_CLAN)
        for packed in (b"\x91\x01", b"\x91\x02")
    ]
    wrong: dict[str, tuple[list[Any], str, str]] = {
        "swapped": ([higher, lower], "malformed", "the higher id in front: a second proof of one thing"),
        "one-record": ([lower, lower], "malformed", "one record twice"),
        "other-seq": (ordered(said(1), said(2, seq=SEQ + 11)), "malformed", "a seq each is honest"),
        "other-slot": (ordered(said(1), said(2, slot="lan")), "malformed", "two registers"),
        "other-kind": (ordered(said(1), said(2, kind=200)), "malformed", "two registers"),
        "other-author": (ordered(said(1), said(2, seed=MEMBER)), "malformed", "two registers"),
        "forged": ([lower, higher[:40] + changed + higher[41:]], "signature", "one signature does not hold"),
        "other-clan": (sorted(foreign, key=id_of), "signature", "said in another clan"),
        "geneses": (sorted(two_geneses, key=outside), "signature", "two clans by one founder are no fault"),
        "version-2": ([lower, b"\x02" + higher[1:]], "version", "a record of a later version"),
        "cut": ([lower, higher[:97]], "malformed", "a record without a body"),
        "missing": ([lower], "malformed", "the second record is missing"),
        "nil": ([lower, None], "malformed", "no second record"),
        "text": ([lower, "x" * 200], "malformed", "a record that is text"),
        "body": ([lower, higher[:97] + b"\xc1"], "malformed", "a body that is no array"),
    }
    for name, (records, expect, comment) in wrong.items():
        yield case(f"equivocation-{name}", expect, comment, proof_of(records))
    moved = proof_of([lower, higher], MEMBER_SLOT)
    yield case("equivocation-other-slot-of-proof", "malformed", "the slot names another author", moved)
    mine = proof_of([lower, higher], "self")
    yield case("equivocation-self-slot", "malformed", "one for each author caught", mine)


def outside(data: bytes) -> RecordId:
    """The id of a genesis."""
    return id_of(data, type(CLAN)(bytes(16)))


def later_fields_of_credentials() -> Iterator[Vector]:
    """What goes before another admin's word, and before a device's former key."""
    one, two, three = (secret(f"credential {number}") for number in range(3))

    def credential(*tail: Any) -> bytes:
        return sign_payload(FOUNDER, 1, MEMBER_SLOT, [*CREDENTIAL, *tail])

    sound = {
        "replaces": ((None, None, [one, two], None), "two credentials of other admins"),
        "succeeds": ((None, None, [], STRANGER_ID), "the same device's former key"),
        "replaces-and-succeeds": ((None, None, [one], STRANGER_ID), "both"),
        "replaces-nothing": ((None, None, [], None), "as if the fields were not there"),
        "reserved-anything": (("x", [7], [one], None), "whatever stands in the two reserved fields"),
        "invite": ((None, None, [one], None, one), "the invite that the device came by"),
        "behind-invite": ((None, None, [one], None, one, 7), "a field of a later version is ignored"),
    }
    for name, (tail, comment) in sound.items():
        yield case(f"ok-credential-{name}", "ok", comment, credential(*tail))
    wrong: dict[str, tuple[tuple[Any, ...], str, str]] = {
        "replaces-3": ((None, None, [one, two, three], None), "limit", "more than 2"),
        "replaces-31-bytes": ((None, None, [one[:31]], None), "malformed", "an id that is cut"),
        "replaces-nil": ((None, None, None, None), "malformed", "nothing is an empty array"),
        "replaces-text": ((None, None, ["x" * 32], None), "malformed", "an id that is text"),
        "replaces-flat": ((None, None, one, None), "malformed", "ids that are no array"),
        "succeeds-missing": ((None, None, [one]), "malformed", "the two come together"),
        "succeeds-itself": ((None, None, [], MEMBER_ID), "malformed", "a key cannot succeed itself"),
        "succeeds-33-bytes": ((None, None, [], bytes(33)), "malformed", "a key that is too long"),
        "succeeds-text": ((None, None, [], "nas"), "malformed", "a key that is text"),
        "invite-31-bytes": ((None, None, [], None, one[:31]), "malformed", "an id that is cut"),
        "invite-text": ((None, None, [], None, "x" * 32), "malformed", "an id that is text"),
    }
    for name, (tail, expect, comment) in wrong.items():
        yield case(f"credential-{name}", expect, comment, credential(*tail))


def later_fields_of_invites() -> Iterator[Vector]:
    """An invite for a device that is a member under another key."""

    def invite(*tail: Any) -> bytes:
        return sign_payload(FOUNDER, 10, fingerprint_slot(INVITE_KEY), [*INVITE, *tail])

    yield case("ok-invite-succeeds", "ok", "in place of a member's key", invite(MEMBER_ID))
    yield case("ok-invite-succeeds-nobody", "ok", "as if the field were not there", invite(None))
    yield case("invite-succeeds-31-bytes", "malformed", "a key that is cut", invite(MEMBER_ID[:31]))
    yield case("invite-succeeds-text", "malformed", "a name for a key", invite("nas"))


def later_fields_of_nodes() -> Iterator[Vector]:
    """The WireGuard key that comes next."""

    def node(tail: Any) -> bytes:
        return sign_payload(MEMBER, 4, "self", [*NODE, tail])

    key, number, proof = NEXT_TUNNEL
    yield case("ok-node-next-tunnel", "ok", "the key that comes next", node([NEXT_TUNNEL]))
    yield case("ok-node-next-tunnel-none", "ok", "as if the field were not there", node([]))
    yield case("ok-node-next-tunnel-longer", "ok", "a later field of it is ignored", node([[*NEXT_TUNNEL, 1]]))
    wrong: dict[str, tuple[Any, str, str]] = {
        "2": ([NEXT_TUNNEL, NEXT_TUNNEL], "limit", "more than 1"),
        "flat": (NEXT_TUNNEL, "limit", "three fields where one array may be"),
        "nil": (None, "malformed", "none is an empty array"),
        "key-31-bytes": ([[key[:31], number, proof]], "malformed", "a key that is cut"),
        "number-over-32-bits": ([[key, 2**32, proof]], "limit", "a count over 32 bits"),
        "number-nil": ([[key, None, proof]], "malformed", "no count"),
        "proof-63-bytes": ([[key, number, proof[:63]]], "malformed", "a signature that is cut"),
        "proof-missing": ([[key, number]], "malformed", "the last field is missing"),
    }
    for name, (tail, expect, comment) in wrong.items():
        yield case(f"node-next-tunnel-{name}", expect, comment, node(tail))


def later_fields_of_secrets() -> Iterator[Vector]:
    """A value that a device threw dice for."""

    def value(*tail: Any) -> bytes:
        return sign_payload(MEMBER, 6, "wifi", [*SECRET, *tail])

    yield case("ok-secret-random", "ok", "32 random bytes", value(32))
    yield case("ok-secret-random-0", "ok", "a person's value: as if the field were not there", value(0))
    yield case("ok-secret-random-32768", "ok", "as long as a value can be", value(32_768))
    yield case("secret-random-32769", "limit", "longer than a value can be", value(32_769))
    yield case("secret-random-negative", "malformed", "a length below 0", value(-1))
    yield case("secret-random-nil", "malformed", "none is 0", value(None))
    yield case("secret-random-boolean", "malformed", "true is not 1", value(True))
    yield case("ok-secret-nodes", "ok", "for a device by its key", value(0, [MEMBER_ID]))
    yield case("ok-secret-nodes-none", "ok", "as if the field were not there", value(0, []))
    yield case("ok-secret-removed", "ok", "for nobody: there is no such secret any more", removed_secret())
    yield case("secret-nodes-257", "limit", "more than 256 devices", value(0, [MEMBER_ID] * 257))
    yield case("secret-node-31-bytes", "malformed", "a key that is cut", value(0, [MEMBER_ID[:31]]))
    yield case("secret-node-text", "malformed", "a name is no key", value(0, ["nas"]))
    yield case("secret-nodes-nil", "malformed", "none is an empty array", value(0, None))


def removed_secret() -> bytes:
    """A value for nobody."""
    return sign_payload(MEMBER, 6, "wifi", [3, bytes(32), "root", "root", 0o400, [], [], bytes(24), b""])


def reserved() -> Iterator[Vector]:
    """Kinds that were given away once and never used: opaque for ever."""
    for kind in (8, 9):
        opaque = sign_payload(MEMBER, kind, "x", b"\xc1")
        yield case(f"ok-reserved-kind-{kind}", "ok", "opaque for ever, in any slot", opaque)
    withdrawn = moved_tombstone(13, "other")
    yield case("ok-tombstone-any-slot", "ok", "an empty payload says nothing of its slot", withdrawn)
