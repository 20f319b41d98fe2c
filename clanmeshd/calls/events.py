"""`events`: what happened lately, and a wait for what comes next."""

from typing import TYPE_CHECKING, Any, Final

from clanmesh_protocol.control import Fault
from clanmeshd.calls.arguments import number, number_or_none
from clanmeshd.clan import Clan
from clanmeshd.control import Conversation
from clanmeshd.events import Event

if TYPE_CHECKING:
    from clanmeshd.daemon import Daemon

WAIT_S_MAX: Final = 25  # below any client's patience: one that is gone holds its place no longer than that
_ID_MAX: Final = 1 << 62


async def events(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`events`: all that are kept, or those behind `after`, waiting up to `wait_s` for one."""
    after = number_or_none(args, "after", 0, _ID_MAX)
    wait_s = number(args, "wait_s", 0, 0, WAIT_S_MAX)
    clan = daemon.need_clan()
    ring = clan.driver.events
    found = ring.since(after)
    if not found and wait_s:
        if daemon.watchers.available_tokens == 0:
            total = int(daemon.watchers.total_tokens)
            raise Fault("refused", "waiting for events", f"{total} others watch already", "close one of them")
        async with daemon.watchers:
            found = await ring.wait(after, wait_s)
    return {"events": [_view(clan, event) for event in found], "newest": ring.newest}


def _view(clan: Clan, event: Event) -> dict[str, Any]:
    authority = clan.mesh.authority
    member = authority.members.get(event.node) if event.node is not None else None
    former = authority.former.get(event.node) if event.node is not None else None
    return {
        "id": event.id,
        "at_unix_s": event.at_unix_s,
        "kind": event.kind,
        "text": event.text,
        "node": member.name if member is not None else former,
        "severity": "problem" if event.is_problem else "notice",
    }
