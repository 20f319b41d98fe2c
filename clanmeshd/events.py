"""What happened lately, for people: a ring of events, each with an id, and a way to wait for the next."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import trio

from clanmesh_protocol.keys import NodeId

EVENTS_MAX: Final = 1000  # kept for `clanctl events`: a day of a busy clan
IDS_PER_SECOND: Final = 1000  # ids begin at the start's time times this, so that they grow over restarts too


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened."""

    id: int  # grows
    at_unix_s: float
    kind: str
    text: str
    node: NodeId | None = None
    is_problem: bool = False


class Events:
    """The newest events, oldest first."""

    def __init__(self) -> None:
        self._ring: deque[Event] = deque(maxlen=EVENTS_MAX)
        self._newest = int(time.time()) * IDS_PER_SECOND
        self._fresh = trio.Event()

    @property
    def newest(self) -> int:
        """The id of the newest event, or the one before the first."""
        return self._newest

    def __iter__(self) -> Iterator[Event]:
        """All that are kept, oldest first."""
        return iter(self._ring)

    def add(self, kind: str, text: str, node: NodeId | None = None, *, is_problem: bool = False) -> None:
        """Note an event that happens now, and wake who waits."""
        self._newest += 1
        self._ring.append(Event(self._newest, time.time(), kind, text, node, is_problem))
        self._fresh.set()
        self._fresh = trio.Event()

    def since(self, after: int | None) -> list[Event]:
        """Those behind an id; all for None, and for an id of another run that lies ahead of ours."""
        if after is None or after > self._newest:
            return list(self._ring)
        return [event for event in self._ring if event.id > after]

    async def wait(self, after: int | None, wait_s: float) -> list[Event]:
        """As `since`, but wait so long for one when there is none."""
        with trio.move_on_after(wait_s):
            while not self.since(after):
                await self._fresh.wait()
        return self.since(after)
