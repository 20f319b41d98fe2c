"""Vectors of what operations need and do, and of what is final: layer `authority`."""

from collections.abc import Iterator

from tests.vectors.chains import (
    ANN,
    BEN,
    CARA,
    DAN,
    EVE,
    NAS,
    NEXT_RECOVERY,
    Said,
    Story,
    adding,
    recovery,
    removing,
    replacing,
    setting,
    signer,
    thresholds,
)
from tests.vectors.form import Vector
from tests.vectors.people import RECOVERY, secret

ONE = ((ANN, 1),)
TWO = ((ANN, 1), (BEN, 1))
THREE = (*TWO, (CARA, 1))
CROWD = tuple((secret(f"admin {number}"), 1) for number in range(32))
SETTINGS_MAX = 64


def all_cases() -> Iterator[Vector]:
    """Give every vector of operations and finality."""
    yield from majorities()
    yield from approvals()
    yield from thresholds_changed()
    yield from chains()
    yield from admins()
    yield from settings()
    yield from recovery_keys()
    yield from finals()
    yield from settled()


def majorities() -> Iterator[Vector]:
    """Who can govern alone, and who needs whom."""
    story = Story(*ONE)
    done = story.operation(ANN, signer(), story.genesis)
    yield story.ends("need-one-admin", "the family with one admin notices nothing", done, signers=2)

    story = Story(*TWO)
    waits = story.operation(ANN, signer(), story.genesis)
    yield story.ends("need-two-admins-both", "one of two is half", story.genesis, pending=[waits], signers=1)

    story = Story(*TWO)
    done = story.operation(ANN, signer(), story.genesis, BEN)
    yield story.ends("need-two-admins-met", "both signed", done, signers=2)

    story = Story(*THREE)
    done = story.operation(CARA, adding(DAN, 2), story.genesis, BEN)
    yield story.ends("need-three-admins-two", "two of three", done, admins=[*THREE, (DAN, 2)])

    story = Story((ANN, 3), (BEN, 1), (CARA, 1))
    done = story.operation(ANN, signer(), story.genesis)
    yield story.ends("need-weight-not-heads", "one of three, with over half of the weight", done, signers=2)

    story = Story(*TWO)
    done = story.operation(RECOVERY, adding(CARA), story.genesis)
    yield story.ends("need-recovery-alone", "the recovery key needs nobody", done, admins=THREE)

    story = Story(*TWO)
    done = story.operation(BEN, [3, "main", bytes(20)], story.genesis)
    yield story.ends("need-checkpoint-routine", "a checkpoint is routine in spite of its number", done)

    story = Story(*TWO)
    done = story.operation(BEN, [200, "of a later version"], story.genesis)
    yield story.ends("need-unknown-routine", "an unknown operation from 128 on is routine", done)

    story = Story(*TWO)
    waits = story.operation(BEN, [99, "of a later version"], story.genesis)
    yield story.ends("need-unknown-govern", "below 128 it is not", story.genesis, pending=[waits])


def approvals() -> Iterator[Vector]:
    """Whose approval counts."""
    story = Story(*TWO)
    story.credential(ANN, NAS, "nas")
    waits = story.operation(ANN, signer(), story.genesis, NAS)
    yield story.ends("approval-by-a-member", "a member's approval is no admin's", story.genesis, pending=[waits])

    story = Story(*TWO)
    waits = story.operation(ANN, signer(), story.genesis, ANN)
    yield story.ends("approval-of-ones-own", "each admin counts once", story.genesis, pending=[waits])

    story = Story(*TWO)
    waits = story.operation(ANN, adding(CARA), story.genesis, CARA)
    yield story.ends("approval-by-the-one-added", "no admin in the parent's state", story.genesis, pending=[waits])

    story = Story(*TWO)
    waits = story.operation(ANN, signer(), story.genesis, RECOVERY)
    yield story.ends("approval-by-recovery", "the recovery key has no weight", story.genesis, pending=[waits])

    story = Story(*THREE)
    story.operation(ANN, signer(), story.genesis)
    done = story.operation(BEN, setting("a"), story.genesis)
    yield story.ends("approval-too-late", "what waited behind a former head waits no more", done)

    story = Story(*THREE)
    done = story.operation(ANN, signer(), story.genesis, BEN)
    waits = story.operation(ANN, signer(3), done)
    other = story.operation(CARA, adding(DAN), done)
    yield story.ends("approval-two-wait", "two proposals behind one head", done, pending=[waits, other])


def thresholds_changed() -> Iterator[Vector]:
    """What the admins have settled operations to need."""
    story = Story(*THREE)
    changed = story.operation(ANN, thresholds(3, 1), story.genesis, BEN)
    waits = story.operation(ANN, signer(), changed, BEN)
    yield story.ends("threshold-govern", "all three, since they decided so", changed, pending=[waits])

    story = Story(*THREE)
    changed = story.operation(ANN, thresholds(100, 1), story.genesis, BEN)
    done = story.operation(ANN, signer(), changed, BEN, CARA)
    yield story.ends("threshold-over-all", "never more than there is", done, signers=2)

    story = Story(*THREE)
    changed = story.operation(ANN, thresholds(1, 1), story.genesis, BEN)
    waits = story.operation(ANN, signer(), changed)
    yield story.ends("threshold-under-majority", "never less than the majority", changed, pending=[waits])

    story = Story(*THREE)
    changed = story.operation(ANN, thresholds(0, 2), story.genesis, BEN)
    waits = story.operation(ANN, setting("a"), changed)
    yield story.ends("threshold-routine", "a setting needs two now", changed, pending=[waits], settings={})

    story = Story(*THREE)
    changed = story.operation(ANN, thresholds(0, 0), story.genesis, BEN)
    done = story.operation(CARA, setting("a"), changed)
    yield story.ends("threshold-routine-0", "any admin", done, settings={"a": "on"})


def chains() -> Iterator[Vector]:
    """What is no part of the chain."""
    story = Story(*ONE)
    story.operation(ANN, setting("a"), story.genesis, slot="00000002")
    yield story.ends("chain-number-skipped", "not in the next slot", story.genesis)

    story = Story(*ONE)
    first = story.operation(ANN, setting("a"), story.genesis)
    story.operation(ANN, setting("b"), first, slot="00000001")
    yield story.ends("chain-number-repeated", "in its parent's slot", first)

    story = Story(*ONE)
    elsewhere = Story(*TWO).genesis
    story.operation(ANN, setting("a"), elsewhere)
    yield story.ends("chain-parent-unknown", "behind an operation that is not there", story.genesis)

    story = Story(*ONE)
    story.operation(BEN, setting("a"), story.genesis, ANN)
    yield story.ends("chain-author-no-admin", "an admin's approval does not make an author", story.genesis)

    story = Story(*TWO)
    waits = story.operation(ANN, signer(), story.genesis)
    story.operation(ANN, setting("a"), waits)
    yield story.ends("chain-behind-a-proposal", "not behind a valid operation", story.genesis, pending=[waits])


def admins() -> Iterator[Vector]:
    """What operations do to the admins."""
    story = Story(*THREE)
    done = story.operation(ANN, adding(BEN, 7), story.genesis, CARA)
    yield story.ends("admin-weight", "a new weight, the same place", done, admins=[(ANN, 1), (BEN, 7), (CARA, 1)])

    story = Story(*CROWD)
    done = story.operation(RECOVERY, adding(DAN), story.genesis)
    yield story.ends("admin-33rd", "at most 32: without effect", done)

    story = Story(*ONE)
    done = story.operation(ANN, removing(ANN), story.genesis)
    yield story.ends("admin-last", "the last admin cannot be removed: without effect", done)

    story = Story(*TWO)
    done = story.operation(ANN, removing(DAN), story.genesis, BEN)
    yield story.ends("admin-remove-other", "no admin: without effect, and not pinned", done)

    story = Story((ANN, 3), (BEN, 2), (CARA, 1))
    done = story.operation(ANN, replacing(BEN, DAN), story.genesis, CARA)
    yield story.ends(
        "admin-replace",
        "the successor has place and weight",
        done,
        admins=[(ANN, 3), (DAN, 2), (CARA, 1)],
        pinned=[BEN],
    )

    story = Story(*THREE)
    done = story.operation(ANN, replacing(BEN, CARA), story.genesis, CARA)
    yield story.ends("admin-replace-by-admin", "one admin cannot have two places: without effect", done)

    story = Story(*THREE)
    done = story.operation(ANN, replacing(DAN, EVE), story.genesis, CARA)
    yield story.ends("admin-replace-nobody", "no admin to replace: without effect", done)

    story = Story(*ONE)
    done = story.operation(RECOVERY, replacing(ANN, BEN), story.genesis)
    yield story.ends("admin-replace-sole", "a sole admin's lost device", done, admins=[(BEN, 1)], pinned=[ANN])


def settings() -> Iterator[Vector]:
    """What all members heed."""
    story = Story(*ONE)
    head = story.genesis
    for name, value in [("a", "one"), ("b", "two"), ("a", "three"), ("b", ""), ("c", "")]:
        head = story.operation(ANN, setting(name, value), head)
    yield story.ends("setting", "set, changed, taken back, never set", head, settings={"a": "three"})

    story = Story(*ONE)
    head = story.genesis
    for number in range(SETTINGS_MAX + 1):
        head = story.operation(ANN, setting(f"s{number}", "x"), head)
    head = story.operation(ANN, setting("s7", "y"), head)
    kept = {f"s{number}": "x" for number in range(SETTINGS_MAX)} | {"s7": "y"}
    yield story.ends("setting-65th", "at most 64; one of them can still be changed", head, settings=kept)


def recovery_keys() -> Iterator[Vector]:
    """The recovery key in force."""
    story = Story(*ONE)
    done = story.operation(ANN, recovery(NEXT_RECOVERY), story.genesis)
    by_new = story.operation(NEXT_RECOVERY, adding(BEN), done)
    yield story.ends(
        "recovery-next", "the new one acts", by_new, admins=TWO, pinned=[RECOVERY], recovery=NEXT_RECOVERY
    )

    story = Story(*ONE)
    done = story.operation(RECOVERY, recovery(None), story.genesis)
    story.operation(RECOVERY, setting("a"), done)
    yield story.ends("recovery-none", "given up for ever", done, pinned=[RECOVERY], recovery=None)

    story = Story(*ONE, recovery=None)
    done = story.operation(ANN, recovery(NEXT_RECOVERY), story.genesis)
    yield story.ends("recovery-first", "a clan that had none", done, recovery=NEXT_RECOVERY)


def finals() -> Iterator[Vector]:
    """What is final lets its pins count first, and decides nothing else."""
    left = {"admins": [(ANN, 1), (CARA, 1)], "pinned": [BEN]}
    story, removal, counter = _duel(CARA)
    yield story.ends(
        "final-pins-first",
        "who was thrown out, and that was settled, cannot throw out those who did it",
        removal,
        final=removal,
        settled=removal,
        **left,
    )

    story, removal, counter = _duel(CARA)
    yield story.ends(
        "final-unheld",
        "for a node that holds nothing as final the more senior author decides the same case",
        counter,
        settled=story.genesis,
        admins=[(BEN, 1), (CARA, 1)],
        pinned=[ANN],
    )

    story, removal, counter = _duel(ANN)
    story.acknowledge(counter, ANN, BEN, CARA)
    yield story.ends(
        "final-left-for-majority",
        "the admins that it trusts follow another branch, all of them",
        counter,
        final=removal,
        settled=counter,
        admins=[(BEN, 1), (CARA, 1)],
        pinned=[ANN],
    )

    story, removal, counter = _duel(ANN)
    story.acknowledge(counter, BEN, CARA)
    yield story.ends(
        "final-kept-against-half",
        "half of the admins that it trusts; the one that it pinned is not asked",
        removal,
        final=removal,
        settled=removal,
        **left,
    )

    story = Story(*THREE)
    held = story.operation(CARA, setting("a"), story.genesis)
    other = story.operation(ANN, setting("b"), story.genesis, BEN, above=held)
    yield story.ends(
        "final-pins-nobody",
        "between branches of people who all have a say it decides nothing; what was final is left",
        other,
        final=held,
        settled=story.genesis,
    )
    yield from finals_behind()
    yield from finals_and_recovery()


def _duel(author: bytes) -> tuple[Story, Said, Said]:
    """Ben is removed by `author`, and Ben removes Ann; each has enough signatures, Cara gave one to both."""
    story = Story(*THREE)
    approvers = [seed for seed in (ANN, CARA) if seed != author]
    removal = story.operation(author, removing(BEN), story.genesis, *approvers)
    return story, removal, story.operation(BEN, removing(ANN), story.genesis, CARA, below=removal)


def finals_behind() -> Iterator[Vector]:
    """Where the final operation lies further on, behind, or nowhere."""
    story = Story(*THREE, (DAN, 1))
    removal = story.operation(CARA, removing(BEN), story.genesis, ANN, DAN)
    honest = story.operation(CARA, setting("a"), story.genesis, below=removal)
    story.operation(BEN, removing(ANN), honest, CARA, DAN)
    yield story.ends(
        "final-pins-part",
        "of another branch that stands which its pins leave: here too little",
        removal,
        final=removal,
        settled=removal,
        admins=[(ANN, 1), (CARA, 1), (DAN, 1)],
        pinned=[BEN],
        settings={},
    )

    story = Story(*THREE)
    removal = story.operation(CARA, removing(BEN), story.genesis, ANN)
    ahead = story.operation(ANN, setting("a"), removal)
    story.operation(CARA, setting("b"), removal, below=ahead)
    yield story.ends(
        "final-further-on",
        "the chain goes on behind it by the other rules",
        ahead,
        final=removal,
        settled=removal,
        admins=[(ANN, 1), (CARA, 1)],
        pinned=[BEN],
        settings={"a": "on"},
    )

    story = Story(*THREE)
    first = story.operation(ANN, setting("a"), story.genesis)
    held = story.operation(ANN, setting("b"), first)
    newer = story.operation(CARA, setting("c"), held)
    story.acknowledge(newer, ANN, CARA)
    yield story.ends("final-moves-on", "a majority follows a later one", newer, final=first, settled=newer)

    story = Story(*THREE)
    first = story.operation(ANN, setting("a"), story.genesis)
    held = story.operation(CARA, setting("b"), first)
    other = story.operation(ANN, setting("c"), first, BEN, above=held)
    yield story.ends(
        "final-last-in-common",
        "of what was final that part stays which the followed branch rests on too",
        other,
        final=held,
        settled=first,
    )

    story = Story((ANN, 1), (BEN, 3), (CARA, 1), (DAN, 3))
    held = story.operation(ANN, removing(ANN), story.genesis, BEN, DAN)
    first = story.operation(RECOVERY, setting("a"), story.genesis, ANN, BEN, DAN)
    story.operation(RECOVERY, setting("b"), story.genesis, BEN, CARA, DAN, above=first)
    yield story.ends(
        "final-chosen-anew",
        "its pins take weight from one of two branches that lead away: once it is left, they count no more",
        first,
        final=held,
        settled=story.genesis,
        settings={"a": "on"},
    )

    story = Story(*THREE)
    elsewhere = Story(*TWO).genesis
    done = story.operation(CARA, setting("a"), story.genesis)
    story.acknowledge(done, ANN, BEN)
    yield story.ends(
        "final-unknown",
        "an operation that is not there decides nothing, and nothing is settled against it",
        done,
        final=elsewhere,
        settled=elsewhere,
    )


def finals_and_recovery() -> Iterator[Vector]:
    """The recovery key leads away from what is final, as long as it is in force."""
    story = Story(*THREE)
    held = story.operation(ANN, setting("a"), story.genesis, BEN, CARA)
    story.acknowledge(held, ANN, BEN, CARA)
    saved = story.operation(RECOVERY, setting("b"), story.genesis, above=held)
    yield story.ends(
        "final-left-for-recovery",
        "whatever all admins follow; until they follow the new one, nothing behind the fork is final",
        saved,
        final=held,
        settled=story.genesis,
    )

    story = Story(*THREE)
    removal = story.operation(ANN, removing(BEN), story.genesis, CARA)
    void = story.operation(BEN, setting("a"), story.genesis, above=removal)
    saved = story.operation(RECOVERY, setting("b"), void)
    yield story.ends(
        "final-recovery-on-void",
        "what the recovery key signed may rest on what is void otherwise",
        saved,
        final=removal,
        settled=story.genesis,
        settings={"a": "on", "b": "on"},
    )

    story = Story(*THREE)
    held = story.operation(ANN, recovery(NEXT_RECOVERY), story.genesis, BEN)
    ahead = story.operation(CARA, setting("a"), held)
    story.operation(RECOVERY, setting("b"), story.genesis, below=held)
    yield story.ends(
        "final-recovery-replaced",
        "but not a former one",
        ahead,
        final=ahead,
        settled=ahead,
        pinned=[RECOVERY],
        recovery=NEXT_RECOVERY,
    )


def settled() -> Iterator[Vector]:
    """What is final by acknowledgements."""
    story = Story(*THREE)
    first = story.operation(ANN, setting("a"), story.genesis)
    second = story.operation(ANN, setting("b"), first)
    third = story.operation(ANN, setting("c"), second)
    story.acknowledge(third, ANN)
    story.acknowledge(second, BEN)
    story.acknowledge(first, CARA)
    yield story.ends("settled", "two of three follow the second or the third", third, settled=second)

    story = Story(*TWO)
    first = story.operation(ANN, setting("a"), story.genesis)
    story.acknowledge(first, ANN)
    yield story.ends("settled-by-half", "half is no majority", first, settled=story.genesis)

    story = Story(*THREE)
    first = story.operation(ANN, setting("a"), story.genesis)
    story.credential(ANN, NAS, "nas")
    story.acknowledge(first, ANN, NAS, RECOVERY)
    yield story.ends(
        "settled-by-admins", "members and the recovery key have no weight", first, settled=story.genesis
    )

    story = Story(*TWO)
    first = story.operation(ANN, setting("a"), story.genesis)
    added = story.operation(ANN, adding(CARA, 3), first, BEN)
    story.acknowledge(added, ANN, BEN)
    yield story.ends(
        "settled-in-its-own-state",
        "each operation counts the admins of its own state",
        added,
        admins=[*TWO, (CARA, 3)],
        settled=first,
    )

    story = Story(*THREE)
    first = story.operation(ANN, setting("a"), story.genesis)
    story.acknowledge(first, ANN, BEN)
    story.acknowledge(story.genesis, BEN)
    yield story.ends("settled-newest-counts", "an admin that went back", first, settled=story.genesis)
