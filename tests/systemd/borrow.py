"""Run inside of a container: borrows store paths from the daemon there, as another device of its clan would.

    python borrow.py PATH...     prints what came, a path a line

It is the device itself that asks itself, over a stream of its own. What comes goes into the store of NIX_REMOTE.
"""

import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmeshd.core.effects import Holder
from clanmeshd.net.stream import Ties
from clanmeshd.reaching import Reach
from clanmeshd.rollout.store import pull
from clanmeshd.store import Store

HERE = Endpoint(bytes((127, 0, 0, 1)), 51871)
TIMEOUT_S = 60.0


class Own:
    """The daemon beside this process, as the one builder."""

    def __init__(self) -> None:
        store = Store(Path("/var/lib/clanmesh"))
        keys, membership = store.load_keys(), store.load_membership()
        assert keys is not None
        assert membership is not None
        self._node = keys.node
        self._reach = Reach(keys.identity_seed, membership.clan, Ties())

    def near(self, labels: Sequence[str]) -> Sequence[Holder]:
        """This device, whatever is asked for."""
        return [Holder(self._node, (HERE,), frozenset())]

    def open(self, builder: Holder) -> AbstractAsyncContextManager[trio.abc.HalfCloseableStream]:
        """A stream to the daemon."""
        return self._reach.store(builder)


async def main(paths: Sequence[str]) -> None:
    """Pull, and say what came."""
    came = await pull(Path("/root/borrower"), Own(), ["nas"], paths, TIMEOUT_S)
    print("\n".join(sorted(came)))


if __name__ == "__main__":
    trio.run(main, sys.argv[1:])
