"""A clan that has been running for a while: everybody has every record, and sees all the others up.

To get there by datagrams takes each pair a greeting, which for a thousand devices is half a million. Here the
cores are handed what they would have heard, boot ids and tokens too; keys of pairs are made when they are needed.
"""

from typing import Final

from clanmesh_protocol.records import Kind, Record
from clanmesh_protocol.signing import Verified
from clanmeshd.core.mesh import Mesh
from clanmeshd.core.subjects import State
from tests.core.worlds import make_mesh, status
from tests.sim.world import Device, World

SETTLED_S: Final = 300.0  # records of the beginning are not news any more
PHASES_S: Final = 1.0  # devices did not begin in step: their probes are spread over this
_OWN_KINDS: Final = (Kind.NODE, Kind.STATUS, Kind.ACKNOWLEDGEMENT)


def settled(size: int, seed: int, *, loss: float = 0.0, latency_s: tuple[float, float] = (0.0005, 0.003)) -> World:
    """Such a clan, at `SETTLED_S`."""
    world = World(size, seed, loss=loss, latency_s=latency_s, begins=False)
    for device in world.devices:
        device.mesh = _alone(world, device)
    news = [entry for device in world.devices for entry in _own(device.mesh)]
    for device in world.devices:
        _hear(world, device, news)
    world.now_s = SETTLED_S
    for device in world.devices:
        _meet(world, device)
        _grow_old(world, device)
        world.settle(device.index)
        device.bytes_sent = device.datagrams_sent = 0
    return world


def part(world: World, *groups: range) -> None:
    """Cut the groups off from one another, as if that had been long ago: each takes all others for down.

    To get there by pings takes a thousand devices six million of them.
    """
    world.partition(*groups)
    for group in groups:
        lost = [device.node for device in world.devices if device.index not in group]
        for index in group:
            membership = world.mesh(index)._membership
            for node in lost:
                membership._settle(membership._subjects[node], world.now_s)
                membership._change(membership._subjects[node], State.DOWN)
            membership._revival.lose(world.now_s)
            world.settle(index)


def _meet(world: World, device: Device) -> None:
    """Have each other's run proven, as it is from the first ping and its answer on."""
    mesh = device.mesh
    assert mesh is not None
    for other in world.devices:
        if other is not device and other.mesh is not None:
            theirs = other.mesh._sessions
            mesh._sessions._peers[other.node].boot = theirs.boot
            mesh._sessions._peers[other.node].boots = 1
            theirs._peers[device.node].their_token = mesh._sessions.token(other.node)


def _alone(world: World, device: Device) -> Mesh:
    """A core that knows who is a member, and has said what it says of itself."""
    device.run = 1
    mesh = make_mesh(world.clan, device.index, seed=world.seed, now=world.clock(device), keys=device.keys)
    mesh.set_endpoints([device.at], world.clock(device))
    mesh.set_status(status(), world.clock(device))
    return mesh


def _own(mesh: Mesh | None) -> list[Verified[Record]]:
    assert mesh is not None
    return [entry for kind in _OWN_KINDS for entry in mesh.ledger.of_kind(kind) if entry.value.author == mesh.node]


def _hear(world: World, device: Device, news: list[Verified[Record]]) -> None:
    """Take in what all others say of themselves."""
    mesh = device.mesh
    assert mesh is not None
    for entry in news:
        mesh._gossip.adopt(entry, entry.value.author, world.now_s)  # it is checked already: that costs 45 us each
    mesh.handle_deadline(world.clock(device))
    device.disk += [entry for entry in news if not entry.value.is_volatile]


def _grow_old(world: World, device: Device) -> None:
    """Pass over the time until everybody is up, with nobody there to speak to."""
    mesh = device.mesh
    assert mesh is not None
    now = world.clock(device)
    mesh.handle_deadline(now)
    for other in world.devices:
        if other is not device:
            mesh._membership.heard(other.node, now.monotonic_s)
            mesh._traffic.paths.prove(other.node, other.at, now.monotonic_s)
    mesh._membership._rota.greeting_pause_s()  # finds that nobody is left who was never heard
    mesh._membership._probe_s = now.monotonic_s + PHASES_S * device.index / len(world.devices)
    mesh._membership.actions()
    mesh.effects()
