"""Who may read a secret, who passes it on to members that come later, and who replaces it. Pure.

Whom a secret is for is said by tags and keys (`core.audience`). Members that no admin has confirmed yet read
nothing, nor do those whose membership has expired. A value is sealed once to those who match at that time; whoever
matches later gets it from a holder, who seals the same value again under the next epoch. Of all holders that are
up the one with the lowest node id does it, so that one new member does not set off as many new records as there
are holders. Where that one does nothing, the next one has its turn after a minute.

Who was removed still knows what it could read. A value that a device threw dice for is thrown anew by the lowest
of those it is for. A person's value is sealed again without the removed device, whose place among the wraps is
kept by a mark that opens nothing: so everybody can tell that the value is exposed, until somebody sets another.
What a removed device itself has set is not sealed again: that would make it the word of a member.

The discovery secret is also told to who joins, and stands in invites: the record says nothing of those. So whoever
looks on while a device or an invite is removed takes the value of that moment for exposed, and remembers over a
restart what it looked on at.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, TypeAlias

from clanmesh_protocol.keys import NodeId, RecordId
from clanmesh_protocol.limits import RECIPIENTS_MAX
from clanmesh_protocol.records import Wrap
from clanmeshd.core.audience import EVERYONE, Audience, recipients
from clanmeshd.core.effects import WantedSecret
from clanmeshd.core.roster import Member
from clanmeshd.core.wanted import DISCOVERY_NAME

RESERVED_PREFIX: Final = "clanmesh-"  # secrets of our own: nobody sets them, and they are placed nowhere
MARK: Final = bytes(80)  # in the place of a sealed key: who has this could read the value once, and is removed
TURN_S: Final = 60.0  # of each of those whose turn it is first: one may have started only now, and know less
TURNS_MAX: Final = 10  # then all others do it, and one of the values stands
LOOKED_BYTES: Final = 16  # of a hash that is compared with none but our own
MARKS_MAX: Final = 16  # of one secret; one is enough to show that a value is exposed


@dataclass(frozen=True, slots=True)
class Task:
    """A value to be sealed again, or replaced: to all `recipients`, beside the `marks` of removed devices."""

    item: WantedSecret | None  # what stands; None: there is no discovery secret yet
    recipients: frozenset[NodeId]
    marks: frozenset[NodeId] = frozenset()
    rank: int = 0  # how many that are up have their turn before this device

    @property
    def name(self) -> str:
        """Of which secret."""
        return self.item.name if self.item is not None else DISCOVERY_NAME


@dataclass(slots=True)
class Turns:
    """Whose turn it is. Whoever does nothing, since it is stuck, knows less or wishes us ill, holds up nobody."""

    _since_s: dict[tuple[str, RecordId | None], float] = field(default_factory=dict)

    def own(self, tasks: Iterable[Task], now_s: float) -> list[Task]:
        """Those of all tasks that there are which this device is to do now. Monotonic seconds."""
        keyed = [((task.name, task.item.record_id if task.item is not None else None), task) for task in tasks]
        self._since_s = {key: self._since_s.get(key, now_s) for key, _ in keyed}
        return [task for key, task in keyed if now_s >= self._since_s[key] + TURN_S * min(task.rank, TURNS_MAX)]


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


def resealers(
    item: WantedSecret, members: Mapping[NodeId, Member], up: Collection[NodeId], now_unix_s: float
) -> list[NodeId]:
    """The holders that can seal a value again, in the order of their turns: those that are up, by node id."""
    return sorted(node for node in holders(item) if _acts(node, members, up, now_unix_s))


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
) -> list[Task]:
    """What is to be sealed again and this device, `own`, can; `up` are the members that answer.

    It ends: behind a new record nobody is missing, and who is removed has no more than a mark in it.
    """
    alive = {*up, own}
    found = []
    for item in items:
        known_to = exposed_to(item, revoked)
        if item.author in known_to or (known_to and item.secret.random_bytes):
            continue  # it needs another value
        missing = missing_recipients(item, members, sealing_keys, now_unix_s)
        able = resealers(item, members, alive, now_unix_s)
        if not (missing or holders(item) & known_to) or own not in able:
            continue
        everyone = recipients(Audience.of(item.secret), members, now_unix_s) & frozenset(sealing_keys)
        if len(everyone) <= RECIPIENTS_MAX:
            found.append(Task(item, everyone, known_to, able.index(own)))
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
) -> list[Task]:
    """The random values that are to be replaced, since a removed device knows them, and this device, `own`, can.

    `outdated` are names of values that one may know though it is not among those they are sealed to. The discovery
    secret that the clan was founded with, which is no record, is known to everybody who ever had a token: so the
    first removal, of a device or of an invite, calls for another.

    The lowest of those that a value is for and that are up does it first: no device learns what is not meant for
    it, and no two do it unless they disagree about who is up; then one of the two values stands, and both are
    unexposed.
    """
    standing = list(items)
    known: list[WantedSecret | None] = [
        item
        for item in standing
        if item.secret.random_bytes and (item.name in outdated or exposed_to(item, revoked))
    ]
    if revoked and all(item.name != DISCOVERY_NAME for item in standing):
        known.append(None)
    found = []
    for item in known:
        audience = Audience.of(item.secret) if item is not None else EVERYONE
        everyone = recipients(audience, members, now_unix_s) & frozenset(sealing_keys)
        if own in everyone and len(everyone) <= RECIPIENTS_MAX:
            found.append(Task(item, everyone, rank=sum(node < own and node in up for node in everyone)))
    return found


Looked: TypeAlias = tuple[bytes, bytes]  # hashes, of 16 bytes each: of a value, and of the keys that were out


@dataclass(slots=True)
class Onlooker:
    """Sees removals, and which discovery secret was the clan's at that moment."""

    looked: Looked | None = None  # when nobody who was out was told the value; at first by an earlier run
    _revoked: frozenset[NodeId] | None = None  # by the last look
    _value: bytes | None = field(default=None, repr=False)
    _outdated: bytes | None = field(default=None, repr=False)

    def look(self, revoked: frozenset[NodeId], value: bytes | None) -> bool:
        """Whether the value, None where there is none, is to be replaced: since it came somebody was removed."""
        if value is None:
            return False
        is_outdated = self.sees(revoked, value)
        if is_outdated:
            self._outdated = value
        else:
            self.looked = _looked(revoked, value)
        self._revoked, self._value = revoked, value
        return is_outdated

    def sees(self, revoked: frozenset[NodeId], value: bytes | None) -> bool:
        """What `look` would say at this moment. What was before the first look of all is history."""
        if value is None or value == self._outdated:
            return value is not None
        if self._revoked is not None:
            return value == self._value and not revoked <= self._revoked
        now = _looked(revoked, value)
        return self.looked is not None and self.looked[0] == now[0] and self.looked[1] != now[1]


def _looked(revoked: frozenset[NodeId], value: bytes) -> Looked:
    return _hash(value), _hash(b"".join(sorted(revoked)))


def _hash(data: bytes) -> bytes:
    return blake2b(data, digest_size=LOOKED_BYTES, person=b"clanmesh-looked").digest()
