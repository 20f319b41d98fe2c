"""This device as a writer of records: its clock, its seal, and what it said since it started.

After a restore from a backup, or with a clock set back, peers hold newer values of our registers than we do.
They show them to us. What this run has written itself is then said again above what they showed; everything
else of theirs is our own older word and stands.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import (
    ClanId,
    DeviceKeys,
    NodeId,
    RecordId,
    exchange_public,
    sign_detached,
    signing_public,
)
from clanmesh_protocol.limits import ENDPOINTS_MAX
from clanmesh_protocol.records import (
    AuthorityOp,
    Kind,
    Node,
    Publishable,
    Record,
    TunnelKey,
    tunnel_proof_input,
)
from clanmesh_protocol.signalling import Call, CallKind, Candidate, NatKind, sign_call
from clanmesh_protocol.signing import Verified, read_untrusted, sign_record
from clanmeshd.core.hlc import HybridClock


@dataclass(frozen=True, slots=True)
class Said:
    """What this run wrote into one of its registers; content None withdrew it."""

    content: Publishable | None
    kind: int
    slot: str
    ttl_s: int


class Author:
    """Writes this device's records. Remembers one value per own register, as the ledger does."""

    def __init__(self, seed: bytes, clan: ClanId) -> None:
        self.node = NodeId(signing_public(seed))
        self._seed = seed
        self._clan = clan
        self._clock = HybridClock()
        self._said: dict[tuple[int, str], Said] = {}

    def observe(self, record: Record) -> None:
        """Take note of a record that this device signed, in this run or before."""
        self._clock.observe(record.seq)

    def write(
        self,
        content: Publishable | None,
        *,
        kind: int,
        slot: str,
        now_unix_s: float,
        ttl_s: int,
        may_author: Callable[[Record], None],
    ) -> Verified[Record]:
        """Sign a register's next value.

        Raises what peers would refuse it with: LimitError, MalformedError, or UnauthorizedError by `may_author`.
        """
        verified = self._sign(content, kind, slot, now_unix_s, ttl_s, None)
        may_author(verified.value)
        self._said[kind, slot] = Said(content, kind, slot, ttl_s)
        return verified

    def operate(self, operation: AuthorityOp, *, slot: str, prev: RecordId, now_unix_s: float) -> Verified[Record]:
        """Sign an operation on the authority chain, behind `prev`."""
        return self._sign(operation, Kind.AUTHORITY, slot, now_unix_s, 0, prev)

    def call(
        self, callee: NodeId, kind: CallKind, nat: NatKind, candidates: Iterable[Candidate], now_unix_s: float
    ) -> Call:
        """Sign a call. Its number is above those of all earlier calls and records: they share this clock."""
        number = self._clock.next(now_unix_s)
        return sign_call(
            self._seed, self._clan, self.node, callee, number, kind=kind, nat=nat, candidates=candidates
        )

    def to_repeat(self, shown: Verified[Record]) -> Said | None:
        """Peers showed a newer value of ours than we had: give what is to be said above it, if any."""
        said = self._said.get((shown.value.kind, shown.value.slot))
        if said is None or (said.content == shown.content and said.content is not None):
            return None
        return said

    def _sign(
        self,
        content: Publishable | AuthorityOp | None,
        kind: int,
        slot: str,
        now_unix_s: float,
        ttl_s: int,
        prev: RecordId | None,
    ) -> Verified[Record]:
        seq = self._clock.next(now_unix_s)
        data = sign_record(self._seed, self._clan, content, kind=kind, slot=slot, seq=seq, ttl_s=ttl_s, prev=prev)
        return read_untrusted(data, self._clan)


def node_content(keys: DeviceKeys, clan: ClanId, endpoints: Iterable[Endpoint], tunnel_port: int) -> Node:
    """What a device publishes of itself."""
    return Node(
        static_key=exchange_public(keys.static_private),
        sealing_key=exchange_public(keys.sealing_private),
        prekeys=tuple((number, exchange_public(private)) for number, private, _ in keys.prekeys),
        endpoints=tuple(endpoints)[:ENDPOINTS_MAX],
        tunnel_port=tunnel_port,
        tunnel_key=signing_public(keys.tunnel_seed),
        tunnel_number=keys.tunnel_number,
        tunnel_proof=_tunnel_proof(keys.tunnel_seed, clan, keys.node, keys.tunnel_number),
        tunnel_next=_next_tunnel_key(keys, clan),
    )


def _next_tunnel_key(keys: DeviceKeys, clan: ClanId) -> TunnelKey | None:
    if keys.tunnel_next is None:
        return None
    seed, number = keys.tunnel_next.seed, keys.tunnel_number + 1
    return TunnelKey(signing_public(seed), number, _tunnel_proof(seed, clan, keys.node, number))


@lru_cache(maxsize=8)
def _tunnel_proof(seed: bytes, clan: ClanId, node: NodeId, number: int) -> bytes:
    return sign_detached(seed, tunnel_proof_input(clan, node, number))
