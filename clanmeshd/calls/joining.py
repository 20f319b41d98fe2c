"""`init`, `invite` and `join`: how a clan comes to be and how it grows."""

import ipaddress
import os
import socket
import time
from typing import TYPE_CHECKING, Any

from clanmesh_protocol.control import Fault
from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import RecordId, fingerprint_slot, signing_public
from clanmesh_protocol.limits import INVITE_USES_MAX, NAME_BYTES_MAX, TAGS_MAX, TOKEN_ENDPOINTS_MAX
from clanmesh_protocol.names import is_label
from clanmesh_protocol.records import Invite
from clanmesh_protocol.signing import Verified
from clanmesh_protocol.tokens import Token, decode_token_untrusted, encode_token
from clanmeshd import founding, joining
from clanmeshd.calls.arguments import flag, label, number, own_label, text, text_or, texts
from clanmeshd.calls.finding import a_member
from clanmeshd.calls.invites import close_earlier
from clanmeshd.calls.signers import need_admin, signer_line
from clanmeshd.clan import Clan
from clanmeshd.control import Conversation
from clanmeshd.core.admission import NAME_TAKEN, Refusal, make_invite
from clanmeshd.core.mesh import Peer
from clanmeshd.core.subjects import State
from clanmeshd.core.wanted import node_record, overlay_address, overlay_prefix
from clanmeshd.driver import instant
from clanmeshd.resealing import settled_secret
from clanmeshd.store import Membership

if TYPE_CHECKING:
    from clanmeshd.daemon import Daemon

INVITE_TTL_S_DEFAULT = 86_400  # a day: long enough to walk to the other machine, short enough to forget
INVITE_DAYS_MAX = 30  # a token that lies about for longer is forgotten, or found
SPAN_S_MAX = 100 * 365 * 86_400  # of what somebody may type
OWN_DOORS = 2  # endpoints of the inviter in a token whatever else is there: one of each family


async def init(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`init`: found a clan with this device as its admin."""
    async with daemon.beginning:
        _refuse_second_clan(daemon)
        name = label(text(args, "name"), "clan name")
        node_name = own_label(text_or(args, "node_name", own_name()), "node name")
        signers = tuple(signer_line(line) for line in texts(args, "signers"))
        has_recovery = not flag(args, "no_recovery")
        founded = founding.found(
            name, node_name, signers, daemon.keys, os.urandom, time.time(), has_recovery=has_recovery
        )
        clan = await _begin(daemon, founded.membership, list(founded.records))
    return {**_introduction(clan), "recovery": founded.recovery}


async def join(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`join`: redeem a token with any member that can be reached."""
    async with daemon.beginning:
        _refuse_second_clan(daemon)
        try:
            token = decode_token_untrusted(text(args, "token"))
        except ProtocolError as error:
            raise Fault(
                "refused", "the token", str(error), "copy it again, whole, from `clanctl invite`"
            ) from error
        name = own_label(text_or(args, "name", own_name()), "node name")
        joined = await joining.join(daemon.config, daemon.keys, token, name, conversation.progress)
        await conversation.progress("admitted; starting the overlay")
        clan = await _begin(daemon, joined.membership, joined.records, token.authority_head)
        clan.mesh.greet(joined.server, instant())
        await clan.driver.settle_soon()
    return _introduction(clan)


async def invite(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`invite`: make a one-time key, publish its public half, and give the token with the private one."""
    clan = daemon.need_clan()
    need_admin(clan, "inviting")
    uses = number(args, "uses", 1, 1, INVITE_USES_MAX)
    ttl_s = number(args, "ttl_s", INVITE_TTL_S_DEFAULT, 1, SPAN_S_MAX)
    if ttl_s > INVITE_DAYS_MAX * 86_400:
        why = f"it can be good for {INVITE_DAYS_MAX} days at most"
        raise Fault("usage", "the invite", why, f"give --expires {INVITE_DAYS_MAX}d, or less")
    token, withdrawn = await _make_token(clan, args, uses, int(time.time()) + ttl_s)
    return {
        "withdrawn": withdrawn,
        "token": encode_token(token),
        "id": token.invite_id.hex()[:16],
        "expires_unix_s": token.expires_unix_s,
        "endpoints": [str(at) for at in token.endpoints],
    }


async def _make_token(clan: Clan, args: dict[str, Any], uses: int, expires_unix_s: int) -> tuple[Token, list[str]]:
    """The token, and which earlier invites were withdrawn for it. That calls for another discovery secret."""
    seed = os.urandom(32)
    content = _invite(clan, args, signing_public(seed), uses, expires_unix_s)
    record = clan.mesh.publish(content, slot=fingerprint_slot(content.key), now=instant())
    await clan.driver.settle_soon()
    withdrawn = await close_earlier(clan, record.id)
    discovery = await settled_secret(clan.driver, clan.keeper, lambda: clan.membership)
    token = Token(
        clan=clan.membership.clan,
        clan_name=clan.membership.name,
        invite_seed=seed,
        invite_id=record.id,
        authority_head=clan.mesh.authority.head,
        inviter=clan.keys.node,
        floor=record.seq,
        discovery=discovery,
        expires_unix_s=expires_unix_s,
        endpoints=_doors(clan),
    )
    return token, withdrawn


def _invite(clan: Clan, args: dict[str, Any], key: bytes, uses: int, expires_unix_s: int) -> Invite:
    """What the invite record says. Raises Fault."""
    authority = clan.mesh.authority
    tags = tuple(sorted({own_label(tag, "tag") for tag in texts(args, "tags")}))
    if len(tags) > TAGS_MAX:
        raise Fault("usage", "the tags", f"there are over {TAGS_MAX}", "give fewer")
    former = a_member(authority, text(args, "succeeds")) if args.get("succeeds") is not None else None
    name = own_label(text(args, "name"), "node name") if args.get("name") is not None else None
    try:
        return make_invite(
            authority,
            clan.keys.node,
            key=key,
            name=name or (former.name if former is not None else None),
            tags=tags or (former.tags if former is not None else ()),
            uses=uses,
            expires_unix_s=expires_unix_s,
            succeeds=former.node if former is not None else None,
        )
    except Refusal as refusal:
        if refusal.code == NAME_TAKEN:
            remedy = f"choose another, or give --replace {name} if the new device takes its place"
            raise Fault("conflict", "the invite", refusal.why, remedy) from refusal
        is_of_admin = former is not None and authority.is_admin(former.node)
        way = "first `clanctl invite` the new one, then `clanctl admin propose replace OLD NEW`"
        remedy = way if is_of_admin else "see `clanctl invite --help`"
        raise Fault("refused", "the invite", refusal.why, remedy) from refusal


def _doors(clan: Clan) -> tuple[Endpoint, ...]:
    """Where the joiner can knock: at this device first, then at others that are up, since any of them admits."""
    inside = overlay_prefix(clan.membership.clan)  # nobody reaches that from without
    own = [at for at in clan.mesh.endpoints if not at.ip.startswith(inside)]
    others = [at for peer in clan.mesh.peers(instant()) if (at := _door(clan, peer, inside)) is not None]
    first = own[: max(OWN_DOORS, TOKEN_ENDPOINTS_MAX - len(others))]
    return tuple(dict.fromkeys((*first, *others, *own)))[:TOKEN_ENDPOINTS_MAX]


def _door(clan: Clan, peer: Peer, inside: bytes) -> Endpoint | None:
    if peer.node == clan.keys.node or peer.state != State.UP:
        return None
    record = node_record(clan.mesh.ledger, peer.node)
    candidates = (peer.endpoint, *(record.endpoints if record is not None else ()))
    return next((at for at in candidates if at is not None and not at.ip.startswith(inside)), None)


def own_name() -> str:
    """This machine's host name as far as it can be a name in the clan, else `node`."""
    first = socket.gethostname().partition(".")[0].lower().replace("_", "-")[:NAME_BYTES_MAX].strip("-")
    return first if is_label(first) else "node"


def _refuse_second_clan(daemon: "Daemon") -> None:
    if daemon.clan is not None:
        raise Fault(
            "conflict",
            "this device",
            f"it is in the clan {daemon.clan.membership.name} already",
            "run a second instance with --state-dir and --runtime-dir for another clan",
        )


async def _begin(
    daemon: "Daemon", membership: Membership, records: list[Verified[Any]], anchor: RecordId | None = None
) -> Clan:
    # Records first: a membership without them would be a clan that nobody vouches for.
    daemon.store.compact(record.value.data for record in records)
    if anchor is not None:
        daemon.store.save_anchor(anchor)  # before the membership: a joiner follows nothing older than its token
    daemon.store.save_membership(membership)
    try:
        return await daemon.begin(membership, records)
    except OSError as error:
        raise Fault(
            "failed", "taking part in the clan", str(error), "the daemon tries again at its next start"
        ) from error


def _introduction(clan: Clan) -> dict[str, Any]:
    address = ipaddress.IPv6Address(overlay_address(clan.membership.clan, clan.keys.node))
    member = clan.mesh.authority.members[clan.keys.node]
    return {
        "clan": {"id": clan.membership.clan.hex(), "name": clan.membership.name},
        "self": member.name,
        "address": str(address),
    }
