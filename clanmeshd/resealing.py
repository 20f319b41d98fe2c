"""Giving secrets to members that came later: a holder seals the same value again, under the next epoch.

Which holder does it is decided by `secrets.grants`, alike everywhere; here it is only done, when the record set
or the members that answer have changed.
"""

import logging
import os
from typing import Final

import trio

from clanmesh_protocol.keys import DeviceKeys, NodeId
from clanmesh_protocol.records import Kind
from clanmeshd.core.mesh import Mesh
from clanmeshd.core.wanted import newest_secrets, node_record
from clanmeshd.driver import Driver, instant
from clanmeshd.secrets.grants import Reseal, reseals
from clanmeshd.secrets.sealing import SealedError, seal_again

CHECK_S: Final = 1.0  # a new member waits for its secrets about so long
_DEPENDS_ON: Final = (Kind.AUTHORITY, Kind.CREDENTIAL, Kind.REVOCATION, Kind.REDEMPTION, Kind.NODE, Kind.SECRET)

log = logging.getLogger(__name__)


async def keep_sealed(driver: Driver, keys: DeviceKeys) -> None:
    """Seal again for ever what this device is the one to seal."""
    seen: tuple[int, frozenset[NodeId]] | None = None
    while True:
        mesh = driver.mesh
        now = (mesh.ledger.version_of(*_DEPENDS_ON), frozenset(up_members(mesh)))
        if now != seen:
            seen = now
            for wanted in _reseals(mesh, keys.node, now[1]):
                _seal_again(mesh, keys, wanted)
            await driver.settle()
        await trio.sleep(CHECK_S)


def up_members(mesh: Mesh) -> list[NodeId]:
    """The members that answer, this device among them."""
    return [peer.node for peer in mesh.peers(instant()) if peer.state == "up"]


def sealing_keys(mesh: Mesh) -> dict[NodeId, bytes]:
    """The published X25519 key of each member that has one."""
    records = {node: node_record(mesh.ledger, node) for node in sorted(mesh.authority.members)}
    return {node: record.sealing_key for node, record in records.items() if record is not None}


def _reseals(mesh: Mesh, own: NodeId, up: frozenset[NodeId]) -> list[Reseal]:
    return reseals(
        newest_secrets(mesh.ledger, mesh.authority),
        mesh.authority.members,
        own=own,
        up=up,
        sealing_keys=frozenset(sealing_keys(mesh)),
    )


def _seal_again(mesh: Mesh, keys: DeviceKeys, wanted: Reseal) -> None:
    item, published = wanted.item, sealing_keys(mesh)
    recipients = {node: published[node] for node in sorted(wanted.recipients)}
    try:
        secret = seal_again(keys, mesh.authority.clan, item, recipients, os.urandom)
    except SealedError as error:
        log.warning("secret %s: %s; set it again", item.name, error)
        return
    mesh.publish(secret, slot=item.name, now=instant())
    log.info("secret %s: sealed again for %d recipients", item.name, len(recipients))
