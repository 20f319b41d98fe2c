"""Vectors of the choice between histories: layer `authority`. At each fork all later rules favour the loser."""

from collections.abc import Iterator

from tests.vectors.chains import (
    ANN,
    BEN,
    CARA,
    DAN,
    EVE,
    MALLORY,
    NEXT_RECOVERY,
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

THREE = ((ANN, 1), (BEN, 1), (CARA, 1))
FOUR = (*THREE, (DAN, 1))
FIVE = (*FOUR, (EVE, 1))


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
    yield story.ends("fork-recovery-beats-weight", "the recovery key against all admins", saved)

    story = Story(*THREE)
    saved = story.operation(RECOVERY, setting("a"), story.genesis)
    other = story.operation(ANN, setting("b"), story.genesis, below=saved)
    story.acknowledge(other, ANN, BEN, CARA)
    yield story.ends("fork-recovery-beats-acknowledged", "for a node that holds nothing as final yet", saved)

    story = Story(*THREE)
    first = story.operation(CARA, setting("a"), story.genesis)
    other = story.operation(ANN, setting("b"), story.genesis, BEN, below=first)
    saved = story.operation(RECOVERY, setting("c"), first)
    yield story.ends("fork-recovery-deeper", "the recovery key signed further down the branch", saved)

    story = Story(*THREE)
    changed = story.operation(CARA, recovery(NEXT_RECOVERY), story.genesis, BEN)
    story.operation(RECOVERY, setting("b"), story.genesis, ANN, BEN, CARA, below=changed)
    story.operation(RECOVERY, setting("c"), changed)
    yield story.ends(
        "fork-recovery-replaced",
        "a former recovery key has no say, neither beside its replacement nor behind it",
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
        "fork-acknowledged-beats-weight", "a majority follows the lighter one", followed, settled=followed
    )

    story = Story(*heavy)
    light = story.operation(BEN, setting("a"), story.genesis)
    behind = story.operation(CARA, setting("b"), story.genesis, ANN, above=light)
    story.acknowledge(light, BEN, CARA, DAN)
    yield story.ends(
        "fork-acknowledged-by-half", "half of the weight is no majority", behind, settled=story.genesis
    )

    story = Story(*FIVE)
    many = story.operation(DAN, setting("a"), story.genesis, CARA, BEN, ANN)
    story.operation(ANN, removing(EVE), story.genesis, BEN, CARA, below=many)
    yield story.ends("fork-weight-beats-removal", "four signed a setting, three a removal", many)

    story = Story(*FIVE)
    removal = story.operation(DAN, removing(EVE), story.genesis, CARA, BEN)
    story.operation(ANN, setting("a"), story.genesis, BEN, CARA, below=removal)
    yield story.ends(
        "fork-removal-beats-seniority",
        "three signed each; the removal is by the less senior",
        removal,
        admins=FOUR,
        pinned=[EVE],
    )


def last_rules() -> Iterator[Vector]:
    """Seniority, and what can be ground last of all."""
    story = Story(*THREE)
    senior = story.operation(BEN, setting("a"), story.genesis)
    story.operation(CARA, setting("b"), story.genesis, below=senior)
    yield story.ends("fork-seniority-beats-hash", "equal weight: the more senior author", senior)

    story = Story((CARA, 1), (BEN, 1), (ANN, 1))
    senior = story.operation(CARA, setting("a"), story.genesis)
    story.operation(BEN, setting("b"), story.genesis, below=senior)
    yield story.ends("fork-seniority-is-by-place", "by the place among the admins, not by key", senior)

    story = Story(*THREE)
    high = story.operation(BEN, setting("a"), story.genesis)
    low = story.operation(BEN, setting("b"), story.genesis, below=high)
    yield story.ends("fork-hash-last", "one admin signed both: the lower id", low)

    story = Story(*THREE)
    high = story.operation(BEN, setting("a"), story.genesis)
    low = story.operation(BEN, setting("b"), story.genesis, below=high)
    on_high = story.operation(BEN, setting("c"), high)
    story.operation(BEN, setting("d"), on_high)
    yield story.ends("fork-length-is-nothing", "a longer branch by the same admin gains nothing", low)

    story = Story(*THREE)
    seq = SEQ + 1000
    pair = [story.say(BEN, 0, "00000001", setting(name), seq=seq, prev=story.genesis.id) for name in "ab"]
    low = min(pair, key=lambda said: said.id)
    yield story.ends("fork-one-seq-twice", "equivocation by an admin: of operations both are kept", low)


def subtrees() -> Iterator[Vector]:
    """A child stands for all that rests on it."""
    story = Story((ANN, 2), (BEN, 1), (CARA, 1), (DAN, 1))
    first = story.operation(DAN, setting("a"), story.genesis)
    second = story.operation(CARA, setting("b"), first)
    third = story.operation(BEN, setting("c"), second)
    story.operation(ANN, setting("d"), story.genesis, below=first)
    yield story.ends("fork-weight-of-the-subtree", "three light ones, one behind another, against one", third)

    story = Story(*THREE)
    first = story.operation(BEN, setting("a"), story.genesis, CARA)
    inner = story.operation(BEN, setting("b"), first)
    story.operation(CARA, setting("c"), first, below=inner)
    story.operation(ANN, setting("d"), story.genesis, below=first)
    yield story.ends("fork-in-a-fork", "two choices, one behind the other", inner)

    story = Story(*THREE)
    first = story.operation(BEN, setting("a"), story.genesis)
    senior = story.operation(BEN, setting("b"), first)
    junior = story.operation(CARA, setting("c"), first, below=senior)
    story.operation(ANN, setting("d"), story.genesis, BEN, CARA, below=first)
    story.acknowledge(senior, BEN)
    story.acknowledge(junior, CARA)
    yield story.ends(
        "fork-acknowledged-together",
        "who follows either inner branch follows the outer one",
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
        "whatever a removed admin signs later is void on every branch; what the removal rests on stands",
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
        "a heavier branch, and one that a majority is said to follow, falls with its author",
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
        "honest operations behind a void one fall with it",
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
        "an admin whose key was replaced",
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
        "a heavier operation that lacks weight without a removed admin's approval",
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
        "one that stands without it has the others' weight alone",
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
        "an approval that the removal rests on goes on counting",
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
    yield story.ends("pin-not-added-again", "valid, without effect", again, admins=left, pinned=[BEN])

    story = Story(*THREE)
    removal = story.operation(ANN, removing(BEN), story.genesis, CARA)
    again = story.operation(RECOVERY, replacing(CARA, BEN), removal)
    yield story.ends("pin-no-successor", "valid, without effect", again, admins=left, pinned=[BEN])

    story = Story(*THREE)
    changed = story.operation(ANN, recovery(NEXT_RECOVERY), story.genesis, CARA)
    back = story.operation(ANN, recovery(RECOVERY), changed, CARA)
    yield story.ends(
        "pin-recovery-not-back",
        "a former recovery key does not become it again",
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
        "neither operation nor approval behind it",
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
        "neither stands without those whom the other removes: the more senior author's is followed",
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
        "the one that a majority follows",
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
        "one has the weight without the admin whom the other removes",
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
        "one sibling right behind the genesis, where the founder was alone",
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
        "a made-up history in which the others were removed, for a node that knows the true one as final",
        removal,
        final=removal,
        admins=[(BEN, 1), (CARA, 1)],
        pinned=[ANN],
        settled=removal,
    )
