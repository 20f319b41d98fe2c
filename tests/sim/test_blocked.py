"""Devices that no UDP reaches take part by streams that carry their datagrams: whole cores on a virtual clock."""

import pytest

from clanmeshd.core.effects import SetTunnels
from clanmeshd.core.limits import (
    ALONE_S,
    CARRIERS_KEPT,
    CARRIERS_PAUSES_S,
    CARRIERS_ROUND_MAX,
    OPEN_AGAIN_S,
    SILENT_S,
)
from clanmeshd.core.paths import is_carried
from tests.core.worlds import endpoint_of, status
from tests.sim.world import World

SEEDS = range(3)
SETTLED_S = 20.0
LAST = CARRIERS_KEPT + 2  # of a clan that not all of carry for one
SIZE = LAST + 1


def world_of(size: int, seed: int, *blocked: int) -> World:
    """A clan some of whose devices no UDP reaches from the start, and no stream; they know the others' records."""
    world = World(size, seed)
    world.run(SETTLED_S)
    world.blocked |= set(blocked)
    world.shut |= set(blocked)
    for index in blocked:
        world.kill(index)
    world.run(SETTLED_S)
    for index in blocked:
        world.start(index)
    return world


def says(world: World, index: int, number: int) -> bytes:
    """Have a device say something new: the id of its record."""
    mesh = world.mesh(index)
    record = mesh.publish(status(number), slot="self", now=world.now(index), ttl_s=600)
    world.settle(index)
    return record.id


@pytest.mark.parametrize("seed", SEEDS)
def test_one_without_udp_is_up_and_hears_within_two_seconds(seed: int) -> None:
    world = world_of(SIZE, seed, LAST)
    assert world.run_until(lambda: len(world.streams.open) == CARRIERS_KEPT, ALONE_S + 0.5)
    servers = [server for _, server in world.streams.open]
    assert world.run_until(lambda: all(world.state(server, LAST) == "up" for server in servers), 0.5)
    assert all(world.state(LAST, server) == "up" for server in servers)
    said = says(world, next(index for index in range(LAST) if index not in servers), 7)
    assert world.run_until(lambda: world.mesh(LAST).ledger.known(said), 1.0)
    own = says(world, LAST, 9)
    assert world.run_until(lambda: all(world.mesh(index).ledger.known(own) for index in range(LAST)), 1.0)
    assert world.mesh(LAST).is_blocked


@pytest.mark.parametrize("seed", SEEDS)
def test_udp_that_ends_midway_is_noticed_and_one_that_comes_back_is_used(seed: int) -> None:
    world = World(4, seed)
    world.run(SETTLED_S)
    assert not world.streams.tried
    world.blocked.add(3)
    world.shut.add(3)
    assert world.run_until(lambda: bool(world.streams.open), SILENT_S + 1.5)
    said = says(world, 0, 3)
    assert world.run_until(lambda: world.mesh(3).ledger.known(said), 3.0)
    world.run(SETTLED_S)
    assert [server for _, server in world.streams.open]
    assert all(world.state(server, 3) == "up" for _, server in world.streams.open)
    world.blocked.clear()
    assert world.run_until(lambda: world.all_up(), 10.0)
    assert world.run_until(lambda: not world.streams.open, OPEN_AGAIN_S + 5.0)
    assert not world.mesh(3).is_blocked
    tried = len(world.streams.tried)
    world.run(60.0)
    assert len(world.streams.tried) == tried


def test_two_without_udp_hear_each_other_by_way_of_one_in_between() -> None:
    world = world_of(3, 5, 1, 2)
    assert world.run_until(lambda: {(1, 0), (2, 0)} <= world.streams.open, 3.0)
    world.run(1.0)
    said = says(world, 1, 5)
    assert world.run_until(lambda: world.mesh(2).ledger.known(said), 1.0)


def test_a_carrier_that_dies_is_replaced() -> None:
    world = world_of(SIZE, 6, LAST)
    assert world.run_until(lambda: len(world.streams.open) == CARRIERS_KEPT, 3.0)
    world.run(2.0)
    for server in {server for _, server in world.streams.open}:
        world.kill(server)
    assert world.run_until(lambda: bool(world.streams.open), CARRIERS_PAUSES_S[0] + 1.0)
    said = says(world, next(server for _, server in world.streams.open), 8)
    assert world.run_until(lambda: world.mesh(LAST).ledger.known(said), 2.0)


def test_nobody_there_is_tried_ever_more_seldom() -> None:
    world = World(3, 7)
    world.run(SETTLED_S)
    for index in (1, 2):
        world.kill(index)
    world.run(3600.0)
    assert not world.streams.open
    late = [at_s for at_s, _, _ in world.streams.tried if at_s > world.now_s - 1200.0]
    assert 10 * 2 <= len(late) <= 21 * 2  # each of both, once a minute
    world.start(1)
    assert world.run_until(lambda: world.state(0, 1) == "up", 3.0)
    tried = len(world.streams.tried)
    world.run(600.0)
    assert len(world.streams.tried) == tried


def test_a_round_is_bounded_and_the_next_one_tries_others() -> None:
    world = World(40, 8)
    world.run(SETTLED_S)
    world.blocked.add(0)
    world.shut |= set(range(40)) - {39}
    assert world.run_until(lambda: (0, 39) in world.streams.open, 60.0)
    tried = [server for _, client, server in world.streams.tried if client == 0]
    assert len(tried[:CARRIERS_ROUND_MAX]) == len(set(tried[:CARRIERS_ROUND_MAX]))
    assert len(tried) <= 3 * CARRIERS_ROUND_MAX


def test_no_tunnel_and_no_stream_is_sent_to_where_a_stream_stands_for_a_member() -> None:
    world = world_of(3, 9, 2)
    assert world.run_until(lambda: (2, 0) in world.streams.open, 3.0)
    world.run(5.0)
    for device in world.devices:
        for _, wanted in device.states.get("SetTunnels", []):
            assert isinstance(wanted, SetTunnels)
            assert not any(each.endpoint is not None and is_carried(each.endpoint) for each in wanted.tunnels)
        for peer in world.mesh(device.index).peers(world.now(device.index)):
            assert not any(map(is_carried, peer.endpoints))
            assert peer.endpoint is None or not is_carried(peer.endpoint)
    one = next(peer for peer in world.mesh(0).peers(world.now()) if peer.node == world.devices[2].node)
    assert one.is_carried
    assert one.state == "up"


def test_a_move_to_where_udp_passes_is_seen_at_once() -> None:
    world = world_of(3, 10, 2)
    assert world.run_until(lambda: (2, 0) in world.streams.open, 3.0)
    world.run(2.0)
    world.blocked.clear()
    world.move(2, endpoint_of(77))
    node = world.devices[2].node

    def sides() -> set[bool]:
        ours = {peer.is_carried for peer in world.mesh(2).peers(world.now(2))}
        return ours | {peer.is_carried for peer in world.mesh(0).peers(world.now()) if peer.node == node}

    assert world.run_until(lambda: sides() == {False}, 3.0)
    assert world.all_up()
