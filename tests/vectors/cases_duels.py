"""Vectors of admins and recovery keys against each other: layer `authority`."""

from collections.abc import Iterator

from tests.vectors.chains import (
    ANN,
    BEN,
    CARA,
    DAN,
    EVE,
    FIVE,
    MALLORY,
    NAS,
    NEXT_RECOVERY,
    THREE,
    TWO,
    Story,
    adding,
    recovery,
    removing,
    replacing,
    setting,
    signer,
)
from tests.vectors.form import Vector
from tests.vectors.people import RECOVERY, secret

THIEF = secret("thief of the recovery key")


def all_cases() -> Iterator[Vector]:
    """Give every vector of this module."""
    yield from recovery_on_both_sides()
    yield from recovery_at_work()
    yield from admins_and_recovery_keys()
    yield from removals()
    yield from words_of_pinned_keys()
    yield from acknowledgements()
    yield from majorities()


def recovery_on_both_sides() -> Iterator[Vector]:
    """The recovery key signed on more than one branch."""
    story = Story(*THREE)
    alone = story.operation(RECOVERY, setting("a"), story.genesis)
    first = story.operation(CARA, setting("b"), story.genesis, above=alone)
    saved = story.operation(RECOVERY, setting("c"), first)
    story.operation(BEN, setting("d"), story.genesis, ANN, CARA, below=alone)
    yield story.ends(
        "fork-recovery-on-two",
        "rule 1: the recovery key signed on two of three branches: the third is out, and of the two"
        " the heavier is followed (rule 4)",
        saved,
        settings={"b": "on", "c": "on"},
    )

    story = Story(*THREE)
    first = story.operation(RECOVERY, setting("a"), story.genesis)
    behind = story.operation(ANN, setting("b"), first)
    other = story.operation(ANN, setting("c"), story.genesis, below=first)
    story.operation(RECOVERY, setting("d"), other)
    yield story.ends(
        "fork-recovery-is-most-senior",
        "rule 6: the recovery key signed on both branches, each weighs one admin: the one that it"
        " began itself is followed",
        behind,
    )

    story = Story(*THREE)
    changed = story.operation(RECOVERY, recovery(NEXT_RECOVERY), story.genesis)
    story.operation(RECOVERY, setting("b"), story.genesis, ANN, BEN, CARA, below=changed)
    yield story.ends(
        "fork-recovery-replaced-by-itself",
        "rules 1 and 2: the recovery key replaces itself on one branch and signs another: both pass"
        " rule 1, then its replacement pins it and the other is void",
        changed,
        pinned=[RECOVERY],
        recovery=NEXT_RECOVERY,
    )

    story = Story(*THREE)
    other = story.operation(RECOVERY, recovery(THIEF), story.genesis)
    changed = story.operation(RECOVERY, recovery(NEXT_RECOVERY), story.genesis, below=other)
    yield story.ends(
        "fork-recovery-replaced-twice",
        "rule 7: the recovery key, which two people have, replaces itself on both branches, and"
        " nobody else spoke: the lower id",
        changed,
        pinned=[RECOVERY],
        recovery=NEXT_RECOVERY,
    )

    story = Story(*THREE)
    other = story.operation(RECOVERY, recovery(THIEF), story.genesis)
    changed = story.operation(RECOVERY, recovery(NEXT_RECOVERY), story.genesis, above=other)
    story.operation(CARA, setting("a"), changed)
    last = story.operation(BEN, setting("b"), changed, ANN)
    yield story.ends(
        "fork-recovery-stolen",
        "rule 4: the recovery key, which two people have, replaces itself on both branches: the"
        " admins who build on one of them decide",
        last,
        pinned=[RECOVERY],
        recovery=NEXT_RECOVERY,
    )


def recovery_at_work() -> Iterator[Vector]:
    """What the recovery key is for."""
    story = Story(*TWO)
    removal = story.operation(RECOVERY, removing(BEN), story.genesis)
    story.operation(BEN, setting("a"), story.genesis, ANN, below=removal)
    yield story.ends(
        "recovery-removes",
        "rule 1: one of two admins is lost, and no other admin has the weight: the recovery key"
        " removes it, whatever the lost one signs",
        removal,
        admins=[(ANN, 1)],
        pinned=[BEN],
    )

    yield from recovery_against_a_thief()

    story = Story(*THREE)
    done = story.operation(ANN, recovery(RECOVERY), story.genesis, BEN)
    again = story.operation(RECOVERY, setting("a"), done)
    yield story.ends(
        "recovery-same",
        "7.1: replacing the recovery key by itself has no effect, and pins nothing",
        again,
        recovery=RECOVERY,
    )

    story = Story(*THREE, recovery=None)
    done = story.operation(ANN, recovery(None), story.genesis, BEN)
    yield story.ends("recovery-none-again", "none instead of none: without effect", done, recovery=None)

    story = Story(*THREE)
    removal = story.operation(ANN, removing(BEN), story.genesis, CARA)
    done = story.operation(ANN, recovery(BEN), removal, CARA)
    yield story.ends(
        "recovery-by-a-pinned-key",
        "a removed admin's key does not become the recovery key: without effect",
        done,
        admins=[(ANN, 1), (CARA, 1)],
        pinned=[BEN],
        recovery=RECOVERY,
    )


def recovery_against_a_thief() -> Iterator[Vector]:
    """A sole admin's stolen key replaces the recovery key on a branch of its own, whenever it was made."""
    story = Story((ANN, 1))
    stolen = story.operation(ANN, adding(EVE), story.genesis)
    story.operation(ANN, recovery(THIEF), stolen, EVE)
    saved = story.operation(RECOVERY, replacing(ANN, BEN), story.genesis, above=stolen)
    yield story.ends(
        "recovery-late",
        "rule 1: a thief adds an admin, and both replace the recovery key; that threw out the thief, without whom"
        " the replacement does not stand",
        saved,
        admins=[(BEN, 1)],
        pinned=[ANN],
        recovery=RECOVERY,
    )

    story = Story((ANN, 1))
    saved = story.operation(RECOVERY, replacing(ANN, BEN), story.genesis)
    stolen = story.operation(ANN, recovery(THIEF), story.genesis, below=saved)
    story.acknowledge(saved, BEN)
    story.acknowledge(stolen, ANN)
    yield story.ends(
        "recovery-in-time",
        "rule 0: the recovery key replaced a sole admin's stolen key, and that is final here: the"
        " thief, who replaces the recovery key, leads nobody away",
        saved,
        final=saved,
        admins=[(BEN, 1)],
        pinned=[ANN],
        settled=saved,
        recovery=RECOVERY,
    )


def admins_and_recovery_keys() -> Iterator[Vector]:
    """No key is both, or pinning one would silence the other."""
    story = Story(*TWO, recovery=BEN)
    waits = story.operation(BEN, adding(CARA), story.genesis)
    yield story.ends(
        "both-in-the-genesis",
        "an admin's key is no recovery key: its word alone is not enough",
        story.genesis,
        pending=[waits],
        recovery=None,
    )

    story = Story(*THREE)
    done = story.operation(ANN, adding(RECOVERY), story.genesis, BEN)
    yield story.ends("both-added", "the recovery key becomes no admin: without effect", done, recovery=RECOVERY)

    story = Story(*THREE)
    done = story.operation(ANN, replacing(CARA, RECOVERY), story.genesis, BEN)
    yield story.ends("both-replaced", "nor an admin's successor: without effect", done, recovery=RECOVERY)

    story = Story(*THREE)
    done = story.operation(ANN, recovery(CARA), story.genesis, BEN)
    yield story.ends("both-recovery", "an admin becomes no recovery key: without effect", done, recovery=RECOVERY)


def removals() -> Iterator[Vector]:
    """Admins who go, and circles of them."""
    story = Story(*THREE)
    gone = story.operation(ANN, removing(ANN), story.genesis, BEN)
    story.operation(ANN, setting("a"), story.genesis, below=gone)
    yield story.ends(
        "admin-resigns",
        "an admin removes itself; what else it signs is void",
        gone,
        admins=[(BEN, 1), (CARA, 1)],
        pinned=[ANN],
    )

    story = Story(*TWO)
    waits = story.operation(ANN, removing(ANN), story.genesis)
    yield story.ends("admin-resigns-alone", "even that needs the majority", story.genesis, pending=[waits])

    story = Story(*THREE)
    senior = story.operation(ANN, removing(BEN), story.genesis, CARA)
    story.operation(BEN, removing(CARA), story.genesis, ANN, below=senior)
    story.operation(CARA, removing(ANN), story.genesis, BEN, below=senior)
    yield story.ends(
        "mutual-removal-circle",
        "rule 2, then rule 6: three admins remove one another in a circle: none stands alone, so all"
        " stay, and seniority decides",
        senior,
        admins=[(ANN, 1), (CARA, 1)],
        pinned=[BEN],
    )

    story = Story(*FIVE)
    stands = story.operation(EVE, removing(DAN), story.genesis, CARA, BEN)
    falls = story.operation(DAN, removing(ANN), story.genesis, CARA, BEN, below=stands)
    third = story.operation(ANN, setting("a"), story.genesis, BEN, CARA, EVE, above=falls)
    yield story.ends(
        "mutual-removal-third-branch",
        "rule 2: what a branch pins that does not stand itself makes nothing void on a third branch",
        third,
        settings={"a": "on"},
    )

    story = Story(*FIVE)
    added = story.operation(ANN, adding(MALLORY, 9), story.genesis, BEN, EVE)
    story.operation(MALLORY, removing(DAN), added)
    removal = story.operation(CARA, removing(BEN), story.genesis, EVE, ANN, above=added)
    yield story.ends(
        "mutual-removal-by-a-newcomer",
        "rule 2: an admin who was added on a branch removes another there: that falls with the"
        " approval that added it",
        removal,
        admins=[(ANN, 1), (CARA, 1), (DAN, 1), (EVE, 1)],
        pinned=[BEN],
    )


def words_of_pinned_keys() -> Iterator[Vector]:
    """What a removed admin says beside operations."""
    story = Story(*FIVE)
    other = story.operation(ANN, setting("a"), story.genesis)
    removal = story.operation(DAN, removing(BEN), story.genesis, CARA, EVE, above=other)
    story.acknowledge(other, ANN, BEN, CARA)
    yield story.ends(
        "pin-acknowledgement",
        "rule 3: three of five acknowledge a branch, but its sibling removes one of the three: that"
        " word does not count, and two are no majority",
        removal,
        admins=[(ANN, 1), (CARA, 1), (DAN, 1), (EVE, 1)],
        pinned=[BEN],
        settled=story.genesis,
    )

    story = Story(*THREE)
    removal = story.operation(ANN, removing(BEN), story.genesis, CARA)
    story.acknowledge(removal, BEN, CARA)
    yield story.ends(
        "pin-acknowledges-its-removal",
        "7.5: a removed admin and one other acknowledge the removal: one of the two admins who are"
        " left is no majority",
        removal,
        admins=[(ANN, 1), (CARA, 1)],
        pinned=[BEN],
        settled=story.genesis,
    )

    story = Story(*THREE)
    removal = story.operation(ANN, removing(BEN), story.genesis, CARA)
    story.acknowledge(removal, ANN, CARA)
    story.operation(BEN, setting("a"), story.genesis, below=removal)
    yield story.ends(
        "pin-settled",
        "7.5: both admins who are left acknowledge the removal: it is final, whatever the removed one"
        " signs beside it",
        removal,
        admins=[(ANN, 1), (CARA, 1)],
        pinned=[BEN],
        settled=removal,
    )

    story = Story(*THREE)
    added = story.operation(ANN, signer(), story.genesis, BEN)
    removal = story.operation(ANN, removing(BEN), added, CARA)
    story.acknowledge(removal, ANN, CARA)
    yield story.ends(
        "pin-settled-keeps-approvals",
        "7.5: a final removal rests on an operation that needs the removed admin's approval: that"
        " goes on counting",
        removal,
        admins=[(ANN, 1), (CARA, 1)],
        pinned=[BEN],
        settled=removal,
        signers=2,
    )


def acknowledgements() -> Iterator[Vector]:
    """Words about heads that say nothing."""
    story = Story(*THREE)
    first = story.operation(ANN, setting("a"), story.genesis)
    elsewhere = Story(*TWO).genesis
    story.acknowledge(first, ANN)
    story.acknowledge(elsewhere, BEN, CARA)
    yield story.ends(
        "settled-unknown-head",
        "7.5: two admins acknowledge a record that is not here: they follow nothing",
        first,
        settled=story.genesis,
    )

    story = Story(*THREE)
    waits = story.operation(ANN, signer(), story.genesis)
    story.acknowledge(waits, ANN, BEN, CARA)
    yield story.ends(
        "settled-proposal",
        "7.5: acknowledging a proposal does not approve it, and settles nothing",
        story.genesis,
        pending=[waits],
    )

    story = Story(*THREE)
    first = story.operation(ANN, setting("a"), story.genesis)
    for seed in (ANN, BEN):
        story.say(seed, 13, "self", [7, first.id])
    yield story.ends(
        "settled-number-is-nothing",
        "7.5: the id in an acknowledgement counts; a wrong number beside it does not matter",
        first,
        settled=first,
    )

    story = Story(*THREE)
    first = story.operation(ANN, setting("a"), story.genesis)
    story.acknowledge(first, ANN, BEN)
    story.say(BEN, 13, "self", b"")
    yield story.ends(
        "settled-withdrawn", "7.5: a tombstone takes an admin's acknowledgement back", first, settled=story.genesis
    )

    story = Story(*THREE)
    story.credential(ANN, NAS, "nas")
    first = story.operation(ANN, setting("a"), story.genesis)
    story.operation(NAS, adding(NAS), first)
    yield story.ends("approval-of-nothing", "what a member signs is not even a proposal", first)


def majorities() -> Iterator[Vector]:
    """How many have to acknowledge a head."""
    story = Story((ANN, 2), (BEN, 2), (CARA, 1))
    first = story.operation(CARA, setting("a"), story.genesis)
    story.acknowledge(first, BEN, CARA)
    yield story.ends(
        "settled-by-weight",
        "7.5: admins with three of five in weight acknowledge: that is the majority",
        first,
        settled=first,
    )

    story = Story(*TWO)
    left = story.operation(ANN, setting("a"), story.genesis)
    right = story.operation(BEN, setting("b"), story.genesis, below=left)
    story.acknowledge(left, ANN)
    story.acknowledge(right, BEN)
    yield story.ends(
        "settled-neither",
        "7.5: two admins acknowledge a branch each: seniority decides what is followed, and nothing"
        " behind the fork is final",
        left,
        settled=story.genesis,
    )
