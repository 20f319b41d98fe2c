"""What the devices of a household do for their secrets by themselves, with a clock of the test's own."""

from collections.abc import Collection
from functools import partial

from clanmeshd.core.effects import WantedSecret
from clanmeshd.core.wanted import newest_secrets
from clanmeshd.driver import instant
from clanmeshd.resealing import REROLL_PAUSE_S, Keeper
from clanmeshd.secrets.grants import Looked, Onlooker
from clanmeshd.secrets.sealing import SealedError, open_secret
from tests.core.households import Device, Household

ROUNDS_MAX = 8  # in which keepers that go on for ever would still be at it


class Keepers:
    """One for each device, made when it first does something."""

    def __init__(self, house: Household) -> None:
        self.house = house
        self.later_s = 0.0
        self.has_waiting = False  # a device has something to do, but not yet
        self._keepers: dict[str, Keeper] = {}
        self._disks: dict[str, Looked] = {}  # what each remembers of this

    async def rest(self, *names: str) -> int:
        """Let devices keep the secrets, and share, until nothing changes. Gives the number of records made."""
        among = names or tuple(self.house.devices)
        made = 0
        for _ in range(ROUNDS_MAX):
            self.has_waiting = False
            fresh = sum(self.keep(name, among) for name in among)
            await self.house.share(*among)
            self.later_s += 2 * REROLL_PAUSE_S
            made += fresh
            if not fresh and not self.has_waiting:
                return made
        raise AssertionError("devices go on replacing one another's values")

    def of(self, name: str) -> Keeper:
        """A device's own."""
        device = self.house[name]
        if name not in self._keepers:
            onlooker = Onlooker(self._disks.get(name))
            remember = partial(self._disks.__setitem__, name)
            self._keepers[name] = Keeper(device.mesh, device.keys, onlooker, remember)
        return self._keepers[name]

    def restarted(self) -> "Keepers":
        """All devices start again, with what they had stored."""
        again = Keepers(self.house)
        again.later_s, again._disks = self.later_s, dict(self._disks)
        return again

    def keep(self, name: str, up: Collection[str]) -> int:
        """Let one device keep the secrets, which sees those of `up` answer. Gives how many records it made."""
        device = self.house[name]
        keeper = self.of(name)
        before = {record.id for record in device.mesh.ledger.records()}
        now = instant()
        alive = frozenset(self.house[each].keys.node for each in up)
        later = now._replace(monotonic_s=now.monotonic_s + self.later_s)
        if not keeper.keep(alive, later, has_arrived=True):
            self.has_waiting = True
        return len({record.id for record in device.mesh.ledger.records()} - before)


def items_of(device: Device) -> dict[str, WantedSecret]:
    """The values that stand, by name."""
    return {each.name: each for each in newest_secrets(device.mesh.ledger, device.mesh.authority)}


def item_of(device: Device, name: str) -> WantedSecret:
    """The value of a name that stands."""
    return items_of(device)[name]


def opened(device: Device, item: WantedSecret) -> bytes | None:
    """What a device reads in it."""
    try:
        return open_secret(device.keys, device.clan.membership.clan, item)
    except SealedError:
        return None
