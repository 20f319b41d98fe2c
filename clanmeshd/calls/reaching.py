"""`reach`: whether any peer answers over a new connection. What gossip remembers of a peer proves no network."""

from math import isfinite
from typing import TYPE_CHECKING, Any, Final

import trio

from clanmeshd.clan import Clan
from clanmeshd.control import Conversation
from clanmeshd.core.peers import Peer
from clanmeshd.driver import instant
from clanmeshd.net import stream

if TYPE_CHECKING:
    from clanmeshd.daemon import Daemon

REACH_TIMEOUT_S: Final = 5.0  # one answer is enough, and they are asked side by side
HEAD_START_S: Final = 0.5  # of each before the next one is tried as well: eight are begun within the time
REACHED_FOR_MAX: Final = 8  # those seen last: if none of eight answers, it is not their fault


async def reached(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`reached`: how long ago this device had a new stream to a peer for its own ends; None for never."""
    age_s = trio.current_time() - daemon.need_clan().reach.reached_s
    return {"age_s": round(age_s, 3) if isfinite(age_s) else None}


async def reach(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`reach`: connect to the peers that were seen last; the name of the first that proves itself.

    One after the other, as long as they answer soon: a commit has all devices of a clan do this at once.
    """
    clan = daemon.need_clan()
    candidates = _candidates(clan)
    found: list[str] = []

    async def attempt(peer: Peer) -> bool:
        if await _answers(clan, peer):
            found.append(peer.name)
            return True
        return False

    with trio.move_on_after(REACH_TIMEOUT_S):
        await stream.first_of(candidates, attempt, HEAD_START_S)
    return {"reached": found[0] if found else None, "tried": len(candidates)}


def _candidates(clan: Clan) -> list[Peer]:
    others = [peer for peer in clan.mesh.peers(instant()) if peer.node != clan.keys.node and peer.state != "down"]
    return sorted(others, key=_unseen_s)[:REACHED_FOR_MAX]


def _unseen_s(peer: Peer) -> float:
    return peer.last_seen_s if peer.last_seen_s is not None else float("inf")


async def _answers(clan: Clan, peer: Peer) -> bool:
    try:
        await stream.prove(peer.endpoints, peer.node)
    except OSError:
        return False
    return True
