"""Who is a member, and how they came to be one: a pure function of credentials, revocations and redemptions.

Four sets, each with its own use. *Vouched* are admins and subjects of an admin's credential. *Known* are those,
and whom they let in by an invite that is not over-used; what they write may be kept. *Members*, whose word counts,
are the known that are not out. *Revoked* keys are out for ever, whatever vouches for them.
An admin is removed through the authority chain; until then a revocation of one is void, so that two admins
cannot throw each other out by racing. What an admin vouched for ends with its being one, unless another admin has
vouched for it too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Literal, TypeAlias

from clanmesh_protocol.errors import SignatureError
from clanmesh_protocol.keys import ClanId, NodeId, RecordId, node_text, verify_detached_untrusted
from clanmesh_protocol.limits import FORERUNNERS_MAX, NAME_BYTES_MAX
from clanmesh_protocol.records import Credential, Invite, Kind, Record, Redemption, Revocation, redemption_input
from clanmesh_protocol.signing import Verified
from clanmeshd.core.chain import Chain
from clanmeshd.core.hlc import unix_s_of
from clanmeshd.core.ledger import Ledger

EXPIRY_GRACE_S: Final = 300  # clocks differ by minutes: nobody is cut off for that

Via: TypeAlias = Literal["admin", "credential", "redemption"]


@dataclass(frozen=True, slots=True)
class Member:
    """One member, as all agree who hold the same records."""

    node: NodeId
    name: str  # unique among the members
    tags: tuple[str, ...]
    expires_unix_s: int  # 0: never
    via: Via
    redemption: RecordId | None = None  # what an admin has yet to confirm, with via `redemption`
    credential: RecordId | None = None  # what makes it one, and what an amended one replaces
    issuer: NodeId | None = None  # who signed that
    issued_unix_s: float = 0.0  # by the issuer's clock
    given_name: str = ""  # what the name is before names are made unique
    succeeds: NodeId | None = None  # its former key, which is out, or will be when an admin confirms this one
    invite: RecordId | None = None  # that it came by
    forerunners: frozenset[NodeId] = frozenset()  # all keys that it had before this one

    @property
    def confirmed(self) -> bool:
        """An admin's word stands behind this member; without it there are no secrets for it."""
        return self.via != "redemption"

    def is_current(self, now_unix_s: float) -> bool:
        """The membership has not expired."""
        return self.expires_unix_s == 0 or now_unix_s <= self.expires_unix_s + EXPIRY_GRACE_S


@dataclass(frozen=True, slots=True)
class StandingInvite:
    """An invite that was not withdrawn, and who came by it. It may have expired: there is no clock here."""

    id: RecordId
    author: NodeId
    invite: Invite
    redeemed_by: frozenset[NodeId]

    @property
    def uses_left(self) -> int:
        """How many more devices may come by it."""
        return max(0, self.invite.uses - len(self.redeemed_by))


@dataclass(frozen=True, slots=True)
class Roster:
    """The clan's members and what goes with them."""

    members: Mapping[NodeId, Member]
    vouched: frozenset[NodeId]
    known: frozenset[NodeId]
    revoked: frozenset[NodeId]
    out_since: Mapping[NodeId, int]  # of the revoked: the seq of the first word that put them out
    suspended: frozenset[NodeId]  # came by an invite with more redemptions than uses: wait for an admin
    invites: Mapping[RecordId, StandingInvite]
    former: Mapping[NodeId, str] = field(default_factory=dict)  # of the revoked: what they were called


@dataclass(frozen=True, slots=True)
class _Use:
    """A redemption whose proofs hold, by somebody known."""

    record: Record
    redemption: Redemption
    invite: Invite

    @property
    def rank(self) -> tuple[int, int, bytes]:
        """An admin's word comes before any redemption."""
        return (1, *self.record.order)


@dataclass(frozen=True, slots=True)
class _Claim:
    """Why somebody is a member, before names are made unique: of equal names the lowest rank keeps it."""

    rank: tuple[int, int, bytes]
    member: Member


@dataclass(frozen=True, slots=True)
class _Enrolled:
    """The roster of a ledger, and all that it was worked out of."""

    version: int
    admins: tuple[NodeId, ...]
    roster: Roster


_REMEMBERED: Final = "roster"
_KINDS: Final = (Kind.CREDENTIAL, Kind.REVOCATION, Kind.INVITE, Kind.REDEMPTION)


def enroll(ledger: Ledger, chain: Chain) -> Roster:
    """Give the roster; the last one again as long as neither the admins nor these kinds have changed."""
    version, admins = ledger.version_of(*_KINDS), tuple(admin.node for admin in chain.admins)
    last = ledger.remembered.get(_REMEMBERED)
    if not isinstance(last, _Enrolled) or (last.version, last.admins) != (version, admins):
        last = ledger.remembered[_REMEMBERED] = _Enrolled(version, admins, _enrolled(ledger, chain))
    return last.roster


def _enrolled(ledger: Ledger, chain: Chain) -> Roster:
    """Work out the roster. Each stage only ever adds, so its result cannot depend on an order."""
    admins = frozenset(admin.node for admin in chain.admins)
    credentials = _credentials(ledger, chain)
    revoked = _revoked(ledger, admins) | _succeeded(credentials, admins)
    claims = _vouched_claims(chain, credentials, revoked)
    vouched = frozenset(claims)
    invites = _invites(ledger, admins, revoked)
    left = _own_words(ledger) - admins
    uses = _uses(ledger, invites, vouched)
    revoked |= left & vouched
    since = _out_since(ledger, revoked, admins, vouched)
    counted = [
        use
        for use in uses
        if use.record.author not in revoked
        or (_is_confirmed(use, credentials) and use.record.seq <= since.get(use.record.author, use.record.seq))
    ]
    redeemers = _redeemers(counted, credentials)
    within = [use for use in counted if len(redeemers[use.redemption.invite]) <= use.invite.uses]
    known = vouched | {use.redemption.node for use in within}
    revoked |= left & known
    claims |= _redeemed_claims(use for use in within if use.redemption.node not in vouched)
    waiting = {use.redemption.node for use in counted} - known - revoked
    return Roster(
        members=_named([claim for node, claim in claims.items() if node not in revoked]),
        vouched=vouched,
        known=known,
        revoked=revoked,
        out_since=_out_since(ledger, revoked, admins, known),
        suspended=frozenset(waiting),
        invites={
            key: StandingInvite(key, author, invite, redeemers.get(key, frozenset()))
            for key, (author, invite) in invites.items()
        },
        former={node: claims[node].member.name for node in revoked & claims.keys()},
    )


def _revoked(ledger: Ledger, admins: frozenset[NodeId]) -> frozenset[NodeId]:
    """Keys that an admin has put out."""
    said = [(entry.value.author, entry.content) for entry in ledger.of_kind(Kind.REVOCATION)]
    return frozenset(
        content.node for author, content in said if isinstance(content, Revocation) and author in admins
    ) - frozenset(admins)


def _out_since(
    ledger: Ledger, revoked: frozenset[NodeId], admins: frozenset[NodeId], known: frozenset[NodeId]
) -> dict[NodeId, int]:
    since: dict[NodeId, int] = {}
    for entry in ledger.of_kind(Kind.REVOCATION):
        author, content = entry.value.author, entry.content
        if not isinstance(content, Revocation) or content.node not in revoked:
            continue
        if author in admins or (author == content.node and author in known):
            since[content.node] = min(entry.value.seq, since.get(content.node, entry.value.seq))
    return since


def _own_words(ledger: Ledger) -> frozenset[NodeId]:
    """Keys that say themselves that they are out."""
    said = [(entry.value.author, entry.content) for entry in ledger.of_kind(Kind.REVOCATION)]
    return frozenset(
        author for author, content in said if isinstance(content, Revocation) and content.node == author
    )


def _succeeded(
    credentials: Mapping[NodeId, list[tuple[Record, Credential]]], admins: frozenset[NodeId]
) -> frozenset[NodeId]:
    """Keys in whose place an admin has put another."""
    standing = [several[0][1] for several in credentials.values()]
    return frozenset(content.succeeds for content in standing if content.succeeds is not None) - admins


def _credentials(ledger: Ledger, chain: Chain) -> dict[NodeId, list[tuple[Record, Credential]]]:
    """The admins' credentials by their subject: not replaced ones, that of the most senior issuer first."""
    found: dict[NodeId, list[tuple[Record, Credential]]] = {}
    for entry in ledger.of_kind(Kind.CREDENTIAL):
        if isinstance(entry.content, Credential) and chain.is_admin(entry.value.author):
            found.setdefault(entry.content.node, []).append((entry.value, entry.content))
    for several in found.values():
        replaced = frozenset(record for _, credential in several for record in credential.replaces)
        several.sort(key=lambda item: (item[0].id in replaced, chain.seniority(item[0].author), item[0].id))
    return found


def _vouched_claims(
    chain: Chain, credentials: Mapping[NodeId, list[tuple[Record, Credential]]], revoked: frozenset[NodeId]
) -> dict[NodeId, _Claim]:
    claims: dict[NodeId, _Claim] = {}
    for admin in chain.admins:
        name = f"admin-{node_text(admin.node)[:6]}"  # until it has given itself a credential with a name
        claims[admin.node] = _Claim((0, 0, admin.node), Member(admin.node, name, (), 0, "admin"))
    for node, several in credentials.items():
        record, credential = several[0]
        via: Via = "admin" if chain.is_admin(node) else "credential"
        member = _credentialed(record, credential, via)
        if credential.succeeds is not None and node not in revoked:
            member = replace(member, forerunners=_forerunners(node, credentials))
        claims[node] = _Claim((0, *record.order), member)
    return claims


def _forerunners(node: NodeId, credentials: Mapping[NodeId, list[tuple[Record, Credential]]]) -> frozenset[NodeId]:
    """The keys whose place a key took, one after another, the newest of them."""
    found: set[NodeId] = set()
    former = credentials[node][0][1].succeeds
    while former is not None and former != node and former not in found and len(found) < FORERUNNERS_MAX:
        found.add(former)
        former = credentials[former][0][1].succeeds if former in credentials else None
    return frozenset(found)


def _credentialed(record: Record, credential: Credential, via: Via) -> Member:
    return Member(
        node=credential.node,
        name=credential.name,
        tags=credential.tags,
        expires_unix_s=credential.expires_unix_s,
        via=via,
        credential=record.id,
        issuer=record.author,
        issued_unix_s=unix_s_of(record.seq),
        given_name=credential.name,
        succeeds=credential.succeeds,
        invite=credential.invite,
    )


def _invites(
    ledger: Ledger, admins: frozenset[NodeId], revoked: frozenset[NodeId]
) -> dict[RecordId, tuple[NodeId, Invite]]:
    return {
        entry.value.id: (entry.value.author, entry.content)
        for entry in ledger.of_kind(Kind.INVITE)
        if isinstance(entry.content, Invite)
        and entry.value.author in admins
        and entry.content.key not in revoked  # any admin can withdraw another's invite by its key
    }


def _uses(
    ledger: Ledger, invites: Mapping[RecordId, tuple[NodeId, Invite]], vouched: frozenset[NodeId]
) -> list[_Use]:
    """All uses of invites by those whom an admin vouches for: nobody lets others in by a member's word alone."""
    uses: list[_Use] = []
    for entry in ledger.of_kind(Kind.REDEMPTION):
        redemption = entry.content
        if not isinstance(redemption, Redemption) or entry.value.author not in vouched:
            continue
        standing = invites.get(redemption.invite)
        if standing is not None and _redeems(ledger, entry.value, redemption, standing[1]):
            uses.append(_Use(entry.value, redemption, standing[1]))
    return uses


def prove(ledger: Ledger, verified: Verified[Record]) -> None:
    """Find out whether the proofs of a redemption hold, when it comes in: no fold has to do it for many."""
    if isinstance(verified.content, Redemption):
        ledger.verdict(verified.value, partial(_proofs_hold, ledger.clan, verified.content))


def _redeems(ledger: Ledger, record: Record, redemption: Redemption, invite: Invite) -> bool:
    """Say whether a redemption holds by itself. The proofs come last: they cost 90 us, once for each record."""
    return (
        redemption.invite_key == invite.key
        and redemption.at_unix_s <= invite.expires_unix_s
        and ledger.verdict(record, partial(_proofs_hold, ledger.clan, redemption))
    )


def _proofs_hold(clan: ClanId, redemption: Redemption) -> bool:
    statement = redemption_input(clan, redemption.invite, redemption.node, redemption.name)
    try:
        verify_detached_untrusted(redemption.invite_key, statement, redemption.invite_proof)
        verify_detached_untrusted(redemption.node, statement, redemption.node_proof)
    except SignatureError:
        return False
    return True


def _is_confirmed(use: _Use, credentials: Mapping[NodeId, list[tuple[Record, Credential]]]) -> bool:
    several = credentials.get(use.redemption.node, [])
    return any(credential.redemption == use.record.id for _, credential in several)


def _redeemers(
    uses: Iterable[_Use], credentials: Mapping[NodeId, list[tuple[Record, Credential]]]
) -> dict[RecordId, frozenset[NodeId]]:
    """Who came by each invite: by what members say now, and by what admins have confirmed for good."""
    nodes: dict[RecordId, set[NodeId]] = {}
    for use in uses:
        nodes.setdefault(use.redemption.invite, set()).add(use.redemption.node)
    for node, several in credentials.items():
        for invite in {credential.invite for _, credential in several if credential.invite is not None}:
            nodes.setdefault(invite, set()).add(node)
    return {invite: frozenset(several) for invite, several in nodes.items()}


def _redeemed_claims(uses: Iterable[_Use]) -> dict[NodeId, _Claim]:
    claims: dict[NodeId, _Claim] = {}
    for use in sorted(uses, key=lambda use: use.rank, reverse=True):  # so that the lowest rank is put in last
        node = use.redemption.node
        name = use.invite.name or use.redemption.name
        member = Member(
            node,
            name,
            use.invite.tags,
            0,
            "redemption",
            use.record.id,
            issued_unix_s=unix_s_of(use.record.seq),
            given_name=name,
            succeeds=use.invite.succeeds,
            invite=use.redemption.invite,
        )
        claims[node] = _Claim(use.rank, member)
    return claims


def _named(claims: Iterable[_Claim]) -> dict[NodeId, Member]:
    """Make names unique: of several claims to one, the lowest rank keeps it, the others get a number."""
    ordered = sorted(claims, key=lambda claim: (claim.rank, claim.member.node))
    taken = {claim.member.name for claim in ordered}
    given: set[str] = set()
    numbers: dict[str, int] = {}  # the next one to try behind a name
    members: dict[NodeId, Member] = {}
    for member in (claim.member for claim in ordered):
        name = member.name if member.name not in given else _numbered(member.name, taken, numbers)
        given.add(name)
        taken.add(name)
        members[member.node] = member if name == member.name else replace(member, name=name)
    return dict(sorted(members.items()))


def _numbered(name: str, taken: set[str], numbers: dict[str, int]) -> str:
    while True:  # ends within as many steps as there are names
        number = numbers.get(name, 2)
        numbers[name] = number + 1
        suffix = f"-{number}"
        candidate = name[: NAME_BYTES_MAX - len(suffix)].rstrip("-") + suffix
        if candidate not in taken:
            return candidate
