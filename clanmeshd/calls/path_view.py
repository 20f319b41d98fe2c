"""How a member is reached, as `peers` and `ping` show it: the engine's word, and WireGuard's."""

import ipaddress
import time
from collections.abc import Mapping
from typing import Any

import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId, tunnel_public_untrusted
from clanmeshd.clan import Clan
from clanmeshd.core.peers import Peer
from clanmeshd.core.wanted import node_record
from clanmeshd.overlay import path_terms
from clanmeshd.overlay.device import TunnelState, may_have_session
from clanmeshd.overlay.path_terms import PathKind
from clanmeshd.overlay.spots import rank_of


def tunnel_of(clan: Clan, node: NodeId, observed: Mapping[bytes, TunnelState]) -> TunnelState | None:
    """What WireGuard knows of a member."""
    record = node_record(clan.mesh.ledger, node)
    return observed.get(tunnel_public_untrusted(record.tunnel_key)) if record is not None else None


def handshake_age_s(tunnel: TunnelState | None) -> float | None:
    """How long ago the last handshake was; None: there was none."""
    return round(time.time() - tunnel.handshake_unix_s, 1) if tunnel and tunnel.handshake_unix_s else None


def has_session(tunnel: TunnelState | None) -> bool:
    """Whether something may pass without another handshake."""
    return tunnel is not None and may_have_session(tunnel, time.time())


def path_view(clan: Clan, peer: Peer, tunnel: TunnelState | None) -> dict[str, Any]:
    """How a member's packets go; where not directly, why, and when that is tried again."""
    endpoint = (tunnel.endpoint if tunnel else None) or peer.endpoint
    fresh = has_session(tunnel)
    way = clan.traversal.standing(peer.node)
    why = str(way.why) or None if way is not None else None
    if peer.node == clan.keys.node:
        kind, why = "self", None
    elif way is not None and way.kind is not PathKind.NONE:
        kind = str(way.kind)
    elif way is not None and way.why is path_terms.Why.ASLEEP:
        kind = "none"  # WireGuard is where it rings
    elif endpoint is None:
        unknown = (
            "no datagrams pass: a stream carries them" if peer.is_carried else "no address of it is known yet"
        )
        kind, why = "none", why or unknown
    elif not fresh and peer.state != "up":
        kind, why = "none", why or "it does not answer"
    else:
        kind = "lan" if ipaddress.ip_address(endpoint.ip).is_private else "direct"
    is_way = kind not in ("self", "none")
    return {
        "kind": kind,
        "endpoint": str(endpoint) if endpoint is not None and is_way else None,
        "via": _name(clan, way.via) if way is not None and kind == PathKind.RELAY else None,
        "why_not_direct": why if kind in ("none", PathKind.RELAY) else None,
        "next_try_s": _next_try_s(way) if kind in ("none", PathKind.RELAY) else None,
        "rtt_ms": rounded(_rtt_ms(clan, peer, way, endpoint)) if endpoint is not None and is_way else None,
        "mtu": clan.sizing.size_of(peer.node) if kind != "self" else None,
    }


def _rtt_ms(clan: Clan, peer: Peer, way: path_terms.Standing | None, endpoint: Endpoint) -> float | None:
    """How long the way takes there and back. None: not known yet.

    By the core's pings, which go on as long as the peer is up, where they go the same way: to the same place, on
    the same network, or through the tunnel. Else as probes have found it.
    """
    if peer.endpoint is not None and _is_same_way(clan, peer, peer.endpoint, endpoint):
        return peer.endpoint_rtt_ms
    return way.rtt_s * 1000 if way is not None and way.rtt_s is not None else None


def _is_same_way(clan: Clan, peer: Peer, pinged: Endpoint, endpoint: Endpoint) -> bool:
    own = [each.ip for each in clan.mesh.endpoints]
    are_near = all(rank_of(each, own) is path_terms.Rank.LAN for each in (pinged, endpoint))
    return are_near or pinged.ip in (endpoint.ip, peer.address)


def _name(clan: Clan, node: NodeId | None) -> str | None:
    member = clan.mesh.authority.members.get(node) if node is not None else None
    return member.name if member is not None else None


def _next_try_s(way: path_terms.Standing | None) -> float | None:
    """In how long a direct path is tried again."""
    if way is None or way.next_try_s is None:
        return None
    return round(max(0.0, way.next_try_s - trio.current_time()), 1)


def rounded(value: float | None) -> float | None:
    """To a tenth."""
    return round(value, 1) if value is not None else None
