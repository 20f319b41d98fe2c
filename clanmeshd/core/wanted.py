"""What the overlay, the names, the secrets and the rollout should be: pure views of the record set.

Each function takes the authority, the ledger and what only the mesh knows (who is where, who is up), and gives
one complete wanted state. Equal arguments give equal states, so a state that did not change can be told.
"""

import ipaddress
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from clanmesh_protocol.encoding import UINT64_MAX
from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.errors import SignatureError
from clanmesh_protocol.keys import (
    ClanId,
    DeviceKeys,
    NodeId,
    exchange_public,
    tunnel_private,
    tunnel_public_untrusted,
    verify_detached_untrusted,
)
from clanmesh_protocol.limits import DISCOVERY_BYTES
from clanmesh_protocol.names import TAG_ALL
from clanmesh_protocol.records import (
    SINGLE_SLOT,
    Head,
    Kind,
    Node,
    Record,
    RolloutState,
    Secret,
    Status,
    tunnel_proof_input,
)
from clanmesh_protocol.signing import Verified
from clanmeshd.core.authority import Authority
from clanmeshd.core.directives import standing, trials
from clanmeshd.core.effects import (
    HeadClaim,
    Holder,
    SetNames,
    SetRollout,
    SetSecrets,
    SetTunnels,
    Tunnel,
    WantedSecret,
)
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.spreading import sources

PREFIX_BITS: Final = 48
KEEPALIVE_S: Final = 25  # below the 30 s after which common routers forget a UDP flow; none on a private network
TUNNEL_KEYS_REMEMBERED_MAX: Final = 4096  # a proof costs 45 us, and every change of an endpoint asks for all
DISCOVERY_NAME: Final = "clanmesh-discovery"  # how members find one another; none before the first removal
HOLDERS_EACH: Final = 8  # of one commit: the nearest, and some for when these die

_ULA: Final = b"\xfd"  # RFC 4193: locally assigned
_ADDRESS_PERSON: Final = b"clanmesh-address"

# A node in one of these states has fetched what it wants and found the signatures good.
_FETCHED: Final = frozenset(
    {RolloutState.CURRENT, RolloutState.BUILDING, RolloutState.TESTING, RolloutState.SOAKING}
)


# --- addresses -----------------------------------------------------------------------------------------


def overlay_prefix(clan: ClanId) -> bytes:
    """The clan's /48, as its 6 bytes: `fd` and 40 bits of the clan id."""
    return _ULA + clan[: PREFIX_BITS // 8 - 1]


@lru_cache(maxsize=TUNNEL_KEYS_REMEMBERED_MAX)
def overlay_address(clan: ClanId, node: NodeId) -> bytes:
    """A member's address, 16 bytes. It follows from its identity, so nobody can claim another's."""
    return overlay_prefix(clan) + blake2b(node, digest_size=10, person=_ADDRESS_PERSON).digest()


# --- overlay -------------------------------------------------------------------------------------------


def tunnels(
    authority: Authority,
    ledger: Ledger,
    keys: DeviceKeys,
    *,
    listen_port: int,
    endpoints: Mapping[NodeId, Endpoint],
    now_unix_s: float,
    known: "TunnelViews | None" = None,
) -> SetTunnels:
    """A tunnel to each current member. `endpoints` is where control datagrams of a peer were last proven to be."""
    own, views = keys.node, known or TunnelViews()
    members = [member for member in authority.members.values() if member.is_current(now_unix_s)]
    found: dict[bytes, Tunnel] = {}
    for node in sorted(member.node for member in members if member.node != own):
        tunnel = views.view(authority.clan, ledger, node, endpoints.get(node))
        if tunnel is not None:
            found.setdefault(tunnel.public_key, tunnel)  # WireGuard knows peers by key: one that two claim is one
    private = tunnel_private(keys.tunnel_seed)
    found.pop(exchange_public(private), None)
    found = {key: _without_clash(tunnel, found) for key, tunnel in found.items()}
    address = overlay_address(authority.clan, own)
    ordered = sorted(found.values(), key=lambda tunnel: tunnel.node)
    return SetTunnels(private, listen_port, address, PREFIX_BITS, tuple(ordered))


class TunnelViews:
    """Each member's tunnel as it was worked out last: of a thousand, most are as they were when one changes."""

    def __init__(self) -> None:
        self._views: dict[NodeId, tuple[Verified[Record], Endpoint | None, Tunnel | None]] = {}

    def view(self, clan: ClanId, ledger: Ledger, node: NodeId, seen: Endpoint | None) -> Tunnel | None:
        """The tunnel to a member, by its record and where it was last proven to be."""
        entry = ledger.get(node, Kind.NODE, SINGLE_SLOT)
        if entry is None or not isinstance(entry.content, Node):
            return None
        held = self._views.get(node)
        if held is not None and held[0] is entry and held[1] == seen:
            return held[2]
        tunnel = _tunnel(clan, node, entry.content, seen)
        self._views[node] = (entry, seen, tunnel)
        return tunnel

    def retain(self, members: Container[NodeId]) -> None:
        """Forget all others."""
        self._views = {node: view for node, view in self._views.items() if node in members}


def _without_clash(tunnel: Tunnel, found: Mapping[bytes, Tunnel]) -> Tunnel:
    return replace(tunnel, following=None) if tunnel.following in found else tunnel


def _tunnel(clan: ClanId, node: NodeId, content: Node, seen: Endpoint | None) -> Tunnel | None:
    public_key = _proven_tunnel_key(clan, node, content.tunnel_key, content.tunnel_number, content.tunnel_proof)
    if public_key is None:
        return None
    # Control datagrams may travel inside the tunnel; the tunnel itself must not.
    inside = overlay_prefix(clan)
    candidates = (seen, *content.endpoints) if seen is not None else content.endpoints
    at = next((candidate for candidate in candidates if not candidate.ip.startswith(inside)), None)
    endpoint = Endpoint(at.ip, content.tunnel_port) if at is not None and content.tunnel_port else None
    keepalive_s = KEEPALIVE_S if at is not None and not ipaddress.ip_address(at.ip).is_private else 0
    said = content.tunnel_next
    following = _proven_tunnel_key(clan, node, said.key, said.number, said.proof) if said is not None else None
    return Tunnel(node, public_key, overlay_address(clan, node), endpoint, keepalive_s, following)


@lru_cache(maxsize=TUNNEL_KEYS_REMEMBERED_MAX)
def _proven_tunnel_key(clan: ClanId, node: NodeId, key: bytes, number: int, proof: bytes) -> bytes | None:
    """WireGuard's X25519 key, when its owner has signed that it is this node's; a claim on another's is not."""
    try:
        verify_detached_untrusted(key, tunnel_proof_input(clan, node, number), proof)
        return tunnel_public_untrusted(key)
    except SignatureError:
        return None


def node_record(ledger: Ledger, node: NodeId) -> Node | None:
    """What a node publishes of itself."""
    entry = ledger.get(node, Kind.NODE, SINGLE_SLOT)
    return entry.content if entry is not None and isinstance(entry.content, Node) else None


# --- names ---------------------------------------------------------------------------------------------


def names(authority: Authority, now_unix_s: float) -> SetNames:
    """The names of all current members, this device too."""
    domain = f"{authority.clan_name}.internal"
    addresses = [
        (f"{member.name}.{domain}", overlay_address(authority.clan, member.node))
        for member in authority.members.values()
        if member.is_current(now_unix_s)
    ]
    return SetNames(domain, tuple(sorted(addresses)))


# --- secrets -------------------------------------------------------------------------------------------


def newest_secrets(ledger: Ledger, authority: Authority) -> tuple[WantedSecret, ...]:
    """The secrets that there are, each with the value that stands, sorted by name."""
    return tuple(item for item in standing_values(ledger, authority) if not item.secret.is_removed)


def standing_values(ledger: Ledger, authority: Authority) -> tuple[WantedSecret, ...]:
    """What stands under each name, removals among it, sorted by name: highest epoch, then higher record id.

    Of the discovery secret no value counts but of its one form: a member could have another stand for ever, since
    nobody would replace it. A member's value goes before any by a key that was removed, whatever its epoch; one of
    those stands only as long as there is no other, so that removing a device takes no service down.
    """
    best: dict[str, tuple[tuple[bool, int, bytes], WantedSecret]] = {}
    for entry in ledger.of_kind(Kind.SECRET):
        record, content = entry.value, entry.content
        if not isinstance(content, Secret) or not _has_form(record.slot, content):
            continue
        if not (authority.is_member(record.author) or authority.is_vouched(record.author)):
            continue
        rank = (authority.is_member(record.author), content.epoch, record.id)
        if record.slot not in best or rank > best[record.slot][0]:
            best[record.slot] = (rank, WantedSecret(record.slot, record.author, record.id, content))
    return tuple(best[name][1] for name in sorted(best))


def _has_form(name: str, secret: Secret) -> bool:
    return name != DISCOVERY_NAME or (secret.random_bytes == DISCOVERY_BYTES and TAG_ALL in secret.targets)


def secrets(authority: Authority, ledger: Ledger, node: NodeId) -> SetSecrets:
    """All secrets that `node` holds a key to. The generation is the sum of their epochs."""
    readable = tuple(
        item
        for item in newest_secrets(ledger, authority)
        if authority.is_member(node) and any(wrap.node == node for wrap in item.secret.wraps)
    )
    generation = min(sum(item.secret.epoch for item in readable), UINT64_MAX)
    return SetSecrets(authority.clan, readable, generation)


# --- rollout -------------------------------------------------------------------------------------------


def rollout(
    authority: Authority,
    ledger: Ledger,
    node: NodeId,
    *,
    reachable: Sequence[NodeId],
    endpoints: Callable[[NodeId], Sequence[Endpoint]],
    now_unix_s: float,
) -> SetRollout:
    """What is claimed of the configuration, and whom to fetch it from: `reachable` members, nearest first."""
    member = authority.members.get(node)
    heads = _head_claims(ledger)
    others = [peer for peer in reachable if peer != node and authority.is_member(peer)]
    return SetRollout(
        clan=authority.clan,
        node_name=member.name if member is not None else "",
        tags=member.tags if member is not None else (),
        signers=authority.signers,
        checkpoints=authority.checkpoints,
        heads=heads,
        holders=tuple(_holders(ledger, heads, others, endpoints)),
        resolutions=authority.resolutions,
        orders=standing(authority, ledger),
        trials=trials(authority, ledger, node, now_unix_s),
        relays=tuple(_relays(ledger, heads, node, others, endpoints)),
    )


def _holders(
    ledger: Ledger,
    heads: Sequence[HeadClaim],
    others: Iterable[NodeId],
    endpoints: Callable[[NodeId], Sequence[Endpoint]],
) -> Iterator[Holder]:
    """The nearest holders of each commit that is claimed: of a new one there may be a single one, far away."""
    wanting = Counter({claim.new: HOLDERS_EACH for claim in heads})
    authored: dict[NodeId, set[bytes]] = {}
    for claim in heads:
        authored.setdefault(claim.author, set()).add(claim.new)
    for peer in others:
        commits = _commits(ledger, peer) | authored.get(peer, set())
        short = [commit for commit in commits if wanting[commit] > 0]
        if short and (at := endpoints(peer)):
            wanting.subtract(short)
            yield Holder(peer, tuple(at), frozenset(commits))


def _relays(
    ledger: Ledger,
    heads: Sequence[HeadClaim],
    node: NodeId,
    others: Sequence[NodeId],
    endpoints: Callable[[NodeId], Sequence[Endpoint]],
) -> Iterator[Holder]:
    """Who passes on what this device does not have yet, of the heads that no other one moved on from."""
    here = _commits(ledger, node) | {claim.new for claim in heads if claim.author == node}
    left_behind = {claim.old for claim in heads}
    for claim in heads:
        if claim.new not in here | left_behind:
            for peer in sources(claim.new, claim.author, node, others):
                if at := endpoints(peer):
                    yield Holder(peer, tuple(at), frozenset((claim.new,)))


def _head_claims(ledger: Ledger) -> tuple[HeadClaim, ...]:
    """Claims by removed devices count too: it is the SSH signature in them that decides."""
    claims = [
        HeadClaim(
            entry.value.author, entry.value.slot, entry.content.old, entry.content.new, entry.content.signature
        )
        for entry in ledger.of_kind(Kind.HEAD)
        if isinstance(entry.content, Head)
    ]
    return tuple(sorted(claims, key=lambda claim: (claim.ref, claim.author)))


def _commits(ledger: Ledger, peer: NodeId) -> set[bytes]:
    commits: set[bytes] = set()
    entry = ledger.get(peer, Kind.STATUS, SINGLE_SLOT)
    if entry is not None and isinstance(entry.content, Status):
        status = entry.content
        commits |= {commit for commit in (status.commit,) if commit is not None}
        if status.rollout in _FETCHED and status.wanted is not None:
            commits.add(status.wanted)
    return commits
