"""Small clans for tests: founded by hand, deterministic, with no socket and no clock."""

from dataclasses import dataclass
from random import Random

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import (
    ClanId,
    DeviceKeys,
    RecordId,
    fingerprint_slot,
    make_device_keys,
    signing_public,
)
from clanmesh_protocol.messages import Ack, Frame, Ping, RecordFrame, UnknownFrame
from clanmesh_protocol.records import (
    SINGLE_SLOT,
    Admin,
    Credential,
    Genesis,
    Kind,
    Node,
    Publishable,
    Record,
    RolloutState,
    SecretsState,
    Status,
)
from clanmesh_protocol.signing import Verified, read_untrusted, sign_genesis, sign_record
from clanmeshd.core.author import node_content
from clanmeshd.core.effects import Effect, Instant, SendDatagram
from clanmeshd.core.mesh import Mesh
from clanmeshd.core.sessions import Sessions

UNIX_S = 1_790_000_000.0  # when every test begins
START_SEQ = int((UNIX_S - 86_400) * 1000) << 16
PORT = 51871


def status(number: int = 0) -> Status:
    """Some status; different numbers differ."""
    return Status(
        commit=None,
        wanted=None,
        rollout=RolloutState.CURRENT,
        secrets_epoch=number,
        secrets=SecretsState.CURRENT,
    )


def instant(now_s: float, wall_offset_s: float = 0.0) -> Instant:
    """Both clocks at a moment of virtual time."""
    return Instant(now_s, UNIX_S + now_s + wall_offset_s)


def endpoint_of(index: int) -> Endpoint:
    """The address of the n-th device."""
    return Endpoint(bytes([10, 0]) + (index + 1).to_bytes(2, "big"), PORT)


@dataclass(frozen=True)
class Clan:
    """A founded clan: the keys of all its devices and the records that make them members. Device 0 is admin."""

    id: ClanId
    keys: tuple[DeviceKeys, ...]
    records: tuple[Verified[Record], ...]

    def sign(
        self, index: int, content: Publishable | None, *, slot: str, seq: int, kind: int | None = None
    ) -> bytes:
        """A record by the n-th device, in the form it has on the wire."""
        chosen = kind if kind is not None else content.KIND if content is not None else 0
        return sign_record(self.keys[index].identity_seed, self.id, content, kind=chosen, slot=slot, seq=seq)


def found(
    count: int, seed: int = 0, *, credentialed: int | None = None, admins: int = 1, recovery: bytes | None = None
) -> Clan:
    """Found a clan of `count` devices, of whom the first `credentialed` are members (default: all).

    The first `admins` of them are admins of equal weight; `recovery` is the seed of the recovery key.
    """
    rng = Random(f"clan {seed}")
    keys = tuple(make_device_keys(rng.randbytes, int(UNIX_S) - 3600) for _ in range(count))
    key = signing_public(recovery) if recovery is not None else None
    genesis = Genesis("family", tuple(Admin(each.node, 1) for each in keys[:admins]), key, ())
    data, clan = sign_genesis(keys[0].identity_seed, genesis, START_SEQ)
    members = range(count if credentialed is None else credentialed)
    everything = [data, *(credential(clan, keys, index) for index in members)]
    return Clan(clan, keys, tuple(read_untrusted(record, clan) for record in everything))


def credential(clan: ClanId, keys: tuple[DeviceKeys, ...], index: int, tags: tuple[str, ...] = ()) -> bytes:
    """The admin's word for the n-th device."""
    node = keys[index].node
    content = Credential(node, f"node-{index}", tags, 0, None)
    return sign_record(
        keys[0].identity_seed,
        clan,
        content,
        kind=Kind.CREDENTIAL,
        slot=fingerprint_slot(node),
        seq=START_SEQ + 1 + index,
    )


def make_mesh(
    clan: Clan,
    index: int,
    *,
    seed: int = 0,
    now: Instant | None = None,
    records: tuple[Verified[Record], ...] | None = None,
    keys: DeviceKeys | None = None,
    anchor: RecordId | None = None,
) -> Mesh:
    """The n-th device's core, with the clan's records, or with others from its disk."""
    rng = Random(f"mesh {seed} {index}")
    return Mesh(
        keys or clan.keys[index],
        clan.id,
        clan.records if records is None else records,
        rng=rng,
        entropy=rng.randbytes,
        now=now or instant(0.0),
        control_port=PORT,
        tunnel_port=PORT + 1,
        anchor=anchor,
    )


def pass_time(mesh: Mesh, since_s: float, until_s: float) -> None:
    """Let a core do what is due in a while, while nobody is heard."""
    while (due_s := mesh.next_deadline()) <= until_s:
        mesh.handle_deadline(instant(max(due_s, since_s)))
        mesh.effects()
    mesh.handle_deadline(instant(until_s))


class Puppet:
    """A member whose every datagram the test makes by hand, at an address of its own."""

    def __init__(self, clan: Clan, index: int, mesh: Mesh, run: int = 1) -> None:
        self.clan = clan
        self.mesh = mesh
        self.node = clan.keys[index].node
        self.at = endpoint_of(index)
        self.sessions = Sessions(clan.keys[index], clan.id, Random(f"puppet {index} {run}").randbytes)
        self.sessions.set_members([mesh.node])
        own = mesh.ledger.get(mesh.node, Kind.NODE, SINGLE_SLOT)
        assert own is not None
        assert isinstance(own.content, Node)
        self.sessions.set_record(mesh.node, own.content)
        self.record = sign_record(
            clan.keys[index].identity_seed,
            clan.id,
            node_content(clan.keys[index], clan.id, [self.at], 0),
            kind=Kind.NODE,
            slot=SINGLE_SLOT,
            seq=START_SEQ + 50,
        )

    def seal(self, *frames: Frame) -> bytes:
        """Seal frames for the mesh."""
        data = self.sessions.seal(self.mesh.node, frames)
        assert data is not None
        return data

    def send(self, *frames: Frame, now: Instant, source: Endpoint | None = None) -> list[Frame]:
        """Send frames; give the frames that the mesh answers with, to whatever address."""
        self.mesh.receive(self.seal(*frames), source or self.at, now)
        return self.read(self.mesh.effects())

    def read(self, effects: list[Effect]) -> list[Frame]:
        """Open what the mesh sends to this member."""
        frames: list[Frame] = []
        for datagram in datagrams(effects):
            try:
                opened = self.sessions.prove(self.sessions.open_untrusted(datagram.data))
            except ProtocolError:
                continue  # for another member
            for frame in opened.frames:
                if isinstance(frame, Ping | Ack):
                    self.sessions.hear_token(opened, frame.token)
                if not isinstance(frame, UnknownFrame):
                    frames.append(frame)
        return frames

    def ping(self, number: int = 1, root: bytes = bytes(16)) -> Ping:
        """A ping with what is known of the mesh's token by now."""
        mesh = self.mesh.node
        return Ping(number, self.sessions.token(mesh), self.sessions.their_token(mesh), root)

    def meet(self, now: Instant) -> None:
        """Become `up` at the mesh: show the node record, learn its token, echo it."""
        hello = self.sessions.seal_hello(self.mesh.node, RecordFrame(self.record))
        assert hello is not None
        self.mesh.receive(hello, self.at, now)
        self.read(self.mesh.effects())
        self.send(self.ping(), now=now)
        self.send(self.ping(), now=now)
        assert self.state(now) == "up"

    def state(self, now: Instant) -> str:
        """What the mesh thinks of this member."""
        return next(peer.state for peer in self.mesh.peers(now) if peer.node == self.node)

    def endpoint(self, now: Instant) -> Endpoint | None:
        """Where the mesh thinks that this member is."""
        return next(peer.endpoint for peer in self.mesh.peers(now) if peer.node == self.node)


def datagrams(effects: list[Effect]) -> list[SendDatagram]:
    """The datagrams among effects."""
    return [effect for effect in effects if isinstance(effect, SendDatagram)]
