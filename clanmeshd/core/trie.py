"""A set of record ids that can be compared with another's in a few hundred bytes.

The ids are the leaves of a trie over 6-bit digits, most significant first. The hash of a part is zeros when it
is empty, BLAKE2b of its sorted ids from two digits down, and BLAKE2b of its 64 children's hashes above. It
depends on the set alone, never on the order in which it was filled; no sum or exclusive or is in it, so that
nobody can choose ids that cancel out.
"""

from bisect import bisect_left, insort
from hashlib import blake2b
from typing import Final

from clanmesh_protocol.keys import RecordId
from clanmesh_protocol.limits import DIGEST_BUCKETS, SHORT_ID_BYTES

ROOT_BYTES: Final = 16
DIGIT_BITS: Final = 6
FILED_DIGITS: Final = 2  # 4096 lists: of 5000 records each holds one or two, so a change costs three small hashes

_EMPTY: Final = bytes(ROOT_BYTES)
_PERSON: Final = b"clanmesh-trie"


def digits_of(id_bytes: bytes, count: int) -> bytes:
    """The first `count` 6-bit digits of an id, each in a byte of its own; `count` is at most 10."""
    head = int.from_bytes(id_bytes[:8], "big")
    return bytes(head >> 64 - DIGIT_BITS * (place + 1) & DIGEST_BUCKETS - 1 for place in range(count))


class Trie:
    """The ids of a record set, with the hash of each part kept until the part changes."""

    def __init__(self) -> None:
        self._lists: dict[bytes, list[RecordId]] = {}  # by two digits, sorted
        self._hashes: dict[bytes, bytes] = {}  # by prefix of at most two digits
        self._root: bytes | None = None  # that of the empty prefix, which every datagram asks for
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, record: RecordId) -> None:
        """Put an id in that is not there yet."""
        prefix = digits_of(record, FILED_DIGITS)
        insort(self._lists.setdefault(prefix, []), record)
        self._size += 1
        self._forget(prefix)

    def remove(self, record: RecordId) -> None:
        """Take an id out that is there."""
        prefix = digits_of(record, FILED_DIGITS)
        ids = self._lists[prefix]
        at = bisect_left(ids, record)
        assert ids[at] == record, "only ids that are there are removed"
        del ids[at]
        if not ids:
            del self._lists[prefix]
        self._size -= 1
        self._forget(prefix)

    def root(self) -> bytes:
        """The hash of the whole set, 16 bytes; zeros when it is empty."""
        if self._root is None:
            self._root = self._hash(b"")
        return self._root

    def digest(self, prefix: bytes) -> tuple[bytes, ...]:
        """The hashes of the 64 parts right below `prefix`, cut to 8 bytes each; zeros for an empty part."""
        return tuple(self._hash(prefix + bytes([digit]))[:SHORT_ID_BYTES] for digit in range(DIGEST_BUCKETS))

    def leaf(self, prefix: bytes) -> tuple[bytes, ...]:
        """All short ids (8 bytes) below `prefix`, sorted."""
        return tuple(record[:SHORT_ID_BYTES] for record in self._below(prefix))

    def count(self, prefix: bytes) -> int:
        """How many ids are below `prefix`."""
        return len(self._below(prefix))

    def _forget(self, prefix: bytes) -> None:
        self._root = None
        for length in range(FILED_DIGITS + 1):
            self._hashes.pop(prefix[:length], None)

    def _hash(self, prefix: bytes) -> bytes:
        if len(prefix) == FILED_DIGITS and prefix not in self._lists:
            return _EMPTY  # most of them in a small clan: not worth being remembered
        known = self._hashes.get(prefix)
        if known is not None:
            return known
        if len(prefix) >= FILED_DIGITS:
            parts: list[bytes] = list(self._below(prefix))
        else:
            parts = [self._hash(prefix + bytes([digit])) for digit in range(DIGEST_BUCKETS)]
        value = _EMPTY
        if any(part != _EMPTY for part in parts):
            value = blake2b(b"".join(parts), digest_size=ROOT_BYTES, person=_PERSON).digest()
        if len(prefix) <= FILED_DIGITS:
            self._hashes[prefix] = value
        return value

    def _below(self, prefix: bytes) -> list[RecordId]:
        filed = self._lists.get(prefix[:FILED_DIGITS], [])
        if len(prefix) == FILED_DIGITS:
            return filed
        if len(prefix) > FILED_DIGITS:
            return [record for record in filed if digits_of(record, len(prefix)) == prefix]
        return [record for at in sorted(self._lists) if at.startswith(prefix) for record in self._lists[at]]
