"""How a new record spreads: a wave of pushes, then its id told lazily.

In a clan of up to eight others the author's push reaches everyone in one hop, and whoever got it from the author
need not push again; but where a device is, it may have been able to tell one other alone. In larger ones each node
pushes what is new to it to its two neighbours on the ring of up members and to one at random: random peers alone
would miss some, the ring alone would be slow.

What the wave missed (loss) is repaired by ids. Soon after a record came, its id goes to the ring neighbours that
were not pushed it, which also tells whoever pushed it here that it arrived, and to two others, or in small clans
to fewer. To a neighbour that has not shown the record by then the id is told again, less and less often: so only a
member whose two neighbours and all links to it fail waits for a ping that names it, or for a comparison of sets.
Who is reached by a stream alone is told by all to whom it has one: it need not be up for anybody else.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from math import ceil
from random import Random  # noqa: TID251

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import SHORT_ID_BYTES
from clanmesh_protocol.records import Kind, Record
from clanmeshd.core.agenda import Agenda
from clanmeshd.core.limits import (
    DRAWN_MAX,
    IDS_PER_FRAME_MAX,
    LAZY_PEERS,
    LAZY_ROUNDS,
    LAZY_TELLINGS,
    PUSH_ALL_PEERS_MAX,
    PUSH_RANDOM,
    RECENT_RECORDS_MAX,
    RECENT_S,
    TELL_STEPS_S,
    TELL_TICK_S,
)


@dataclass(slots=True)
class _Recent:
    number: int  # grows with each record
    register: tuple[NodeId, int, str]
    hashed: bool  # part of the set that roots are of
    until_s: float
    holders: set[NodeId]
    aware: set[NodeId] = field(default_factory=set)  # who was given it or told of it, unless that was lost
    step: int = 0  # how often the ring neighbours were told
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
        self._steps: Agenda[bytes] = Agenda()  # when the neighbours are told again
        self._numbered = 0
        self._carried: set[NodeId] = set()  # whom a stream leads to, in the place of datagrams
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
        self._steps.set(short_id, _tick(now_s + TELL_STEPS_S[0]))
        self._trim(now_s)
        targets = self._targets(recent, source, record.author, up)
        recent.aware.update(targets)
        return targets

    def _targets(
        self, recent: _Recent, source: NodeId | None, author: NodeId, up: Sequence[NodeId]
    ) -> list[NodeId]:
        if len(up) <= PUSH_ALL_PEERS_MAX:
            is_told_by_author = source == author and recent.register[1] != Kind.NODE
            return [] if is_told_by_author else [node for node in up if node not in recent.holders]
        ring = [node for node in self._neighbours(up) if node not in recent.holders]
        return ring + self._others(recent, self._drawn(up), PUSH_RANDOM, ring)

    def around(self, up: Sequence[NodeId]) -> list[NodeId]:
        """Give the ring neighbours, or all in a small clan."""
        return list(up) if len(up) <= PUSH_ALL_PEERS_MAX else self._neighbours(up)

    def _neighbours(self, up: Sequence[NodeId]) -> list[NodeId]:
        at = bisect_left(up, self._own)
        return list(dict.fromkeys((up[at - 1], up[at % len(up)]))) if up else []

    def _drawn(self, up: Sequence[NodeId]) -> list[NodeId]:
        return self._rng.sample(up, min(DRAWN_MAX, len(up)))

    def _others(self, recent: _Recent, drawn: Sequence[NodeId], count: int, chosen: list[NodeId]) -> list[NodeId]:
        """Give the first of those drawn who may lack a record and were not told of it, nor are chosen already."""
        return [node for node in drawn if node not in chosen and self._may_lack(node, recent)][:count]

    def _may_lack(self, node: NodeId, recent: _Recent) -> bool:
        return node not in recent.aware and not self._has(node, recent)

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
        self._carried &= members

    def set_carried(self, node: NodeId, *, is_carried: bool) -> None:
        """Say whether a stream leads to a peer, in the place of datagrams."""
        (self._carried.add if is_carried else self._carried.discard)(node)

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
        return self._steps.next_s()

    def handle_deadline(self, up: Sequence[NodeId], now_s: float) -> list[tuple[NodeId, bytes]]:
        """Say whom to tell which ids now."""
        told: list[tuple[NodeId, bytes]] = []
        due = self._steps.pop_due(now_s)
        drawn = self._drawn(up) if due else []  # the same for all, so that few datagrams tell of many records
        for short_id in due:
            recent = self._recent[short_id]
            nodes = self._waiting(recent, up) if recent.step else self._first(recent, up, drawn)
            recent.aware.update(nodes)
            recent.step += 1
            told += [(node, short_id) for node in nodes]
            if recent.step < len(TELL_STEPS_S) and self._waiting(recent, up):
                self._steps.set(short_id, _tick(now_s + TELL_STEPS_S[recent.step] - TELL_STEPS_S[recent.step - 1]))
        return told

    def _first(self, recent: _Recent, up: Sequence[NodeId], drawn: list[NodeId]) -> list[NodeId]:
        near = dict.fromkeys((*self._neighbours(up), *(node for node in up if node in self._carried)))
        ring = [node for node in near if node not in recent.aware]
        count = LAZY_PEERS if len(up) > PUSH_ALL_PEERS_MAX else max(0, LAZY_PEERS - len(ring))
        return ring + self._others(recent, drawn, count, ring)

    def _waiting(self, recent: _Recent, up: Sequence[NodeId]) -> list[NodeId]:
        """Give the neighbours that have not shown a record yet."""
        return [node for node in self._neighbours(up) if not self._has(node, recent)]

    def _trim(self, now_s: float) -> None:
        for short_id, recent in list(self._recent.items()):
            if recent.until_s > now_s and len(self._recent) <= RECENT_RECORDS_MAX:
                break
            self._forget(short_id)

    def _forget(self, short_id: bytes | None) -> None:
        recent = self._recent.pop(short_id, None) if short_id is not None else None
        if short_id is not None and recent is not None:
            self._named.pop(short_id, None)
            self._steps.drop(short_id)
            if self._newest.get(recent.register) == short_id:
                del self._newest[recent.register]


def _tick(at_s: float) -> float:
    """The moment at which all that is due about then is told."""
    return ceil(at_s / TELL_TICK_S) * TELL_TICK_S


def short_id_of(record: Record) -> bytes:
    """The first 8 bytes of a record's id."""
    return record.id[:SHORT_ID_BYTES]
