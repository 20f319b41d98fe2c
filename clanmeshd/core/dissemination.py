"""How a new record spreads: a wave of pushes, then its id told lazily.

In a clan of up to eight others the author's push reaches everyone in one hop, and whoever got it from the author
need not push again. In larger ones each node pushes what is new to it to its two neighbours on the ring of up
members and to one at random: random peers alone would miss some, the ring alone would be slow. What the wave
missed (loss) is repaired by ids: to two peers after 20 ms, and to everyone on the next pings.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from math import inf
from random import Random  # noqa: TID251

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import SHORT_ID_BYTES
from clanmesh_protocol.records import Record
from clanmeshd.core.limits import (
    IDS_PER_FRAME_MAX,
    LAZY_DELAY_S,
    LAZY_PEERS,
    LAZY_ROUNDS,
    LAZY_TELLINGS,
    PUSH_ALL_PEERS_MAX,
    PUSH_RANDOM,
    RECENT_RECORDS_MAX,
    RECENT_S,
)


@dataclass(slots=True)
class _Recent:
    number: int  # grows with each record
    register: tuple[NodeId, int, str]
    hashed: bool  # part of the set that roots are of
    until_s: float
    holders: set[NodeId]
    told: dict[NodeId, int] = field(default_factory=dict)  # times that pings to a peer named it
    tellings: int = 0  # the sum of them


class Dissemination:
    """Remembers the newest records and who has them. Bounded; what is forgotten is anti-entropy's."""

    def __init__(self, own: NodeId, rng: Random) -> None:
        self._own = own
        self._rng = rng
        self._recent: dict[bytes, _Recent] = {}  # by short id, oldest first
        self._newest: dict[tuple[NodeId, int, str], bytes] = {}  # of each register the recent one
        self._named: dict[bytes, _Recent] = {}  # those of the recent ones that pings still name
        self._lazy: list[tuple[float, bytes]] = []  # (when, short id), in order
        self._numbered = 0
        self._agreed: dict[NodeId, int] = {}  # how far the records of peers whose root was ours are known there

    def spread(self, record: Record, source: NodeId | None, up: Sequence[NodeId], now_s: float) -> list[NodeId]:
        """Take a record that is new here; say to whom it is pushed now. `source` None: it is our own."""
        short_id = short_id_of(record)
        self._numbered += 1
        until_s, holders = now_s + RECENT_S, {self._own, record.author}
        recent = _Recent(self._numbered, record.register, not record.is_volatile, until_s, holders)
        if source is not None:
            recent.holders.add(source)
        self._forget(self._newest.get(record.register))  # nobody could be given that one any more
        self._recent[short_id] = self._named[short_id] = recent
        self._newest[record.register] = short_id
        self._lazy.append((now_s + LAZY_DELAY_S, short_id))
        self._trim(now_s)
        return self._targets(record, source, up, recent.holders)

    def _targets(
        self, record: Record, source: NodeId | None, up: Sequence[NodeId], holders: set[NodeId]
    ) -> list[NodeId]:
        lacking = [node for node in up if node not in holders]
        if len(up) <= PUSH_ALL_PEERS_MAX:
            return [] if source == record.author else lacking
        ring = [node for node in self._neighbours(up) if node not in holders]
        others = [node for node in lacking if node not in ring]
        return ring + self._rng.sample(others, min(PUSH_RANDOM, len(others)))

    def _neighbours(self, up: Sequence[NodeId]) -> list[NodeId]:
        ring = sorted((*up, self._own))
        at = ring.index(self._own)
        return [ring[at - 1], ring[(at + 1) % len(ring)]]

    def held_by(self, short_id: bytes, node: NodeId) -> None:
        """A peer showed that it has a record."""
        recent = self._recent.get(short_id)
        if recent is not None:
            recent.holders.add(node)

    def agrees(self, node: NodeId) -> None:
        """A peer has the same hashed set as this device: all of it that is here by now."""
        self._agreed[node] = self._numbered

    def retain(self, members: frozenset[NodeId]) -> None:
        """Forget how far all others agreed."""
        self._agreed = {node: number for node, number in self._agreed.items() if node in members}

    def _has(self, node: NodeId, recent: _Recent) -> bool:
        return node in recent.holders or (recent.hashed and self._agreed.get(node, 0) >= recent.number)

    def holders(self, short_id: bytes) -> frozenset[NodeId]:
        """Who is known to have a record of the last minute, this device too."""
        recent = self._recent.get(short_id)
        if recent is None:
            return frozenset()
        return frozenset(recent.holders.union(node for node in self._agreed if self._has(node, recent)))

    def names_for(self, node: NodeId, now_s: float) -> list[bytes]:
        """Short ids to name on a ping to a peer: recent ones that it may have missed, a few times each."""
        for short_id, recent in list(self._named.items()):
            if recent.tellings >= LAZY_TELLINGS or now_s >= recent.until_s:
                del self._named[short_id]
        lacking = [
            (recent.told.get(node, 0), short_id)
            for short_id, recent in self._named.items()
            if recent.told.get(node, 0) < LAZY_ROUNDS and not self._has(node, recent)
        ]
        names = [short_id for _, short_id in nsmallest(IDS_PER_FRAME_MAX, lacking)]
        for short_id in names:
            recent = self._named[short_id]
            recent.told[node] = recent.told.get(node, 0) + 1
            recent.tellings += 1
        return names

    def next_deadline(self) -> float:
        """When ids are to be told; infinity for never."""
        return self._lazy[0][0] if self._lazy else inf

    def handle_deadline(self, up: Sequence[NodeId], now_s: float) -> list[tuple[NodeId, bytes]]:
        """Say whom to tell which ids now."""
        due = [short_id for at_s, short_id in self._lazy if at_s <= now_s]
        self._lazy = [(at_s, short_id) for at_s, short_id in self._lazy if at_s > now_s]
        told = []
        for short_id in due:
            recent = self._recent.get(short_id)
            lacking = [node for node in up if recent is not None and not self._has(node, recent)]
            told += [(node, short_id) for node in self._rng.sample(lacking, min(LAZY_PEERS, len(lacking)))]
        return told

    def _trim(self, now_s: float) -> None:
        for short_id, recent in list(self._recent.items()):
            if recent.until_s > now_s and len(self._recent) <= RECENT_RECORDS_MAX:
                break
            self._forget(short_id)

    def _forget(self, short_id: bytes | None) -> None:
        recent = self._recent.pop(short_id, None) if short_id is not None else None
        if short_id is not None and recent is not None:
            self._named.pop(short_id, None)
            if self._newest.get(recent.register) == short_id:
                del self._newest[recent.register]


def short_id_of(record: Record) -> bytes:
    """The first 8 bytes of a record's id."""
    return record.id[:SHORT_ID_BYTES]
