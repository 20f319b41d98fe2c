"""Whom a secret is for: a pure matter of the members and of what its author said.

A target is a tag, `all`, or a device by its key. A device's name is no target: it could become another's, and who
joins chooses its own. A device that took another's place by an admin's word is meant where that was meant.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.names import TAG_ALL
from clanmesh_protocol.records import Secret
from clanmeshd.core.authority import Authority, Member


@dataclass(frozen=True, slots=True)
class Audience:
    """Whom a value is for: who has one of the tags, or is one of the nodes."""

    tags: frozenset[str]
    nodes: frozenset[NodeId] = frozenset()

    @classmethod
    def of(cls, secret: Secret) -> Self:
        """Whom a sealed value says that it is for."""
        return cls(frozenset(secret.targets), frozenset(secret.nodes))

    def takes_in(self, member: Member) -> bool:
        """Whether a member is meant."""
        tagged = not self.tags.isdisjoint({TAG_ALL, *member.tags})
        return tagged or not self.nodes.isdisjoint({member.node, *member.forerunners})


NOBODY: Final = Audience(frozenset())
EVERYONE: Final = Audience(frozenset({TAG_ALL}))


def tags_in_use(authority: Authority) -> frozenset[str]:
    """The tags that a member has, or that one who comes by an invite will have; `all` among them."""
    carried = {tag for member in authority.members.values() for tag in member.tags}
    promised = {tag for standing in authority.invites.values() for tag in standing.invite.tags}
    return frozenset({TAG_ALL, *carried, *promised})


def recipients(audience: Audience, members: Mapping[NodeId, Member], now_unix_s: float) -> frozenset[NodeId]:
    """Everyone who is meant and may have secrets: who was confirmed by an admin, and has not expired."""
    return frozenset(
        node
        for node, member in members.items()
        if member.confirmed and member.is_current(now_unix_s) and audience.takes_in(member)
    )
