"""How a member is reached, as `peers` and `ping` show it: the engine's word, and WireGuard's."""

import ipaddress
import time
from collections.abc import Mapping
from typing import Any

import trio

from clanmesh_protocol.keys import NodeId, tunnel_public_untrusted
from clanmeshd.clan import Clan
from clanmeshd.core.peers import Peer
from clanmeshd.core.wanted import node_record
from clanmeshd.overlay import path_terms
from clanmeshd.overlay.device import TunnelState, may_have_session
from clanmeshd.overlay.path_terms import PathKind


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
    return {
        "kind": kind,
        "endpoint": str(endpoint) if endpoint is not None and kind not in ("self", "none") else None,
        "via": _name(clan, way.via) if way is not None and kind == PathKind.RELAY else None,
        "why_not_direct": why if kind in ("none", PathKind.RELAY) else None,
        "next_try_s": _next_try_s(way) if kind in ("none", PathKind.RELAY) else None,
        "rtt_ms": rounded(peer.rtt_ms),
        "mtu": clan.sizing.size_of(peer.node) if kind != "self" else None,
    }


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
