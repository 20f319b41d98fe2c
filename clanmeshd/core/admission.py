"""How a device comes in: an admin's invite, a member's word that it was redeemed, and the joiner's own checks.

The member that admits decides by the records it has; all others check the result again when they fold it. So a
member that lies, or that did not know of another use, gains nothing: with more redemptions than uses all those
that no admin has confirmed are suspended.
"""

from collections.abc import Sequence
from typing import Final, NoReturn

from clanmesh_protocol.errors import LimitError, MalformedError, SignatureError, StaleError, UnauthorizedError
from clanmesh_protocol.keys import ClanId, NodeId, verify_detached_untrusted
from clanmesh_protocol.limits import INVITE_USES_MAX, STREAM_RECORDS_MAX, TAGS_MAX
from clanmesh_protocol.names import TAG_ALL, is_label
from clanmesh_protocol.records import Invite, Record, Redemption, redemption_input
from clanmesh_protocol.signing import Verified, read_untrusted
from clanmesh_protocol.streams import Join
from clanmesh_protocol.tokens import Token
from clanmeshd.core.audience import tags_in_use
from clanmeshd.core.authority import Authority, fold
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.roster import StandingInvite

UNKNOWN_INVITE: Final = "unknown-invite"
USED: Final = "used"
EXPIRED: Final = "expired"
NAME_TAKEN: Final = "name-taken"
REVOKED: Final = "revoked"
MALFORMED: Final = "malformed"
DENIED: Final = "denied"
ALL_IS_EVERYONE: Final = "`all` means every device, so it can be neither a name nor a tag"


class Refusal(Exception):
    """Why a device is not let in: `code` for programs, `why` as one sentence for the person at that device."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(code, why)
        self.code = code
        self.why = why


def make_invite(
    authority: Authority,
    author: NodeId,
    *,
    key: bytes,
    name: str | None,
    tags: Sequence[str],
    uses: int,
    expires_unix_s: int,
    succeeds: NodeId | None = None,
) -> Invite:
    """What an admin publishes to invite. `key` is the public half of the token's. Raises Refusal.

    With `succeeds` the device that comes takes the place of that member, whose name it may have.
    """
    if not authority.is_admin(author):
        raise Refusal(DENIED, "only an admin of the clan can invite")
    holder = authority.named(name) if name is not None else None
    if holder is not None and holder.node != succeeds:
        raise Refusal(NAME_TAKEN, f"the name {name} belongs to another member")
    if (name is not None or succeeds is not None) and uses != 1:
        raise Refusal(MALFORMED, "an invite with a name is for one device")
    if succeeds is not None and authority.is_admin(succeeds):
        raise Refusal(DENIED, "an admin is replaced by the other admins, or with the recovery key")
    if not 0 < uses <= INVITE_USES_MAX:
        raise Refusal(MALFORMED, f"an invite is for 1 to {INVITE_USES_MAX} devices")
    sorted_tags = tuple(sorted(set(tags)))
    if len(sorted_tags) > TAGS_MAX or not all(map(is_label, (*sorted_tags, name or "unnamed"))):
        raise Refusal(MALFORMED, f"names and tags are of a-z, 0-9 and inner hyphens, and tags at most {TAGS_MAX}")
    if TAG_ALL in (name, *sorted_tags):
        raise Refusal(MALFORMED, ALL_IS_EVERYONE)
    return Invite(key, name, sorted_tags, uses, expires_unix_s, succeeds)


def redeem(authority: Authority, by: NodeId, request: Join, now_unix_s: float) -> Redemption | None:
    """What a member, `by`, publishes to admit the device that asks, or None when that is a member already.

    A device that lost the answer asks again and is welcome; that takes no second use. Raises Refusal, having
    changed nothing.
    """
    if request.node in authority.revoked:
        raise Refusal(REVOKED, "this device was removed from the clan and cannot come back under its old key")
    standing = authority.invites.get(request.invite)
    if standing is None:
        raise Refusal(UNKNOWN_INVITE, "the clan does not know this invite: it was withdrawn, or not made here")
    _check_proofs(authority.clan, request, standing.invite)
    if authority.is_member(request.node):
        return None
    own = authority.members.get(by)
    if own is None or not own.confirmed or not own.is_current(now_unix_s):
        raise Refusal(DENIED, "this device waits for an admin's word itself: ask at another device of the clan")
    if now_unix_s > standing.invite.expires_unix_s:
        raise Refusal(EXPIRED, "the invite has expired")
    if request.node not in standing.redeemed_by and not standing.uses_left:
        raise Refusal(USED, _used(standing))
    if request.node in authority.suspended:
        raise Refusal(USED, "more devices than it allows came by this invite: an admin has to decide")
    if standing.invite.name is None and authority.named(request.name) is not None:
        raise Refusal(NAME_TAKEN, f"the name {request.name} belongs to another member")
    if standing.invite.name is None and request.name in tags_in_use(authority):
        raise Refusal(NAME_TAKEN, f"the name {request.name} is one of the clan's tags")
    return Redemption(
        invite=request.invite,
        invite_key=request.invite_key,
        node=request.node,
        name=request.name,
        at_unix_s=max(0, int(now_unix_s)),
        invite_proof=request.invite_proof,
        node_proof=request.node_proof,
    )


def open_bundle_untrusted(
    token: Token, node: NodeId, data: Sequence[bytes], *, server: NodeId | None = None
) -> list[Verified[Record]]:
    """Check what a member, `server` (None: the inviter), handed to a joining device, `node`.

    Gives all records that the clan's rules let in. Raises ProtocolError: MalformedError when the genesis is not in
    front, StaleError when the records are older than the token or follow another branch, UnauthorizedError when
    the server, the inviter or this device is no member by them, or whatever a record's own fault is. Nothing else
    is believed of the token: the clan id in it fixes the genesis, and that the rest.
    """
    if len(data) > STREAM_RECORDS_MAX:
        raise LimitError(f"over {STREAM_RECORDS_MAX} records")
    records = [read_untrusted(record, token.clan) for record in data]
    if not records or not records[0].value.is_genesis:
        raise MalformedError("the clan's first record is not in front")
    ledger = Ledger(token.clan)
    for record in records:
        ledger.apply(record)
    authority = fold(ledger, final=token.authority_head)
    ledger.retain(authority.lets_stay)
    _check_freshness_untrusted(token, ledger, authority)
    if not authority.is_member(token.inviter):
        raise UnauthorizedError("the device that made the token is no member of the clan")
    if server is not None and not authority.is_member(server):
        raise UnauthorizedError("the device that answered is no member of the clan")
    if not authority.is_member(node):
        raise UnauthorizedError("this device is not among the members that the clan's records name")
    return [record for record in records if ledger.known(record.value.id)]


def _check_freshness_untrusted(token: Token, ledger: Ledger, authority: Authority) -> None:
    if not authority.follows(token.authority_head):
        raise StaleError("the clan's authority is older than the token, or of another branch")
    newest = max((record.seq for record in ledger.records() if record.author == token.inviter), default=0)
    if newest < token.floor:
        raise StaleError("the records are older than the token")


def _check_proofs(clan: ClanId, request: Join, invite: Invite) -> None:
    statement = redemption_input(clan, request.invite, request.node, request.name)
    if request.invite_key != invite.key:
        _refuse_malformed()
    try:
        verify_detached_untrusted(invite.key, statement, request.invite_proof)
        verify_detached_untrusted(request.node, statement, request.node_proof)
    except SignatureError:
        _refuse_malformed()


def _refuse_malformed() -> NoReturn:
    raise Refusal(MALFORMED, "the proof that this device holds the token does not hold")


def _used(standing: StandingInvite) -> str:
    uses = standing.invite.uses
    return "the invite was used already" if uses == 1 else f"all {uses} uses of the invite are taken"
