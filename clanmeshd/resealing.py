"""Keeping secrets with those they are for: sealed again for who came later, and replaced when a reader is removed.

Which device does what is decided by `secrets.grants`, alike everywhere; here it is only done, when the record set
or the members that answer have changed, and now and then for what only time brings.
"""

import logging
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import DeviceKeys, NodeId
from clanmesh_protocol.limits import DISCOVERY_BYTES
from clanmesh_protocol.records import Kind, Secret
from clanmeshd.core.audience import EVERYONE
from clanmeshd.core.effects import Instant, WantedSecret
from clanmeshd.core.mesh import Mesh
from clanmeshd.core.wanted import DISCOVERY_NAME, newest_secrets, node_record
from clanmeshd.driver import Driver, instant
from clanmeshd.nearby import told_secret
from clanmeshd.secrets.grants import Looked, Onlooker, Task, Turns, exposed_to, marked, rerolls, reseals
from clanmeshd.secrets.sealing import (
    EPOCH_STEP,
    SealedError,
    random_value,
    seal,
    seal_again,
    seal_anew,
    takes_seals,
)
from clanmeshd.store import Membership

CHECK_S: Final = 1.0  # a new member waits for its secrets about so long
RECHECK_S: Final = 60.0  # memberships end and are renewed by the clock alone
REROLL_PAUSE_S: Final = 10.0  # of one secret: whoever brings in exposed values on purpose is no faster than this
REPLACED_S_MAX: Final = 5.0  # that somebody who invites waits for a new one: members that are up take a second
NAMES_REMEMBERED_MAX: Final = 1024
_DISCOVERY: Final = frozenset({DISCOVERY_NAME})
_DEPENDS_ON: Final = (Kind.AUTHORITY, Kind.CREDENTIAL, Kind.REVOCATION, Kind.REDEMPTION, Kind.NODE, Kind.SECRET)

log = logging.getLogger(__name__)


async def keep_sealed(driver: Driver, keeper: "Keeper") -> None:
    """Seal again and replace for ever what this device is the one to."""
    seen: tuple[int, frozenset[NodeId], int] | None = None
    while True:
        news, now, up = driver.news, instant(), driver.mesh.up()
        current = (driver.mesh.ledger.version_of(*_DEPENDS_ON), up, int(now.monotonic_s // RECHECK_S))
        if current != seen:
            if keeper.keep(up, now, has_arrived=driver.mesh.has_arrived):
                seen = current
            await driver.settle()
        await driver.quiet(news, RECHECK_S if seen == current else 0.0, CHECK_S)


async def settled_secret(driver: Driver, keeper: "Keeper", membership: Callable[[], Membership]) -> bytes:
    """The discovery secret for somebody new: one that somebody may know who is out is about to be replaced.

    Members that are up do so at once, and announce the old one no more, so that is waited for; but not for long.
    Where nobody does, this device does it itself: a token with the old one would find nobody later.
    """
    with trio.move_on_after(REPLACED_S_MAX):
        while keeper.is_discovery_known():
            await driver.quiet(driver.news, CHECK_S, 0.0)
    if keeper.is_discovery_known():
        keeper.replace_discovery(instant())
        await driver.settle()
    if driver.mesh.has_arrived:
        keeper.look()  # who is invited may be out again before the next look, and knows this one
    return told_secret(driver.mesh, keeper.keys) or membership().discovery


def sealing_keys(mesh: Mesh) -> dict[NodeId, bytes]:
    """The published X25519 key of each member that has one, and that something can be sealed to."""
    records = {node: node_record(mesh.ledger, node) for node in sorted(mesh.authority.members)}
    said = {node: record.sealing_key for node, record in records.items() if record is not None}
    return {node: key for node, key in said.items() if takes_seals(key)}


def _forget(looked: Looked) -> None:
    """There is no next run."""


@dataclass(slots=True)
class Keeper:
    """What one device does for the clan's secrets by itself. Without a socket or a clock."""

    mesh: Mesh
    keys: DeviceKeys
    onlooker: Onlooker = field(default_factory=Onlooker)
    remember: Callable[[Looked], None] = _forget  # for the next run, in which `onlooker` begins with it
    _rerolled_s: dict[str, float] = field(default_factory=dict)  # when this device last replaced a value
    _replacing: Turns = field(default_factory=Turns)
    _sealing: Turns = field(default_factory=Turns)

    def keep(self, up: Collection[NodeId], now: Instant, *, has_arrived: bool) -> bool:
        """Do all that this device is to do while `up` answer. Gives whether nothing had to wait.

        It looks at nothing before it has arrived: others have dealt with what happened while it was away, and of
        that it hears part by part.
        """
        if not has_arrived:
            return False
        if not self.mesh.authority.is_member(self.keys.node):
            return True
        published, items = sealing_keys(self.mesh), newest_secrets(self.mesh.ledger, self.mesh.authority)
        members, common = self.mesh.authority.members, self._common(published, up, now)
        known = rerolls(items, members, **common, outdated=_DISCOVERY if self.look() else ())
        done = [self._reroll(task, published, now) for task in self._replacing.own(known, now.monotonic_s)]
        for task in self._sealing.own(reseals(items, members, **common), now.monotonic_s):
            self._seal_again(task, published, now)
        return all(done)

    def _common(self, published: dict[NodeId, bytes], up: Collection[NodeId], now: Instant) -> dict[str, Any]:
        return {
            "own": self.keys.node,
            "up": up,
            "sealing_keys": published.keys(),
            "now_unix_s": now.unix_s,
            "revoked": self.mesh.authority.revoked,
        }

    def look(self) -> bool:
        """Look on: whether somebody who is out was told the discovery secret, though no record says so."""
        before = self.onlooker.looked
        is_outdated = self.onlooker.look(self.mesh.authority.revoked, told_secret(self.mesh, self.keys))
        if self.onlooker.looked is not None and self.onlooker.looked != before:
            self.remember(self.onlooker.looked)
        return is_outdated

    def is_discovery_known(self) -> bool:
        """Whether somebody who is out may know the discovery secret of this moment."""
        revoked, found = self.mesh.authority.revoked, self._discovery()
        if not found:
            return bool(revoked)
        has_seen = self.onlooker.sees(revoked, told_secret(self.mesh, self.keys))
        return has_seen or bool(exposed_to(found[0], revoked))

    def replace_discovery(self, now: Instant) -> None:
        """Replace the discovery secret, whoever's turn it is: a person waits for that."""
        published = sealing_keys(self.mesh)
        common = self._common(published, (), now)
        for task in rerolls(self._discovery(), self.mesh.authority.members, **common, outdated=_DISCOVERY):
            self._rerolled_s.pop(DISCOVERY_NAME, None)
            self._reroll(task, published, now)

    def _discovery(self) -> list[WantedSecret]:
        items = newest_secrets(self.mesh.ledger, self.mesh.authority)
        return [item for item in items if item.name == DISCOVERY_NAME]

    def _seal_again(self, task: Task, published: dict[NodeId, bytes], now: Instant) -> None:
        assert task.item is not None, "what is sealed again stands already"
        recipients = {node: published[node] for node in sorted(task.recipients)}
        marks = marked(task.marks, recipients)
        try:
            secret = seal_again(self.keys, self.mesh.authority.clan, task.item, recipients, os.urandom, marks)
        except SealedError as error:
            log.warning("secret %s: %s; set it again", task.name, error)
            return
        if self._publish(task.name, secret, now):
            log.info("secret %s: sealed again for %d recipients", task.name, len(recipients))

    def _reroll(self, task: Task, published: dict[NodeId, bytes], now: Instant) -> bool:
        """Replace a random value. Gives whether it did not have to wait."""
        if now.monotonic_s < self._rerolled_s.get(task.name, float("-inf")) + REROLL_PAUSE_S:
            return False
        if len(self._rerolled_s) >= NAMES_REMEMBERED_MAX:
            self._rerolled_s.pop(next(iter(self._rerolled_s)))
        self._rerolled_s[task.name] = now.monotonic_s
        recipients = {node: published[node] for node in sorted(task.recipients)}
        try:
            secret = self._anew(task.item, recipients)
        except SealedError as error:
            log.warning("secret %s: %s; set it again", task.name, error)
            return True
        if self._publish(task.name, secret, now):
            log.info("secret %s: who is removed or withdrawn knew it; it has a new random value", task.name)
        return True

    def _anew(self, item: WantedSecret | None, recipients: dict[NodeId, bytes]) -> Secret:
        """A new random value in the place of what stands, or of the secret that the clan was founded with."""
        own, clan = self.keys.node, self.mesh.authority.clan
        count = item.secret.random_bytes if item is not None else DISCOVERY_BYTES
        value = random_value(count, os.urandom)
        if item is not None:
            return seal_anew(own, clan, item, value, recipients, os.urandom, count)
        return seal(
            clan=clan,
            author=own,
            name=DISCOVERY_NAME,
            epoch=EPOCH_STEP,
            predecessor=None,
            value=value,
            owner="root",
            group="root",
            mode=0o400,
            audience=EVERYONE,
            recipients=recipients,
            entropy=os.urandom,
            random_bytes=count,
        )

    def _publish(self, name: str, secret: Secret, now: Instant) -> bool:
        try:
            self.mesh.publish(secret, slot=name, now=now)
        except ProtocolError as error:  # no slot is left for another name
            log.warning("secret %s: %s; set it on another device", name, error)
            return False
        return True
