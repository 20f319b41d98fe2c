"""Vectors of who may write what, once there are several admins: layer `ledger`, the last record is judged."""

from collections.abc import Iterator

from clanmesh_protocol.keys import fingerprint_slot
from tests.vectors.chains import (
    ANN,
    BEN,
    CARA,
    DAN,
    EVE,
    MALLORY,
    NAS,
    ONE,
    PHONE,
    THREE,
    TOKEN,
    TWO,
    Said,
    Story,
    adding,
    key,
    removing,
    replacing,
    setting,
    signer,
)
from tests.vectors.form import Vector
from tests.vectors.people import RECOVERY, SEQ


def all_cases() -> Iterator[Vector]:
    """Give every vector of this module."""
    yield from speakers()
    yield from approvals_and_acknowledgements()
    yield from void_records()
    yield from words_of_admins()
    yield from words_of_members()


def speakers() -> Iterator[Vector]:
    """Operations are kept of whoever is an admin or the recovery key in some valid state."""
    story = Story(*ONE)
    story.operation(RECOVERY, setting("a"), story.genesis)
    yield story.judged("ok-operation-recovery", "ok", "the recovery key's operation")

    story = Story(*TWO)
    story.operation(ANN, signer(), story.genesis)
    yield story.judged("ok-operation-proposal", "ok", "one that lacks weight, until others approve")

    story = Story(*ONE)
    added = story.operation(ANN, adding(BEN), story.genesis)
    story.operation(BEN, setting("a"), added)
    yield story.judged("ok-operation-newcomer", "ok", "an admin since the operation before")

    story = Story(*ONE)
    story.operation(ANN, adding(BEN), story.genesis)
    story.operation(BEN, setting("a"), story.genesis)
    yield story.judged("ok-operation-elsewhere", "ok", "who is an admin in some state, wherever it stands")

    story = Story(*TWO)
    waits = story.operation(ANN, adding(CARA), story.genesis)
    story.operation(CARA, setting("a"), waits)
    yield story.judged("operation-by-the-proposed", "unauthorized", "only a proposal makes it an admin")

    story = Story(*ONE)
    story.operation(ANN, replacing(ANN, BEN), story.genesis)
    story.operation(MALLORY, setting("a"), story.genesis)
    yield story.judged("operation-by-a-stranger", "unauthorized", "an admin in no state at all")

    story = Story(*ONE)
    story.credential(ANN, NAS, "nas")
    story.operation(NAS, adding(NAS), story.genesis)
    yield story.judged("operation-by-a-member", "unauthorized", "a member makes itself no admin")


def approvals_and_acknowledgements() -> Iterator[Vector]:
    """As operations."""
    story = Story(*TWO)
    waits = story.operation(ANN, signer(), story.genesis)
    story.approval(BEN, waits)
    yield story.judged("ok-approval", "ok", "an admin's approval")

    story = Story(*TWO)
    story.approval(BEN, Said(b"", Story(*THREE).genesis.id))
    yield story.judged("ok-approval-of-the-unknown", "ok", "of an operation that is not here yet")

    story = Story(*TWO)
    waits = story.operation(ANN, signer(), story.genesis)
    story.credential(ANN, NAS, "nas")
    story.approval(NAS, waits)
    yield story.judged("approval-by-a-member", "unauthorized", "a member approves nothing")

    story = Story(*TWO)
    story.acknowledge(story.genesis, BEN)
    yield story.judged("ok-acknowledgement", "ok", "an admin's acknowledgement")

    story = Story(*TWO)
    story.credential(ANN, NAS, "nas")
    story.acknowledge(story.genesis, NAS)
    yield story.judged("acknowledgement-by-a-member", "unauthorized", "nobody asks what a member follows")

    story = Story(*TWO)
    newer = story.operation(ANN, setting("a"), story.genesis)
    story.say(BEN, 13, "self", [1, newer.id], seq=SEQ + 500)
    story.say(BEN, 13, "self", [0, story.genesis.id], seq=SEQ + 400)
    yield story.judged("acknowledgement-older", "stale", "only the newest one counts, and stays")


def _removed(*followers: bytes) -> tuple[Story, Said, Said]:
    """Ben is removed behind an operation that he approved; a majority follows that, or not."""
    story = Story(*THREE)
    before = story.operation(ANN, signer(), story.genesis)
    removal = story.operation(CARA, removing(BEN), story.operation(ANN, setting("a"), story.genesis), ANN)
    story.acknowledge(removal, *followers)
    return story, before, removal


def void_records() -> Iterator[Vector]:
    """What a pin makes void is kept, as long as it is little: branches may pin each other's authors."""
    for name, followers, comment in (
        ("pinned", (ANN,), "void here, and nothing is settled yet"),
        ("settled-pinned", (ANN, CARA), "void, and that is settled: kept nevertheless, as far as there is room"),
    ):
        story, _, _ = _removed(*followers)
        story.operation(BEN, setting("b"), story.genesis)
        yield story.judged(f"ok-{name}-operation", "ok", comment)

        story, before, _ = _removed(*followers)
        story.approval(BEN, before)
        yield story.judged(f"ok-{name}-approval", "ok", comment)

        story, _, _ = _removed(*followers)
        story.acknowledge(story.genesis, BEN)
        yield story.judged(f"ok-{name}-acknowledgement", "ok", comment)


def words_of_admins() -> Iterator[Vector]:
    """Credentials and invites count, and are kept, of the head's admins."""
    story, _, _ = _removed()
    story.credential(BEN, NAS, "nas")
    yield story.judged("credential-by-a-former-admin", "unauthorized", "no admin at the head")

    story, _, _ = _removed()
    story.invite(BEN)
    yield story.judged("invite-by-a-former-admin", "unauthorized", "no admin at the head")

    story, _, _ = _removed()
    story.credential(ANN, NAS, "nas")
    story.revocation(BEN, NAS)
    yield story.judged("revocation-by-a-former-admin", "unauthorized", "no admin at the head")

    story = Story(*TWO)
    story.credential(RECOVERY, NAS, "nas")
    yield story.judged("credential-by-recovery", "unauthorized", "the recovery key speaks in the chain alone")

    story = Story(*TWO)
    story.credential(ANN, NAS, "nas")
    story.revocation(RECOVERY, NAS)
    yield story.judged("revocation-by-recovery", "unauthorized", "the recovery key speaks in the chain alone")

    story = Story(*TWO)
    story.invite(ANN)
    story.revocation(BEN, TOKEN)
    yield story.judged("ok-revocation-of-an-invite", "ok", "any admin withdraws any invite")


def words_of_members() -> Iterator[Vector]:
    """What a member may say of itself and of others."""
    story = Story(*TWO)
    story.credential(ANN, NAS, "nas")
    story.revocation(NAS, NAS)
    yield story.judged("ok-revocation-of-oneself", "ok", "leaving")

    story = Story(*TWO)
    story.credential(ANN, NAS, "nas")
    story.revocation(ANN, NAS)
    story.revocation(NAS, NAS)
    yield story.judged("ok-revocation-of-oneself-late", "ok", "leaving once more is no harm")

    story = Story(*TWO)
    story.credential(ANN, NAS, "nas")
    story.revocation(NAS, NAS)
    story.credential(ANN, PHONE, "phone")
    story.say(NAS, 5, "main", [None, bytes(20), b"SSHSIG"])
    yield story.judged("ok-head-of-one-who-left", "ok", "a head is its signer's word, not its carrier's")

    story = Story(*TWO)
    story.credential(ANN, NAS, "nas")
    story.revocation(NAS, NAS)
    story.say(NAS, 4, "self", _node())
    yield story.judged("node-of-one-who-left", "unauthorized", "it has left")

    story = Story(*TWO)
    story.credential(ANN, NAS, "nas")
    story.credential(ANN, PHONE, "nas", succeeds=NAS)
    story.say(NAS, 4, "self", _node())
    yield story.judged("node-of-a-succeeded-key", "unauthorized", "another key took its place")

    story = Story(*TWO)
    story.invite(ANN)
    story.revocation(BEN, TOKEN)
    story.say(TOKEN, 6, "wifi", [2, None, "root", "root", 0o400, ["all"], [], bytes(24), bytes(40)])
    yield story.judged(
        "secret-by-a-withdrawn-token", "unauthorized", "out, and never known: it leaves nothing behind"
    )

    yield from secrets_of_those_who_are_out()
    yield from words_of_strangers()

    story = Story(*TWO)
    pair = [story.say(EVE, 200, "x", payload, seq=SEQ + 1) for payload in (b"a", b"b")]
    proof = [each.data for each in sorted(pair, key=lambda each: each.id)]
    for name, seed, expect, comment in (
        ("ok-proof-by-a-member", NAS, "ok", "anybody known may prove an equivocation, of anybody"),
        ("proof-by-a-stranger", DAN, "unauthorized", "but no stranger"),
    ):
        told = Story(*TWO)
        told.credential(ANN, NAS, "nas")
        told.say(seed, 14, fingerprint_slot(key(EVE)), proof)
        yield told.judged(name, expect, comment)


SECRET: list[object] = [2, None, "root", "root", 0o400, ["all"], [], bytes(24), bytes(40)]


def secrets_of_those_who_are_out() -> Iterator[Vector]:
    """What it set before stays; from the first word that put it out on nothing new comes in."""

    def told(name: str, expect: str, comment: str, seq: int, *revokers: bytes) -> Vector:
        story = Story(*TWO)
        story.credential(ANN, NAS, "nas")
        for later, revoker in enumerate(revokers):
            slot = fingerprint_slot(key(NAS))
            story.say(revoker, 2, slot, [key(NAS), "no more"], seq=SEQ + 1000 + 1000 * later)
        story.say(NAS, 6, "wifi", SECRET, seq=seq)
        return story.judged(name, expect, comment)

    yield told("ok-secret-of-one-who-left", "ok", "set before it left: the seq is lower", SEQ + 999, NAS)
    yield told("ok-secret-at-the-revocation", "ok", "the same seq is not above it", SEQ + 1000, ANN)
    yield told("secret-after-leaving", "unauthorized", "set after it left, by its own word", SEQ + 1001, NAS)
    yield told("secret-after-removal", "unauthorized", "set after an admin put it out", SEQ + 1001, ANN)
    yield told(
        "secret-after-the-first-revocation",
        "unauthorized",
        "two revocations count, and it lies between: the lower seq decides, whoever wrote it",
        SEQ + 1500,
        BEN,
        NAS,
    )

    story = Story(*TWO)
    story.credential(ANN, NAS, "nas")
    story.credential(ANN, PHONE, "nas", succeeds=NAS)
    story.say(NAS, 6, "wifi", SECRET)
    yield story.judged("ok-secret-of-a-succeeded-key", "ok", "out without any revocation: no seq is too high")


def words_of_strangers() -> Iterator[Vector]:
    """For whom nobody vouched leaves nothing behind: not its own revocation, nor what outlives a known key's."""
    for name, kind, slot, payload, comment in (
        (
            "revocation",
            2,
            fingerprint_slot(key(DAN)),
            [key(DAN), "no more"],
            "it puts out a key that was never in",
        ),
        ("head", 5, "main", [None, bytes(20), b"SSHSIG"], "kept of those who are out, not of those never in"),
        ("secret", 6, "wifi", SECRET, "kept of those who are out, not of those never in"),
    ):
        story = Story(*TWO)
        story.say(DAN, kind, slot, payload)
        yield story.judged(f"{name}-by-a-stranger", "unauthorized", comment)

    story = Story(*TWO)
    story.redemption(DAN, story.invite(ANN), NAS, "nas")
    yield story.judged("redemption-by-a-stranger", "unauthorized", "an invite in order, let in by nobody known")

    story = Story(*TWO)
    invite = story.invite(ANN)
    story.redemption(ANN, invite, PHONE, "phone")
    story.redemption(ANN, invite, NAS, "nas")
    story.say(NAS, 4, "self", _node())
    yield story.judged("node-of-a-suspended-key", "unauthorized", "it waits for an admin, and says nothing before")

    story = Story(*TWO)
    story.credential(ANN, NAS, "nas")
    invite = story.invite(ANN)
    story.revocation(ANN, NAS)
    story.redemption(NAS, invite, PHONE, "phone")
    yield story.judged("redemption-after-removal", "unauthorized", "who is out lets nobody in")

    story = Story(*TWO)
    story.invite(ANN)
    story.revocation(BEN, TOKEN)
    story.revocation(TOKEN, TOKEN)
    yield story.judged("revocation-by-a-withdrawn-token", "unauthorized", "out, and never known")


def _node() -> list[object]:
    return [bytes(32), bytes(32), [[1, bytes(32)]], [], 0, key(NAS), 1, bytes(64)]
