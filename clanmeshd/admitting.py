"""The member's side of a join: check the redemption, vouch for it, hand over what a member must know."""

import logging
from collections.abc import Iterator
from typing import Final

from clanmesh_protocol.streams import Bundle, End, Join, Refuse, Welcome
from clanmeshd.core.admission import Refusal
from clanmeshd.driver import Driver, instant
from clanmeshd.net.stream import Stream
from clanmeshd.store import Membership

BUNDLE_BYTES: Final = 100_000  # a frame may have more; small ones keep the memory of both sides low

log = logging.getLogger(__name__)


async def admit(driver: Driver, membership: Membership, channel: Stream) -> None:
    """Serve one join. The admission is durable, and sent to the others, before the joiner hears of it."""
    request = await channel.receive()
    if not isinstance(request, Join) or request.node != channel.peer:
        await channel.send(Refuse("malformed", "a join names the device that asks"))
        return
    try:
        driver.mesh.admit(request, instant())
    except Refusal as refusal:
        log.info("a join was refused: %s", refusal.why)
        await channel.send(Refuse(refusal.code, refusal.why))
        return
    await driver.settle()
    await channel.send(Welcome(membership.discovery, membership.name))
    for bundle in _bundles(driver.mesh.records_for_bundle()):
        await channel.send(bundle)
    await channel.send(End())


def _bundles(records: list[bytes]) -> Iterator[Bundle]:
    waiting: list[bytes] = []
    size = 0
    for record in records:
        if waiting and size + len(record) > BUNDLE_BYTES:
            yield Bundle(tuple(waiting))
            waiting, size = [], 0
        waiting.append(record)
        size += len(record)
    if waiting:
        yield Bundle(tuple(waiting))
