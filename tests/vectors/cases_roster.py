"""Vectors of who is a member and by which name: layer `authority`."""

from collections.abc import Iterator

from clanmesh_protocol.keys import node_text
from tests.vectors.chains import (
    ANN,
    BEN,
    CARA,
    EXPIRES,
    MALLORY,
    NAS,
    OTHER_TOKEN,
    PHONE,
    TABLET,
    THREE,
    TOKEN,
    TWO,
    Story,
    key,
)
from tests.vectors.form import Vector
from tests.vectors.people import SEQ


def all_cases() -> Iterator[Vector]:
    """Give every vector of the roster."""
    yield from uses()
    yield from too_many_uses()
    yield from withdrawals()
    yield from unsound_redemptions()
    yield from departures()
    yield from conflicts()
    yield from successions()
    yield from names()


def unnamed(seed: bytes) -> str:
    """What an admin is called before it has a credential."""
    return f"admin-{node_text(key(seed))[:6]}"


def clan(*admins: tuple[bytes, int]) -> Story:
    """A clan whose admins have names."""
    story = Story(*admins)
    for seed, name in ((ANN, "ann"), (BEN, "ben"), (CARA, "cara")):
        if (seed, 1) in admins:
            story.credential(ANN, seed, name)
    return story


PEOPLE = {"ann": ANN, "ben": BEN}


def uses() -> Iterator[Vector]:
    """How often an invite is good."""
    story = clan(*TWO)
    invite = story.invite(ANN)
    story.redemption(BEN, invite, PHONE, "phone")
    yield story.ends(
        "redemption",
        "7.8: any member admits, not only the inviter",
        story.genesis,
        members={**PEOPLE, "phone": PHONE},
    )

    story = clan(*TWO)
    invite = story.invite(ANN, uses=2)
    story.redemption(ANN, invite, PHONE, "phone")
    story.redemption(PHONE, invite, TABLET, "tablet")
    yield story.ends(
        "redemption-by-the-newest",
        "7.8: a device that came by an invite admits nobody until an admin has confirmed it",
        story.genesis,
        members={**PEOPLE, "phone": PHONE},
    )

    story = clan(*TWO)
    invite = story.invite(ANN, uses=2)
    used = story.redemption(ANN, invite, PHONE, "phone")
    story.credential(ANN, PHONE, "phone", redemption=used, invite=invite)
    story.redemption(PHONE, invite, TABLET, "tablet")
    yield story.ends(
        "redemption-by-the-confirmed",
        "7.8: once it is confirmed it can admit another",
        story.genesis,
        members={**PEOPLE, "phone": PHONE, "tablet": TABLET},
    )

    story = clan(*TWO)
    invite = story.invite(ANN)
    used = story.redemption(BEN, invite, PHONE, "phone")
    story.credential(ANN, PHONE, "phone", redemption=used, invite=invite)
    story.redemption(BEN, invite, PHONE, "phone", at=EXPIRES + 1)
    story.redemption(BEN, invite, TABLET, "tablet")
    yield story.ends(
        "use-closed-for-good",
        "7.8: the member that let the phone in writes over its word, which holds no more; the admin's credential"
        " names the invite all the same, so its one use stays taken and the second device waits",
        story.genesis,
        members={**PEOPLE, "phone": PHONE},
        suspended=[TABLET],
    )


def too_many_uses() -> Iterator[Vector]:
    """Who waits for an admin."""
    story = clan(*TWO)
    invite = story.invite(ANN)
    story.redemption(ANN, invite, PHONE, "phone")
    story.redemption(BEN, invite, TABLET, "tablet")
    yield story.ends(
        "over-use",
        "7.8: two devices come by an invite for one: both wait for an admin, since nobody can prove who was first",
        story.genesis,
        members=PEOPLE,
        suspended=[PHONE, TABLET],
    )

    story = clan(*TWO)
    invite = story.invite(ANN)
    story.redemption(ANN, invite, PHONE, "phone")
    late = story.redemption(BEN, invite, TABLET, "tablet")
    story.credential(BEN, TABLET, "tablet", redemption=late)
    yield story.ends(
        "over-use-confirmed",
        "7.8: two devices came by an invite for one, and an admin's credential lets one in: the other"
        " goes on waiting",
        story.genesis,
        members={**PEOPLE, "tablet": TABLET},
        suspended=[PHONE],
    )

    story = clan(*TWO)
    invite = story.invite(ANN)
    story.redemption(ANN, invite, PHONE, "phone")
    story.redemption(BEN, invite, PHONE, "phone")
    yield story.ends(
        "one-device-twice",
        "7.8: two members admit one device at once: one node, so one use",
        story.genesis,
        members={**PEOPLE, "phone": PHONE},
        suspended=[],
    )

    story = clan(*TWO)
    invite = story.invite(ANN)
    story.redemption(ANN, invite, PHONE, "phone")
    story.redemption(BEN, invite, TABLET, "tablet")
    story.revocation(ANN, TABLET)
    yield story.ends(
        "over-use-revoked",
        "7.8: of two devices by an invite for one, one was revoked: its use stays used, and the other waits",
        story.genesis,
        members=PEOPLE,
        revoked=[TABLET],
        suspended=[PHONE],
    )


def withdrawals() -> Iterator[Vector]:
    """Invites that do not stand any more."""
    story = clan(*TWO)
    invite = story.invite(ANN)
    story.redemption(ANN, invite, PHONE, "phone")
    story.revocation(BEN, TOKEN)
    yield story.ends(
        "withdrawn-by-another",
        "7.7: another admin's revocation of the invite's key withdraws it",
        story.genesis,
        members=PEOPLE,
        revoked=[TOKEN],
        suspended=[],
    )

    story = clan(*TWO)
    invite = story.invite(ANN)
    used = story.redemption(ANN, invite, PHONE, "phone")
    story.credential(ANN, PHONE, "phone", redemption=used)
    story.revocation(BEN, TOKEN)
    yield story.ends(
        "withdrawn-after-confirmation",
        "7.8: the invite is withdrawn after an admin confirmed the device: that stays",
        story.genesis,
        members={**PEOPLE, "phone": PHONE},
        revoked=[TOKEN],
    )

    story = clan(*TWO)
    invite = story.invite(ANN)
    story.redemption(ANN, invite, PHONE, "phone")
    story.credential(ANN, NAS, "nas")
    story.revocation(NAS, TOKEN)
    yield story.ends(
        "withdrawn-by-a-member",
        "7.7: a member cannot withdraw an invite",
        story.genesis,
        members={**PEOPLE, "nas": NAS, "phone": PHONE},
        revoked=[],
    )

    story = clan(*TWO)
    invite = story.invite(ANN)
    story.redemption(ANN, invite, PHONE, "phone")
    story.revocation(TOKEN, TOKEN)
    yield story.ends(
        "withdrawn-by-itself",
        "7.7: whoever holds the token cannot withdraw the invite: its key is nobody known",
        story.genesis,
        members={**PEOPLE, "phone": PHONE},
        revoked=[],
    )

    story = clan(*TWO)
    invite = story.invite(NAS)
    story.redemption(ANN, invite, PHONE, "phone")
    yield story.ends(
        "invite-by-no-admin",
        "7.8: an invite by a member who is no admin does not stand",
        story.genesis,
        members=PEOPLE,
    )


def unsound_redemptions() -> Iterator[Vector]:
    """Redemptions that admit nobody."""
    story = clan(*TWO)
    story.redemption(ANN, story.invite(ANN), PHONE, "phone", at=EXPIRES + 1)
    yield story.ends(
        "redemption-expired",
        "7.8: the author vouches for a time one second past the invite's end",
        story.genesis,
        members=PEOPLE,
    )

    story = clan(*TWO)
    story.redemption(ANN, story.invite(ANN), PHONE, "phone", token=OTHER_TOKEN)
    yield story.ends(
        "redemption-other-key",
        "7.8: the invite's proof is by another key than the invite names",
        story.genesis,
        members=PEOPLE,
    )

    story = clan(*TWO)
    story.redemption(ANN, story.invite(ANN), PHONE, "phone", prover=TABLET)
    yield story.ends(
        "redemption-forged", "7.8: the device's proof is by another key", story.genesis, members=PEOPLE
    )

    story = clan(*TWO)
    story.redemption(MALLORY, story.invite(ANN), PHONE, "phone")
    yield story.ends(
        "redemption-by-a-stranger",
        "7.8: an invite in order, but the redemption's author is nobody known",
        story.genesis,
        members=PEOPLE,
    )

    story = clan(*TWO)
    invite = story.invite(ANN, uses=2)
    story.redemption(PHONE, invite, TABLET, "tablet")
    story.redemption(TABLET, invite, PHONE, "phone")
    yield story.ends(
        "redemption-circle",
        "7.8: two strangers admit each other by one invite: neither is known, so neither counts",
        story.genesis,
        members=PEOPLE,
    )

    story = clan(*TWO)
    story.credential(ANN, NAS, "nas")
    invite = story.invite(ANN, uses=3)
    story.redemption(NAS, invite, PHONE, "phone")
    story.revocation(BEN, NAS)
    yield story.ends(
        "redemption-by-a-revoked",
        "7.8: a revoked member's redemption does not count, unless an admin confirmed it: whom it"
        " admitted goes with it",
        story.genesis,
        members=PEOPLE,
        revoked=[NAS],
    )


def departures() -> Iterator[Vector]:
    """Who is out, and by whose word."""
    story = clan(*TWO)
    story.credential(ANN, NAS, "nas")
    story.revocation(NAS, NAS)
    yield story.ends(
        "leaving", "7.7: a member's revocation of its own key counts", story.genesis, members=PEOPLE, revoked=[NAS]
    )

    story = clan(*TWO)
    story.revocation(MALLORY, MALLORY)
    yield story.ends(
        "leaving-stranger",
        "7.7: the revocation of its own key by one whom nobody vouched for does not count",
        story.genesis,
        members=PEOPLE,
        revoked=[],
    )

    story = clan(*TWO)
    story.credential(ANN, NAS, "nas")
    story.credential(ANN, PHONE, "phone")
    story.revocation(NAS, PHONE)
    yield story.ends(
        "leaving-others",
        "7.7: a member's revocation of another's key does not count",
        story.genesis,
        members={**PEOPLE, "nas": NAS, "phone": PHONE},
        revoked=[],
    )

    story = clan(*TWO)
    story.revocation(ANN, BEN)
    story.revocation(ANN, ANN)
    yield story.ends(
        "revocation-of-an-admin",
        "7.7: admins' revocations of an admin are void: admins leave by the chain",
        story.genesis,
        members=PEOPLE,
        revoked=[],
    )

    story = clan(*TWO)
    story.credential(ANN, NAS, "nas")
    story.revocation(BEN, NAS)
    story.credential(BEN, NAS, "nas")
    yield story.ends(
        "revoked-for-ever", "no later credential brings a key back", story.genesis, members=PEOPLE, revoked=[NAS]
    )


def conflicts() -> Iterator[Vector]:
    """Credentials of several admins for one node."""
    story = clan(*TWO)
    story.credential(BEN, NAS, "attic")
    story.credential(ANN, NAS, "nas")
    story.credential(BEN, NAS, "cellar")
    yield story.ends(
        "credentials-seniority", "the more senior issuer's", story.genesis, members={**PEOPLE, "nas": NAS}
    )

    story = clan(*TWO)
    old = story.credential(ANN, NAS, "nas")
    story.credential(BEN, NAS, "attic", replaces=[old])
    yield story.ends(
        "credentials-replaced", "named as replaced by the other", story.genesis, members={**PEOPLE, "attic": NAS}
    )

    story = clan(*THREE)
    people = {"ann": ANN, "ben": BEN, "cara": CARA}
    first = story.credential(ANN, NAS, "nas")
    second = story.credential(BEN, NAS, "attic", replaces=[first])
    story.credential(CARA, NAS, "cellar", replaces=[second])
    yield story.ends(
        "credentials-replaced-twice",
        "each replaced the one before",
        story.genesis,
        members={**people, "cellar": NAS},
    )

    story = clan(*TWO)
    old = story.credential(ANN, NAS, "nas")
    story.credential(BEN, NAS, "attic", replaces=[old])
    story.credential(ANN, NAS, "cellar")
    yield story.ends(
        "credentials-replaced-renewed",
        "a later one in the replaced one's register is not the one replaced",
        story.genesis,
        members={**PEOPLE, "cellar": NAS},
    )

    story = clan(*TWO)
    old = story.credential(ANN, NAS, "nas")
    story.credential(NAS, NAS, "attic", replaces=[old])
    yield story.ends(
        "credentials-by-no-admin", "neither counts nor replaces", story.genesis, members={**PEOPLE, "nas": NAS}
    )


def successions() -> Iterator[Vector]:
    """A device with a new key."""
    story = clan(*TWO)
    story.credential(ANN, NAS, "nas")
    story.credential(BEN, TABLET, "nas", succeeds=NAS)
    yield story.ends(
        "succession",
        "the name stays, the former key is out",
        story.genesis,
        members={**PEOPLE, "nas": TABLET},
        revoked=[NAS],
    )

    story = clan(*TWO)
    story.credential(ANN, TABLET, "tablet", succeeds=BEN)
    yield story.ends(
        "succession-of-an-admin",
        "an admin is replaced by the chain alone",
        story.genesis,
        members={**PEOPLE, "tablet": TABLET},
        revoked=[],
    )

    story = clan(*TWO)
    story.credential(ANN, NAS, "nas")
    invite = story.invite(ANN, name="nas", succeeds=NAS)
    story.redemption(ANN, invite, TABLET, "tablet")
    yield story.ends(
        "succession-unconfirmed",
        "until an admin confirms the new key, the old one is in and has the name",
        story.genesis,
        members={**PEOPLE, "nas": NAS, "nas-2": TABLET},
        revoked=[],
    )

    story = clan(*TWO)
    story.credential(ANN, NAS, "nas")
    invite = story.invite(ANN, name="nas", succeeds=NAS)
    used = story.redemption(ANN, invite, TABLET, "tablet")
    story.credential(ANN, TABLET, "nas", redemption=used, succeeds=NAS)
    yield story.ends(
        "succession-confirmed", "then it is out", story.genesis, members={**PEOPLE, "nas": TABLET}, revoked=[NAS]
    )

    story = clan(*TWO)
    story.credential(ANN, NAS, "nas")
    story.credential(MALLORY, TABLET, "nas", succeeds=NAS)
    yield story.ends(
        "succession-by-no-admin", "no word of an admin", story.genesis, members={**PEOPLE, "nas": NAS}, revoked=[]
    )


def names() -> Iterator[Vector]:
    """Who keeps a name."""
    story = Story(*TWO)
    yield story.ends(
        "name-of-an-admin",
        "an admin without a credential",
        story.genesis,
        members={unnamed(ANN): ANN, unnamed(BEN): BEN},
    )

    story = clan(*TWO)
    invite = story.invite(ANN)
    story.redemption(ANN, invite, PHONE, "nas")
    story.credential(ANN, NAS, "nas")
    yield story.ends(
        "name-given-beats-chosen",
        "a name that a device chose first, and an admin gave to another later",
        story.genesis,
        members={**PEOPLE, "nas": NAS, "nas-2": PHONE},
    )

    story = clan(*TWO)
    story.credential(ANN, PHONE, "nas", seq=SEQ + 5001)
    story.credential(BEN, NAS, "nas", seq=SEQ + 5000)
    yield story.ends(
        "name-given-twice",
        "of two given names the one with the lower seq",
        story.genesis,
        members={**PEOPLE, "nas": NAS, "nas-2": PHONE},
    )

    story = clan(*TWO)
    story.credential(ANN, NAS, "nas")
    story.credential(ANN, PHONE, "nas-2")
    story.redemption(ANN, story.invite(ANN), TABLET, "nas")
    yield story.ends(
        "name-suffix-taken",
        "the next number that is free",
        story.genesis,
        members={**PEOPLE, "nas": NAS, "nas-2": PHONE, "nas-3": TABLET},
    )

    story = clan(*TWO)
    story.credential(ANN, NAS, "n" * 32)
    story.credential(ANN, PHONE, "n" * 32)
    yield story.ends(
        "name-cut",
        "cut to make room for the number",
        story.genesis,
        members={**PEOPLE, "n" * 32: NAS, "n" * 30 + "-2": PHONE},
    )

    story = clan(*TWO)
    story.redemption(ANN, story.invite(ANN, name="phone"), PHONE, "nas")
    yield story.ends(
        "name-by-invite", "the invite's name, not the device's", story.genesis, members={**PEOPLE, "phone": PHONE}
    )
