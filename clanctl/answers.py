"""Reading what the daemon answers, with tolerance: what another version leaves out breaks no view. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Values: TypeAlias = Mapping[str, Any]


def part_of(values: Values, key: str) -> Values:
    """Give the map under a key; empty where there is none."""
    part = values.get(key)
    return part if isinstance(part, Mapping) else {}


def rows_of(values: Values, key: str) -> Sequence[Any]:
    """Give the list under a key; empty where there is none."""
    rows = values.get(key)
    return rows if isinstance(rows, list) else []


def word_of(value: object) -> str:
    """Spell a value; nothing is empty."""
    return "" if value is None else str(value)


def names_of(values: Values, key: str) -> list[str]:
    """Give the list of texts under a key."""
    return [str(name) for name in rows_of(values, key)]


def number_of(values: Values, key: str) -> float:
    """Give the number under a key; 0 where there is none."""
    number = values.get(key)
    return number if isinstance(number, int | float) else 0
