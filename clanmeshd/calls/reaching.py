"""`reach`: whether any peer answers over a new connection. What gossip remembers of a peer proves no network."""

from typing import TYPE_CHECKING, Any, Final

import trio

from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.streams import Purpose
from clanmeshd.clan import Clan
from clanmeshd.control import Conversation
from clanmeshd.core.peers import Peer
from clanmeshd.core.wanted import node_record
from clanmeshd.driver import instant
from clanmeshd.net import stream

if TYPE_CHECKING:
    from clanmeshd.daemon import Daemon

REACH_TIMEOUT_S: Final = 5.0  # one answer is enough, and they are asked side by side
REACHED_FOR_MAX: Final = 8  # those seen last: if none of eight answers, it is not their fault


async def reach(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`reach`: open a stream to the peers that were seen last; the name of the first that proves itself."""
    clan = daemon.need_clan()
    candidates = _candidates(clan)
    reached: list[str] = []

    async def attempt(peer: Peer) -> None:
        if await _answers(clan, peer):
            reached.append(peer.name)
            nursery.cancel_scope.cancel()

    with trio.move_on_after(REACH_TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            for peer in candidates:
                nursery.start_soon(attempt, peer)
    return {"reached": reached[0] if reached else None, "tried": len(candidates)}


def _candidates(clan: Clan) -> list[Peer]:
    others = [peer for peer in clan.mesh.peers(instant()) if peer.node != clan.keys.node and peer.state != "down"]
    return sorted(others, key=_unseen_s)[:REACHED_FOR_MAX]


def _unseen_s(peer: Peer) -> float:
    return peer.last_seen_s if peer.last_seen_s is not None else float("inf")


async def _answers(clan: Clan, peer: Peer) -> bool:
    record = node_record(clan.mesh.ledger, peer.node)
    endpoints = [*([peer.endpoint] if peer.endpoint else []), *(record.endpoints if record is not None else ())]
    try:
        channel = await stream.connect(
            endpoints,
            server=peer.node,
            seed=clan.keys.identity_seed,
            clan=clan.membership.clan,
            purpose=Purpose.RECORDS,
        )
        await channel.aclose()
    except (OSError, ProtocolError):
        return False
    return True
