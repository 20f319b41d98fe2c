"""Finding members on the same network, by a secret that only members know and that changes when one is removed.

The secret of the moment is announced; those that it was before are still listened for, so that a device which
was away when it changed is heard, and hears of the change. They end after a time, and there are few of them.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from math import inf
from typing import Final

import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import DeviceKeys
from clanmesh_protocol.limits import DISCOVERY_BYTES
from clanmesh_protocol.records import Kind
from clanmeshd.core.authority import AUTHORITY_KINDS
from clanmeshd.core.mesh import Mesh
from clanmeshd.core.wanted import DISCOVERY_NAME, newest_secrets
from clanmeshd.driver import Driver, instant
from clanmeshd.net import mdns
from clanmeshd.secrets.sealing import SealedError, bytes_of_random_value, open_secret
from clanmeshd.store import Membership

FORMER_MAX: Final = 4  # removals while a device was away; each is one more hash for each tag heard
FORMER_S: Final = 90 * 86_400  # a device that was away for longer comes back by an address that it knows
CHECK_S: Final = 1.0  # how soon a changed secret is taken over, and announced

_DEPENDS_ON: Final = (*AUTHORITY_KINDS, Kind.SECRET)


def renewed(membership: Membership, secret: bytes, now_unix_s: float) -> Membership:
    """The membership with another discovery secret; the old one counts as a former one from now on."""
    former = ((membership.discovery, int(now_unix_s) + FORMER_S), *membership.former)
    kept = [each for each in former if each[0] != secret and now_unix_s < each[1]]
    return replace(membership, discovery=secret, former=tuple(kept[:FORMER_MAX]))


def former_secrets(membership: Membership, now_unix_s: float) -> tuple[bytes, ...]:
    """The secrets that are still listened for beside the one of the moment."""
    return tuple(secret for secret, until_unix_s in membership.former if now_unix_s < until_unix_s)


def told_secret(mesh: Mesh, keys: DeviceKeys) -> bytes | None:
    """The discovery secret as the clan's records have it for this device; None where they have none."""
    authority = mesh.authority
    item = next((each for each in newest_secrets(mesh.ledger, authority) if each.name == DISCOVERY_NAME), None)
    if item is None or not authority.is_member(item.author):
        return None
    try:
        secret = bytes_of_random_value(open_secret(keys, authority.clan, item))
    except SealedError:
        return None  # not sealed to this device yet, or nonsense: what it knows is as good as before
    return secret if len(secret) == DISCOVERY_BYTES else None


async def follow_secret(
    driver: Driver,
    keys: DeviceKeys,
    membership: Callable[[], Membership],
    adopt: Callable[[Membership], None],
) -> None:
    """Call `adopt` for ever with the membership as it is after each change of the discovery secret."""
    seen: int | None = None
    while True:
        news, version = driver.news, driver.mesh.ledger.version_of(*_DEPENDS_ON)
        if version != seen:
            seen = version
            secret = told_secret(driver.mesh, keys)
            if secret is not None and secret != membership().discovery:
                adopt(renewed(membership(), secret, instant().unix_s))
        await driver.quiet(news, inf, CHECK_S)


async def find_members(
    driver: Driver,
    membership: Callable[[], Membership],
    adopted: Callable[[], Awaitable[object]],
    port: int,
    report: Callable[[str | None], None],
) -> None:
    """Announce this device and suggest to the core whom mDNS shows, for ever. `adopted` waits for a new secret."""

    def suggest(endpoint: Endpoint) -> None:
        driver.mesh.suggest(endpoint, instant())
        nursery.start_soon(driver.settle)

    def misses() -> bool:
        return not driver.mesh.authority.members.keys() <= driver.mesh.up()

    async with trio.open_nursery() as nursery:
        await mdns.run(
            secret=lambda: membership().discovery,
            former=lambda: former_secrets(membership(), instant().unix_s),
            renewed=adopted,
            port=port,
            misses=misses,
            suggest=suggest,
            report=report,
        )
