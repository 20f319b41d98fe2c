"""Members that write the discovery secret to have it stand for ever, or to keep the others busy."""

import os
from pathlib import Path

import pytest

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import DISCOVERY_BYTES
from clanmesh_protocol.records import Secret
from clanmeshd.core.audience import EVERYONE, Audience
from clanmeshd.core.wanted import DISCOVERY_NAME
from clanmeshd.driver import instant
from clanmeshd.nearby import told_secret
from clanmeshd.resealing import sealing_keys
from clanmeshd.secrets.sealing import random_value, removal, seal
from tests.core.households import Device, Household
from tests.core.keepers import Keepers, item_of

EPOCH = 1000  # far above what anybody has


@pytest.fixture
async def house(tmp_path: Path) -> Household:
    """Four devices, one of which is up to something. One was removed, so that there is a secret to be written."""
    made = Household(tmp_path)
    await made.join("nas", "phone", "tv", "lost")
    await made["desk"].call("remove", node="lost")
    del made.devices["lost"]
    await made.share()
    return made


def liar(house: Household) -> str:
    """Who is up to something: not the one whose turn it always is."""
    return max(("nas", "phone", "tv"), key=lambda name: house[name].keys.node)


def forged(device: Device, audience: Audience = EVERYONE, *, random_bytes: int = DISCOVERY_BYTES) -> Secret:
    """A discovery secret of a device's own making, which all can open."""
    return seal(
        clan=device.mesh.authority.clan,
        author=device.keys.node,
        name=DISCOVERY_NAME,
        epoch=EPOCH,
        predecessor=None,
        value=random_value(DISCOVERY_BYTES, os.urandom),
        owner="root",
        group="root",
        mode=0o400,
        audience=audience,
        recipients=sealing_keys(device.mesh),
        entropy=os.urandom,
        random_bytes=random_bytes,
    )


async def says(house: Household, name: str, content: Secret) -> None:
    """A member writes it, and all hear it."""
    house[name].mesh.publish(content, slot=DISCOVERY_NAME, now=instant())
    await house.share()


async def remove(house: Household, name: str) -> NodeId:
    """A device is thrown out."""
    await house["desk"].call("remove", node=name)
    gone = house.devices.pop(name)
    await house.share()
    return gone.keys.node


def told(house: Household) -> bytes:
    """The secret that all devices hold to be the clan's."""
    [secret] = {told_secret(device.mesh, device.keys) for device in house}
    assert secret is not None
    return secret


async def test_a_member_that_removes_it_keeps_nobody_busy(house: Household) -> None:
    keepers = Keepers(house)
    await keepers.rest()
    before = told(house)
    await says(house, liar(house), removal(item_of(house["desk"], DISCOVERY_NAME)))
    assert await keepers.rest() <= 1
    await remove(house, liar(house))
    await keepers.rest()
    assert told(house) != before


@pytest.mark.parametrize("exists", [True, False])
async def test_a_member_cannot_pin_it_by_calling_it_a_persons(house: Household, exists: bool) -> None:
    keepers = Keepers(house)
    if exists:
        await keepers.rest()
    await says(house, liar(house), forged(house[liar(house)], random_bytes=0))
    await keepers.rest()
    before = told(house)
    await remove(house, liar(house))
    await keepers.rest()
    assert told(house) != before


@pytest.mark.parametrize("exists", [True, False])
async def test_a_member_cannot_pin_it_by_making_it_for_nobody_else(house: Household, exists: bool) -> None:
    keepers = Keepers(house)
    if exists:
        await keepers.rest()
    audience = Audience(frozenset(), frozenset({house[liar(house)].keys.node}))
    await says(house, liar(house), forged(house[liar(house)], audience))
    await keepers.rest()
    before = told(house)
    await remove(house, liar(house))
    await keepers.rest()
    assert told(house) != before


async def test_later_members_get_the_one_that_counts(house: Household) -> None:
    keepers = Keepers(house)
    await keepers.rest()
    await says(house, liar(house), forged(house[liar(house)], random_bytes=0))
    await house.join("radio")
    await keepers.rest()
    assert told(house)
