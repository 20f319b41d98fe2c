"""A head that was pushed to this device, or found at the upstream: checked, published, told to the clan."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from clanmesh_protocol.control import Fault
from clanmesh_protocol.records import Head
from clanmeshd.driver import instant
from clanmeshd.rollout.following import REF
from clanmeshd.rollout.receiving import Progress

if TYPE_CHECKING:
    from clanmeshd.clan import Clan


async def publish(
    clan: "Clan",
    *,
    old: bytes | None,
    new: bytes,
    signature: bytes,
    bundle: AsyncIterator[bytes],
    progress: Progress,
) -> None:
    """Check a bundle and its head statement, publish the commits, gossip the head. Raises Fault."""
    wanted = clan.driver.slots.rollout.newest
    if wanted is None:
        raise Fault("failed", "the push", "the daemon has just started", "try again")
    binary = await clan.rollout.push(
        wanted, ref=REF, old=old, new=new, signature=signature, bundle=bundle, progress=progress
    )
    clan.mesh.publish(Head(old, new, binary), slot=REF, now=instant())
    await clan.driver.settle()
