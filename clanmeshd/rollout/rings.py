"""Whose turn it is to run a commit. Pure: what is said and shown goes in, `Go`, `Wait` or `Stop` comes out.

1. While the heads diverge, or an admin's pause stands, nobody begins to run anything.
2. A commit that an admin promoted waits for no ring.
3. Rings go one after the other, those without a listed tag last. A ring lets the next one go once `healthy` of its
   members show that they run the commit and that their time of watching it is over.
4. It stops all later ones when as many went back from it, or so many that not enough are left.

So a bad commit gets no further than the ring that finds out, and nobody outside of the rings can keep a commit
from anybody. What a device of a ring shows is its own word: `healthy` of them must lie to let a bad commit
through, or to stop a good one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from clanmesh_protocol.records import Verb
from clanmeshd.core.effects import Order, Trial

RINGS_MAX: Final = 8  # a rollout of more steps is a queue that nobody looks at
HEALTHY_MAX: Final = 1000  # as many as there are members
SOAK_S: Final = 300  # a service that fails soon has failed by then, and a person still remembers the push
SOAK_S_MAX: Final = 604_800  # a week


@dataclass(frozen=True, slots=True)
class Ring:
    """The devices with a tag, and what others await of them."""

    tag: str
    healthy: int = 0  # so many must find a commit well; 0: over half of them
    soak_s: int = SOAK_S  # how long each of them watches a commit before it says so

    def needed(self, members: int) -> int:
        """How many of so many members are enough: never more than there are."""
        return min(self.healthy or members // 2 + 1, members)


@dataclass(frozen=True, slots=True)
class Go:
    """Run it, and watch it for so long before saying that it is well."""

    soak_s: int = 0


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet."""

    why: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Not this commit, unless somebody decides otherwise."""

    why: str


Gate: TypeAlias = Go | Wait | Stop


def place(tags: Sequence[str], rings: Sequence[Ring]) -> int:
    """Which ring a device is of: the first whose tag it has, or behind all of them."""
    return next((number for number, ring in enumerate(rings) if ring.tag in tags), len(rings))


def gate(
    commit: bytes,
    *,
    tags: Sequence[str],
    rings: Sequence[Ring],
    trials: Sequence[Trial],
    orders: Sequence[Order],
    held: str | None = None,
) -> Gate:
    """Decide for a device with `tags`. `held` says why no head can be followed; `orders` are of one ref."""
    if held is not None:
        return Stop(held)
    pause = next((order for order in orders if order.verb is Verb.PAUSE), None)
    if pause is not None:
        return Stop(paused_text(pause))
    own = place(tags, rings)
    go = Go(rings[own].soak_s if own < len(rings) else 0)
    if any(order.verb is Verb.PROMOTE and order.commit == commit for order in orders):
        return go
    verdicts = [_verdict(commit, number, rings, trials) for number in range(own)]
    for kind in (Stop, Wait):
        for verdict in verdicts:
            if isinstance(verdict, kind):
                return verdict
    return go


def _verdict(commit: bytes, number: int, rings: Sequence[Ring], trials: Sequence[Trial]) -> Gate:
    """What one ring says of a commit to those behind it. A ring without members says nothing."""
    ring = rings[number]
    members = [trial for trial in trials if place(trial.tags, rings) == number]
    if not members:
        return Go()
    needed = ring.needed(len(members))
    bad = sum(commit in trial.bad for trial in members)
    well = sum(trial.well == commit and commit not in trial.bad for trial in members)
    if bad >= needed or len(members) - bad < needed:
        return Stop(f"{bad} of {len(members)} {ring.tag} went back from it; push a better commit, or promote it")
    if well < needed:
        return Wait(f"waiting for {ring.tag}: {well} of the {needed} that it takes found it well")
    return Go()


def paused_text(pause: Order) -> str:
    """Who paused the rollout and why."""
    reason = f" ({pause.reason})" if pause.reason else ""
    return f"{pause.by} paused the rollout{reason}; `clanctl rollout resume` on an admin's device ends that"
