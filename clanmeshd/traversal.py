"""Opens what a clan's steering needs, and stands aside where there is none of it.

Without raw sockets nothing is probed, and the tunnels go where the core found the members' control ports.
"""

import logging
import os
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from typing import Final

import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import ClanId, DeviceKeys, NodeId
from clanmeshd.config import Config
from clanmeshd.core.effects import SetTunnels
from clanmeshd.core.wanted import overlay_prefix
from clanmeshd.driver import Driver
from clanmeshd.overlay.doorbell import Doorbell
from clanmeshd.overlay.echoes import greet
from clanmeshd.overlay.path_terms import Standing
from clanmeshd.overlay.probes import Heard, Probes, Proven
from clanmeshd.overlay.probing import Probing
from clanmeshd.overlay.rawport import NoRawPort, RawPort, open_raw_port
from clanmeshd.overlays import Overlay
from clanmeshd.reaching import Reach
from clanmeshd.reconcile import Latest
from clanmeshd.relays.asking import Asker
from clanmeshd.steering import Steering
from clanmeshd.steering_terms import Machine, uptime_s

LOOK_S: Final = 5.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Traversal:
    """One clan's. `tunnels` is what the overlay shall be; `refusal` says why nothing is probed."""

    config: Config
    driver: Driver
    keys: DeviceKeys
    clan: ClanId
    overlay: Overlay
    reach: Reach
    mapped: Callable[[], tuple[Endpoint, ...]] = tuple  # WireGuard's port, as the router has promised
    tunnels: Latest[SetTunnels] = field(default_factory=Latest)
    steering: Steering | None = None
    refusal: NoRawPort | None = None

    async def run(self) -> None:
        """Steer the tunnels, or pass them on as they are, until cancelled; at once done where there are none."""
        if self.config.overlay == "none":
            return
        port = open_raw_port(self.config.tunnel_port, self.keys.node)
        if isinstance(port, NoRawPort):
            self.refusal = port
            log.warning("overlay: %s: %s; %s", *port)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._look_at_peers)
                while True:
                    self.tunnels.put(await self.driver.slots.tunnels.changed())
        try:
            await self._steer(port)
        finally:
            port.close()

    async def _look_at_peers(self) -> None:
        """In the place of whoever steers: the sizes of packets go by it."""
        while True:
            await trio.sleep(LOOK_S)
            await self.overlay.observe()

    async def _steer(self, port: RawPort) -> None:
        probes = Probes(self.keys.node, self.keys.static_private, self.clan, os.urandom)
        probing = Probing(probes, port, self._learn)
        probing.awaits = lambda node: node in self.overlay.held
        inside = overlay_prefix(self.clan)
        asker = Asker(
            self.reach, self, self.config.tunnel_port, inside, lambda endpoint, data: port.send(data, endpoint)
        )
        machine = Machine(self.overlay.observe, self._moved_packets, _greet, self.mapped, uptime_s)
        tunnel_port = self.config.tunnel_port
        bell = _open_bell(tunnel_port)
        self.steering = Steering(
            self.driver,
            self.keys.node,
            tunnel_port,
            machine,
            probing,
            asker,
            bell,
            self.config.awake,
            steered=self.tunnels,
        )
        with closing(bell) if bell is not None else nullcontext():
            async with trio.open_nursery() as nursery:
                await nursery.start(asker.run)
                if bell is not None:
                    nursery.start_soon(bell.run, self.steering.rung)
                await nursery.start(self.steering.hearing.run, probing.listen)
                await self.steering.run()

    def _learn(self, learnt: Heard | Proven) -> None:
        assert self.steering is not None
        if isinstance(learnt, Heard):
            self.steering.heard(learnt.node, learnt.source)
        else:
            self.steering.proven(learnt.node, learnt.target, learnt.rtt_s, learnt.observed)

    def ready(self, node: NodeId, via: NodeId, endpoint: Endpoint, shared: tuple[Endpoint, ...]) -> None:
        """A member relays."""
        assert self.steering is not None
        self.steering.ready(node, via, endpoint, shared)

    def failed(self, node: NodeId, via: NodeId, code: str, why: str) -> None:
        """A member does not relay, or no longer."""
        assert self.steering is not None
        self.steering.failed(node, via, code, why)

    def standing(self, node: NodeId) -> Standing | None:
        """How a member's packets go, and why not directly; None where nothing is steered."""
        return self.steering.standing(node) if self.steering is not None else None

    def look_around(self) -> None:
        """The router has promised something else."""
        if self.steering is not None:
            self.steering.look_around()

    def _moved_packets(self) -> int:
        """Packets of the interface, both ways, since it was made."""
        with open("/proc/net/dev", encoding="ascii") as table:  # of this network namespace, unlike /sys
            for line in table:
                name, _, numbers = line.partition(":")
                if name.strip() == self.config.interface:
                    columns = numbers.split()
                    return int(columns[1]) + int(columns[9])  # received, sent
        return 0


def _open_bell(tunnel_port: int) -> Doorbell | None:
    """Where sleeping peers are; None where there is no loopback: they sleep less well then."""
    try:
        return Doorbell(tunnel_port)
    except OSError as error:
        log.warning("overlay: no socket on loopback: %s", error)
        return None


def _greet(address: bytes) -> None:
    try:
        greet(address)
    except OSError as error:
        log.debug("overlay: %s", error)
