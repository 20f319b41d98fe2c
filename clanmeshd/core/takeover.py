"""What an admin signs before another one goes: its word for members and removals, so that none of it lapses.

Whoever counts only by the word of the one who goes would fall out of the clan with it, and whoever is out only by
that word would come back. Of a key that nobody vouches for nothing is kept: so the one who goes and those who are
out are vouched for as well, or the secrets and heads that they wrote would go too, and their names. Its open
invites end, since a token names the record that it redeems.

What it said after a given time may be a thief's with its key, and is not taken over: who has the word of another
admin goes back to that one, who has none is `distrusted`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from clanmesh_protocol.keys import NodeId, RecordId
from clanmesh_protocol.records import Credential, Kind, Record, Redemption, Revocation
from clanmeshd.core.admission import Refusal
from clanmeshd.core.authority import Authority, Member
from clanmeshd.core.credentials import amended, confirmation, lapsing
from clanmeshd.core.hlc import unix_s_of
from clanmeshd.core.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Takeover:
    """What is to be published under the other admin's name, and what ends all the same."""

    credentials: tuple[Credential, ...]
    revocations: tuple[Revocation, ...]
    invites_lapsed: tuple[RecordId, ...]
    distrusted: tuple[NodeId, ...] = ()  # members that nobody vouches for any more
    remembered: tuple[Credential, ...] = ()  # of keys that are out, or will be: what they wrote stays


def takeover(
    ledger: Ledger,
    authority: Authority,
    admin: NodeId,
    leaving: NodeId,
    *,
    now_unix_s: float,
    before_unix_s: float | None = None,
    keeps_leaving: bool = False,
) -> Takeover:
    """What `admin` says in the place of `leaving`, who may stay a member (`keeps_leaving`); else it is put out.

    With `before_unix_s` only what `leaving` said before that time, by its own clock. `admin` is an admin.
    """
    credentials: list[Credential] = []
    remembered = list(_remembered(ledger, authority, leaving, before_unix_s))
    distrusted: list[NodeId] = []
    trusted = _trusted(ledger, authority, leaving, before_unix_s)
    for member in authority.members.values():
        if not _rests_on(authority, member, leaving):
            continue
        if member.node == leaving:
            own = credentials if keeps_leaving else remembered
            own.append(_vouch(ledger, authority, admin, member, now_unix_s))
        elif member.node in trusted:
            credentials.append(_vouch(ledger, authority, admin, member, now_unix_s))
        elif (former := _former(ledger, authority, member.node, leaving)) is not None:
            credentials.append(_restored(ledger, authority, admin, former))
        else:
            distrusted.append(member.node)
    return Takeover(
        credentials=tuple(credentials),
        revocations=tuple(_revocations(ledger, authority, leaving, before_unix_s)),
        invites_lapsed=tuple(
            key
            for key, each in authority.invites.items()
            if each.author == leaving and each.uses_left and now_unix_s <= each.invite.expires_unix_s
        ),
        distrusted=tuple(distrusted),
        remembered=tuple(remembered),
    )


def resting(ledger: Ledger, authority: Authority, admin: NodeId) -> tuple[NodeId, ...]:
    """The other members that would fall out with an admin: nobody else has taken over its word for them yet."""
    return tuple(
        member.node
        for member in authority.members.values()
        if member.node != admin
        and _rests_on(authority, member, admin)
        and _former(ledger, authority, member.node, admin) is None
    )


def _rests_on(authority: Authority, member: Member, leaving: NodeId) -> bool:
    """Whether a member is one by this admin's word: a credential, or an invite that nobody confirmed yet."""
    if member.node == leaving:
        return member.issuer in (None, leaving)  # its own word for itself, or none at all
    if member.redemption is None:
        return member.issuer == leaving
    return any(
        invite.author == leaving for invite in authority.invites.values() if member.node in invite.redeemed_by
    )


def _trusted(
    ledger: Ledger, authority: Authority, leaving: NodeId, before_unix_s: float | None
) -> frozenset[NodeId]:
    """For whom its word is old enough: credentials, and redemptions of invites."""
    invites = {
        key
        for key, each in authority.invites.items()
        if each.author == leaving and (before_unix_s is None or _made_unix_s(ledger, key) < before_unix_s)
    }
    vouched = (credential.node for credential in lapsing(ledger, authority, leaving, before_unix_s).credentials)
    said = (entry.content for entry in ledger.of_kind(Kind.REDEMPTION))
    came = (
        each.node
        for each in said
        if isinstance(each, Redemption)
        and each.invite in invites
        and (before_unix_s is None or each.at_unix_s < before_unix_s)
    )
    return frozenset(vouched) | frozenset(came)


def _made_unix_s(ledger: Ledger, record: RecordId) -> float:
    found: Record | None = ledger.by_short_id(record[:8])
    return unix_s_of(found.seq) if found is not None else 0.0


def _vouch(ledger: Ledger, authority: Authority, admin: NodeId, member: Member, now_unix_s: float) -> Credential:
    if member.redemption is not None:
        return confirmation(authority, member, now_unix_s)
    return amended(ledger, authority, admin, member.node)


def _former(ledger: Ledger, authority: Authority, node: NodeId, leaving: NodeId) -> Credential | None:
    """The word of the most senior other admin for a member: it counts again when this one's does not."""
    found = [
        (authority.chain.seniority(entry.value.author), entry.value.id, entry.content)
        for entry in ledger.of_kind(Kind.CREDENTIAL)
        if isinstance(entry.content, Credential) and entry.content.node == node
        if entry.value.author != leaving and authority.is_admin(entry.value.author)
    ]
    return min(found, key=lambda each: each[:2])[2] if found else None


def _restored(ledger: Ledger, authority: Authority, admin: NodeId, former: Credential) -> Credential:
    def again(name: str | None) -> Credential:
        return amended(
            ledger,
            authority,
            admin,
            former.node,
            name=name,
            tags=former.tags,
            expires_unix_s=former.expires_unix_s,
        )

    try:
        return again(former.name)
    except Refusal:
        return again(None)  # another member has the name by now


def _remembered(
    ledger: Ledger, authority: Authority, leaving: NodeId, before_unix_s: float | None
) -> Iterable[Credential]:
    """Its credentials of keys that are out, where nobody else's is there."""
    for credential in lapsing(ledger, authority, leaving, before_unix_s).memories:
        if _former(ledger, authority, credential.node, leaving) is None:
            yield credential


def _revocations(
    ledger: Ledger, authority: Authority, leaving: NodeId, before_unix_s: float | None
) -> Iterable[Revocation]:
    """Removals that stand, and by nobody else's word. What names an admin is void and must not be said again."""
    others = {
        entry.content.node
        for entry in ledger.of_kind(Kind.REVOCATION)
        if isinstance(entry.content, Revocation)
        and entry.value.author != leaving
        and authority.is_admin(entry.value.author)
    }
    for revocation in lapsing(ledger, authority, leaving, before_unix_s).revocations:
        if revocation.node in authority.revoked and revocation.node not in others:
            yield revocation
