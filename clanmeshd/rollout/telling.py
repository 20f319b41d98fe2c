"""When the clan is told how far this device is: not of every step, since each telling costs all others a record.

A state on the way to another one is told of when it lasts; others wait a moment, for what comes with them. That it
went well waits for longer where many devices are at the same commit, and none of them waits for another.
"""

import math
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import trio

from clanmesh_protocol.records import RolloutState

PASSING_S: Final = 3.0  # people do not see what is shorter
TOGETHER_S: Final = 0.3  # a wave of commits has reached most others by then
EACH_S: Final = 0.05  # more for each other device: it is told by as many, and each of them by all
WELL_S_MAX: Final = 1.5  # people see it on other devices so much later
_PASSING: Final = frozenset(
    {RolloutState.FETCHING, RolloutState.VERIFYING, RolloutState.BUILDING, RolloutState.TESTING}
)
_WELL: Final = frozenset({RolloutState.CURRENT, RolloutState.SOAKING})

Told: TypeAlias = tuple[bytes | None, bytes | None, RolloutState, tuple[bytes, ...]]
Report = Callable[[bytes | None, bytes | None, RolloutState, tuple[bytes, ...]], Awaitable[None]]


class Telling:
    """Reads what there is to tell whenever it may have changed. Only what lasts is reported, and only once.

    `others` says how many devices may be at the same commit; none where some wait for this one's word.
    """

    def __init__(self, read: Callable[[], Told], report: Report, others: Callable[[], int] = lambda: 0) -> None:
        self._read = read
        self._report = report
        self._others = others
        self._changed = trio.Event()

    def changed(self) -> None:
        """Something may be different now."""
        self._changed.set()

    async def run(self) -> None:
        """Tell for ever."""
        told: Told | None = None
        newest: Told | None = None
        due_s = -math.inf
        while True:
            self._changed = trio.Event()
            value, now_s = self._read(), trio.current_time()
            if value != newest:
                newest, due_s = value, now_s + self._pause_s(value[2])
            if value != told and now_s >= due_s:
                told = value
                await self._report(*value)
                continue
            with trio.move_on_at(due_s if value != told else math.inf):
                await self._changed.wait()

    def _pause_s(self, state: RolloutState) -> float:
        if state in _PASSING:
            return PASSING_S
        return min(TOGETHER_S + EACH_S * self._others(), WELL_S_MAX) if state in _WELL else TOGETHER_S
