"""Tuples with named fields, as `typing.NamedTuple` makes them, for a program whose start is waited for.

`typing` takes longer to import than all of the activator. Type checkers are told that it is the same; at run time
this has the part of it that is used here: construction by position and by name, defaults, `_asdict`, `_replace`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class NamedTuple(tuple):  # type: ignore[type-arg]
    """The base of such classes; a field is an annotation in the body of a class."""

    __slots__ = ()
    _fields: tuple[str, ...] = ()
    _field_defaults: dict[str, Any] = {}  # noqa: RUF012 - one for each class, never changed

    def __init_subclass__(cls) -> None:
        """Put a property in the place of each field."""
        cls._fields = tuple(cls.__annotations__)
        cls._field_defaults = {name: cls.__dict__[name] for name in cls._fields if name in cls.__dict__}
        for at, name in enumerate(cls._fields):
            setattr(cls, name, _field(at))

    def __new__(cls, *values: Any, **named: Any) -> NamedTuple:
        """Make one of all fields. Raises TypeError when one is missing, or is none."""
        rest = cls._fields[len(values) :]
        if len(values) > len(cls._fields) or named.keys() - set(rest):
            raise TypeError(f"{cls.__name__} has the fields {', '.join(cls._fields)}")
        given = {**cls._field_defaults, **named}
        if missing := [name for name in rest if name not in given]:
            raise TypeError(f"{cls.__name__} lacks {', '.join(missing)}")
        return tuple.__new__(cls, (*values, *(given[name] for name in rest)))

    def __repr__(self) -> str:
        """As a call that makes the same."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._asdict().items())})"

    def __getnewargs__(self) -> tuple[Any, ...]:
        """For copies."""
        return tuple(self)

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self._fields, self, strict=True))

    def _replace(self, **named: Any) -> NamedTuple:
        return type(self)(**{**self._asdict(), **named})


def _field(at: int) -> property:
    def value(self: NamedTuple) -> Any:
        return self[at]

    return property(value)
