"""`admin-recover`: what the recovery key decides when the admins cannot, and the drill that the paper is right."""

import os
from typing import TYPE_CHECKING, Any, Final

from clanmesh_protocol.control import Fault
from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import NodeId, signing_public
from clanmesh_protocol.records import AdminRemove, AuthorityOp, RecoveryReplace
from clanmesh_protocol.tokens import decode_recovery_untrusted, encode_recovery
from clanmeshd.calls.arguments import flag, text, text_or
from clanmeshd.calls.decisions import Decision, Kept, outcome, put_out, refuse_idle, take_over
from clanmeshd.calls.finding import a_member
from clanmeshd.calls.members import distrust_s
from clanmeshd.calls.proposing import SEED_BYTES, admin_add, an_admin
from clanmeshd.clan import Clan
from clanmeshd.control import Conversation
from clanmeshd.core.authority import Authority
from clanmeshd.core.phrases import ID_LETTERS, called
from clanmeshd.driver import instant

if TYPE_CHECKING:
    from clanmeshd.daemon import Daemon

_REASON: Final = "removed with the recovery key"
_WHAT: Final = "the recovery key"


async def recover(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`admin-recover`: add and remove admins, roll the recovery key; or only check that it is in force."""
    clan = daemon.need_clan()
    authority = clan.mesh.authority
    seed = _seed(authority, text(args, "key"))
    added, removed = _wanted(authority, args, "add"), _wanted(authority, args, "remove")
    rolls = flag(args, "new_key")
    if added is not None and authority.is_admin(added) and (removed or rolls):
        added = None  # it is one already; the rest is what the key is needed for
    if flag(args, "drill"):
        if added or removed or rolls:
            raise Fault("usage", "the drill", "it changes nothing", "leave the other options away")
        return _answer([], Kept(), None, "this is the recovery key in force; nothing was changed", drill=True)
    if not (added or removed or rolls):
        raise Fault("usage", _WHAT, "nothing is to be done with it", "give --add, --remove, --new-key, or --drill")
    _check(clan, added, removed)
    decisions = [await _sign(clan, seed, admin_add(authority, added, 1))] if added else []
    kept = Kept()
    if removed:
        kept = await take_over(clan, removed, distrust_s(args))
        decisions.append(await _sign(clan, seed, AdminRemove(removed)))
        await put_out(clan, removed, _REASON)
    fresh = os.urandom(SEED_BYTES) if rolls else None
    if fresh is not None:
        decisions.append(await _sign(clan, seed, RecoveryReplace(signing_public(fresh))))
    return _answer(decisions, kept, encode_recovery(fresh) if fresh else None, None, drill=False)


def _answer(
    decisions: list[Decision], kept: Kept, recovery: str | None, note: str | None, *, drill: bool
) -> dict[str, Any]:
    return {
        "drill": drill,
        "holds": True,
        "decisions": [decision.view() for decision in decisions],
        "kept": kept.view(),
        "recovery": recovery,
        "note": note,
    }


def _seed(authority: Authority, spelled: str) -> bytes:
    """The seed of the key in force. Raises Fault."""
    try:
        seed = decode_recovery_untrusted(spelled)
    except ProtocolError as error:
        raise Fault("refused", _WHAT, str(error), "type it again, as it stands on the paper") from error
    chain, key = authority.chain, signing_public(seed)
    if key == chain.recovery:
        return seed
    if key in chain.pinned:
        raise Fault("refused", _WHAT, "it was replaced by another one and is void", "use the newest one")
    proposal = next((each for each in authority.pending if each.operation == RecoveryReplace(key)), None)
    if proposal is not None:
        why = "it is the right one, but only proposed: it is not in force until enough admins have approved it"
        short = proposal.id.hex()[:ID_LETTERS]
        raise Fault("refused", _WHAT, why, f"on another admin's device: `clanctl admin approve {short}`")
    if chain.recovery is None:
        raise Fault("refused", _WHAT, "the clan has none", "make one: `clanctl admin propose recovery`")
    why = f"it is sound, but not the one of {authority.clan_name}"
    raise Fault("refused", _WHAT, why, "look for the paper of this clan")


def _wanted(authority: Authority, args: dict[str, Any], key: str) -> NodeId | None:
    wanted = text_or(args, key, "")
    return a_member(authority, wanted).node if wanted else None


def _check(clan: Clan, added: NodeId | None, removed: NodeId | None) -> None:
    """See that all of it can be done before any of it is. Raises Fault."""
    authority, own = clan.mesh.authority, clan.keys.node
    if added is not None:
        refuse_idle(authority, admin_add(authority, added, 1))
    if removed is None:
        return
    name = called(authority, removed)
    an_admin(authority, name, "ending the say of")
    if removed == own:
        raise Fault("refused", f"removing {name}", "it is this device itself", "do it on another device")
    if authority.admins == (removed,) and added is None:
        why = "it is the only admin, and without one nobody could decide anything"
        raise Fault("refused", f"removing {name}", why, "name another one beside it: --add NODE")
    if not authority.is_admin(own) and added != own:
        own_name = called(authority, own)
        why = f"what {name} vouched for would end with it, and only an admin's device can take that over"
        raise Fault("refused", f"removing {name}", why, f"add `--add {own_name}`, or do it on an admin's device")


async def _sign(clan: Clan, seed: bytes, operation: AuthorityOp) -> Decision:
    before, now = clan.mesh.authority, instant()
    refuse_idle(before, operation)
    record = clan.mesh.recover(seed, operation, now)
    await clan.driver.settle_soon()
    return outcome(clan, before, record.id, operation, record.author, frozenset({record.author}), now.unix_s)
