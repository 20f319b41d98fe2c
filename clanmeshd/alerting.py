"""Watching for what people should look into, and telling when it begins and when it ends."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import trio

from clanmesh_protocol.records import SINGLE_SLOT, Kind, Node
from clanmeshd.core.alarms import Alarm, Outlook, alarms
from clanmeshd.core.authority import AUTHORITY_KINDS
from clanmeshd.core.mesh import Mesh
from clanmeshd.driver import Driver, instant

SETTLE_S: Final = 10.0  # after a start: a device that was off for days hears first what it missed
CHECK_S: Final = 1.0  # how soon an event tells of what the record set shows
RECHECK_S: Final = 60.0  # what only time brings: memberships that end, admins that fall silent

# Proposals have events of their own, and get new ids whenever they are said again behind a new head.
_TOLD_BESIDES: Final = frozenset({"approval", "proposal"})
_DEPENDS_ON: Final = (*AUTHORITY_KINDS, Kind.SECRET, Kind.EQUIVOCATION)

log = logging.getLogger(__name__)


def standing_alarms(mesh: Mesh) -> tuple[Alarm, ...]:
    """What there is to look into now."""
    return alarms(Outlook(mesh.node, mesh.ledger, mesh.authority, mesh.clones, instant()))


def tunnel_number(mesh: Mesh) -> int | None:
    """The number of the tunnel key that this device says to be in use; None before it said one."""
    entry = mesh.ledger.get(mesh.node, Kind.NODE, SINGLE_SLOT)
    return entry.content.tunnel_number if entry is not None and isinstance(entry.content, Node) else None


@dataclass(slots=True)
class Alerting:
    """The alarms that were told, by their keys."""

    driver: Driver
    _told: Mapping[tuple[str, str], Alarm] = field(default_factory=dict)
    _tunnel_number: int | None = None  # of the tunnel key in use

    async def run(self) -> None:
        """Tell for ever."""
        await trio.sleep(SETTLE_S)
        seen: tuple[int, int] | None = None
        self._tunnel_number = tunnel_number(self.driver.mesh)
        looked_s = 0.0
        while True:
            mesh, news = self.driver.mesh, self.driver.news
            now = (mesh.ledger.version_of(*_DEPENDS_ON), len(mesh.clones))
            if now != seen or trio.current_time() >= looked_s + RECHECK_S:
                seen, looked_s = now, trio.current_time()
                self.tell(standing_alarms(mesh))
            self._tell_rotation()
            await self.driver.quiet(news, RECHECK_S, CHECK_S)

    def _tell_rotation(self) -> None:
        number = tunnel_number(self.driver.mesh)
        if number is not None and self._tunnel_number is not None and number != self._tunnel_number:
            text = f"this device has changed to tunnel key {number}"
            self.driver.events.add("rotated", text, self.driver.mesh.node)
        self._tunnel_number = number

    def tell(self, standing: tuple[Alarm, ...]) -> None:
        """Add an event for each alarm that began or ended since the last time."""
        events, before = self.driver.events, self._told
        self._told = {alarm.key: alarm for alarm in standing}
        for key, alarm in self._told.items():
            if key not in before:
                is_problem = alarm.severity == "problem"
                log.log(logging.WARNING if is_problem else logging.INFO, "%s; %s", alarm.text, alarm.remedy)
                if alarm.kind not in _TOLD_BESIDES:
                    events.add("alarm", f"{alarm.text}; {alarm.remedy}", is_problem=is_problem)
        for key, alarm in before.items():
            if key not in self._told and alarm.kind not in _TOLD_BESIDES:
                events.add("alarm-over", f"no longer: {alarm.text}")
