"""Secrets: set one for tags or nodes, list what there is, show what this device may read."""

import os
from typing import TYPE_CHECKING, Any

from clanmesh_protocol.control import Fault
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import NAME_BYTES_MAX, SECRET_VALUE_BYTES_MAX
from clanmesh_protocol.names import is_account, is_label, is_secret_name
from clanmesh_protocol.records import Secret
from clanmeshd.calls.arguments import blob, number, text, text_or, texts
from clanmeshd.clan import Clan
from clanmeshd.control import Conversation
from clanmeshd.core.effects import WantedSecret
from clanmeshd.core.wanted import newest_secrets
from clanmeshd.driver import instant
from clanmeshd.resealing import sealing_keys
from clanmeshd.secrets.grants import recipients
from clanmeshd.secrets.sealing import SealedError, open_secret, seal

if TYPE_CHECKING:
    from clanmeshd.daemon import Daemon

_MODE_DEFAULT = 0o400
EPOCH_STEP = 2  # a holder that seals the old value again at this moment uses 1, and loses


async def list_secrets(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`secrets-list`: names and recipients, never values."""
    clan = daemon.need_clan()
    members = clan.mesh.authority.members
    return {
        "secrets": [
            {
                "name": item.name,
                "epoch": item.secret.epoch,
                "targets": list(item.secret.targets),
                "owner": item.secret.owner,
                "group": item.secret.group,
                "mode": item.secret.mode,
                "recipients": sorted(
                    members[wrap.node].name for wrap in item.secret.wraps if wrap.node in members
                ),
                "placed": (clan.config.runtime_directory / "secrets" / item.name).exists(),
            }
            for item in newest_secrets(clan.mesh.ledger, clan.mesh.authority)
        ]
    }


async def set_secret(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`secrets-set`: seal a value to each recipient and gossip it."""
    clan = daemon.need_clan()
    name, value = _name(text(args, "name")), blob(args, "value", SECRET_VALUE_BYTES_MAX)
    targets = tuple(sorted(set(texts(args, "for"))))
    _check_targets(clan, targets)
    owner, group = text_or(args, "owner", "root"), text_or(args, "group", "root")
    if not is_account(owner) or not is_account(group):
        raise Fault("usage", f"{owner}:{group}", "it is no user and group of a system", "give --owner and --group")
    published = sealing_keys(clan.mesh)
    wanted = recipients(targets, clan.mesh.authority.members)
    keys = {node: published[node] for node in sorted(wanted & published.keys())}
    before = next((s for s in newest_secrets(clan.mesh.ledger, clan.mesh.authority) if s.name == name), None)
    try:
        secret = _seal(clan, args, name, value, targets, keys, before)
    except SealedError as error:
        raise Fault("refused", f"secret {name!r}", str(error)) from error
    clan.mesh.publish(secret, slot=name, now=instant())
    await clan.driver.settle()
    members = clan.mesh.authority.members
    return {"name": name, "epoch": secret.epoch, "recipients": sorted(members[node].name for node in keys)}


def _seal(
    clan: Clan,
    args: dict[str, Any],
    name: str,
    value: bytes,
    targets: tuple[str, ...],
    keys: dict[NodeId, bytes],
    before: WantedSecret | None,
) -> Secret:
    return seal(
        clan=clan.membership.clan,
        author=clan.keys.node,
        name=name,
        epoch=(before.secret.epoch if before else 0) + EPOCH_STEP,
        predecessor=before.record_id if before else None,
        value=value,
        owner=text_or(args, "owner", "root"),
        group=text_or(args, "group", "root"),
        mode=number(args, "mode", _MODE_DEFAULT, 0, 0o777),
        targets=targets,
        recipients=keys,
        entropy=os.urandom,
    )


async def show(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`secrets-show`: the value of a secret that this device may open."""
    clan = daemon.need_clan()
    name = _name(text(args, "name"))
    item = next((s for s in newest_secrets(clan.mesh.ledger, clan.mesh.authority) if s.name == name), None)
    if item is None:
        raise Fault(
            "not-found", f"secret {name!r}", "the clan has none of that name", "see `clanctl secrets list`"
        )
    return {"value": _open(clan, item)}


def _open(clan: Clan, item: WantedSecret) -> bytes:
    try:
        return open_secret(clan.keys, clan.membership.clan, item)
    except SealedError as error:
        raise Fault("denied", f"secret {item.name!r}", str(error), "read it on one of its recipients") from error


def _name(name: str) -> str:
    if not is_secret_name(name):
        raise Fault(
            "usage",
            f"secret {name!r}",
            f"a name has letters, digits, dots, hyphens and underscores, at most {NAME_BYTES_MAX}",
        )
    return name


def _check_targets(clan: Clan, targets: tuple[str, ...]) -> None:
    if not targets:
        raise Fault("usage", "the secret", "it is for nobody", "give --for a tag or a node; `all` is everyone")
    for target in targets:
        if not is_label(target):
            raise Fault("usage", f"--for {target!r}", "it is neither a tag nor a node's name")
    if not recipients(targets, clan.mesh.authority.members):
        raise Fault(
            "not-found", f"--for {', '.join(targets)}", "no member has that tag or name", "see `clanctl peers`"
        )
