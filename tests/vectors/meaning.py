"""A value of the protocol as JSON: what a frozen message means, for versions to come to compare with."""

import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Any

DERIVED = {"Record": ["payload"]}  # fields once, worked out from others since


def meaning_of(value: Any) -> Any:
    """Give a value as plain JSON: bytes in hex, a data class as its fields behind its name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)] + DERIVED.get(type(value).__name__, [])
        fields = {name: meaning_of(getattr(value, name)) for name in names}
        return {"is": type(value).__name__, **fields}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping):
        return {key: meaning_of(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [meaning_of(item) for item in value]
    return value


def still_means(now: Any, frozen: Any) -> bool:
    """Say whether a value means all that it once did; fields that were added since are no matter."""
    if isinstance(frozen, dict) and isinstance(now, dict):
        return all(key in now and still_means(now[key], value) for key, value in frozen.items())
    if isinstance(frozen, list) and isinstance(now, list):
        return len(now) == len(frozen) and all(map(still_means, now, frozen))
    return bool(now == frozen) and type(now) is type(frozen)
