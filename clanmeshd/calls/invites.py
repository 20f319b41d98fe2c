"""`invite-list`, `invite-revoke`, `invite-confirm`: what became of invites, and who shall have come by one."""

import time
from typing import TYPE_CHECKING, Any

from clanmesh_protocol.control import Fault
from clanmesh_protocol.keys import NodeId, RecordId, fingerprint_slot, node_text
from clanmesh_protocol.records import Kind, Redemption
from clanmeshd.calls.arguments import flag, text
from clanmeshd.calls.decisions import INVITE_DIGITS, put_out
from clanmeshd.calls.finding import an_invite
from clanmeshd.calls.signers import need_admin
from clanmeshd.clan import Clan
from clanmeshd.control import Conversation
from clanmeshd.core.authority import Authority, Member, StandingInvite
from clanmeshd.core.credentials import confirmation
from clanmeshd.core.phrases import ID_LETTERS, called, listed
from clanmeshd.driver import instant

if TYPE_CHECKING:
    from clanmeshd.daemon import Daemon

_WITHDRAWN = "invite withdrawn"
_FULL = "all its uses are given"
_NEWER = "there is a newer one"


async def list_invites(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`invite-list`: the invites that were not withdrawn, and who came by each."""
    clan = daemon.need_clan()
    standing = sorted(clan.mesh.authority.invites.values(), key=lambda each: (each.invite.expires_unix_s, each.id))
    return {"invites": [_view(clan, each) for each in standing]}


def _view(clan: Clan, standing: StandingInvite) -> dict[str, Any]:
    authority, invite = clan.mesh.authority, standing.invite
    names = _asked_names(clan, standing)
    return {
        "id": standing.id.hex()[:INVITE_DIGITS],
        "by": called(authority, standing.author),
        "name": invite.name,
        "tags": list(invite.tags),
        "uses": invite.uses,
        "used": len(standing.redeemed_by),
        "expires_unix_s": invite.expires_unix_s,
        "state": _state(clan, standing),
        "succeeds": called(authority, invite.succeeds) if invite.succeeds is not None else None,
        "redeemed_by": [
            {"id": node_text(node), "name": names[node], "state": _standing(clan, node)}
            for node in sorted(standing.redeemed_by)
        ],
    }


def _state(clan: Clan, standing: StandingInvite) -> str:
    authority = clan.mesh.authority
    inside = sum(authority.is_member(node) for node in standing.redeemed_by)
    if standing.redeemed_by & authority.suspended or inside > standing.invite.uses:
        return "contested"
    if not standing.uses_left:
        return "used"
    return "expired" if time.time() > standing.invite.expires_unix_s else "open"


def _standing(clan: Clan, node: NodeId) -> str:
    authority = clan.mesh.authority
    if node in authority.members:
        return "member"
    return "waiting" if node in authority.suspended else "removed"


def _redemptions(clan: Clan, invite: RecordId) -> list[tuple[RecordId, Redemption]]:
    """Who said that a device came by this invite: ids and contents of their records."""
    return [
        (entry.value.id, entry.content)
        for entry in clan.mesh.ledger.of_kind(Kind.REDEMPTION)
        if isinstance(entry.content, Redemption) and entry.content.invite == invite
    ]


def _asked_names(clan: Clan, standing: StandingInvite) -> dict[NodeId, str]:
    """The name of each member that came, and what those who wait asked to be called."""
    asked = {redemption.node: redemption.name for _, redemption in _redemptions(clan, standing.id)}
    members = clan.mesh.authority.members
    return {node: members[node].name if node in members else name for node, name in asked.items()}


async def revoke(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`invite-revoke`: nobody comes by this invite any more; any admin can withdraw another's.

    Who came by it and was not confirmed yet is out with it. With `dry` it only says who that would be.
    """
    clan = daemon.need_clan()
    need_admin(clan, "withdrawing an invite")
    standing = an_invite(clan.mesh.authority, text(args, "id"))
    dropped = sorted(member.name for member in _unconfirmed(clan.mesh.authority, standing))
    if not flag(args, "dry"):
        await put_out(clan, NodeId(standing.invite.key), _WITHDRAWN)
    return {"id": standing.id.hex()[:INVITE_DIGITS], "dropped": dropped}


def _unconfirmed(authority: Authority, standing: StandingInvite) -> list[Member]:
    """Who came by an invite and rests on nothing else: they are out when it is withdrawn."""
    return [
        member for member in authority.members.values() if not member.confirmed and member.invite == standing.id
    ]


def open_invite(clan: Clan, node: NodeId) -> StandingInvite | None:
    """The invite that a device came by, if more can come by it still: its owner, too, under another key."""
    for standing in clan.mesh.authority.invites.values():
        if node in standing.redeemed_by and _is_open(standing):
            return standing
    return None


def _is_open(standing: StandingInvite) -> bool:
    return bool(standing.uses_left) and instant().unix_s <= standing.invite.expires_unix_s


async def close_behind(clan: Clan, standing: StandingInvite, gone: NodeId) -> None:
    """Withdraw an invite for the sake of one who came by it. The others who did are confirmed, and stay."""
    for member in _unconfirmed(clan.mesh.authority, standing):
        if member.node != gone:
            now = instant()
            content = confirmation(clan.mesh.authority, member, now.unix_s)
            clan.mesh.publish(content, slot=fingerprint_slot(member.node), now=now)
    await put_out(clan, NodeId(standing.invite.key), _WITHDRAWN)


async def close_earlier(clan: Clan, made: RecordId) -> list[str]:
    """Withdraw the earlier invites for the place that a new one is for: one device takes it, not several.

    Gives the beginnings of their ids.
    """
    invites = clan.mesh.authority.invites
    place = invites[made].invite.succeeds if made in invites else None
    open_ones = (invites[key] for key in sorted(invites) if key != made and _is_open(invites[key]))
    earlier = [each for each in open_ones if place is not None and each.invite.succeeds == place]
    for standing in earlier:
        await put_out(clan, NodeId(standing.invite.key), _NEWER)
    return [standing.id.hex()[:INVITE_DIGITS] for standing in earlier]


async def confirm(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`invite-confirm`: of more devices than an invite allows, choose one; at the last use the others are out."""
    clan = daemon.need_clan()
    need_admin(clan, "confirming a device")
    standing = an_invite(clan.mesh.authority, text(args, "id"))
    chosen = _claimant(clan, standing, text(args, "node"))
    _need_a_use(clan, standing, chosen)
    now = instant()
    content = confirmation(clan.mesh.authority, chosen, now.unix_s)
    clan.mesh.publish(content, slot=fingerprint_slot(chosen.node), now=now)
    await clan.driver.settle_soon()
    left = _uses_to_give(clan, standing)
    out = sorted(standing.redeemed_by & clan.mesh.authority.suspended) if not left else []
    if not left:
        await put_out(clan, NodeId(standing.invite.key), _FULL)
    return {
        "id": standing.id.hex()[:INVITE_DIGITS],
        "node": node_text(chosen.node),
        "name": called(clan.mesh.authority, chosen.node),
        "out": [node_text(node) for node in out],
        "left": left,
    }


def _need_a_use(clan: Clan, standing: StandingInvite, chosen: Member) -> None:
    """Raises Fault when all uses are given: whoever has one wrongly has to go first."""
    if _uses_to_give(clan, standing):
        return
    members, what = clan.mesh.authority.members, f"confirming {chosen.name}"
    inside = sorted(members[node].name for node in standing.redeemed_by if node in members)
    short = standing.id.hex()[:INVITE_DIGITS]
    again = f"`clanctl invite confirm {short} {node_text(chosen.node)[:ID_LETTERS]}`"
    why = f"{listed(inside)} came first and took {'its use' if standing.invite.uses == 1 else 'all its uses'}"
    wrong = inside[0] if len(inside) == 1 else "the wrong one"
    raise Fault("refused", what, why, f"`clanctl remove {wrong}`, then again {again}; or invite it anew")


def _uses_to_give(clan: Clan, standing: StandingInvite) -> int:
    """How many more of those who came may stay."""
    return max(0, standing.invite.uses - len(standing.redeemed_by & set(clan.mesh.authority.members)))


def _claimant(clan: Clan, standing: StandingInvite, wanted: str) -> Member:
    """The waiting device that is meant, as the member that it would be. Raises Fault."""
    waiting = standing.redeemed_by & clan.mesh.authority.suspended
    letters = wanted.strip().lower()
    found: dict[NodeId, Member] = {}
    for record, redemption in _redemptions(clan, standing.id):
        node = redemption.node
        if node in waiting and (letters == redemption.name or node_text(node).startswith(letters)):
            found.setdefault(node, _would_be(standing, record, node, standing.invite.name or redemption.name))
    if len(found) == 1 and letters:
        return next(iter(found.values()))
    short = standing.id.hex()[:INVITE_DIGITS]
    why = f"{len(found)} of those who wait match" if found else "nobody of that name or id waits for this invite"
    raise Fault(
        "conflict" if found else "not-found",
        f"device {wanted!r}",
        why,
        f"see invite {short} in `clanctl invite list`",
    )


def _would_be(standing: StandingInvite, redemption: RecordId, node: NodeId, name: str) -> Member:
    return Member(
        node,
        name,
        standing.invite.tags,
        0,
        "redemption",
        redemption,
        given_name=name,
        succeeds=standing.invite.succeeds,
        invite=standing.id,
    )
