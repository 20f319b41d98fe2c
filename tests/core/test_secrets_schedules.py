"""Random schedules of setting, removing, parting and keeping: secrets come to rest, and the removed read none."""

import random
from pathlib import Path

import pytest

from clanmesh_protocol.control import Fault
from clanmeshd.core.audience import Audience, recipients
from clanmeshd.driver import instant
from clanmeshd.secrets.grants import exposed_to, holders
from tests.core.households import Device, Household
from tests.core.keepers import Keepers, items_of, opened

SEEDS = 12
STEPS = 40
NAMES = ("db", "wifi", "mail")
ADMINS = ("desk", "nas")
OTHERS = ("phone", "tv", "radio", "car")


class Schedule:
    """One run of a seed."""

    def __init__(self, house: Household, seed: int) -> None:
        self.house = house
        self.keepers = Keepers(house)
        self.dice = random.Random(seed)
        self.expelled: dict[str, Device] = {}
        self.groups: list[list[str]] = []
        self.part()

    def part(self) -> None:
        """Cut the network in two somewhere, or nowhere."""
        names = self.dice.sample(list(self.house.devices), len(self.house.devices))
        at = self.dice.randrange(len(names))
        self.groups = [group for group in (names[:at], names[at:]) if group]

    async def step(self) -> None:
        """Something happens."""
        match self.dice.choices(("set", "keep", "share", "part", "remove"), (4, 8, 6, 3, 2))[0]:
            case "set":
                await self.set_one(self.dice.choice(list(self.house.devices)))
            case "keep":
                group = self.dice.choice(self.groups)
                seen = self.dice.sample(group, self.dice.randint(1, len(group)))  # an opinion, and often wrong
                self.keepers.later_s += self.dice.choice((0, 5, 50))
                self.keepers.keep(self.dice.choice(group), seen)
            case "share":
                await self.house.share(*self.dice.choice(self.groups))
            case "part":
                self.part()
            case "remove":
                await self.remove_one()

    async def set_one(self, name: str) -> None:
        """A device gives a secret a value, if that is for anybody."""
        value = {"random": 8} if self.dice.random() < 0.5 else {"value": self.dice.randbytes(8)}
        targets = self.dice.choice((["all"], ["nas", "phone"], ["tv"]))
        try:
            await self.house[name].call("secrets-set", name=self.dice.choice(NAMES), **{"for": targets}, **value)
        except Fault as fault:
            assert fault.kind in ("not-found", "refused")  # noqa: PT017  # nobody is left that it is for

    async def remove_one(self) -> None:
        """An admin throws a device out; whoever is parted from it does not know."""
        left = [name for name in OTHERS if name not in self.expelled]
        if len(left) > 1:
            name = self.dice.choice(left)
            self.expelled[name] = self.house[name]
            await self.house[self.dice.choice(ADMINS)].call("remove", node=name)

    async def end(self) -> None:
        """All who are left meet, and do what they do by themselves."""
        for name in self.expelled:
            del self.house.devices[name]
        await self.house.share()
        await self.keepers.rest()
        assert await self.keepers.rest() == 0


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_secrets_come_to_rest_and_the_removed_read_none(tmp_path: Path, seed: int) -> None:
    print("seed", seed)
    house = Household(tmp_path)
    await house.join("nas", *OTHERS)
    await house.admins("nas")
    schedule = Schedule(house, seed)
    for _ in range(STEPS):
        await schedule.step()
    await schedule.end()
    everywhere = [items_of(device) for device in house]
    assert all(items == everywhere[0] for items in everywhere)
    revoked = house["desk"].mesh.authority.revoked
    assert {device.keys.node for device in schedule.expelled.values()} <= revoked
    for name, item in everywhere[0].items():
        able = recipients(Audience.of(item.secret), house["desk"].mesh.authority.members, instant().unix_s)
        if not item.secret.random_bytes:
            able = holders(item) - revoked
        if item.author in revoked or not able:
            continue  # nobody can do anything about it but a person: it is shown as exposed
        assert not holders(item) & revoked, name
        assert [opened(device, item) for device in schedule.expelled.values() if opened(device, item)] == []
        if item.secret.random_bytes:
            assert not exposed_to(item, revoked), name
