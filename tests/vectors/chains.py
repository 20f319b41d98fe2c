"""Small clans whose trust is told record by record: for the layer `authority`.

What a story comes to is written beside it by hand, from the rules alone; nothing here knows how they are applied.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clanmesh_protocol.encoding import encode
from clanmesh_protocol.keys import ClanId, NodeId, RecordId, fingerprint_slot, sign_detached, signing_public
from clanmesh_protocol.records import Admin, Genesis, redemption_input
from clanmesh_protocol.signing import sign_genesis
from tests.vectors.form import Vector, framed
from tests.vectors.people import RECOVERY, SEQ, SIGNER, UNIX_S, id_of, secret, sign_body

ANN, BEN, CARA, DAN, EVE, MALLORY = (secret(name) for name in ("ann", "ben", "cara", "dan", "eve", "mallory"))
NAS, PHONE, TABLET = (secret(name) for name in ("nas", "phone", "tablet"))  # devices of no admin
ONE = ((ANN, 1),)  # admins with their weights, the most senior first
TWO = (*ONE, (BEN, 1))
THREE = (*TWO, (CARA, 1))
FOUR = (*THREE, (DAN, 1))
FIVE = (*FOUR, (EVE, 1))
NEXT_RECOVERY = secret("next recovery")
TOKEN, OTHER_TOKEN = secret("token"), secret("other token")  # seeds of invites
EXPIRES = UNIX_S + 3600  # of invites
NONE = "none"  # an empty value in a vector
_GRINDS_MAX = 64  # each try is right with one half


@dataclass(frozen=True)
class Said:
    """A record, its id, and its number if it is an operation."""

    data: bytes
    id: RecordId
    number: int = -1


def key(seed: bytes) -> NodeId:
    """The public half."""
    return NodeId(signing_public(seed))


def setting(name: str, value: str = "on") -> list[Any]:
    """A routine operation: any one admin may."""
    return [128, name, value]


def signer(number: int = 2) -> list[Any]:
    """A governing operation that touches no admin."""
    return [1, f"ssh-ed25519 {'A' * number} x"]


def adding(seed: bytes, weight: int = 1) -> list[Any]:
    """Makes an admin."""
    return [4, key(seed), weight]


def removing(seed: bytes) -> list[Any]:
    """Ends an admin's say."""
    return [5, key(seed)]


def replacing(seed: bytes, successor: bytes) -> list[Any]:
    """Another key in an admin's place."""
    return [6, key(seed), key(successor)]


def thresholds(govern: int, routine: int) -> list[Any]:
    """What operations need."""
    return [7, govern, routine]


def recovery(seed: bytes | None) -> list[Any]:
    """Another recovery key."""
    return [8, key(seed) if seed is not None else None]


class Story:
    """One clan. Each method adds a record and gives it back."""

    def __init__(self, *admins: tuple[bytes, int], recovery: bytes | None = RECOVERY) -> None:
        self._admins = admins
        self._recovery = recovery
        public = key(recovery) if recovery is not None else None
        genesis = Genesis("family", tuple(Admin(key(seed), weight) for seed, weight in admins), public, (SIGNER,))
        data, self.clan = sign_genesis(admins[0][0], genesis, SEQ)
        self.genesis = Said(data, id_of(data, ClanId(bytes(16))), 0)
        self._said = [self.genesis]
        self._seq = SEQ

    def _sign(self, seed: bytes, kind: int, slot: str, payload: Any, seq: int, prev: RecordId | None) -> Said:
        packed = payload if isinstance(payload, bytes) else encode(payload)
        data = sign_body(seed, encode([kind, slot, seq, 0, prev, packed]), scope=self.clan)
        return Said(data, id_of(data, self.clan), int(slot) if kind == 0 else -1)

    def say(
        self, seed: bytes, kind: int, slot: str, payload: Any, *, seq: int | None = None, prev: Any = None
    ) -> Said:
        """Any record at all."""
        self._seq += 1
        said = self._sign(seed, kind, slot, payload, self._seq if seq is None else seq, prev)
        self._said.append(said)
        return said

    def operation(
        self,
        seed: bytes,
        payload: list[Any],
        behind: Said,
        *approvers: bytes,
        above: Said | None = None,
        below: Said | None = None,
        slot: str | None = None,
    ) -> Said:
        """An operation, ground until its id is above or below that of another; and approvals of it."""
        place = f"{behind.number + 1:08d}" if slot is None else slot
        for _ in range(_GRINDS_MAX):
            self._seq += 1
            said = self._sign(seed, 0, place, payload, self._seq, behind.id)
            if (above is None or said.id > above.id) and (below is None or said.id < below.id):
                break
        self._said.append(said)
        for approver in approvers:
            self.approval(approver, said)
        return said

    def approval(self, seed: bytes, operation: Said) -> Said:
        """A signature under another's operation."""
        return self.say(seed, 12, fingerprint_slot(operation.id), [operation.id])

    def acknowledge(self, head: Said, *seeds: bytes) -> None:
        """What these admins' devices follow."""
        for seed in seeds:
            self.say(seed, 13, "self", [head.number, head.id])

    def credential(
        self,
        seed: bytes,
        node: bytes,
        name: str,
        *,
        tags: Sequence[str] = (),
        expires: int = 0,
        redemption: Said | None = None,
        replaces: Sequence[Said] = (),
        succeeds: bytes | None = None,
        invite: Said | None = None,
        seq: int | None = None,
    ) -> Said:
        """An admin's word for a device."""
        confirms = redemption.id if redemption is not None else None
        fields = [key(node), name, list(tags), expires, confirms]
        if replaces or succeeds is not None or invite is not None:
            fields += [None, None, [each.id for each in replaces], key(succeeds) if succeeds is not None else None]
        if invite is not None:
            fields.append(invite.id)
        return self.say(seed, 1, fingerprint_slot(key(node)), fields, seq=seq)

    def revocation(self, seed: bytes, subject: bytes) -> Said:
        """A word that a key is out."""
        return self.say(seed, 2, fingerprint_slot(key(subject)), [key(subject), "no more"])

    def invite(
        self,
        seed: bytes,
        token: bytes = TOKEN,
        *,
        uses: int = 1,
        name: str | None = None,
        tags: Sequence[str] = (),
        succeeds: Any = None,
    ) -> Said:
        """An admin's invite."""
        fields = [key(token), name, list(tags), uses, EXPIRES, *([key(succeeds)] if succeeds is not None else [])]
        return self.say(seed, 10, fingerprint_slot(key(token)), fields)

    def redemption(
        self,
        author: bytes,
        invite: Said,
        node: bytes,
        name: str,
        *,
        token: bytes = TOKEN,
        at: int = UNIX_S,
        prover: bytes | None = None,
    ) -> Said:
        """A member's word that a device came by an invite."""
        statement = redemption_input(self.clan, invite.id, key(node), name)
        proofs = [sign_detached(token, statement), sign_detached(prover or node, statement)]
        fields = [invite.id, key(token), key(node), name, at, *proofs]
        return self.say(author, 11, fingerprint_slot(key(token) + key(node)), fields)

    def ends(
        self,
        name: str,
        comment: str,
        head: Said,
        *,
        final: Said | None = None,
        admins: Sequence[tuple[bytes, int]] | None = None,
        pinned: Iterable[bytes] = (),
        pending: Iterable[Said] = (),
        **more: Any,
    ) -> Vector:
        """What the story comes to. The records are told backwards, since no order may matter."""
        keys = {"clan": self.clan.hex()}
        if final is not None:
            keys["final"] = final.id.hex()
        keys |= {
            "head": head.id.hex(),
            "number": str(head.number),
            "admins": weights(self._admins if admins is None else admins),
            "pinned": hexes(map(key, pinned)),
            "pending": hexes(each.id for each in pending),
        }
        keys |= {what: _SPELLINGS[what](value) for what, value in more.items()}
        return Vector(f"authority/{name}", "ok", comment, framed(said.data for said in reversed(self._said)), keys)

    def judged(self, name: str, expect: str, comment: str) -> Vector:
        """Whether a node that has all the others, told in order, keeps the last record."""
        return Vector(
            f"ledger/{name}", expect, comment, framed(said.data for said in self._said), {"clan": self.clan.hex()}
        )


def hexes(keys: Iterable[bytes]) -> str:
    """Several keys or ids, sorted."""
    return ",".join(each.hex() for each in sorted(keys)) or NONE


def weights(admins: Iterable[tuple[bytes, int]]) -> str:
    """Admins with their weights, the most senior first."""
    return ",".join(f"{key(seed).hex()}:{weight}" for seed, weight in admins)


def tagged(tags: Mapping[bytes, Sequence[str]]) -> str:
    """The tags of those who have any, sorted by node."""
    ordered = sorted((key(seed).hex(), "+".join(several)) for seed, several in tags.items())
    return ",".join(f"{node}={several}" for node, several in ordered) or NONE


def named(members: Mapping[str, bytes]) -> str:
    """Members by name, sorted by node."""
    ordered = sorted((key(seed), name) for name, seed in members.items())
    return ",".join(f"{name}={node.hex()}" for node, name in ordered) or NONE


_SPELLINGS: dict[str, Any] = {
    "settled": lambda said: said.id.hex(),
    "settings": lambda settings: ",".join(f"{name}={settings[name]}" for name in sorted(settings)) or NONE,
    "recovery": lambda seed: key(seed).hex() if seed is not None else NONE,
    "signers": str,
    "checkpoints": str,
    "resolutions": str,
    "members": named,
    "tags": tagged,
    "now": str,
    "current": lambda seeds: hexes(map(key, seeds)),
    "revoked": lambda seeds: hexes(map(key, seeds)),
    "suspended": lambda seeds: hexes(map(key, seeds)),
}
