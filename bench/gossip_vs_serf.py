"""Ours and Debian's `serf`, side by side: how soon all know, what it costs to be there, how soon a death is seen.

Real processes, one kind after the other, on the same machine, each in namespaces of its own. Serf runs with its
profile for a LAN, with which ours is compared, and with its fastest one, which is for loopback. Its update is a
user event, which nobody keeps. Ours is an operation of the clan: signed, checked, and on each node's disk before
that node tells it. That is the dearest kind of record, since each node works out anew what it trusts; so a small
secret for one of the nodes is measured beside it, until it is on all disks, and has the target.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from random import Random
from types import FrameType
from typing import Final

from bench import serf_package
from bench.figures import Figure, load, run
from bench.overlay_cost import overlay_cost
from bench.serf_measures import (
    AGREE_TIMEOUT_S,
    AGREED,
    CPU,
    DETECTED_P50,
    DETECTED_P99,
    RESIDENT,
    SECRET_MEDIAN,
    SECRET_WORST,
    SENT,
    UNITS,
    UPDATE_MEDIAN,
    UPDATE_TIMEOUT_S,
    UPDATE_WORST,
    WRONG,
    Plan,
    Values,
    measure_side,
    secrets,
)
from bench.serf_rpc import SerfError
from bench.serf_sides import ours, serf
from bench.world import INSIDE, enter
from clanctl.demo.processes import LabError, child_of
from clanctl.failures import Failure

NODES: Final = 50
FORMATIONS: Final = 3  # whom serf's gossip misses waits for the next exchange: that is a matter of luck
ROUNDS: Final = 12
KILLS: Final = 10
SERF_KILLS: Final = 5  # each takes three times as long
SETTLE_S: Final = 30.0  # as in `bench.footprint`
IDLE_S: Final = 60.0  # serf's agents exchange their whole states so often, with 50 of them
OVERLAY_NODES: Final = 10
PROFILES: Final = ("lan", "local")  # the first one is compared with

FASTER_TARGET: Final = 0.25  # of serf's time
RATIOS: Final = (  # ours, theirs, and at most so much
    (SECRET_MEDIAN, UPDATE_MEDIAN, FASTER_TARGET),
    (SECRET_WORST, UPDATE_WORST, FASTER_TARGET),
    (UPDATE_MEDIAN, UPDATE_MEDIAN, None),
    (UPDATE_WORST, UPDATE_WORST, None),
)
TARGETS: Final = {
    SENT: 300.0,
    CPU: 0.4,
    RESIDENT: 45.0,
    DETECTED_P50: 5.0,
    DETECTED_P99: 8.0,
    WRONG: 0.0,
}


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """Measure all sides one after the other; then what an overlay costs on top."""
    busy = load("before")
    _say(f"seed {arguments.seed}")
    program = serf_package.fetch()
    plan = Plan(
        formations=arguments.formations,
        rounds=arguments.rounds,
        kills=arguments.kills,
        settle_s=arguments.settle,
        idle_s=arguments.seconds,
        dice=Random(arguments.seed),
        say=_say,
    )
    theirs = {}
    for profile in arguments.profiles:
        agents = partial(serf, arguments.nodes, program, profile)
        theirs[f"serf ({profile})"] = measure_side(agents, plan.with_kills(arguments.serf_kills))
    own = measure_side(partial(ours, arguments.nodes), plan, secrets)
    figures = [*_judged(own, *next(iter(theirs.items()))), *_quoted(own, theirs), busy]
    if arguments.overlay:
        figures += overlay_cost(arguments.overlay, arguments.settle, arguments.seconds, _say)
    return figures


def _judged(own: Values, label: str, theirs: Values) -> list[Figure]:
    """What has a target."""
    figures = []
    for name, compared, target in RATIOS:
        ratio = _ratio(own[name], theirs[compared] or UPDATE_TIMEOUT_S)
        figures.append(Figure(f"clanmesh {name} / {label} {compared}", ratio, "", target))
    patience_s = theirs[AGREED] or AGREE_TIMEOUT_S  # if theirs never came to agree
    figures.append(Figure(f"clanmesh: {AGREED}", own[AGREED], UNITS[AGREED], patience_s))
    return figures + [
        Figure(f"clanmesh: {name}", own[name], UNITS[name], target) for name, target in TARGETS.items()
    ]


def _quoted(own: Values, theirs: dict[str, Values]) -> list[Figure]:
    """All else of ours, and all of serf's."""
    judged = {AGREED, *TARGETS}
    rows = [("clanmesh", {name: value for name, value in own.items() if name not in judged}), *theirs.items()]
    return [
        Figure(f"{label}: {name}", value, UNITS[name]) for label, values in rows for name, value in values.items()
    ]


def _ratio(value: float | None, other: float) -> float | None:
    return round(value / other, 3) if value is not None else None


def _say(line: str) -> None:
    print(f"bench.gossip_vs_serf: {line}", file=sys.stderr, flush=True)


def _on_interrupt(action: Callable[[], None]) -> None:
    """Act on Ctrl-C and on SIGTERM, the first time only: what is undone by then shall be undone to its end."""

    def handle(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, lambda number, frame: None)  # no SIG_IGN: children would inherit it
        action()

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, handle)


def _interrupt_inside() -> None:
    """Tell the process of the inner world, which is the child of the one that made that world."""
    os.kill(child_of(child_of(os.getpid())), signal.SIGINT)


def _interrupted() -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Measure in a world of its own. Gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.gossip_vs_serf", description=__doc__)
    parser.add_argument("--nodes", type=int, default=NODES, help="processes of each kind")
    parser.add_argument("--formations", type=int, default=FORMATIONS, help="how often to let all find together")
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="updates to watch, at most 64: each lets a key sign"
    )
    parser.add_argument("--kills", type=int, default=KILLS, help="daemons to kill, one after the other")
    parser.add_argument("--serf-kills", type=int, default=SERF_KILLS, help="agents to kill likewise")
    parser.add_argument("--profiles", nargs="+", default=PROFILES, help="of serf; ours is compared with the first")
    parser.add_argument("--settle", type=float, default=SETTLE_S, help="seconds to rest before")
    parser.add_argument("--seconds", type=float, default=IDLE_S, help="seconds to watch idle processes for")
    parser.add_argument("--overlay", type=int, default=OVERLAY_NODES, help="nodes with overlays; 0: skip these")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    if not os.environ.get(INSIDE):
        if not {"-h", "--help"} & set(sys.argv[1:]):
            serf_package.fetch()  # there is no network inside
        _on_interrupt(_interrupt_inside)
        enter()
    _on_interrupt(_interrupted)
    try:
        return run("gossip_vs_serf", measure, parser)
    except (Failure, LabError, SerfError, OSError) as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
