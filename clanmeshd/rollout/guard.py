"""The dead-man: a parent that lets a worker activate, and puts the last good revision back when the worker fails.

The guard does nothing but wait. Whatever ends the worker before it wrote its result (SIGKILL, the OOM killer, a
crash) or keeps it beyond all its own bounds, the guard ends what is left of it and starts another worker that only
goes back. Should the guard itself be killed, the worker still finishes; should both, the daemon or systemd starts
the activator again, which finds an activation that began and was not done, and goes back. Should all of them hang,
a timer of systemd's ends them at the deadline and goes back (see `deadman`); after a power cut, a unit does.

Standard library only.
"""

from __future__ import annotations

import os
import select
import time

from clanmeshd.rollout import baseline, health, hooks, renewal, scripts, systemctl
from clanmeshd.rollout.activation import (
    COMMITTING,
    DISK_ATTEMPTS_MAX,
    DISK_PAUSE_S,
    DONE,
    FAILED,
    GOOD,
    HEALTH,
    ROLLED_BACK,
    ROLLING_BACK,
    TESTING,
    Activation,
    Revision,
    State,
    has_room,
    read_state,
    reserve,
    wait_for_room,
    write_state,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from clanmeshd.rollout.baseline import Baseline

RECOVERIES_MAX = 3  # a worker that only goes back and is killed each time: somebody means it
MARGIN_S = 15  # beyond the sum of the worker's own bounds


def guard(directory: str | Path, activation: Activation) -> None:
    """Carry an activation through to a result, whatever happens to its worker. Blocks. Raises OSError."""
    reserve(directory)
    for _ in range(1 + RECOVERIES_MAX):
        state = _state_of(directory, activation)
        if state is not None and state.step == DONE:
            break
        if activation.refused:
            write_state(directory, State(activation.id, DONE, FAILED, activation.refused))
        elif state is None:
            _watch(deadline_s(activation), _work, directory, activation)
        else:
            _watch(deadline_s(activation), _recover, directory, activation, state.step)
    state = _state_of(directory, activation)
    if state is None or state.step != DONE:
        state = State(activation.id, DONE, FAILED, f"the activator was killed {1 + RECOVERIES_MAX} times")
        write_state(directory, state)
    _tell(directory, activation, state)


def _tell(directory: str | Path, activation: Activation, state: State) -> None:
    """Run the hooks. A worker that is killed takes only its own hook with it."""
    for _ in range(hooks.HOOKS_MAX):
        if not hooks.due(directory, activation):
            return
        _watch(hooks.TOTAL_S + MARGIN_S, hooks.run, directory, activation, state)


def _state_of(directory: str | Path, activation: Activation) -> State | None:
    try:
        state = read_state(directory)
    except ValueError:
        return State(activation.id, TESTING)  # it cannot be told how far we were: go back
    return state if state is not None and state.id == activation.id else None


def deadline_s(activation: Activation) -> int:
    """The most that a worker can need if each of its parts needs all its time."""
    revisions = [activation.revision, activation.revision]  # test and commit
    if activation.last_good is not None:
        revisions.append(activation.last_good)
    bounds = sum(scripts.limit_s(one) + health.limit_s(one) for one in revisions)
    return baseline.LIMIT_S + int(bounds) + MARGIN_S


def _watch(
    limit_s: int, work: Callable[..., None], directory: str | Path, activation: Activation, *more: object
) -> None:
    """Fork a worker and wait for its end, or bring it about at the deadline."""
    worker = os.fork()
    if worker == 0:
        code = 1
        try:
            work(directory, activation, *more)
            code = 0
        except Exception as error:  # whatever it is, the next worker goes back; the log has what it was
            scripts.note(activation, f"the activator fell: {type(error).__name__}: {error}")
        finally:
            os._exit(code)
    with open(os.pidfd_open(worker), "rb", buffering=0) as pidfd:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(limit_s * 1000):
            os.kill(worker, scripts.SIGKILL)
    os.waitpid(worker, 0)


# --- the worker ----------------------------------------------------------------------------------------


def _work(directory: str | Path, activation: Activation) -> None:
    """Test, check, commit; go back at the first of them that fails."""
    before, why = baseline.prepare(directory, activation)
    if why is None:
        why = _try(directory, activation, before)
    if why is None:
        _conclude(directory, State(activation.id, DONE, GOOD))
    else:
        _go_back(directory, activation, before, why)


def _try(directory: str | Path, activation: Activation, before: Baseline) -> str | None:
    revision = activation.revision
    why = _enter(directory, State(activation.id, TESTING))
    if why is None:
        why = scripts.activate(activation, revision, scripts.TEST)
    if why is None:
        why = renewal.renew(activation, before.daemon)
    if why is None:
        why = _enter(directory, State(activation.id, HEALTH)) or health.check(
            activation, revision, before, scripts.TEST
        )
    if why is None:
        since = systemctl.identity(activation.unit) if activation.unit else None
        why = (
            _enter(directory, State(activation.id, COMMITTING))
            or scripts.activate(activation, revision, scripts.COMMIT)
            or renewal.renew(activation, since)
        )
    return why


def _recover(directory: str | Path, activation: Activation, step: str) -> None:
    """Go back after a worker that was killed: its scripts may still run."""
    scripts.end_leftovers(activation.id)
    before = baseline.read(directory, activation) or baseline.look(activation)
    _go_back(directory, activation, before, f"the activator was killed while {step}")


def _go_back(directory: str | Path, activation: Activation, before: Baseline, why: str) -> None:
    """Put the last good revision back and check that it is healthy. On a full disk once more when it has room."""
    _enter(directory, State(activation.id, ROLLING_BACK, None, why))
    last_good = activation.last_good
    if last_good is None:
        complaint = renewal.bring_back(activation, before)
        also = f"; {complaint}" if complaint is not None else ""
        done = State(activation.id, DONE, FAILED, f"{why}; there is no earlier revision to go back to{also}")
    else:
        complaint = _put_back(activation, last_good, before)
        if complaint is not None and not has_room(directory):
            wait_for_room(directory)
            complaint = _put_back(activation, last_good, before)
        if complaint is None:
            done = State(activation.id, DONE, ROLLED_BACK, why)
        else:
            done = State(activation.id, DONE, FAILED, f"{why}; and going back: {complaint}")
    _conclude(directory, done)


def _put_back(activation: Activation, last_good: Revision, before: Baseline) -> str | None:
    """Whatever the revision's own way back comes to, the daemon and what ran before are brought back."""
    try:
        complaint = scripts.activate(activation, last_good, scripts.ROLLBACK)
    except OSError as error:
        complaint = f"activate (rollback): {error}"
    also = renewal.bring_back(activation, before)
    if complaint is None and also is None:
        return health.check(activation, last_good, before, scripts.ROLLBACK)
    return "; ".join(why for why in (complaint, also) if why is not None)


def _enter(directory: str | Path, state: State) -> str | None:
    """Record a step before it is taken. Gives None, or why it cannot be."""
    try:
        write_state(directory, state)
    except OSError as error:
        return f"{error.filename or directory}: {error.strerror}"
    return None


def _conclude(directory: str | Path, state: State) -> None:
    """Record the result, as soon as the disk has room for it."""
    for _ in range(DISK_ATTEMPTS_MAX):
        if _enter(directory, state) is None:
            return
        time.sleep(DISK_PAUSE_S)
