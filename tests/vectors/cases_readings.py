"""Vectors that tell near readings of the rules apart, by one word each: layer `authority`."""

from collections.abc import Iterator

from tests.vectors.chains import (
    ANN,
    BEN,
    CARA,
    DAN,
    EVE,
    FIVE,
    NEXT_RECOVERY,
    THREE,
    TWO,
    Story,
    adding,
    recovery,
    removing,
    setting,
    signer,
    thresholds,
)
from tests.vectors.form import Vector
from tests.vectors.people import RECOVERY, SIGNER

SIGNERS_MAX = 64
CHECKPOINTS_MAX = 16


def all_cases() -> Iterator[Vector]:
    """Give every vector of this module."""
    yield from recovery_keys()
    yield from chains_of_pins()
    yield from acknowledged()
    yield from weights_and_removals()
    yield from states()


def recovery_keys() -> Iterator[Vector]:
    """Rule 1 beside what is final and what is void."""
    story = Story(*THREE)
    changed = story.operation(RECOVERY, recovery(NEXT_RECOVERY), story.genesis)
    story.operation(RECOVERY, setting("b"), story.genesis, ANN, above=changed)
    story.operation(BEN, setting("c"), story.genesis, ANN, CARA, below=changed)
    yield story.ends(
        "fork-recovery-renewed",
        "rule 1: the recovery key replaces itself on one of two branches that it signed; a third one,"
        " signed by all admins, is out all the same",
        changed,
        pinned=[RECOVERY],
        recovery=NEXT_RECOVERY,
    )

    story = Story(*FIVE)
    removal = story.operation(DAN, removing(BEN), story.genesis, ANN, CARA)
    saved = story.operation(RECOVERY, setting("a"), removal)
    heavy = story.operation(ANN, setting("b"), story.genesis, CARA, DAN, EVE, below=removal)
    story.operation(BEN, recovery(NEXT_RECOVERY), heavy, CARA, DAN)
    yield story.ends(
        "final-recovery-replaced-by-a-pinned",
        "rules 0 and 1: an admin whom the final operation threw out replaces the recovery key on"
        " another branch: void, so that ends no recovery key",
        saved,
        final=removal,
        settled=removal,
        admins=[(ANN, 1), (CARA, 1), (DAN, 1), (EVE, 1)],
        pinned=[BEN],
        recovery=RECOVERY,
        settings={"a": "on"},
    )

    story = Story(*THREE)
    removal = story.operation(ANN, removing(BEN), story.genesis, CARA)
    story.operation(RECOVERY, setting("a"), removal)
    void = story.operation(BEN, setting("b"), story.genesis, ANN, CARA, above=removal)
    saved = story.operation(RECOVERY, removing(ANN), void)
    yield story.ends(
        "final-recovery-on-void-whole",
        "rules 0 and 1: the recovery key signed on both branches; the one that the final operation"
        " makes void counts as a whole, and is heavier",
        saved,
        final=removal,
        settled=story.genesis,
        admins=[(BEN, 1), (CARA, 1)],
        pinned=[ANN],
        settings={"b": "on"},
    )


def chains_of_pins() -> Iterator[Vector]:
    """Rule 2 looks twice, and not a third time."""
    story = Story((ANN, 1), (BEN, 1), (CARA, 1), (DAN, 1), (EVE, 5))
    story.operation(EVE, removing(BEN), story.genesis)
    story.operation(BEN, removing(CARA), story.genesis, EVE)
    third = story.operation(CARA, removing(DAN), story.genesis, EVE)
    fourth = story.operation(DAN, setting("a"), story.genesis, EVE, ANN, above=third)
    yield story.ends(
        "mutual-removal-chain",
        "rule 2: the first of three removals voids the second, so the third, whose author the second"
        " removes, stands at the second look; it did not at the first, where pins are taken from, so"
        " the fourth branch stands too, and is the heaviest",
        fourth,
        settings={"a": "on"},
    )


def acknowledged() -> Iterator[Vector]:
    """Rule 3 asks each operation's own admins, of any operation of the branch."""
    story = Story(*TWO)
    added = story.operation(ANN, adding(CARA, 3), story.genesis, BEN)
    other = story.operation(ANN, setting("a"), story.genesis, BEN, below=added)
    story.acknowledge(added, ANN, BEN)
    yield story.ends(
        "fork-acknowledged-in-its-own-state",
        "rule 3: two acknowledge an operation that adds an admin of weight 3: two of five in its own"
        " state is no majority, so the lower id decides",
        other,
        settled=story.genesis,
    )

    story = Story(*THREE)
    first = story.operation(ANN, setting("a"), story.genesis)
    heavy = story.operation(ANN, adding(ANN, 9), first, BEN)
    story.operation(CARA, setting("b"), story.genesis, ANN, BEN, below=first)
    story.acknowledge(heavy, ANN)
    yield story.ends(
        "fork-acknowledged-deeper",
        "rule 3: the second operation of a branch gives its one follower the majority in its own"
        " state: enough for the whole branch",
        heavy,
        admins=[(ANN, 9), (BEN, 1), (CARA, 1)],
        settled=heavy,
    )


def weights_and_removals() -> Iterator[Vector]:
    """Rules 4 and 5."""
    story = Story((BEN, 1), (CARA, 1), (ANN, 3))
    alone = story.operation(ANN, setting("a"), story.genesis)
    story.operation(BEN, setting("b"), story.genesis, CARA, below=alone)
    yield story.ends(
        "fork-weight-not-heads",
        "rule 4: one admin of weight 3 against two of weight 1: weight counts, not heads",
        alone,
    )

    story = Story(*FIVE)
    first = story.operation(DAN, setting("a"), story.genesis)
    removal = story.operation(DAN, removing(EVE), first, CARA, BEN)
    story.operation(ANN, setting("b"), story.genesis, BEN, CARA, below=first)
    yield story.ends(
        "fork-removal-deeper",
        "rule 5: three admins signed each branch; one has a removal as its second operation, and that"
        " counts for the branch",
        removal,
        admins=FIVE[:4],
        pinned=[EVE],
    )

    story = Story(*THREE)
    changed = story.operation(CARA, recovery(NEXT_RECOVERY), story.genesis, BEN)
    story.operation(ANN, signer(), story.genesis, BEN, below=changed)
    yield story.ends(
        "fork-removal-of-the-recovery-key",
        "rule 5: two admins signed each branch; one replaces the recovery key, which pins a key as a removal does",
        changed,
        pinned=[RECOVERY],
        recovery=NEXT_RECOVERY,
    )


def states() -> Iterator[Vector]:
    """Effects and needs at their bounds."""
    story = Story(*THREE)
    changed = story.operation(ANN, thresholds(0, 100), story.genesis, BEN)
    done = story.operation(ANN, setting("a"), changed, BEN, CARA)
    yield story.ends("threshold-routine-over-all", "never more than there is", done, settings={"a": "on"})

    story = Story((ANN, 1))
    again = story.operation(ANN, [1, " ".join([*SIGNER.split()[:2], "another comment"])], story.genesis)
    yield story.ends("signer-again", "the same type and key is the same signer", again, signers=1)

    story = Story((ANN, 1))
    gone = story.operation(ANN, [2, " ".join([*SIGNER.split()[:2], "another comment"])], story.genesis)
    yield story.ends("signer-removed", "by type and key, whatever the comment", gone, signers=0)

    story = Story((ANN, 1))
    head = story.genesis
    for number in range(2, SIGNERS_MAX + 2):
        head = story.operation(ANN, signer(number), head)
    yield story.ends("signer-65th", "at most 64: without effect", head, signers=SIGNERS_MAX)

    story = Story((ANN, 1))
    head = story.genesis
    for number in range(CHECKPOINTS_MAX + 1):
        head = story.operation(ANN, [3, "main", bytes([number]) * 20], head)
    yield story.ends("checkpoint-17th", "of checkpoints the newest 16", head, checkpoints=CHECKPOINTS_MAX)

    story = Story((ANN, 1))
    first = story.operation(ANN, [3, "main", bytes(20)], story.genesis)
    again = story.operation(ANN, [3, "main", bytes(20)], first)
    other = story.operation(ANN, [3, "stable", bytes(20)], again)
    back = story.operation(ANN, [3, "main", bytes(20)], other)
    yield story.ends("checkpoint-repeated", "right behind itself without effect, later not", back, checkpoints=3)
