"""Open streams by who is at their other end: all of one peer's are cut in the moment that it is removed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from clanmesh_protocol.keys import NodeId
from clanmeshd.net.link import StreamBroken


class Ties:
    """What is going on with members over streams now. Bounded by the streams themselves."""

    def __init__(self) -> None:
        self._open: dict[trio.CancelScope, NodeId] = {}

    @contextmanager
    def tie(self, peer: NodeId) -> Iterator[None]:
        """Count a stream with `peer` for as long as the block takes. Raises StreamBroken when it was cut."""
        with trio.CancelScope() as scope:
            self._open[scope] = peer
            try:
                yield
            finally:
                del self._open[scope]
        if scope.cancelled_caught:
            raise StreamBroken("the peer was removed from the clan")

    def cut(self, stays: Callable[[NodeId], bool]) -> int:
        """End all streams with those who do not stay, at once. Gives how many there were."""
        doomed = [scope for scope, peer in self._open.items() if not stays(peer)]
        for scope in doomed:
            scope.cancel()
        return len(doomed)

    def __len__(self) -> int:
        return len(self._open)
