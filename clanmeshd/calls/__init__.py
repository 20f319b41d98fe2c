"""What `clanctl` can ask for: one async function a call, found by its name.

Each takes the daemon, the request's arguments (of a local user, but checked all the same) and the conversation,
and gives plain values or raises `Fault`.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from clanmesh_protocol.control import WRITES, Request
from clanmeshd.calls import (
    admins,
    doctor,
    events,
    invites,
    joining,
    keys,
    leaving,
    members,
    pinging,
    proposing,
    reaching,
    recovering,
    repository,
    rollout,
    secrets,
    signers,
    views,
)
from clanmeshd.control import Conversation

if TYPE_CHECKING:
    from clanmeshd.daemon import Daemon

Call: TypeAlias = "Callable[[Daemon, dict[str, Any], Conversation], Awaitable[Any]]"

_CALLS: "dict[str, Call]" = {
    "init": joining.init,
    "join": joining.join,
    "invite": joining.invite,
    "invite-list": invites.list_invites,
    "invite-revoke": invites.revoke,
    "invite-confirm": invites.confirm,
    "leave": leaving.leave,
    "remove": members.remove,
    "rename": members.rename,
    "tag": members.tag,
    "renew": members.renew,
    "rotate": keys.rotate,
    "admin-list": admins.list_admins,
    "admin-pending": admins.pending,
    "admin-propose": proposing.propose,
    "admin-approve": proposing.approve,
    "admin-recover": recovering.recover,
    "events": events.events,
    "peers": views.peers,
    "watch": views.watch,
    "ping": pinging.ping,
    "status": views.status,
    "doctor": doctor.doctor,
    "reach": reaching.reach,
    "reached": reaching.reached,
    "version": views.version,
    "signer-list": signers.list_signers,
    "signer-add": signers.add,
    "signer-remove": signers.remove,
    "repo-info": repository.info,
    "repo-checkpoint": repository.checkpoint,
    "push": repository.push,
    "git-upload-pack": repository.upload_pack,
    "rollout-status": repository.rollout_status,
    "rollout-history": repository.rollout_history,
    "rollout-log": repository.rollout_log,
    "rollout-pause": rollout.pause,
    "rollout-resume": rollout.resume,
    "rollout-promote": rollout.promote,
    "rollout-retry": rollout.retry,
    "rollout-resolve": rollout.resolve,
    "secrets-list": secrets.list_secrets,
    "secrets-set": secrets.set_secret,
    "secrets-rotate": secrets.rotate,
    "secrets-remove": secrets.remove,
    "secrets-show": secrets.show,
}
assert _CALLS.keys() == WRITES.keys()

_STORES_NOTHING: Final = frozenset({"secrets-show"})  # of those that are for root


async def answer(daemon: "Daemon", request: Request, conversation: Conversation) -> Any:
    """Perform a call. Raises Fault."""
    if daemon.clan is not None and WRITES[request.call] and request.call not in _STORES_NOTHING:
        daemon.clan.driver.need_disk("make room there, and try again")
    return await _CALLS[request.call](daemon, request.args, conversation)
