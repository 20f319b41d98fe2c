"""Between the path engine and the rest of the daemon: what is told to it, and what becomes of what it wants."""

import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.signalling import CallKind, Candidate, CandidateKind, NatKind
from clanmeshd.core.effects import Called, Instant, Reflected, SetTunnels, Tunnel
from clanmeshd.core.limits import SILENT_S
from clanmeshd.core.mesh import Mesh
from clanmeshd.core.peers import Peer
from clanmeshd.core.subjects import State
from clanmeshd.driver import instant
from clanmeshd.overlay.device import TunnelState
from clanmeshd.overlay.path_terms import SEARCH_S, PathKind, Why
from clanmeshd.ringing import LOOKS_S, STRAY_S
from clanmeshd.steering import FIRST_WAIT_S, NEWS_S, RUNG_WAIT_S, TICK_S, Steering
from clanmeshd.steering_terms import NOWHERE, UNWILLING_S, Way, steered
from tests.core.households import Device, Household, Silence
from tests.core.steering_world import World

TUNNEL_PORT = 51872
OWN = endpoint("192.0.2.1", TUNNEL_PORT)
SEEN = endpoint("203.0.113.5", 40_000)


@pytest.fixture
async def house(tmp_path: Path) -> Household:
    house = Household(tmp_path)
    await house.join("nas", "phone")
    return house


@asynccontextmanager
async def steering(device: Device, awake_max: int = 64) -> AsyncIterator[tuple[Steering, World]]:
    """A device's steering under way, and what is around it."""
    world, driver = World(), device.clan.driver
    own = NodeId(device.node)
    steering = Steering(driver, own, TUNNEL_PORT, world.machine(), world, world, world, awake_max)
    await driver.settle()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(steering.run)
        await trio.testing.wait_all_tasks_blocked()
        yield steering, world
        nursery.cancel_scope.cancel()


def other(steering: Steering) -> Tunnel:
    """The first of the other devices."""
    wanted = steering.driver.slots.tunnels.newest
    assert wanted is not None
    return wanted.tunnels[0]


def now_wanted(steering: Steering) -> Tunnel:
    """Its tunnel as WireGuard shall have it."""
    wanted = steering.steered.newest
    assert wanted is not None
    return wanted.tunnels[0]


def test_ways_lie_over_the_wanted_tunnels_and_nothing_else_changes() -> None:
    at = endpoint("192.0.2.1", 1)
    tunnels = tuple(Tunnel(NodeId(bytes([n]) * 32), bytes([n]) * 32, bytes([n]) * 16, at, 25) for n in (1, 2))
    wanted = SetTunnels(bytes(32), TUNNEL_PORT, bytes(16), 48, tunnels)
    assert steered(wanted, {}) == wanted
    first, second = steered(wanted, {tunnels[1].node: Way(SEEN, 0)}).tunnels
    assert first == tunnels[0]
    assert (second.endpoint, second.keepalive_s, second.public_key) == (SEEN, 0, tunnels[1].public_key)


async def test_what_two_answers_prove_is_used(house: Household, autojump_clock: MockClock) -> None:
    async with steering(house["desk"]) as (steer, world):
        peer = other(steer)
        assert set(world.members) == {NodeId(house[name].node) for name in ("nas", "phone")}
        target = next(at for node, at in world.probed if node == peer.node)
        assert target.port == TUNNEL_PORT
        before = now_wanted(steer)
        for _ in range(2):
            steer.proven(peer.node, target, 0.001, OWN)
        await trio.sleep(FIRST_WAIT_S * 1.1)  # whichever side begins
        assert now_wanted(steer).endpoint == target
        assert now_wanted(steer).public_key == before.public_key
        standing = steer.standing(peer.node)
        assert standing is not None
        assert standing.kind is PathKind.LAN


@pytest.mark.parametrize("has_session", [False, True])
async def test_the_side_that_does_not_begin_waits_for_the_other_ones_handshake(
    house: Household, autojump_clock: MockClock, has_session: bool
) -> None:
    """Its WireGuard answers wherever that comes from. With a session there is no handshake to wait for."""
    names = {house[name].clan.driver.slots.tunnels.newest.address: name for name in ("desk", "nas", "phone")}
    async with steering(house[names[max(names)]]) as (steer, world):
        peer, before = other(steer), now_wanted(steer).endpoint
        if has_session:
            world.counts[peer.public_key] = TunnelState(SEEN, int(time.time()), 1, 1)
        target = endpoint("198.51.100.7", 7)
        steer.heard(peer.node, target)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(2):
            steer.proven(peer.node, target, 0.001, OWN)
        await trio.testing.wait_all_tasks_blocked()
        assert now_wanted(steer).endpoint == (target if has_session else before)
        await trio.sleep(FIRST_WAIT_S * 1.1)
        assert now_wanted(steer).endpoint == target


async def test_a_direct_tunnel_that_followed_the_relay_is_wanted_once_more(
    house: Household, autojump_clock: MockClock
) -> None:
    relay, target = endpoint("192.0.2.99", 51873), endpoint("198.51.100.7", 7)
    async with steering(house["desk"]) as (steer, world):
        peer, via = other(steer), NodeId(house["phone"].node)
        steer.ready(peer.node, via, relay, ())
        steer.heard(peer.node, target)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(2):
            steer.proven(peer.node, target, 0.001, OWN)
        await trio.sleep(FIRST_WAIT_S * 1.1)
        assert (now_wanted(steer).endpoint, now_wanted(steer).not_at) == (target, relay)
        await steer.steered.changed()
        for at, is_wanted in ((target, False), (relay, True)):
            world.counts[peer.public_key] = TunnelState(at, int(time.time()), 1, 1)
            world.packets += 1
            with trio.move_on_after(1.5 * TICK_S) as unmoved:
                await steer.steered.changed()
            assert unmoved.cancelled_caught is not is_wanted
            told = steer.driver.mesh.meeting._tellings._tunnels
            assert told == ({} if at == relay else {peer.node: at}), "a relay is not where the peer is seen"


async def test_calls_open_and_go_out(house: Household, autojump_clock: MockClock) -> None:
    async with steering(house["desk"]) as (steer, world):
        peer = other(steer)
        call = Called(peer.node, CallKind.ASK, NatKind.EASY, (Candidate(CandidateKind.SEEN, SEEN),))
        steer.driver.on_signal(call)
        await trio.testing.wait_all_tasks_blocked()
        assert (peer.node, SEEN) in world.opened


async def test_nobody_up_is_a_reason(house: Household, autojump_clock: MockClock) -> None:
    async with steering(house["desk"]) as (steer, world):
        await trio.sleep(10)
        standing = steer.standing(other(steer).node)
        assert standing is not None
        assert (standing.kind, standing.why) == (PathKind.NONE, Why.NO_CARRIER)
        assert standing.next_try_s is not None
        assert {carried for *_, carried in world.asked} == {True}  # by streams, the one thing that is left


async def test_a_stream_in_the_place_of_datagrams_says_that_udp_is_blocked(
    house: Household, autojump_clock: MockClock
) -> None:
    async with steering(house["desk"]) as (steer, _):
        node, mesh = other(steer).node, steer.driver.mesh
        await trio.sleep(SILENT_S)  # its members may have come later than it began
        mesh.handle_deadline(instant())
        await steer.driver.settle()
        wanted = steer.driver.slots.carriers.newest
        assert wanted is not None
        assert node in {holder.node for holder in wanted.carriers}
        mesh.carried(node, instant(), is_carried=True)
        await steer.driver.settle()
        steer.driver.on_signal(Called(node, CallKind.OPENED, NatKind.EASY, ()))
        assert steer.paths.own.nat is NatKind.BLOCKED
        assert steer.driver.news.statistics().tasks_waiting == 0  # who waited was told


async def test_what_others_see_and_the_router_promised_is_called(
    house: Household, autojump_clock: MockClock
) -> None:
    async with steering(house["desk"]) as (steer, world):
        world.mapped = (endpoint("203.0.113.5", 51_999),)
        steer.driver.on_signal(Reflected(NatKind.EASY, (SEEN,), ()))
        kinds = [each.kind for each in steer.paths.own.candidates]
        assert kinds == [CandidateKind.MAPPED, CandidateKind.SEEN, CandidateKind.LAN]
        assert steer.paths.own.nat is NatKind.EASY


async def test_counters_are_read_when_something_moves_and_members_told(
    house: Household, autojump_clock: MockClock
) -> None:
    async with steering(house["desk"]) as (steer, world):
        await trio.sleep(120)  # before a relay is asked for it is looked whether one is needed, some times
        looks = world.looks
        await trio.sleep(60)
        assert world.looks == looks <= 10
        peer = other(steer)
        world.counts = {peer.public_key: TunnelState(SEEN, 1_800_000_000, 10, 10)}
        world.packets += 1
        await trio.sleep(2 * TICK_S)
        assert world.looks == looks + 1
        assert steer.driver.mesh.meeting._tellings._tunnels == {peer.node: SEEN}


async def test_a_dead_path_is_left_and_the_peer_asked_for_a_sign(
    house: Household, autojump_clock: MockClock
) -> None:
    async with steering(house["desk"]) as (steer, world):
        peer = other(steer)
        target = next(at for node, at in world.probed if node == peer.node)
        for _ in range(2):
            steer.proven(peer.node, target, 0.001, OWN)
        for sent in range(8):
            world.counts = {peer.public_key: TunnelState(target, 1_800_000_000, 500, 100 * sent)}
            world.packets += 1
            await trio.sleep(0.5 * TICK_S)
        assert world.greeted
        assert set(world.greeted) == {peer.address}
        assert world.looks > 4
        standing = steer.standing(peer.node)
        assert standing is not None
        assert standing.kind is PathKind.NONE


async def test_moves_and_sleep_are_noticed(house: Household, autojump_clock: MockClock) -> None:
    async with steering(house["desk"]) as (steer, world):
        await trio.sleep(2 * TICK_S)
        moves, probed = world.moves, len(world.probed)
        world.slept_s = 3600.0
        await trio.sleep(1.5 * TICK_S)
        assert world.moves == moves + 1
        assert len(world.probed) > probed
        steer.driver.mesh.set_endpoints([endpoint("192.168.77.7", 51_871)], instant())
        await trio.sleep(1.5 * TICK_S)
        assert world.moves == moves + 2
        assert steer.paths.own.ips == {endpoint("192.168.77.7", 1).ip}


async def test_after_a_move_it_sends_nowhere_until_it_knows_where(
    house: Household, autojump_clock: MockClock
) -> None:
    async with steering(house["desk"]) as (steer, _):
        peer = other(steer)
        call = Called(peer.node, CallKind.OPENED, NatKind.EASY, (Candidate(CandidateKind.SEEN, SEEN),))
        steer.driver.on_signal(call)
        for _ in range(2):
            steer.proven(peer.node, SEEN, 0.04, OWN)
        await trio.sleep(FIRST_WAIT_S * 1.1)  # whichever side begins
        assert now_wanted(steer).endpoint == SEEN
        steer.driver.mesh.set_endpoints([endpoint("192.168.77.7", 51_871)], instant())
        steer.look_around()
        await trio.testing.wait_all_tasks_blocked()
        assert now_wanted(steer).endpoint == NOWHERE


async def test_an_answer_says_where_this_device_is_seen(house: Household, autojump_clock: MockClock) -> None:
    async with steering(house["desk"]) as (steer, _):
        nodes = [tunnel.node for tunnel in steer.steered.newest.tunnels]  # type: ignore[union-attr]
        for node in nodes:
            steer.proven(node, SEEN, 0.04, OWN)
        await trio.testing.wait_all_tasks_blocked()
        assert steer.paths.own.nat is NatKind.NONE
        for node in nodes:
            steer.proven(node, SEEN, 0.04, SEEN)
        await trio.testing.wait_all_tasks_blocked()
        assert steer.paths.own.nat is NatKind.EASY
        assert Candidate(CandidateKind.SEEN, SEEN) in steer.paths.own.candidates


async def test_who_does_not_relay_is_not_asked_for_other_pairs_unless_it_has_the_tag(
    house: Household, autojump_clock: MockClock
) -> None:
    async with steering(house["desk"]) as (steer, _):
        public, tagged = (NodeId(house[name].node) for name in ("nas", "phone"))
        peers = [
            Peer(node, "it", tags, bytes(16), State.UP, SEEN, (SEEN,), 1.0, 0.0, None)
            for node, tags in ((public, ()), (tagged, ("relay",)))
        ]
        steer._follow_peers(peers)
        assert set(steer._relays) == {public, tagged}
        for via in (public, tagged):
            steer.failed(tagged, via, "broken", "it is away")
        steer._follow_peers(peers)
        assert set(steer._relays) == {public, tagged}
        for via in (public, tagged):
            steer.failed(tagged, via, "unwilling", "this device does not relay")
        steer._follow_peers(peers)
        assert set(steer._relays) == {tagged}
        await trio.sleep(UNWILLING_S)
        steer._follow_peers(peers)
        assert set(steer._relays) == {public, tagged}


async def test_while_much_goes_through_probes_are_listened_to_only_where_a_path_is_sought(
    house: Household, autojump_clock: MockClock
) -> None:
    async with steering(house["desk"]) as (steer, world):
        peer = other(steer)

        async def much() -> None:
            world.packets += 1
            world.counts = {peer.public_key: TunnelState(SEEN, int(time.time()), world.packets * 10**8, 0)}
            await trio.sleep(TICK_S)

        with trio.fail_after(600):  # a search that is under way or begins is over by then
            while steer.hearing.is_on:
                await much()
        steer.driver.on_signal(Called(peer.node, CallKind.ASK, NatKind.EASY, ()))
        assert steer.hearing.is_on
        await trio.sleep(60)
        assert steer.hearing.is_on, "nothing has gone through any more"


async def test_who_sleeps_is_where_it_rings_from_the_first_moment_on(
    house: Household, autojump_clock: MockClock
) -> None:
    async with steering(house["desk"], awake_max=1) as (steer, world):
        steered = await steer.steered.changed()
        assert {tunnel.endpoint for tunnel in steered.tunnels} == {steered.bell} == {world.endpoint}
        assert set(world.ringers.values()) == {tunnel.node for tunnel in steered.tunnels}
        assert not world.probed


async def test_what_rang_goes_on_at_once_to_where_the_peer_says_that_it_is_and_then_to_what_is_proven(
    house: Household, autojump_clock: MockClock
) -> None:
    async with steering(house["desk"], awake_max=1) as (steer, world):
        peer, target = other(steer), endpoint("198.51.100.7", 7)
        steer.rung(peer.node, b"handshake")
        await trio.testing.wait_all_tasks_blocked()
        assert world.sent_on == [(b"handshake", peer.endpoint)]
        assert now_wanted(steer).endpoint is None, "the answer to it may move WireGuard there"
        assert {node for node, _ in world.probed} == {peer.node}
        steer.heard(peer.node, target)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(2):
            steer.proven(peer.node, target, 0.001, OWN)
        await trio.sleep(RUNG_WAIT_S * 1.1)  # whichever side begins
        assert (b"handshake", target) in world.sent_on
        assert now_wanted(steer).endpoint == target


async def test_packets_that_do_not_say_for_whom_they_are_are_for_the_one_that_was_sent_to(
    house: Household, autojump_clock: MockClock
) -> None:
    async with steering(house["desk"], awake_max=1) as (steer, world):
        one, two = steer.steered.newest.tunnels  # type: ignore[union-attr]
        world.counts = {each.public_key: TunnelState(None, int(time.time()), 500, 500) for each in (one, two)}
        steer.rung(None, b"nobody's")
        await trio.sleep(STRAY_S)
        world.counts[two.public_key] = TunnelState(None, int(time.time()), 500, 580)
        steer.rung(None, b"data")
        await trio.testing.wait_all_tasks_blocked()
        assert {node for node, _ in world.probed} == {two.node}
        assert {packet for packet, _ in world.sent_on} == {b"data"}


async def test_a_packet_that_is_counted_once_it_has_rung_goes_on_as_soon(
    house: Household, autojump_clock: MockClock
) -> None:
    async with steering(house["desk"], awake_max=1) as (steer, world):
        peer = other(steer)
        world.counts = {peer.public_key: TunnelState(None, int(time.time()), 500, 500)}
        await steer._count()
        begun_s = trio.current_time()
        steer.rung(None, b"data")
        await trio.testing.wait_all_tasks_blocked()
        world.counts = {peer.public_key: TunnelState(None, int(time.time()), 580, 500)}
        with trio.fail_after(TICK_S / 2):
            while not world.sent_on:
                await trio.sleep(0.001)
        assert world.sent_on[0] == (b"data", peer.endpoint)
        assert trio.current_time() - begun_s <= 2 * LOOKS_S[0]


async def test_one_that_is_found_nowhere_is_where_its_record_says(
    house: Household, autojump_clock: MockClock
) -> None:
    async with steering(house["desk"], awake_max=1) as (steer, _):
        peer = other(steer)
        steer.rung(peer.node, b"handshake")
        await trio.sleep(SEARCH_S + 1.0)
        assert now_wanted(steer).endpoint == peer.endpoint


async def test_who_is_up_is_heeded_in_the_same_moment_and_a_crowd_after_a_pause(
    house: Household, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock stands still but where it is moved: nothing that waits for a moment can have happened."""
    sent = deque[tuple[bytes, Endpoint]]()
    monkeypatch.setattr(Silence, "send", lambda self, data, destination: sent.append((data, destination)))
    devices = {device.mesh.endpoints[0]: device for device in house}

    async def meet(one: Device, two: Device) -> None:
        one.mesh.greet(NodeId(two.node), instant())
        await one.clan.driver.settle()
        while sent:
            data, destination = sent.popleft()
            if destination in devices and (to := devices[destination]) in (one, two):
                to.mesh.receive(data, (two if to is one else one).mesh.endpoints[0], instant())
                await to.clan.driver.settle()
        await trio.testing.wait_all_tasks_blocked()

    desk, nas, phone = (house[name] for name in ("desk", "nas", "phone"))
    async with steering(desk) as (steer, _):
        mock_clock.jump(NEWS_S)
        await trio.testing.wait_all_tasks_blocked()
        await meet(desk, nas)
        assert steer._up == {nas.node}
        await meet(desk, phone)
        assert steer._up == {nas.node}
        mock_clock.jump(NEWS_S)
        await trio.testing.wait_all_tasks_blocked()
        assert steer._up == {nas.node, phone.node}


async def test_records_of_other_things_are_no_reason_to_look_at_everybody(
    house: Household, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, peers = list[Mesh](), Mesh.peers

    def counted(mesh: Mesh, now: Instant) -> list[Peer]:
        looks.append(mesh)
        return peers(mesh, now)

    monkeypatch.setattr(Mesh, "peers", counted)
    async with steering(house["desk"]) as (steer, _):
        mock_clock.jump(NEWS_S)
        await trio.testing.wait_all_tasks_blocked()
        looks.clear()
        news = steer.driver.news
        await house["phone"].call("secrets-set", name="wifi", value=b"value", **{"for": ["all"]})
        await house.share()
        mock_clock.jump(NEWS_S)
        await trio.testing.wait_all_tasks_blocked()
        assert news.is_set()
        assert not looks
        await house.join("tv")
        await trio.testing.wait_all_tasks_blocked()
        assert looks
