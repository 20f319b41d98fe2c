"""The record set: registers with one writer each, of which the newest value stands.

The state is a function of the set of records that ever came in, whatever their order: a register keeps the
highest (seq, id), authority operations are all kept, and of an author who uses more slots of a kind than the
protocol gives, or of all the kinds together that this version does not know, the lowest slots stay. Who may write
what is `authority`'s question; it is asked before `apply`, and again of all that is here, through `retain`, when
the answer has changed.

Volatile kinds (status, suspicion) lie beside the hashed set and lapse. What lapsed does not come back: an echo
from a slow peer is stale.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeAlias

from clanmesh_protocol.keys import ClanId, NodeId, RecordId
from clanmesh_protocol.limits import (
    RECORD_ID_BYTES,
    SHORT_ID_BYTES,
    SLOTS_PER_AUTHOR_MAX,
    SLOTS_PER_AUTHOR_UNKNOWN_KIND_MAX,
    SLOTS_PER_AUTHOR_UNKNOWN_KINDS_MAX,
)
from clanmesh_protocol.records import Kind, Record
from clanmesh_protocol.signing import Verified
from clanmeshd.core.agenda import Agenda
from clanmeshd.core.limits import FLOORS_OF_OTHERS_MAX
from clanmeshd.core.trie import Trie

VOLATILE_TTL_S_MAX: Final = 86_400  # a status that asks for more, or for no end, lapses after a day

_Register: TypeAlias = tuple[NodeId, int, str]


class Outcome(Enum):
    """What became of a record."""

    NEW = auto()  # the state has changed
    DUPLICATE = auto()  # it was here already
    STALE = auto()  # its register holds something newer
    FULL = auto()  # its author has used up the slots of this kind


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply` did. Only with NEW did anything change."""

    outcome: Outcome
    replaced: Record | None = None  # the register's former value
    displaced: Record | None = None  # another slot's value that had to make room
    twin: Record | None = None  # the author signed this one and the new one with one seq

    @property
    def is_new(self) -> bool:
        """The state has changed."""
        return self.outcome is Outcome.NEW

    @property
    def equivocation(self) -> bool:
        """The author signed two contents with one seq."""
        return self.twin is not None


class Ledger:
    """All records of one clan that this node holds. Only verified ones come in."""

    def __init__(self, clan: ClanId) -> None:
        self.clan = clan
        self.remembered: dict[str, object] = {}  # what was worked out of all this last; it goes with it
        self._kinds: dict[int, dict[NodeId, dict[str, Verified[Record]]]] = {}
        self._by_short_id: dict[bytes, Verified[Record]] = {}
        self._trie = Trie()
        self.version = 0  # grows with each change: the key of whatever is derived from all of this
        self._versions: dict[int, int] = {}
        self._sorted: dict[int, tuple[int, tuple[Verified[Record], ...]]] = {}  # by kind: version, `of_kind` then
        self._lapses: Agenda[_Register] = Agenda()  # volatile registers: when their value lapses, monotonic
        self._floors: dict[_Register, Record] = {}  # volatile registers: the newest that lapsed, oldest first
        self._verdicts: dict[RecordId, bool] = {}  # of what stands here

    # --- asking --------------------------------------------------------------------------------------------

    def newer(self, record: Record) -> bool:
        """Say whether `apply` could have a use for this record; asked before its signature is checked.

        True for an equal seq with another id too: that is how equivocation shows.
        """
        if self.known(record.id):
            return False
        current = self._shelf(record).get(_key(record))
        if current is None:
            return self._is_above_floor(record) and self._has_room(record)
        return record.seq >= current.value.seq

    def known(self, any_id: bytes) -> bool:
        """Say whether a record is here, by its id (32 bytes) or short id (8)."""
        found = self._by_short_id.get(any_id[:SHORT_ID_BYTES])
        return found is not None and (len(any_id) < RECORD_ID_BYTES or found.value.id == any_id)

    def get(self, author: NodeId, kind: int, slot: str) -> Verified[Record] | None:
        """The value of a register; of an authority slot the highest one."""
        shelf = self._kinds.get(kind, {}).get(author, {})
        if kind != Kind.AUTHORITY:
            return shelf.get(slot)
        values = (entry for entry in shelf.values() if entry.value.slot == slot)
        return max(values, key=lambda entry: entry.value.order, default=None)

    def of_kind(self, kind: int) -> Sequence[Verified[Record]]:
        """All values of a kind, tombstones too, sorted by author and slot."""
        version = self._versions.get(kind, 0)
        held = self._sorted.get(kind)
        if held is None or held[0] != version:
            shelves = self._kinds.get(kind, {})
            entries = (shelves[author][key] for author in sorted(shelves) for key in sorted(shelves[author]))
            held = self._sorted[kind] = version, tuple(entries)
        return held[1]

    def by_short_id(self, short_id: bytes) -> Record | None:
        """The record that begins its id so, volatile ones too."""
        found = self._by_short_id.get(short_id)
        return found.value if found is not None else None

    def records(self) -> list[Record]:
        """The hashed set, sorted by kind (authority first), author and slot."""
        return [entry.value for kind in sorted(self._kinds) for entry in self.of_kind(kind) if _is_hashed(entry)]

    def bundle(self) -> list[bytes]:
        """All records that a new member must have: the genesis in front, then the rest of the authority."""
        return [record.data for record in sorted(self.records(), key=lambda record: not record.is_genesis)]

    def __len__(self) -> int:
        """How many records the hashed set has."""
        return len(self._trie)

    def version_of(self, *kinds: int) -> int:
        """A number that grows with each change of these kinds."""
        total, versions = 0, self._versions
        for kind in kinds:
            total += versions.get(kind, 0)
        return total

    def touch(self, kind: int) -> None:
        """Let `version_of` a kind grow: what rests on it has been worked out later than it changed."""
        self.version += 1
        self._versions[kind] = self._versions.get(kind, 0) + 1

    def would_displace(self, record: Record) -> bool:
        """Say whether a record would take a slot of its kind from another of its author's."""
        shelf = self._shelf(record)
        is_new = _key(record) not in shelf
        return is_new and (len(shelf) >= slots_max(record.kind) or self._strange_are_full(record))

    def verdict(self, record: Record, work_out: Callable[[], bool]) -> bool:
        """What was found out about a record by itself, such as a proof inside of it: once as long as it stands."""
        if record.id not in self._verdicts:
            verdict = work_out()
            if not self.known(record.id):
                return verdict
            self._verdicts[record.id] = verdict
        return self._verdicts[record.id]

    # --- comparing with another's --------------------------------------------------------------------------

    def root(self) -> bytes:
        """The hash of the hashed set, 16 bytes."""
        return self._trie.root()

    def digest(self, prefix: bytes) -> tuple[bytes, ...]:
        """64 hashes of 8 bytes: of the parts right below a prefix of 6-bit digits."""
        return self._trie.digest(prefix)

    def leaf(self, prefix: bytes) -> tuple[bytes, ...]:
        """The short ids of the hashed set below a prefix, sorted."""
        return self._trie.leaf(prefix)

    def count(self, prefix: bytes) -> int:
        """How many records of the hashed set are below a prefix."""
        return self._trie.count(prefix)

    # --- changing ------------------------------------------------------------------------------------------

    def apply(self, verified: Verified[Record], now_s: float = 0.0) -> Applied:
        """Take a record in. `now_s` is monotonic and starts a volatile record's time to live."""
        record = verified.value
        current = self._shelf(record).get(_key(record))
        if current is not None and current.value.id == record.id:
            return Applied(Outcome.DUPLICATE)
        twin = self._twin(record)
        if current is not None and record.order < current.value.order:
            return Applied(Outcome.STALE, twin=twin)
        if current is None and not self._is_above_floor(record):
            return Applied(Outcome.STALE)
        if current is None and not self._has_room(record):
            return Applied(Outcome.FULL)
        if current is not None:
            self._remove(current)
        self._insert(verified, now_s)
        displaced = self._displace(record)
        return Applied(Outcome.NEW, current.value if current is not None else None, displaced, twin)

    def expire(self, now_s: float) -> list[Record]:
        """Drop volatile records whose time to live is over; give them back."""
        over = sorted(self._lapses.pop_due(now_s))
        lapsed = [self._kinds[kind][author][slot] for author, kind, slot in over]
        for entry in lapsed:
            self._remove(entry)
            self._floors[entry.value.register] = entry.value
        return [entry.value for entry in lapsed]

    def next_lapse_s(self) -> float:
        """When `expire` has something to do next, monotonic; infinity for never."""
        return self._lapses.next_s()

    def retain(self, may_stay: Callable[[Record], bool]) -> list[Record]:
        """Drop every record that may not stay, and give them back."""
        entries = [entry for kind in self._kinds for entry in self.of_kind(kind)]
        dropped = [entry for entry in entries if not may_stay(entry.value)]
        for entry in dropped:
            self._remove(entry)
            self._floors.pop(entry.value.register, None)
        # Who may not stay may not come in either: what lapsed of those counts only if they are let in again.
        others = [register for register, lapsed in self._floors.items() if not may_stay(lapsed)]
        for register in others[: max(0, len(others) - FLOORS_OF_OTHERS_MAX)]:
            del self._floors[register]
        return [entry.value for entry in dropped]

    # --- inside --------------------------------------------------------------------------------------------

    def _shelf(self, record: Record) -> dict[str, Verified[Record]]:
        return self._kinds.get(record.kind, {}).get(record.author, {})

    def _is_above_floor(self, record: Record) -> bool:
        floor = self._floors.get(record.register)
        return floor is None or record.order > floor.order

    def _has_room(self, record: Record) -> bool:
        # By the slot, not by who came first: that would make the state depend on the order of arrival.
        shelf = self._shelf(record)
        if len(shelf) >= slots_max(record.kind):
            return _key(record) < max(shelf)
        return not self._strange_are_full(record) or (record.kind, _key(record)) < max(
            self._strange(record.author)
        )

    def _strange(self, author: NodeId) -> list[tuple[int, str]]:
        """The kinds and slots that an author uses of kinds that this version does not know."""
        strange = self._kinds.keys() - SLOTS_PER_AUTHOR_MAX.keys()
        return [(kind, slot) for kind in strange for slot in self._kinds[kind].get(author, {})]

    def _strange_are_full(self, record: Record) -> bool:
        if record.kind in SLOTS_PER_AUTHOR_MAX:
            return False
        return len(self._strange(record.author)) >= SLOTS_PER_AUTHOR_UNKNOWN_KINDS_MAX

    def _twin(self, record: Record) -> Record | None:
        values: Iterator[Verified[Record]] = iter(self._shelf(record).values())
        if record.kind != Kind.AUTHORITY:
            current = self._shelf(record).get(_key(record))
            values = iter([current] if current is not None else [])
        twins = (
            other.value
            for other in values
            if other.value.slot == record.slot and other.value.seq == record.seq and other.value.id != record.id
        )
        return next(twins, None)

    def _displace(self, record: Record) -> Record | None:
        """Drop what is too much on an author's shelf, now that this record stands there."""
        kind, shelf = record.kind, self._shelf(record)
        if len(shelf) > slots_max(kind):
            key = max(shelf)
        elif (
            kind not in SLOTS_PER_AUTHOR_MAX
            and len(strange := self._strange(record.author)) > SLOTS_PER_AUTHOR_UNKNOWN_KINDS_MAX
        ):
            kind, key = max(strange)
        else:
            return None
        highest = self._kinds[kind][record.author][key]
        self._remove(highest)
        return highest.value

    def _insert(self, entry: Verified[Record], now_s: float) -> None:
        record = entry.value
        self._kinds.setdefault(record.kind, {}).setdefault(record.author, {})[_key(record)] = entry
        self._by_short_id[record.id[:SHORT_ID_BYTES]] = entry
        self.touch(record.kind)
        if record.is_volatile:
            ttl_s = min(record.ttl_s or VOLATILE_TTL_S_MAX, VOLATILE_TTL_S_MAX)
            self._lapses.set(record.register, now_s + ttl_s)
            self._floors.pop(record.register, None)
        else:
            self._trie.add(record.id)

    def _remove(self, entry: Verified[Record]) -> None:
        record = entry.value
        shelf = self._kinds[record.kind][record.author]
        del shelf[_key(record)]
        if not shelf:
            del self._kinds[record.kind][record.author]
        if self._by_short_id.get(record.id[:SHORT_ID_BYTES]) is entry:
            del self._by_short_id[record.id[:SHORT_ID_BYTES]]
        self.touch(record.kind)
        self._verdicts.pop(record.id, None)
        if record.is_volatile:
            self._lapses.drop(record.register)
        else:
            self._trie.remove(record.id)


def slots_max(kind: int) -> int:
    """How many slots an author has of a kind."""
    return SLOTS_PER_AUTHOR_MAX.get(kind, SLOTS_PER_AUTHOR_UNKNOWN_KIND_MAX)


def _key(record: Record) -> str:
    """What tells values on an author's shelf apart: the slot. Of authority operations every one is kept."""
    return record.slot if record.kind != Kind.AUTHORITY else f"{record.slot}/{record.id.hex()}"


def _is_hashed(entry: Verified[Record]) -> bool:
    return not entry.value.is_volatile
