"""The search for the largest packet: on ways that tell, that say nothing, that lose; and what becomes of it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from random import Random
from time import time

import pytest
import trio
from trio.testing import MockClock

from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmesh_protocol.keys import NodeId
from clanmeshd.core.effects import SetTunnels, Tunnel
from clanmeshd.overlay.device import TunnelState
from clanmeshd.overlay.path_mtu import OUTER_BYTES, SIZES, SMALL_BYTES, find, fitting
from clanmeshd.reconcile import Latest
from clanmeshd.sizing import AGAIN_S, Sizing
from tests.seeds import seeds

AT = endpoint("203.0.113.7", 51_872)
ELSEWHERE = endpoint("2001:db8::7", 51_872)
HOME = endpoint("127.0.0.1", 40_000)
OWN = frozenset({b"\x0a\0\0\1"})
A, B = (NodeId(bytes([n]) * 32) for n in (1, 2))


@dataclass
class Way:
    """A way that takes outer packets of `takes` bytes; `tells`: a router complains of larger ones."""

    takes: int = 1500
    tells: bool = False
    answers: bool = True
    loss: float = 0.0
    dice: Random = field(default_factory=lambda: Random(1))
    known: int = 1500  # to the system
    asked: list[int] = field(default_factory=list)
    ahead: list[int] = field(default_factory=list)
    rtt_s: float = 0.02

    async def is_answered(self, address: bytes, size: int, within_s: float) -> bool:
        """Go there and back, or wait in vain."""
        self.asked.append(size)
        outer = size + OUTER_BYTES[4]
        is_cut = outer > self.known
        if not is_cut and outer > self.takes:
            if self.tells:
                self.known = self.takes
            await trio.sleep(within_s)
            return False
        if not self.answers or self.dice.random() < self.loss:
            await trio.sleep(within_s)
            return False
        await trio.sleep(self.rtt_s)
        return True

    def outer_mtu(self, endpoint: Endpoint) -> int | None:
        """What the system knows by now."""
        return self.known

    def send_ahead(self, endpoint: Endpoint, outer_bytes: int) -> None:
        """Have routers complain."""
        self.ahead.append(outer_bytes)
        if self.tells and outer_bytes > self.takes:
            self.known = min(self.known, self.takes)

    def ceiling(self) -> int:
        """As the daemon works it out."""
        return fitting(self.known, AT.ip)

    async def find(self) -> int | None:
        """Search on it."""

        async def ask(size: int) -> bool:
            return await self.is_answered(b"", size, 1.0)

        return await find(ask, self.ceiling)


def test_the_sizes_leave_no_room_for_what_wireguard_adds() -> None:
    assert SIZES[0] == 1420
    assert SIZES[-1] == 1280
    assert all(size % 16 == 0 for size in SIZES[1:])
    assert list(SIZES) == sorted(SIZES, reverse=True)


@pytest.mark.parametrize(
    ("outer", "ip", "size"),
    [
        (1500, AT.ip, 1420),
        (1480, AT.ip, 1420),
        (1479, AT.ip, 1408),
        (1500, ELSEWHERE.ip, 1420),
        (1499, ELSEWHERE.ip, 1408),
        (1492, ELSEWHERE.ip, 1408),
        (1400, AT.ip, 1328),
        (1340, AT.ip, 1280),
        (1339, AT.ip, 0),
        (9000, AT.ip, 1420),
    ],
)
def test_what_fits_uncut(outer: int, ip: bytes, size: int) -> None:
    assert fitting(outer, ip) == size


async def test_a_common_way_takes_one_packet(autojump_clock: MockClock) -> None:
    way = Way()
    assert await way.find() == 1420
    assert way.asked == [1420]


@pytest.mark.parametrize("takes", [1340, 1341, 1355, 1356, 1400, 1408, 1467, 1468, 1479])
@pytest.mark.parametrize("tells", [False, True])
async def test_a_smaller_way_is_found_whether_it_tells_or_not(
    takes: int, tells: bool, autojump_clock: MockClock
) -> None:
    way = Way(takes, tells=tells)
    found = await way.find()
    assert found == fitting(takes, AT.ip)
    assert found + OUTER_BYTES[4] <= takes
    assert len(way.asked) <= 30
    assert trio.current_time() < 5


@pytest.mark.parametrize("known", [1400, 1492])
async def test_what_the_system_would_cut_is_not_tried(known: int, autojump_clock: MockClock) -> None:
    way = Way(takes=known, known=known)
    assert await way.find() == fitting(known, AT.ip)
    assert max(way.asked) + OUTER_BYTES[4] <= known


async def test_a_way_below_all_sizes_takes_the_least_in_pieces(autojump_clock: MockClock) -> None:
    assert await Way(takes=1300, known=1300).find() == 1280
    assert await Way(takes=1300, tells=True).find() == 1280


async def test_a_way_that_takes_small_packets_alone_is_told_from_one_that_is_silent(
    autojump_clock: MockClock,
) -> None:
    assert await Way(takes=1000).find() == SMALL_BYTES
    assert await Way(answers=False).find() is None


@pytest.mark.parametrize("loss", [0.1, 0.3])
async def test_losses_never_give_more_than_passes(loss: float, autojump_clock: MockClock) -> None:
    found = []
    for each in seeds(100):
        way = Way(takes=1400, loss=loss, dice=Random(each))
        size = await way.find()
        assert size is None or size <= 1328
        found.append(size)
    assert found.count(1328) > 50


async def test_limits_that_are_told_one_after_the_other(autojump_clock: MockClock) -> None:
    """The second router's is learnt when the first one's was heeded."""
    limits = [1460, 1420, 1400]
    known = [1500]

    async def ask(size: int) -> bool:
        outer = size + OUTER_BYTES[4]
        for limit in limits:
            if outer > limit:
                known[0] = min(known[0], limit)
                return False
        return True

    assert await find(ask, lambda: fitting(known[0], AT.ip)) == 1328


# --- in the daemon -------------------------------------------------------------------------------------


def tunnels(*nodes: NodeId) -> SetTunnels:
    made = tuple(Tunnel(node, node, bytes([*node[:1]]) * 16, AT, 0) for node in nodes)
    return SetTunnels(bytes(32), 51_872, bytes(16), 48, made)


def states(at: Endpoint = AT, age_s: float = 1.0, *nodes: NodeId) -> dict[bytes, TunnelState]:
    return {node: TunnelState(at, int(time() - age_s), 1, 1) for node in nodes or (A, B)}


class Stage:
    """A device with two peers."""

    def __init__(self, way: Way, own: Callable[[], frozenset[bytes]] = lambda: OWN) -> None:
        self.way = way
        self.wanted: Latest[SetTunnels] = Latest()
        self.sizing = Sizing(self.wanted, way, own)

    def sizes(self) -> dict[NodeId, int]:
        """What the overlay is told."""
        newest = self.sizing.tunnels.newest
        assert newest is not None
        return {tunnel.node: tunnel.mtu for tunnel in newest.tunnels}

    @asynccontextmanager
    async def under_way(self) -> AsyncIterator[None]:
        """Run, with both wanted."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.sizing.run)
            self.wanted.put(tunnels(A, B))
            await trio.testing.wait_all_tasks_blocked()
            assert self.sizes() == {A: 0, B: 0}
            yield
            nursery.cancel_scope.cancel()


async def test_nothing_is_tried_before_there_is_a_session(autojump_clock: MockClock) -> None:
    stage = Stage(Way())
    async with stage.under_way():
        stage.sizing.seen({})
        stage.sizing.seen(states(AT, 200.0))
        stage.sizing.seen({A: TunnelState(None, int(time()), 1, 1)})
        await trio.sleep(60)
    assert stage.way.asked == []


async def test_who_sleeps_is_let_sleep_and_keeps_what_was_proven(autojump_clock: MockClock) -> None:
    """Neither one that WireGuard rings for is tried, nor one that it still has elsewhere while it is to ring."""
    stage = Stage(Way())
    async with stage.under_way():
        stage.sizing.seen(states())
        await trio.sleep(10)
        asked = len(stage.way.asked)
        asleep = tuple(replace(tunnel, endpoint=HOME) for tunnel in tunnels(A, B).tunnels)
        stage.wanted.put(replace(tunnels(A, B), tunnels=asleep, bell=HOME))
        await trio.testing.wait_all_tasks_blocked()
        for at in (HOME, ELSEWHERE):
            stage.sizing.seen(states(at))
            await trio.sleep(10)
        assert len(stage.way.asked) == asked
        assert stage.sizes() == {A: 1420, B: 1420}


async def test_a_path_is_searched_once_and_another_one_anew(autojump_clock: MockClock) -> None:
    stage = Stage(Way())
    async with stage.under_way():
        for _ in range(5):
            stage.sizing.seen(states())
            await trio.sleep(1)
        assert stage.sizes() == {A: 1420, B: 1420}
        assert (len(stage.way.asked), len(stage.way.ahead)) == (2, 2)
        stage.way.takes = 1400
        stage.sizing.seen(states(ELSEWHERE, 1.0, A))
        assert stage.sizes() == {A: 0, B: 1420}  # at once: what was proven was another path
        await trio.sleep(10)
        assert stage.sizes() == {A: 1328, B: 1420}
        assert stage.sizing.size_of(A) == 1328


async def test_other_addresses_of_this_device_make_other_paths(autojump_clock: MockClock) -> None:
    own = [OWN]
    stage = Stage(Way(), lambda: own[0])
    async with stage.under_way():
        stage.sizing.seen(states())
        await trio.sleep(1)
        own[0] = frozenset({b"\x0a\0\0\2"})
        stage.sizing.seen(states())
        assert stage.sizes() == {A: 0, B: 0}
        await trio.sleep(1)
        assert stage.sizes() == {A: 1420, B: 1420}


async def test_who_answers_nothing_is_tried_few_times(autojump_clock: MockClock) -> None:
    stage = Stage(Way(answers=False))
    async with stage.under_way():
        for _ in range(int(2 * sum(AGAIN_S))):
            stage.sizing.seen(states(AT, 1.0, A))
            await trio.sleep(1)
        assert len(stage.way.ahead) == 1 + len(AGAIN_S)
        assert stage.sizes() == {A: 0, B: 0}


async def test_a_path_that_rested_is_proven_again_when_it_is_used(autojump_clock: MockClock) -> None:
    stage = Stage(Way())
    async with stage.under_way():
        stage.sizing.seen(states(AT, 175.0, A))
        await trio.sleep(1)
        stage.way.takes = 1400
        stage.sizing.seen(states(AT, 60.0, A))  # the same session goes on
        await trio.sleep(10)
        assert stage.sizes()[A] == 1420
        stage.sizing.seen({A: TunnelState(AT, int(time()) + 130, 1, 1)})
        await trio.sleep(10)
        assert stage.sizes()[A] == 1328


async def test_who_is_gone_is_forgotten_and_a_late_answer_changes_nothing(autojump_clock: MockClock) -> None:
    stage = Stage(Way(rtt_s=0.9))
    async with stage.under_way():
        stage.sizing.seen(states())
        await trio.sleep(0.1)
        stage.wanted.put(tunnels(B))
        await trio.sleep(5)
        assert stage.sizes() == {B: 1420}
        assert stage.sizing.size_of(A) is None


async def test_nothing_goes_ahead_to_a_relay_that_a_stream_carries(autojump_clock: MockClock) -> None:
    stage = Stage(Way(known=65_536))
    async with stage.under_way():
        stage.sizing.seen(states(HOME, 1.0, A))
        await trio.sleep(1)
        assert stage.sizes()[A] == 1420
    assert stage.way.ahead == []
