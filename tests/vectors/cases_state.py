"""Vectors of what a node keeps: `ledger` (records one after another) and `root` (the hash of a record set).

A ledger's input is records, each behind its length as u32: all but the last are taken in, the verdict is the
last one's.
"""

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

from clanmesh_protocol.keys import fingerprint_slot, signing_public
from tests.vectors.cases_content import CREDENTIAL, MEMBER_SLOT, REVOCATION
from tests.vectors.form import Vector, framed
from tests.vectors.people import (
    CLAN,
    FOUNDER,
    GENESIS_DATA,
    GENESIS_ID,
    MEMBER,
    SEQ,
    SIGNER,
    STRANGER,
    STRANGER_ID,
    id_of,
    secret,
    sign_payload,
)

ADMITTED = sign_payload(FOUNDER, 1, MEMBER_SLOT, CREDENTIAL)
BASIS = (GENESIS_DATA, ADMITTED)


def secret_record(seq: int, epoch: int = 1, seed: bytes = MEMBER) -> bytes:
    """A member's secret named wifi."""
    return sign_payload(
        seed, 6, "wifi", [epoch, None, "root", "root", 0o400, ["all"], [], bytes(24), bytes(40)], seq=seq
    )


def all_cases() -> Iterator[Vector]:
    """Give every vector of these layers."""
    yield from ledgers()
    yield from rights()
    yield from roots()


def case(name: str, expect: str, comment: str, *records: bytes) -> Vector:
    """Make a vector of the ledger."""
    return Vector(f"ledger/{name}", expect, comment, framed(records), {"clan": CLAN.hex()})


def ledgers() -> Iterator[Vector]:
    """What a register takes in."""
    first = secret_record(SEQ + 10)
    yield case("ok-first", "ok", "the register was empty", *BASIS, first)
    yield case("ok-newer", "ok", "a higher seq", *BASIS, first, secret_record(SEQ + 11))
    yield case("replayed", "stale", "the record that is there already", *BASIS, first, first)
    yield case("older", "stale", "a lower seq", *BASIS, first, secret_record(SEQ + 9))
    tombstone = sign_payload(MEMBER, 6, "wifi", b"", seq=SEQ + 20)
    yield case("ok-tombstone", "ok", "a tombstone takes a value's place", *BASIS, first, tombstone)
    yield case("older-than-tombstone", "stale", "what was withdrawn stays so", *BASIS, tombstone, first)
    yield case("ok-newer-than-tombstone", "ok", "and may be set anew", *BASIS, tombstone, secret_record(SEQ + 21))
    lower, higher = sorted((secret_record(SEQ + 10, 1), secret_record(SEQ + 10, 2)), key=id_of)
    yield case("ok-equal-seq-higher-id", "ok", "equivocation: the higher id stands", *BASIS, lower, higher)
    yield case("equal-seq-lower-id", "stale", "equivocation: the lower id loses", *BASIS, higher, lower)
    other = secret_record(SEQ + 1, seed=FOUNDER)
    yield case("ok-other-author", "ok", "registers of two authors are two", *BASIS, first, other)


def operation(seed: bytes, payload: list[Any], seq: int = SEQ + 5) -> bytes:
    """An authority operation behind the genesis."""
    return sign_payload(seed, 0, "00000001", payload, seq=seq, prev=GENESIS_ID)


def rights() -> Iterator[Vector]:
    """Who may write what."""
    stranger = secret_record(SEQ + 10, seed=STRANGER)
    yield case("stranger", "unauthorized", "the author is no member", *BASIS, stranger)
    yield case("no-genesis", "unauthorized", "without a genesis nobody is anything", ADMITTED)
    yield case("ok-operation", "ok", "an admin's operation", *BASIS, operation(FOUNDER, [1, SIGNER + "2"]))
    yield case("member-operation", "unauthorized", "a member is no admin", *BASIS, operation(MEMBER, [1, SIGNER]))
    slot = fingerprint_slot(STRANGER_ID)
    credential = sign_payload(MEMBER, 1, slot, [STRANGER_ID, "phone", [], 0, None])
    yield case("member-credential", "unauthorized", "a member cannot vouch for others", *BASIS, credential)
    revocation = sign_payload(MEMBER, 2, slot, [STRANGER_ID, "no"])
    yield case("member-revocation", "unauthorized", "a member cannot remove others", *BASIS, revocation)
    key = signing_public(secret("another invite"))
    invite = sign_payload(MEMBER, 10, fingerprint_slot(key), [key, None, [], 1, 2**40])
    yield case("member-invite", "unauthorized", "a member cannot invite", *BASIS, invite)
    removed = sign_payload(FOUNDER, 2, MEMBER_SLOT, REVOCATION)
    node_status = sign_payload(MEMBER, 3, "self", [None, None, 0, 0, 0, []], seq=SEQ + 30, ttl_s=600)
    yield case("ok-status", "ok", "a member's status", *BASIS, node_status)
    yield case("removed", "unauthorized", "a removed member's status", *BASIS, removed, node_status)
    back = sign_payload(FOUNDER, 1, MEMBER_SLOT, CREDENTIAL, seq=SEQ + 40)
    yield case(
        "removed-for-ever",
        "unauthorized",
        "a later credential brings no key back",
        *BASIS,
        removed,
        back,
        node_status,
    )


def roots() -> Iterator[Vector]:
    """Hashes of record sets, from ids of 32 bytes one behind another."""
    ids = [blake2b(bytes([i]), digest_size=32).digest() for i in range(200)]
    crowd = [b"\xfc\x00" + bytes([i]) + bytes(29) for i in range(5)]
    sets = {"empty": [], "one": ids[:1], "200": ids, "one-part": crowd}
    for name, several in sets.items():
        yield Vector(
            f"root/ok-{name}", "ok", f"{len(several)} ids", b"".join(several), {"root": root(several).hex()}
        )


def root(ids: list[bytes], depth: int = 0) -> bytes:
    """Hash a set by the letter of the specification, with no memory of parts."""
    if not ids:
        return bytes(16)
    if depth == 2:
        material = b"".join(sorted(ids))
    else:
        parts: list[list[bytes]] = [[] for _ in range(64)]
        for each in ids:
            parts[int.from_bytes(each[:8], "big") >> 58 - 6 * depth & 63].append(each)
        material = b"".join(root(part, depth + 1) for part in parts)
    return blake2b(material, digest_size=16, person=b"clanmesh-trie").digest()
