"""Vectors of joining: layer `join`. Records, each behind its length as u32, and last of all the Join frame.

The member that is asked holds the records; `now` is its clock.
"""

from collections.abc import Iterator
from typing import Any

from clanmesh_protocol.keys import fingerprint_slot, sign_detached, signing_public
from clanmesh_protocol.records import RecordId, redemption_input
from clanmesh_protocol.streams import Join, encode_frame
from tests.vectors.cases_content import CREDENTIAL, MEMBER_SLOT
from tests.vectors.form import Vector, framed
from tests.vectors.people import (
    CLAN,
    FOUNDER,
    GENESIS_DATA,
    INVITE,
    INVITE_KEY,
    MEMBER,
    MEMBER_ID,
    OTHER_CLAN,
    SEQ,
    STRANGER,
    UNIX_S,
    id_of,
    secret,
    sign_payload,
)

EXPIRES = UNIX_S + 3600
INVITE_SLOT = fingerprint_slot(INVITE_KEY)
PLAIN = sign_payload(FOUNDER, 10, INVITE_SLOT, [INVITE_KEY, None, ["home"], 1, EXPIRES], seq=SEQ + 2)
NAMED = sign_payload(FOUNDER, 10, INVITE_SLOT, [INVITE_KEY, "phone", [], 1, EXPIRES], seq=SEQ + 2)
WITHDRAWN = sign_payload(FOUNDER, 10, INVITE_SLOT, b"", seq=SEQ + 3)
ADMITTED = sign_payload(FOUNDER, 1, MEMBER_SLOT, CREDENTIAL)


def request(
    seed: bytes = STRANGER, name: str = "phone", invite: bytes = PLAIN, key: bytes = INVITE, clan: Any = CLAN
) -> Join:
    """What a device that holds the token sends."""
    node = signing_public(seed)
    statement = redemption_input(clan, id_of(invite), node, name)
    return Join(
        RecordId(id_of(invite)),
        signing_public(key),
        node,
        name,
        sign_detached(key, statement),
        sign_detached(seed, statement),
    )


def redeemed(by: Join, author: bytes = FOUNDER) -> bytes:
    """The record of an earlier admission."""
    slot = fingerprint_slot(by.invite_key + by.node)
    payload = [by.invite, by.invite_key, by.node, by.name, UNIX_S, by.invite_proof, by.node_proof]
    return sign_payload(author, 11, slot, payload, seq=SEQ + 4)


def all_cases() -> Iterator[Vector]:
    """Give every vector of this layer."""

    yield from first_cases()
    yield from later_cases()


def case(name: str, expect: str, comment: str, join: Join, *records: bytes, now: int = UNIX_S) -> Vector:
    """Make a vector of this layer."""
    parts = (GENESIS_DATA, *records, encode_frame(join)[4:])
    return Vector(f"join/{name}", expect, comment, framed(parts), {"clan": CLAN.hex(), "now": str(now)})


def first_cases() -> Iterator[Vector]:
    """Cases of the first version."""
    good = request()
    yield case("ok", "ok", "the first use of an invite for one", good, PLAIN)
    yield case("ok-last-second", "ok", "at the very end", good, PLAIN, now=EXPIRES)
    yield case("ok-again", "ok", "the answer was lost: no second use", good, PLAIN, redeemed(good))
    yield case("expired", "expired", "a second too late", good, PLAIN, now=EXPIRES + 1)
    yield case("unknown-invite", "unknown-invite", "the clan has no such invite", good)
    yield case("withdrawn", "unknown-invite", "an admin withdrew it", good, WITHDRAWN)
    other = request(seed=secret("another device"), name="tablet")
    yield case("used", "used", "another device came by it", good, PLAIN, redeemed(other))
    yield case("name-taken", "name-taken", "a member has the name", request(name="nas"), PLAIN, ADMITTED)
    yield case("name-of-a-tag", "name-taken", "a tag has the name", request(name="backup"), PLAIN, ADMITTED)
    yield case("name-all", "name-taken", "all is the tag of everybody", request(name="all"), PLAIN)
    slot = fingerprint_slot(signing_public(STRANGER))
    revoked = sign_payload(FOUNDER, 2, slot, [signing_public(STRANGER), "sold"])
    yield case("revoked", "revoked", "the device was removed", good, PLAIN, revoked)
    yield case("other-clan", "malformed", "the proofs name another clan", request(clan=OTHER_CLAN), PLAIN)
    yield case(
        "other-key",
        "malformed",
        "a key of its own instead of the invite's",
        request(key=secret("no invite")),
        PLAIN,
    )
    changed = Join(good.invite, good.invite_key, good.node, "laptop", good.invite_proof, good.node_proof)
    yield case("other-name", "malformed", "the proofs name another name", changed, PLAIN)
    stolen = Join(
        good.invite, good.invite_key, signing_public(MEMBER), "phone", good.invite_proof, good.node_proof
    )
    yield case("other-node", "malformed", "somebody else's proofs", stolen, PLAIN)
    yield case("ok-named", "ok", "an invite for one name", request(invite=NAMED), NAMED)


def later_cases() -> Iterator[Vector]:
    """Invites withdrawn by their key, contested ones, and devices with a new key."""
    good, other = request(), request(seed=secret("another device"), name="tablet")
    withdrawn = sign_payload(FOUNDER, 2, INVITE_SLOT, [INVITE_KEY, "no more"])
    yield case("withdrawn-by-key", "unknown-invite", "an admin put out the invite's key", good, PLAIN, withdrawn)
    yield case(
        "contested",
        "used",
        "two came for one use: each waits",
        good,
        ADMITTED,
        PLAIN,
        redeemed(good),
        redeemed(other, MEMBER),
    )
    slot = fingerprint_slot(other.node)
    confirmed = sign_payload(FOUNDER, 1, slot, [other.node, "tablet", [], 0, id_of(redeemed(other))])
    yield case("used-confirmed", "used", "the use is closed", good, PLAIN, redeemed(other), confirmed)
    succeeded = sign_payload(FOUNDER, 1, MEMBER_SLOT, [*CREDENTIAL, None, None, [], good.node])
    yield case("succeeded", "revoked", "another key of the same device took its place", good, PLAIN, succeeded)
    succeeds = sign_payload(FOUNDER, 10, INVITE_SLOT, [INVITE_KEY, "nas", [], 1, EXPIRES, MEMBER_ID], seq=SEQ + 2)
    yield case(
        "ok-succeeds", "ok", "in place of the member of that name", request(invite=succeeds), succeeds, ADMITTED
    )
