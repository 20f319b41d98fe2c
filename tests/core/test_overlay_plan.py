"""The overlay's plan, as a table: what is, what is wanted, the steps between."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmeshd.core.effects import SetTunnels, Tunnel
from clanmeshd.overlay.device import SESSION_S, Device, Link, Network, Peer, WireGuard
from clanmeshd.overlay.plan import (
    MTU_BYTES,
    AddAddress,
    AddRoute,
    Configure,
    Create,
    RemoveAddress,
    RemoveRoute,
    SetMtu,
    SetPeer,
    SetUp,
    Step,
    network_of,
    plan,
)

NOW_S = 1_000_000.0
PRIVATE = bytes([0xA8]) + bytes(30) + bytes([0x68])  # as WireGuard keeps it
PREFIX = bytes.fromhex("fd0102030405")
OWN = PREFIX + bytes(9) + b"\x01"
ROUTE = Network(PREFIX + bytes(10), 48)
HOME = Endpoint(bytes([192, 0, 2, 1]), 51872)
AWAY = Endpoint(bytes([198, 51, 100, 7]), 4500)
A, B, C = (bytes([letter]) * 32 for letter in b"ABC")


def address(key: bytes) -> bytes:
    """The overlay address that the tests give a peer."""
    return PREFIX + key[:10]


def tunnel(key: bytes, endpoint: Endpoint | None = HOME, keepalive_s: int = 0) -> Tunnel:
    """A wanted peer."""
    return Tunnel(NodeId(key), key, address(key), endpoint, keepalive_s)


def wanted(*tunnels: Tunnel) -> SetTunnels:
    """A wanted state with these peers."""
    return SetTunnels(PRIVATE, 51872, OWN, 48, tunnels)


def peer(key: bytes, endpoint: Endpoint | None = HOME, **fields: int) -> Peer:
    """A peer as the device shows it."""
    return Peer(frozenset({Network(address(key), 128)}), endpoint=endpoint, **fields)


LINK = Link(7, "tun", "clanmesh", MTU_BYTES, True, frozenset({Network(OWN, 128)}), {ROUTE: 1280})


def device(
    peers: dict[bytes, Peer] | None = None,
    *,
    link: Link = LINK,
    private_key: bytes | None = PRIVATE,
    listen_port: int = 51872,
) -> Device:
    """A device that is as wanted but for what is said."""
    return Device(link, WireGuard(private_key, listen_port, peers or {}))


def add(key: bytes) -> SetPeer:
    """The step that adds a peer."""
    return SetPeer(key, False, frozenset({Network(address(key), 128)}), HOME, 0)


def change(
    key: bytes,
    *,
    allowed: frozenset[Network] | None = None,
    endpoint: Endpoint | None = None,
    keepalive_s: int | None = None,
) -> Configure:
    """The step that changes one peer."""
    return Configure(peers=(SetPeer(key, True, allowed, endpoint, keepalive_s),))


ALLOWED_A = frozenset({Network(address(A), 128)})
TO_A = Network(address(A), 128)
V4 = Network(bytes([10, 0, 0, 0]), 8)
OLD = bytes.fromhex("fdaaaaaaaaaa") + bytes(9) + b"\x05"
OLD_ROUTE = Network(bytes.fromhex("fdaaaaaaaaaa") + bytes(10), 48)
OLD_PEER = Network(bytes.fromhex("fdaaaaaaaaaa") + bytes(9) + b"\x07", 128)
THEIR_ROUTE = Network(bytes.fromhex("20010db80009") + bytes(10), 48)

TABLE: list[tuple[str, Device | None, SetTunnels, list[Step]]] = [
    ("all is as wanted", device({A: peer(A)}), wanted(tunnel(A)), []),
    (
        "nothing is there",
        None,
        wanted(tunnel(A)),
        [
            Create(),
            Configure(PRIVATE, 51872, (), (add(A),)),
            SetMtu(MTU_BYTES),
            SetUp(),
            AddAddress(Network(OWN, 128)),
            AddRoute(ROUTE, 1280),
        ],
    ),
    ("a peer comes", device({A: peer(A)}), wanted(tunnel(A), tunnel(B)), [Configure(peers=(add(B),))]),
    ("a peer goes", device({A: peer(A), B: peer(B)}), wanted(tunnel(A)), [Configure(removed=(B,))]),
    (
        "one goes and one comes",
        device({A: peer(A), B: peer(B)}),
        wanted(tunnel(A), tunnel(C)),
        [Configure(removed=(B,), peers=(add(C),))],
    ),
    (
        "a key rotates: the address goes to the new one",
        device({A: peer(A)}),
        wanted(replace(tunnel(A), public_key=B)),
        [Configure(removed=(A,), peers=(SetPeer(B, False, ALLOWED_A, HOME, 0),))],
    ),
    ("the port", device(listen_port=1), wanted(), [Configure(listen_port=51872)]),
    ("a lost port", device(listen_port=0), wanted(), [Configure(listen_port=51872)]),
    ("the private key", device(private_key=bytes(32)), wanted(), [Configure(private_key=PRIVATE)]),
    ("no private key yet", device(private_key=None), wanted(), [Configure(private_key=PRIVATE)]),
    ("the keepalive", device({A: peer(A)}), wanted(tunnel(A, keepalive_s=25)), [change(A, keepalive_s=25)]),
    (
        "the keepalive goes",
        device({A: peer(A, keepalive_s=25)}),
        wanted(tunnel(A)),
        [change(A, keepalive_s=0)],
    ),
    (
        "somebody widened its AllowedIPs",
        device({A: Peer(ALLOWED_A | {V4}, endpoint=HOME)}),
        wanted(tunnel(A)),
        [change(A, allowed=ALLOWED_A)],
    ),
    (
        "somebody took its AllowedIPs",
        device({A: Peer(frozenset(), endpoint=HOME)}),
        wanted(tunnel(A)),
        [change(A, allowed=ALLOWED_A)],
    ),
    (
        "it has no endpoint yet",
        device({A: peer(A, None)}),
        wanted(tunnel(A)),
        [Configure(removed=(A,), peers=(add(A),))],
    ),
    ("no endpoint is wanted any more", device({A: peer(A)}), wanted(tunnel(A, None)), []),
    ("it is switched off", device(link=replace(LINK, up=False)), wanted(), [SetUp()]),
    (
        "the MTU, with which the kernel has changed the routes'",
        device({A: peer(A)}, link=replace(LINK, mtu=1280, routes={ROUTE: 1280, TO_A: 1280, THEIR_ROUTE: 1280})),
        wanted(replace(tunnel(A), mtu=1420)),
        [RemoveRoute(ROUTE), RemoveRoute(TO_A), SetMtu(MTU_BYTES), AddRoute(ROUTE, 1280), AddRoute(TO_A, 1420)],
    ),
    ("the address", device(link=replace(LINK, addresses=frozenset())), wanted(), [AddAddress(Network(OWN, 128))]),
    ("the route", device(link=replace(LINK, routes={})), wanted(), [AddRoute(ROUTE, 1280)]),
    (
        "a route of somebody else's stays",
        device(link=replace(LINK, routes={ROUTE: 1280, THEIR_ROUTE: 0})),
        wanted(),
        [],
    ),
    (
        "another clan was here",
        device(
            link=replace(
                LINK,
                addresses=frozenset({Network(OLD, 128)}),
                routes={OLD_ROUTE: 1280, THEIR_ROUTE: 0, OLD_PEER: 1420},
            )
        ),
        wanted(),
        [
            RemoveRoute(OLD_ROUTE),
            RemoveRoute(OLD_PEER),
            RemoveAddress(Network(OLD, 128)),
            AddAddress(Network(OWN, 128)),
            AddRoute(ROUTE, 1280),
        ],
    ),
    (
        "an earlier version routed without an MTU",
        device(link=replace(LINK, routes={ROUTE: 0})),
        wanted(),
        [RemoveRoute(ROUTE), AddRoute(ROUTE, 1280)],
    ),
    (
        "more was proven of one peer",
        device({A: peer(A), B: peer(B)}),
        wanted(replace(tunnel(A), mtu=1420), replace(tunnel(B), mtu=1280)),
        [AddRoute(TO_A, 1420)],
    ),
    (
        "its route is there",
        device({A: peer(A)}, link=replace(LINK, routes={ROUTE: 1280, TO_A: 1420})),
        wanted(replace(tunnel(A), mtu=1420)),
        [],
    ),
    (
        "less is proven by now",
        device({A: peer(A)}, link=replace(LINK, routes={ROUTE: 1280, TO_A: 1420})),
        wanted(replace(tunnel(A), mtu=1360)),
        [RemoveRoute(TO_A), AddRoute(TO_A, 1360)],
    ),
    (
        "nothing is known any more",
        device({A: peer(A)}, link=replace(LINK, routes={ROUTE: 1280, TO_A: 1420})),
        wanted(tunnel(A)),
        [RemoveRoute(TO_A)],
    ),
    (
        "the peer is gone, and a route by hand is not ours",
        device(link=replace(LINK, routes={ROUTE: 1280, TO_A: 1420, Network(address(B), 128): 0})),
        wanted(),
        [RemoveRoute(TO_A)],
    ),
    (
        "more than the interface takes is never routed",
        device({A: peer(A)}),
        wanted(replace(tunnel(A), mtu=9000)),
        [AddRoute(TO_A, 1420)],
    ),
    (
        "our address with a prefix of its own",
        device(link=replace(LINK, addresses=frozenset({Network(OWN, 64)}))),
        wanted(),
        [RemoveAddress(Network(OWN, 64)), AddAddress(Network(OWN, 128))],
    ),
]


@pytest.mark.parametrize(("current", "goal", "steps"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_plan(current: Device | None, goal: SetTunnels, steps: list[Step]) -> None:
    """Each row, where we have applied the same before."""
    applied = {each.public_key: each.endpoint for each in goal.tunnels}
    assert plan(current, goal, applied=applied, now_unix_s=NOW_S) == steps


ROAMED = device({A: peer(A, AWAY, handshake_unix_s=int(NOW_S) - 10)})
DEAD = device({A: peer(A, AWAY, handshake_unix_s=int(NOW_S) - SESSION_S)})
NEVER = device({A: peer(A, AWAY)})
BEGUN = device({A: peer(A, AWAY, rx_bytes=148)})


@pytest.mark.parametrize(
    ("current", "applied", "sent"),
    [
        (ROAMED, {A: HOME}, None),
        (DEAD, {A: HOME}, None),
        (ROAMED, {A: Endpoint(HOME.ip, 1)}, HOME),
        (ROAMED, {A: None}, HOME),
        (ROAMED, {}, None),
        (DEAD, {}, HOME),
        (NEVER, {}, HOME),
        (BEGUN, {}, HOME),
        (device({A: peer(A, HOME)}), {A: AWAY}, None),
    ],
    ids=[
        "it roamed: it stays where it is",
        "it roamed and fell silent: WireGuard tries on",
        "another endpoint is wanted now",
        "an endpoint is wanted for the first time",
        "found after a restart, alive: it stays",
        "found after a restart, its session over",
        "found after a restart, never reached",
        "a handshake of its has just come",
        "it is where it is wanted already",
    ],
)
def test_endpoints(current: Device, applied: dict[bytes, Endpoint | None], sent: Endpoint | None) -> None:
    """WireGuard's own roaming is overruled only by news."""
    steps = plan(current, wanted(tunnel(A)), applied=applied, now_unix_s=NOW_S)
    anew = Configure(removed=(A,), peers=(add(A),))  # without a session there is nothing to lose
    expected = change(A, endpoint=sent) if current in (ROAMED, BEGUN) else anew
    assert steps == ([] if sent is None else [expected])


def test_what_followed_packets_through_a_relay_that_is_left_is_brought_back() -> None:
    """Both sides would else answer wherever the last packet came from, for ever by the relay."""
    goal = wanted(replace(tunnel(A), not_at=AWAY))
    assert plan(ROAMED, goal, applied={A: HOME}, now_unix_s=NOW_S) == [change(A, endpoint=HOME)]
    elsewhere = wanted(replace(tunnel(A), not_at=Endpoint(AWAY.ip, 1)))
    assert plan(ROAMED, elsewhere, applied={A: HOME}, now_unix_s=NOW_S) == []


def test_one_that_sleeps_is_where_it_rings_whatever_it_followed_and_is_not_made_anew() -> None:
    """Also while a session is good. A session that was there before this run stays where it is."""
    bell = Endpoint(bytes([127, 0, 0, 1]), 40_000)

    def steps(
        goal: Endpoint | None, at: Endpoint, applied: dict[bytes, Endpoint | None], **fields: int
    ) -> list[Step]:
        current = device({A: peer(A, at, **fields)})
        return plan(current, replace(wanted(tunnel(A, goal)), bell=bell), applied=applied, now_unix_s=NOW_S)

    alive = {"rx_bytes": 1, "handshake_unix_s": int(NOW_S) - 1}
    asleep = [change(A, endpoint=bell)]
    assert steps(bell, HOME, {A: HOME}) == asleep
    assert steps(bell, AWAY, {A: bell}, **alive) == steps(bell, AWAY, {A: bell}) == asleep
    assert steps(bell, bell, {A: bell}) == []
    assert steps(bell, AWAY, {}, **alive) == []
    assert steps(bell, AWAY, {}) == asleep
    assert steps(None, AWAY, {A: bell}, **alive) == steps(None, bell, {A: bell}) == []
    assert steps(HOME, bell, {A: bell}) == [change(A, endpoint=HOME)]


def test_a_key_that_is_not_clamped_is_not_sent_again() -> None:
    """WireGuard keeps a clamped form; sending the key at each check would end every session each time."""
    loose = bytes([0xAF]) + bytes(30) + bytes([0xE8])
    assert plan(device(), replace(wanted(), private_key=loose), applied={}, now_unix_s=NOW_S) == []


def test_the_private_key_is_not_shown() -> None:
    """Steps may be logged."""
    steps = plan(None, wanted(), applied={}, now_unix_s=NOW_S)
    assert any(isinstance(step, Configure) and step.private_key == PRIVATE for step in steps)
    for shown in (repr(steps), repr(device()), repr(wanted())):
        assert repr(PRIVATE)[2:-1] not in shown


@pytest.mark.parametrize(
    ("bits", "network"),
    [(48, PREFIX + bytes(10)), (128, OWN), (0, bytes(16)), (8, b"\xfd" + bytes(15))],
)
def test_network_of(bits: int, network: bytes) -> None:
    """Host bits are cut off."""
    assert network_of(OWN, bits) == Network(network, bits)


def walked(current: WireGuard, configure: Configure) -> WireGuard:
    """A model of WireGuard: what a change makes of a device."""
    peers = {key: known for key, known in current.peers.items() if key not in configure.removed}
    for step in configure.peers:
        if step.allowed is not None:
            peers = {key: replace(known, allowed=known.allowed - step.allowed) for key, known in peers.items()}
        known = peers.get(step.public_key, Peer())
        peers[step.public_key] = Peer(
            step.allowed if step.allowed is not None else known.allowed,
            step.keepalive_s if step.keepalive_s is not None else known.keepalive_s,
            step.endpoint or known.endpoint,
        )
    return WireGuard(
        configure.private_key or current.private_key,
        configure.listen_port if configure.listen_port is not None else current.listen_port,
        peers,
    )


KEYS = st.integers(0, 5).map(lambda number: bytes([number]) * 32)
ADDRESSES = st.integers(0, 5).map(lambda number: PREFIX + bytes([number]) * 10)
ENDPOINTS = st.sampled_from([None, HOME, AWAY])
DEVICES = st.dictionaries(KEYS, st.tuples(ADDRESSES, ENDPOINTS, st.sampled_from([0, 25])), max_size=6)
WANTED = st.dictionaries(KEYS, st.tuples(ENDPOINTS, st.sampled_from([0, 25])), max_size=6)


@given(DEVICES, WANTED, st.permutations(range(6)))
def test_one_walk_arrives(
    found: dict[bytes, tuple[bytes, Endpoint | None, int]],
    goal: dict[bytes, tuple[Endpoint | None, int]],
    places: list[int],
) -> None:
    """From whatever is there, one plan leads to what is wanted, and the next one is empty.

    Addresses move between peers here, and WireGuard gives each to one peer only.
    """
    owners = {ip: key for key, (ip, _, _) in found.items()}
    peers = {
        key: Peer(frozenset({Network(ip, 128)}) if owners[ip] == key else frozenset(), keepalive_s, endpoint)
        for key, (ip, endpoint, keepalive_s) in found.items()
    }
    tunnels = tuple(
        Tunnel(NodeId(key), key, PREFIX + bytes([places[key[0]]]) * 10, endpoint, keepalive_s)
        for key, (endpoint, keepalive_s) in sorted(goal.items())
    )
    current, aim = device(peers), wanted(*tunnels)
    steps = plan(current, aim, applied={}, now_unix_s=NOW_S)
    (configure,) = steps or [Configure()]
    assert isinstance(configure, Configure)
    after = walked(current.wireguard, configure)
    assert {key: known.allowed for key, known in after.peers.items()} == {
        each.public_key: frozenset({Network(each.address, 128)}) for each in tunnels
    }
    applied = {each.public_key: each.endpoint for each in tunnels}
    assert plan(Device(LINK, after), aim, applied=applied, now_unix_s=NOW_S) == []
