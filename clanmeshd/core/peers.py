"""How a member looks from this device."""

from bisect import bisect_right
from dataclasses import dataclass

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.records import SINGLE_SLOT, Kind, Status
from clanmeshd.core.authority import Authority, Member
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.membership import Membership
from clanmeshd.core.paths import Paths, is_carried
from clanmeshd.core.subjects import State
from clanmeshd.core.wanted import overlay_address


@dataclass(frozen=True, slots=True)
class Peer:
    """One row of `clanctl peers`. This device itself is one too: `up`, without the rest."""

    node: NodeId
    name: str
    tags: tuple[str, ...]
    address: bytes  # on the overlay, 16 bytes
    state: str  # of State
    endpoint: Endpoint | None  # the one in use; None: none is known, or a stream carries all
    endpoints: tuple[Endpoint, ...]  # that it stands for itself, best first: for streams
    rtt_ms: float | None  # smoothed, since this device started, wherever it was reached
    last_seen_s: float | None  # ago
    status: Status | None
    is_carried: bool = False  # by a stream, in the place of datagrams
    endpoint_rtt_ms: float | None = None  # to the endpoint in use


def describe_all(
    own: NodeId, authority: Authority, ledger: Ledger, membership: Membership, paths: Paths, now_s: float
) -> list[Peer]:
    """Every member, sorted by node id."""
    members = authority.members.values()
    return [describe(member, own, authority, ledger, membership, paths, now_s) for member in members]


def describe(
    member: Member,
    own: NodeId,
    authority: Authority,
    ledger: Ledger,
    membership: Membership,
    paths: Paths,
    now_s: float,
) -> Peer:
    """Put together what the parts know of a member."""
    node = member.node
    address = overlay_address(authority.clan, node)
    entry = ledger.get(node, Kind.STATUS, SINGLE_SLOT)
    status = entry.content if entry is not None and isinstance(entry.content, Status) else None
    if node == own:
        return Peer(node, member.name, member.tags, address, State.UP, None, (), None, None, status)
    heard_s = membership.heard_s(node)
    smoothed_s, round_trip_s = membership.round_trip_s(node), paths.round_trip_s(node)
    at = paths.best(node)
    by_stream = at is not None and is_carried(at)
    return Peer(
        node=node,
        name=member.name,
        tags=member.tags,
        address=address,
        state=membership.state(node),
        endpoint=at if not by_stream else None,
        endpoints=paths.signed(node),
        rtt_ms=smoothed_s * 1000 if smoothed_s is not None else None,
        last_seen_s=max(0.0, now_s - heard_s) if heard_s is not None else None,
        status=status,
        is_carried=by_stream,
        endpoint_rtt_ms=round_trip_s * 1000 if round_trip_s is not None and not by_stream else None,
    )


def nearest(membership: Membership, own: NodeId) -> list[NodeId]:
    """The members that are up, the nearest first. Of those as near each device begins with others."""
    up = membership.up()
    first = bisect_right(up, own)
    return sorted((*up[first:], *up[:first]), key=membership.magnitude)
