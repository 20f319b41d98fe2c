"""When probes are listened to: what is busy, who wants it, and that nothing is left open."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock

from clanmeshd.hearing import BUSY_BYTES_PER_S, COUNTED_S, RETRY_S, WANTED_S, Hearing

MUCH, LITTLE = int(2 * BUSY_BYTES_PER_S), int(BUSY_BYTES_PER_S / 2)


@dataclass
class Ears:
    """Opened, running and closed, as often as it is."""

    opened: int = 0
    running: int = 0
    refused: list[OSError] = field(default_factory=list)

    @contextmanager
    def listen(self) -> Iterator["Ears"]:
        if self.refused:
            raise self.refused.pop()
        self.opened += 1
        yield self

    async def run(self) -> None:
        self.running += 1
        try:
            await trio.sleep_forever()
        finally:
            self.running -= 1


def busy(now_s: float = 10.0) -> Hearing:
    """Much has gone through for a second."""
    hearing = Hearing()
    hearing.count(0, now_s - 1)
    hearing.count(MUCH, now_s)
    return hearing


@asynccontextmanager
async def under_way(hearing: Hearing, ears: Ears) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(hearing.run, ears.listen)
        await trio.testing.wait_all_tasks_blocked()
        yield
        nursery.cancel_scope.cancel()


def test_it_is_on_unless_much_goes_through() -> None:
    """The first number says nothing of a rate, nor do two that lie close together."""
    hearing = Hearing()
    hearing.count(1000 * MUCH, 10.0)
    hearing.count(1001 * MUCH, 10.0 + COUNTED_S / 2)
    assert hearing.is_on
    hearing.count(1000 * MUCH + LITTLE, 11.0)
    assert hearing.is_on
    hearing.count(1001 * MUCH + LITTLE, 12.0)
    assert not hearing.is_on


def test_it_is_on_again_when_that_is_over() -> None:
    """With little, with nothing, or with counters that began anew."""
    for over in (lambda each: each.count(MUCH + LITTLE, 11.0), lambda each: each.rest(11.0)):
        hearing = busy()
        assert not hearing.is_on
        over(hearing)
        assert hearing.is_on
    hearing = busy()
    hearing.count(0, 11.0)
    assert hearing.is_on


def test_whoever_seeks_a_path_has_it_on_for_a_while() -> None:
    """However much goes through."""
    hearing = busy()
    hearing.want(10.5)
    assert hearing.is_on
    hearing.count(2 * MUCH, 11.0)
    assert hearing.is_on
    hearing.count(20 * MUCH, 10.5 + WANTED_S)
    assert not hearing.is_on


async def test_what_hears_is_closed_and_opened_again(autojump_clock: MockClock) -> None:
    hearing, ears = Hearing(), Ears()
    async with under_way(hearing, ears):
        assert (ears.opened, ears.running) == (1, 1)
        hearing.count(0, 9.0)
        hearing.count(MUCH, 10.0)
        await trio.testing.wait_all_tasks_blocked()
        assert ears.running == 0
        hearing.want(10.0)
        await trio.testing.wait_all_tasks_blocked()
        assert (ears.opened, ears.running) == (2, 1)
    assert ears.running == 0


async def test_sockets_that_cannot_be_opened_again_are_tried_again(autojump_clock: MockClock) -> None:
    hearing, ears = Hearing(), Ears()
    async with under_way(hearing, ears):
        hearing.count(0, 9.0)
        hearing.count(MUCH, 10.0)
        await trio.testing.wait_all_tasks_blocked()
        ears.refused.append(OSError(24, "too many"))
        hearing.want(10.0)
        await trio.testing.wait_all_tasks_blocked()
        assert ears.running == 0
        await trio.sleep(1.1 * RETRY_S)
        assert ears.running == 1


async def test_sockets_that_cannot_be_opened_at_all_are_told_of(autojump_clock: MockClock) -> None:
    ears = Ears(refused=[OSError(1, "not permitted")])
    with pytest.raises(ExceptionGroup) as raised:
        async with under_way(Hearing(), ears):
            pass
    assert raised.group_contains(OSError)
