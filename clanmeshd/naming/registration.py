"""Keeping the system told of our resolver: find out who looks names up, tell it, and again whenever that was lost.

Once told is not for ever. It is told anew when systemd-resolved was started again, when the interface is another
one, when the names are others, when another one looks them up, and every minute, in case somebody took it away.
What was told is taken back when that one looks no names up any more, and at the end.
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

import trio

from clanmeshd.naming import resolved
from clanmeshd.naming.bus import Bus, system_bus
from clanmeshd.naming.owner import Owner, look, owner
from clanmeshd.naming.trouble import NamesUnavailable
from clanmeshd.naming.ways import ByHosts, ByManager, ByResolved, Etc, Wanted, Way

RECHECK_S: Final = 60.0
RETRY_FIRST_S: Final = 1.0  # after the bus was lost: it is started again at once, or not
RETRY_S_MAX: Final = 60.0
AWAY_S: Final = 2.0  # looks for an overlay that is down, so that its names are back five seconds after it
TAKE_BACK_S: Final = 6.0  # at the end, of the ten that systemd gives us

log = logging.getLogger(__name__)


class Registration:
    """How names are given to the system: `told` by whom, or `failure` and `remedy`."""

    def __init__(self, interface: str, etc: Etc | None = None) -> None:
        self._etc = etc or Etc()
        self.told: Owner | None = None
        self.failure: str | None = None
        self.remedy = ""
        self._way: Way | None = None
        self._is_away = False
        self._attempts = 0
        self._ways: dict[Owner, Way] = {
            Owner.RESOLVED: ByResolved(),
            Owner.MANAGER_DNSMASQ: ByManager(interface, self._etc),
            Owner.LIBRARY: ByHosts(interface, self._etc),
        }

    async def run(self, wanted: Callable[[], Wanted], changed: Callable[[], Awaitable[object]]) -> None:
        """Keep the system told until cancelled, then take it back; the system's faults never end it.

        `wanted` is asked before each telling and raises OSError when there is nothing to be told of; `changed`
        waits until it may be another one than when it was asked last.
        """
        try:
            while True:
                try:
                    async with AsyncExitStack() as stack:
                        bus = await _bus()
                        if bus is not None:
                            await stack.enter_async_context(bus)
                        await self._keep(bus, wanted, changed)
                except OSError as error:
                    self._explain(error)
                    await self._pause(changed)
        finally:
            with trio.move_on_after(TAKE_BACK_S, shield=True):
                await self._leave_all_but(None)

    async def _keep(
        self, bus: Bus | None, wanted: Callable[[], Wanted], changed: Callable[[], Awaitable[object]]
    ) -> None:
        """Tell, again and again; without a bus once, since there may be one by now."""
        if bus is not None:
            await bus.watch_owner(resolved.NAME)
        while True:
            try:
                await self._tell(wanted, bus)
            except NamesUnavailable as error:  # not the bus' fault
                self._explain(error)
            with trio.move_on_after(RECHECK_S if self.failure is None else self._pause_s()):
                await first(changed, bus.owner_changed if bus is not None else trio.sleep_forever)
            if bus is None:
                return

    async def _tell(self, wanted: Callable[[], Wanted], bus: Bus | None) -> None:
        try:
            now, self._is_away = wanted(), False
        except OSError:
            if not self._is_away:
                await self._leave_all_but(None)
            self._is_away = True
            raise
        resolved_runs = bus is not None and await bus.owner(resolved.NAME) is not None
        way = self._ways[owner(look(self._etc.directory), resolved_runs=resolved_runs)]
        if way is not self._way:
            await self._leave_all_but(way)
        await way.tell(now, bus)
        if self.told is None:
            log.info("names: told to %s", way.owner.value)
        self.told, self.failure, self.remedy, self._attempts = way.owner, None, "", 0

    async def _leave_all_but(self, way: Way | None) -> None:
        """Take back what was told in other ways, also by an earlier run that was killed."""
        self._way, self.told = way, None
        for each in self._ways.values():
            if each is not way:
                try:
                    await each.take_back()
                except OSError as error:
                    log.warning("names: %s", error)

    def _explain(self, error: OSError) -> None:
        if str(error) != self.failure:
            log.log(logging.INFO if self._is_away else logging.WARNING, "names: %s", error)
        self.told, self.failure = None, str(error) or type(error).__name__
        self.remedy = error.remedy if isinstance(error, NamesUnavailable) else ""
        self._attempts += 1

    async def _pause(self, changed: Callable[[], Awaitable[object]]) -> None:
        with trio.move_on_after(self._pause_s()):
            await trio.sleep(RETRY_FIRST_S)  # without a bus nobody asks what is wanted, so a change stays one
            await changed()

    def _pause_s(self) -> float:
        if self._is_away:
            return AWAY_S
        return min(RETRY_S_MAX, RETRY_FIRST_S * 2.0 ** min(max(self._attempts - 1, 0), 10))


async def _bus() -> Bus | None:
    """The system's bus, or none where there is none. Raises OSError."""
    try:
        return await system_bus()
    except (FileNotFoundError, ConnectionRefusedError):
        return None


async def first(*waits: Callable[[], Awaitable[object]]) -> None:
    """Wait until one of them is over. Raises what one of them raises."""
    failures: list[OSError] = []

    async def wait(each: Callable[[], Awaitable[object]]) -> None:
        try:
            await each()
        except OSError as error:
            failures.append(error)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for each in waits:
            nursery.start_soon(wait, each)
    if failures:
        raise failures[0]
