"""New keys on demand: another prekey for datagrams at once, another tunnel key as soon as all know of it."""

from typing import TYPE_CHECKING, Any

from clanmeshd.control import Conversation
from clanmeshd.core.wanted import node_record
from clanmeshd.driver import instant

if TYPE_CHECKING:
    from clanmeshd.daemon import Daemon


async def rotate(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`rotate`: begin to change this device's tunnel key and its prekey.

    `number` counts tunnel keys: that of the key to come; nil when this device may not publish one. `begun` is
    false when a change was under way already: nothing is done then.
    """
    clan = daemon.need_clan()
    begun = clan.mesh.rotate(instant())
    await clan.driver.settle_soon()
    said = node_record(clan.mesh.ledger, clan.mesh.node)
    following = said.tunnel_next if said is not None else None
    return {"number": following.number if following is not None else None, "begun": begun}
