"""The specification's text and the daemon come to the same history: on the vectors, and on histories by dice."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from clanmesh_protocol.keys import ClanId, NodeId, RecordId
from clanmesh_protocol.signing import read_untrusted
from clanmeshd.core.authority import fold
from clanmeshd.core.ledger import Ledger
from tests.vectors import make_vectors
from tests.vectors.by_the_letter import History, history
from tests.vectors.chains import (
    ANN,
    BEN,
    CARA,
    DAN,
    EVE,
    MALLORY,
    NAS,
    NEXT_RECOVERY,
    OTHER_TOKEN,
    PHONE,
    TABLET,
    TOKEN,
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
from tests.vectors.form import Vector, read_folder, unframed
from tests.vectors.people import RECOVERY
from tests.vectors.roster_by_the_letter import roster

VECTORS = [vector for vector in read_folder(make_vectors.FOLDER) if vector.layer == "authority"]
ADMINS = (ANN, BEN, CARA, DAN)
SEEDS = 400  # of histories, each of up to 14 records
RECORDS_MAX = 14
GOVERNING: tuple[Callable[[Random], list[Any]], ...] = (
    lambda dice: removing(dice.choice(ADMINS)),
    lambda dice: removing(dice.choice(ADMINS)),
    lambda dice: replacing(dice.choice(ADMINS), dice.choice((EVE, DAN, RECOVERY))),
    lambda dice: adding(dice.choice((EVE, *ADMINS)), dice.randint(1, 4)),
    lambda dice: thresholds(dice.randint(0, 6), dice.randint(0, 3)),
    lambda dice: recovery(dice.choice((NEXT_RECOVERY, RECOVERY, EVE, None))),
    lambda dice: signer(dice.randint(2, 4)),
)


def of_vector(vector: Vector) -> History:
    """The history that a vector's records come to, by the letter."""
    final = vector.bytes_of("final") if "final" in vector.parameters else None
    return history(unframed(vector.input), ClanId(vector.bytes_of("clan")), final)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_a_vector_by_the_letter(vector: Vector) -> None:
    told = of_vector(vector)
    state = told.head.state
    derived = {
        "head": told.head.record.id.hex(),
        "number": str(int(told.head.record.slot)),
        "settled": told.final.hex() if told.final is not None else "none",
        "admins": ",".join(f"{key.hex()}:{weight}" for key, weight in state.admins),
        "recovery": state.recovery.hex() if state.recovery is not None else "none",
        "signers": str(len(state.signers)),
        "checkpoints": str(len(state.checkpoints)),
        "resolutions": str(len(state.resolutions)),
        "settings": ",".join(f"{name}={value}" for name, value in sorted(state.settings.items())) or "none",
        "pinned": ",".join(sorted(key.hex() for key in state.pinned)) or "none",
        "pending": ",".join(each.hex() for each in told.proposals) or "none",
    }
    named = {key: value for key, value in vector.parameters.items() if key in derived}
    assert named == {key: derived[key] for key in named}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_a_roster_by_the_letter(vector: Vector) -> None:
    admins = [bytes.fromhex(each.partition(":")[0]) for each in vector.parameters["admins"].split(",")]
    told = roster(unframed(vector.input), ClanId(vector.bytes_of("clan")), admins)
    now = int(vector.parameters.get("now", "0"))
    members = sorted((key.hex(), name, tags) for key, (name, tags, _) in told.members.items())
    derived = {
        "members": ",".join(f"{name}={key}" for key, name, _ in members),
        "tags": ",".join(f"{key}={'+'.join(tags)}" for key, _, tags in members if tags) or "none",
        "revoked": ",".join(sorted(key.hex() for key in told.out)) or "none",
        "suspended": ",".join(sorted(key.hex() for key in told.suspended)) or "none",
        "current": ",".join(sorted(key.hex() for key in told.current(now))) or "none",
    }
    named = {key: value for key, value in vector.parameters.items() if key in derived}
    assert named == {key: derived[key] for key in named}


def by_dice(dice: Random) -> tuple[Story, list[Said]]:
    """A clan whose admins, and the recovery key, say anything anywhere."""
    story = Story(*((seed, dice.choice((1, 1, 1, 2, 3))) for seed in ADMINS[: dice.randint(2, 4)]))
    operations = [story.genesis]
    for _ in range(dice.randint(2, RECORDS_MAX)):
        if dice.random() < 0.3:
            story.acknowledge(dice.choice(operations), dice.choice((*ADMINS, EVE)))
            continue
        author = dice.choice((*ADMINS, *ADMINS, *ADMINS, EVE, RECOVERY, NEXT_RECOVERY))
        payload = dice.choice(GOVERNING)(dice) if dice.random() < 0.7 else setting(dice.choice("ab"))
        approvers = dice.sample(ADMINS, dice.randint(1, 4))
        operations.append(story.operation(author, payload, dice.choice(operations[-5:]), *approvers))
    return story, operations


def by_many_hands(dice: Random) -> tuple[Story, list[Said]]:
    """Few operations with many signatures: most are valid, and admins and recovery keys end each other."""
    admins = ADMINS[: dice.randint(2, 4)]
    story = Story(*((seed, dice.choice((1, 1, 1, 2, 3))) for seed in admins))
    operations = [story.genesis]
    for _ in range(dice.randint(3, 9)):
        if dice.random() < 0.3:
            story.acknowledge(dice.choice(operations[-6:]), *dice.sample(admins, dice.randint(1, len(admins))))
            continue
        author = dice.choice((RECOVERY, RECOVERY, RECOVERY, NEXT_RECOVERY, EVE, *admins, *admins))
        payload = dice.choice(
            (
                removing(dice.choice(admins)),
                removing(dice.choice(admins)),
                recovery(dice.choice((NEXT_RECOVERY, NEXT_RECOVERY, MALLORY, None))),
                replacing(dice.choice(admins), dice.choice((EVE, MALLORY))),
                setting(dice.choice("ab")),
                setting(dice.choice("cd")),
            )
        )
        behind = dice.choice(operations[:3] if dice.random() < 0.5 else operations[-3:])
        approvers = dice.sample(admins, dice.randint(len(admins) // 2, len(admins)))
        operations.append(story.operation(author, payload, behind, *approvers))
    return story, operations


@pytest.mark.parametrize("final", [False, True], ids=["nothing final", "something final"])
@pytest.mark.parametrize("told_by", [by_dice, by_many_hands], ids=["anything", "many hands"])
def test_a_history_by_dice(told_by: Callable[[Random], tuple[Story, list[Said]]], final: bool) -> None:
    forks = 0
    for seed in range(SEEDS):
        dice = Random(f"{seed} {final}")
        story, operations = told_by(dice)
        records = unframed(story.judged("of dice", "ok", "").input)
        held = dice.choice(operations).id if final else None
        ledger = Ledger(story.clan)
        for data in records:
            ledger.apply(read_untrusted(data, story.clan))
        folded, told = (
            fold(ledger, RecordId(held) if held is not None else None),
            history(records, story.clan, held),
        )
        found = (folded.head, folded.final, sorted(each.id for each in folded.pending), folded.chain.pinned)
        assert found == (told.head.record.id, told.final, told.proposals, told.head.state.pinned), f"seed {seed}"
        again = fold(ledger, folded.final)
        assert (again.head, again.final) == found[:2], f"seed {seed}: asked again, it says something else"
        ledger.retain(folded.lets_stay)
        again = fold(ledger, RecordId(held) if held is not None else None)
        assert (again.head, again.final) == found[:2], f"seed {seed}: a record counts that nobody keeps"
        forks += any(len(each.children) > 1 for each in told.head.line())
    assert forks > SEEDS // 4  # else the dice have grown tame


DEVICES = (NAS, PHONE, TABLET, MALLORY, CARA)


def of_people(dice: Random) -> Story:
    """A clan of three admins where anybody says anything about devices."""
    story = Story((ANN, 1), (BEN, 1), (CARA, 1))
    invites: list[tuple[Said, bytes]] = []
    credentials: list[Said] = []
    admins, anybody = (ANN, ANN, BEN, CARA), (ANN, BEN, *DEVICES)
    for _ in range(dice.randint(4, 2 * RECORDS_MAX)):
        node, name = dice.choice(DEVICES), dice.choice(("nas", "phone", "nas-2"))
        match dice.choice("cciirrrrxs"):
            case "c":
                earlier = dice.sample(credentials, min(len(credentials), dice.randint(0, 2)))
                succeeds = dice.choice((None, None, None, *(each for each in DEVICES if each != node)))
                said = story.credential(
                    dice.choice((*admins, NAS)), node, name, tags=[name], replaces=earlier, succeeds=succeeds
                )
                credentials.append(said)
            case "i":
                token = dice.choice((TOKEN, OTHER_TOKEN))
                given = dice.choice((None, "tv"))
                invites.append(
                    (story.invite(dice.choice(admins), token, uses=dice.randint(1, 2), name=given), token)
                )
            case "r" if invites:
                invite, token = dice.choice(invites)
                used = story.redemption(dice.choice(anybody), invite, node, name, token=token)
                if dice.random() < 0.3:
                    credentials.append(story.credential(dice.choice(admins), node, name, redemption=used))
            case "x":
                subject = dice.choice((*DEVICES, TOKEN))
                story.revocation(dice.choice((*admins, subject, NAS)), subject)
            case "s" if dice.random() < 0.2:
                story.operation(ANN, removing(CARA), story.genesis, BEN)
    return story


def test_a_roster_by_dice() -> None:
    suspended = 0
    for seed in range(SEEDS):
        story = of_people(Random(f"people {seed}"))
        records = unframed(story.judged("of dice", "ok", "").input)
        ledger = Ledger(story.clan)
        for data in records:
            ledger.apply(read_untrusted(data, story.clan))
        folded = fold(ledger)
        told = roster(records, story.clan, [bytes(node) for node in folded.admins])
        members = {bytes(node): (each.name, list(each.tags)) for node, each in folded.members.items()}
        assert members == {key: (name, tags) for key, (name, tags, _) in told.members.items()}, f"seed {seed}"
        assert folded.revoked == told.out, f"seed {seed}"
        assert folded.suspended == told.suspended, f"seed {seed}"
        ledger.retain(folded.lets_stay)
        assert fold(ledger).roster == folded.roster, f"seed {seed}: a record counts that nobody keeps"
        suspended += any(NodeId(key) in folded.suspended for key in told.suspended)
    assert suspended > SEEDS // 20  # else the dice have grown tame
