"""Vectors of admins and recovery keys that end each other, and of what is left as final: layer `authority`."""

from collections.abc import Iterator

from tests.vectors.chains import (
    ANN,
    BEN,
    CARA,
    DAN,
    EVE,
    FIVE,
    FOUR,
    NEXT_RECOVERY,
    THREE,
    Said,
    Story,
    recovery,
    removing,
    replacing,
    setting,
    signer,
)
from tests.vectors.form import Vector
from tests.vectors.people import RECOVERY

OWNERS = [(BEN, 1), (CARA, 1)]  # who is left where the recovery key threw Ann out


def all_cases() -> Iterator[Vector]:
    """Give every vector of this module."""
    yield from who_ends_the_recovery_key()
    yield from a_recovery_key_that_throws_out_nobody()
    yield from what_cannot_be_told()
    yield from a_final_operation_that_is_left()
    yield from a_recovery_key_that_was_used_twice()


def who_ends_the_recovery_key() -> Iterator[Vector]:
    """Rule 1: whom the recovery key throws out cannot replace it; others can."""
    story = Story(*FOUR)
    replaced = story.operation(BEN, recovery(NEXT_RECOVERY), story.genesis, CARA, DAN)
    story.operation(RECOVERY, removing(ANN), story.genesis, below=replaced)
    yield story.ends(
        "recovery-ended-by-others",
        "rule 1: the recovery key threw out an admin, and three others replaced it meanwhile: that"
        " stands without the"
        " one thrown out, so the former key has no say",
        replaced,
        pinned=[RECOVERY],
        recovery=NEXT_RECOVERY,
    )

    story = Story(*FOUR)
    replaced = story.operation(BEN, recovery(NEXT_RECOVERY), story.genesis, ANN, CARA)
    saved = story.operation(RECOVERY, removing(ANN), story.genesis, above=replaced)
    yield story.ends(
        "recovery-ended-with-an-approval",
        "rule 1: three signed the replacement, and it needs the approval of the one whom the"
        " recovery key threw out",
        saved,
        admins=[*OWNERS, (DAN, 1)],
        pinned=[ANN],
        recovery=RECOVERY,
    )

    story = Story(*THREE)
    replaced = story.operation(ANN, recovery(NEXT_RECOVERY), story.genesis, BEN)
    first = story.operation(RECOVERY, setting("a"), story.genesis, above=replaced)
    behind = story.operation(CARA, setting("b"), first)
    saved = story.operation(RECOVERY, replacing(ANN, EVE), behind)
    yield story.ends(
        "recovery-throws-out-later",
        "rule 1: it throws out one of those who replaced it only further on: that counts as well",
        saved,
        admins=[(EVE, 1), *OWNERS],
        pinned=[ANN],
        recovery=RECOVERY,
        settings={"a": "on", "b": "on"},
    )


def a_recovery_key_that_throws_out_nobody() -> Iterator[Vector]:
    """Rule 1: then all who replaced it count."""
    story = Story((BEN, 1), (ANN, 1), (CARA, 1))
    replaced = story.operation(BEN, recovery(NEXT_RECOVERY), story.genesis, CARA)
    last = story.operation(BEN, removing(ANN), replaced, CARA)
    thrown = story.operation(ANN, replacing(CARA, EVE), story.genesis, CARA, below=replaced)
    story.operation(RECOVERY, setting("a"), thrown)
    yield story.ends(
        "recovery-throws-out-nobody",
        "rule 1: on its branch admins put out one of those who replaced it, the recovery key itself"
        " nobody: so it is"
        " ended; rule 2 leaves both, and two signed each; both remove; the more senior author's",
        last,
        admins=[(BEN, 1), (CARA, 1)],
        pinned=[RECOVERY, ANN],
        recovery=NEXT_RECOVERY,
    )

    story = Story(*THREE)
    renewed = story.operation(RECOVERY, recovery(NEXT_RECOVERY), story.genesis)
    first = story.operation(RECOVERY, setting("a"), story.genesis, above=renewed)
    story.operation(ANN, recovery(EVE), first, BEN)
    third = story.operation(CARA, setting("b"), story.genesis, ANN, BEN, above=first)
    yield story.ends(
        "recovery-renewed-and-ended",
        "rule 1: replacing itself, the recovery key throws out nobody: that admins ended it behind"
        " its own operation"
        " counts, and a heavier third branch is not out",
        third,
        settings={"b": "on"},
    )


def _contest() -> tuple[Story, Said, Said]:
    """Ann and Ben replace the recovery key while that throws Ann out: one of the two keys was stolen. Which?"""
    story = Story(*THREE)
    replaced = story.operation(ANN, recovery(NEXT_RECOVERY), story.genesis, BEN)
    saved = story.operation(RECOVERY, removing(ANN), story.genesis, above=replaced)
    story.acknowledge(saved, CARA)
    story.acknowledge(replaced, ANN, BEN)
    return story, replaced, saved


def what_cannot_be_told() -> Iterator[Vector]:
    """The same records, for devices that hold nothing, the one, or the other as final (7.11)."""
    story, replaced, saved = _contest()
    yield story.ends(
        "contested-nothing-final",
        "rule 1: a device that has settled neither follows the recovery key",
        saved,
        settled=story.genesis,
        admins=OWNERS,
        pinned=[ANN],
        recovery=RECOVERY,
    )

    story, replaced, saved = _contest()
    yield story.ends(
        "contested-removal-final",
        "rule 0: the same records, for a device on which the removal is final: it stays there",
        saved,
        final=saved,
        settled=saved,
        admins=OWNERS,
        pinned=[ANN],
        recovery=RECOVERY,
    )

    story, replaced, saved = _contest()
    yield story.ends(
        "contested-replacement-final",
        "rule 0: the same records, for a device on which the replacement is final: what a former"
        " recovery key signs"
        " counts no more, so it stays there; the two devices are split until people decide",
        replaced,
        final=replaced,
        settled=replaced,
        pinned=[RECOVERY],
        recovery=NEXT_RECOVERY,
    )


def _left_twice() -> tuple[Story, Said, Said, Said]:
    """A first fork that only a pin by the final operation decides, and a second one at which that is left."""
    story = Story(*FIVE)
    first = story.operation(ANN, setting("a"), story.genesis)
    held = story.operation(ANN, removing(EVE), first, BEN, CARA)
    heavier = story.operation(ANN, setting("b"), first, BEN, CARA, DAN)
    counter = story.operation(EVE, removing(CARA), story.genesis, BEN, DAN)
    story.acknowledge(counter, BEN, DAN, EVE)
    return story, held, heavier, counter


def a_final_operation_that_is_left() -> Iterator[Vector]:
    """Rule 0 and 7.5: what is left pins nothing any more, at no fork."""
    story, _, _, counter = _left_twice()
    yield story.ends(
        "final-left-behind",
        "the path leaves the final operation at the second fork; so its pin, which alone had decided"
        " the first one,"
        " counts no more, and the path is chosen again from the genesis on",
        counter,
        final=_left_twice()[1],
        settled=counter,
        admins=[(ANN, 1), (BEN, 1), (DAN, 1), (EVE, 1)],
        pinned=[CARA],
        settings={},
    )

    story, held, _, _ = _left_twice()
    behind = story.operation(BEN, signer(), held, CARA, DAN)
    yield story.ends(
        "final-held-behind",
        "the same with one more operation behind the final one, which makes that as heavy, with a"
        " removal: it is not"
        " left, and its pin goes on deciding the first fork",
        behind,
        final=held,
        settled=held,
        admins=FOUR,
        pinned=[EVE],
        settings={"a": "on"},
    )


def _used_twice() -> tuple[Story, Said, Said]:
    """Two people type in the recovery key, and each throws out the other; both sides go on."""
    story = Story((ANN, 2), (BEN, 2), (CARA, 1))
    first = story.operation(RECOVERY, removing(ANN), story.genesis)
    behind = story.operation(CARA, setting("a"), first)
    second = story.operation(RECOVERY, removing(BEN), story.genesis, below=first)
    alone = story.operation(ANN, removing(CARA), second)
    story.acknowledge(behind, BEN)
    story.acknowledge(alone, ANN)
    return story, behind, alone


def a_recovery_key_that_was_used_twice() -> Iterator[Vector]:
    """Rule 0: what is final is left for the recovery key, unless the admins have replaced it."""
    story, behind, alone = _used_twice()
    yield story.ends(
        "recovery-used-twice",
        "rule 0: the recovery key threw out Ann on one side and Ben on the other, and each settled"
        " theirs; it signed both, so what Ann has settled since does not keep her device on her side",
        behind,
        final=alone,
        settled=behind,
        admins=[(BEN, 2), (CARA, 1)],
        pinned=[ANN],
        settings={"a": "on"},
    )

    story = Story((ANN, 1), (BEN, 1), (CARA, 1))
    replaced = story.operation(ANN, recovery(None), story.genesis, BEN)
    story.operation(RECOVERY, setting("old"), story.genesis, below=replaced)
    yield story.ends(
        "recovery-used-after-its-end",
        "rule 0: the admins did away with the recovery key, which is final here; what it signed beside"
        " that is void, whenever it comes to light",
        replaced,
        final=replaced,
        pinned=[RECOVERY],
        recovery=None,
    )
