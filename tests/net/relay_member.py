"""A member that asks another one to relay: `relay_member STATE_DIRECTORY RELAY ADDRESS PEER` prints the answer.

It has the keys of the daemon whose state directory it is given. RELAY and PEER are node ids in hex.
"""

import sys
from pathlib import Path

import trio

from clanmesh_protocol.endpoints import endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import PORT_DEFAULT
from clanmesh_protocol.stream_relay import Relayed, WantRelay
from clanmesh_protocol.streams import Purpose
from clanmeshd.net.stream import StreamRefused, connect
from clanmeshd.store import Store


async def _ask(state: Path, relay: NodeId, host: str, peer: NodeId) -> str:
    store = Store(state)
    keys, membership = store.load_keys(), store.load_membership()
    assert keys is not None
    assert membership is not None
    at = endpoint(host, PORT_DEFAULT)
    seed, clan = keys.identity_seed, membership.clan
    try:
        async with await connect([at], server=relay, seed=seed, clan=clan, purpose=Purpose.RELAY) as stream:
            await stream.send(WantRelay(peer, False))
            answer = await stream.receive()
    except StreamRefused as refused:
        return refused.refusal
    assert isinstance(answer, Relayed)
    return " ".join(map(str, answer.endpoints))


if __name__ == "__main__":
    relay, peer = (NodeId(bytes.fromhex(word)) for word in (sys.argv[2], sys.argv[4]))
    print(trio.run(_ask, Path(sys.argv[1]), relay, sys.argv[3], peer))
