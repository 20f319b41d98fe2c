"""Wanted states on their way to the world: a slot that holds only the newest, and a loop that applies it.

An adapter that is slow or failing never holds anybody up: what was wanted in between is forgotten, what is
wanted now is tried again with backoff. Drift repair is the same path: the newest state is applied once more.
"""

import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

import trio

T = TypeVar("T")

BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MAX_S: Final = 60.0  # a repaired world is noticed within a minute
BACKOFF_JITTER: Final = 0.25  # machines that failed together do not come back together

log = logging.getLogger(__name__)


class Latest(Generic[T]):
    """A slot with room for one value: a newer one replaces an older that nobody took."""

    def __init__(self) -> None:
        self._value: T | None = None
        self._fresh = trio.Event()

    def put(self, value: T) -> None:
        """Make `value` the wanted one."""
        self._value = value
        self._fresh.set()

    def again(self) -> None:
        """Have the last value taken once more: something else may have changed."""
        if self._value is not None:
            self._fresh.set()

    @property
    def newest(self) -> T | None:
        """The last value that was put, taken or not."""
        return self._value

    async def changed(self) -> T:
        """Wait for a value that was not taken yet, and take it."""
        await self._fresh.wait()
        self._fresh = trio.Event()
        assert self._value is not None
        return self._value


async def reconcile(
    wanted: Latest[T],
    apply: Callable[[T], Awaitable[None]],
    *,
    what: str,
    recheck_s: float = float("inf"),
    failed: tuple[type[Exception], ...] = (OSError,),
    report: Callable[[Exception | None], None] = lambda error: None,
) -> None:
    """Apply each newest wanted value for ever, and again after `recheck_s` without a newer one.

    `failed` are the world's faults: logged in one line when they change, told to `report` (None once it works
    again) and retried with backoff. Everything else propagates.
    """
    value = await wanted.changed()
    attempts = 0
    failure: Exception | None
    why: str | None
    complaint: str | None = None
    while True:
        try:
            await apply(value)
            attempts, failure, why = 0, None, None
        except failed as error:
            attempts += 1
            failure, why = error, str(error) or type(error).__name__
        if why != complaint:
            log.log(logging.WARNING if why else logging.INFO, "%s: %s", what, why or "works")
            report(failure)
            complaint = why
        with trio.move_on_after(_pause_s(attempts, recheck_s)):
            value = await wanted.changed()


def _pause_s(attempts: int, recheck_s: float) -> float:
    if attempts == 0:
        return recheck_s
    pause: float = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(attempts - 1, 10))
    return min(pause, recheck_s) * (1 + BACKOFF_JITTER * random.random())
