"""`admin-list` and `admin-pending`: who decides for the clan, how far what they decided is, and what waits."""

import time
from typing import TYPE_CHECKING, Any, Final

from clanmesh_protocol.keys import NodeId, node_text
from clanmesh_protocol.records import SINGLE_SLOT, Acknowledgement, AdminRemove, Kind, Setting
from clanmeshd.calls.decisions import decision_of
from clanmeshd.clan import Clan
from clanmeshd.control import Conversation
from clanmeshd.core.alarms import STALE_S, missed
from clanmeshd.core.hlc import unix_s_of
from clanmeshd.core.phrases import called, operation_text
from clanmeshd.core.resaying import WITHDRAWN
from clanmeshd.driver import instant

if TYPE_CHECKING:
    from clanmeshd.daemon import Daemon

LOST_MAX: Final = 16  # operations on branches that are not followed: the newest


async def list_admins(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`admin-list`: the admins, what operations need, and how fresh this device's knowledge of them is."""
    clan = daemon.need_clan()
    authority = clan.mesh.authority
    chain, age_s = authority.chain, acknowledged_age_s(clan)
    states = {peer.node: peer.state for peer in clan.mesh.peers(instant())}
    return {
        "admins": [_admin_view(clan, each.node, each.weight, states) for each in chain.admins],
        "total_weight": chain.total_weight,
        "thresholds": {"govern": chain.govern, "routine": chain.routine},
        "needed": {"govern": chain.need(AdminRemove.OP), "routine": chain.need(Setting.OP)},
        "recovery": node_text(chain.recovery) if chain.recovery is not None else None,
        "head": authority.head.hex(),
        "number": authority.number,
        "final": {"id": authority.final.hex() if authority.final else None, "number": final_number(clan)},
        "acknowledged_age_s": age_s,
        "stale": age_s is None or age_s > STALE_S,
        "settings": {name: value for name, value in chain.settings.items() if name != WITHDRAWN},
        "signers": len(chain.signers),
        "pending": len(authority.pending),
    }


def _admin_view(clan: Clan, node: NodeId, weight: int, states: dict[NodeId, str]) -> dict[str, Any]:
    authority = clan.mesh.authority
    entry = clan.mesh.ledger.get(node, Kind.ACKNOWLEDGEMENT, SINGLE_SLOT)
    said = entry.content if entry is not None and isinstance(entry.content, Acknowledgement) else None
    return {
        "name": called(authority, node),
        "id": node_text(node),
        "weight": weight,
        "self": node == clan.keys.node,
        "state": states.get(node, "unknown"),
        "acknowledged_unix_s": unix_s_of(entry.value.seq) if entry is not None and said is not None else None,
        "acknowledged_number": said.number if said is not None else None,
        "agrees": said is not None and authority.follows(said.head),
    }


def acknowledged_age_s(clan: Clan) -> float | None:
    """How long ago an admin's device last said that it follows this history; None: never."""
    heard = clan.mesh.authority.acknowledged_unix_s
    return round(max(0.0, time.time() - heard), 1) if heard is not None else None


def final_number(clan: Clan) -> int | None:
    """The number of the newest final operation, when its record is here."""
    final = clan.mesh.authority.final
    record = clan.mesh.ledger.by_short_id(final[:8]) if final is not None else None
    return int(record.slot) if record is not None else None


async def pending(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`admin-pending`: proposals that need more signatures, and decisions that lost against others."""
    clan = daemon.need_clan()
    authority, own = clan.mesh.authority, clan.keys.node
    may = authority.is_admin(own)
    return {
        "pending": [
            {**decision_of(authority, each).view(), "mine": may and own not in each.signers}
            for each in authority.pending
        ],
        "lost": [
            {
                "id": each.id.hex(),
                "number": each.number,
                "operation": operation_text(authority, each.operation),
                "author": called(authority, each.author),
                "at_unix_s": each.at_unix_s,
            }
            for each in missed(authority)[-LOST_MAX:]
        ],
    }
