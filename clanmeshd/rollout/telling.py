"""When the clan is told how far this device is: not of every step, since each telling costs all others a record.

A state on the way to another one is told of when it lasts; others wait for a moment, for what comes with them.
"""

import math
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import trio

from clanmesh_protocol.records import RolloutState

PASSING_S: Final = 3.0  # people do not see what is shorter
TOGETHER_S: Final = 0.3  # a wave of commits has reached most others by then
_PASSING: Final = frozenset(
    {RolloutState.FETCHING, RolloutState.VERIFYING, RolloutState.BUILDING, RolloutState.TESTING}
)

Told: TypeAlias = tuple[bytes | None, bytes | None, RolloutState, tuple[bytes, ...]]
Report = Callable[[bytes | None, bytes | None, RolloutState, tuple[bytes, ...]], Awaitable[None]]


class Telling:
    """Reads what there is to tell whenever it may have changed. Only what lasts is reported, and only once."""

    def __init__(self, read: Callable[[], Told], report: Report) -> None:
        self._read = read
        self._report = report
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
                newest, due_s = value, now_s + (PASSING_S if value[2] in _PASSING else TOGETHER_S)
            if value != told and now_s >= due_s:
                told = value
                await self._report(*value)
                continue
            with trio.move_on_at(due_s if value != told else math.inf):
                await self._changed.wait()
