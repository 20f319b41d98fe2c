"""The first handshake of a pair: who begins it, when, and that nobody begins a second one."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from clanmesh_protocol.endpoints import endpoint
from clanmesh_protocol.keys import NodeId
from clanmeshd.core.effects import SetTunnels, Tunnel
from clanmeshd.overlay.backend import TunnelState
from clanmeshd.overlay.greeting import MOVED_S, RENEWED_S, STAGGER_S, Greeter

LOW, HIGH = b"\xfd" + bytes(15), b"\xfd" + b"\xff" * 15


class Interface:
    """A backend that only remembers: what was applied, and with whom there is a session."""

    kind = "none"

    def __init__(self) -> None:
        self.applied = 0
        self.peers: list[set[bytes]] = []
        self.sessions: dict[bytes, TunnelState] = {}
        self.lost: frozenset[bytes] = frozenset()

    async def apply(self, wanted: SetTunnels) -> None:
        self.applied += 1
        self.peers.append({tunnel.address for tunnel in wanted.tunnels})

    def take_lost(self) -> frozenset[bytes]:
        lost, self.lost = self.lost, frozenset()
        return lost

    async def read(self) -> Mapping[bytes, TunnelState]:
        return self.sessions

    async def close(self) -> None:
        return


def _wanted(own: bytes, *peers: bytes, reachable: bool = True) -> SetTunnels:
    at = endpoint("192.0.2.1", 51872) if reachable else None
    tunnels = tuple(Tunnel(NodeId(peer * 2), peer * 2, peer, at, 0) for peer in peers)
    return SetTunnels(bytes(32), 51872, own, 48, tunnels)


async def _greetings(wanted: list[SetTunnels], interface: Interface) -> list[tuple[bytes, float]]:
    sent: list[tuple[bytes, float]] = []
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        greeter = Greeter(interface, nursery, lambda address: sent.append((address, trio.current_time() - began)))
        for value in wanted:
            await greeter.apply(value)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    return sent


async def test_the_lower_address_begins_at_once(autojump_clock: MockClock) -> None:
    assert await _greetings([_wanted(LOW, HIGH)], Interface()) == [(HIGH, 0.0)]


async def test_the_higher_address_waits_a_moment(autojump_clock: MockClock) -> None:
    assert await _greetings([_wanted(HIGH, LOW)], Interface()) == [(LOW, pytest.approx(STAGGER_S))]


async def test_nobody_begins_where_a_session_is(autojump_clock: MockClock) -> None:
    interface = Interface()
    interface.sessions[LOW * 2] = TunnelState(None, 1_800_000_000, 0, 0)
    assert await _greetings([_wanted(HIGH, LOW)], interface) == []


async def test_a_peer_is_greeted_once_and_again_when_it_comes_back(autojump_clock: MockClock) -> None:
    twice = [_wanted(LOW, HIGH), _wanted(LOW, HIGH)]
    assert len(await _greetings(twice, Interface())) == 1
    back = [_wanted(LOW, HIGH), _wanted(LOW), _wanted(LOW, HIGH)]
    assert len(await _greetings(back, Interface())) == 2


async def test_a_peer_that_moves_is_greeted_again_unless_there_is_a_session(autojump_clock: MockClock) -> None:
    home, away = _wanted(LOW, HIGH), _wanted(LOW, HIGH)
    elsewhere = replace(away.tunnels[0], endpoint=endpoint("192.0.2.2", 51872))
    moved = [home, replace(away, tunnels=(elsewhere,))]
    assert [at for at, _ in await _greetings(moved, Interface())] == [HIGH, HIGH]
    interface = Interface()
    interface.sessions[HIGH * 2] = TunnelState(None, 1_800_000_000, 0, 0)
    assert await _greetings(moved, interface) == []


async def test_a_peer_without_an_address_is_waited_for(autojump_clock: MockClock) -> None:
    interface = Interface()
    assert await _greetings([_wanted(LOW, HIGH, reachable=False)], interface) == []
    assert interface.applied == 1


async def test_a_session_that_was_lost_is_begun_anew_at_once(autojump_clock: MockClock) -> None:
    """By the side that lost it, whichever that is: the other one does not know."""
    interface = Interface()
    interface.sessions[LOW * 2] = TunnelState(None, 1_800_000_000, 0, 0)
    interface.lost = frozenset({LOW * 2, bytes(32)})
    assert await _greetings([_wanted(HIGH, LOW), _wanted(HIGH, LOW)], interface) == [(LOW, 0.0)]


async def test_a_peer_that_waits_elsewhere_is_greeted_at_once(autojump_clock: MockClock) -> None:
    home, away = _wanted(LOW, HIGH), _wanted(LOW, HIGH)
    at = endpoint("192.0.2.2", 51872)
    times = {}
    for begins in (False, True):
        elsewhere = replace(away.tunnels[0], endpoint=at, begins=begins)
        sent = await _greetings([home, replace(away, tunnels=(elsewhere,))], Interface())
        times[begins] = sent[1][1]
    assert times == {False: pytest.approx(MOVED_S), True: 0.0}


OTHER = b"\xfd" + b"\xaa" * 15


def _begun(at: str = "192.0.2.2") -> SetTunnels:
    """The other side waits for our handshake there."""
    wanted = _wanted(LOW, HIGH, OTHER)
    first, second = wanted.tunnels
    return replace(wanted, tunnels=(replace(first, endpoint=endpoint(at, 51872), begins=True), second))


async def test_a_handshake_that_led_to_nothing_is_made_anew_once(autojump_clock: MockClock) -> None:
    interface = Interface()
    sent = await _greetings([_begun()], interface)
    assert [at_s for address, at_s in sent if address == HIGH] == [0.0, pytest.approx(RENEWED_S)]
    assert interface.peers == [{HIGH, OTHER}, {OTHER}, {HIGH, OTHER}]


async def test_not_where_there_is_a_session_by_then(autojump_clock: MockClock) -> None:
    interface = Interface()

    async with trio.open_nursery() as nursery:
        greeter = Greeter(interface, nursery, lambda address: None)
        await greeter.apply(_begun())
        await trio.sleep(RENEWED_S / 2)
        interface.sessions[HIGH * 2] = TunnelState(None, 1_800_000_000, 0, 0)
    assert interface.applied == 1


async def test_nor_where_the_peer_is_elsewhere_or_gone_by_then(autojump_clock: MockClock) -> None:
    for later in (_begun("192.0.2.3"), _wanted(LOW, OTHER)):
        interface = Interface()
        await _greetings([_begun(), later], interface)
        renewed = [peers for peers in interface.peers[2:] if HIGH not in peers]
        assert len(renewed) == (1 if later == _begun("192.0.2.3") else 0), "the last one alone"


async def test_nor_where_the_session_is_one_by_the_key_that_takes_its_place(autojump_clock: MockClock) -> None:
    interface, wanted = Interface(), _begun()
    first, second = wanted.tunnels
    interface.sessions[bytes(32)] = TunnelState(None, 1_800_000_000, 0, 0)
    rotating = replace(wanted, tunnels=(replace(first, following=bytes(32)), second))
    assert HIGH not in [address for address, _ in await _greetings([rotating], interface)]
    assert interface.applied == 1


async def test_nor_where_the_peer_has_slept(autojump_clock: MockClock) -> None:
    """What woke it waits in WireGuard."""
    bell, awake = endpoint("127.0.0.1", 7), replace(_begun(), bell=endpoint("127.0.0.1", 7))
    first, second = awake.tunnels
    asleep = replace(awake, tunnels=(replace(first, endpoint=bell, begins=False), second))
    interface = Interface()
    await _greetings([asleep, awake], interface)
    assert interface.applied == 2
    interface = Interface()
    await _greetings([awake], interface)
    assert interface.applied == 3
