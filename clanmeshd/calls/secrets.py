"""Secrets: set one for tags or devices, give it another value, take it back, list them, show one read here."""

import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from clanmesh_protocol.control import Fault
from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import NodeId, node_text
from clanmesh_protocol.limits import NAME_BYTES_MAX, SECRET_VALUE_BYTES_MAX
from clanmesh_protocol.names import is_account, is_secret_name
from clanmesh_protocol.records import Secret
from clanmeshd.calls.arguments import blob, flag, number, number_or_none, text, text_or, texts
from clanmeshd.calls.audiences import audience, words
from clanmeshd.clan import Clan
from clanmeshd.control import Conversation
from clanmeshd.core.audience import NOBODY, Audience, recipients
from clanmeshd.core.effects import WantedSecret
from clanmeshd.core.phrases import called
from clanmeshd.core.wanted import newest_secrets, standing_values
from clanmeshd.driver import instant
from clanmeshd.resealing import sealing_keys
from clanmeshd.secrets.grants import exposed_to, holders, is_reserved
from clanmeshd.secrets.sealing import (
    EPOCH_STEP,
    RANDOM_BYTES_MAX,
    SealedError,
    open_secret,
    random_value,
    removal,
    seal,
    seal_anew,
)

if TYPE_CHECKING:
    from clanmeshd.daemon import Daemon


async def list_secrets(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`secrets-list`: names and recipients, never values."""
    clan = daemon.need_clan()
    return {"secrets": [_row(clan, item) for item in _standing(clan) if not is_reserved(item.name)]}


def _row(clan: Clan, item: WantedSecret) -> dict[str, Any]:
    authority = clan.mesh.authority
    members, exposed = authority.members, exposed_to(item, authority.revoked)
    return {
        "name": item.name,
        "epoch": item.secret.epoch,
        "targets": words(authority, Audience.of(item.secret)),
        "nodes": [node_text(node) for node in item.secret.nodes],
        "owner": item.secret.owner,
        "group": item.secret.group,
        "mode": item.secret.mode,
        "recipients": sorted(members[node].name for node in holders(item) if node in members),
        "placed": (clan.config.runtime_directory / "secrets" / item.name).exists(),
        "random_bytes": item.secret.random_bytes,
        "exposed": sorted(called(authority, node) for node in exposed),
        "remedy": _remedy(clan, item) if exposed else None,
    }


async def set_secret(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`secrets-set`: seal a value, given or random, to each recipient and gossip it.

    What is not said of a secret that is there stays as it was: for whom it is, its owner, group and mode. With
    `check` nothing is done, and no value needed: it is refused what would be.
    """
    clan = daemon.need_clan()
    name = _name(text(args, "name"))
    mesh = clan.mesh
    before = next((item for item in standing_values(mesh.ledger, mesh.authority) if item.name == name), None)
    meant = audience(mesh.authority, texts(args, "for"))
    if meant == NOBODY and before is not None:
        meant = Audience.of(before.secret)
    _need_somebody(clan, meant)
    place = _place(args, before)
    if flag(args, "check"):
        return {"name": name}
    value, random_bytes = _value(args)
    try:
        secret = _seal(clan, place, name, value, random_bytes, meant, before)
    except SealedError as error:
        raise Fault("refused", f"secret {name!r}", str(error), "see `clanctl secrets list`") from error
    return await _publish(clan, name, secret)


async def rotate(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`secrets-rotate`: give a secret another value, for whom and where it was before.

    One that a device threw dice for is thrown again; a person's needs the new value, or `random` bytes. With
    `check` nothing is done, as in `secrets-set`.
    """
    clan = daemon.need_clan()
    name = text(args, "name")
    before = _need(clan, name)
    meant = Audience.of(before.secret)
    if not recipients(meant, clan.mesh.authority.members, instant().unix_s):
        who = ", ".join(words(clan.mesh.authority, meant))
        remedy = f"`clanctl secrets set {name} --for DEVICE`, or `clanctl secrets remove {name}`"
        raise Fault("refused", f"secret {name!r}", f"nobody is left that it is for ({who})", remedy)
    if flag(args, "check"):
        return {"name": name}
    if args.get("value") is None and args.get("random") is None:
        value, random_bytes = _thrown_again(before)
    else:
        value, random_bytes = _value(args)
    keys = _keys(clan, meant)
    author, id_of_clan = clan.keys.node, clan.membership.clan
    try:
        secret = seal_anew(author, id_of_clan, before, value, keys, os.urandom, random_bytes)
    except SealedError as error:
        raise Fault("refused", f"secret {name!r}", str(error), "set it anew, with --for") from error
    return await _publish(clan, name, secret)


async def remove(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`secrets-remove`: there shall be no secret of this name any more. Who could read it knows it still."""
    clan = daemon.need_clan()
    name = text(args, "name")
    item = _need(clan, _name(name))
    try:
        secret = removal(item)
    except SealedError as error:
        raise Fault("refused", f"secret {name!r}", str(error), "see `clanctl secrets list`") from error
    return await _publish(clan, name, secret)


def _remedy(clan: Clan, item: WantedSecret) -> str:
    left = recipients(Audience.of(item.secret), clan.mesh.authority.members, instant().unix_s)
    return f"clanctl secrets {'rotate' if left else 'remove'} {item.name}"


def _thrown_again(item: WantedSecret) -> tuple[bytes, int]:
    count = item.secret.random_bytes
    if not count:
        raise Fault(
            "refused",
            f"secret {item.name!r}",
            "a person chose its value, so a person must choose the next",
            f"`clanctl secrets rotate {item.name} --file FILE`, or --random",
        )
    if count > RANDOM_BYTES_MAX:  # of another version, or nonsense
        raise Fault("refused", f"secret {item.name!r}", f"it would have {count} random bytes", "give --random N")
    return random_value(count, os.urandom), count


async def _publish(clan: Clan, name: str, secret: Secret) -> Any:
    try:
        clan.mesh.publish(secret, slot=name, now=instant())
    except ProtocolError as error:
        raise Fault("refused", f"secret {name!r}", str(error), "set it on another device") from error
    await clan.driver.settle_soon()
    members = clan.mesh.authority.members
    return {
        "name": name,
        "epoch": secret.epoch,
        "random_bytes": secret.random_bytes,
        "recipients": sorted(members[wrap.node].name for wrap in secret.wraps if wrap.node in members),
    }


def _value(args: dict[str, Any]) -> tuple[bytes, int]:
    """The value that was given, or a random one; and how many random bytes are in it. Raises Fault."""
    count = number_or_none(args, "random", 1, RANDOM_BYTES_MAX)
    if count is None:
        return blob(args, "value", SECRET_VALUE_BYTES_MAX), 0
    if args.get("value") is not None:
        raise Fault("usage", "the value", "it is given, and shall be random too", "choose one of the two")
    return random_value(count, os.urandom), count


def _keys(clan: Clan, meant: Audience) -> dict[NodeId, bytes]:
    published = sealing_keys(clan.mesh)
    wanted = recipients(meant, clan.mesh.authority.members, instant().unix_s)
    return {node: published[node] for node in sorted(wanted & published.keys())}


class _Place(NamedTuple):
    """Whose the placed file is, and who may read it."""

    owner: str
    group: str
    mode: int


def _place(args: dict[str, Any], before: WantedSecret | None) -> _Place:
    """What was said of the file, or else was before. Raises Fault."""
    was = _Place(before.secret.owner, before.secret.group, before.secret.mode) if before is not None else _PLACE
    owner, group = text_or(args, "owner", was.owner), text_or(args, "group", was.group)
    if not is_account(owner) or not is_account(group):
        raise Fault("usage", f"{owner}:{group}", "it is no user and group of a system", "give --owner and --group")
    mode = number(args, "mode", was.mode, 0, 0o777) if args.get("mode") is not None else was.mode
    return _Place(owner, group, mode)


_PLACE: Final = _Place("root", "root", 0o400)  # where nothing was said


def _seal(
    clan: Clan,
    place: _Place,
    name: str,
    value: bytes,
    random_bytes: int,
    meant: Audience,
    before: WantedSecret | None,
) -> Secret:
    return seal(
        clan=clan.membership.clan,
        author=clan.keys.node,
        name=name,
        epoch=(before.secret.epoch if before is not None else 0) + EPOCH_STEP,
        predecessor=before.record_id if before else None,
        value=value,
        owner=place.owner,
        group=place.group,
        mode=place.mode,
        audience=meant,
        recipients=_keys(clan, meant),
        entropy=os.urandom,
        random_bytes=random_bytes,
    )


async def show(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`secrets-show`: the value of a secret that this device may open."""
    clan = daemon.need_clan()
    item = _need(clan, text(args, "name"))
    try:
        return {"value": open_secret(clan.keys, clan.membership.clan, item)}
    except SealedError as error:
        raise Fault("denied", f"secret {item.name!r}", str(error), "read it on one of its recipients") from error


def _standing(clan: Clan) -> tuple[WantedSecret, ...]:
    return newest_secrets(clan.mesh.ledger, clan.mesh.authority)


def _need(clan: Clan, name: str) -> WantedSecret:
    item = next((item for item in _standing(clan) if item.name == name), None)
    if item is None:
        raise Fault(
            "not-found", f"secret {name!r}", "the clan has none of that name", "see `clanctl secrets list`"
        )
    return item


def _name(name: str) -> str:
    if not is_secret_name(name):
        raise Fault(
            "usage",
            f"secret {name!r}",
            f"a name has letters, digits, dots, hyphens and underscores, at most {NAME_BYTES_MAX}",
            "choose another",
        )
    if is_reserved(name):
        raise Fault("usage", f"secret {name!r}", "such names are clanmesh's own", "choose another")
    return name


def _need_somebody(clan: Clan, meant: Audience) -> None:
    if meant == NOBODY:
        raise Fault("usage", "the secret", "it is for nobody", "give --for a tag or a node; `all` is everyone")
    if not recipients(meant, clan.mesh.authority.members, instant().unix_s):
        who = ", ".join(words(clan.mesh.authority, meant))
        raise Fault("not-found", f"--for {who}", "nobody there may have secrets yet", "see `clanctl peers`")
