"""What an admin's word for a member looks like when it is given, changed, prolonged or taken over by another."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from clanmesh_protocol.keys import NodeId, RecordId
from clanmesh_protocol.limits import REPLACED_MAX, TAGS_MAX
from clanmesh_protocol.names import is_label
from clanmesh_protocol.records import Credential, Invite, Kind, Record, Revocation
from clanmesh_protocol.signing import Verified
from clanmeshd.core.admission import DENIED, MALFORMED, NAME_TAKEN, Refusal
from clanmeshd.core.authority import Authority
from clanmeshd.core.hlc import unix_s_of
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.roster import Member

LIFE_SETTING: Final = "credential-days"  # how long credentials are good for; 0: for ever; missing: as each says
RENEW_LEFT: Final = 1 / 3  # of the clan's term a credential is renewed, so that this is left to reach an admin
DAY_S: Final = 86_400


def life_s(authority: Authority) -> int | None:
    """How long credentials shall be good for, by the clan's settings; 0: for ever; None: there is no rule."""
    text = authority.chain.settings.get(LIFE_SETTING, "")
    return int(text) * DAY_S if text.isascii() and text.isdigit() and len(text) < 6 else None


def expiry(authority: Authority, now_unix_s: float) -> int:
    """When a credential made now ends; 0: never."""
    life = life_s(authority)
    return int(now_unix_s) + life if life else 0


def confirmation(authority: Authority, member: Member, now_unix_s: float) -> Credential:
    """An admin's word for a member who came by an invite.

    From then on the use is closed for ever: whoever photographed the token cannot push its owner out.
    """
    name = member.given_name if member.succeeds is not None else member.name
    return Credential(
        node=member.node,
        name=name,
        tags=member.tags,
        expires_unix_s=expiry(authority, now_unix_s),
        redemption=member.redemption,
        succeeds=member.succeeds,
        invite=member.invite,
    )


def amended(
    ledger: Ledger,
    authority: Authority,
    admin: NodeId,
    node: NodeId,
    *,
    name: str | None = None,
    tags: Sequence[str] | None = None,
    expires_unix_s: int | None = None,
) -> Credential:
    """A member's credential by `admin` with something changed, to go before those of others. Raises Refusal."""
    member = authority.members.get(node)
    if not authority.is_admin(admin) or member is None:
        raise Refusal(DENIED, "only an admin of the clan can say so, and only of a member")
    if name is not None and not is_label(name):
        raise Refusal(MALFORMED, "a name is of a-z, 0-9 and inner hyphens, at most 32")
    holder = authority.named(name) if name is not None else None
    if holder is not None and holder.node != node:
        raise Refusal(NAME_TAKEN, f"the name {name} belongs to another member")
    wanted = tuple(sorted(set(tags))) if tags is not None else member.tags
    if len(wanted) > TAGS_MAX or not all(map(is_label, wanted)):
        raise Refusal(MALFORMED, f"tags are of a-z, 0-9 and inner hyphens, and at most {TAGS_MAX}")
    return Credential(
        node=node,
        name=name or member.given_name or member.name,
        tags=wanted,
        expires_unix_s=member.expires_unix_s if expires_unix_s is None else expires_unix_s,
        redemption=_confirmed(ledger, node, member),
        replaces=_others(ledger, authority, admin, node),
        succeeds=member.succeeds,
        invite=member.invite,
    )


def is_due(member: Member, life: int | None, now_unix_s: float) -> bool:
    """Whether a credential is to be prolonged, or brought under the clan's rule. What has expired is not."""
    if life is None or member.credential is None or not member.is_current(now_unix_s):
        return False
    if not life or not member.expires_unix_s:
        return bool(life) != bool(member.expires_unix_s)
    return now_unix_s >= due_unix_s(member, life)


def due_unix_s(member: Member, life: int) -> float:
    """When a credential that expires is to be prolonged.

    When it was issued does not matter: an admin's device whose clock was ahead once dates its records on from
    there.
    """
    return member.expires_unix_s - life * RENEW_LEFT


@dataclass(frozen=True, slots=True)
class Lapsing:
    """What rests on an admin's word alone, and ends when that one is an admin no more."""

    credentials: tuple[Credential, ...]
    revocations: tuple[Revocation, ...]
    invites: tuple[Invite, ...]
    memories: tuple[Credential, ...] = ()  # of keys that are out


def lapsing(ledger: Ledger, authority: Authority, admin: NodeId, before_unix_s: float | None = None) -> Lapsing:
    """What would lapse with an admin, of what it said before a time by its own clock."""

    def said(kind: Kind) -> Iterable[Verified[Record]]:
        return (
            entry
            for entry in ledger.of_kind(kind)
            if entry.value.author == admin
            and (before_unix_s is None or unix_s_of(entry.value.seq) < before_unix_s)
        )

    contents = [e.content for e in said(Kind.CREDENTIAL)]
    credentials = [replace(each, replaces=()) for each in contents if isinstance(each, Credential)]
    revocations = [e.content for e in said(Kind.REVOCATION) if isinstance(e.content, Revocation)]
    invites = [e.content for e in said(Kind.INVITE) if isinstance(e.content, Invite)]
    return Lapsing(
        credentials=tuple(each for each in credentials if each.node not in authority.revoked),
        revocations=tuple(revocations),
        invites=tuple(invite for invite in invites if invite.key not in authority.revoked),
        memories=tuple(each for each in credentials if each.node in authority.revoked),
    )


def _confirmed(ledger: Ledger, node: NodeId, member: Member) -> RecordId | None:
    """The redemption that the member's credentials confirm: an amended one must not open the use again."""
    if member.redemption is not None:
        return member.redemption
    contents = [entry.content for entry in ledger.of_kind(Kind.CREDENTIAL)]
    named = [each.redemption for each in contents if isinstance(each, Credential) and each.node == node]
    return next((redemption for redemption in named if redemption is not None), None)


def _others(ledger: Ledger, authority: Authority, admin: NodeId, node: NodeId) -> tuple[RecordId, ...]:
    """Other admins' credentials for a node, the most senior issuers' first: those that would go before."""
    found = [
        entry.value
        for entry in ledger.of_kind(Kind.CREDENTIAL)
        if isinstance(entry.content, Credential) and entry.content.node == node and entry.value.author != admin
    ]
    standing = [record for record in found if authority.is_admin(record.author)]
    standing.sort(key=lambda record: (authority.chain.seniority(record.author), record.id))
    return tuple(record.id for record in standing[:REPLACED_MAX])
