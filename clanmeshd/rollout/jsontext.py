"""JSON by the interpreter's own C parts alone: the package `json` takes as long to import as Python to start.

Those parts are what `json` itself uses, so the language is the same. What they do not take is for the package to
judge; an interpreter that has none of them has the package do it all.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Reading:
    """What the scanner asks about, answered as `json` does by default."""

    strict = True  # no bare control characters in texts
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = {"-Infinity": float("-inf"), "Infinity": float("inf"), "NaN": float("nan")}.__getitem__


def _scanner() -> Any:
    try:
        from _json import make_scanner
    except ImportError:
        return None
    reading: Any = _Reading()
    return make_scanner(reading)


def _encoder() -> Any:
    try:
        from _json import encode_basestring_ascii, make_encoder
    except ImportError:
        return None
    make: Any = make_encoder
    return make({}, _refuse, encode_basestring_ascii, None, ": ", ", ", False, False, True)


def _refuse(value: object) -> Any:
    raise TypeError(f"{type(value).__name__} is not for JSON")


_scan, _encode = _scanner(), _encoder()


def loads(data: bytes) -> Any:
    """Read one value. Raises ValueError for anything else."""
    text = data.decode().strip(" \t\n\r")
    try:
        value, end = _scan(text, 0) if _scan is not None else (None, -1)
    except (
        StopIteration,
        SystemError,
    ):  # the latter when the package, whose error it wants to raise, is not there
        value, end = None, -1
    if end == len(text):
        return value
    import json

    return json.loads(text)


def dumps(value: Any) -> str:
    """Write one value, in one line of ASCII. Raises TypeError, ValueError for what has no form."""
    if _encode is not None:
        return "".join(_encode(value, 0))
    import json

    return json.dumps(value)
