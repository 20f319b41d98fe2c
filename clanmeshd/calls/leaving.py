"""`leave`: this device goes out of its clan by its own word."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

from clanmesh_protocol.control import Fault
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.records import AdminRemove
from clanmeshd import leaving
from clanmeshd.calls.arguments import flag
from clanmeshd.clan import Clan
from clanmeshd.control import Conversation
from clanmeshd.core.authority import Authority
from clanmeshd.core.phrases import called, listed

if TYPE_CHECKING:
    from clanmeshd.daemon import Daemon


_UNHEARD: Final = "nobody has heard of it: on an admin's device, `clanctl remove` it there"


async def leave(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`leave`: say goodbye, stop taking part, put the clan's state aside. The daemon goes on without a clan."""
    async with daemon.beginning:
        clan = daemon.need_clan()
        if not flag(args, "force"):
            _refuse_admin(clan)
        authority, own = clan.mesh.authority, clan.keys.node
        told, others, was_member = 0, 0, authority.is_member(own)
        still = still_an_admin(authority, own)
        if was_member:
            await conversation.progress("telling the others")
            told, others = await leaving.say_goodbye(clan)
        await conversation.progress("putting the clan's state aside")
        await daemon.end()
        await leaving.clear_runtime(clan)
        kept = await _put_aside(daemon, clan.membership.name)
        daemon.start_anew()
    note = still or (_UNHEARD if others and not told else None)
    return {
        "clan": clan.membership.name,
        "was_member": was_member,
        "told": told,
        "was_admin": still is not None,
        "members": others,
        "kept": str(kept),
        "note": note,
    }


def still_an_admin(authority: Authority, own: NodeId) -> str | None:
    """What the others have to do about an admin that goes by its own word, which ends nothing of that."""
    if not authority.is_admin(own) or len(authority.members) == 1:
        return None
    name, chain = called(authority, own), authority.chain
    if chain.total_weight - chain.weight([own]) >= chain.need(AdminRemove.OP):
        return f"on another admin's device: `clanctl remove {name}`"
    if len(authority.admins) > 1:
        recover = f"`clanctl admin recover --remove {name}`"
        return (
            f"the other admins cannot end that without it: on an admin's device, with the recovery key, {recover}"
        )
    return "it was the only admin: the recovery key makes another, `clanctl admin recover --add NODE`"


async def _put_aside(daemon: "Daemon", name: str) -> Path:
    try:
        return await trio.to_thread.run_sync(leaving.put_aside, daemon.store.directory, name)
    except OSError as error:
        why = f"the clan's state could not be put aside: {error}"
        remedy = "repair the disk, restart clanmeshd, and run `clanctl leave` again"
        raise Fault("failed", "leaving", why, remedy) from error


def _refuse_admin(clan: Clan) -> None:
    """An admin's going ends what it vouched for: another admin has to take that over first. Raises Fault."""
    authority, own = clan.mesh.authority, clan.keys.node
    if not authority.is_admin(own):
        return
    name = called(authority, own)
    others = [called(authority, node) for node in authority.admins if node != own]
    if others:
        raise Fault(
            "refused",
            "leaving",
            "this device is an admin, and what it vouched for would end with it",
            f"on {listed(others)}: `clanctl admin propose remove {name}`, and approve it here if asked to",
        )
    if len(authority.members) > 1:
        raise Fault(
            "refused",
            "leaving",
            "this device is the only admin, and without it only the recovery key can change the clan",
            "make another device an admin first (`clanctl admin propose add NODE`), or give --force",
        )
