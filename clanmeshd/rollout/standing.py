"""What a device shows of its rollout, and why. Pure: the facts in, a state of `clanctl peers` and a sentence out.

    what it is at                                        shows
    an attempt is under way                              building, testing
    heads diverge, or the followed one does not hold     held
    a head is being fetched                              fetching
    the wanted commit failed here                        rolled-back, failed
    the wanted commit waits: a pause, a ring said no     held
    the wanted commit waits: its turn, a checkout        behind
    the wanted commit runs and is being watched          soaking
    the wanted commit runs                               current
    nothing is wanted yet, as after a start              soaking, verifying, current

The first line that fits is the one. `current` is what lets other devices go on, so it is never shown early, and
`verifying` never in its place: claims are looked at again whenever anybody says anything.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from clanmesh_protocol.records import RolloutState
from clanmeshd.rollout.journal import ROLLED_BACK, Memory
from clanmeshd.rollout.rings import Gate, Go, Stop
from clanmeshd.rollout.selection import Held

Tips: TypeAlias = tuple[tuple[bytes, str], ...]  # heads that diverge, sorted, each with its signer

_OPEN: Final = Go()


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known here."""

    target: bytes | None  # the commit to run
    memory: Memory
    attempt: RolloutState | None = None  # BUILDING or TESTING, while it lasts
    looking: RolloutState | None = None  # FETCHING or VERIFYING, while it lasts
    held: str | None = None  # why no head can be followed
    gate: Gate = _OPEN  # of the target
    missing: bool = False  # a head that is claimed is not here
    trouble: str | None = None  # of this device: a full disk, no git


def state_of(facts: Facts) -> RolloutState:
    """What the device shows."""
    if facts.attempt is not None:
        return facts.attempt
    if facts.held is not None:
        return RolloutState.HELD
    if facts.looking is RolloutState.FETCHING:
        return facts.looking
    if facts.target is None:
        watched = facts.memory.soaking is not None
        return RolloutState.SOAKING if watched else facts.looking or RolloutState.CURRENT
    return _state_of_target(facts, facts.target)


def _state_of_target(facts: Facts, target: bytes) -> RolloutState:
    memory = facts.memory
    failure = memory.failure_of(target)
    if failure is not None:
        return RolloutState.ROLLED_BACK if failure.state == ROLLED_BACK else RolloutState.FAILED
    if target != memory.good:
        return RolloutState.HELD if isinstance(facts.gate, Stop) else RolloutState.BEHIND
    return RolloutState.SOAKING if memory.soaking is not None else RolloutState.CURRENT


def why(facts: Facts) -> str | None:
    """Why it is not simply current, for people."""
    target, memory = facts.target, facts.memory
    if facts.held is not None:
        return facts.held
    failure = memory.failure_of(target) if target is not None else None
    if failure is not None:
        return failure.why
    if target is not None and target != memory.good and not isinstance(facts.gate, Go):
        return facts.gate.why
    if facts.trouble is not None:
        return facts.trouble
    if facts.missing:
        return "no reachable member has the commits yet"
    if target is not None and target == memory.good and memory.soaking is not None:
        return f"it is watched for {memory.soaking.seconds} s before others follow"
    return None


def view(facts: Facts, fork: Tips, refused: Iterable[str]) -> dict[str, Any]:
    """The result of `rollout-status`."""
    memory = facts.memory
    return {
        "wanted": facts.target.hex() if facts.target else None,
        "commit": memory.good.hex() if memory.good else None,
        "state": state_of(facts).text,
        "why": why(facts),
        "heads": [{"commit": tip.hex(), "signer": signer} for tip, signer in fork],
        "bad": [entry.commit for entry in memory.bad],
        "last_good": memory.good.hex() if memory.good else None,
        "refused": list(refused),
    }


def fork_news(before: Held | None, now: Held | None) -> Iterator[tuple[str, str]]:
    """What to tell when heads began to diverge, or do no more: a kind of event and its text."""
    is_forked = now is not None and now.is_fork
    if now is not None and is_forked and (before is None or before.tips != now.tips):
        yield "alarm", f"rollout: {now.why}"
    elif before is not None and before.is_fork and not is_forked:
        yield "alarm-over", f"no longer: {before.why}"
