"""One clan's membership while it runs: which tasks there are, what they share, and in which order they stop.

`run_clan` is the inner part of the daemon's nursery tree. Everything here lives on the trio thread and dies
together: the world's faults are handled by the task that meets them, so whatever reaches this nursery is ours.
"""

import hashlib
import logging
import os
import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final

import trio

from clanmesh_protocol.keys import DeviceKeys, NodeId, RecordId
from clanmesh_protocol.records import Record, RolloutState, SecretsState
from clanmesh_protocol.signing import Verified
from clanmesh_protocol.streams import Purpose
from clanmeshd import admitting, memory
from clanmeshd.alerting import Alerting
from clanmeshd.carriage import Carriage
from clanmeshd.config import Config
from clanmeshd.core.authority import Authority
from clanmeshd.core.effects import SetSecrets
from clanmeshd.core.mesh import Mesh
from clanmeshd.core.wanted import overlay_prefix
from clanmeshd.driver import Driver, instant
from clanmeshd.fetching import fetch_records, serve_records
from clanmeshd.names import Names
from clanmeshd.naming.registration import Registration
from clanmeshd.nearby import find_members, follow_secret
from clanmeshd.net import stream
from clanmeshd.net.addresses import local_endpoints, watch_addresses
from clanmeshd.net.mapping.client import PortMapping
from clanmeshd.net.mapping.terms import Forward, Transport
from clanmeshd.net.udp import DatagramPort
from clanmeshd.overlays import Overlay
from clanmeshd.reaching import Reach, serve_pack, serve_question
from clanmeshd.reconcile import Latest, reconcile
from clanmeshd.relays.own import OwnRelay
from clanmeshd.resealing import Keeper, keep_sealed
from clanmeshd.rollout.machine import Rollout
from clanmeshd.secrets.grants import Onlooker
from clanmeshd.secrets.place import PlacementError, place
from clanmeshd.sizing import Sizing, System
from clanmeshd.status import OwnStatus
from clanmeshd.store import Membership, Store
from clanmeshd.stores import MemberStores
from clanmeshd.traversal import Traversal
from clanmeshd.watching import watch_upstream

ADDRESSES_POLL_S: Final = 60.0  # changes are told by the kernel; this is for where it may not tell
MEMORY_PAUSE_S: Final = 10.0  # after news: what brought them, such as a join, is over by then
SECRETS_RECHECK_S: Final = 300.0  # somebody may have deleted a placed file

_FOR_CURRENT: Final = frozenset(  # members whose time is not over
    {Purpose.GIT, Purpose.PACK, Purpose.ROLLOUT, Purpose.STORE, Purpose.RELAY, Purpose.DATAGRAMS}
)

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Clan:
    """What the control calls and the tasks of one clan share."""

    config: Config
    store: Store
    keys: DeviceKeys
    membership: Membership
    driver: Driver
    status: OwnStatus
    overlay: Overlay
    names: Names
    rollout: Rollout
    reach: Reach
    relay: OwnRelay
    traversal: Traversal
    carriage: Carriage
    sizing: Sizing
    keeper: Keeper
    ties: stream.Ties = field(default_factory=stream.Ties)
    mapping: PortMapping | None = None  # None: switched off
    adopted: Latest[Membership] = field(default_factory=Latest)  # with another discovery secret, for mDNS
    placement_failure: str | None = None
    discovery_failure: str | None = None

    @property
    def mesh(self) -> Mesh:
        """The core."""
        return self.driver.mesh


def start_mesh(
    config: Config,
    keys: DeviceKeys,
    membership: Membership,
    records: Iterable[Verified[Record]],
    anchor: RecordId | None = None,
) -> Mesh:
    """Make the core of a clan from what is on disk."""
    return Mesh(
        keys,
        membership.clan,
        records,
        rng=random.Random(os.urandom(16)),
        entropy=os.urandom,
        now=instant(),
        control_port=config.port,
        tunnel_port=config.tunnel_port,
        anchor=anchor,
    )


async def run_clan(
    config: Config,
    store: Store,
    keys: DeviceKeys,
    membership: Membership,
    records: Iterable[Verified[Record]],
    *,
    task_status: trio.TaskStatus[Clan] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Take part in a clan until cancelled. Raises PortInUse before it has started anything."""
    port = DatagramPort.open(config.port)
    with port:
        listeners = await stream.open_listeners(config.port)
        mesh = start_mesh(config, keys, membership, records, store.load_anchor())
        driver = Driver(mesh, store, port)
        clan = _assemble(config, store, keys, membership, driver)
        async with trio.open_nursery() as nursery:
            _refresh_endpoints(clan)
            clan.status.publish()
            driver.on_authority = lambda authority: _cut_off(clan, authority)
            await driver.settle()
            nursery.start_soon(port.run, driver.deliver)
            nursery.start_soon(driver.run)
            nursery.start_soon(_serve_streams, clan, listeners)
            nursery.start_soon(_fetch, clan)
            nursery.start_soon(_watch_addresses, clan)
            nursery.start_soon(clan.overlay.run, clan.sizing.tunnels)
            nursery.start_soon(clan.sizing.run)
            nursery.start_soon(clan.traversal.run)
            nursery.start_soon(clan.relay.run)
            nursery.start_soon(clan.carriage.run)
            nursery.start_soon(clan.names.run, driver.slots.names)
            nursery.start_soon(_keep_secrets, clan)
            nursery.start_soon(keep_sealed, driver, clan.keeper)
            nursery.start_soon(Alerting(driver).run)
            nursery.start_soon(clan.rollout.run, driver.slots.rollout)
            nursery.start_soon(watch_upstream, clan)
            nursery.start_soon(_follow_discovery, clan)
            nursery.start_soon(_give_back_memory, clan)
            if config.mdns:
                nursery.start_soon(_discover, clan)
            if clan.mapping is not None:
                nursery.start_soon(clan.mapping.run)
            task_status.started(clan)


def _assemble(config: Config, store: Store, keys: DeviceKeys, membership: Membership, driver: Driver) -> Clan:
    status, ties = OwnStatus(driver), stream.Ties()

    async def report(
        commit: bytes | None, wanted: bytes | None, state: RolloutState, bad: tuple[bytes, ...]
    ) -> None:
        await status.change(commit=commit, wanted=wanted, rollout=state, bad_commits=bad)

    def tell(kind: str, text: str) -> None:
        driver.events.add(kind, text, is_problem=kind == "alarm")

    reach = Reach(keys.identity_seed, membership.clan, ties)
    rollout = Rollout(
        config.state_directory / "rollout",
        config.runtime_directory,
        sources=reach,
        report=report,
        tell=tell,
        stores=MemberStores(driver, reach),
        hooks=config.hooks,
    )
    overlay = Overlay(config.interface, config.overlay, applied=driver.tunnels_applied)
    names = Names(
        membership.clan,
        keys.node,
        config.interface,
        config.runtime_directory / "hosts",
        is_wanted=config.names and config.overlay != "none",
        is_up=lambda: overlay.backend is not None and overlay.failure is None,
        registration=Registration(config.interface),
    )
    relay = OwnRelay(config, driver, keys.node, overlay_prefix(membership.clan))
    traversal = Traversal(config, driver, keys, membership.clan, overlay, reach)
    sizing = Sizing(
        traversal.tunnels, System(config.interface), lambda: frozenset(each.ip for each in driver.mesh.endpoints)
    )
    overlay.seen = sizing.seen
    parts = overlay, names, rollout, reach, relay, traversal, Carriage(driver, reach), sizing
    keeper = Keeper(driver.mesh, keys, Onlooker(membership.looked))
    clan = Clan(config, store, keys, membership, driver, status, *parts, keeper, ties)
    keeper.remember = lambda looked: _remember(clan, replace(clan.membership, looked=looked))
    mapping = clan.mapping = relay.mapping = _port_mapping(clan)
    if mapping is not None:
        traversal.mapped = lambda: mapping.external(config.tunnel_port)
    return clan


def _port_mapping(clan: Clan) -> PortMapping | None:
    """What asks the router for our ports: both transports of the control port by one number, and WireGuard's."""

    async def changed() -> None:
        _refresh_endpoints(clan)
        clan.traversal.look_around()
        await clan.driver.settle()

    config = clan.config
    if not config.port_mapping:
        return None
    control = (Forward(Transport.UDP, config.port), Forward(Transport.TCP, config.port))
    tunnel = (Forward(Transport.UDP, config.tunnel_port),)
    doors = (control, tunnel) if config.overlay != "none" else (control,)
    secret = hashlib.blake2b(clan.keys.identity_seed, person=b"port-mapping").digest()
    return PortMapping(doors, secret, changed)


def _cut_off(clan: Clan, authority: Authority) -> None:
    """End what is going on with those who are no members any more; all of it when this device is none."""
    is_in = authority.is_member(clan.keys.node)
    cut = clan.ties.cut(lambda node: is_in and authority.is_member(node))
    clan.relay.refresh()
    if cut:
        log.info("%d streams with removed devices were cut", cut)


# --- tasks ---------------------------------------------------------------------------------------------


def _refresh_endpoints(clan: Clan) -> None:
    own = overlay_prefix(clan.membership.clan)
    seen = local_endpoints(clan.config.port, own)
    outside = clan.mapping.external(clan.config.port) if clan.mapping is not None else ()
    # The best address at home first, since most peers are there; bridges of containers after the way from outside.
    clan.mesh.set_endpoints((*clan.config.endpoints, *seen[:1], *outside, *seen[1:]), instant())


async def _watch_addresses(clan: Clan) -> None:
    with watch_addresses() as watch:
        while True:
            with trio.move_on_after(ADDRESSES_POLL_S):
                await watch.changed()
            _refresh_endpoints(clan)
            await clan.driver.settle()  # which forgets where this device was seen
            clan.traversal.look_around()


async def _discover(clan: Clan) -> None:
    def report(why: str | None) -> None:
        clan.discovery_failure = why

    await find_members(clan.driver, lambda: clan.membership, clan.adopted.changed, clan.config.port, report)


async def _follow_discovery(clan: Clan) -> None:
    def adopt(membership: Membership) -> None:
        _remember(clan, membership)
        clan.adopted.put(membership)

    await follow_secret(clan.driver, clan.keys, lambda: clan.membership, adopt)


def _remember(clan: Clan, membership: Membership) -> None:
    clan.membership = membership
    try:
        clan.store.save_membership(membership)
    except OSError as error:  # the clan's records say it again at the next start
        log.warning("the discovery secret was not stored: %s", error)


async def _serve_streams(clan: Clan, listeners: list[trio.SocketListener]) -> None:
    def may(node: NodeId, purpose: str) -> bool:
        member = clan.mesh.authority.members.get(node)
        if purpose in _FOR_CURRENT:
            return member is not None and member.is_current(instant().unix_s)
        return purpose == Purpose.JOIN or member is not None

    async def handle(channel: stream.Stream) -> None:
        match channel.purpose:
            case Purpose.JOIN:
                await admitting.admit(clan.driver, clan.membership, channel)
            case Purpose.RECORDS:
                await serve_records(clan.mesh, channel)
            case Purpose.GIT:
                async with stream.Pipe(channel) as pipe:
                    await clan.rollout.offers.upload_pack(pipe, channel.peer)
            case Purpose.STORE:
                async with stream.Pipe(channel) as pipe:
                    await clan.rollout.serve_store(pipe, channel.peer)
            case Purpose.PACK:
                await serve_pack(clan.rollout.offers, channel)
            case Purpose.ROLLOUT:
                await serve_question(clan.rollout, channel)
            case Purpose.RELAY:
                await clan.relay.serve(channel)
            case Purpose.DATAGRAMS:
                await clan.carriage.serve(channel)

    await stream.serve(
        listeners,
        seed=clan.keys.identity_seed,
        clan=lambda: clan.membership.clan,
        may=may,
        handle=handle,
        ties=clan.ties,
    )


async def _fetch(clan: Clan) -> None:
    await fetch_records(clan.driver, clan.keys.identity_seed, clan.membership.clan, clan.ties)


async def _give_back_memory(clan: Clan) -> None:
    while True:
        await clan.driver.quiet(clan.driver.news, inf, MEMORY_PAUSE_S)
        memory.give_back()


async def _keep_secrets(clan: Clan) -> None:
    async def apply(wanted: SetSecrets) -> None:
        await place(clan.config.runtime_directory, wanted, clan.keys)
        await clan.status.change(secrets_epoch=wanted.generation, secrets=SecretsState.CURRENT)

    async def failed() -> None:
        await clan.status.change(secrets=SecretsState.FAILED)

    def report(error: Exception | None) -> None:
        clan.placement_failure = str(error) if error is not None else None
        if error is not None:
            nursery.start_soon(failed)

    async with trio.open_nursery() as nursery:
        await reconcile(
            clan.driver.slots.secrets,
            apply,
            what="secrets",
            recheck_s=SECRETS_RECHECK_S,
            failed=(OSError, PlacementError),
            report=report,
        )
