"""Reading objects out of a repository's packs without git: a tenth of a millisecond, where a process takes three.

Only what surely is right counts: an object whose content has its hash, or the absence of one where everything was
looked through. Anything else (a loose object, a longer chain of deltas, a pack that is being replaced, damage) is
`Unsure`, and git's to answer. Git itself has made these files and checked what is in them. All of it is blocking.

The forms are git's gitformat-pack(5): an index of version 2, sorted by id, and a pack of objects, each of them
deflated, some of them as a delta upon another one. How an object is put together is up to who sent it, and git
takes forms that would keep us busy for hours: so what goes into one object is bounded, too.
"""

import hashlib
import os
import zlib
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clanmeshd.rollout.git import HASH_BYTES

OBJECT_BYTES_MAX: Final = 8 << 20  # inflated; twice what is laid out here of a whole revision
CHAIN_MAX: Final = 50  # deltas, one upon another: git makes no longer ones unless told to
DELTAS_BYTES_MAX: Final = 65_536  # inflated, of one chain: two bytes may be an order, which takes a microsecond
CHAIN_BYTES_MAX: Final = 2 << 20  # of what one chain makes on its way, and its base: a few milliseconds
PACKS_MAX: Final = 256  # looked through; a repository of ours joins its packs long before
BUCKET_MAX: Final = 65_536  # ids with the same first byte, of one pack: millions of objects

_INDEX: Final = b"\xfftOc\0\0\0\2"
_FANOUT_BYTES: Final = 1024
_CHECKSUM_BYTES: Final = 4
_OFFSET_BYTES: Final = 4
_FAR: Final = 1 << 31  # an offset beyond that stands elsewhere: of packs over 2 GiB
_KINDS: Final = {1: "commit", 2: "tree", 3: "blob", 4: "tag"}
_BY_OFFSET: Final = 6
_BY_ID: Final = 7
_HEAD_BYTES: Final = 32 + HASH_BYTES  # of an object in a pack: two numbers, or a number and an id
_EXCESS_BYTES_MAX: Final = 16_384  # by which what is deflated may be the larger one: git's is by a thousandth
_SHIFT_MAX: Final = 56  # bits of a size before its last byte
_WHOLE_COPY: Final = 0x10000


class Unsure(Exception):
    """Git has to be asked."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object: its kind as git calls it, its size, and its content where that was not over the bound."""

    kind: str
    size: int
    content: bytes | None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an object begins."""

    pack: Path
    offset: int


def read_object(stores: Sequence["Store"], object_id: bytes, bytes_max: int) -> Stored | None:
    """Read an object of some `objects` folders; None when none of them has it. Raises Unsure.

    One of over `bytes_max` comes without its content, and what is said of it is not proven.
    """
    try:
        place = _find(stores, object_id)
        if place is None:
            return None
        stored = _read(stores, place, bytes_max)
    except (OSError, IndexError, zlib.error) as error:
        raise Unsure from error
    if stored.content is not None and _id_of(stored.kind, stored.content) != object_id:
        raise Unsure
    return stored


def _id_of(kind: str, content: bytes) -> bytes:
    return hashlib.sha1(b"%s %d\0" % (kind.encode(), len(content)) + content, usedforsecurity=False).digest()


# --- indexes -------------------------------------------------------------------------------------------


def _find(stores: Sequence["Store"], object_id: bytes) -> _Place | None:
    """Where an object is. Raises Unsure, OSError."""
    for anew in (False, True):
        for index in _indexes(stores, anew=anew):
            with closing(_File(index)) as file:
                offset = _look_up(file, object_id)
            if offset is not None:
                return _Place(index.with_suffix(".pack"), offset)
    if any(store.has_loose() for store in stores):
        raise Unsure
    return None


def _indexes(stores: Sequence["Store"], *, anew: bool) -> list[Path]:
    """All of them, the newest first: what is asked for has mostly come last."""
    found = [each for store in stores for each in store.indexes(anew=anew)]
    if len(found) > PACKS_MAX:
        raise Unsure
    return [path for _, path in sorted(found, reverse=True)]


class Store:
    """An `objects` folder, and which packs it has, as long as its folder of them stays as it is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._packs = os.path.join(folder, "pack")
        self._changed_ns = -1  # when the folder of packs had changed last, and nothing since
        self._indexes: list[tuple[int, Path]] = []

    def indexes(self, *, anew: bool) -> list[tuple[int, Path]]:
        """When each index was written (ns), and where it is. Raises OSError.

        Without `anew` one may be lacking that came in the same tick of the clock as the one before it.
        """
        changed_ns = os.stat(self._packs).st_mtime_ns
        if anew or changed_ns != self._changed_ns:
            self._changed_ns = -1
            self._indexes = [
                (entry.stat().st_mtime_ns, Path(entry.path))
                for entry in os.scandir(self._packs)
                if entry.name.endswith(".idx")
            ]
            self._changed_ns = changed_ns
        return self._indexes

    def has_loose(self) -> bool:
        """Whether there may be objects outside of packs: each has a folder named by its first byte."""
        return any(name not in ("pack", "info") for name in os.listdir(self._folder))


def _look_up(file: "_File", object_id: bytes) -> int | None:
    if file.read(0, len(_INDEX)) != _INDEX:
        raise Unsure
    first = object_id[0]
    fanout = file.read(len(_INDEX), _FANOUT_BYTES)
    low = _number(fanout, first - 1) if first else 0
    high, total = _number(fanout, first), _number(fanout, 255)
    if not 0 <= high - low <= BUCKET_MAX or high > total:
        raise Unsure
    ids_at = len(_INDEX) + _FANOUT_BYTES
    bucket = file.read(ids_at + low * HASH_BYTES, (high - low) * HASH_BYTES)
    at = bisect_left(range(high - low), object_id, key=lambda at: bucket[at * HASH_BYTES : (at + 1) * HASH_BYTES])
    if bucket[at * HASH_BYTES : (at + 1) * HASH_BYTES] != object_id:
        return None
    offsets_at = ids_at + total * (HASH_BYTES + _CHECKSUM_BYTES)
    offset = _number(file.read(offsets_at + (low + at) * _OFFSET_BYTES, _OFFSET_BYTES), 0)
    if offset & _FAR:
        raise Unsure
    return offset


def _number(table: bytes, at: int) -> int:
    return int.from_bytes(table[at * 4 : at * 4 + 4], "big")


class _File:
    """A file that is read here and there."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, at: int, count: int) -> bytes:
        """Exactly so many bytes. Raises Unsure when there are fewer."""
        data = self.some(at, count)
        if len(data) != count:
            raise Unsure
        return data

    def some(self, at: int, count: int) -> bytes:
        """So many bytes at the most."""
        return os.pread(self._descriptor, count, at)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)


# --- packs ---------------------------------------------------------------------------------------------


def _read(stores: Sequence["Store"], place: _Place, bytes_max: int) -> Stored:
    """Read an object, the deltas that it is made of one after the other. Raises Unsure, OSError, IndexError."""
    deltas: list[bytes] = []
    left = DELTAS_BYTES_MAX
    for _ in range(CHAIN_MAX + 1):
        with closing(_File(place.pack)) as file:
            kind, size, base, at = _head(file, place)
            if kind in _KINDS:
                return _put_together(file, kind, size, at, deltas, bytes_max)
            left -= size
            if left < 0:
                raise Unsure
            deltas.append(_inflate(file, at, size))
        found = base if isinstance(base, _Place) else _find(stores, base)
        if found is None:
            raise Unsure
        place = found
    raise Unsure


def _put_together(file: _File, kind: int, size: int, at: int, deltas: list[bytes], bytes_max: int) -> Stored:
    sizes = [*map(_target_size, deltas), size]
    if sizes[0] > bytes_max:
        return Stored(_KINDS[kind], sizes[0], None)
    if sum(sizes) > (CHAIN_BYTES_MAX if deltas else OBJECT_BYTES_MAX):
        raise Unsure
    content = _inflate(file, at, size)
    for delta in reversed(deltas):
        content = apply_delta(content, delta)
    return Stored(_KINDS[kind], len(content), content)


def _head(file: _File, place: _Place) -> tuple[int, int, _Place | bytes, int]:
    """The kind of an object, its size in the pack, what it builds upon, and where its deflated bytes begin."""
    head = file.some(place.offset, _HEAD_BYTES)
    byte, at = head[0], 1
    kind, size, shift = byte >> 4 & 7, byte & 15, 4
    while byte & 0x80:
        byte, at = head[at], at + 1
        size |= (byte & 0x7F) << shift
        shift += 7
    base: _Place | bytes = b""
    if kind == _BY_ID:
        base, at = head[at : at + HASH_BYTES], at + HASH_BYTES
    elif kind == _BY_OFFSET:
        byte, at = head[at], at + 1
        back = byte & 0x7F
        while byte & 0x80:
            byte, at = head[at], at + 1
            back = (back + 1 << 7) | byte & 0x7F
        if not 0 < back < place.offset:
            raise Unsure
        base = _Place(place.pack, place.offset - back)
    elif kind not in _KINDS:
        raise Unsure
    return kind, size, base, place.offset + at


def _inflate(file: _File, at: int, size: int) -> bytes:
    engine = zlib.decompressobj()
    data = engine.decompress(file.some(at, size + _EXCESS_BYTES_MAX), size + 1)
    if len(data) != size or not engine.eof:
        raise Unsure
    return data


# --- deltas --------------------------------------------------------------------------------------------


def apply_delta(base: bytes, delta: bytes) -> bytes:
    """What a delta makes of its base. Raises Unsure, IndexError for one that does not fit."""
    source, at = _size(delta, 0)
    target, at = _size(delta, at)
    if source != len(base):
        raise Unsure
    made = bytearray()
    while at < len(delta):
        order, at = delta[at], at + 1
        if order & 0x80:
            start, at = _sparse(delta, at, order & 0x0F, 4)
            count, at = _sparse(delta, at, order >> 4 & 0x07, 3)
            part = base[start : start + (count or _WHOLE_COPY)]
            if len(part) != (count or _WHOLE_COPY):
                raise Unsure
        elif order:
            part, at = delta[at : at + order], at + order
        else:
            raise Unsure
        made += part
        if len(made) > target:
            raise Unsure
    if len(made) != target:
        raise Unsure
    return bytes(made)


def _target_size(delta: bytes) -> int:
    return _size(delta, _size(delta, 0)[1])[0]


def _size(delta: bytes, at: int) -> tuple[int, int]:
    """A number, its least bits first; and where it ends."""
    size = 0
    for shift in range(0, _SHIFT_MAX + 1, 7):
        byte, at = delta[at], at + 1
        size |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return size, at
    raise Unsure


def _sparse(delta: bytes, at: int, present: int, count: int) -> tuple[int, int]:
    """A number of which only the bytes that are not zero stand there; and where it ends."""
    value = 0
    for place in range(count):
        if present & 1 << place:
            value |= delta[at] << 8 * place
            at += 1
    return value, at
