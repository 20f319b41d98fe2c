"""What this device says of itself, put together from the parts that know it."""

from dataclasses import replace
from typing import Any

from clanmesh_protocol.records import RolloutState, SecretsState, Status
from clanmeshd.driver import Driver, instant

STATUS_NONE = Status(
    commit=None, wanted=None, rollout=RolloutState.CURRENT, secrets_epoch=0, secrets=SecretsState.CURRENT
)


class OwnStatus:
    """The one writer of this device's status record."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.value = STATUS_NONE

    def publish(self) -> None:
        """Say it (again): after a start, and whenever something changed. The driver must be settled after."""
        self._driver.mesh.set_status(self.value, instant())

    async def change(self, **fields: Any) -> None:
        """Change some fields of the status and gossip it."""
        changed = replace(self.value, **fields)
        if changed == self.value:
            return
        self.value = changed
        self.publish()
        await self._driver.settle()
