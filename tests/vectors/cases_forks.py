"""Vectors of the choice between histories: layer `authority`. At each fork all later rules favour the loser."""

from collections.abc import Iterator

from tests.vectors.chains import (
    ANN,
    BEN,
    CARA,
    DAN,
    EVE,
    FIVE,
    FOUR,
    MALLORY,
    NEXT_RECOVERY,
    THREE,
    Story,
    adding,
    recovery,
    removing,
    replacing,
    setting,
    signer,
)
from tests.vectors.form import Vector
from tests.vectors.people import RECOVERY, SEQ


def all_cases() -> Iterator[Vector]:
    """Give every vector of forks and pins."""
    yield from rules_of_the_recovery_key()
    yield from rules_of_weight()
    yield from last_rules()
    yield from subtrees()
    yield from pins()
    yield from pinned_approvals()
    yield from pinned_for_ever()
    yield from mutual_removals()
    yield from founders()


def rules_of_the_recovery_key() -> Iterator[Vector]:
    """The recovery key goes before everything else, until it is replaced."""
    story = Story(*THREE)
    saved = story.operation(RECOVERY, setting("a"), story.genesis)
    story.operation(ANN, setting("b"), story.genesis, BEN, CARA, below=saved)
    yield story.ends(
        "fork-recovery-beats-weight",
        "rule 1: one branch is signed by the recovery key, the other by all three admins: the"
        " recovery key's is followed",
        saved,
    )

    story = Story(*THREE)
    saved = story.operation(RECOVERY, setting("a"), story.genesis)
    other = story.operation(ANN, setting("b"), story.genesis, below=saved)
    story.acknowledge(other, ANN, BEN, CARA)
    yield story.ends(
        "fork-recovery-beats-acknowledged",
        "rule 1: all three admins acknowledge the other branch, but this device holds nothing as"
        " final: the recovery key's is followed",
        saved,
    )

    story = Story(*THREE)
    first = story.operation(CARA, setting("a"), story.genesis)
    other = story.operation(ANN, setting("b"), story.genesis, BEN, below=first)
    saved = story.operation(RECOVERY, setting("c"), first)
    yield story.ends(
        "fork-recovery-deeper",
        "rule 1: the recovery key signed only the second operation of its branch; that is enough for"
        " the whole branch",
        saved,
    )

    story = Story(*THREE)
    changed = story.operation(CARA, recovery(NEXT_RECOVERY), story.genesis, BEN)
    story.operation(RECOVERY, setting("b"), story.genesis, ANN, BEN, CARA, below=changed)
    story.operation(RECOVERY, setting("c"), changed)
    yield story.ends(
        "fork-recovery-replaced",
        "rule 1: two of three admins replace the recovery key; what the former one signs, beside that"
        " or behind it, does not count",
        changed,
        pinned=[RECOVERY],
        recovery=NEXT_RECOVERY,
    )


def rules_of_weight() -> Iterator[Vector]:
    """What a majority follows, then how many stand behind a branch, then a removal."""
    heavy = ((ANN, 3), (BEN, 1), (CARA, 1), (DAN, 1))
    story = Story(*heavy)
    followed = story.operation(BEN, setting("a"), story.genesis)
    story.operation(ANN, setting("b"), story.genesis, BEN, CARA, below=followed)
    story.acknowledge(followed, ANN, BEN)
    yield story.ends(
        "fork-acknowledged-beats-weight",
        "rule 3: admins with four of six in weight acknowledge the branch that only one signed: it"
        " goes before the heavier one",
        followed,
        settled=followed,
    )

    story = Story(*heavy)
    light = story.operation(BEN, setting("a"), story.genesis)
    behind = story.operation(CARA, setting("b"), story.genesis, ANN, above=light)
    story.acknowledge(light, BEN, CARA, DAN)
    yield story.ends(
        "fork-acknowledged-by-half",
        "rule 3: admins with three of six in weight acknowledge a branch: half is no majority, and"
        " the heavier one is followed",
        behind,
        settled=story.genesis,
    )

    story = Story(*FIVE)
    many = story.operation(DAN, setting("a"), story.genesis, CARA, BEN, ANN)
    story.operation(ANN, removing(EVE), story.genesis, BEN, CARA, below=many)
    yield story.ends(
        "fork-weight-beats-removal",
        "rule 4: four admins signed a setting, three a removal: the greater weight is followed",
        many,
    )

    story = Story(*FIVE)
    removal = story.operation(DAN, removing(EVE), story.genesis, CARA, BEN)
    story.operation(ANN, setting("a"), story.genesis, BEN, CARA, below=removal)
    yield story.ends(
        "fork-removal-beats-seniority",
        "rule 5: three admins signed each branch; the removal is followed, though its author is less senior",
        removal,
        admins=FOUR,
        pinned=[EVE],
    )


def last_rules() -> Iterator[Vector]:
    """Seniority, and what can be ground last of all."""
    story = Story(*THREE)
    senior = story.operation(BEN, setting("a"), story.genesis)
    story.operation(CARA, setting("b"), story.genesis, below=senior)
    yield story.ends(
        "fork-seniority-beats-hash",
        "rule 6: equal weight and no removal: the branch of the more senior author, though its id is higher",
        senior,
    )

    story = Story((CARA, 1), (BEN, 1), (ANN, 1))
    senior = story.operation(CARA, setting("a"), story.genesis)
    story.operation(BEN, setting("b"), story.genesis, below=senior)
    yield story.ends(
        "fork-seniority-is-by-place",
        "rule 6: seniority is the place among the admins, not the order of their keys",
        senior,
    )

    story = Story(*THREE)
    high = story.operation(BEN, setting("a"), story.genesis)
    low = story.operation(BEN, setting("b"), story.genesis, below=high)
    yield story.ends("fork-hash-last", "rule 7: one admin began both branches: the lower id", low)

    story = Story(*THREE)
    high = story.operation(BEN, setting("a"), story.genesis)
    low = story.operation(BEN, setting("b"), story.genesis, below=high)
    on_high = story.operation(BEN, setting("c"), high)
    story.operation(BEN, setting("d"), on_high)
    yield story.ends(
        "fork-length-is-nothing",
        "rule 7: three operations by one admin against one by the same: length decides nothing, the lower id does",
        low,
    )

    story = Story(*THREE)
    seq = SEQ + 1000
    pair = [story.say(BEN, 0, "00000001", setting(name), seq=seq, prev=story.genesis.id) for name in "ab"]
    low = min(pair, key=lambda said: said.id)
    yield story.ends(
        "fork-one-seq-twice",
        "rule 7: an admin signs two operations with one seq and one number: both are kept, and the"
        " lower id is followed",
        low,
    )


def subtrees() -> Iterator[Vector]:
    """A child stands for all that rests on it."""
    story = Story((ANN, 2), (BEN, 1), (CARA, 1), (DAN, 1))
    first = story.operation(DAN, setting("a"), story.genesis)
    second = story.operation(CARA, setting("b"), first)
    third = story.operation(BEN, setting("c"), second)
    story.operation(ANN, setting("d"), story.genesis, below=first)
    yield story.ends(
        "fork-weight-of-the-subtree",
        "rule 4: three light admins, one behind another, weigh three together; one heavy admin on the"
        " other branch weighs two",
        third,
    )

    story = Story(*THREE)
    first = story.operation(BEN, setting("a"), story.genesis, CARA)
    inner = story.operation(BEN, setting("b"), first)
    story.operation(CARA, setting("c"), first, below=inner)
    story.operation(ANN, setting("d"), story.genesis, below=first)
    yield story.ends(
        "fork-in-a-fork",
        "rule 4, then rule 6: a fork behind the branch that was chosen at a first fork is decided for itself",
        inner,
    )

    story = Story(*THREE)
    first = story.operation(BEN, setting("a"), story.genesis)
    senior = story.operation(BEN, setting("b"), first)
    junior = story.operation(CARA, setting("c"), first, below=senior)
    story.operation(ANN, setting("d"), story.genesis, BEN, CARA, below=first)
    story.acknowledge(senior, BEN)
    story.acknowledge(junior, CARA)
    yield story.ends(
        "fork-acknowledged-together",
        "rule 3: two admins acknowledge different children of one operation: both follow that"
        " operation, which so has the majority",
        senior,
        settled=first,
    )


def pins() -> Iterator[Vector]:
    """Of what a removed admin signed only what the removal rests on stands."""
    story = Story(*THREE)
    honest = story.operation(BEN, setting("a"), story.genesis)
    removal = story.operation(ANN, removing(BEN), honest, CARA)
    dated = story.operation(BEN, setting("b"), story.genesis, below=honest)
    story.operation(BEN, setting("c"), dated)
    story.operation(BEN, setting("d"), honest, below=removal)
    yield story.ends(
        "pin-back-dated",
        "rule 2: an admin is removed and goes on signing beside the removal, and behind what that"
        " rests on: all of it is void; what the removal rests on stands",
        removal,
        admins=[(ANN, 1), (CARA, 1)],
        pinned=[BEN],
        settings={"a": "on"},
    )

    story = Story((BEN, 5), (ANN, 3), (CARA, 3))
    removal = story.operation(CARA, removing(BEN), story.genesis, ANN)
    dated = story.operation(BEN, setting("a"), story.genesis, ANN, CARA, below=removal)
    story.acknowledge(dated, BEN, ANN)
    yield story.ends(
        "pin-beats-weight",
        "rule 2: the branch of a removed admin is heavier, and admins with the majority acknowledge"
        " it: it falls all the same",
        removal,
        admins=[(ANN, 3), (CARA, 3)],
        pinned=[BEN],
    )

    story = Story(*THREE)
    removal = story.operation(CARA, removing(BEN), story.genesis, ANN)
    dated = story.operation(BEN, setting("a"), story.genesis, below=removal)
    story.operation(ANN, setting("b"), dated, CARA)
    yield story.ends(
        "pin-with-what-rests-on-it",
        "rule 2: honest admins built on an operation of a removed one: what they built falls with it",
        removal,
        admins=[(ANN, 1), (CARA, 1)],
        pinned=[BEN],
        settings={},
    )

    story = Story(*THREE)
    replaced = story.operation(CARA, replacing(BEN, EVE), story.genesis, ANN)
    story.operation(BEN, setting("a"), story.genesis, ANN, below=replaced)
    yield story.ends(
        "pin-by-replacement",
        "rule 2: replacing an admin's key pins the former key as a removal does",
        replaced,
        admins=[(ANN, 1), (EVE, 1), (CARA, 1)],
        pinned=[BEN],
    )


def pinned_approvals() -> Iterator[Vector]:
    """Approvals of a removed admin count only under what the removal rests on."""
    story = Story((BEN, 2), (ANN, 1), (CARA, 1), (DAN, 1))
    removal = story.operation(DAN, removing(BEN), story.genesis, ANN, CARA)
    story.operation(ANN, signer(), story.genesis, BEN, CARA, below=removal)
    yield story.ends(
        "pin-approval",
        "rule 2: an operation has the weight only with a removed admin's approval: without that it does not stand",
        removal,
        admins=[(ANN, 1), (CARA, 1), (DAN, 1)],
        pinned=[BEN],
        signers=1,
    )

    story = Story((BEN, 2), (ANN, 1), (CARA, 1), (DAN, 1))
    removal = story.operation(DAN, removing(BEN), story.genesis, ANN, CARA)
    story.operation(ANN, setting("a"), story.genesis, BEN, CARA, below=removal)
    yield story.ends(
        "pin-approval-weight",
        "rule 2: an operation stands without a removed admin's approval, but that one's weight does"
        " not count for its branch",
        removal,
        admins=[(ANN, 1), (CARA, 1), (DAN, 1)],
        pinned=[BEN],
        settings={},
    )

    story = Story(*THREE)
    added = story.operation(ANN, signer(), story.genesis, BEN)
    removal = story.operation(ANN, removing(BEN), added, CARA)
    yield story.ends(
        "pin-leaves-counted-approvals",
        "7.4: the removal rests on an operation that the removed admin approved: that approval goes on counting",
        removal,
        admins=[(ANN, 1), (CARA, 1)],
        pinned=[BEN],
        signers=2,
    )


def pinned_for_ever() -> Iterator[Vector]:
    """A pinned key does not come back."""
    left = [(ANN, 1), (CARA, 1)]
    story = Story(*THREE)
    removal = story.operation(ANN, removing(BEN), story.genesis, CARA)
    again = story.operation(ANN, adding(BEN), removal, CARA)
    yield story.ends(
        "pin-not-added-again",
        "7.1: adding a removed admin again is valid and has no effect",
        again,
        admins=left,
        pinned=[BEN],
    )

    story = Story(*THREE)
    removal = story.operation(ANN, removing(BEN), story.genesis, CARA)
    again = story.operation(RECOVERY, replacing(CARA, BEN), removal)
    yield story.ends(
        "pin-no-successor",
        "7.1: a removed admin's key cannot take another admin's place, even if the recovery key says"
        " so: valid, without effect",
        again,
        admins=left,
        pinned=[BEN],
    )

    story = Story(*THREE)
    changed = story.operation(ANN, recovery(NEXT_RECOVERY), story.genesis, CARA)
    back = story.operation(ANN, recovery(RECOVERY), changed, CARA)
    yield story.ends(
        "pin-recovery-not-back",
        "7.1: a former recovery key does not become it again: valid, without effect",
        back,
        pinned=[RECOVERY],
        recovery=NEXT_RECOVERY,
    )

    story = Story(*THREE)
    removal = story.operation(ANN, removing(BEN), story.genesis, CARA)
    story.operation(BEN, setting("a"), removal)
    proposal = story.operation(ANN, signer(), removal, BEN)
    yield story.ends(
        "pin-behind-the-removal",
        "7.2: behind its removal an admin's operation is not valid, and its approval has no weight:"
        " the proposal goes on waiting",
        removal,
        admins=left,
        pinned=[BEN],
        pending=[proposal],
        settings={},
    )


def mutual_removals() -> Iterator[Vector]:
    """Two admins who remove each other, on two branches."""
    story = Story(*THREE)
    senior = story.operation(ANN, removing(BEN), story.genesis, CARA)
    story.operation(BEN, removing(ANN), story.genesis, CARA, below=senior)
    yield story.ends(
        "mutual-removal",
        "rule 2, then rule 6: two admins remove each other, and neither removal has the weight"
        " without the other's author: both stay, and the more senior author's is followed",
        senior,
        admins=[(ANN, 1), (CARA, 1)],
        pinned=[BEN],
    )

    story = Story(*THREE)
    junior = story.operation(BEN, removing(ANN), story.genesis, CARA)
    story.operation(ANN, removing(BEN), story.genesis, CARA, below=junior)
    story.acknowledge(junior, BEN, CARA)
    yield story.ends(
        "mutual-removal-acknowledged",
        "rule 2, then rule 3: two admins remove each other, neither stands alone: the one that a"
        " majority acknowledges is followed",
        junior,
        admins=[(BEN, 1), (CARA, 1)],
        pinned=[ANN],
        settled=junior,
    )

    story = Story(*FIVE)
    stands = story.operation(EVE, removing(BEN), story.genesis, ANN, CARA, DAN)
    falls = story.operation(BEN, removing(ANN), story.genesis, CARA, DAN, below=stands)
    story.acknowledge(falls, BEN, CARA, DAN)
    yield story.ends(
        "mutual-removal-one-stands",
        "rule 2: two admins remove each other; one removal has the weight without the admin whom the"
        " other removes, so the other is void",
        stands,
        admins=[(ANN, 1), (CARA, 1), (DAN, 1), (EVE, 1)],
        pinned=[BEN],
    )


def founders() -> Iterator[Vector]:
    """A founder who was evicted, and still has the key that once decided alone."""
    story = Story((ANN, 1))
    two = story.operation(ANN, adding(BEN), story.genesis)
    three = story.operation(ANN, adding(CARA), two, BEN)
    removal = story.operation(BEN, removing(ANN), three, CARA)
    again = story.operation(ANN, adding(MALLORY), story.genesis, below=two)
    story.operation(ANN, setting("a"), again, MALLORY)
    yield story.ends(
        "founder-rebuilds",
        "rule 2: an evicted founder tells another history from the genesis on, where it was alone:"
        " void, since the true one removes it",
        removal,
        admins=[(BEN, 1), (CARA, 1)],
        pinned=[ANN],
    )

    story = Story((ANN, 1))
    two = story.operation(ANN, adding(BEN), story.genesis)
    three = story.operation(ANN, adding(CARA), two, BEN)
    removal = story.operation(BEN, removing(ANN), three, CARA)
    heavy = story.operation(ANN, adding(ANN, 1000), story.genesis, below=two)
    with_ben = story.operation(ANN, adding(BEN), heavy)
    story.operation(ANN, removing(BEN), with_ben)
    yield story.ends(
        "founder-rebuilds-removals",
        "rule 0: an evicted founder tells a history in which it removes the others; this device holds"
        " its removal as final, and stays",
        removal,
        final=removal,
        admins=[(BEN, 1), (CARA, 1)],
        pinned=[ANN],
        settled=removal,
    )
