"""The measures, alike for both sides: agreement, updates, idling, deaths."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from random import Random
from typing import Final, TypeAlias, TypeVar

from bench.figures import over
from bench.processes import Usage, read_usage
from bench.serf_sides import Ours, Side
from clanctl.demo.lab import Node
from clanctl.demo.network import INTERFACE
from clanctl.demo.processes import LabError

Values: TypeAlias = dict[str, float | None]  # by the names below; None: could not be measured
Face = TypeVar("Face", bound=Side)

AGREED: Final = "last one in to agreement of all, median"
AGREED_WORST: Final = "last one in to agreement of all, worst"
JOINED: Final = "first join to last one in"
UPDATE_MEDIAN: Final = "update, seen at all nodes, median"
UPDATE_WORST: Final = "update, seen at all nodes, worst"
SECRET_MEDIAN: Final = "secret, on all disks, median"
SECRET_WORST: Final = "secret, on all disks, worst"
SENT: Final = "idle, sent by a node, mean"
SENT_WORST: Final = "idle, sent by a node, worst"
CPU: Final = "idle CPU, mean"
CPU_WORST: Final = "idle CPU, worst"
RESIDENT: Final = "resident, median"
RESIDENT_WORST: Final = "resident, worst"
PROPORTIONAL: Final = "PSS, median"
DETECTED_P50: Final = "a death seen by another, p50"
DETECTED_P99: Final = "a death seen by another, p99"
DETECTED_HALF: Final = "a death seen by half of the others, median"
DETECTED_ALL: Final = "a death seen by all others, median"
DETECTED_ALL_WORST: Final = "a death seen by all others, worst"
WRONG: Final = "living ones held to be dead meanwhile"

_SECONDS: Final = (
    *(
        AGREED,
        AGREED_WORST,
        JOINED,
        UPDATE_MEDIAN,
        UPDATE_WORST,
        SECRET_MEDIAN,
        SECRET_WORST,
        DETECTED_P50,
        DETECTED_P99,
    ),
    *(DETECTED_HALF, DETECTED_ALL, DETECTED_ALL_WORST),
)
UNITS: Final = {
    **dict.fromkeys(_SECONDS, "s"),
    **dict.fromkeys((SENT, SENT_WORST), "B/s"),
    **dict.fromkeys((CPU, CPU_WORST), "%"),
    **dict.fromkeys((RESIDENT, RESIDENT_WORST, PROPORTIONAL), "MB"),
    WRONG: "",
}

AGREE_TIMEOUT_S: Final = 120.0
HOLD_S: Final = 3.0  # an agreement that breaks within so long was none
UPDATE_TIMEOUT_S: Final = 120.0  # whom serf's gossip misses learns it by an exchange of states: 60 s with 50 nodes
PAUSE_S: Final = 2.0  # between rounds: what the last one leaves to be said is said
DETECT_TIMEOUT_S: Final = 90.0  # a hundred agents take up to 50 s
RETURN_TIMEOUT_S: Final = 60.0
LOOK_S: Final = 0.005  # between two looks at the logs, or at whether all agree
PHASE_S: Final = 1.0  # a death comes at any moment of the second between two probes
_ETHERNET_BYTES: Final = 14  # of each packet's header
_MB: Final = 1e6


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    formations: int
    rounds: int
    kills: int
    settle_s: float
    idle_s: float
    dice: Random
    say: Callable[[str], None]  # progress, for people

    def with_kills(self, kills: int) -> "Plan":
        """The same with another number of deaths."""
        return replace(self, kills=kills)


Measure: TypeAlias = Callable[[Face, Plan], Values]


def measure_side(make: Callable[[], AbstractContextManager[Face]], plan: Plan, *more: Measure[Face]) -> Values:
    """All measures of one side, which is made for each formation; in an order in which none disturbs the next."""
    formed: list[Values] = []
    for _ in range(plan.formations - 1):
        with make() as side:
            formed.append(_formation(side, plan))
    with make() as side:
        formed.append(_formation(side, plan))
        values = _rest(side, plan)
        for measure in (_updates, *more, _deaths):
            values |= measure(side, plan)
    agreed = [each[AGREED] for each in formed]
    joined = over([each[JOINED] for each in formed], statistics.median)
    return {AGREED: over(agreed, statistics.median), AGREED_WORST: over(agreed, max), JOINED: joined, **values}


def _rest(side: Side, plan: Plan) -> Values:
    plan.say(f"{side.label}: now to rest")
    time.sleep(plan.settle_s)
    values = _idle(side, plan)
    plan.say(f"{side.label}: {values[SENT]} B/s, {values[CPU]} %, {values[RESIDENT]} MB; now updates")
    side.watch.pump(0)
    return values


# --- agreement -----------------------------------------------------------------------------------------


def _formation(side: Side, plan: Plan) -> Values:
    plan.say(f"{side.label}: {len(side.nodes)} processes run; now they join")
    begun_s = time.monotonic()
    joined_s = side.join()
    agreed_s = _agreed_s(side)
    took_s = round(max(0.0, agreed_s - joined_s), 3) if agreed_s is not None else None
    plan.say(f"{side.label}: agreed {took_s} s after the last one was in")
    return {AGREED: took_s, JOINED: joined_s - begun_s}


def _agreed_s(side: Side) -> float | None:
    """When all came to agree, and stayed so (monotonic s)."""
    since_s: float | None = None

    def holds() -> bool:
        nonlocal since_s
        now_s = time.monotonic()
        since_s = (since_s or now_s) if side.agree() else None
        return since_s is not None and now_s > since_s + HOLD_S

    return since_s if side.watch.until(holds, AGREE_TIMEOUT_S, LOOK_S) else None


# --- updates -------------------------------------------------------------------------------------------


def _updates(side: Side, plan: Plan) -> Values:
    times = [_update_s(side, number, plan) for number in range(plan.rounds)]
    plan.say(f"{side.label}: an update is everywhere after {over(times, statistics.median)} s")
    return {UPDATE_MEDIAN: over(times, statistics.median), UPDATE_WORST: over(times, max)}


def _update_s(side: Side, number: int, plan: Plan) -> float | None:
    """From the request for an update to the last node's word of it."""
    name = f"update-{number}"
    side.watch.rest(PAUSE_S + PHASE_S * plan.dice.random())
    side.watch.forget()
    begun_s = time.monotonic()
    side.update(name)
    everywhere = side.watch.until(
        lambda: len(side.watch.first("update", name)) == len(side.nodes), UPDATE_TIMEOUT_S
    )
    return max(side.watch.first("update", name).values()) - begun_s if everywhere else None


def secrets(side: Ours, plan: Plan) -> Values:
    """As updates, but of secrets for one node: how soon each has stored it."""
    times = [_secret_s(side, f"secret-{number}", plan) for number in range(plan.rounds)]
    return {SECRET_MEDIAN: over(times, statistics.median), SECRET_WORST: over(times, max)}


def _secret_s(side: Ours, name: str, plan: Plan) -> float | None:
    side.watch.rest(PAUSE_S + PHASE_S * plan.dice.random())
    begun_s = time.monotonic()
    side.set_secret(name)

    def everywhere() -> bool:
        side.logs.refresh()
        return None not in [side.logs.stored_s(node.name, name) for node in side.nodes]

    if not side.watch.until(everywhere, UPDATE_TIMEOUT_S, LOOK_S):
        return None
    return max(side.logs.stored_s(node.name, name) or 0.0 for node in side.nodes) - begun_s


# --- idling --------------------------------------------------------------------------------------------


def _idle(side: Side, plan: Plan) -> Values:
    pids = [node.daemon_pid for node in side.nodes]
    before = [read_usage(pid, INTERFACE) for pid in pids]
    begun_s = time.monotonic()
    time.sleep(plan.idle_s)
    after = [read_usage(pid, INTERFACE) for pid in pids]
    return idle_values(list(zip(before, after, strict=True)), time.monotonic() - begun_s)


def idle_values(readings: Sequence[tuple[Usage, Usage]], elapsed_s: float) -> Values:
    """What two readings of each process come to."""
    cpu = [100 * (b.cpu_ns - a.cpu_ns) / 1e9 / elapsed_s for a, b in readings]
    sent = [(ip_bytes(b) - ip_bytes(a)) / elapsed_s for a, b in readings]
    resident = [b.resident_bytes / _MB for _, b in readings]
    return {
        SENT: round(statistics.mean(sent), 1),
        SENT_WORST: round(max(sent), 1),
        CPU: round(statistics.mean(cpu), 3),
        CPU_WORST: round(max(cpu), 3),
        RESIDENT: round(statistics.median(resident), 1),
        RESIDENT_WORST: round(max(resident), 1),
        PROPORTIONAL: round(statistics.median(b.proportional_bytes / _MB for _, b in readings), 1),
    }


def ip_bytes(usage: Usage) -> int:
    """What was sent so far, less the Ethernet headers."""
    return usage.sent_bytes - usage.sent_packets * _ETHERNET_BYTES


# --- deaths --------------------------------------------------------------------------------------------


def _deaths(side: Side, plan: Plan) -> Values:
    mortal = plan.dice.sample(side.nodes[1:], len(side.nodes) - 1)
    seen, wrong = [], 0
    for number in range(plan.kills):
        victim = mortal[number % len(mortal)]
        side.watch.rest(PAUSE_S + PHASE_S * plan.dice.random())
        times, mistakes = _death(side, victim)
        seen.append(times)
        wrong += mistakes
        _return(side, victim)
        plan.say(f"{side.label}: death {number + 1} of {plan.kills} seen by all after {over(times, max)} s")
    return {**death_values(seen), WRONG: wrong}


def _death(side: Side, victim: Node) -> tuple[list[float | None], int]:
    """How long each other node took to see a death (s), and how many living ones were said to be dead."""
    others = [node.name for node in side.nodes if node is not victim]
    side.watch.forget()
    killed_s = side.kill(victim)
    side.watch.until(lambda: len(side.watch.first("down", victim.name)) == len(others), DETECT_TIMEOUT_S)
    first = side.watch.first("down", victim.name)
    times = [first[name] - killed_s if name in first else None for name in others]
    return times, side.watch.count("down", but=victim.name)


def _return(side: Side, victim: Node) -> None:
    """Bring it back among the others. Raises LabError when they do not come to agree."""
    side.revive(victim)
    if not side.watch.until(side.agree, RETURN_TIMEOUT_S):
        raise LabError(f"{side.label}: {victim.name} came back and not all see all up again")


def death_values(seen: Sequence[Sequence[float | None]]) -> Values:
    """What the deaths come to: a row for each, with the time of each other node."""
    every = [time_s for times in seen for time_s in times]
    last = [over(times, max) for times in seen]
    half = [over(times, statistics.median) for times in seen]
    return {
        DETECTED_P50: over(every, lambda values: quantile(values, 0.5)),
        DETECTED_P99: over(every, lambda values: quantile(values, 0.99)),
        DETECTED_HALF: over(half, statistics.median),
        DETECTED_ALL: over(last, statistics.median),
        DETECTED_ALL_WORST: over(last, max),
    }


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least so large a share does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
