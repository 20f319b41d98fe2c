"""Serf's RPC, as its own commands speak it: requests, what comes back, and what an agent tells by it. Pure.

One connection carries it all: a header (`Seq`, `Error`), and for most answers a body behind it. `monitor` gives
the agent's log line by line, as `serf monitor` prints it, and `stream` its events. Who is up is taken from the
log: it tells at once what the events tell a second later, when no more of them came.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

import msgpack

PORT: Final = 7373  # serf's default
VERSION: Final = 1
BUFFER_BYTES_MAX: Final = 1 << 24  # of answers that are not read yet: an agent's whole log buffer has 50 kB

_MEMBER: Final = re.compile(r"\] serf: EventMember(Join|Failed|Leave): (\S+) ")
_KINDS: Final = {"Join": "up", "Failed": "down", "Leave": "down"}


class SerfError(Exception):
    """An agent refused, or does not speak as expected: one line."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A header (`body` None), or a body with what its header said."""

    seq: int
    error: str  # empty: none
    body: dict[str, Any] | None


def request(command: str, seq: int, body: dict[str, Any] | None = None) -> bytes:
    """The bytes of a request. `seq`: by which its answers are known."""
    parts = [{"Command": command, "Seq": seq}, *([body] if body is not None else [])]
    return b"".join(msgpack.packb(part, use_bin_type=False) for part in parts)


class Answers:
    """Takes what an agent sends, in pieces as they come."""

    def __init__(self) -> None:
        self._unpacker = msgpack.Unpacker(
            raw=False, unicode_errors="replace", strict_map_key=False, max_buffer_size=BUFFER_BYTES_MAX
        )
        self._header: Answer | None = None

    def feed(self, data: bytes) -> list[Answer]:
        """Give the answers that are whole by now. Raises SerfError for what is none."""
        self._unpacker.feed(data)
        return [self._answer(value) for value in self._unpacker]

    def _answer(self, value: Any) -> Answer:
        if not isinstance(value, dict):
            raise SerfError(f"an agent of serf sent {type(value).__name__} in place of a map")
        if "Seq" in value:
            self._header = Answer(int(value["Seq"]), str(value.get("Error", "")), None)
            return self._header
        if self._header is None:
            raise SerfError("an agent of serf sent a body before any header")
        return Answer(self._header.seq, self._header.error, value)


def told(body: dict[str, Any]) -> tuple[str, str] | None:
    """What an agent says by a body of `monitor` or `stream`: (`up` or `down`, member) or (`update`, its name)."""
    if body.get("Event") == "user":
        return "update", str(body.get("Name"))
    found = _MEMBER.search(str(body.get("Log", "")))
    return (_KINDS[found[1]], found[2]) if found else None
