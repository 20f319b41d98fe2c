"""`remove`, `rename`, `tag`, `renew`: an admin's word for a member, given, changed or taken back."""

from typing import TYPE_CHECKING, Any, Final

from clanmesh_protocol.control import Fault
from clanmesh_protocol.keys import NodeId, fingerprint_slot, node_text
from clanmesh_protocol.limits import TAGS_MAX
from clanmesh_protocol.records import AdminRemove, Kind
from clanmeshd.calls.arguments import flag, label, number_or_none, own_label, text, text_or, texts
from clanmeshd.calls.decisions import INVITE_DIGITS, Decision, Kept, check, decide, need_others, put_out, take_over
from clanmeshd.calls.finding import a_member, a_node
from clanmeshd.calls.invites import close_behind, open_invite
from clanmeshd.calls.signers import need_admin
from clanmeshd.clan import Clan
from clanmeshd.control import Conversation
from clanmeshd.core.admission import NAME_TAKEN, Refusal
from clanmeshd.core.credentials import DAY_S, amended, expiry
from clanmeshd.core.phrases import called
from clanmeshd.core.wanted import newest_secrets
from clanmeshd.driver import instant
from clanmeshd.leaving import spread
from clanmeshd.secrets.grants import holders, is_reserved

if TYPE_CHECKING:
    from clanmeshd.daemon import Daemon

REASON_BYTES_MAX: Final = 128  # of a revocation
REASON_DEFAULT: Final = "removed"
DISTRUST_S_MAX: Final = 10 * 365 * DAY_S
DAYS_MAX: Final = 36_500  # a hundred years: clocks and dates still hold that


async def remove(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`remove`: put a device out of the clan, for ever. An admin is first voted out of the admins.

    The invite that it came by is withdrawn, if more could come by it: its owner has the token. With `dry` it only
    says what it would do.
    """
    clan = daemon.need_clan()
    need_admin(clan, "removing a device")
    authority = clan.mesh.authority
    node = a_node(authority, text(args, "node"))
    name, reason = called(authority, node), _reason(args)
    _refuse_self(clan, node, name)
    invite = open_invite(clan, node)
    plan = {
        "node": node_text(node),
        "name": name,
        "exposed": exposed_secrets(clan, node),
        "invite": {"id": invite.id.hex()[:INVITE_DIGITS], "left": invite.uses_left} if invite else None,
    }
    if flag(args, "dry"):
        if authority.is_admin(node):
            need_others(clan, node, f"removing {name}")
        return {**plan, "state": "planned"}
    kept, decision = Kept(), None
    if authority.is_admin(node):
        kept, decision = await _vote_out(clan, node, name, distrust_s(args))
    if node not in clan.mesh.authority.revoked:
        await put_out(clan, node, reason)
    if invite is not None:
        await close_behind(clan, invite, node)
    word = clan.mesh.ledger.get(clan.keys.node, Kind.REVOCATION, fingerprint_slot(node))
    unaware = await spread(clan, word.value.id) if word is not None else frozenset()
    return {
        **plan,
        "reason": reason,
        "state": "pending" if decision is not None and not decision.is_done else "done",
        "decision": decision.view() if decision is not None else None,
        "kept": kept.view(),
        "unaware": sorted(called(clan.mesh.authority, each) for each in unaware),
    }


async def _vote_out(clan: Clan, node: NodeId, name: str, distrusted_s: int | None) -> tuple[Kept, Decision]:
    need_others(clan, node, f"removing {name}")
    check(clan, AdminRemove(node))
    kept = await take_over(clan, node, distrusted_s)
    return kept, await decide(clan, AdminRemove(node))


def _refuse_self(clan: Clan, node: NodeId, name: str) -> None:
    if node == clan.keys.node:
        raise Fault("refused", f"removing {name}", "it is this device itself", "run `clanctl leave`")


def exposed_secrets(clan: Clan, node: NodeId) -> list[str]:
    """The names of the secrets that a device can read."""
    items = newest_secrets(clan.mesh.ledger, clan.mesh.authority)
    return [item.name for item in items if not is_reserved(item.name) and node in {*holders(item), item.author}]


def distrust_s(args: dict[str, Any]) -> int | None:
    """For how long what an admin said is not taken over. Raises Fault."""
    return number_or_none(args, "distrust_s", 0, DISTRUST_S_MAX)


def _reason(args: dict[str, Any]) -> str:
    reason = " ".join(text_or(args, "reason", REASON_DEFAULT).split())
    if len(reason.encode()) > REASON_BYTES_MAX:
        raise Fault("usage", "the reason", f"it has over {REASON_BYTES_MAX} bytes", "shorten it")
    return reason


# --- what a credential says ----------------------------------------------------------------------------


async def rename(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`rename`: another name; address and keys stay."""
    clan = daemon.need_clan()
    need_admin(clan, "renaming a device")
    member = a_member(clan.mesh.authority, text(args, "node"))
    name = own_label(text(args, "name"), "node name")
    if name != member.name:
        await _amend(clan, member.node, f"renaming {member.name}", name=name)
    return {"node": node_text(member.node), "before": member.name, "name": name}


async def tag(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`tag`: add tags to a member and take others away. What has a tag gets its secrets."""
    clan = daemon.need_clan()
    need_admin(clan, "changing tags")
    member = a_member(clan.mesh.authority, text(args, "node"))
    added = {own_label(each, "tag") for each in texts(args, "add")}
    removed = {label(each, "tag") for each in texts(args, "remove")}
    if (not added and not removed) or added & removed:
        raise Fault("usage", "the tags", "give some to add or to remove, and none to both", "see `--help`")
    tags = tuple(sorted(({*member.tags} | added) - removed))
    if len(tags) > TAGS_MAX:
        raise Fault("refused", f"tagging {member.name}", f"it would have over {TAGS_MAX}", "remove some first")
    if tags != member.tags:
        await _amend(clan, member.node, f"tagging {member.name}", tags=tags)
    had_not = sorted(removed - {*member.tags})
    return {"node": node_text(member.node), "name": member.name, "tags": list(tags), "had_not": had_not}


async def renew(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`renew`: prolong a membership by the clan's rule or by so many days; 0 days: for ever."""
    clan = daemon.need_clan()
    need_admin(clan, "renewing a membership")
    authority, now = clan.mesh.authority, instant()
    member = a_member(authority, text(args, "node"))
    days = number_or_none(args, "days", 0, DAYS_MAX)
    until = expiry(authority, now.unix_s) if days is None else int(now.unix_s) + days * DAY_S if days else 0
    await _amend(clan, member.node, f"renewing {member.name}", expires_unix_s=until)
    return {"node": node_text(member.node), "name": member.name, "expires_unix_s": until}


async def _amend(
    clan: Clan,
    node: NodeId,
    what: str,
    *,
    name: str | None = None,
    tags: tuple[str, ...] | None = None,
    expires_unix_s: int | None = None,
) -> None:
    mesh = clan.mesh
    try:
        content = amended(
            mesh.ledger,
            mesh.authority,
            clan.keys.node,
            node,
            name=name,
            tags=tags,
            expires_unix_s=expires_unix_s,
        )
    except Refusal as refusal:
        kind = "conflict" if refusal.code == NAME_TAKEN else "refused"
        raise Fault(kind, what, refusal.why, "choose another") from refusal
    mesh.publish(content, slot=fingerprint_slot(node), now=instant())
    await clan.driver.settle_soon()
