"""Looks around: what the daemon knows already, what the system says, and what members answer just now."""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.signalling import NatKind
from clanmesh_protocol.version import version_text
from clanmeshd.calls.path_view import has_session, path_view, tunnel_of
from clanmeshd.checkup import routes, system
from clanmeshd.checkup.asking import Told, ask
from clanmeshd.checkup.firewall import reading
from clanmeshd.checkup.firewall.judging import Scene, judge
from clanmeshd.checkup.firewall.owners import Block, Ports, single_ports
from clanmeshd.checkup.firewall.packets import Wire
from clanmeshd.checkup.firewall.rules import Ruleset
from clanmeshd.checkup.terms import Clashes, Fellow, Firewall, Naming, Outside, Refusal, Router, Snapshot, Tunnels
from clanmeshd.clan import Clan
from clanmeshd.core.effects import Holder
from clanmeshd.core.peers import Peer
from clanmeshd.core.sightings import is_outer
from clanmeshd.core.subjects import State
from clanmeshd.core.wanted import PREFIX_BITS, node_record, overlay_address, overlay_prefix
from clanmeshd.driver import instant
from clanmeshd.net.addresses import assigned_ipv6, local_endpoints
from clanmeshd.net.mapping.terms import Reason, Standing
from clanmeshd.overlay.backend import TunnelState
from clanmeshd.overlay.echoes import PING_BYTES, echo
from clanmeshd.overlay.path_terms import PathKind, Why
from clanmeshd.overlay.relay_ports import PORTS_EACH
from clanmeshd.relays.own import is_on_the_internet

LOOK_S_MAX: Final = 6.0  # for all that is asked; side by side it takes a second or two
ECHO_S: Final = 1.0  # for one answer through a tunnel; two tries
ECHO_TRIES: Final = 2
ECHOED_MAX: Final = 64  # members, the nearest: beyond it tunnels sleep
ASKED_MAX: Final = 16  # members, the nearest, for their clocks and versions: a stream each
SHOWN_MAX: Final = 512  # members that are looked at at all

NOT_SEEN: Final = reading.Seen(Ruleset(), f"reading its rules took longer than {LOOK_S_MAX:.0f} s")

_Answers = dict[NodeId, float]
_ToldBy = dict[NodeId, Told | None]


async def look(clan: Clan, others: Iterable[tuple[str, str]]) -> Snapshot:
    """Take a snapshot. `others`: what is wrong besides and what to do, as `status` says it."""
    own = clan.keys.node
    is_member = own in clan.mesh.authority.members
    peers = [peer for peer in clan.mesh.peers(instant()) if peer.node != own and is_member][:SHOWN_MAX]
    async with trio.open_nursery() as nursery:
        rules: list[reading.Seen] = []
        nursery.start_soon(_read_rules, rules)
        echoed, told = await _ask_all(clan, peers)
    observed = await clan.overlay.observe()
    members = [(peer.name, peer.address) for peer in peers]
    interface, prefix = clan.config.interface, overlay_prefix(clan.membership.clan)
    has_tunnels = clan.overlay.backend is not None
    around = system.networks(interface)
    clashes = system.address_clashes(assigned_ipv6(), interface, prefix)
    detours = await routes.detours(members, interface) if has_tunnels else ()
    fellows = [_fellow(clan, peer, observed, echoed.get(peer.node), around) for peer in peers]
    return Snapshot(
        version=version_text(),
        outside=_outside(clan),
        tunnels=_tunnels(clan),
        naming=_naming(clan),
        clashes=Clashes(detours, clashes.strangers, clashes.duplicates),
        fellows=tuple(_with_told(fellow, peer, told) for fellow, peer in zip(fellows, peers, strict=True)),
        disk=system.disk(clan.config.state_directory, clan.driver.disk_failure),
        is_member=is_member,
        is_reachable=_is_reachable(clan, own),
        tunnel_port=clan.config.tunnel_port,
        control_port=clan.config.port,
        firewall=await _firewall(clan, next(iter(rules), NOT_SEEN), [peer.address for peer in peers]),
        others=tuple(Refusal(why, remedy) for why, remedy in others),
    )


# --- what members answer just now ----------------------------------------------------------------------


async def _ask_all(clan: Clan, peers: Sequence[Peer]) -> tuple[_Answers, _ToldBy]:
    up = sorted((peer for peer in peers if peer.state == State.UP), key=_nearness)
    echoed: _Answers = {}
    told: _ToldBy = {}

    async def ping(peer: Peer) -> None:
        for _ in range(ECHO_TRIES):
            try:
                answer_s = await echo(clan.config.interface, peer.address, PING_BYTES, ECHO_S)
            except OSError:
                return
            if answer_s is not None:
                echoed[peer.node] = answer_s
                return

    async def question(peer: Peer) -> None:
        told[peer.node] = await ask(clan.reach, Holder(peer.node, peer.endpoints, frozenset()))

    with trio.move_on_after(LOOK_S_MAX):
        async with trio.open_nursery() as nursery:
            # Where nobody is up, a connection tells whether it is datagrams alone that do not pass.
            for peer in (up or peers)[:ASKED_MAX]:
                nursery.start_soon(question, peer)
            awake = [peer for peer in up if not _is_asleep(clan, peer)] if clan.overlay.backend else []
            for peer in awake[:ECHOED_MAX]:
                nursery.start_soon(ping, peer)
    return echoed, told


def _nearness(peer: Peer) -> float:
    return peer.rtt_ms if peer.rtt_ms is not None else 1000.0


def _is_asleep(clan: Clan, peer: Peer) -> bool:
    standing = clan.traversal.standing(peer.node)
    return standing is not None and standing.why is Why.ASLEEP


# --- what the daemon knows -----------------------------------------------------------------------------


def _outside(clan: Clan) -> Outside:
    """How this device looks from outside, as far as that is known."""
    meeting, steering = clan.mesh.meeting, clan.traversal.steering
    reflected, refusal = meeting.reflected, clan.traversal.refusal
    kind = reflected.nat if reflected is not None else NatKind.UNKNOWN
    own = local_endpoints(clan.config.port, overlay_prefix(clan.membership.clan))
    if kind is NatKind.UNKNOWN and is_on_the_internet(own):
        kind = NatKind.NONE
    mapping = clan.mapping
    off = Standing(reason=Reason.OFF)
    return Outside(
        nat=kind,
        seen_by=meeting.heard,
        seen_at=next(iter(reflected.tunnel or reflected.control), None) if reflected is not None else None,
        is_blocked=steering.is_blocked if steering is not None else False,
        router=_router(mapping.standing if mapping is not None else off, clan.config.tunnel_port),
        pinhole=_router(mapping.pinholes if mapping is not None else off, clan.config.tunnel_port),
        unprobed=Refusal(refusal.why, refusal.remedy) if refusal is not None else None,
    )


def _router(standing: Standing, port: int) -> Router:
    return Router(standing.by, standing.external.get(port), standing.reason, standing.why)


def _tunnels(clan: Clan) -> Tunnels:
    overlay, prefix = clan.overlay, overlay_prefix(clan.membership.clan)
    network = f"{ipaddress.IPv6Address(prefix.ljust(16, bytes(1)))}/{PREFIX_BITS}"
    failure = Refusal(overlay.failure, overlay.remedy) if overlay.failure is not None else None
    if overlay.backend is None and failure is None:
        failure = Refusal("it has only just been started", "wait a moment, and look again")
    kind = overlay.backend.kind if overlay.backend is not None else None
    return Tunnels(clan.config.overlay != "none", kind, clan.config.interface, network, failure)


def _naming(clan: Clan) -> Naming:
    view: Mapping[str, Any] = clan.names.view() or {}
    trouble = clan.names.problem()
    return Naming(
        is_wanted=clan.names.is_wanted,
        by=view.get("by"),
        why=view.get("why"),
        failure=Refusal(trouble[0].removeprefix("names: "), trouble[1]) if trouble is not None else None,
    )


async def _read_rules(into: list[reading.Seen]) -> None:
    with trio.move_on_after(LOOK_S_MAX):
        into.append(await reading.see())


async def _firewall(clan: Clan, seen: reading.Seen, members: Sequence[bytes]) -> Firewall | None:
    """What the packet filters here do with what the clan needs."""
    config, prefix = clan.config, overlay_prefix(clan.membership.clan)
    udp = (config.port, config.tunnel_port) if config.overlay != "none" else (config.port,)
    own = overlay_address(clan.membership.clan, clan.keys.node)
    first = config.tunnel_port + 1
    relayed = [Block("udp", first, first + PORTS_EACH - 1)] if clan.relay.is_willing() else []
    scene = Scene(
        wires=reading.wires(config.interface, prefix),
        tunnel=Wire(config.interface, own, members[0]) if clan.overlay.backend is not None and members else None,
        ports=Ports((*single_ports(udp, (config.port,)).blocks, *relayed)),
        has_mdns=config.mdns,
    )
    # 10 ms a packet at most, in a thread that touches nothing else.
    arguments = (seen.ruleset, scene, seen.unseen, seen.tools, seen.hint)
    return await trio.to_thread.run_sync(judge, *arguments, abandon_on_cancel=True)


# --- members -------------------------------------------------------------------------------------------


def _is_reachable(clan: Clan, node: NodeId) -> bool:
    """Whether a member says itself that it is reached at an address of the internet, by IPv4."""
    record = node_record(clan.mesh.ledger, node)
    return record is not None and any(len(each.ip) == 4 and is_outer(each.ip) for each in record.endpoints)


def _fellow(
    clan: Clan,
    peer: Peer,
    observed: Mapping[bytes, TunnelState],
    echo_s: float | None,
    around: Sequence[system.IPNetwork],
) -> Fellow:
    tunnel = tunnel_of(clan, peer.node, observed)
    path = path_view(clan, peer, tunnel)
    kind = PathKind(path["kind"])
    record = node_record(clan.mesh.ledger, peer.node)
    listed = record.endpoints if record is not None else ()
    return Fellow(
        name=peer.name,
        state=peer.state,
        kind=kind,
        via=path["via"],
        why=path["why_not_direct"],
        next_try_s=path["next_try_s"],
        silent_s=peer.last_seen_s,
        has_session=has_session(tunnel),
        echo_s=echo_s,
        mtu=path["mtu"],
        is_reachable=_is_reachable(clan, peer.node),
        same_network=_shared(listed, around) if kind in (PathKind.RELAY, PathKind.DIRECT) else None,
    )


def _shared(listed: Iterable[Endpoint], around: Sequence[system.IPNetwork]) -> str | None:
    """The network of this machine that a private address of a member's lies in."""
    for endpoint in listed:
        address = ipaddress.ip_address(endpoint.ip)
        for network in around:
            if address.is_private and address.version == network.version and address in network:
                return str(network)
    return None


def _with_told(fellow: Fellow, peer: Peer, told: Mapping[NodeId, Told | None]) -> Fellow:
    if peer.node not in told:
        return fellow
    said = told[peer.node]
    if said is None:
        return replace(fellow, connects=False)
    return replace(fellow, connects=True, ahead_s=said.ahead_s, version=said.version)
