"""What the core wants done, in the order in which it wants it.

`StoreRecord` must be durable before any later effect of the same batch is performed. `SendDatagram` is tried
once. Every `Set…` carries a complete wanted state: performing only the newest is enough, performing one twice
is harmless.
"""

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import ClanId, DeviceKeys, NodeId, RecordId
from clanmesh_protocol.records import Record, Resolution, Secret, Verb
from clanmesh_protocol.signalling import CallKind, Candidate, NatKind
from clanmesh_protocol.signing import Verified


class Instant(NamedTuple):
    """The two clocks: `monotonic_s` drives timers, `unix_s` only seq numbers and expiry."""

    monotonic_s: float
    unix_s: float


class SendDatagram(NamedTuple):
    """Send once, unreliably."""

    data: bytes
    destination: Endpoint


@dataclass(frozen=True, slots=True)
class StoreRecord:
    """Make durable before anything that announces it. Never a volatile one."""

    record: Verified[Record]


@dataclass(frozen=True, slots=True)
class StoreKeys:
    """Replace the device's keys on disk, durably (prekeys and tunnel keys change)."""

    keys: DeviceKeys


@dataclass(frozen=True, slots=True)
class StoreAnchor:
    """Remember, durably, the operation of the authority that this node leaves only for the recovery key."""

    operation: RecordId


@dataclass(frozen=True, slots=True)
class FetchRecords:
    """Fetch records that do not fit a datagram from a peer, over a stream; give them to `Mesh.receive_record`."""

    peer: NodeId
    endpoints: tuple[Endpoint, ...]  # of its control port, best first
    ids: tuple[bytes, ...]  # short ids


@dataclass(frozen=True, slots=True)
class Tunnel:
    """One WireGuard peer. AllowedIPs is exactly `address`/128."""

    node: NodeId
    public_key: bytes  # X25519
    address: bytes  # 16 bytes
    endpoint: Endpoint | None  # None: wait for it to call
    keepalive_s: int  # 0: off
    following: bytes | None = None  # X25519: the key that will take the other's place
    not_at: Endpoint | None = None  # a former relay's: from there WireGuard is brought back to `endpoint`
    begins: bool = False  # the other side is known to wait for a handshake that this one begins there
    mtu: int = 0  # of packets in the tunnel, in bytes: such have arrived there; 0: not known


@dataclass(frozen=True, slots=True)
class SetTunnels:
    """The whole overlay as it should be."""

    private_key: bytes  # X25519; never logged
    listen_port: int
    address: bytes  # own, 16 bytes
    prefix_bits: int  # of the route to the clan's /48
    tunnels: tuple[Tunnel, ...]  # sorted by node
    bell: Endpoint | None = (
        None  # of those that sleep: a socket of this device's own, where WireGuard's packets ring
    )

    def __repr__(self) -> str:
        return f"SetTunnels({len(self.tunnels)} tunnels)"


@dataclass(frozen=True, slots=True)
class SetNames:
    """The clan's names: fully qualified name -> overlay address (16 bytes), sorted."""

    domain: str  # `<clan>.internal`
    addresses: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class WantedSecret:
    """A value this device may open: the newest of its name."""

    name: str
    author: NodeId
    record_id: RecordId
    secret: Secret


@dataclass(frozen=True, slots=True)
class SetSecrets:
    """All secrets this device shall have; what it has beside them goes away."""

    clan: ClanId
    secrets: tuple[WantedSecret, ...]  # sorted by name
    generation: int  # highest epoch sum; reported back in the status once placed


@dataclass(frozen=True, slots=True)
class HeadClaim:
    """A member's head record; the SSH signature in it is for the rollout to check."""

    author: NodeId
    ref: str
    old: bytes | None
    new: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Holder:
    """A reachable member that a commit may be fetched from."""

    node: NodeId
    endpoints: tuple[Endpoint, ...]  # of its control port, best first
    commits: frozenset[bytes]  # it says that it has these


@dataclass(frozen=True, slots=True)
class Trial:
    """What a member with tags shows of the revisions that it tried."""

    node: NodeId
    tags: tuple[str, ...]
    well: bytes | None  # it runs this commit, and its time of watching it is over
    bad: tuple[bytes, ...]  # it went back from these; newest last


@dataclass(frozen=True, slots=True)
class Order:
    """An admin's word about the rollout that is in force."""

    verb: Verb  # never RESUME: that is no pause
    ref: str
    author: NodeId
    by: str  # the author, as people call it
    seq: int
    commit: bytes | None
    reason: str


@dataclass(frozen=True, slots=True)
class SetRollout:
    """What is claimed of the configuration, by whom, who may sign, and what keeps it from being run."""

    clan: ClanId
    node_name: str
    tags: tuple[str, ...]
    signers: tuple[str, ...]  # authorized_keys lines
    checkpoints: tuple[tuple[str, bytes], ...]  # (ref, commit), newest last
    heads: tuple[HeadClaim, ...]  # sorted
    holders: tuple[Holder, ...]  # nearest first
    resolutions: tuple[Resolution, ...] = ()  # of forks, newest last
    orders: tuple[Order, ...] = ()  # sorted
    trials: tuple[Trial, ...] = ()  # of the others, sorted
    relays: tuple[Holder, ...] = ()  # who will soon have the newest commits and pass them on, in this order


@dataclass(frozen=True, slots=True)
class SetCarriers:
    """Members to which this device is to have streams that carry datagrams, since no UDP reaches it; else none.

    Tell `Mesh.carried` of each that is open, and when it has ended or failed.
    """

    carriers: tuple[Holder, ...]  # nothing is to be fetched from them


@dataclass(frozen=True, slots=True)
class Announce:
    """Something a person may want to know: for `clanctl events` and the log."""

    kind: str  # `member-joined`, `member-down`, `equivocation`, …
    text: str
    node: NodeId | None = None


@dataclass(frozen=True, slots=True)
class Called:
    """A member called this device. Its signature was checked, and that the call is new."""

    caller: NodeId
    kind: CallKind
    nat: NatKind  # the caller's
    candidates: tuple[Candidate, ...]  # where its WireGuard may be; hints


@dataclass(frozen=True, slots=True)
class Reflected:
    """What others see of this device, all of it, whenever that has changed. Hints, best first."""

    nat: NatKind
    tunnel: tuple[Endpoint, ...]  # of the WireGuard port
    control: tuple[Endpoint, ...]


Effect: TypeAlias = (
    SendDatagram
    | StoreRecord
    | StoreKeys
    | StoreAnchor
    | FetchRecords
    | SetTunnels
    | SetNames
    | SetSecrets
    | SetRollout
    | SetCarriers
    | Announce
    | Called
    | Reflected
)
