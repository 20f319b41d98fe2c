"""One pair of real daemons behind routers, from when both know each other until they speak directly."""

import time
from dataclasses import dataclass
from typing import Final, NamedTuple

from bench.nat_world import NatWorld, nat_world
from bench.pings import Pings
from bench.wireguards import peer_at
from bench.world import show_ended
from clanctl.demo.lab import Node
from clanctl.demo.processes import LabError, wait_until
from clanctl.failures import Failure
from tests.net.nat_lab import NatLab, Site
from tests.net.nat_models import Model, punchable

FORM_TIMEOUT_S: Final = 20.0  # for a device to be in the clan
LIMIT_S: Final = 8.0  # from both knowing each other: what is not there by then is not there
STEADY_S: Final = 2.0  # after a first reply by way of others, where no direct path can be
PING_INTERVAL_S: Final = 0.02
POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Pair:
    """Two places: routers from the hosts outwards, () for a public address. `is_same`: one site for both."""

    name: str
    models: tuple[tuple[Model, ...], tuple[Model, ...]]
    is_same: bool = False

    @property
    def is_punchable(self) -> bool:
        """Whether there can be a direct path: of several routers in a row the hardest counts."""
        one, other = (max(each, key=_HARDNESS.index) if each else Model.FULL_CONE for each in self.models)
        return self.is_same or punchable(one, other)

    @property
    def is_blocked(self) -> bool:
        """Whether one of the two has no UDP at all."""
        return not self.is_same and any(Model.BLOCKED in each for each in self.models)


class Times(NamedTuple):
    """Seconds from when both know each other; None: not within the limit, or they do not even learn so much."""

    first_s: float | None  # the first reply through the tunnel, whatever way it went
    direct_s: float | None  # the first one while WireGuard on both sides speaks to the other's own address


_HARDNESS: Final = (
    Model.FULL_CONE,
    Model.HAIRPIN,
    Model.ADDRESS,
    Model.EASY,
    Model.OPEN_INPUT,
    Model.HARD,
    Model.BLOCKED,
)


def measure_pair(pair: Pair, rtt_s: float) -> Times:
    """Found a clan on a public machine, let both in, and watch. Raises LabError or Failure."""
    with NatLab(rtt_s=rtt_s) as nats, nat_world(nats) as world:
        one, other = _places(nats, pair)
        founder, first, second = (
            world.start_at(name, site) for name, site in (("public", None), ("one", one), ("other", other))
        )
        nodes = [founder, first, second]
        try:
            for node in nodes:
                world.wait_ready(node)
            world.call(founder, "init", {"name": "bench", "node_name": "public", "signers": []})
            # The laboratory's addresses are none of the internet's, so the machine would not relay by itself.
            world.call(founder, "tag", {"node": "public", "add": ["relay"], "remove": []})
            for node in (first, second):
                _join(world, founder, node)
            if not wait_until(
                lambda: _knows(world, first, second) and _knows(world, second, first), FORM_TIMEOUT_S
            ):
                return Times(None, None)
            return _Watch(world, first, second).times(may_be_direct=pair.is_punchable)
        except (Failure, LabError):
            show_ended(world, nodes)
            raise


def _places(nats: NatLab, pair: Pair) -> tuple[Site | None, Site | None]:
    one, other = (nats.site(*models) if models else None for models in pair.models)
    return (one, one) if pair.is_same else (one, other)


def _join(world: NatWorld, founder: Node, node: Node) -> None:
    token = world.call(founder, "invite", {"tags": [], "uses": 1, "ttl_s": 600})["token"]
    world.call(node, "join", {"token": token, "name": node.name})
    if not wait_until(lambda: _knows(world, founder, node) and _knows(world, node, founder), FORM_TIMEOUT_S):
        raise LabError(f"{node.name} did not come into the clan")


def _knows(world: NatWorld, node: Node, other: Node) -> bool:
    return any(peer["name"] == other.name for peer in world.call(node, "peers")["peers"])


class _Watch:
    """Two machines that know each other now, a ping from one to the other, and what WireGuard says on both."""

    def __init__(self, world: NatWorld, one: Node, other: Node) -> None:
        self.began_s = time.time()
        self._world = world
        self._sides = ((one, other), (other, one))
        self._address = {node.name: world.address(node) for node in (one, other)}
        self._pings = (one, self._address[other.name])

    def times(self, *, may_be_direct: bool) -> Times:
        """Watch until they speak directly, or for as long as that might take."""
        with Pings(*self._pings, PING_INTERVAL_S) as pings:
            return self._timed(pings, may_be_direct)

    def _timed(self, pings: Pings, may_be_direct: bool) -> Times:
        first_s, direct_since_s, ends_s = None, None, self.began_s + LIMIT_S
        while time.time() < ends_s:
            direct_since_s = (direct_since_s or time.time()) if self._is_direct() else None
            time.sleep(POLL_S)
            for at_s, asked_s in pings.read():
                if first_s is None:
                    first_s = at_s - self.began_s
                    ends_s = ends_s if may_be_direct else at_s + STEADY_S
                # What was asked before WireGuard moved may have come the other way.
                if direct_since_s is not None and asked_s >= direct_since_s:
                    return Times(first_s, at_s - self.began_s)
        return Times(first_s, None)

    def _is_direct(self) -> bool:
        """Whether on both sides WireGuard has a session with the other at an address of that one's own."""
        return all(self._speaks_to(node, other) for node, other in self._sides)

    def _speaks_to(self, node: Node, other: Node) -> bool:
        peer = peer_at(node, self._address[other.name])
        if peer is None or peer.endpoint is None:
            return False
        return peer.endpoint.host in self._world.addresses[other.name] and peer.handshake_unix_s > 0
