"""Who may read a secret, who passes it on to members that come later, and who replaces it. Pure.

Whom a secret is for is said by tags and keys (`core.audience`). Members that no admin has confirmed yet read
nothing, nor do those whose membership has expired. A value is sealed once to those who match at that time; whoever
matches later gets it from a holder, who seals the same value again under the next epoch. Of all holders that are
up the one with the lowest node id does it, so that one new member does not set off as many new records as there
are holders.

Who was removed still knows what it could read. A value that a device threw dice for is thrown anew by the lowest
of those it is for. A person's value is sealed again without the removed device, whose place among the wraps is
kept by a mark that opens nothing: so everybody can tell that the value is exposed, until somebody sets another.
What a removed device itself has set is not sealed again: that would make it the word of a member.

The discovery secret is also told to who joins, and stands in invites: the record says nothing of those. So whoever
looks on while a device or an invite is removed takes the value of that moment for exposed.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import RECIPIENTS_MAX
from clanmesh_protocol.records import Wrap
from clanmeshd.core.audience import EVERYONE, Audience, recipients
from clanmeshd.core.effects import WantedSecret
from clanmeshd.core.roster import Member
from clanmeshd.core.wanted import DISCOVERY_NAME

RESERVED_PREFIX: Final = "clanmesh-"  # secrets of our own: nobody sets them, and they are placed nowhere
MARK: Final = bytes(80)  # in the place of a sealed key: who has this could read the value once, and is removed
MARKS_MAX: Final = 16  # of one secret; one is enough to show that a value is exposed


@dataclass(frozen=True, slots=True)
class Reseal:
    """One value that this device shall seal again, to all `recipients`, beside the `marks` of removed devices."""

    item: WantedSecret
    recipients: frozenset[NodeId]
    marks: frozenset[NodeId] = frozenset()


def is_reserved(name: str) -> bool:
    """Whether a secret is one of our own."""
    return name.startswith(RESERVED_PREFIX)


def holders(item: WantedSecret) -> frozenset[NodeId]:
    """Everyone whom a value is sealed to."""
    return frozenset(wrap.node for wrap in item.secret.wraps if wrap.sealed != MARK)


def exposed_to(item: WantedSecret, revoked: Collection[NodeId]) -> frozenset[NodeId]:
    """The removed devices that know a value: they could read it, or made it."""
    return frozenset(node for node in (item.author, *(wrap.node for wrap in item.secret.wraps)) if node in revoked)


def marked(nodes: Collection[NodeId], recipients: Collection[NodeId]) -> tuple[Wrap, ...]:
    """The marks of removed devices, as many as there is room for beside the recipients."""
    room = max(0, min(MARKS_MAX, RECIPIENTS_MAX - len(recipients)))
    return tuple(Wrap(node, MARK) for node in sorted(nodes)[:room])


def missing_recipients(
    item: WantedSecret, members: Mapping[NodeId, Member], sealing_keys: Collection[NodeId], now_unix_s: float
) -> frozenset[NodeId]:
    """Members that a value is meant for and that hold no key to it, as far as something can be sealed to them."""
    meant = recipients(Audience.of(item.secret), members, now_unix_s)
    return (meant - holders(item)) & frozenset(sealing_keys)


def resealer(
    item: WantedSecret, members: Mapping[NodeId, Member], up: Collection[NodeId], now_unix_s: float
) -> NodeId | None:
    """The holder that seals a value again: the lowest node id of those that are up. None: wait for one."""
    return min((node for node in holders(item) if _acts(node, members, up, now_unix_s)), default=None)


def _acts(node: NodeId, members: Mapping[NodeId, Member], up: Collection[NodeId], now_unix_s: float) -> bool:
    return node in members and members[node].is_current(now_unix_s) and node in up


def reseals(
    items: Iterable[WantedSecret],
    members: Mapping[NodeId, Member],
    *,
    own: NodeId,
    up: Collection[NodeId],
    sealing_keys: Collection[NodeId],
    now_unix_s: float,
    revoked: Collection[NodeId] = frozenset(),
) -> list[Reseal]:
    """What this device, `own`, shall seal again now; `up` are the members that answer.

    It ends: behind a new record nobody is missing, and who is removed has no more than a mark in it.
    """
    alive = {*up, own}
    found = []
    for item in items:
        known_to = exposed_to(item, revoked)
        if item.author in known_to or (known_to and item.secret.random_bytes):
            continue  # it needs another value
        missing = missing_recipients(item, members, sealing_keys, now_unix_s)
        if not (missing or holders(item) & known_to) or resealer(item, members, alive, now_unix_s) != own:
            continue
        everyone = recipients(Audience.of(item.secret), members, now_unix_s) & frozenset(sealing_keys)
        if len(everyone) <= RECIPIENTS_MAX:
            found.append(Reseal(item, everyone, known_to))
    return found


def rerolls(
    items: Iterable[WantedSecret],
    members: Mapping[NodeId, Member],
    *,
    own: NodeId,
    up: Collection[NodeId],
    sealing_keys: Collection[NodeId],
    now_unix_s: float,
    revoked: Collection[NodeId],
    outdated: Collection[str] = (),
) -> list[Reseal]:
    """The random values that this device, `own`, shall replace now, since a removed device knows them.

    `outdated` are names of values that one may know though it is not among those they are sealed to.

    The lowest of those that a value is for and that are up does it: no device learns what is not meant for it, and
    no two do it unless they disagree about who is up; then one of the two values stands, and both are unexposed.
    """
    found = []
    for item in items:
        if not item.secret.random_bytes or not (item.name in outdated or exposed_to(item, revoked)):
            continue
        everyone = _whom_to_tell(Audience.of(item.secret), members, own, up, sealing_keys, now_unix_s)
        if everyone:
            found.append(Reseal(item, everyone))
    return found


def _whom_to_tell(
    audience: Audience,
    members: Mapping[NodeId, Member],
    own: NodeId,
    up: Collection[NodeId],
    sealing_keys: Collection[NodeId],
    now_unix_s: float,
) -> frozenset[NodeId]:
    """Whom this device shall seal a new value to: all whom it is for; nobody where another one does it."""
    everyone = recipients(audience, members, now_unix_s) & frozenset(sealing_keys)
    able = [node for node in everyone if node in up or node == own]
    return everyone if able and min(able) == own and len(everyone) <= RECIPIENTS_MAX else frozenset()


@dataclass(slots=True)
class Onlooker:
    """Sees removals, and which discovery secret was the clan's at that moment."""

    _revoked: frozenset[NodeId] | None = None  # by the last look; what was removed before the first one is history
    _value: bytes | None = field(default=None, repr=False)
    _outdated: bytes | None = field(default=None, repr=False)

    def look(self, revoked: frozenset[NodeId], value: bytes | None) -> bool:
        """Whether the value, None where there is none, is to be replaced: since it came somebody was removed."""
        has_removal = self._revoked is not None and not revoked <= self._revoked
        if has_removal and value == self._value:
            self._outdated = value
        self._revoked, self._value = revoked, value
        return value is not None and value == self._outdated


def needs_discovery(
    items: Iterable[WantedSecret],
    members: Mapping[NodeId, Member],
    *,
    own: NodeId,
    up: Collection[NodeId],
    sealing_keys: Collection[NodeId],
    now_unix_s: float,
    revoked: Collection[NodeId],
) -> frozenset[NodeId]:
    """Whom this device shall seal the first discovery secret to; empty when it is not the one to do it.

    The one that the clan was founded with is known to everybody who ever had a token. So the first removal, of a
    device or of an invite, calls for another; later ones replace it as any random secret.
    """
    if not revoked or any(item.name == DISCOVERY_NAME for item in items):
        return frozenset()
    return _whom_to_tell(EVERYONE, members, own, up, sealing_keys, now_unix_s)
