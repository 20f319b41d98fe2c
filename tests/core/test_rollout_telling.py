"""What of a rollout is told to the clan: what lasts, once, and soon."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from clanmesh_protocol.records import RolloutState
from clanmeshd.rollout.telling import EACH_S, PASSING_S, TOGETHER_S, WELL_S_MAX, Telling, Told

OLD, NEW = bytes(20), bytes([1] * 20)


class Device:
    """Something to tell of, and what was told when."""

    def __init__(self) -> None:
        self.value: Told = (OLD, OLD, RolloutState.CURRENT, ())
        self.told: list[tuple[float, RolloutState]] = []
        self.others = 0
        self.telling = Telling(lambda: self.value, self._report, lambda: self.others)

    async def _report(
        self, commit: bytes | None, wanted: bytes | None, state: RolloutState, bad: tuple[bytes, ...]
    ) -> None:
        self.told.append((round(trio.current_time(), 3), state))

    def enter(self, state: RolloutState) -> None:
        """Go into a state."""
        self.value = (OLD, NEW, state, ())
        self.telling.changed()


@asynccontextmanager
async def told() -> AsyncIterator[Device]:
    device = Device()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(device.telling.run)
        await trio.sleep(10 - trio.current_time())
        device.told.clear()
        yield device
        nursery.cancel_scope.cancel()


async def test_what_passes_is_not_told(autojump_clock: object) -> None:
    async with told() as device:
        for state in (RolloutState.FETCHING, RolloutState.BUILDING, RolloutState.TESTING):
            device.enter(state)
            await trio.sleep(PASSING_S / 2)
        device.enter(RolloutState.CURRENT)
        await trio.sleep(PASSING_S * 2)
    assert device.told == [(pytest.approx(10 + 1.5 * PASSING_S + TOGETHER_S), RolloutState.CURRENT)]


async def test_what_lasts_is_told_however_often_it_is_looked_at(autojump_clock: object) -> None:
    async with told() as device:
        device.enter(RolloutState.BUILDING)
        for _ in range(100):
            await trio.sleep(PASSING_S / 20)
            device.telling.changed()
    assert device.told == [(pytest.approx(10 + PASSING_S), RolloutState.BUILDING)]


async def test_what_is_as_it_was_is_not_told_again(autojump_clock: object) -> None:
    async with told() as device:
        was = device.value
        device.enter(RolloutState.FETCHING)
        await trio.sleep(PASSING_S / 2)
        device.value = was
        device.telling.changed()
        await trio.sleep(PASSING_S * 2)
    assert device.told == []


@pytest.mark.parametrize(
    ("others", "state", "pause_s"),
    [
        (2, RolloutState.CURRENT, TOGETHER_S + 2 * EACH_S),
        (10, RolloutState.SOAKING, TOGETHER_S + 10 * EACH_S),
        (1000, RolloutState.CURRENT, WELL_S_MAX),
        (1000, RolloutState.ROLLED_BACK, TOGETHER_S),
        (1000, RolloutState.FAILED, TOGETHER_S),
        (1000, RolloutState.HELD, TOGETHER_S),
    ],
)
async def test_what_went_well_is_told_later_in_large_clans(
    autojump_clock: object, others: int, state: RolloutState, pause_s: float
) -> None:
    """Each telling is work for all others, who have the same commit to see to; what went wrong is told soon."""
    async with told() as device:
        device.others = others
        device.enter(state)
        await trio.sleep(PASSING_S * 2)
    assert device.told == [(pytest.approx(10 + pause_s), state)]
