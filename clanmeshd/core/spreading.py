"""From whom a device gets a commit that has only just been pushed, when nobody but its pusher has it.

All members that are up stand in a tree, the author of the head record on top: two below each, in an order that the
commit shuffles, so that every device works out the same one and no device is always in the middle. So a commit
leaves its pusher twice, however many the members are, and is everywhere after a few steps.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from clanmesh_protocol.keys import NodeId

FAN_OUT: Final = 2  # copies that each device sends
RELAYS_EACH_MAX: Final = 6  # of one commit: the way up through a clan of 120, and who stands in when some are gone
_PERSON: Final = b"clanmesh-spread"


def sources(commit: bytes, author: NodeId, own: NodeId, members: Iterable[NodeId]) -> tuple[NodeId, ...]:
    """Whom to ask for a new commit, in this order.

    First the one right above, then those above it: nobody waits in a circle. The author comes last. The two below
    the author ask each other second: one of them may have what the author cannot give any more.
    """
    ordered = sorted({*members, own} - {author}, key=lambda node: _place(commit, node))
    place = ordered.index(own)
    if place < FAN_OUT:
        return (author, *(node for node in ordered[:FAN_OUT] if node != own))
    way = []
    while place >= FAN_OUT:
        place = (place - FAN_OUT) // FAN_OUT
        way.append(ordered[place])
    beside = [node for node in ordered[:FAN_OUT] if node not in way]
    return (*[*way, *beside][: RELAYS_EACH_MAX - 1], author)


def _place(commit: bytes, node: NodeId) -> bytes:
    return blake2b(commit + node, digest_size=8, person=_PERSON).digest()
