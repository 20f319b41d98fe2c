"""The configuration's repository and its rollout: push, fetch, and how far this device is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import trio

from clanmesh_protocol.control import Fault
from clanmesh_protocol.errors import ProtocolError
from clanmeshd.calls.arguments import blob, commit, commit_or_none, number, text
from clanmeshd.calls.decisions import decide
from clanmeshd.calls.finding import a_member
from clanmeshd.calls.signers import checkpoint_of, need_admin
from clanmeshd.control import Conversation
from clanmeshd.core.effects import Holder
from clanmeshd.driver import instant
from clanmeshd.publishing import publish
from clanmeshd.reaching import ask_history, ask_log
from clanmeshd.rollout.following import REF

if TYPE_CHECKING:
    from clanmeshd.clan import Clan
    from clanmeshd.daemon import Daemon

BUNDLE_BYTES_MAX: Final = 1 << 30  # a configuration, not an archive; the rollout has its own smaller bound
SIGNATURE_BYTES_MAX: Final = 16_384


async def info(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`repo-info`: what a push needs to know."""
    clan = daemon.need_clan()
    head = clan.rollout.head
    return {
        "clan": {"id": clan.membership.clan.hex(), "name": clan.membership.name},
        "ref": REF,
        "head": head.hex() if head else None,
        "signers": list(clan.mesh.authority.signers),
    }


async def checkpoint(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`repo-checkpoint`: accept a commit and all behind it by hash."""
    clan = daemon.need_clan()
    need_admin(clan, "setting the checkpoint")
    wanted = commit(args, "commit")
    operation = checkpoint_of(wanted)
    if (REF, wanted) in clan.mesh.authority.checkpoints[-1:]:
        return {"commit": wanted.hex(), "decision": None}
    return {"commit": wanted.hex(), "decision": (await decide(clan, operation)).view()}


async def push(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`push`: check a bundle and its head statement, publish the commits, gossip the head."""
    clan = daemon.need_clan()
    if text(args, "ref") != REF:
        raise Fault("refused", "the push", f"only {REF} is followed", f"push to {REF}")
    old, new = commit_or_none(args, "old"), commit(args, "new")
    signature = blob(args, "signature", SIGNATURE_BYTES_MAX)
    size = number(args, "bundle_bytes", 0, 0, BUNDLE_BYTES_MAX)
    bundle, progress = _bundle(conversation, size), conversation.progress
    await publish(clan, old=old, new=new, signature=signature, bundle=bundle, progress=progress)
    return {"commit": new.hex()}


async def _bundle(conversation: Conversation, size: int) -> Any:
    """Give the bundle's bytes as they come: an async iterator that ends after `size` of them."""
    left = size
    while True:
        frame = await conversation.receive()
        data = frame.get("data")
        if not isinstance(data, bytes) or len(data) > left:
            raise Fault("usage", "the bundle", "it is not of the size that was announced")
        left -= len(data)
        if not data:
            if left:
                raise Fault("usage", "the bundle", "it ended early")
            return
        yield data


async def upload_pack(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`git-upload-pack`: after an empty result, the connection is git's."""
    clan = daemon.need_clan()
    await conversation.result({})
    await clan.rollout.offers.upload_pack(conversation.stream)


async def rollout_status(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`rollout-status`."""
    return daemon.need_clan().rollout.view()


async def rollout_history(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`rollout-history`: of this device, or of another `node`."""
    clan = daemon.need_clan()
    if (holder := _other(clan, args)) is None:
        return {"entries": clan.rollout.history()}
    with _telling(args):
        return {"entries": await ask_history(clan.reach, holder)}


async def rollout_log(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`rollout-log`: of a commit, or of the last that was tried; of this device, or of another `node`."""
    clan, wanted = daemon.need_clan(), commit_or_none(args, "commit")
    if (holder := _other(clan, args)) is None:
        return {"text": await trio.to_thread.run_sync(clan.rollout.log, wanted)}
    with _telling(args):
        return {"text": await ask_log(clan.reach, holder, wanted)}


def _other(clan: "Clan", args: dict[str, Any]) -> Holder | None:
    """The member that a call is about; None for this device itself. Raises Fault."""
    if args.get("node") is None:
        return None
    node = a_member(clan.mesh.authority, text(args, "node")).node
    if node == clan.keys.node:
        return None
    ways = next((peer.endpoints for peer in clan.mesh.peers(instant()) if peer.node == node), ())
    return Holder(node, ways, frozenset())


@contextmanager
def _telling(args: dict[str, Any]) -> Iterator[None]:
    """Tell a person why another device did not answer."""
    try:
        yield
    except (OSError, ProtocolError) as error:
        what = f"asking {args['node']}"
        raise Fault("unreachable", what, str(error), "see `clanctl peers`, and try again when it is up") from error
