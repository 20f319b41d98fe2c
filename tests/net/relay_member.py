"""A member that asks another one to relay: `relay_member STATE_DIRECTORY RELAY ADDRESS PEER` prints the answer.

It has the keys of the daemon whose state directory it is given. RELAY and PEER are node ids in hex. With one word
more it shows itself to the relay at what that says of ADDRESS, and prints where it is seen.
"""

import socket
import sys
from pathlib import Path

import trio

from clanmesh_protocol.binds import make_bind, read_bound_untrusted
from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import PORT_DEFAULT
from clanmesh_protocol.stream_relay import Relayed, WantRelay
from clanmesh_protocol.streams import Purpose
from clanmeshd.net.stream import StreamRefused, connect
from clanmeshd.store import Store

TRIES = 4
ANSWER_S = 1.0


async def _ask(state: Path, relay: NodeId, host: str, peer: NodeId, shows: bool) -> str:
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
    if not shows:
        return " ".join(map(str, answer.endpoints))
    return await _show(next(each for each in answer.endpoints if each.ip == at.ip), answer.token)


async def _show(relay: Endpoint, token: bytes) -> str:
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        await opened.connect((relay.host, relay.port))
        for number in range(1, TRIES + 1):
            await opened.send(make_bind(token, number))
            with trio.move_on_after(ANSWER_S):
                bound = read_bound_untrusted(token, await opened.recv(2048))
                return f"{relay} sees {bound.seen.host}"
    return f"{relay} is silent"


if __name__ == "__main__":
    relay, peer = (NodeId(bytes.fromhex(word)) for word in (sys.argv[2], sys.argv[4]))
    print(trio.run(_ask, Path(sys.argv[1]), relay, sys.argv[3], peer, len(sys.argv) > 5))
