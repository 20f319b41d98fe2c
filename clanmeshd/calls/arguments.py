"""Reading a call's arguments: each with its type, or one line that says what is wrong."""

from typing import Any, NoReturn

from clanmesh_protocol.control import Fault
from clanmesh_protocol.limits import NAME_BYTES_MAX
from clanmesh_protocol.names import TAG_ALL, is_label


def _refuse(key: str, expected: str) -> NoReturn:
    raise Fault("usage", f"argument {key!r}", f"it must be {expected}")


def text(args: dict[str, Any], key: str) -> str:
    """Take text. Raises Fault."""
    value = args.get(key)
    if not isinstance(value, str):
        _refuse(key, "text")
    return value


def text_or(args: dict[str, Any], key: str, default: str) -> str:
    """Take text, or the default where it is missing or nil. Raises Fault."""
    return text(args, key) if args.get(key) is not None else default


def texts(args: dict[str, Any], key: str) -> tuple[str, ...]:
    """Take a list of texts; missing is empty. Raises Fault."""
    value = args.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        _refuse(key, "a list of texts")
    return tuple(value)


def number(args: dict[str, Any], key: str, default: int, minimum: int, maximum: int) -> int:
    """Take an integer within bounds. Raises Fault."""
    value = args.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        _refuse(key, f"a number from {minimum} to {maximum}")
    return value


def number_or_none(args: dict[str, Any], key: str, minimum: int, maximum: int) -> int | None:
    """Take an integer within bounds, or None where it is missing or nil. Raises Fault."""
    return number(args, key, minimum, minimum, maximum) if args.get(key) is not None else None


def flag(args: dict[str, Any], key: str) -> bool:
    """Take yes or no; missing is no. Raises Fault."""
    value = args.get(key)
    if value is not None and not isinstance(value, bool):
        _refuse(key, "true or false")
    return bool(value)


def blob(args: dict[str, Any], key: str, at_most: int) -> bytes:
    """Take bytes. Raises Fault."""
    value = args.get(key)
    if not isinstance(value, bytes):
        _refuse(key, "bytes")
    if len(value) > at_most:
        raise Fault("usage", f"argument {key!r}", f"it has {len(value)} bytes where {at_most} are allowed")
    return value


def label(value: str, what: str) -> str:
    """Take a name for a clan, a node or a tag. Raises Fault."""
    if not is_label(value):
        raise Fault(
            "usage",
            f"{what} {value!r}",
            f"a name has a-z, 0-9 and inner hyphens, at most {NAME_BYTES_MAX}",
            "choose another",
        )
    return value


def own_label(value: str, what: str) -> str:
    """Take a name for a node, or a tag: not the word for all of them. Raises Fault."""
    if value == TAG_ALL:
        raise Fault("usage", f"{what} {value!r}", "it means every device of the clan", "choose another")
    return label(value, what)


def commit(args: dict[str, Any], key: str) -> bytes:
    """Take a commit id in hex. Raises Fault."""
    value = text(args, key)
    if len(value) not in (40, 64) or any(digit not in "0123456789abcdef" for digit in value):
        _refuse(key, "a full commit id in hex")
    return bytes.fromhex(value)


def commit_or_none(args: dict[str, Any], key: str) -> bytes | None:
    """Take a commit id in hex, or None where it is missing or nil. Raises Fault."""
    return commit(args, key) if args.get(key) is not None else None
