"""When probes are listened to: always, but while much goes through the tunnels and nobody seeks a path.

To listen costs the kernel a copy of the head of each UDP packet (`overlay/rawport`): two that exchange 500 Mbit/s
lose 3 to 4 % by it. Who seeks a path to this device without finding it calls, and what this device seeks it knows
itself; so from either on it listens for a while, whatever goes on. What is missed are probes of a peer that has
a path already and looks whether there is a better one: it looks again within a minute.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from math import inf
from typing import Final, Protocol

import trio

BUSY_BYTES_PER_S: Final = 5e6  # through the tunnels, both ways: below, listening costs 0.2 % of a core
COUNTED_S: Final = 0.5  # over which a rate is worked out, at least
WANTED_S: Final = 5.0  # twice what a search takes: the other side's begins later
RETRY_S: Final = 1.0  # where the sockets cannot be opened

log = logging.getLogger(__name__)


class Heard(Protocol):
    """What is open while it is listened."""

    async def run(self) -> None:
        """Hear for ever."""
        ...


class Hearing:
    """Decides, and keeps what hears running. Everything runs on the trio thread."""

    def __init__(self) -> None:
        self.is_on = True
        self._is_busy = False
        self._until_s = -inf
        self._bytes = 0
        self._counted_s = inf  # nothing was yet
        self._changed = trio.Event()

    def want(self, now_s: float) -> None:
        """A path is sought, by this device or by a peer."""
        self._until_s = now_s + WANTED_S
        self._decide(now_s)

    def count(self, total_bytes: int, now_s: float) -> None:
        """So much has gone through the tunnels since they were made; told whenever it is known."""
        passed_s = now_s - self._counted_s
        if 0 <= passed_s < COUNTED_S:
            return
        self._is_busy = passed_s > 0 and total_bytes - self._bytes > BUSY_BYTES_PER_S * passed_s
        self._bytes, self._counted_s = total_bytes, now_s
        self._decide(now_s)

    def rest(self, now_s: float) -> None:
        """Nothing has gone through them for a while."""
        self._is_busy = False
        self._decide(now_s)

    def _decide(self, now_s: float) -> None:
        is_on = not self._is_busy or now_s < self._until_s
        if is_on != self.is_on:
            self.is_on = is_on
            self._changed.set()
            self._changed = trio.Event()

    async def run(
        self,
        listen: Callable[[], AbstractContextManager[Heard]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen whenever it is to be, until cancelled. It has begun once it listens for the first time."""
        has_begun = False
        while True:
            while not self.is_on:
                await self._changed.wait()
            try:
                with listen() as ears:
                    if not has_begun:
                        has_begun = True
                        task_status.started()
                    await self._hear(ears)
            except OSError as error:
                if not has_begun:
                    raise
                log.warning("overlay: probes cannot be heard: %s", error)
                await trio.sleep(RETRY_S)

    async def _hear(self, ears: Heard) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ears.run)
            while self.is_on:
                await self._changed.wait()
            nursery.cancel_scope.cancel()
