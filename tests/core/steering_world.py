"""What is around a device's steering: remembers what it was asked, and gives what it was told to."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import trio

from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmesh_protocol.keys import NodeId
from clanmeshd.core.effects import Holder
from clanmeshd.overlay.device import TunnelState
from clanmeshd.steering_terms import Machine

BELL = endpoint("127.0.0.1", 40_000)


@dataclass
class World:
    """All that is outside of a Steering, remembering what it was asked."""

    probed: list[tuple[NodeId, Endpoint]] = field(default_factory=list)
    opened: list[tuple[NodeId, Endpoint]] = field(default_factory=list)
    endpoint: Endpoint = BELL
    ringers: dict[bytes, NodeId] = field(default_factory=dict)
    sent_on: list[tuple[bytes, Endpoint]] = field(default_factory=list)
    members: dict[NodeId, bytes] = field(default_factory=dict)
    moves: int = 0
    asked: list[tuple[NodeId, NodeId, bool]] = field(default_factory=list)
    dropped: list[tuple[NodeId, NodeId]] = field(default_factory=list)
    greeted: list[bytes] = field(default_factory=list)
    counts: dict[bytes, TunnelState] = field(default_factory=dict)
    looks: int = 0
    packets: int = 0
    slept_s: float = 0.0
    mapped: tuple[Endpoint, ...] = ()

    def probe(self, node: NodeId, endpoint: Endpoint) -> bool:
        self.probed.append((node, endpoint))
        return True

    def open(self, node: NodeId, endpoint: Endpoint) -> bool:
        self.opened.append((node, endpoint))
        return True

    def send_on(self, packet: bytes, endpoint: Endpoint) -> None:
        self.sent_on.append((packet, endpoint))

    def set_members(self, static_keys: Mapping[NodeId, bytes]) -> None:
        self.members = dict(static_keys)

    def set_peers(self, nodes: Mapping[bytes, NodeId]) -> None:
        self.ringers = dict(nodes)

    def moved(self) -> None:
        self.moves += 1

    def ask(self, node: NodeId, relay: Holder, *, carried: bool) -> None:
        self.asked.append((node, relay.node, carried))

    def drop(self, node: NodeId, relay: Holder) -> None:
        self.dropped.append((node, relay.node))

    async def observe(self) -> Mapping[bytes, TunnelState]:
        self.looks += 1
        await trio.lowlevel.checkpoint()
        return self.counts

    def machine(self) -> Machine:
        return Machine(
            self.observe,
            lambda: self.packets,
            self.greeted.append,
            lambda: self.mapped,
            lambda: trio.current_time() + self.slept_s,
        )
