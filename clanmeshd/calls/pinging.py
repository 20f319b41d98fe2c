"""`ping`: round trips to a member through the tunnel, each with the path that it took."""

from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any, Final

import trio

from clanmesh_protocol.control import Fault
from clanmesh_protocol.keys import NodeId, node_text
from clanmeshd.calls.arguments import number, text
from clanmeshd.calls.finding import a_member
from clanmeshd.calls.path_view import path_view, tunnel_of
from clanmeshd.calls.views import need_place
from clanmeshd.clan import Clan
from clanmeshd.control import Conversation
from clanmeshd.core.peers import Peer
from clanmeshd.core.subjects import State
from clanmeshd.driver import instant
from clanmeshd.overlay.echoes import PING_BYTES, echo

if TYPE_CHECKING:
    from clanmeshd.daemon import Daemon

COUNT_DEFAULT: Final = 5
COUNT_MAX: Final = 10_000
INTERVAL_MS_DEFAULT: Final = 1000
INTERVAL_MS_MIN: Final = 100  # ten a second load nothing; it is no means to load a line
INTERVAL_MS_MAX: Final = 60_000
RUN_S_MAX: Final = 3600  # all of it, however many
ANSWER_S: Final = 2.5  # for one answer: a relay over a satellite takes one, a handshake before it two


async def ping(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`ping`: first who is meant, then one item a round trip; without an answer `why` says why `rtt_ms` is nil.

    Raises Fault, also when the member leaves the clan meanwhile.
    """
    clan = daemon.need_clan()
    count = number(args, "count", COUNT_DEFAULT, 1, COUNT_MAX)
    interval_s = number(args, "interval_ms", INTERVAL_MS_DEFAULT, INTERVAL_MS_MIN, INTERVAL_MS_MAX) / 1000
    deadline_s = trio.current_time() + number(args, "within_s", RUN_S_MAX, 1, RUN_S_MAX)
    node = _target(clan, text(args, "node"))
    need_place(daemon)
    received = 0
    async with daemon.watchers:
        peer = _peer(daemon, clan, node, "")
        address = str(IPv6Address(peer.address))
        await conversation.item({"name": peer.name, "id": node_text(node), "address": address})
        for sequence in range(1, count + 1):
            due_s = trio.current_time() + interval_s
            peer = _peer(daemon, clan, node, peer.name)
            answer_s = min(ANSWER_S, max(0.0, deadline_s - trio.current_time()))
            round_trip = await _round_trip(daemon, clan, peer, answer_s)
            received += round_trip["rtt_ms"] is not None
            await conversation.item({"sequence": sequence, **round_trip})
            if due_s >= deadline_s:
                break
            if sequence < count:
                await trio.sleep_until(due_s)
    return {"sent": sequence, "received": received}


def _target(clan: Clan, given: str) -> NodeId:
    node = a_member(clan.mesh.authority, given).node
    if node == clan.keys.node:
        raise Fault(
            "usage", f"ping {given}", "that is this device itself", "name another one: see `clanctl peers`"
        )
    if clan.config.overlay == "none":
        why = "the overlay is switched off on this device, so there is no tunnel"
        raise Fault("refused", f"ping {given}", why, 'take `overlay = "none"` out of its configuration')
    if clan.overlay.backend is None or clan.overlay.failure is not None:
        why = clan.overlay.failure or "it has only just been started"
        raise Fault("refused", f"ping {given}", f"the overlay is not up: {why}", clan.overlay.remedy)
    return node


def _peer(daemon: "Daemon", clan: Clan, node: NodeId, name: str) -> Peer:
    """The member as it is now. Raises Fault when it is none any more, or this device is not."""
    if daemon.need_clan() is not clan:
        raise Fault("refused", f"ping {name}", "this device is in another clan now", "see `clanctl status`")
    found = next((peer for peer in clan.mesh.peers(instant()) if peer.node == node), None)
    if found is None:
        raise Fault("refused", f"ping {name}", "it is no member of the clan any more", "see `clanctl events`")
    return found


async def _round_trip(daemon: "Daemon", clan: Clan, peer: Peer, answer_s: float) -> dict[str, Any]:
    rtt_s, failure = None, None
    try:
        rtt_s = await echo(clan.config.interface, peer.address, PING_BYTES, answer_s)
    except OSError as error:
        failure = error.strerror or str(error)
    observed = await clan.overlay.observe()
    now = _peer(daemon, clan, peer.node, peer.name)
    path = path_view(clan, now, tunnel_of(clan, peer.node, observed))
    return {
        "rtt_ms": round(rtt_s * 1000, 2) if rtt_s is not None else None,
        "path": path,
        "why": failure or _why(now, path) if rtt_s is None else None,
    }


def _why(peer: Peer, path: dict[str, Any]) -> str:
    """Why there was no answer, as far as that is known here."""
    if path["kind"] == "none":
        return str(path["why_not_direct"] or "there is no path to it")
    if peer.state == State.UP:
        return "it is up, so a firewall there may keep ICMPv6 away, or the path has just changed"
    return "it answers nobody just now" if peer.state == State.SUSPECT else f"it is {peer.state}"
