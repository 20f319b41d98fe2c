"""Vectors of tags, of names that change, of the end of credentials, and more of invites: layer `authority`."""

from collections.abc import Iterator

from clanmesh_protocol.keys import fingerprint_slot
from tests.vectors.cases_roster import PEOPLE, clan, unnamed
from tests.vectors.chains import (
    ANN,
    BEN,
    MALLORY,
    NAS,
    OTHER_TOKEN,
    PHONE,
    TABLET,
    TOKEN,
    TWO,
    Story,
    adding,
    key,
    removing,
)
from tests.vectors.form import Vector
from tests.vectors.people import SEQ, UNIX_S

ENDS = UNIX_S + 86_400
GRACE_S = 300


def all_cases() -> Iterator[Vector]:
    """Give every vector of this module."""
    yield from tags()
    yield from names()
    yield from ends()
    yield from uses()
    yield from inviters()
    yield from stolen_tokens()
    yield from successions()


def tags() -> Iterator[Vector]:
    """Tags open secrets: only admins give them."""
    story = clan(*TWO)
    story.redemption(ANN, story.invite(ANN, tags=["home"]), PHONE, "phone")
    yield story.ends(
        "tags-by-invite",
        "the invite's: the device has no say",
        story.genesis,
        members={**PEOPLE, "phone": PHONE},
        tags={PHONE: ["home"]},
    )

    story = clan(*TWO)
    story.credential(ANN, NAS, "nas", tags=["home"])
    story.credential(NAS, NAS, "nas", tags=["backup", "home", "servers"])
    yield story.ends("tags-by-oneself", "a member gives itself none", story.genesis, tags={NAS: ["home"]})

    story = clan(*TWO)
    story.credential(ANN, NAS, "nas", tags=["home"])
    story.credential(ANN, PHONE, "phone", tags=["backup"])
    story.credential(PHONE, NAS, "nas", tags=["backup"])
    yield story.ends("tags-by-a-member", "nor to another", story.genesis, tags={NAS: ["home"], PHONE: ["backup"]})

    story = clan(*TWO)
    old = story.credential(ANN, NAS, "nas", tags=["home", "servers"])
    story.credential(BEN, NAS, "nas", tags=["home"], replaces=[old])
    yield story.ends("tags-taken", "an admin takes one that another gave", story.genesis, tags={NAS: ["home"]})

    story = clan(*TWO)
    story.credential(BEN, NAS, "nas", tags=["home", "servers"])
    story.credential(ANN, NAS, "nas", tags=["home"])
    yield story.ends(
        "tags-are-not-joined",
        "one credential stands, the more senior issuer's",
        story.genesis,
        tags={NAS: ["home"]},
    )

    story = clan(*TWO)
    used = story.redemption(ANN, story.invite(ANN, tags=["home"]), PHONE, "phone")
    story.credential(MALLORY, PHONE, "phone", tags=["servers"], redemption=used)
    yield story.ends("tags-by-a-stranger", "no admin's confirmation", story.genesis, tags={PHONE: ["home"]})


def names() -> Iterator[Vector]:
    """A name is an admin's word and no key."""
    story = clan(*TWO)
    story.credential(ANN, NAS, "nas")
    story.credential(ANN, NAS, "attic")
    yield story.ends(
        "name-changed",
        "a later credential by the same issuer; node id and address stay",
        story.genesis,
        members={**PEOPLE, "attic": NAS},
    )

    story = clan(*TWO)
    story.credential(ANN, NAS, "nas")
    story.credential(ANN, NAS, "attic")
    story.credential(BEN, PHONE, "nas")
    yield story.ends(
        "name-free-again",
        "a name that was given up",
        story.genesis,
        members={**PEOPLE, "attic": NAS, "nas": PHONE},
    )

    story = clan(*TWO)
    invite = story.invite(ANN, uses=2)
    story.redemption(ANN, invite, PHONE, "phone")
    story.redemption(BEN, invite, TABLET, "phone")
    yield story.ends(
        "name-chosen-twice",
        "of two redemptions the one with the lower seq",
        story.genesis,
        members={**PEOPLE, "phone": PHONE, "phone-2": TABLET},
    )

    story = clan(*TWO)
    story.redemption(BEN, story.invite(ANN), PHONE, "ann")
    yield story.ends(
        "name-squatting",
        "a device that calls itself like an admin",
        story.genesis,
        members={**PEOPLE, "ann-2": PHONE},
    )

    story = Story(*TWO)
    story.redemption(BEN, story.invite(ANN), PHONE, unnamed(ANN))
    yield story.ends(
        "name-squatting-unnamed",
        "nor like one that has no name yet",
        story.genesis,
        members={unnamed(ANN): ANN, unnamed(BEN): BEN, f"{unnamed(ANN)}-2": PHONE},
    )

    story = clan(*TWO)
    story.credential(ANN, NAS, "nas")
    story.credential(ANN, PHONE, "nas", seq=SEQ + 9000)
    story.revocation(BEN, NAS)
    yield story.ends(
        "name-of-a-revoked", "free as soon as its holder is out", story.genesis, members={**PEOPLE, "nas": PHONE}
    )


def ends() -> Iterator[Vector]:
    """A credential that ends, and the grace that clocks need."""
    for name, late, comment in (
        ("expiry-in-time", 0, "the last second that it names"),
        ("expiry-grace", GRACE_S, "300 seconds more: clocks differ"),
        ("expiry-over", GRACE_S + 1, "a second more"),
    ):
        story = clan(*TWO)
        story.credential(ANN, NAS, "nas", expires=ENDS)
        current = [ANN, BEN, NAS] if late <= GRACE_S else [ANN, BEN]
        yield story.ends(
            name,
            comment,
            story.genesis,
            members={**PEOPLE, "nas": NAS},
            now=ENDS + late,
            current=current,
        )

    story = clan(*TWO)
    story.credential(ANN, NAS, "nas", expires=ENDS)
    story.credential(ANN, NAS, "nas", expires=ENDS + 86_400)
    yield story.ends(
        "expiry-renewed", "the newer one", story.genesis, now=ENDS + GRACE_S + 1, current=[ANN, BEN, NAS]
    )

    story = clan(*TWO)
    story.credential(ANN, NAS, "nas", expires=ENDS)
    story.credential(BEN, NAS, "nas", expires=0)
    yield story.ends(
        "expiry-other-credential",
        "one that has expired still goes before a junior admin's that has not",
        story.genesis,
        now=ENDS + GRACE_S + 1,
        current=[ANN, BEN],
    )

    story = Story(*TWO)
    story.credential(ANN, BEN, "ben", expires=ENDS)
    yield story.ends(
        "expiry-of-an-admin",
        "an admin's, too: it is cut off, and still an admin",
        story.genesis,
        members={unnamed(ANN): ANN, "ben": BEN},
        now=ENDS + GRACE_S + 1,
        current=[ANN],
    )


def uses() -> Iterator[Vector]:
    """Uses of an invite are counted."""
    story = clan(*TWO)
    invite = story.invite(ANN, uses=2)
    for seed, name in ((PHONE, "phone"), (TABLET, "tablet"), (NAS, "nas")):
        story.redemption(BEN, invite, seed, name)
    yield story.ends(
        "over-use-of-two",
        "7.8: three devices come by an invite for two: all three wait",
        story.genesis,
        members=PEOPLE,
        suspended=[NAS, PHONE, TABLET],
    )

    story = clan(*TWO)
    contested, other = story.invite(ANN), story.invite(ANN, OTHER_TOKEN)
    story.redemption(BEN, contested, PHONE, "phone")
    story.redemption(BEN, contested, MALLORY, "phone")
    story.redemption(PHONE, other, TABLET, "tablet", token=OTHER_TOKEN)
    yield story.ends(
        "over-use-goes-on",
        "7.8: a suspended device admits nobody, by an invite that is in order either",
        story.genesis,
        members=PEOPLE,
        suspended=[MALLORY, PHONE],
    )

    story = clan(*TWO)
    invite = story.invite(ANN, uses=2)
    used = story.redemption(BEN, invite, PHONE, "phone")
    story.credential(ANN, PHONE, "phone", redemption=used)
    story.redemption(PHONE, invite, TABLET, "tablet")
    yield story.ends(
        "use-left",
        "7.8: an invite for two has one confirmed use: the other device is in",
        story.genesis,
        members={**PEOPLE, "phone": PHONE, "tablet": TABLET},
        suspended=[],
    )


def inviters() -> Iterator[Vector]:
    """What the author of an invite says of it later, and is."""
    story = clan(*TWO)
    invite = story.invite(ANN)
    story.redemption(BEN, invite, PHONE, "phone")
    story.say(ANN, 10, fingerprint_slot(key(TOKEN)), b"")
    yield story.ends(
        "withdrawn-by-its-author",
        "7.8: a tombstone in the invite's register withdraws it: whom nobody confirmed is no member",
        story.genesis,
        members=PEOPLE,
        suspended=[],
    )

    story = clan(*TWO)
    first = story.invite(ANN)
    story.redemption(BEN, first, PHONE, "phone")
    again = story.invite(ANN, uses=2)
    story.redemption(BEN, again, TABLET, "tablet")
    yield story.ends(
        "invite-said-again",
        "7.8: an admin writes the invite again, with another id: redemptions of the former record"
        " fall, unless they were confirmed",
        story.genesis,
        members={**PEOPLE, "tablet": TABLET},
    )

    story = Story((ANN, 1))
    invite = story.invite(BEN)
    story.redemption(ANN, invite, PHONE, "phone")
    added = story.operation(ANN, adding(BEN), story.genesis)
    yield story.ends(
        "invite-before-its-author-was-admin",
        "7.6: an invite by one who became an admin only later stands: what counts is who is an admin at the head",
        added,
        admins=TWO,
        members={unnamed(ANN): ANN, unnamed(BEN): BEN, "phone": PHONE},
    )


def stolen_tokens() -> Iterator[Vector]:
    """Who photographed a token."""
    story = clan(*TWO)
    invite = story.invite(ANN)
    used = story.redemption(ANN, invite, PHONE, "phone")
    story.credential(ANN, PHONE, "phone", redemption=used)
    story.redemption(BEN, invite, MALLORY, "phone")
    yield story.ends(
        "token-stolen-late",
        "7.8: the token's owner was confirmed before a thief came by it: the thief waits, and cannot"
        " push the owner out",
        story.genesis,
        members={**PEOPLE, "phone": PHONE},
        suspended=[MALLORY],
    )

    story = clan(*TWO)
    invite = story.invite(ANN)
    story.redemption(ANN, invite, PHONE, "phone")
    story.redemption(BEN, invite, MALLORY, "phone")
    story.revocation(ANN, MALLORY)
    story.revocation(ANN, TOKEN)
    yield story.ends(
        "token-stolen-withdrawn",
        "7.8: the invite is withdrawn before anybody was confirmed: neither thief nor owner is in",
        story.genesis,
        members=PEOPLE,
        revoked=[MALLORY, TOKEN],
        suspended=[],
    )

    story = clan(*TWO)
    invite = story.invite(ANN, uses=3)
    story.redemption(ANN, invite, MALLORY, "guest")
    story.redemption(MALLORY, invite, PHONE, "phone")
    story.revocation(BEN, MALLORY)
    yield story.ends(
        "token-stolen-chain",
        "7.8: a thief came by the token, let another in, and is revoked: the other goes with it",
        story.genesis,
        members=PEOPLE,
        revoked=[MALLORY],
        suspended=[],
    )


def successions() -> Iterator[Vector]:
    """A new key for an old device, where something is odd."""
    story = clan(*TWO)
    story.credential(ANN, NAS, "nas", tags=["home"])
    story.credential(ANN, TABLET, "nas", tags=["home"], succeeds=NAS)
    story.credential(BEN, NAS, "nas")
    yield story.ends(
        "succession-for-ever",
        "no other credential brings the former key back",
        story.genesis,
        members={**PEOPLE, "nas": TABLET},
        tags={TABLET: ["home"]},
        revoked=[NAS],
    )

    story = clan(*TWO)
    story.credential(ANN, NAS, "nas")
    story.credential(ANN, TABLET, "nas", succeeds=NAS)
    story.credential(ANN, PHONE, "nas", succeeds=TABLET)
    yield story.ends(
        "succession-twice",
        "one behind another",
        story.genesis,
        members={**PEOPLE, "nas": PHONE},
        revoked=[NAS, TABLET],
    )

    story = Story((ANN, 1), (BEN, 1), (NAS, 1))
    story.credential(ANN, TABLET, "tablet", succeeds=NAS)
    removal = story.operation(ANN, removing(NAS), story.genesis, BEN)
    yield story.ends(
        "succession-of-a-removed-admin",
        "what was void while it was an admin counts from its removal on",
        removal,
        admins=TWO,
        pinned=[NAS],
        members={unnamed(ANN): ANN, unnamed(BEN): BEN, "tablet": TABLET},
        revoked=[NAS],
    )
