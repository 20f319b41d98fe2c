"""The latest-wins slot and its loop, under a virtual clock."""

from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from clanmeshd.reconcile import BACKOFF_MAX_S, Latest, reconcile


async def test_only_the_newest_is_applied(autojump_clock: MockClock) -> None:
    slot: Latest[int] = Latest()
    applied: list[int] = []

    async def apply(value: int) -> None:
        applied.append(value)
        await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        slot.put(1)
        nursery.start_soon(lambda: reconcile(slot, apply, what="test"))
        await trio.sleep(0.5)
        slot.put(2)
        slot.put(3)
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    assert applied == [1, 3]


async def test_failures_back_off_and_are_told_once(autojump_clock: MockClock) -> None:
    slot: Latest[int] = Latest()
    times: list[float] = []
    told: list[str | None] = []

    async def apply(value: int) -> None:
        times.append(trio.current_time())
        if len(times) < 12:
            raise OSError("no such thing")

    async with trio.open_nursery() as nursery:
        slot.put(1)
        nursery.start_soon(
            lambda: reconcile(
                slot, apply, what="test", report=lambda error: told.append(str(error) if error else None)
            )
        )
        await trio.sleep(1000)
        nursery.cancel_scope.cancel()
    gaps = [after - before for before, after in pairwise(times)]
    assert len(times) == 12
    assert gaps[0] < 1
    assert max(gaps) <= BACKOFF_MAX_S * 1.25
    assert told == ["no such thing", None]


async def test_drift_is_repaired(autojump_clock: MockClock) -> None:
    slot: Latest[int] = Latest()
    applied: list[float] = []

    async def apply(value: int) -> None:
        applied.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        slot.put(1)
        nursery.start_soon(lambda: reconcile(slot, apply, what="test", recheck_s=5))
        await trio.sleep(16)
        nursery.cancel_scope.cancel()
    assert len(applied) == 4


async def test_a_new_value_ends_the_backoff(autojump_clock: MockClock) -> None:
    slot: Latest[int] = Latest()
    applied: list[tuple[int, float]] = []

    async def apply(value: int) -> None:
        if value == 1:
            raise OSError("bad value")
        applied.append((value, trio.current_time()))

    async with trio.open_nursery() as nursery:
        slot.put(1)
        nursery.start_soon(lambda: reconcile(slot, apply, what="test"))
        await trio.sleep(100)
        slot.put(2)
        now = trio.current_time()
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert applied == [(2, now)]


async def test_our_own_faults_propagate() -> None:
    slot: Latest[int] = Latest()
    slot.put(1)

    async def apply(value: int) -> None:
        raise AssertionError("ours")

    with pytest.raises(AssertionError, match="ours"):
        await reconcile(slot, apply, what="test")


async def test_the_last_value_is_taken_again_when_something_else_has_changed(autojump_clock: MockClock) -> None:
    slot: Latest[int] = Latest()
    slot.again()
    with trio.move_on_after(1) as nothing:
        await slot.changed()
    assert nothing.cancelled_caught
    slot.put(1)
    assert await slot.changed() == 1
    slot.again()
    assert await slot.changed() == 1
