"""A device that has just joined: whoever admitted it is there and has its records, so it begins with that one."""

from pathlib import Path
from typing import Any

import pytest

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId, fingerprint_slot
from clanmesh_protocol.records import Credential
from clanmesh_protocol.signing import read_untrusted
from clanmesh_protocol.tokens import decode_token_untrusted
from clanmeshd import joining
from clanmeshd.core.limits import GREETINGS_AGAIN
from clanmeshd.core.subjects import SendPing
from clanmeshd.core.wanted import overlay_address
from tests.core.households import Household, Silence
from tests.core.test_membership import Watch, peer
from tests.core.worlds import found
from tests.sim.world import World

ONE_WAY_S = 0.04
ROUND_TRIP_S = 2 * ONE_WAY_S
MARGIN_S = 0.001
MEMBERS = 12
NEWCOMER = MEMBERS  # its index


def admitted() -> World:
    """A clan whose last device has only just been admitted, and does not run yet."""
    clan = found(MEMBERS + 1, credentialed=MEMBERS)
    world = World(MEMBERS + 1, 7, latency_s=(ONE_WAY_S, ONE_WAY_S), clan=clan, begins=False)
    for index in range(MEMBERS):
        world.start(index)
    assert world.run_until(lambda: world.all_up() and world.roots_equal(), 30.0)
    node = world.devices[NEWCOMER].node
    word = Credential(node, "newcomer", (), 0, None)
    record = world.mesh(0).publish(word, slot=fingerprint_slot(node), now=world.now())
    world.settle(0)
    assert world.run_until(lambda: all(world.holds(index, record) for index in range(MEMBERS)), 5.0)
    return world


@pytest.mark.parametrize("server", range(0, MEMBERS, 3))
def test_who_is_greeted_is_up_after_two_round_trips(server: int) -> None:
    """Hello and answer, ping and answer: the second one is under way as soon as the first is over."""
    world = admitted()
    bundle = world.mesh(server).ledger.bundle()
    world.devices[NEWCOMER].disk = [read_untrusted(data, world.clan.id) for data in bundle]
    mesh = world.start(NEWCOMER)
    mesh.greet(world.devices[server].node, world.now(NEWCOMER))
    world.settle(NEWCOMER)
    world.run(2 * ROUND_TRIP_S - MARGIN_S)
    assert world.state(NEWCOMER, server) == "unknown"
    world.run(2 * MARGIN_S)
    assert world.state(NEWCOMER, server) == "up"


def test_who_has_answered_a_hello_is_pinged_at_once_a_few_times_and_not_once_it_is_known() -> None:
    watch = Watch(3)
    watch.detector.heard(peer(2), watch.now_s)
    for node in (peer(1), peer(2), NodeId(b"\xff" * 32)):
        for _ in range(GREETINGS_AGAIN + 2):
            watch.detector.greeted(node, watch.now_s)
    watch.answering.clear()
    watch.drain()
    pings = [action.node for _, action in watch.actions if isinstance(action, SendPing)]
    assert pings == [peer(1)] * GREETINGS_AGAIN


@pytest.mark.parametrize("server", ["desk", "nas"])
async def test_join_greets_who_admitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    house = Household(tmp_path)
    await house.join("nas", "tv")
    answer = await house["desk"].call("invite")
    await house.share()
    phone = house.redeem("phone", decode_token_untrusted(answer["token"]), server, is_new=True)
    records = [read_untrusted(record.data, phone.mesh.ledger.clan) for record in phone.mesh.ledger.records()]
    sent = list[Endpoint]()

    async def admitted(*args: Any) -> joining.Joined:
        return joining.Joined(house.founded.membership, records, NodeId(house[server].node))

    async def begin(*args: Any) -> Any:
        await phone.clan.driver.settle()
        return phone.clan

    monkeypatch.setattr(joining, "join", admitted)
    monkeypatch.setattr(Silence, "send", lambda self, data, destination: sent.append(destination))
    vars(phone._daemon).update(clan=None, begin=begin)
    await phone.call("join", token=answer["token"], name="phone")
    assert {at.ip for at in sent} == {
        house[server].mesh.endpoints[0].ip,
        overlay_address(phone.mesh.ledger.clan, NodeId(house[server].node)),
    }
