"""Watching for what people should look into, and telling when it begins and when it ends."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import trio

from clanmesh_protocol.records import Kind
from clanmeshd.core.alarms import Alarm, Outlook, alarms
from clanmeshd.core.authority import AUTHORITY_KINDS
from clanmeshd.core.mesh import Mesh
from clanmeshd.driver import Driver, instant

SETTLE_S: Final = 10.0  # after a start: a device that was off for days hears first what it missed
CHECK_S: Final = 1.0  # how soon an event tells of what the record set shows
RECHECK_S: Final = 60.0  # what only time brings: memberships that end, admins that fall silent

_DEPENDS_ON: Final = (*AUTHORITY_KINDS, Kind.SECRET, Kind.EQUIVOCATION)

log = logging.getLogger(__name__)


def standing_alarms(mesh: Mesh) -> tuple[Alarm, ...]:
    """What there is to look into now."""
    return alarms(Outlook(mesh.node, mesh.ledger, mesh.authority, mesh.clones, instant()))


@dataclass(slots=True)
class Alerting:
    """The alarms that were told, by their keys."""

    driver: Driver
    _told: Mapping[tuple[str, str], Alarm] = field(default_factory=dict)

    async def run(self) -> None:
        """Tell for ever."""
        await trio.sleep(SETTLE_S)
        seen: tuple[int, int] | None = None
        looked_s = 0.0
        while True:
            mesh = self.driver.mesh
            now = (mesh.ledger.version_of(*_DEPENDS_ON), len(mesh.clones))
            if now != seen or trio.current_time() >= looked_s + RECHECK_S:
                seen, looked_s = now, trio.current_time()
                self.tell(standing_alarms(mesh))
            await trio.sleep(CHECK_S)

    def tell(self, standing: tuple[Alarm, ...]) -> None:
        """Add an event for each alarm that began or ended since the last time."""
        events, before = self.driver.events, self._told
        self._told = {alarm.key: alarm for alarm in standing}
        for key, alarm in self._told.items():
            if key not in before:
                is_problem = alarm.severity == "problem"
                log.log(logging.WARNING if is_problem else logging.INFO, "%s; %s", alarm.text, alarm.remedy)
                events.add("alarm", f"{alarm.text}; {alarm.remedy}", is_problem=is_problem)
        for key, alarm in before.items():
            if key not in self._told:
                events.add("alarm-over", f"no longer: {alarm.text}")
