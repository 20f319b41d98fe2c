"""Where other members' Nix stores are: who bears a name or tag, is up, and how it is reached."""

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from clanmesh_protocol.keys import ClanId, DeviceKeys
from clanmesh_protocol.streams import Purpose
from clanmeshd.core.effects import Holder
from clanmeshd.core.peers import Peer
from clanmeshd.core.subjects import State
from clanmeshd.core.wanted import node_record
from clanmeshd.driver import Driver, instant
from clanmeshd.net import stream


@dataclass(frozen=True, slots=True)
class MemberStores:
    """What the rollout asks for a builder's store."""

    driver: Driver
    keys: DeviceKeys
    clan: ClanId
    ties: stream.Ties

    def near(self, labels: Sequence[str]) -> Sequence[Holder]:
        """The members that are up and bear one of these names or tags, nearest first."""
        now, members = instant(), self.driver.mesh.authority.members
        wanted = [
            peer
            for peer in self.driver.mesh.peers(now)
            if peer.node != self.keys.node
            and peer.state == State.UP
            and {peer.name, *peer.tags} & set(labels)
            and members[peer.node].is_current(now.unix_s)
        ]
        return [self._holder(peer) for peer in sorted(wanted, key=_distance_ms)]

    def _holder(self, peer: Peer) -> Holder:
        said = node_record(self.driver.mesh.ledger, peer.node)
        listed = said.endpoints if said is not None else ()
        used = (peer.endpoint,) if peer.endpoint is not None else ()
        return Holder(peer.node, (*used, *listed), frozenset())

    @asynccontextmanager
    async def open(self, builder: Holder) -> AsyncIterator[trio.abc.HalfCloseableStream]:
        """A stream to a member's store. Raises OSError, ProtocolError."""
        with self.ties.tie(builder.node):
            channel = await stream.connect(
                builder.endpoints,
                server=builder.node,
                seed=self.keys.identity_seed,
                clan=self.clan,
                purpose=Purpose.STORE,
            )
            async with stream.Pipe(channel) as pipe:
                yield pipe


def _distance_ms(peer: Peer) -> float:
    return peer.rtt_ms if peer.rtt_ms is not None else math.inf
