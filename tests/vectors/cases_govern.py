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
    ONE,
    THREE,
    TWO,
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
        "rule 0: two admins remove each other; this device holds one removal as final, so the removed"
        " one's counter-removal is void",
        removal,
        final=removal,
        settled=removal,
        **left,
    )

    story, removal, counter = _duel(CARA)
    yield story.ends(
        "final-unheld",
        "rule 6: the same as final-pins-first for a device that holds nothing as final: the more"
        " senior author's removal is followed",
        counter,
        settled=story.genesis,
        admins=[(BEN, 1), (CARA, 1)],
        pinned=[ANN],
    )

    story, removal, counter = _duel(ANN)
    story.acknowledge(counter, ANN, BEN, CARA)
    yield story.ends(
        "final-left-for-majority",
        "rule 0: all admins of the final operation's state, and the removed one, acknowledge the"
        " other branch: its pins count first no more, and it is left",
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
        "rule 0: half of the admins of the final operation's state acknowledge the other branch, and"
        " the removed one, who is not asked: it is kept",
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
        "rule 0: the final operation throws out nobody, so it decides nothing: the heavier branch is"
        " followed, and it is left",
        other,
        final=held,
        settled=story.genesis,
    )
    yield from finals_behind()
    yield from finals_left()
    yield from finals_and_recovery()


def _duel(author: bytes) -> tuple[Story, Said, Said]:
    """Ben is removed by `author`, and Ben removes Ann; each has enough signatures, Cara gave one to both."""
    story = Story(*THREE)
    approvers = [seed for seed in (ANN, CARA) if seed != author]
    removal = story.operation(author, removing(BEN), story.genesis, *approvers)
    return story, removal, story.operation(BEN, removing(ANN), story.genesis, CARA, below=removal)


def finals_behind() -> Iterator[Vector]:
    """Where the final operation lies behind another branch's fork, or further on."""
    story = Story(*THREE, (DAN, 1))
    removal = story.operation(CARA, removing(BEN), story.genesis, ANN, DAN)
    honest = story.operation(CARA, setting("a"), story.genesis, below=removal)
    story.operation(BEN, removing(ANN), honest, CARA, DAN)
    yield story.ends(
        "final-pins-part",
        "rule 0: of another branch that counts which stands without whom the final operation threw"
        " out: one setting, which is too little",
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
        "rule 0: it holds up to the final operation; a fork behind that is decided by the other rules",
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
    yield story.ends(
        "final-moves-on",
        "7.5: two of three acknowledge a later operation of the followed chain: that is final from now on",
        newer,
        final=first,
        settled=newer,
    )


def finals_left() -> Iterator[Vector]:
    """The path leads away from what is final, or that is not here."""
    story = Story(*THREE)
    first = story.operation(ANN, setting("a"), story.genesis)
    held = story.operation(CARA, setting("b"), first)
    other = story.operation(ANN, setting("c"), first, BEN, above=held)
    yield story.ends(
        "final-last-in-common",
        "7.4: the path leaves the final operation: the last operation that both rest on takes its place",
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
        "rule 0: the pins of the final operation do not keep it, so they count nowhere: not between"
        " the two branches that lead away either",
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
        "7.5: the final operation is not here (a disk lost records): it decides nothing, and stays"
        " final until it is back",
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
        "rule 1: all admins acknowledge the final operation, and the recovery key signs another"
        " branch: that is followed; nothing of it is final before admins acknowledge it",
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
        "rule 1: the final operation removed an admin, and the recovery key signs behind what that"
        " one wrote: the branch is followed as a whole, the void operation with it",
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
        "rule 0: the final operation rests on a replacement of the recovery key: what the former one"
        " signs does not lead away",
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
    yield story.ends(
        "settled",
        "7.5: the admins acknowledge the first, second and third operation, one each: two of three"
        " follow the second, so that is final",
        third,
        settled=second,
    )

    story = Story(*TWO)
    first = story.operation(ANN, setting("a"), story.genesis)
    story.acknowledge(first, ANN)
    yield story.ends(
        "settled-by-half", "7.5: one of two admins acknowledges: half is no majority", first, settled=story.genesis
    )

    story = Story(*THREE)
    first = story.operation(ANN, setting("a"), story.genesis)
    story.credential(ANN, NAS, "nas")
    story.acknowledge(first, ANN, NAS, RECOVERY)
    yield story.ends(
        "settled-by-admins",
        "7.5: acknowledgements by a member and by the recovery key have no weight",
        first,
        settled=story.genesis,
    )

    story = Story(*TWO)
    first = story.operation(ANN, setting("a"), story.genesis)
    added = story.operation(ANN, adding(CARA, 3), first, BEN)
    story.acknowledge(added, ANN, BEN)
    yield story.ends(
        "settled-in-its-own-state",
        "7.5: two of two acknowledge an operation that adds an admin of weight 3: two of five there,"
        " two of two at the one before, which is final",
        added,
        admins=[*TWO, (CARA, 3)],
        settled=first,
    )

    story = Story(*THREE)
    first = story.operation(ANN, setting("a"), story.genesis)
    story.acknowledge(first, ANN, BEN)
    story.acknowledge(story.genesis, BEN)
    yield story.ends(
        "settled-newest-counts",
        "7.5: an admin acknowledges an operation and later its parent: only the later word counts",
        first,
        settled=story.genesis,
    )
