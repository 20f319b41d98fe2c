"""One key on two machines: a copied disk, or keys that were stolen while their owner still has them."""

from dataclasses import replace

import pytest

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.records import SINGLE_SLOT, Acknowledgement, Kind, Setting
from clanmeshd.core.author import node_content
from tests.core.worlds import Clan, found, instant, status
from tests.hostile.rules import hostile
from tests.hostile.stage import NOW, Stage, stays_small
from tests.sim.world import World

BYTES_PER_S_MAX = 3000.0  # that one device sends while two argue who it is


def doubled(admins: int = 1) -> World:
    """Four machines; the last one has the keys of the one before."""
    clan: Clan = found(4, 5, admins=admins, credentialed=3)
    clan = replace(clan, keys=(*clan.keys[:3], clan.keys[2]))
    return World(4, 5, clan=clan)


@hostile("Registers", "ledger/ok-equal-seq-higher-id")
def test_one_number_for_two_words_ends_alike_everywhere() -> None:
    ends = []
    for order in ((0, 1), (1, 0)):
        stage = Stage()
        twins = [stage.says(1, status(number), seq=1 << 60) for number in (1, 2)]
        stage.hears(*[twins[place] for place in order])
        entry = stage.mesh.ledger.get(stage.node(1), Kind.STATUS, SINGLE_SLOT)
        assert entry is not None
        ends.append(entry.value.id)
        assert entry.value.id == max(stage.read(data).id for data in twins)
    assert ends[0] == ends[1]


@hostile("Registers", "ledger/equal-seq-lower-id")
def test_nobody_is_thrown_out_for_a_copied_disk() -> None:
    stage = Stage()
    for number in range(10):
        stage.hears(*[stage.says(1, status(2 * number + place), seq=(1 << 60) + number) for place in (0, 1)])
    assert stage.node(1) in stage.authority.members
    assert stage.node(1) not in stage.authority.revoked


@hostile("Registers", "content/ok-equivocation")
def test_it_is_shown_to_people() -> None:
    world = doubled()
    world.run(1.0)
    copied = world.devices[2].node
    who_meet = (0, 2, 3)  # the two themselves, and one whom both know
    assert world.run_until(lambda: all(copied in world.mesh(index).clones for index in who_meet), 60.0)
    for index in who_meet:
        assert [event.node for _, event in world.devices[index].events if event.kind == "clone"] == [copied]


@hostile("Datagrams", "session/ok-unproven")
def test_two_who_argue_who_they_are_stay_within_bounds() -> None:
    world = doubled()
    world.run(60.0)
    before = [device.bytes_sent for device in world.devices]
    world.run(60.0)
    rates = [(device.bytes_sent - sent) / 60.0 for device, sent in zip(world.devices, before, strict=True)]
    assert max(rates) <= BYTES_PER_S_MAX


@hostile("Who may say what", "authority/fork-one-seq-twice")
def test_a_cloned_admins_two_operations_are_a_fork_that_all_decide_alike() -> None:
    heads = set()
    for order in ((0, 1), (1, 0)):
        stage = Stage(4, admins=2)
        twins = [stage.says(1, Setting("a", v), behind=stage.genesis, seq=1 << 60) for v in ("1", "2")]
        stage.hears(*[twins[place] for place in order])
        heads.add(stage.authority.head)
        assert stage.authority.number == 1
    assert len(heads) == 1


@hostile("Registers", "ledger/equal-seq-lower-id")
def test_a_thousand_twins_leave_one_word_and_few_proofs() -> None:
    stage = Stage()
    stays_small(stage, (stage.says(1, status(number), seq=1 << 60) for number in range(1000)))
    assert len([e for e in stage.mesh.ledger.of_kind(Kind.STATUS) if e.value.author == stage.node(1)]) == 1
    assert len(stage.mesh.ledger.of_kind(Kind.EQUIVOCATION)) <= 1


@pytest.mark.parametrize("kind", [Kind.NODE, Kind.STATUS, Kind.ACKNOWLEDGEMENT])
@hostile("Registers", "ledger/ok-equal-seq-higher-id")
def test_a_copy_that_uses_up_the_last_number_stops_nobodys_device(kind: Kind) -> None:
    stage = Stage(2)
    endpoint = Endpoint(bytes([10, 0, 0, 9]), 51871)
    stage.mesh.set_endpoints([endpoint], NOW)
    stage.mesh.set_status(status(1), NOW)
    stage.mesh.effects()
    said = {
        Kind.NODE: node_content(stage.clan.keys[0], stage.clan.id, [], 0),
        Kind.STATUS: status(9),
        Kind.ACKNOWLEDGEMENT: Acknowledgement(0, stage.head.id),
    }[kind]
    for number in range(8):  # whose id is the higher one is chance
        stage.hears(stage.says(0, said, seq=2**64 - 1 - number))
    stage.mesh.set_endpoints([Endpoint(endpoint.ip, number) for number in (51872, 51873)], NOW)
    for now_s in range(2, 400, 3):
        stage.mesh.handle_deadline(instant(float(now_s)))
    stage.restarts()
    stage.mesh.set_endpoints([endpoint], NOW)
    assert stage.mesh.authority.is_admin(stage.node(0))
