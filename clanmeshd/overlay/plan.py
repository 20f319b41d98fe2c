"""The difference between the overlay that is and the one that is wanted, as steps. Pure.

1. Only differences are sent: an unchanged peer is not mentioned, so its session lives on.
2. Peers that are not wanted go first: an evicted one loses its way in even if a later step fails.
3. Each peer's AllowedIPs are replaced as a whole. WireGuard gives an address to one peer only, so moving an
   address takes it from the old owner.
4. An endpoint is sent when it is another than the one last wanted, not when it is another than the one that
   WireGuard uses: WireGuard follows an authentic packet to wherever its peer went, and knows better.
   A device that we find after a restart keeps the endpoints of its live sessions. But where it followed packets
   that were on their way through a relay, which is left, it is brought back: the peer followed ours likewise.
5. A key that takes another's place takes over its endpoint too, for the same reason.
6. A peer's next key is not configured while the one in use is alive: WireGuard would answer its handshake, and
   then drop what comes with it. Where the record that should say so does not arrive, the old key falls silent; the
   next one is then let in, and gets the address when it is the last that was heard.
7. A peer that nothing came from yet, and that gets another endpoint, is made anew. WireGuard leaves five seconds
   between two handshakes, also when the first one went nowhere; of a new peer it knows of none. Once anything
   came, the peer may have a session that this side does not show yet, and would go on with it into the void.
8. One that sleeps is where WireGuard rings for it, and is brought back there when a last packet of the peer's had
   it follow. Once awake it is not made anew for being elsewhere: what WireGuard has for it waits there, and its
   handshake is sent on.
9. Link-local addresses, IPv4 ones and routes to elsewhere are none of our business.
10. A packet is as large as was proven to arrive, and no larger: the clan's network is routed with the least that
   IPv6 allows, and each peer that more was proven of has a route of its own. The interface takes more, for proofs.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import ClassVar, Final, TypeAlias

from clanmesh_protocol.endpoints import Endpoint
from clanmeshd.core.effects import SetTunnels, Tunnel
from clanmeshd.overlay.device import ADDRESS_BITS, Device, Link, Network, Peer, WireGuard, may_have_session

MTU_BYTES: Final = 1420  # WireGuard over IPv6 in an Ethernet frame: 1500 - 40 - 8 - 32
MTU_PROVEN_BYTES: Final = 1280  # of everybody: RFC 8200, 5
ALLOWED_REMEMBERED_MAX: Final = 2048  # of twice as many peers as there may be


@dataclass(frozen=True, slots=True)
class Create:
    """Make the interface."""

    what: ClassVar[str] = "the interface"


@dataclass(frozen=True, slots=True)
class SetPeer:
    """Add a peer, or change what is not None of one that is there."""

    public_key: bytes
    present: bool
    allowed: frozenset[Network] | None
    endpoint: Endpoint | None
    keepalive_s: int | None


@dataclass(frozen=True, slots=True)
class Configure:
    """Change the WireGuard half; None: leave as it is. Who is removed and among the peers as well is made anew."""

    private_key: bytes | None = field(default=None, repr=False)
    listen_port: int | None = None
    removed: tuple[bytes, ...] = ()
    peers: tuple[SetPeer, ...] = ()


@dataclass(frozen=True, slots=True)
class SetMtu:
    """Set the largest packet, in bytes."""

    what: ClassVar[str] = "its MTU"

    mtu: int


@dataclass(frozen=True, slots=True)
class SetUp:
    """Switch the interface on."""

    what: ClassVar[str] = "it was down"


@dataclass(frozen=True, slots=True)
class AddAddress:
    """Add an address to the interface."""

    what: ClassVar[str] = "its address"

    address: Network


@dataclass(frozen=True, slots=True)
class RemoveAddress:
    """Remove an address from the interface."""

    what: ClassVar[str] = "a foreign address"

    address: Network


@dataclass(frozen=True, slots=True)
class AddRoute:
    """Route a network through the interface, with packets of at most so many bytes."""

    what: ClassVar[str] = "its route"

    route: Network
    mtu: int


@dataclass(frozen=True, slots=True)
class RemoveRoute:
    """No longer route a network through the interface."""

    what: ClassVar[str] = "a former route"

    route: Network


Step: TypeAlias = Create | Configure | SetMtu | SetUp | AddAddress | RemoveAddress | AddRoute | RemoveRoute

_FRESH: Final = Device(Link(index=0, kind="", alias="", mtu=0, up=False), WireGuard())


def plan(
    current: Device | None,
    wanted: SetTunnels,
    *,
    applied: Mapping[bytes, Endpoint | None],
    now_unix_s: float,
) -> list[Step]:
    """The steps from `current` (None: there is no interface) to `wanted`; none when nothing differs.

    `applied` holds the endpoint that was last wanted for each peer that we have configured, by public key.
    """
    if current is None:
        return [Create(), *plan(_FRESH, wanted, applied={}, now_unix_s=now_unix_s)]
    steps: list[Step] = []
    configure = _configure(current.wireguard, wanted, applied, now_unix_s)
    if configure != Configure():
        steps.append(configure)
    steps.extend(_link_steps(current.link, wanted))
    return steps


def network_of(ip: bytes, bits: int) -> Network:
    """The network of this prefix length that a 16-byte address lies in."""
    mask = (1 << ADDRESS_BITS) - (1 << (ADDRESS_BITS - bits))
    return Network((int.from_bytes(ip, "big") & mask).to_bytes(16, "big"), bits)


def _link_steps(link: Link, wanted: SetTunnels) -> Iterator[Step]:
    own = Network(wanted.address, ADDRESS_BITS)
    route = network_of(wanted.address, wanted.prefix_bits)
    foreign = sorted(link.addresses - {own})
    # A former address's network is a route that we made for it: the device has changed its clan.
    former = {network_of(address.ip, wanted.prefix_bits) for address in foreign} - {route}
    routes = {route: MTU_PROVEN_BYTES, **_routes_of_their_own(wanted)}
    # Where the interface's MTU changes, the kernel changes that of routes as well: then they are all made anew.
    lasting = routes if link.mtu == MTU_BYTES else {}
    stale = set(_stale(link, lasting, {*former, route}, wanted.prefix_bits))
    yield from map(RemoveRoute, sorted(stale))
    yield from map(RemoveAddress, foreign)
    if link.mtu != MTU_BYTES:
        yield SetMtu(MTU_BYTES)
    if not link.up:
        yield SetUp()
    if own not in link.addresses:
        yield AddAddress(own)
    yield from (AddRoute(each, mtu) for each, mtu in routes.items() if each in stale or each not in link.routes)


def _routes_of_their_own(wanted: SetTunnels) -> dict[Network, int]:
    larger = (tunnel for tunnel in wanted.tunnels if tunnel.mtu > MTU_PROVEN_BYTES)
    return {_host(tunnel.address): min(tunnel.mtu, MTU_BYTES) for tunnel in larger}


@lru_cache(maxsize=ALLOWED_REMEMBERED_MAX)
def _host(address: bytes) -> Network:
    return Network(address, ADDRESS_BITS)


def _stale(link: Link, routes: Mapping[Network, int], clans: set[Network], prefix_bits: int) -> Iterator[Network]:
    """Routes of ours that are to go, or to be made anew with another MTU: those of clans, and of peers in them."""
    for each, mtu in link.routes.items():
        if routes.get(each) == mtu:
            continue  # as nearly all of hundreds: whose it is takes longer to say
        is_peers = mtu and each.bits == ADDRESS_BITS and network_of(each.ip, prefix_bits) in clans
        if is_peers or each in clans or each in routes:
            yield each


def _configure(
    current: WireGuard, wanted: SetTunnels, applied: Mapping[bytes, Endpoint | None], now_unix_s: float
) -> Configure:
    unsettled = [
        tunnel for tunnel in wanted.tunnels if not _is_settled(tunnel, current.peers.get(tunnel.public_key))
    ]
    tunnels = [each for tunnel in unsettled for each in _routed(current, tunnel, now_unix_s)]
    keys = {tunnel.public_key for tunnel in wanted.tunnels} | {tunnel.public_key for tunnel, _ in tunnels}
    peers = tuple(_changed_peers(current, tunnels, applied, wanted.bell, now_unix_s))
    anew = {peer.public_key for peer in peers if not peer.present}
    return Configure(
        private_key=wanted.private_key if current.private_key != _clamped(wanted.private_key) else None,
        listen_port=wanted.listen_port if current.listen_port != wanted.listen_port else None,
        removed=tuple(sorted((current.peers.keys() - keys) | (current.peers.keys() & anew))),
        peers=peers,
    )


def _clamped(private_key: bytes) -> bytes:
    """The form in which WireGuard keeps a key; to send one again would end every session."""
    return bytes((private_key[0] & 248, *private_key[1:31], private_key[31] & 127 | 64))


def _is_settled(tunnel: Tunnel, peer: Peer | None) -> bool:
    """Whether all is as wanted, as with nearly all of hundreds: what to do about others takes longer to say."""
    return (
        peer is not None
        and tunnel.following is None
        and tunnel.endpoint in (None, peer.endpoint)
        and tunnel.keepalive_s == peer.keepalive_s
        and peer.allowed == _allowed(tunnel.address)
    )


@lru_cache(maxsize=ALLOWED_REMEMBERED_MAX)
def _allowed(address: bytes) -> frozenset[Network]:
    return frozenset({_host(address)})


def _routed(current: WireGuard, tunnel: Tunnel, now_unix_s: float) -> list[tuple[Tunnel, bool]]:
    """The tunnel, and the one by its next key when that is needed; each with whether it has the address."""
    peer = current.peers.get(tunnel.public_key)
    if tunnel.following is None or peer is None or may_have_session(peer, now_unix_s):
        return [(tunnel, True)]
    successor = current.peers.get(tunnel.following)
    moved = successor is not None and successor.handshake_unix_s > peer.handshake_unix_s
    by_next = replace(tunnel, public_key=tunnel.following, following=None)
    return [(tunnel, not moved), (by_next, moved)]


def _changed_peers(
    current: WireGuard,
    tunnels: Iterable[tuple[Tunnel, bool]],
    applied: Mapping[bytes, Endpoint | None],
    bell: Endpoint | None,
    now_unix_s: float,
) -> Iterator[SetPeer]:
    for tunnel, has_address in tunnels:
        key = tunnel.public_key
        peer = current.peers.get(key)
        network = Network(tunnel.address, ADDRESS_BITS)
        allowed = _allowed(tunnel.address) if has_address else frozenset()
        if peer is None:
            endpoint = _inherited(current, network, now_unix_s) or tunnel.endpoint
            yield SetPeer(key, False, allowed, endpoint, tunnel.keepalive_s)
            continue
        endpoint = _endpoint_to_send(tunnel, peer, applied, bell, now_unix_s)
        is_unheard = not peer.rx_bytes and not may_have_session(peer, now_unix_s)
        if endpoint is not None and is_unheard and (bell is None or bell not in (endpoint, peer.endpoint)):
            yield SetPeer(key, False, allowed, endpoint, tunnel.keepalive_s)
            continue
        change = SetPeer(
            key,
            True,
            allowed if peer.allowed != allowed else None,
            endpoint,
            tunnel.keepalive_s if peer.keepalive_s != tunnel.keepalive_s else None,
        )
        if change.allowed is not None or change.endpoint is not None or change.keepalive_s is not None:
            yield change


def _endpoint_to_send(
    tunnel: Tunnel,
    peer: Peer,
    applied: Mapping[bytes, Endpoint | None],
    bell: Endpoint | None,
    now_unix_s: float,
) -> Endpoint | None:
    """None: leave the peer's endpoint as it is. WireGuard has no way to forget one."""
    if tunnel.endpoint is None or tunnel.endpoint == peer.endpoint:
        return None
    if peer.endpoint in (None, tunnel.not_at):
        return tunnel.endpoint
    if tunnel.endpoint == bell and tunnel.public_key in applied:
        return bell
    if tunnel.public_key in applied:
        return tunnel.endpoint if applied[tunnel.public_key] != tunnel.endpoint else None
    return None if may_have_session(peer, now_unix_s) else tunnel.endpoint


def _inherited(current: WireGuard, network: Network, now_unix_s: float) -> Endpoint | None:
    """Where the present owner of an address is, as WireGuard knows by packets of its."""
    owners = (peer for peer in current.peers.values() if network in peer.allowed)
    return next((peer.endpoint for peer in owners if may_have_session(peer, now_unix_s)), None)
