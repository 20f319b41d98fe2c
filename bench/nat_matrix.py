"""Which pairs of routers two devices get through, and how soon: every model with every other, and special places.

Part `probes`: raw probes alone, one pair after the other, until both sides have proven a path. Part `daemons`: a
clan of three real daemons for each pair, one of them public; from when both know each other until the first ping
through the tunnel, and until WireGuard speaks directly on both sides.
"""

import argparse
import itertools
import sys
from typing import Final

import trio

from bench.figures import Figure, load, median, over, rounded, run
from bench.nat_pairs import Pair, Times, measure_pair
from bench.world import enter
from clanctl.demo.processes import LabError
from clanctl.failures import Failure
from tests.net.nat_lab import RTT_S, NatLab
from tests.net.nat_models import MODELS, Model, punchable
from tests.net.nat_punching import punch_all, stations

DIRECT_S_TARGET: Final = 1.0
DIRECT_MEDIAN_S_TARGET: Final = 0.3
RELAYED_S_TARGET: Final = 1.0
BLOCKED_S_TARGET: Final = 2.0
PROBES_S: Final = 1.0  # for probes to find a path in
OBSERVERS: Final = ("observer-1", "observer-2")
PARTS: Final = ("probes", "daemons")

_EASY: Final = (Model.EASY,)
SPECIAL: Final = (
    Pair("public x easy", ((), _EASY)),
    Pair("public x hard", ((), (Model.HARD,))),
    Pair("two routers x easy", ((Model.EASY, Model.EASY), _EASY)),
    Pair("two routers x two routers", ((Model.EASY, Model.EASY), (Model.EASY, Model.EASY))),
    Pair("two routers, one hard x easy", ((Model.EASY, Model.HARD), _EASY)),
    Pair("one router for both", (_EASY, _EASY), is_same=True),
    Pair("one router for both, hairpin", ((Model.HAIRPIN,), (Model.HAIRPIN,)), is_same=True),
)


def matrix() -> tuple[Pair, ...]:
    """Every model with every other and with itself."""
    both = itertools.combinations_with_replacement(MODELS, 2)
    return tuple(Pair(f"{one.value} x {other.value}", ((one,), (other,))) for one, other in both)


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """Run the parts that were chosen."""
    figures = []
    if "probes" in arguments.parts:
        figures += _measure_probes(arguments)
    if "daemons" in arguments.parts:
        figures += _measure_daemons(arguments)
    return [*figures, load("after")]


# --- probes --------------------------------------------------------------------------------------------


def _measure_probes(arguments: argparse.Namespace) -> list[Figure]:
    took: dict[tuple[Model, Model], list[float | None]] = {}
    for _ in range(arguments.rounds):
        for pair, took_s in trio.run(_probe_all, arguments.rtt_ms / 1000):
            took.setdefault(pair, []).append(took_s)
    wrong = sum((each is not None) != punchable(*pair) for pair, several in took.items() for each in several)
    found = {pair: [each for each in several if each is not None] for pair, several in took.items()}
    direct = list(itertools.chain.from_iterable(found.values()))
    return [
        *(
            Figure(f"probes: {one.value} x {other.value}", rounded(median(found[one, other])), "s")
            for one, other in took
            if punchable(one, other)
        ),
        Figure("probes: pairs with a path where none can be, or none where one can", wrong, "", 0),
        Figure(
            "probes: path proven, median of all that can be", rounded(median(direct)), "s", DIRECT_MEDIAN_S_TARGET
        ),
        Figure("probes: the same, worst", over(direct, max), "s", DIRECT_S_TARGET),
    ]


async def _probe_all(rtt_s: float) -> list[tuple[tuple[Model, Model], float | None]]:
    """Each model at two sites, and one pair of two sites for each pair of models."""
    models = {f"{model.value} {number}": model for model in MODELS for number in (1, 2)}
    both = itertools.combinations_with_replacement(MODELS, 2)
    pairs = [(f"{one.value} 1", f"{other.value} 2") for one, other in both]
    with NatLab(rtt_s=rtt_s) as lab:
        hosts = {name: lab.host(lab.site(model)) for name, model in models.items()}
        made = stations(hosts | {name: lab.host() for name in OBSERVERS})
        found = await punch_all(made, OBSERVERS, PROBES_S, pairs=pairs, at_once=False)
    return [((models[one], models[other]), took_s) for (one, other), took_s in found.items()]


# --- daemons -------------------------------------------------------------------------------------------


def _measure_daemons(arguments: argparse.Namespace) -> list[Figure]:
    pairs = [each for each in (*matrix(), *SPECIAL) if arguments.only in each.name]
    times: dict[Pair, list[Times]] = {}
    for pair in pairs * arguments.rounds:
        try:
            each = measure_pair(pair, arguments.rtt_ms / 1000)
        except (Failure, LabError) as error:
            sys.exit(f"bench.nat_matrix: {pair.name}: {error}")
        print(f"{pair.name}: {each}", file=sys.stderr, flush=True)
        times.setdefault(pair, []).append(each)
    return [*itertools.chain.from_iterable(_of_pair(*item) for item in times.items()), *_of_all(times)]


def _of_pair(pair: Pair, times: list[Times]) -> list[Figure]:
    first = Figure(f"{pair.name}: first reply", rounded(_median_of([each.first_s for each in times])), "s")
    if not pair.is_punchable:
        return [first]
    return [first, Figure(f"{pair.name}: direct", rounded(_median_of([each.direct_s for each in times])), "s")]


def _of_all(times: dict[Pair, list[Times]]) -> list[Figure]:
    direct = [each.direct_s for pair, several in times.items() if pair.is_punchable for each in several]
    others = [(pair, each.first_s) for pair, several in times.items() if not pair.is_punchable for each in several]
    relayed = [first_s for pair, first_s in others if not pair.is_blocked]
    blocked = [first_s for pair, first_s in others if pair.is_blocked]
    return [
        Figure("direct where it can be, median", rounded(_median_of(direct)), "s", DIRECT_MEDIAN_S_TARGET),
        Figure("direct where it can be, worst", over(direct, max), "s", DIRECT_S_TARGET),
        Figure("never direct where it can be", sum(each is None for each in direct), "", 0),
        Figure("first reply by a relay, worst", over(relayed, max), "s", RELAYED_S_TARGET),
        Figure("first reply where UDP is blocked, worst", over(blocked, max), "s", BLOCKED_S_TARGET),
    ]


def _median_of(values: list[float | None]) -> float | None:
    """The median, where more than half have a value: none is longer than any."""
    found = median([float("inf") if each is None else each for each in values])
    return None if found == float("inf") else found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.nat_matrix", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["probes"], help="what to measure")
    parser.add_argument("--rounds", type=int, default=3, help="how often each pair is tried")
    parser.add_argument(
        "--rtt-ms", type=float, default=RTT_S * 1000, help="added round trip between any two places"
    )
    parser.add_argument("--only", default="", help="pairs of daemons whose names have this in them")
    enter()
    sys.exit(run("nat_matrix", measure, parser))
