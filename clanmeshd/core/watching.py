"""Who watches whom: each member the next few on a ring, so that each is watched by as many.

After Suresh et al., "Stable and Consistent Membership at Scale with Rapid" (USENIX ATC 2018): a fixed number of
observers makes what one node costs, and how soon it is missed, the same at any size. The order on the ring is that
of hashes, which says nothing of who joined when or where.
"""

from bisect import bisect_right
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from clanmesh_protocol.keys import NodeId
from clanmeshd.core.limits import WATCHED, WATCHED_ALL_MAX

_PERSON: Final = b"clanmesh-watch"
_REMEMBERED_MAX: Final = 4096


def watched_by(own: NodeId, others: Iterable[NodeId]) -> frozenset[NodeId]:
    """The members that `own` watches; all of a small clan."""
    places = sorted((_place(node), node) for node in others)
    if len(places) <= WATCHED_ALL_MAX:
        return frozenset(node for _, node in places)
    first = bisect_right(places, (_place(own), own))
    return frozenset(places[(first + step) % len(places)][1] for step in range(WATCHED))


@lru_cache(maxsize=_REMEMBERED_MAX)
def _place(node: NodeId) -> bytes:
    return blake2b(node, digest_size=8, person=_PERSON).digest()
