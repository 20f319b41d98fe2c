"""The member's side of a join: check the redemption, vouch for it, hand over what a member must know.

Any member does this, the inviter's device need not be on. Each decides by the records that it has; where two let
in more devices than an invite allows, all work out alike who waits for an admin (`core.roster`).
"""

import logging
from collections.abc import Iterator
from typing import Final

import trio

from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.streams import Bundle, End, Join, Refuse, Welcome
from clanmeshd.core.admission import DENIED, UNKNOWN_INVITE, Refusal
from clanmeshd.core.mesh import Mesh
from clanmeshd.driver import Driver, instant
from clanmeshd.net.stream import Stream
from clanmeshd.store import Membership

ARRIVED_S_MAX: Final = 15.0  # half of what a joining device waits; the core needs five, and five for each sleep
BUNDLE_BYTES: Final = 100_000  # a frame may have more; small ones keep the memory of both sides low

log = logging.getLogger(__name__)


async def admit(driver: Driver, membership: Membership, channel: Stream) -> None:
    """Serve one join. The admission is durable, and sent to the others, before the joiner hears of it."""
    request = await channel.receive()
    if not isinstance(request, Join) or request.node != channel.peer:
        await channel.send(Refuse("malformed", "a join names the device that asks"))
        return
    with trio.move_on_after(ARRIVED_S_MAX):
        while not driver.mesh.has_arrived:  # by what it knows, a token may be good that was withdrawn meanwhile
            await driver.quiet(driver.news, ARRIVED_S_MAX, 0.0)
    refusal = _let_in(driver.mesh, request)
    if refusal is not None:
        log.info("a join was refused: %s", refusal.why)
        await channel.send(refusal)
        return
    await driver.settle()
    await channel.send(Welcome(membership.discovery, membership.name))
    for bundle in _bundles(driver.mesh.ledger.bundle()):
        await channel.send(bundle)
    await channel.send(End())


def _let_in(mesh: Mesh, request: Join) -> Refuse | None:
    """Vouch for a device, or say why not: one sentence for the person at it."""
    own = mesh.authority.members.get(mesh.node)
    if own is None or not own.is_current(instant().unix_s):
        return Refuse(DENIED, "this device is no member of the clan any more: another has to let you in")
    try:
        mesh.admit(request, instant())
    except Refusal as refusal:
        if refusal.code == UNKNOWN_INVITE and request.invite_key in mesh.authority.revoked:
            return Refuse(refusal.code, "the invite was withdrawn")
        return Refuse(refusal.code, refusal.why)
    except ProtocolError as error:
        return Refuse(DENIED, f"this device cannot vouch for another: {error}")
    if not mesh.authority.is_member(request.node):
        # More devices than the invite allows have come by other members, whose word has not been here so far.
        return Refuse("used", "more devices than it allows came by this invite: an admin has to decide")
    return None


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
