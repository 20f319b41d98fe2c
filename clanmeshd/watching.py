"""Watching an upstream for the clan: which device looks when, and what it does with a head that it finds."""

import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import trio

from clanmesh_protocol.control import Fault
from clanmeshd.publishing import publish
from clanmeshd.rollout.build import read_config
from clanmeshd.rollout.objects import Objects
from clanmeshd.rollout.upstream import SignedHead, Upstream, pause_s, reason

if TYPE_CHECKING:
    from clanmeshd.clan import Clan

log = logging.getLogger(__name__)


async def watch_upstream(clan: "Clan") -> None:
    """Look for ever, as long as the configuration names an upstream."""
    directory = clan.config.state_directory / "rollout"
    objects = Objects(directory / "repo.git")

    async def take(signed: SignedHead, bundle: AsyncIterator[bytes]) -> None:
        await _take(clan, signed, bundle)

    upstream, complaint = Upstream(directory, take), ""
    while True:
        why, rank = "", 0
        try:
            if url := await _url(clan, objects):
                rank = _rank(clan)
                await upstream.look(url, clan.membership.clan, clan.rollout.head)
        except (Fault, ValueError, OSError) as error:
            why = reason(error)
        if why not in ("", complaint):
            log.warning("the upstream: %s", why)
        complaint = why
        await trio.sleep(pause_s(rank))


async def _url(clan: "Clan", objects: Objects) -> str:
    head = clan.rollout.head
    return (await read_config(objects, head)).upstream if head is not None else ""


def _rank(clan: "Clan") -> int:
    """How many of the members that are up come before this device."""
    up = sorted(clan.mesh.up())
    return up.index(clan.keys.node) if clan.keys.node in up else 0


async def _take(clan: "Clan", signed: SignedHead, bundle: AsyncIterator[bytes]) -> None:
    """Publish what was found, as if it were pushed here. Raises Fault."""
    await publish(
        clan, old=signed.old, new=signed.new, signature=signed.signature, bundle=bundle, progress=_quietly
    )


async def _quietly(text: str) -> None:
    await trio.lowlevel.checkpoint()
    log.debug("upstream: %s", text)
