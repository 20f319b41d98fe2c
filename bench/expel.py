"""How long an expelled device can still speak to others: from `clanctl remove` to the last packet at every node.

Real daemons with WireGuard overlays. Two of them run `bench.stubborn`, which ignores its own removal, so that only
what the others do counts. First one of them is removed while all can reach one another. Then a third of the clan,
with the other one, is cut off; it is removed on the larger side; and the clock starts when the network heals.

Probes pass between the expelled and every other node, both ways, twenty times a second. A node has *learnt* when
its daemon says so, and has *cut* when the last probe passed between it and the expelled, either way.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.figures import Figure, load, median, over, rounded, run
from bench.probes import INTERVAL_S, Probes, between
from bench.world import clan, enter
from clanctl.demo.lab import Lab, Node
from clanctl.demo.network import names
from clanctl.demo.processes import wait_until

NODES: Final = 20
PARTITION_S: Final = 60.0
REMOVED_S_TARGET: Final = 3.0
HEALED_S_TARGET: Final = 10.0
FLOWING_S: Final = 0.5  # every stream has had a packet within so long: ten are due
FLOW_TIMEOUT_S: Final = 60.0  # of the first handshakes of all pairs that are probed
QUIET_S: Final = 5.0  # a stream that is silent for a hundred packets has ended
GIVE_UP_S: Final = 60.0  # of waiting for that: the figure is `not measured` then
SPREAD_TIMEOUT_S: Final = 20.0  # of records among those who are members
WRITERS: Final = 3  # members that publish something after the removal
EXPELLED: Final = 2
PORTS: Final = (47_001, 47_002)  # of the probes for each of them


@dataclass(frozen=True, slots=True)
class Moment:
    """One point in time on both clocks."""

    monotonic_s: float
    unix_s: float


@dataclass(frozen=True, slots=True)
class Parting:
    """When a node had learnt of a removal, and when its last packet passed (s since the start). None: not yet."""

    learnt_s: float | None
    cut_s: float | None


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """Remove one device from a whole clan, and another one from a parted one."""
    busy = load("before")
    stubborn = names(arguments.nodes)[-EXPELLED:]
    with clan(arguments.nodes, programs=dict.fromkeys(stubborn, "bench.stubborn")) as (lab, nodes):
        addresses = {node.name: lab.address(node) for node in nodes}
        members, (later, first) = nodes[:-EXPELLED], nodes[-EXPELLED:]
        with between(first, [*members, later], addresses, PORTS[0]) as of_first:
            figures = _from_the_whole(lab, [*members, later], first, of_first)
            ended = of_first.count()
            with between(later, members, addresses, PORTS[1]) as of_later:
                figures += _from_a_part(lab, members, later, of_later, arguments.seconds)
                ended += of_later.count()
                figures += _gossip_cut(lab, members, [first, later])
                strays = of_first.count() + of_later.count() - ended
    return [*figures, Figure("packets that passed after a stream had ended", strays, "", 0), busy]


def _from_the_whole(lab: Lab, nodes: Sequence[Node], expelled: Node, probes: Probes) -> list[Figure]:
    """Remove while everybody reaches everybody."""
    _await_flow(probes, nodes)
    begun = _now()
    _remove(lab, nodes[0], expelled)
    command = Figure("removed: the command itself", _since(begun.monotonic_s), "s")
    _await_quiet(probes, nodes)
    partings = _partings(lab, nodes, expelled, probes, begun)
    return [command, *_figures("removed", partings, REMOVED_S_TARGET)]


def _from_a_part(
    lab: Lab, members: Sequence[Node], expelled: Node, probes: Probes, seconds: float
) -> list[Figure]:
    """Remove on one side of a parted network, with the expelled on the other; measure from its healing."""
    beside = members[-max(1, len(members) // 3) :]
    _await_flow(probes, members)
    lab.partition([*beside, expelled])
    _remove(lab, members[0], expelled)
    time.sleep(seconds)
    _await_flow(probes, beside)  # else there would be nothing to cut
    begun = _now()
    lab.heal()
    _await_quiet(probes, members)
    partings = _partings(lab, beside, expelled, probes, begun)
    others = [node for node in members if node not in beside]
    reached = sum(probes.last_s(node.name) > begun.monotonic_s for node in others)
    return [
        *_figures("healed", partings, HEALED_S_TARGET),
        Figure("healed: nodes of the other side that a packet reached", reached, "", 0),
        Figure("healed: all see all up again", _whole_s(lab, members, begun), "s"),
    ]


def _gossip_cut(lab: Lab, members: Sequence[Node], expelled: Iterable[Node]) -> list[Figure]:
    """Publish something at several members; none of it may come to the expelled, who still ask for it."""
    wanted = {f"after-{node.name}" for node in members[:: max(1, len(members) // WRITERS)][:WRITERS]}
    for name in wanted:
        args = {"name": name, "value": b"new", "for": ["all"], "owner": "root", "group": "root", "mode": 0o400}
        lab.call(lab.nodes[name.removeprefix("after-")], "secrets-set", args)
    if not wait_until(lambda: all(wanted <= _secrets(lab, node) for node in members), SPREAD_TIMEOUT_S):
        sys.exit("bench.expel: the members do not hear from one another any more")
    time.sleep(QUIET_S)
    leaked = sum(len(wanted & _secrets(lab, node)) for node in expelled)
    return [Figure("records of later that an expelled device got", leaked, "", 0)]


# --- what is done and awaited --------------------------------------------------------------------------


def _remove(lab: Lab, admin: Node, node: Node) -> None:
    done = lab.ctl(admin, "remove", node.name, "--yes")
    if done.returncode != 0:
        sys.exit(f"bench.expel: {node.name} could not be removed: {done.stderr.strip().splitlines()[-1:]}")


def _await_flow(probes: Probes, nodes: Sequence[Node]) -> None:
    """Every stream runs; only then its end says something."""
    wanted = [node.name for node in nodes]
    if not wait_until(lambda: probes.passing(wanted, FLOWING_S), FLOW_TIMEOUT_S):
        missing = [name for name in wanted if not probes.passing([name], FLOWING_S)]
        sys.exit(f"bench.expel: no packets pass between the device to expel and {', '.join(missing)}")


def _await_quiet(probes: Probes, nodes: Sequence[Node]) -> None:
    asked_s = time.monotonic()

    def quiet() -> bool:
        newest_s = max([asked_s, *(probes.last_s(node.name) for node in nodes)])
        return time.monotonic() > newest_s + QUIET_S

    wait_until(quiet, GIVE_UP_S)


def _partings(lab: Lab, nodes: Sequence[Node], expelled: Node, probes: Probes, begun: Moment) -> list[Parting]:
    """What each node's daemon and its packets say."""
    learnt = [_learnt_s(lab, node, expelled, begun) for node in nodes]
    return [Parting(each, _cut_s(probes, node.name, begun)) for node, each in zip(nodes, learnt, strict=True)]


def _learnt_s(lab: Lab, node: Node, expelled: Node, begun: Moment) -> float | None:
    events = lab.call(node, "events", {})["events"]
    told = [e["at_unix_s"] for e in events if e["kind"] == "member-left" and expelled.name in e["text"].split()]
    return max(0.0, told[-1] - begun.unix_s) if told else None


def _cut_s(probes: Probes, name: str, begun: Moment) -> float | None:
    last_s = probes.last_s(name)
    return max(0.0, last_s - begun.monotonic_s) if time.monotonic() > last_s + QUIET_S - INTERVAL_S else None


def _whole_s(lab: Lab, nodes: Sequence[Node], begun: Moment) -> float | None:
    """From the healing to the last time that somebody came up for somebody."""
    events = [event for node in nodes for event in lab.call(node, "events", {})["events"]]
    ups = [e["at_unix_s"] - begun.unix_s for e in events if e["kind"] == "member-up"]
    return rounded(max(ups)) if ups and max(ups) > 0 else None


def _secrets(lab: Lab, node: Node) -> set[str]:
    return {str(secret["name"]) for secret in lab.call(node, "secrets-list")["secrets"]}


# --- figures -------------------------------------------------------------------------------------------


def _figures(label: str, partings: Sequence[Parting], target_s: float) -> list[Figure]:
    learnt = [parting.learnt_s for parting in partings]
    cut = [parting.cut_s for parting in partings]
    behind = [
        max(0.0, parting.cut_s - parting.learnt_s)
        for parting in partings
        if parting.cut_s is not None and parting.learnt_s is not None
    ]
    return [
        Figure(f"{label}: learnt, median of {len(learnt)} nodes", over(learnt, median), "s"),
        Figure(f"{label}: learnt, worst", over(learnt, max), "s"),
        Figure(f"{label}: from learnt to the last packet, worst", over(behind, max), "s"),
        Figure(f"{label}: last packet, median of {len(cut)} nodes", over(cut, median), "s"),
        Figure(f"{label}: last packet, worst", over(cut, max), "s", target_s),
    ]


def _since(monotonic_s: float) -> float:
    return round(time.monotonic() - monotonic_s, 3)


def _now() -> Moment:
    return Moment(time.monotonic(), time.time())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.expel", description=__doc__)
    parser.add_argument("--nodes", type=int, default=NODES, help="daemons, two of which are expelled")
    parser.add_argument("--seconds", type=float, default=PARTITION_S, help="how long the network is parted")
    enter()
    sys.exit(run("expel", measure, parser))
