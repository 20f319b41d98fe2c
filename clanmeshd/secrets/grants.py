"""Who may read a secret, and who passes it on to members that come later. Pure.

A target is a tag, a node's name, or `all`. Members that no admin has confirmed yet read nothing. A value is
sealed once to those who match at that time; whoever matches later gets it from a holder, who seals the same
value again under the next epoch. Of all holders that are up the one with the lowest node id does it, so that
one new member does not set off as many new records as there are holders.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import RECIPIENTS_MAX
from clanmesh_protocol.names import TAG_ALL
from clanmeshd.core.effects import WantedSecret
from clanmeshd.core.roster import Member


@dataclass(frozen=True, slots=True)
class Reseal:
    """One value that this device shall seal again, to all of `recipients`."""

    item: WantedSecret
    recipients: frozenset[NodeId]


def recipients(targets: Collection[str], members: Mapping[NodeId, Member]) -> frozenset[NodeId]:
    """Everyone whom the targets name."""
    wanted = frozenset(targets)
    return frozenset(
        node
        for node, member in members.items()
        if member.confirmed and not wanted.isdisjoint({TAG_ALL, member.name, *member.tags})
    )


def missing_recipients(
    item: WantedSecret, members: Mapping[NodeId, Member], sealing_keys: Collection[NodeId]
) -> frozenset[NodeId]:
    """Members that a value is meant for and that hold no key to it, as far as something can be sealed to them."""
    holders = {wrap.node for wrap in item.secret.wraps}
    return (recipients(item.secret.targets, members) - holders) & frozenset(sealing_keys)


def resealer(item: WantedSecret, members: Mapping[NodeId, Member], up: Collection[NodeId]) -> NodeId | None:
    """The holder that seals a value again: the lowest node id of those that are up. None: wait for one."""
    return min((wrap.node for wrap in item.secret.wraps if wrap.node in members and wrap.node in up), default=None)


def reseals(
    items: Iterable[WantedSecret],
    members: Mapping[NodeId, Member],
    *,
    own: NodeId,
    up: Collection[NodeId],
    sealing_keys: Collection[NodeId],
) -> list[Reseal]:
    """What this device, `own`, shall seal again now; `up` are the members that answer."""
    alive = {*up, own}
    found = []
    for item in items:
        missing = missing_recipients(item, members, sealing_keys)
        if not missing or resealer(item, members, alive) != own:
            continue
        everyone = recipients(item.secret.targets, members) & frozenset(sealing_keys)
        if len(everyone) <= RECIPIENTS_MAX:
            found.append(Reseal(item, everyone))
    return found
