"""How many signature checks and key exchanges others can cause: none by bare strangers, a budget by members.

Counted at the library, over a flood of 10,000 datagrams within one virtual second.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from nacl import bindings

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import ClanId, make_device_keys
from clanmesh_protocol.messages import RecordFrame, Seal
from clanmesh_protocol.records import SINGLE_SLOT, Kind, Node
from clanmesh_protocol.signing import sign_record
from clanmeshd.core.author import node_content
from clanmeshd.core.effects import SendDatagram
from clanmeshd.core.limits import VERIFICATIONS_BURST, VERIFICATIONS_PER_S
from clanmeshd.core.mesh import Mesh
from clanmeshd.core.sessions import Sessions
from tests.core.worlds import START_SEQ, Clan, Puppet, endpoint_of, found, instant, make_mesh, status

FLOOD = 10_000
FORGED = 4_000  # that have to be signed and sealed first: more than anybody has checked for them
START_S = 1.0
SECOND_S = 1.0
STRANGE = Endpoint(bytes([203, 0, 113, 9]), 4444)
SIGNATURES = "crypto_sign_open"
EXCHANGES = "crypto_scalarmult"
CONVERSIONS = "crypto_sign_ed25519_pk_to_curve25519"
PREKEYS = 4  # that a node record has at most


def attacked(size: int = 4) -> tuple[Clan, Mesh, list[Puppet]]:
    """A clan, its first core, and the other members, all up."""
    clan = found(size)
    mesh = make_mesh(clan, 0)
    mesh.set_endpoints([endpoint_of(0)], instant(0.0))
    mesh.set_status(status(), instant(0.0))
    mesh.effects()
    puppets = [Puppet(clan, index, mesh) for index in range(1, size)]
    for puppet in puppets:
        puppet.meet(instant(START_S))
    return clan, mesh, puppets


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count what the library is asked for that is dear."""
    counts: Counter[str] = Counter()

    def counting(name: str) -> Any:
        original = getattr(bindings, name)

        def call(*arguments: Any) -> Any:
            counts[name] += 1
            return original(*arguments)

        return patch.object(bindings, name, call)

    with counting(SIGNATURES), counting(EXCHANGES), counting(CONVERSIONS):
        yield counts


def flooded(mesh: Mesh, datagrams: Sequence[bytes]) -> tuple[Counter[str], list[SendDatagram]]:
    """What the core asks of the library, and what it sends, as these come within a second."""
    answers: list[SendDatagram] = []
    with counted() as counts:
        for number, data in enumerate(datagrams):
            mesh.receive(data, STRANGE, instant(START_S + number * SECOND_S / len(datagrams)))
            answers += [effect for effect in mesh.effects() if isinstance(effect, SendDatagram)]
    return counts, answers


def foreign_hellos(mesh: Mesh, dice: Random) -> list[bytes]:
    """Hellos to the core that were made in another clan, each with a record."""
    keys, clan = make_device_keys(dice.randbytes, 0), ClanId(dice.randbytes(16))
    sessions = Sessions(keys, clan, dice.randbytes)
    sessions.set_members([mesh.node])
    hellos = [sessions.seal_hello(mesh.node, RecordFrame(dice.randbytes(400))) for _ in range(FLOOD)]
    return [hello for hello in hellos if hello is not None]


def under(prefix: bytes, datagram: bytes) -> bytes:
    """A datagram that claims to be of somebody else."""
    return datagram[:5] + prefix + datagram[13:]


def test_hellos_by_nobody_cost_nothing() -> None:
    _, mesh, _ = attacked()
    counts, answers = flooded(mesh, foreign_hellos(mesh, Random(1)))
    assert counts == {}
    assert answers == []
    assert mesh.counters["unknown-sender"] == FLOOD


def test_hellos_under_members_names_cost_one_exchange_for_each_member() -> None:
    _, mesh, puppets = attacked()
    dice = Random(2)
    hellos = [under(dice.choice(puppets).node[:8], hello) for hello in foreign_hellos(mesh, dice)]
    counts, answers = flooded(mesh, hellos)
    assert counts[SIGNATURES] == 0
    assert counts[EXCHANGES] <= len(puppets)
    assert answers == []
    assert mesh.counters["seal"] == FLOOD


def test_sessions_under_members_names_cost_one_pair_of_exchanges_for_each_pair_of_prekeys() -> None:
    _, mesh, puppets = attacked()
    dice = Random(3)
    lead = bytes([0xC7, 1, Seal.SESSION])
    flood = [
        lead + dice.randbytes(2) + dice.choice(puppets).node[:8] + dice.randbytes(16 + 100) for _ in range(FLOOD)
    ]
    counts, answers = flooded(mesh, flood)
    assert counts[SIGNATURES] == 0
    assert counts[EXCHANGES] <= len(puppets) * (2 * PREKEYS * PREKEYS + 1)
    assert len(answers) <= len(puppets), "a hello to each where it is known to be, and none to the stranger"
    assert STRANGE not in {answer.destination for answer in answers}


def test_copies_cost_no_signature_and_are_not_answered_with_more() -> None:
    _, mesh, [puppet, other, _] = attacked()
    hello = puppet.sessions.seal_hello(mesh.node, RecordFrame(puppet.record))
    assert hello is not None
    former = Puppet(puppet.clan, 2, mesh, run=7)
    copies = [hello, other.seal(other.ping(), RecordFrame(other.record)), former.seal(former.ping())]
    flood = copies * (FLOOD // len(copies))
    counts, answers = flooded(mesh, flood)
    assert counts[SIGNATURES] == 0
    assert counts[EXCHANGES] <= 3
    back = sum(len(answer.data) for answer in answers if answer.destination == STRANGE)
    assert 0 < back <= sum(map(len, flood)) / 100


def test_forged_records_in_sound_hellos_of_one_member_have_a_budget() -> None:
    clan, mesh, [puppet, *_] = attacked()
    forged = bytearray(
        sign_record(
            clan.keys[1].identity_seed,
            clan.id,
            node_content(clan.keys[1], clan.id, [puppet.at], 0),
            kind=Kind.NODE,
            slot=SINGLE_SLOT,
            seq=START_SEQ + 5000,
        )
    )
    forged[40] ^= 1  # of the signature: only a check shows it
    hellos = [puppet.sessions.seal_hello(mesh.node, RecordFrame(bytes(forged))) for _ in range(FORGED)]
    counts, _ = flooded(mesh, [hello for hello in hellos if hello is not None])
    assert counts[SIGNATURES] <= VERIFICATIONS_BURST + VERIFICATIONS_PER_S * SECOND_S
    assert mesh.counters["busy"] >= FORGED - VERIFICATIONS_BURST - VERIFICATIONS_PER_S * SECOND_S - 1
    assert mesh.counters["signature"] == counts[SIGNATURES]


@pytest.mark.parametrize("broken", ["static_key", "prekeys"])
def test_a_member_with_a_key_of_small_order_makes_nobody_exchange_anew(broken: str) -> None:
    """All that such a key gives is that no session is possible: to know it once is enough."""
    clan, mesh, [puppet, *_] = attacked()
    content = node_content(clan.keys[1], clan.id, [puppet.at], 0)
    number = content.prekeys[-1][0]
    bad: Any = bytes(32) if broken == "static_key" else ((number, bytes(32)),)
    data = sign_record(
        clan.keys[1].identity_seed,
        clan.id,
        replace(content, **{broken: bad}),
        kind=Kind.NODE,
        slot=SINGLE_SLOT,
        seq=START_SEQ + 6000,
    )
    mesh.receive_record(data, puppet.node, instant(START_S))
    mesh.effects()
    own = mesh.ledger.get(mesh.node, Kind.NODE, SINGLE_SLOT)
    assert own is not None
    assert isinstance(own.content, Node)
    lead = bytes([0xC7, 1, Seal.SESSION, number, own.content.prekeys[-1][0]]) + puppet.node[:8]
    counts, _ = flooded(mesh, [lead + number.to_bytes(16, "big") + bytes(100) for number in range(FLOOD)])
    assert counts[EXCHANGES] <= 2 * PREKEYS * PREKEYS + 1


def test_the_counter_counts() -> None:
    clan, mesh, [puppet, *_] = attacked()
    with counted() as counts:
        mesh.receive_record(
            sign_record(
                clan.keys[1].identity_seed,
                clan.id,
                status(3),
                kind=Kind.STATUS,
                slot=SINGLE_SLOT,
                seq=START_SEQ + 70,
            ),
            puppet.node,
            instant(START_S),
        )
        other = Puppet(clan, 2, mesh, run=9)
        other.seal(other.ping())
    assert counts[SIGNATURES] == 1
    assert counts[EXCHANGES] == 2
