"""Leaving a clan: say so, give the word time to spread, and put what belongs to the clan aside.

A device that left starts anew with new keys: its old one is out of that clan for ever. Nothing is deleted but
the secrets' plaintext; what was there lies in a folder of the state directory.
"""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from clanmesh_protocol.keys import NodeId, RecordId, fingerprint_slot
from clanmesh_protocol.records import Revocation
from clanmeshd.clan import Clan
from clanmeshd.core.effects import SetSecrets
from clanmeshd.driver import instant
from clanmeshd.files import sync_directory
from clanmeshd.secrets.place import PlacementError, place

SPREAD_POLL_S: Final = 0.1
SPREAD_POLLS: Final = 50  # 5 s for the word to reach all who answer; they bring it to the rest
REASON: Final = "left"
_MOVING: Final = "leaving"  # the folder while it is being filled
# The membership first: without it this device is in no clan, whatever else is still there.
STATE: Final = ("clan.json", "keys.json", "anchor.json", "records.log", "records.damaged", "rollout")

log = logging.getLogger(__name__)


async def say_goodbye(clan: Clan) -> tuple[int, int]:
    """Sign that this key is out. Gives how many others have the word, and how many there are."""
    mesh, own = clan.mesh, clan.keys.node
    others = frozenset(mesh.authority.members) - {own}
    word = mesh.publish(Revocation(own, REASON), slot=fingerprint_slot(own), now=instant())
    await clan.driver.settle()
    unaware = await spread(clan, word.id)
    return len(others - unaware), len(others)


async def spread(clan: Clan, word: RecordId) -> frozenset[NodeId]:
    """Wait until a record of the last minute has reached all members that answer. Gives who does not have it."""
    mesh, own = clan.mesh, clan.keys.node
    up = mesh.up()
    holders: frozenset[NodeId] = frozenset()
    for _ in range(SPREAD_POLLS):
        holders = mesh.holders(word, instant())
        if up & mesh.authority.members.keys() <= holders:
            break
        await clan.driver.settle()
        await trio.sleep(SPREAD_POLL_S)
    return frozenset(mesh.authority.members) - holders - {own}


async def clear_runtime(clan: Clan) -> None:
    """Take away what was placed for services: secrets and names. Says in the log what it could not."""
    try:
        await place(clan.config.runtime_directory, SetSecrets(clan.membership.clan, (), 0), clan.keys)
        (clan.config.runtime_directory / "hosts").unlink(missing_ok=True)
    except (OSError, PlacementError) as error:
        log.warning("leaving: %s; remove %s by hand", error, clan.config.runtime_directory / "secrets")


def put_aside(directory: Path, name: str, rename: Callable[[Path, Path], object] = os.rename) -> Path:
    """Move a clan's state into a folder of its own, durably. Gives the folder. Raises OSError.

    Cut short anywhere, the device is either still in the clan, or `finish` does the rest at the next start.
    """
    moving = directory / _MOVING
    moving.mkdir(mode=0o700, exist_ok=True)
    for part in STATE:
        if (directory / part).exists() and not (moving / part).exists():
            rename(directory / part, moving / part)
            sync_directory(moving)
            sync_directory(directory)
    target = _free_name(moving, f"left-{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}")
    rename(moving, target)
    sync_directory(directory)
    return target


def finish(directory: Path) -> None:
    """Put the rest aside of what a leave that was cut short has left here. Raises OSError."""
    if (directory / _MOVING / STATE[0]).exists():
        log.warning("leaving was cut short; the rest of the clan's state is in %s", put_aside(directory, "clan"))


def _free_name(folder: Path, stem: str) -> Path:
    for number in range(100):  # two within a second are enough for anybody
        target = folder.with_name(f"{stem}-{number}" if number else stem)
        if not target.exists():
            return target
    raise FileExistsError(f"{folder.with_name(stem)}: too many folders of that name")
