"""Vectors that tell near readings of the rules apart, by one word each: layer `authority`."""

from collections.abc import Iterator

from tests.vectors.chains import (
    ANN,
    BEN,
    CARA,
    DAN,
    EVE,
    NEXT_RECOVERY,
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

TWO = ((ANN, 1), (BEN, 1))
THREE = (*TWO, (CARA, 1))
FIVE = (*THREE, (DAN, 1), (EVE, 1))
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
        "a recovery key that replaces itself still goes before a third branch",
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
        "a replacement that what is final makes void ends no recovery key",
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
        "what the recovery key signed on is whole again, and heavier, where both sides end each other",
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
        "the first pin stands whatever the others say, the third only because the first voids the second",
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
        "two of two before the fork, but two of five behind it: the lower id",
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
        "a majority of a later operation's own state is enough for the branch",
        heavy,
        admins=[(ANN, 9), (BEN, 1), (CARA, 1)],
        settled=heavy,
    )


def weights_and_removals() -> Iterator[Vector]:
    """Rules 4 and 5."""
    story = Story((BEN, 1), (CARA, 1), (ANN, 3))
    alone = story.operation(ANN, setting("a"), story.genesis)
    story.operation(BEN, setting("b"), story.genesis, CARA, below=alone)
    yield story.ends("fork-weight-not-heads", "one of weight 3 against two of weight 1", alone)

    story = Story(*FIVE)
    first = story.operation(DAN, setting("a"), story.genesis)
    removal = story.operation(DAN, removing(EVE), first, CARA, BEN)
    story.operation(ANN, setting("b"), story.genesis, BEN, CARA, below=first)
    yield story.ends(
        "fork-removal-deeper",
        "three signed each; a removal further down counts too",
        removal,
        admins=FIVE[:4],
        pinned=[EVE],
    )

    story = Story(*THREE)
    changed = story.operation(CARA, recovery(NEXT_RECOVERY), story.genesis, BEN)
    story.operation(ANN, signer(), story.genesis, BEN, below=changed)
    yield story.ends(
        "fork-removal-of-the-recovery-key",
        "a replaced recovery key is a pinned key as well",
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
