"""Vectors of what ends when an admin is one no more, and of what it is then: layer `authority`."""

from collections.abc import Iterator
from typing import Any

from tests.vectors.cases_roster import clan, unnamed
from tests.vectors.chains import ANN, BEN, CARA, DAN, NAS, PHONE, TABLET, THREE, Story, removing
from tests.vectors.form import Vector

ALL = {"ann": ANN, "ben": BEN, "cara": CARA}


def all_cases() -> Iterator[Vector]:
    """Give every vector of this module."""
    yield from former_admins()
    yield from revocations()
    yield from vouching()


def without_ben(story: Story, name: str, comment: str, **what: Any) -> Vector:
    """What a story comes to that ends with Ben being removed by the two others."""
    removal = story.operation(ANN, removing(BEN), story.genesis, CARA)
    return story.ends(name, comment, removal, admins=[(ANN, 1), (CARA, 1)], pinned=[BEN], **what)


def former_admins() -> Iterator[Vector]:
    """What a removed admin is."""
    story = clan(*THREE)
    story.revocation(ANN, BEN)
    yield without_ben(
        story,
        "admin-removed-and-revoked",
        "the revocation that was void counts as soon as its subject is no admin",
        members={"ann": ANN, "cara": CARA},
        revoked=[BEN],
    )

    story = clan(*THREE)
    yield without_ben(
        story,
        "admin-removed-stays-member",
        "no admin, but a member by another's credential",
        members=ALL,
        revoked=[],
    )


def revocations() -> Iterator[Vector]:
    """What a removed admin revoked."""
    story = clan(*THREE)
    story.credential(ANN, NAS, "nas")
    story.revocation(BEN, NAS)
    yield without_ben(
        story,
        "lapse-revocation",
        "a revocation by a removed admin",
        members={**ALL, "nas": NAS},
        revoked=[],
    )

    story = clan(*THREE)
    story.credential(ANN, NAS, "nas")
    story.revocation(BEN, NAS)
    story.revocation(CARA, NAS)
    yield without_ben(story, "lapse-revocation-repeated", "another admin said it too", members=ALL, revoked=[NAS])


def vouching() -> Iterator[Vector]:
    """Whom a removed admin let in, and what it called them."""
    story = clan(*THREE)
    story.credential(BEN, NAS, "nas")
    story.credential(BEN, PHONE, "phone")
    story.credential(CARA, PHONE, "mobile")
    yield without_ben(
        story,
        "lapse-credential",
        "who has no other admin's word is no member",
        members={**ALL, "mobile": PHONE},
        revoked=[],
    )

    story = clan(*THREE)
    invite = story.invite(BEN)
    story.redemption(ANN, invite, PHONE, "phone")
    yield without_ben(story, "lapse-invite", "nobody comes by it any more", members=ALL)

    story = clan(*THREE)
    old = story.credential(CARA, NAS, "nas")
    story.credential(BEN, NAS, "attic", replaces=[old])
    story.credential(BEN, TABLET, "tablet", succeeds=PHONE)
    story.credential(CARA, PHONE, "phone")
    yield without_ben(
        story,
        "lapse-replacement",
        "what it replaced or succeeded stands again",
        members={**ALL, "nas": NAS, "phone": PHONE},
        revoked=[],
    )

    story = Story(*THREE)
    for name, seed in ALL.items():
        story.credential(ANN, seed, name)
    story.credential(CARA, DAN, "dan")
    removal = story.operation(BEN, removing(ANN), story.genesis, CARA)
    yield story.ends(
        "lapse-names",
        "an admin whose name a removed one gave is called by its key",
        removal,
        admins=[(BEN, 1), (CARA, 1)],
        pinned=[ANN],
        members={unnamed(BEN): BEN, unnamed(CARA): CARA, "dan": DAN},
        revoked=[],
    )
