"""Who is a member, by the letter of the specification, sections 7.6 to 7.8, with none of the daemon's code."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from clanmesh_protocol.encoding import decode_untrusted
from clanmesh_protocol.errors import SignatureError
from clanmesh_protocol.keys import ClanId, NodeId, RecordId, node_text, verify_detached_untrusted
from clanmesh_protocol.records import Record, parse_untrusted, redemption_input

GRACE_S = 300
NAME_BYTES_MAX = 32


@dataclass
class Roster:
    """Members with name, tags and expiry, by key."""

    members: dict[bytes, tuple[str, list[str], int]]
    out: set[bytes]
    suspended: set[bytes]

    def current(self, now: int) -> set[bytes]:
        """Members that are not cut off."""
        return {key for key, (_, _, expires) in self.members.items() if not expires or now <= expires + GRACE_S}


class Words:
    """The newest record of each register, and what it says."""

    def __init__(self, records: Iterable[bytes], clan: ClanId, admins: list[bytes]) -> None:
        self.clan, self.admins = clan, admins
        newest: dict[Any, Record] = {}
        for record in (parse_untrusted(data, clan) for data in records):
            before = newest.setdefault(record.register, record)
            newest[record.register] = max(before, record, key=lambda each: each.order)
        self._records = [record for record in newest.values() if record.payload]

    def of(self, kind: int, by_admins: bool = True) -> list[tuple[Record, list[Any]]]:
        """Records of a kind with their fields."""
        mine = [each for each in self._records if each.kind == kind]
        said = [each for each in mine if each.author in self.admins or not by_admins]
        return [(each, decode_untrusted(each.payload, bytes_max=65_536)) for each in said]


def roster(records: Iterable[bytes], clan: ClanId, admins: list[bytes]) -> Roster:
    """Work out who is a member when these are the head's admins."""
    words = Words(records, clan, admins)
    standing = _standing(words)
    out = {fields[0] for _, fields in words.of(2)}
    out |= {fields[8] for _, fields in standing.values() if len(fields) > 8 and fields[8] is not None}
    out -= set(admins)
    invites = {record.id: fields for record, fields in words.of(10) if fields[0] not in out}
    vouched = set(standing) | set(admins)
    held = [
        (record, fields)
        for record, fields in words.of(11, False)
        if record.author in vouched and _holds(clan, fields, invites)
    ]
    own = {record.author for record, fields in words.of(2, False) if fields[0] == record.author} - set(admins)
    out |= own & vouched
    confirmed = {(fields[0], fields[4]) for _, fields in words.of(1)}
    counting = [
        (r, f)
        for r, f in held
        if r.author not in out or ((f[2], r.id) in confirmed and r.seq <= _last_seq(words, r.author, r.seq))
    ]
    closed = {(fields[9], fields[0]) for _, fields in words.of(1) if len(fields) > 9}
    uses = {(f[0], f[2]) for _, f in counting} | closed
    within = [(r, f) for r, f in counting if len({n for i, n in uses if i == f[0]}) <= invites[f[0]][3]]
    known = vouched | {fields[2] for _, fields in within}
    out |= own & known
    admitted = sorted((r.order, f) for r, f in within if f[2] not in vouched)
    suspended = {fields[2] for _, fields in counting} - known - out
    return Roster(_named(admins, out, standing, admitted, invites), out, suspended)


def _last_seq(words: Words, key: bytes, otherwise: int) -> int:
    said = [r.seq for r, f in words.of(2, False) if f[0] == key and (r.author in words.admins or r.author == key)]
    return min(said, default=otherwise)


def _standing(words: Words) -> dict[bytes, tuple[Record, list[Any]]]:
    replaced = {
        (fields[0], each) for _, fields in words.of(1) if len(fields) > 7 for each in fields[7]
    }  # (node, record id)
    found: dict[bytes, tuple[Record, list[Any]]] = {}
    for record, fields in sorted(
        words.of(1),
        key=lambda each: (
            (each[1][0], each[0].id) in replaced,
            words.admins.index(each[0].author),
            each[0].id,
        ),
    ):
        found.setdefault(fields[0], (record, fields))
    return found


def _holds(clan: ClanId, fields: list[Any], invites: dict[RecordId, list[Any]]) -> bool:
    invite, key, node, name, at, *proofs = fields[:7]
    if invite not in invites or invites[invite][0] != key or at > invites[invite][4]:
        return False
    statement = redemption_input(clan, invite, NodeId(node), name)
    try:
        for signer, proof in zip((key, node), proofs, strict=True):
            verify_detached_untrusted(signer, statement, proof)
    except SignatureError:
        return False
    return True


def _named(
    admins: list[bytes],
    out: set[bytes],
    standing: dict[bytes, tuple[Record, list[Any]]],
    admitted: list[tuple[Any, list[Any]]],
    invites: dict[RecordId, list[Any]],
) -> dict[bytes, tuple[str, list[str], int]]:
    bare = set(admins) - set(standing)
    claims: list[tuple[Any, bytes, str, list[str], int]] = [
        *(((0, key), key, f"admin-{node_text(NodeId(key))[:6]}", [], 0) for key in bare),
        *(((1, *record.order), key, *fields[1:4]) for key, (record, fields) in standing.items()),
    ]
    for order, fields in admitted:
        if fields[2] not in {claim[1] for claim in claims}:
            invite = invites[fields[0]]
            claims.append(((2, *order), fields[2], invite[1] or fields[3], invite[2], 0))
    claims = sorted((claim for claim in claims if claim[1] not in out), key=lambda claim: claim[0])
    taken, given = {claim[2] for claim in claims}, set()
    members = {}
    for _, key, name, tags, expires in claims:
        number, wanted = 2, name
        while name in given or (name != wanted and name in taken):
            suffix = f"-{number}"
            name = wanted[: NAME_BYTES_MAX - len(suffix)].rstrip("-") + suffix
            number += 1
        given.add(name)
        taken.add(name)
        members[key] = (name, list(tags), expires)
    return members
