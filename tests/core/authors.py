"""Clans made by hand: authors that sign records, each with its own clock, for tests of the pure core."""

import os
import random
from collections.abc import Iterable, Sequence

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import (
    ClanId,
    DeviceKeys,
    NodeId,
    RecordId,
    exchange_public,
    make_device_keys,
    sign_detached,
    signing_public,
)
from clanmesh_protocol.records import (
    Acknowledgement,
    Admin,
    Approval,
    AuthorityOp,
    Credential,
    Genesis,
    Invite,
    Kind,
    Node,
    Publishable,
    Record,
    Redemption,
    Revocation,
    redemption_input,
    slot_of,
    tunnel_proof_input,
)
from clanmesh_protocol.signing import Verified, read_untrusted, sign_genesis, sign_record
from clanmesh_protocol.streams import Join
from clanmeshd.core.authority import Authority, fold
from clanmeshd.core.ledger import Ledger

NOW_UNIX_S = 1_800_000_000
RECOVERY_NUMBER = 99  # of the author who stands for the recovery key
SIGNER = "ssh-ed25519 AAAAfounder founder@desk"


class Author:
    """One device: its keys and its own sequence of records."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.keys: DeviceKeys = make_device_keys(random.Random(number).randbytes, NOW_UNIX_S)
        self.node: NodeId = self.keys.node
        self.clan = ClanId(bytes(16))
        self.seq = 1000 * number

    def write(
        self,
        content: Publishable | AuthorityOp | None,
        *,
        kind: int | None = None,
        slot: str | None = None,
        seq: int | None = None,
        prev: RecordId | None = None,
        ttl_s: int = 0,
    ) -> Verified[Record]:
        """Sign a record; kind, slot and seq are the content's own where they are not given."""
        if seq is None:
            self.seq += 1
            seq = self.seq
        if kind is None:
            assert content is not None
            kind = getattr(content, "KIND", Kind.AUTHORITY)
        if slot is None:
            assert content is not None
            slot = slot_of(content)  # type: ignore[arg-type]
        data = sign_record(
            self.keys.identity_seed, self.clan, content, kind=kind, slot=slot, seq=seq, prev=prev, ttl_s=ttl_s
        )
        return read_untrusted(data, self.clan)

    def operation(self, content: AuthorityOp, authority: Authority) -> Verified[Record]:
        """Sign an authority operation on top of a head."""
        return self.write(content, slot=authority.next_slot, prev=authority.head)

    def approval(self, operation: Verified[Record]) -> Verified[Record]:
        """Put this name under an operation."""
        return self.write(Approval(operation.value.id))

    def acknowledgement(self, operation: Verified[Record]) -> Verified[Record]:
        """Say that this device follows an operation."""
        return self.write(Acknowledgement(int(operation.value.slot), operation.value.id))

    def credential(
        self,
        subject: "Author",
        *,
        tags: Sequence[str] = (),
        name: str | None = None,
        redemption: RecordId | None = None,
        invite: RecordId | None = None,
    ) -> Verified[Record]:
        """Vouch for a device."""
        content = Credential(subject.node, name or subject.name, tuple(tags), 0, redemption, invite=invite)
        return self.write(content)

    def revocation(self, subject: "Author") -> Verified[Record]:
        """Put a device out."""
        return self.write(Revocation(subject.node, "lost"))

    def invite(
        self, seed: bytes, *, uses: int = 1, name: str | None = None, tags: Sequence[str] = (), ttl_s: int = 3600
    ) -> Verified[Record]:
        """Invite whoever holds `seed`."""
        return self.write(Invite(signing_public(seed), name, tuple(tags), uses, NOW_UNIX_S + ttl_s))

    def redemption(
        self,
        invite: Verified[Record],
        seed: bytes,
        subject: "Author",
        *,
        name: str | None = None,
        at: int = NOW_UNIX_S,
    ) -> Verified[Record]:
        """Admit a device by an invite, as this member."""
        request = join_request(self.clan, invite.value.id, seed, subject, name)
        return self.write(
            Redemption(
                request.invite,
                request.invite_key,
                request.node,
                request.name,
                at,
                request.invite_proof,
                request.node_proof,
            )
        )

    def node_record(self, endpoints: Sequence[Endpoint] = ()) -> Verified[Record]:
        """What this device says of itself."""
        return self.write(self.node_content(endpoints))

    def node_content(self, endpoints: Sequence[Endpoint] = (), tunnel_port: int = 51872) -> Node:
        """The content of `node_record`."""
        statement = tunnel_proof_input(self.clan, self.node, self.keys.tunnel_number)
        return Node(
            static_key=exchange_public(self.keys.static_private),
            sealing_key=exchange_public(self.keys.sealing_private),
            prekeys=tuple((number, exchange_public(key)) for number, key, _ in self.keys.prekeys),
            endpoints=tuple(endpoints),
            tunnel_port=tunnel_port,
            tunnel_key=signing_public(self.keys.tunnel_seed),
            tunnel_number=self.keys.tunnel_number,
            tunnel_proof=sign_detached(self.keys.tunnel_seed, statement),
        )


def join_request(clan: ClanId, invite: RecordId, seed: bytes, subject: Author, name: str | None = None) -> Join:
    """What a joining device sends."""
    wanted = name or subject.name
    statement = redemption_input(clan, invite, subject.node, wanted)
    return Join(
        invite=invite,
        invite_key=signing_public(seed),
        node=subject.node,
        name=wanted,
        invite_proof=sign_detached(seed, statement),
        node_proof=sign_detached(subject.keys.identity_seed, statement),
    )


class Family:
    """A clan with its genesis, and devices that are not members of it yet."""

    def __init__(
        self,
        admins: Sequence[str] = ("desk",),
        others: Sequence[str] = (),
        weights: Sequence[int] = (),
        name: str = "family",
        *,
        recovery: bool = False,
    ) -> None:
        devices = [*admins, *others]
        self.authors = {device: Author(device, number + 1) for number, device in enumerate(devices)}
        listed = [
            Admin(self.authors[device].node, weights[place] if weights else 1)
            for place, device in enumerate(admins)
        ]
        founder = self.authors[admins[0]]
        self.recovery = Author("recovery", RECOVERY_NUMBER)
        key = bytes(self.recovery.node) if recovery else None
        genesis = Genesis(name, tuple(listed), key, (SIGNER,))
        data, self.clan = sign_genesis(founder.keys.identity_seed, genesis, founder.seq)
        for author in (*self.authors.values(), self.recovery):
            author.clan = self.clan
        self.genesis = read_untrusted(data, self.clan)

    def __getitem__(self, name: str) -> Author:
        return self.authors[name]

    def ledger(self, *records: Verified[Record]) -> Ledger:
        """A ledger with the genesis and these."""
        return ledger_of(self.clan, [self.genesis, *records])

    def authority(self, *records: Verified[Record]) -> Authority:
        """The authority after the genesis and these."""
        return fold(self.ledger(*records))


def ledger_of(clan: ClanId, records: Iterable[Verified[Record]]) -> Ledger:
    """A ledger that took these in, in this order."""
    ledger = Ledger(clan)
    for record in records:
        ledger.apply(record)
    return ledger


def settled(clan: ClanId, records: Sequence[Verified[Record]]) -> Ledger:
    """A ledger of a node to which its peers offer these again and again, in this order, until nothing changes.

    Each record passes the door only if the authority of that moment lets it, as in a running node.
    """
    ledger = Ledger(clan)
    authority = fold(ledger)
    for _ in range(len(records) + 2):
        before = ledger.root()
        for record in records:
            if ledger.newer(record.value) and (authority.number >= 0 or record.value.is_genesis):
                if authority.lets_stay(record.value):
                    ledger.apply(record)
                authority = fold(ledger)
                if ledger.retain(authority.lets_stay):
                    authority = fold(ledger)
        if ledger.root() == before and authority.number >= 0:
            return ledger
    raise AssertionError("peers that keep offering the same records never come to rest")


def fresh_seed() -> bytes:
    """The seed of an invite's key."""
    return os.urandom(32)
