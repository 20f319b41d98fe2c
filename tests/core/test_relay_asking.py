"""What a device makes of relays that agree, refuse, lie, stall or die; on a virtual clock, without sockets."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest
import trio
import trio.testing

from clanmesh_protocol.binds import read_bind_untrusted
from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmesh_protocol.errors import MalformedError
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.stream_relay import Relayed, Release, WantRelay
from clanmesh_protocol.streams import End, Frame, Purpose
from clanmeshd.core.effects import Holder
from clanmeshd.net.stream import Stream, StreamBroken, StreamRefused
from clanmeshd.relays.asking import AGAIN_S_MIN, ANSWER_S, Asker, first_of

PEER, RELAY = NodeId(b"p" * 32), NodeId(b"r" * 32)
ANSWERED = endpoint("203.0.113.7", 51871)
LISTED = endpoint("198.51.100.7", 51871)
VICTIM = endpoint("192.0.2.66", 51873)
INSIDE = bytes.fromhex("fd0102030405")
HOLDER = Holder(RELAY, (ANSWERED, LISTED), frozenset())
AT, OTHER_AT = ANSWERED._replace(port=51873), LISTED._replace(port=51873)
LIFETIME_S = 300

Answer = Callable[[Frame], Awaitable[Frame]]


def relayed(*endpoints: Endpoint, token: bytes = b"t" * 32) -> Relayed:
    """An answer."""
    return Relayed(endpoints, LIFETIME_S, token)


@dataclass
class World:
    """A relay that answers as it is told, and all that comes of it with its time."""

    answer: Answer
    asked: list[tuple[float, Frame]] = field(default_factory=list)
    told: list[tuple[float, object]] = field(default_factory=list)
    sent: list[tuple[Endpoint, bytes]] = field(default_factory=list)

    @asynccontextmanager
    async def connect(self, holder: Holder, purpose: Purpose) -> AsyncIterator[Stream]:
        """Open a stream to it."""
        assert purpose == Purpose.RELAY
        frames: list[Frame] = []

        async def send(frame: Frame) -> None:
            self.asked.append((trio.current_time(), frame))
            frames.append(frame)

        async def receive() -> Frame:
            return await self.answer(frames.pop())

        yield cast(Stream, SimpleNamespace(send=send, receive=receive, link=SimpleNamespace(peer_ip=ANSWERED.ip)))

    def ready(self, node: NodeId, via: NodeId, at: Endpoint, shared: tuple[Endpoint, ...]) -> None:
        """It relays."""
        assert (node, via) == (PEER, RELAY)
        self.told.append((trio.current_time(), (at, *shared)))

    def failed(self, node: NodeId, via: NodeId, code: str, why: str) -> None:
        """It does not."""
        assert why
        self.told.append((trio.current_time(), code))

    def bind(self, to: Endpoint, packet: bytes) -> None:
        """Send from WireGuard's port."""
        self.sent.append((to, packet))


async def lived(answer: Answer, seconds: float, *, then: Callable[[Asker], None] = lambda asker: None) -> World:
    """Ask, let so much time pass, do something, and let a second pass."""
    world = World(answer)
    asker = Asker(world, world, 51872, INSIDE, world.bind)
    async with trio.open_nursery() as nursery:
        await nursery.start(asker.run)
        asker.ask(PEER, HOLDER, carried=False)
        await trio.sleep(seconds)
        then(asker)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    return world


async def agree(frame: Frame) -> Frame:
    """Agree to all."""
    return relayed(AT) if isinstance(frame, WantRelay) else End()


async def test_one_that_agrees_is_asked_again_in_time(autojump_clock: trio.testing.MockClock) -> None:
    world = await lived(agree, 2 * LIFETIME_S)
    assert [at for _, at in world.told] == [(AT, AT)]
    times = [when for when, frame in world.asked if frame == WantRelay(PEER, False)]
    pauses = [late - early for early, late in itertools.pairwise(times)]
    assert len(pauses) >= 3
    assert max(pauses) < 0.6 * LIFETIME_S


async def test_each_answer_is_followed_by_binds(autojump_clock: trio.testing.MockClock) -> None:
    world = await lived(agree, 1)
    assert {to for to, _ in world.sent} == {AT}
    numbers = [read_bind_untrusted(b"t" * 32, packet) for _, packet in world.sent]
    assert numbers == sorted(set(numbers))
    assert len(numbers) > 1


async def test_what_is_given_back_is_not_asked_for_again(autojump_clock: trio.testing.MockClock) -> None:
    world = await lived(agree, 1, then=lambda asker: asker.drop(PEER, HOLDER))
    assert world.asked[-1][1] == Release(PEER)
    assert len(world.told) == 1


async def test_asking_again_asks_at_once(autojump_clock: trio.testing.MockClock) -> None:
    world = await lived(agree, 1, then=lambda asker: asker.ask(PEER, HOLDER, carried=False))
    assert [frame for _, frame in world.asked] == [WantRelay(PEER, False)] * 2
    assert len(world.told) == 2


async def test_a_refusal_is_told_with_its_code(autojump_clock: trio.testing.MockClock) -> None:
    async def refuse(frame: Frame) -> Frame:
        raise StreamRefused("full", "no port is left")

    world = await lived(refuse, 1)
    assert [what for _, what in world.told] == ["full"]


async def test_one_that_has_not_heard_of_a_key_is_asked_again_in_a_moment(
    autojump_clock: trio.testing.MockClock,
) -> None:
    refusals = ["unknown-key"]

    async def hear(frame: Frame) -> Frame:
        if refusals:
            raise StreamRefused(refusals.pop(), "try again in a moment")
        return await agree(frame)

    world = await lived(hear, 1)
    assert [at for _, at in world.told] == [(AT, AT)]
    refusals += ["unknown-key"] * 9
    assert [code for _, code in (await lived(hear, 2)).told] == ["unknown-key"]


async def test_one_that_stalls_is_left(autojump_clock: trio.testing.MockClock) -> None:
    async def stall(frame: Frame) -> Frame:
        await trio.sleep_forever()
        raise AssertionError

    began_s = trio.current_time()
    world = await lived(stall, 10)
    [(when_s, code)] = world.told
    assert code == "broken"
    assert when_s - began_s <= ANSWER_S < 5


async def test_one_that_dies_is_tried_until_its_time_is_over(autojump_clock: trio.testing.MockClock) -> None:
    answers = iter([relayed(AT)])

    async def die(frame: Frame) -> Frame:
        try:
            return next(answers)
        except StopIteration:
            raise StreamBroken("the peer vanished") from None

    world = await lived(die, 2 * LIFETIME_S)
    assert len(world.asked) >= 3
    assert [what for _, what in world.told] == [(AT, AT), "broken"]
    assert LIFETIME_S / 2 < world.told[1][0] - world.told[0][0] <= LIFETIME_S


async def test_one_that_comes_back_with_another_port(autojump_clock: trio.testing.MockClock) -> None:
    answers = iter([relayed(AT), relayed(AT._replace(port=51874)), relayed(AT._replace(port=51874))])

    async def move(frame: Frame) -> Frame:
        return next(answers)

    world = await lived(move, 0.9 * LIFETIME_S)
    assert [at for _, (at, _) in world.told] == [AT, AT._replace(port=51874)]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("said", "used"),
    [
        ([AT], (AT,)),
        ([OTHER_AT, AT], (AT, OTHER_AT)),
        ([OTHER_AT], (AT, OTHER_AT)),
        ([VICTIM], (AT,)),
        ([VICTIM, AT], (AT,)),
        ([Endpoint(INSIDE + bytes(10), 51873), endpoint("127.0.0.1", 1), endpoint("224.0.0.1", 1)], (AT,)),
    ],
)
async def test_no_address_but_its_own_is_believed(
    said: list[Endpoint], used: tuple[Endpoint, ...], autojump_clock: trio.testing.MockClock
) -> None:
    async def lie(frame: Frame) -> Frame:
        return relayed(*said)

    world = await lived(lie, 1)
    assert [told for _, told in world.told] == [(used[0], *used)]
    assert {to for to, _ in world.sent} == {AT}


@pytest.mark.parametrize("answer", [relayed(), End(), WantRelay(PEER, False)])
async def test_nonsense_is_a_failure(answer: Frame, autojump_clock: trio.testing.MockClock) -> None:
    async def babble(frame: Frame) -> Frame:
        return answer

    world = await lived(babble, 1)
    assert [what for _, what in world.told] == ["broken"]


@pytest.mark.parametrize("lifetime_s", [0, 1])
async def test_one_that_wants_to_be_asked_all_the_time_is_not(
    lifetime_s: int, autojump_clock: trio.testing.MockClock
) -> None:
    async def hurry(frame: Frame) -> Frame:
        return Relayed((AT,), lifetime_s, b"t" * 32)

    world = await lived(hurry, LIFETIME_S)
    assert len(world.asked) <= 2 + LIFETIME_S / AGAIN_S_MIN


def test_the_first_error_of_a_group() -> None:
    error = MalformedError("x")
    assert first_of(ExceptionGroup("", [ExceptionGroup("", [error])])) is error
    assert first_of(error) is error
