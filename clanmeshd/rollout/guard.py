"""The dead-man: a parent that lets a worker activate, and puts the last good revision back when the worker fails.

The guard does nothing but wait. Whatever ends the worker before it wrote its result (SIGKILL, the OOM killer, a
crash) or keeps it beyond all its own bounds, the guard ends what is left of it and starts another worker that only
goes back. Should the guard itself be killed, the worker still finishes; should both, the daemon or systemd starts
the activator again, which finds an activation that began and was not done, and goes back.

Standard library only.
"""

import os
import select
import signal
from pathlib import Path

from clanmeshd.rollout import scripts
from clanmeshd.rollout.activation import (
    COMMITTING,
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
    read_state,
    write_state,
)

RECOVERIES_MAX = 3  # a worker that only goes back and is killed each time: somebody means it
MARGIN_S = 15  # beyond the sum of the worker's own bounds


def guard(directory: Path, activation: Activation) -> None:
    """Carry an activation through to a result, whatever happens to its worker. Blocks."""
    for _ in range(1 + RECOVERIES_MAX):
        state = _state_of(directory, activation)
        if state is not None and state.step == DONE:
            return
        if state is None:
            _watch(directory, activation, recovering_from=None)
        else:
            _watch(directory, activation, recovering_from=state.step)
    state = _state_of(directory, activation)
    if state is None or state.step != DONE:
        why = f"the activator was killed {1 + RECOVERIES_MAX} times"
        write_state(directory, State(activation.id, DONE, FAILED, why))


def _state_of(directory: Path, activation: Activation) -> State | None:
    try:
        state = read_state(directory)
    except ValueError:
        return State(activation.id, TESTING)  # it cannot be told how far we were: go back
    return state if state is not None and state.id == activation.id else None


def deadline_s(activation: Activation) -> int:
    """The most that a worker can need if each of its scripts needs all its time."""
    revisions = [activation.revision, activation.revision]  # test and commit
    if activation.last_good is not None:
        revisions.append(activation.last_good)
    return sum(revision.activate_timeout_s + revision.health_timeout_s for revision in revisions) + MARGIN_S


def _watch(directory: Path, activation: Activation, recovering_from: str | None) -> None:
    """Fork a worker and wait for its end, or bring it about at the deadline."""
    worker = os.fork()
    if worker == 0:
        code = 1
        try:
            if recovering_from is None:
                _work(directory, activation)
            else:
                _recover(directory, activation, recovering_from)
            code = 0
        finally:
            os._exit(code)
    with open(os.pidfd_open(worker), "rb", buffering=0) as pidfd:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(deadline_s(activation) * 1000):
            os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)


# --- the worker ----------------------------------------------------------------------------------------


def _work(directory: Path, activation: Activation) -> None:
    """Test, check, commit; go back at the first of them that fails."""
    why = _try(directory, activation, activation.revision)
    if why is None:
        write_state(directory, State(activation.id, DONE, GOOD))
    else:
        _go_back(directory, activation, why)


def _try(directory: Path, activation: Activation, revision: Revision) -> str | None:
    write_state(directory, State(activation.id, TESTING))
    why = scripts.activate(activation, revision, scripts.TEST)
    if why is None:
        write_state(directory, State(activation.id, HEALTH))
        why = scripts.check_health(activation, revision, scripts.TEST)
    if why is None:
        write_state(directory, State(activation.id, COMMITTING))
        why = scripts.activate(activation, revision, scripts.COMMIT)
    return why


def _recover(directory: Path, activation: Activation, step: str) -> None:
    """Go back after a worker that was killed: its scripts may still run."""
    scripts.end_leftovers(activation.id)
    _go_back(directory, activation, f"the activator was killed while {step}")


def _go_back(directory: Path, activation: Activation, why: str) -> None:
    """Put the last good revision back and check that it is healthy."""
    write_state(directory, State(activation.id, ROLLING_BACK, None, why))
    last_good = activation.last_good
    if last_good is None:
        done = State(activation.id, DONE, FAILED, f"{why}; there is no earlier revision to go back to")
    else:
        complaint = scripts.activate(activation, last_good, scripts.ROLLBACK) or scripts.check_health(
            activation, last_good, scripts.ROLLBACK
        )
        if complaint is None:
            done = State(activation.id, DONE, ROLLED_BACK, why)
        else:
            done = State(activation.id, DONE, FAILED, f"{why}; and going back: {complaint}")
    write_state(directory, done)
