"""What `clanctl peers` and `status` show: the core's opinion and WireGuard's counters, put together."""

import ipaddress
import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import trio

from clanmesh_protocol.control import CONTROL_VERSION, Fault
from clanmesh_protocol.keys import NodeId, node_text
from clanmesh_protocol.records import Verb
from clanmesh_protocol.version import version_text
from clanmeshd.alerting import standing_alarms
from clanmeshd.calls.admins import acknowledged_age_s, final_number
from clanmeshd.calls.arguments import number
from clanmeshd.calls.path_view import handshake_age_s, path_view, rounded, tunnel_of
from clanmeshd.clan import Clan
from clanmeshd.control import Conversation
from clanmeshd.core.alarms import Alarm
from clanmeshd.core.directives import standing
from clanmeshd.core.mesh import Peer
from clanmeshd.core.phrases import COMMIT_DIGITS
from clanmeshd.core.wanted import node_record, overlay_address
from clanmeshd.driver import instant
from clanmeshd.net.mapping.terms import Reason, Standing
from clanmeshd.overlay.backend import TunnelState
from clanmeshd.rollout.selection import FORK_REMEDY

if TYPE_CHECKING:
    from clanmeshd.daemon import Daemon

WATCH_INTERVAL_S_MAX: Final = 60
WATCHERS_MAX: Final = 32  # half of the control socket's places, so that others can always ask

log = logging.getLogger(__name__)


async def version(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`version`."""
    return {"version": version_text(), "control": CONTROL_VERSION}


async def peers(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`peers`: every member as this device sees it, itself first."""
    return await peers_view(daemon.need_clan())


async def watch(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`watch`: the result of `peers`, again and again, until the client hangs up."""
    interval_s = number(args, "interval_s", 1, 1, WATCH_INTERVAL_S_MAX)
    daemon.need_clan()
    need_place(daemon)
    async with daemon.watchers:
        while True:
            await conversation.item(await peers_view(daemon.need_clan()))  # it may be left meanwhile
            await trio.sleep(interval_s)


def need_place(daemon: "Daemon") -> None:
    """See to it that `watchers` has a place for a call that goes on and on. Raises Fault."""
    if daemon.watchers.available_tokens == 0:
        raise Fault("refused", "watching", f"{WATCHERS_MAX} others watch or ping already", "close one of them")


async def peers_view(clan: Clan) -> dict[str, Any]:
    """Put the view of all members together."""
    observed = await clan.overlay.observe()
    own = clan.keys.node
    members = sorted(clan.mesh.peers(instant()), key=lambda peer: (peer.node != own, peer.name))
    return {
        "clan": {"id": clan.membership.clan.hex(), "name": clan.membership.name},
        "self": next((peer.name for peer in members if peer.node == own), None),
        "peers": [_peer_view(clan, peer, tunnel_of(clan, peer.node, observed)) for peer in members],
    }


def _peer_view(clan: Clan, peer: Peer, tunnel: TunnelState | None) -> dict[str, Any]:
    is_self = peer.node == clan.keys.node
    status = clan.status.value if is_self else peer.status
    return {
        "name": peer.name,
        "id": node_text(peer.node),
        "address": str(ipaddress.IPv6Address(peer.address)),
        "tags": list(peer.tags),
        **_membership_view(clan, peer.node),
        "state": "up" if is_self else peer.state,
        "path": path_view(clan, peer, tunnel),
        "wireguard": {
            "handshake_age_s": handshake_age_s(tunnel),
            "rx_bytes": tunnel.rx_bytes if tunnel else 0,
            "tx_bytes": tunnel.tx_bytes if tunnel else 0,
        },
        "revision": {
            "commit": status.commit.hex() if status and status.commit else None,
            "wanted": status.wanted.hex() if status and status.wanted else None,
            "state": status.rollout.text if status else "behind",
        },
        "secrets": {
            "epoch": status.secrets_epoch if status else 0,
            "state": status.secrets.text if status else "current",
        },
        "last_seen_s": 0.0 if is_self else rounded(peer.last_seen_s),
    }


def _membership_view(clan: Clan, node: NodeId) -> dict[str, Any]:
    authority = clan.mesh.authority
    member = authority.members.get(node)
    return {
        "admin": authority.is_admin(node),
        "confirmed": member is not None and member.confirmed,
        "expires_unix_s": member.expires_unix_s if member is not None else 0,
    }


async def status(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`status`: this device, what is wrong with it, and what to do."""
    clan = daemon.need_clan()
    mesh = clan.mesh
    alarms = standing_alarms(mesh)
    problems = _problems(daemon, clan) + _fork_problems(clan) + _alarm_views(alarms, "problem")
    return {
        "clan": {"id": clan.membership.clan.hex(), "name": clan.membership.name},
        "self": next((p.name for p in mesh.peers(instant()) if p.node == clan.keys.node), None),
        "id": node_text(clan.keys.node),
        "address": str(ipaddress.IPv6Address(overlay_address(clan.membership.clan, clan.keys.node))),
        "healthy": not problems,
        "problems": problems,
        "notices": _pause_notices(clan) + _alarm_views(alarms, "notice"),
        "authority": _authority_view(clan),
        "counters": {**mesh.counters, **clan.driver.counters},
        "overlay": {
            "backend": clan.overlay.backend.kind if clan.overlay.backend else None,
            "interface": clan.overlay.interface,
            "state": "up" if clan.overlay.backend and not clan.overlay.failure else "down",
            "why": clan.overlay.failure,
            "next_key": _next_key_number(clan),
        },
        "names": clan.names.view(),
        "port_mapping": _mapping_view(clan),
        "revision": {
            "commit": clan.status.value.commit.hex() if clan.status.value.commit else None,
            "wanted": clan.status.value.wanted.hex() if clan.status.value.wanted else None,
            "state": clan.status.value.rollout.text,
        },
        "secrets": {"epoch": clan.status.value.secrets_epoch, "state": clan.status.value.secrets.text},
        "uptime_s": round(time.monotonic() - daemon.started_monotonic_s, 1),
        "version": (await version(daemon, {}, conversation))["version"],
        "records": len(mesh.ledger),
    }


def _mapping_view(clan: Clan) -> dict[str, Any]:
    """Where others reach this device through its router, or why not: `reason` for programs, `why` for people."""
    off = Standing(reason=Reason.OFF, why="it is switched off")
    mapping = clan.mapping
    return {
        "ipv4": _standing_view(clan, mapping.standing if mapping is not None else off),
        "ipv6": _standing_view(clan, mapping.pinholes if mapping is not None else off),
    }


def _standing_view(clan: Clan, standing: Standing) -> dict[str, Any]:
    control, tunnel = (standing.external.get(port) for port in (clan.config.port, clan.config.tunnel_port))
    return {
        "by": standing.by,
        "control": str(control) if control is not None else None,
        "tunnel": str(tunnel) if tunnel is not None else None,
        "reason": standing.reason.value if standing.reason is not None else None,
        "why": standing.why,
    }


def _next_key_number(clan: Clan) -> int | None:
    """The number of the tunnel key that is about to be used; None while none is."""
    said = node_record(clan.mesh.ledger, clan.keys.node)
    return said.tunnel_next.number if said is not None and said.tunnel_next is not None else None


def _authority_view(clan: Clan) -> dict[str, Any]:
    authority = clan.mesh.authority
    return {
        "number": authority.number,
        "head": authority.head.hex(),
        "final_number": final_number(clan),
        "admins": len(authority.admins),
        "pending": len(authority.pending),
        "acknowledged_age_s": acknowledged_age_s(clan),
    }


def _alarm_views(alarms: Iterable[Alarm], severity: str) -> list[dict[str, str]]:
    return [
        {"what": alarm.text, "remedy": alarm.remedy, "kind": alarm.kind, "severity": severity}
        for alarm in alarms
        if alarm.severity == severity
    ]


def _problems(daemon: "Daemon", clan: Clan) -> list[dict[str, str]]:
    found = [(note, "nothing: it mends itself") for note in daemon.notes]
    if clan.driver.disk_failure:
        remedy = "make room there, or repair the disk: this device says nothing until it can store"
        found.append((f"state: {clan.driver.disk_failure}", remedy))
    if clan.overlay.failure and clan.overlay.kind != "none":
        found.append((f"overlay: {clan.overlay.failure}", clan.overlay.remedy))
    if (trouble := clan.names.problem()) is not None:
        found.append(trouble)
    if clan.placement_failure:
        what, _, remedy = clan.placement_failure.partition("; ")
        what = what if what.startswith("secret ") else f"secrets: {what}"
        found.append((what, remedy or "see `journalctl -u clanmeshd`"))
    if clan.discovery_failure and len(clan.mesh.authority.members) > 1:
        found.append(
            (f"mDNS: {clan.discovery_failure}", "connect this device to a network, or set `mdns = false`")
        )
    complaint = clan.rollout.complaint
    if complaint is not None:
        found.append((f"rollout: {complaint}", "`clanctl rollout status` and `clanctl rollout log` say more"))
    return [{"what": what, "remedy": remedy, "kind": "device", "severity": "problem"} for what, remedy in found]


def _fork_problems(clan: Clan) -> list[dict[str, str]]:
    """Heads that diverge, with who signed them: nothing moves anywhere until somebody decides."""
    fork = clan.rollout.fork
    if not fork:
        return []
    named = " and ".join(f"{commit.hex()[:COMMIT_DIGITS]} by {signer}" for commit, signer in fork)
    what = f"the configuration has diverging heads, {named}: no device moves until that ends"
    return [{"what": what, "remedy": FORK_REMEDY, "kind": "fork", "severity": "problem"}]


def _pause_notices(clan: Clan) -> list[dict[str, str]]:
    mesh = clan.mesh
    return [
        {
            "what": f"{order.by} paused the rollout{f' ({order.reason})' if order.reason else ''}",
            "remedy": "when it shall go on: `clanctl rollout resume` on an admin's device",
            "kind": "paused",
            "severity": "notice",
        }
        for order in standing(mesh.authority, mesh.ledger)
        if order.verb is Verb.PAUSE
    ]
