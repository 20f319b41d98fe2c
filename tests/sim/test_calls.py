"""Calls between two that cannot reach each other, by way of whole cores, with loss, copies and floods."""

from functools import partial

import pytest

from clanmesh_protocol.endpoints import endpoint
from clanmesh_protocol.signalling import CallKind, Candidate, CandidateKind, NatKind
from clanmeshd.core.effects import Reflected
from clanmeshd.core.limits import CALLS_BURST, CALLS_CARRIED_BURST, CALLS_CARRIED_PER_S, CALLS_PER_S
from tests.core.worlds import PORT
from tests.sim.world import World

CALLER = 1
AGAIN_S = 0.3  # after a call that was not answered
SETTLED_S = 20.0


def apart(
    size: int, seed: int, *, loss: float = 0.0, duplication: float = 0.0, others: int | None = None
) -> World:
    """A clan whose second and last device cannot reach each other; of the rest so many `others` reach the last."""
    world = World(size, seed, duplication=duplication)
    last = size - 1
    deaf = [CALLER, *range(CALLER + others, last)] if others is not None else [CALLER]
    world.cut = {pair for index in deaf for pair in ((index, last), (last, index))}
    world.run(SETTLED_S)
    world.loss = loss
    return world


def call(world: World, caller: int, callee: int, number: int, kind: CallKind = CallKind.ASK) -> None:
    """Call somebody; the number is in the candidate's port, so that each call can be told from all others."""
    where = Candidate(CandidateKind.SEEN, endpoint("203.0.113.5", number + 1))
    node = world.devices[callee].node
    world.mesh(caller).meeting.call(node, kind, NatKind.EASY, [where], world.now(caller))
    world.settle(caller)


def heard(world: World, index: int, kind: CallKind) -> list[int]:
    """The numbers of the calls that a device took."""
    calls = [called for _, called in world.devices[index].calls if called.kind is kind]
    return [called.candidates[0].endpoint.port - 1 for called in calls]


@pytest.mark.parametrize("seed", range(8))
def test_a_call_and_its_answer_come_through_a_lossy_network(seed: int) -> None:
    world = apart(5, seed, loss=0.2, duplication=0.1)
    began_s, number = world.now_s, 0
    while not heard(world, CALLER, CallKind.OPENED):
        assert world.now_s < began_s + 5.0
        call(world, CALLER, 4, number)
        world.run(AGAIN_S / 2)
        if number in heard(world, 4, CallKind.ASK):
            call(world, 4, CALLER, number, CallKind.OPENED)
        world.run(AGAIN_S / 2)
        number += 1
    print(f"seed {seed}: {number} calls, {world.now_s - began_s:.1f} s")
    taken = heard(world, 4, CallKind.ASK)
    assert len(taken) == len(set(taken))


def test_the_one_who_reaches_both_is_found() -> None:
    world = apart(6, 3, others=1)
    for number in range(4):  # of four that could carry it, three reach nobody
        call(world, CALLER, 5, number)
        world.run(AGAIN_S)
    assert heard(world, 5, CallKind.ASK)


def test_copies_of_all_that_was_sent_change_nothing() -> None:
    world = apart(4, 5)
    for number in range(10):
        call(world, CALLER, 3, number)
        world.run(AGAIN_S)
    assert sorted(heard(world, 3, CallKind.ASK)) == list(range(10))
    for data in list(world.overheard):
        for target in range(4):
            world.inject(data, world.devices[0].at, target)
    world.run(5.0)
    assert sorted(heard(world, 3, CallKind.ASK)) == list(range(10))


def test_a_flood_reaches_neither_the_callee_nor_the_network() -> None:
    world = apart(3, 7)
    flood_s, each_s = 10, 200
    before = world.devices[0].bytes_sent
    for second in range(flood_s):
        for number in range(each_s):
            world.at(world.now_s + number / each_s, partial(call, world, CALLER, 2, second * each_s + number))
        world.run(1.0)
    passed = CALLS_CARRIED_BURST + CALLS_CARRIED_PER_S * flood_s
    assert len(heard(world, 2, CallKind.ASK)) <= CALLS_BURST + CALLS_PER_S * flood_s + 1
    assert world.mesh(0).counters["limit"] >= flood_s * each_s - passed - 1
    assert world.devices[0].bytes_sent - before <= (passed + 1) * 400 + flood_s * 1000
    call(world, 0, 2, 60_000)  # another caller is heard all the same
    world.run(AGAIN_S)
    assert 60_000 in heard(world, 2, CallKind.ASK)


def test_a_clan_on_one_network_says_nothing_of_what_it_sees() -> None:
    world = World(4, 11)
    world.run(60.0)
    assert all(world.mesh(index).meeting.heard == 0 for index in range(4))


def test_who_is_behind_a_router_learns_of_which_kind_it_is() -> None:
    world = World(4, 11)
    world.run(SETTLED_S)
    device = world.devices[0]
    outside = endpoint("203.0.113.5", 40_000)
    world._by_ip[outside.ip] = 0
    device.at = outside  # what others see; the device itself still lists its own address
    assert world.run_until(lambda: world.mesh(0).meeting.heard == 3, 30.0)
    assert device.states["Reflected"][-1][1] == Reflected(NatKind.EASY, (), (outside,))


def test_who_moved_hears_at_once_how_it_is_seen_there() -> None:
    world = World(4, 11)
    world.run(SETTLED_S)
    device, outside = world.devices[0], endpoint("198.51.100.9", 7)
    world._by_ip[outside.ip] = 0
    device.at = outside
    world.mesh(0).set_endpoints([endpoint("192.168.1.2", PORT)], world.now())
    world.settle(0)
    world.run(0.1)
    assert device.states["Reflected"][-1][1] == Reflected(NatKind.EASY, (), (outside,))
