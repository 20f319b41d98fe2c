"""Where other members' Nix stores are: who bears a name or tag, is up, and how it is reached."""

import math
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import trio

from clanmeshd.core.effects import Holder
from clanmeshd.core.peers import Peer
from clanmeshd.core.subjects import State
from clanmeshd.driver import Driver, instant
from clanmeshd.reaching import Reach


@dataclass(frozen=True, slots=True)
class MemberStores:
    """What the rollout asks for a builder's store."""

    driver: Driver
    reach: Reach

    def near(self, labels: Sequence[str]) -> Sequence[Holder]:
        """The members that are up and bear one of these names or tags, nearest first."""
        now, members = instant(), self.driver.mesh.authority.members
        wanted = [
            peer
            for peer in self.driver.mesh.peers(now)
            if peer.node != self.driver.mesh.node
            and peer.state == State.UP
            and {peer.name, *peer.tags} & set(labels)
            and members[peer.node].is_current(now.unix_s)
        ]
        return [Holder(peer.node, peer.endpoints, frozenset()) for peer in sorted(wanted, key=_distance_ms)]

    def open(self, builder: Holder) -> AbstractAsyncContextManager[trio.abc.HalfCloseableStream]:
        """A stream to a member's store. Raises OSError, ProtocolError."""
        return self.reach.store(builder)


def _distance_ms(peer: Peer) -> float:
    return peer.rtt_ms if peer.rtt_ms is not None else math.inf
