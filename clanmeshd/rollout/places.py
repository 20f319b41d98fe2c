"""Places at what this device serves: each member has a few, so that none takes those of all others."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from clanmesh_protocol.keys import NodeId


class Taken(Exception):
    """A member has as many places as it may have."""


class Places:
    """Who is served at the moment, and how often."""

    def __init__(self, each_max: int) -> None:
        self._each_max = each_max
        self._clients: Counter[NodeId] = Counter()

    @contextmanager
    def take(self, client: NodeId) -> Iterator[None]:
        """Have a place for as long as the block takes. Raises Taken."""
        if self._clients[client] >= self._each_max:
            raise Taken
        self._clients[client] += 1
        try:
            yield
        finally:
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]
