"""Members that lie, keep silent or flood. Each is a whole core that its owner has turned against the others."""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.messages import Frame, IHave, IndirectResult, PingRequest, RecordFrame, Want
from clanmesh_protocol.records import SINGLE_SLOT, Kind, Record, Status, Suspicion
from clanmesh_protocol.signing import read_untrusted, sign_record
from clanmeshd.core.limits import PING_NUMBER_MAX
from clanmeshd.core.mesh import Mesh
from clanmeshd.core.relays import Relayed
from tests.core.test_mesh_records import secret
from tests.sim.world import World

ACTS_EVERY_S: Final = 0.4
FLOOD_DATAGRAMS: Final = 40  # at each turn: a hundred a second, from one member
IDS_EACH: Final = 60
REPLAYED: Final = 20
MUTE_CHANCE: Final = 0.02  # at each turn: every 20 s
MUTE_S: Final = (2.0, 12.0)  # long enough to be suspected, and to be down

Villain = Callable[[World, int, Random], None]


def equivocator(world: World, index: int, rng: Random) -> None:
    """Signs two values for one register and moment, and gives either to others."""
    seq = world.mesh(index).publish(secret(8), slot="two-faced", now=world.now(index)).seq + 1
    for number, other in enumerate(_others(world, index, rng)):
        content = secret(10 + number % 2)
        data = world.clan.sign(index, content, slot="two-faced", seq=seq)
        _say(world, index, other, RecordFrame(data))


def replayer(world: World, index: int, rng: Random) -> None:
    """Shows old words of others again, and old datagrams from an address of its own."""
    mesh = world.mesh(index)
    records = [record for record in mesh.ledger.records() if len(record.data) < 900]
    for other in _others(world, index, rng)[:3]:
        for record in rng.sample(records, min(4, len(records))):
            _say(world, index, other, RecordFrame(record.data))
        for data in rng.sample(world.overheard, min(REPLAYED, len(world.overheard))):
            world.inject(data, world.devices[index].at, other)


def flooder(world: World, index: int, rng: Random) -> None:
    """Names records that nobody has, wants all there are, and asks for probes of everybody."""
    nodes = [device.node for device in world.devices]
    known = [record.id[:8] for record in world.mesh(index).ledger.records()]
    others = _others(world, index, rng)[:2]
    for _ in range(FLOOD_DATAGRAMS):
        frames: list[Frame] = [
            IHave(tuple(rng.randbytes(8) for _ in range(IDS_EACH))),
            Want(tuple(rng.sample(known, min(IDS_EACH, len(known))))),
            PingRequest(rng.getrandbits(32), rng.choice(nodes)),
        ]
        _say(world, index, rng.choice(others), rng.choice(frames))


def silent(world: World, index: int, rng: Random) -> None:
    """Answers pings, and passes nothing on."""
    gossip = world.mesh(index)._gossip
    gossip.push = lambda node, record: None  # type: ignore[assignment,method-assign]
    gossip._outbox.announce = lambda node, ids, **_: None  # type: ignore[assignment,method-assign]


def accuser(world: World, index: int, rng: Random) -> None:
    """Says of everybody that they do not answer, at the incarnation that they are in."""
    mesh = world.mesh(index)
    others = _others(world, index, rng)
    accused = [(world.devices[i].node, _incarnation(mesh, world.devices[i].node)) for i in others][:20]
    own = mesh.ledger.get(mesh.node, Kind.SUSPICION, SINGLE_SLOT)
    seq = max(own.value.seq if own is not None else 0, _seq_of(world, index)) + 1
    content = Suspicion(tuple(sorted(accused)))
    data = sign_record(
        world.clan.keys[index].identity_seed,
        world.clan.id,
        content,
        kind=Kind.SUSPICION,
        slot=SINGLE_SLOT,
        seq=seq,
        ttl_s=60,
    )
    mesh._gossip.adopt(read_untrusted(data, world.clan.id), mesh.node, world.now(index).monotonic_s)
    for other in others:
        _say(world, index, other, RecordFrame(data))


def false_witness(world: World, index: int, rng: Random) -> None:
    """Says at once that whoever it is asked to try does not answer, and says so of others' probes unasked."""
    membership = world.mesh(index)._membership

    def asked(asker: NodeId, number: int, target: NodeId, now_s: float) -> None:
        membership._actions.append(Relayed(asker, number, reached=False))

    membership.asked = asked  # type: ignore[method-assign]
    for other in _others(world, index, rng):
        newest = world.mesh(other)._membership._numbers._next - 1  # it sees those that come to it, and counts on
        reports = [IndirectResult(newest + step & PING_NUMBER_MAX, reached=False) for step in range(-1, 3)]
        for report in (*reports, *reports):
            _say(world, index, other, report)


def colluder(world: World, index: int, rng: Random) -> None:
    """Accuses everybody, bears false witness, passes nothing on, and answers nobody now and then."""
    silent(world, index, rng)
    false_witness(world, index, rng)
    accuser(world, index, rng)
    if rng.random() < MUTE_CHANCE:
        world.pause(index, rng.uniform(*MUTE_S))


def stale(world: World, index: int, rng: Random) -> None:
    """Says that it has what it lacks, and gives nothing that is asked of it."""
    mesh = world.mesh(index)
    mesh._gossip.push = lambda node, record: None  # type: ignore[assignment,method-assign]
    records = [record.id[:8] for record in mesh.ledger.records()]
    for other in _others(world, index, rng):
        _say(world, index, other, IHave(tuple(rng.sample(records, min(IDS_EACH, len(records))))))
    world.devices[index].serves = False


VILLAINS: Final[dict[str, Villain]] = {
    "equivocator": equivocator,
    "replayer": replayer,
    "flooder": flooder,
    "silent": silent,
    "accuser": accuser,
    "false witness": false_witness,
    "colluder": colluder,
    "stale": stale,
}


def let_loose(world: World, kind: str, index: int, rng: Random, until_s: float) -> None:
    """Have a member act so, again and again."""
    if world.devices[index].mesh is not None:
        VILLAINS[kind](world, index, rng)
        world.settle(index)
    if world.now_s + ACTS_EVERY_S < until_s:
        world.at(world.now_s + ACTS_EVERY_S, partial(let_loose, world, kind, index, rng, until_s))


def _others(world: World, index: int, rng: Random) -> list[int]:
    others = [other for other in world.alive if other != index]
    rng.shuffle(others)
    return others


def _say(world: World, index: int, other: int, frame: Frame) -> None:
    """Send one frame to a member, sealed as it must be; nothing where there is no session."""
    sealed = world.mesh(index)._sessions.seal(world.devices[other].node, [frame])
    if sealed is not None:
        world.inject(sealed, world.devices[index].at, other)


def _incarnation(mesh: Mesh, node: bytes) -> int:
    entry = mesh.ledger.get(node, Kind.STATUS, SINGLE_SLOT)  # type: ignore[arg-type]
    return entry.value.seq if entry is not None and isinstance(entry.content, Status) else 0


def _seq_of(world: World, index: int) -> int:
    records: list[Record] = world.mesh(index).ledger.records()
    return max(record.seq for record in records if record.author == world.devices[index].node)
