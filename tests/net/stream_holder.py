"""A member's key in the hands of a program that opens one stream to each member and holds on to it.

Arguments: the state directory with the key, the clan id in hex, then `node id@endpoint` for each. It says `open`
when all are open, `cut` when all have ended by no doing of its own, then `refused CODE` as it tries each again.
"""

import json
import sys
from pathlib import Path

import trio

from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmesh_protocol.keys import ClanId, NodeId, node_from_text_untrusted
from clanmesh_protocol.streams import Purpose
from clanmeshd.net.stream import Stream, StreamBroken, StreamRefused, connect


def say(text: str) -> None:
    """Write one line."""
    print(text, flush=True)


def target(text: str) -> tuple[NodeId, Endpoint]:
    """Read one argument."""
    node, _, at = text.partition("@")
    host, _, port = at.rpartition(":")
    return node_from_text_untrusted(node), endpoint(host.strip("[]"), int(port))


async def until_cut(stream: Stream) -> None:
    """Wait for the other side to end it."""
    try:
        await stream.receive()
    except StreamBroken:
        return


async def main(*words: str) -> None:
    """Hold, and try again."""
    state, clan_hex, *several = words
    seed = bytes.fromhex(json.loads((Path(state) / "keys.json").read_bytes())["identity"])
    clan = ClanId(bytes.fromhex(clan_hex))

    async def visit(node: NodeId, at: Endpoint) -> Stream:
        return await connect([at], server=node, seed=seed, clan=clan, purpose=Purpose.RECORDS)

    targets = [target(each) for each in several]
    streams = [await visit(*each) for each in targets]
    say("open")
    async with trio.open_nursery() as nursery:
        for stream in streams:
            nursery.start_soon(until_cut, stream)
    say("cut")
    for each in targets:
        try:
            await visit(*each)
        except StreamRefused as refusal:
            say(f"refused {refusal.refusal}")


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
