"""Bytes to plain values and back: one msgpack value, read strictly.

Allowed are nil, booleans, integers, byte strings, text and arrays. Maps, floats and extension types are
refused, and so is anything behind the end. The writer is canonical (shortest forms); the reader does not
insist on it, since a record's bytes are carried verbatim and never made again from their meaning.
"""

from collections.abc import Sequence
from typing import Any, Final, NoReturn, TypeAlias

import msgpack

from clanmesh_protocol.errors import LimitError, MalformedError
from clanmesh_protocol.limits import MSGPACK_DEPTH_MAX

Value: TypeAlias = "int | bytes | str | bool | list[Value] | None"

UINT32_MAX: Final = 0xFFFF_FFFF
UINT64_MAX: Final = 0xFFFF_FFFF_FFFF_FFFF


def encode(values: Sequence[Any]) -> bytes:
    """Pack one array in the shortest form."""
    packed: bytes = msgpack.packb(values, use_bin_type=True)
    return packed


def decode_untrusted(data: bytes, *, bytes_max: int) -> list[Value]:
    """Read exactly one array from `data`.

    Raises LimitError when `data` is longer than `bytes_max` or nests too deeply, MalformedError for all else.
    """
    if len(data) > bytes_max:
        raise LimitError(f"{len(data)} bytes where {bytes_max} are allowed")
    try:
        value = msgpack.unpackb(
            data, raw=False, use_list=True, max_map_len=0, max_ext_len=0, unicode_errors="strict"
        )
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        raise MalformedError(f"not one msgpack value: {type(error).__name__}") from error
    _check(value, depth=0)
    if not isinstance(value, list):
        raise MalformedError(f"an array was expected, not {type(value).__name__}")
    return value


def _check(value: object, depth: int) -> None:
    if isinstance(value, list):
        if depth >= MSGPACK_DEPTH_MAX:
            raise LimitError(f"nested deeper than {MSGPACK_DEPTH_MAX}")
        for item in value:
            _check(item, depth + 1)
    elif value is not None and not isinstance(value, (bool, int, bytes, str)):
        raise MalformedError(f"{type(value).__name__} has no place in a record")


class Fields:
    """Reads an array field by field, in order, each with its type and bounds.

    Fields behind the last one that is read are ignored: that is how a kind grows (README, "Evolution").
    Every method raises MalformedError for a missing or ill-typed field and LimitError for one too large.
    """

    def __init__(self, values: list[Value], what: str) -> None:
        self._values = values
        self._next = 0
        self._what = what

    def _take(self, name: str) -> Value:
        if self._next >= len(self._values):
            raise MalformedError(f"{self._what}: {name} is missing")
        value = self._values[self._next]
        self._next += 1
        return value

    @property
    def more(self) -> bool:
        """Whether a field is left: one that a later version added may be missing."""
        return self._next < len(self._values)

    def skip(self, count: int) -> None:
        """Pass over fields without a meaning, as far as there are any."""
        self._next += count

    def _refuse(self, name: str, expected: str, value: Value) -> NoReturn:
        raise MalformedError(f"{self._what}: {name} is not {expected} but {type(value).__name__}")

    def uint(self, name: str, maximum: int = UINT64_MAX) -> int:
        """Take an unsigned integer of at most `maximum`."""
        value = self._take(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            self._refuse(name, "an unsigned integer", value)
        if value > maximum:
            raise LimitError(f"{self._what}: {name} is over {maximum}")
        return value

    def boolean(self, name: str) -> bool:
        """Take a boolean."""
        value = self._take(name)
        if not isinstance(value, bool):
            self._refuse(name, "a boolean", value)
        return value

    def blob(self, name: str, *, exactly: int | None = None, at_most: int | None = None) -> bytes:
        """Take a byte string of one exact length, or of at most a length."""
        value = self._take(name)
        if not isinstance(value, bytes):
            self._refuse(name, "a byte string", value)
        if exactly is not None and len(value) != exactly:
            raise MalformedError(f"{self._what}: {name} has {len(value)} bytes, not {exactly}")
        if at_most is not None and len(value) > at_most:
            raise LimitError(f"{self._what}: {name} has over {at_most} bytes")
        return value

    def blob_or_nil(self, name: str, *, exactly: int | None = None, at_most: int | None = None) -> bytes | None:
        """Take a byte string as `blob` does, or nil."""
        if self._next < len(self._values) and self._values[self._next] is None:
            self._next += 1
            return None
        return self.blob(name, exactly=exactly, at_most=at_most)

    def text(self, name: str, at_most: int) -> str:
        """Take text of at most `at_most` bytes in UTF-8, with no control characters."""
        value = self._take(name)
        if not isinstance(value, str):
            self._refuse(name, "text", value)
        if len(value.encode()) > at_most:
            raise LimitError(f"{self._what}: {name} has over {at_most} bytes")
        if any(ord(character) < 0x20 or ord(character) == 0x7F for character in value):
            raise MalformedError(f"{self._what}: {name} has a control character")
        return value

    def text_or_nil(self, name: str, at_most: int) -> str | None:
        """Take text as `text` does, or nil."""
        if self._next < len(self._values) and self._values[self._next] is None:
            self._next += 1
            return None
        return self.text(name, at_most)

    def array(self, name: str, at_most: int) -> list[Value]:
        """Take an array of at most `at_most` items, as they are."""
        value = self._take(name)
        if not isinstance(value, list):
            self._refuse(name, "an array", value)
        if len(value) > at_most:
            raise LimitError(f"{self._what}: {name} has over {at_most} items")
        return value

    def rows(self, name: str, at_most: int) -> list["Fields"]:
        """Take an array of at most `at_most` arrays, each to be read as Fields of its own."""
        rows = []
        for value in self.array(name, at_most):
            if not isinstance(value, list):
                self._refuse(name, "an array of arrays", value)
            rows.append(Fields(value, f"{self._what}: {name}"))
        return rows

    def texts(self, name: str, at_most: int, bytes_each: int) -> tuple[str, ...]:
        """Take an array of at most `at_most` texts of at most `bytes_each` bytes."""
        inner = Fields(self.array(name, at_most), f"{self._what}: {name}")
        return tuple(inner.text("item", bytes_each) for _ in range(len(inner._values)))

    def blobs(self, name: str, at_most: int, exactly: int) -> tuple[bytes, ...]:
        """Take an array of at most `at_most` byte strings of one exact length."""
        inner = Fields(self.array(name, at_most), f"{self._what}: {name}")
        return tuple(inner.blob("item", exactly=exactly) for _ in range(len(inner._values)))
