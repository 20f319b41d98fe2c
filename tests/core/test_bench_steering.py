"""`bench.steering` measures what it says: each part has taken time, and what was to happen around it has."""

from pathlib import Path

import trio
from trio.testing import MockClock

from bench.steering import CHANGES, MEMBERS_MIN, Crowd, Meter, measure_all


async def test_each_part_takes_some_time(tmp_path: Path, autojump_clock: MockClock) -> None:
    figures = await measure_all(MEMBERS_MIN, 1, tmp_path)
    assert len({figure.name for figure in figures}) == len(figures) == 22
    assert all(figure.value for figure in figures)


async def test_who_is_rung_for_is_found_and_no_step_is_missed(tmp_path: Path, autojump_clock: MockClock) -> None:
    meter = Meter()
    crowd = Crowd(MEMBERS_MIN, meter, tmp_path)
    await crowd.meet_all()
    trio.lowlevel.add_instrument(meter)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crowd.steering.run)
        await crowd.rest()
        assert len(crowd.steering._up) == MEMBERS_MIN - CHANGES
        before_s = meter.total_s
        await crowd.comes_up(0)
        await crowd.rings(0)
        await crowd.rest()
        assert len(crowd.steering._up) == MEMBERS_MIN - CHANGES + 1
        assert crowd.world.sent_on
        assert meter.total_s > before_s
        nursery.cancel_scope.cancel()
    trio.lowlevel.remove_instrument(meter)
