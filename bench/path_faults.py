"""How soon traffic is back when a path or a relay dies or lies, and when one end or both have moved.

Each fault has a clan of five real daemons of its own: two behind routers, with 40 ms between any two places, two
that relay, and the founder. A ping passes twenty times a second between the two. Traffic is back when the last
silence of more than half a second is over; a path is left when WireGuard of one side sends elsewhere.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from bench.figures import Figure, median, over, run
from bench.lying_relay import DROP, GARBLE, ONE_WAY, ORDER
from bench.nat_world import NatWorld, nat_world
from bench.pings import Pings, back_s
from bench.wireguards import peer_at
from bench.world import enter, show_ended
from clanctl.demo.lab import Node
from clanctl.demo.processes import LabError, wait_until
from clanctl.failures import Failure
from clanmesh_protocol.limits import TUNNEL_PORT_DEFAULT
from tests.net.nat_lab import RTT_S, NatLab, Site
from tests.net.nat_models import Model

DIED_S: Final = 5.0  # until traffic is back
SEEN_S: Final = 4.0  # until a black hole is left
MOVED_S: Final = 2.0  # of one
BOTH_MOVED_S: Final = 10.0
WATCH_S: Final = 12.0
STEADY_S: Final = 2.0  # of answers, before a fault
FORM_TIMEOUT_S: Final = 30.0
POLL_S: Final = 0.05
HUNDREDTHS: Final = 2  # digits: a ping passes each 0.05 s
RELAYS: Final = ("left", "right")


@dataclass(slots=True)
class Scene:
    """The clan of one fault, as its path is the one that is to be hurt."""

    world: NatWorld
    one: Node
    other: Node
    relays: tuple[Node, ...]
    addresses: dict[str, str]  # in the overlay, by machine
    spare: tuple[Site, Site]  # nobody is there yet

    def endpoints(self) -> tuple[str | None, str | None]:
        """Where WireGuard of the two sends to each other now."""
        return self._endpoint(self.one, self.other), self._endpoint(self.other, self.one)

    def _endpoint(self, node: Node, other: Node) -> str | None:
        peer = peer_at(node, self.addresses[other.name])
        return peer.endpoint.host if peer is not None and peer.endpoint is not None else None

    def is_direct(self) -> bool:
        """Whether both send to the other's own place."""
        places = (self.world.addresses[self.other.name], self.world.addresses[self.one.name])
        return all(at in place for at, place in zip(self.endpoints(), places, strict=True))

    def is_ready(self, is_relayed: bool) -> bool:
        """Whether the path is of the kind that is to be hurt."""
        return self.relay() is not None if is_relayed else self.is_direct()

    def relay(self) -> Node | None:
        """The relay that both send to."""
        for relay in self.relays:
            if set(self.endpoints()) <= self.world.addresses[relay.name]:
                return relay
        return None


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a pair, and by when traffic is to be back. `seen_s`: by when the path is to be left."""

    name: str
    models: tuple[Model, Model]
    happens: Callable[[Scene], None]
    back_s: float
    seen_s: float | None = None

    @property
    def is_relayed(self) -> bool:
        """Whether it hurts a relayed pair."""
        return self.models == _RELAYED


class Outcome(NamedTuple):
    """Seconds after the fault; None: not within the time that is watched."""

    back_s: float | None
    left_s: float | None


# --- what happens ----------------------------------------------------------------------------------------


def _cut(scene: Scene) -> None:
    scene.world.cut(scene.one, scene.other)


def _cut_one_way(scene: Scene) -> None:
    rule = f"ip saddr {scene.world.outside(scene.other)} udp dport {TUNNEL_PORT_DEFAULT} drop;"
    table = f"table ip hole {{ chain i {{ type filter hook input priority 0; {rule} }}; }}"
    done = scene.world.exec(scene.one, ["nft", table])
    if done.returncode != 0:
        raise LabError(f"nft: {done.stderr.strip()}")


def _used(scene: Scene) -> Node:
    relay = scene.relay()
    if relay is None:
        raise LabError("the two do not send to one relay")
    return relay


def _kill(scene: Scene) -> None:
    scene.world.kill(_used(scene))


def _cut_off(scene: Scene) -> None:
    relay = _used(scene)
    for node in scene.world.nodes.values():
        if node is not relay:
            scene.world.cut(relay, node)


def _stall(scene: Scene) -> None:
    os.kill(_used(scene).daemon_pid, signal.SIGSTOP)


def _lie(order: str) -> Callable[[Scene], None]:
    def begin(scene: Scene) -> None:
        Path(f"/proc/{_used(scene).pid}/root{ORDER}").write_text(order)

    return begin


def _move(scene: Scene) -> None:
    scene.world.move(scene.one, scene.spare[0])


def _move_both(scene: Scene) -> None:
    for node, site in zip((scene.one, scene.other), scene.spare, strict=True):
        scene.world.move(node, site)


def _renumber(scene: Scene) -> None:
    scene.world.renumber(scene.one)


_DIRECT: Final = (Model.EASY, Model.EASY)
_RELAYED: Final = (Model.HARD, Model.HARD)
FAULTS: Final = (
    Fault("direct path cut", _DIRECT, _cut, DIED_S, SEEN_S),
    Fault("direct path cut one way", _DIRECT, _cut_one_way, DIED_S, SEEN_S),
    Fault("relay killed", _RELAYED, _kill, DIED_S),
    Fault("relay off the network", _RELAYED, _cut_off, DIED_S),
    Fault("relay stopped", _RELAYED, _stall, DIED_S),
    Fault("relay drops all", _RELAYED, _lie(DROP), DIED_S),
    Fault("relay drops one way", _RELAYED, _lie(ONE_WAY), DIED_S),
    Fault("relay garbles", _RELAYED, _lie(GARBLE), DIED_S),
    Fault("one moves", _DIRECT, _move, MOVED_S),
    Fault("a router's address changes, unseen", _DIRECT, _renumber, DIED_S),
    Fault("one of a relayed pair moves", _RELAYED, _move, MOVED_S),
    Fault("both move at once", _DIRECT, _move_both, BOTH_MOVED_S),
)


# --- measuring -------------------------------------------------------------------------------------------


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """One fault after the other."""
    figures = []
    for fault in FAULTS:
        if arguments.fault and not any(word in fault.name for word in arguments.fault):
            continue
        outcomes = []
        for _ in range(arguments.rounds):
            outcomes.append(_measure(fault))
            print(f"{fault.name}: {outcomes[-1]}", file=sys.stderr, flush=True)
        figures += figures_of(fault, outcomes)
    return figures


def figures_of(fault: Fault, outcomes: list[Outcome]) -> list[Figure]:
    """The worst of all rounds counts."""
    backs = [outcome.back_s for outcome in outcomes]
    figures = [
        Figure(f"{fault.name}: traffic back, worst", over(backs, max, HUNDREDTHS), "s", fault.back_s),
        Figure(f"{fault.name}: the same, median", _middle(backs), "s"),
    ]
    if fault.seen_s is not None:
        left = [outcome.left_s for outcome in outcomes]
        figures.append(Figure(f"{fault.name}: path left, worst", over(left, max, HUNDREDTHS), "s", fault.seen_s))
    return figures


def _middle(values: list[float | None]) -> float | None:
    middle = median([value if value is not None else WATCH_S for value in values])
    return round(middle, HUNDREDTHS) if middle is not None else None


def _measure(fault: Fault) -> Outcome:
    with _scene(fault) as scene, Pings(scene.one, scene.addresses[scene.other.name]) as pings:
        if not wait_until(lambda: scene.is_ready(fault.is_relayed) and pings.is_steady(STEADY_S), FORM_TIMEOUT_S):
            raise LabError(f"{fault.name}: no steady path to begin with: {scene.endpoints()}")
        before, left_s = scene.endpoints(), None
        fault_s = time.time()
        fault.happens(scene)
        while time.time() < fault_s + WATCH_S:
            pings.read()
            if left_s is None and any(a != b for a, b in zip(scene.endpoints(), before, strict=True)):
                left_s = time.time() - fault_s
            time.sleep(POLL_S)
        return Outcome(back_s(pings.replies, fault_s, fault_s + WATCH_S), left_s)


@contextmanager
def _scene(fault: Fault) -> Iterator[Scene]:
    with NatLab(rtt_s=RTT_S) as nats, nat_world(nats) as world:
        founder = world.start_at("public", None)
        relays = tuple(world.start_at(name, None, "bench.lying_relay") for name in RELAYS)
        one, other = (
            world.start_at(name, nats.site(model))
            for name, model in zip(("one", "other"), fault.models, strict=True)
        )
        nodes = [founder, *relays, one, other]
        try:
            _form(world, nodes, relays)
            addresses = {node.name: world.address(node) for node in nodes}
            yield Scene(world, one, other, relays, addresses, (nats.site(Model.EASY), nats.site(Model.EASY)))
        except (Failure, LabError):
            show_ended(world, nodes)
            raise
        finally:
            for relay in relays:
                if relay.daemon is not None:
                    relay.daemon.send_signal(signal.SIGCONT)  # what stands in front of a stopped one stops with it


def _form(world: NatWorld, nodes: list[Node], relays: tuple[Node, ...]) -> None:
    founder, *others = nodes
    for node in nodes:
        world.wait_ready(node)
    world.call(founder, "init", {"name": "bench", "node_name": founder.name, "signers": []})
    for node in others:
        token = world.call(
            founder, "invite", {"tags": ["relay"] if node in relays else [], "uses": 1, "ttl_s": 600}
        )
        world.call(node, "join", {"token": token["token"], "name": node.name})
    names = {node.name for node in nodes}

    def is_known() -> bool:
        seen = ({peer["name"] for peer in world.call(node, "peers")["peers"]} for node in nodes)
        return all(each == names for each in seen)

    if not wait_until(is_known, FORM_TIMEOUT_S):
        raise LabError("not all know one another")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.path_faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each fault")
    parser.add_argument("--fault", action="append", help="only those whose name has this in it (may be repeated)")
    enter()
    sys.exit(run("path_faults", measure, parser))
