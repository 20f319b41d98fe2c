"""Whether a machine is well with a revision: every check named, every check bounded. Standard library only.

    health   the repository's own executable says so
    daemon   clanmeshd runs and answers, whatever version it is now
    units    none has failed that had not before, the declared ones are active; after going back, all run that ran
    route    a default route of each address family that had one
    peers    one was reached over a new connection, if one was before
    settle   services that were started stay up for a while, and the repository's own executable says so once more

What takes its time to come up is waited for, within bounds that a busy machine needs: a check that is well is over
at once. What was not well before is not the revision's fault, so all but the first compare with the `Baseline`.
"""

from __future__ import annotations

import time

from clanmeshd.rollout import baseline, scripts, systemctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from clanmeshd.rollout.activation import Activation, Revision
    from clanmeshd.rollout.baseline import Baseline

    Look = Callable[[Activation, Revision, Baseline, str], str | None]

ROUTE_WAIT_S = 20.0  # a network that was restarted asks for its address anew
DAEMON_WAIT_S = 45.0  # to come up again: its unit has 30 s to start, and systemd pauses before
PEERS_WAIT_S = 20.0  # a daemon that has just started hears of its peers within seconds
POLL_S = 0.1
SETTLE_POLL_S = 1.0  # each look is a question to systemd
NAMED_MAX = 5  # units in one line for people
_UNKNOWN = ""  # it was not well before, or is not there at all
# Beside the repository's own bounds: the waits, each with a last question, and the restart of the daemon before.
_ASKING_S = baseline.ASK_TIMEOUT_S + baseline.REACH_TIMEOUT_S + 3 * systemctl.QUERY_TIMEOUT_S
_RENEWING_S = 4 * systemctl.RESTART_TIMEOUT_S + 4 * systemctl.QUERY_TIMEOUT_S


def limit_s(revision: Revision) -> float:
    """The most that renewing the daemon and a `check` of a revision can take."""
    own = 3 * revision.health_timeout_s + revision.settle_s
    return own + ROUTE_WAIT_S + DAEMON_WAIT_S + PEERS_WAIT_S + _ASKING_S + _RENEWING_S


def check(activation: Activation, revision: Revision, before: Baseline, phase: str) -> str | None:
    """Look at everything. Gives None, or which checks failed and why, in one line."""
    complaints = [why for why in [scripts.check_health(activation, revision, phase)] if why is not None]
    for name, look in _CHECKS:
        why = look(activation, revision, before, phase)
        scripts.note(activation, f"{name}: {'nothing to compare with' if why == _UNKNOWN else why or 'well'}")
        if why:
            complaints.append(f"{name}: {why}")
    if not complaints and (why := _settle(activation, revision, before, phase)) is not None:
        scripts.note(activation, f"settle: {why}")
        complaints.append(f"settle: {why}")
    return "; ".join(complaints) or None


def _daemon(activation: Activation, revision: Revision, before: Baseline, phase: str) -> str | None:
    runtime = baseline.runtime_of(activation)
    if runtime is None or not (before.answers or activation.unit):
        return _UNKNOWN
    if _within(DAEMON_WAIT_S, lambda: baseline.daemon_answers(runtime)):
        return None
    return f"clanmeshd does not answer within {DAEMON_WAIT_S:.0f} s"


def _units(activation: Activation, revision: Revision, before: Baseline, phase: str) -> str | None:
    if not activation.unit or not before.units:
        return _UNKNOWN
    now = systemctl.units()
    deadline = time.monotonic() + revision.health_timeout_s
    while now is not None and _are_coming(revision, now) and time.monotonic() < deadline:
        time.sleep(POLL_S)
        now = systemctl.units()
    if now is None:
        return "systemd does not answer"
    if failed := systemctl.newly_failed(before.units, now):
        return f"{_named(failed)} failed"
    declared = [name for name in revision.health_units if name not in now or now[name].active != "active"]
    if declared:
        return f"{_named(declared)} not active"
    lost = systemctl.stopped(before.units, now) if phase == scripts.ROLLBACK else []
    return f"{_named(lost)} ran before and did not come back" if lost else None


def _are_coming(revision: Revision, now: dict[str, systemctl.Unit]) -> bool:
    """Units that have to be active are on their way to it."""
    states = [now[name].active for name in revision.health_units if name in now]
    return any(state in ("activating", "reloading") for state in states)


def _route(activation: Activation, revision: Revision, before: Baseline, phase: str) -> str | None:
    if not before.routes:
        return _UNKNOWN
    _within(ROUTE_WAIT_S, lambda: set(before.routes) <= set(baseline.default_routes()))
    now = baseline.default_routes()
    lost = [family for family in before.routes if family not in now]
    return f"no default route for {' and '.join(lost)} any more" if lost else None


def _peers(activation: Activation, revision: Revision, before: Baseline, phase: str) -> str | None:
    runtime = baseline.runtime_of(activation)
    if runtime is None or not before.reached:
        return _UNKNOWN
    if _within(PEERS_WAIT_S, lambda: baseline.peer_reached(runtime)):
        return None
    return "none is reached over a new connection any more"


_CHECKS: list[tuple[str, Look]] = [
    ("daemon", _daemon),
    ("units", _units),
    ("route", _route),
    ("peers", _peers),
]


def _settle(activation: Activation, revision: Revision, before: Baseline, phase: str) -> str | None:
    """Watch what was started: what crashes a second later, or serves no more then, looked well at first."""
    first = systemctl.units() if activation.unit and before.units else None
    if first is None or not revision.settle_s or not systemctl.started(before.units, first):
        return None
    deadline = time.monotonic() + revision.settle_s
    while time.monotonic() < deadline:
        time.sleep(min(SETTLE_POLL_S, max(0.0, deadline - time.monotonic())))
        now = systemctl.units() or first
        if crashed := systemctl.crashing(before.units, first, now) or systemctl.newly_failed(before.units, now):
            return f"{_named(crashed)} did not stay up"
    why = scripts.check_health(activation, revision, phase)
    return f"{why}, which was well {revision.settle_s} s before" if why is not None else None


def _within(limit_s: float, holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True


def _named(names: list[str]) -> str:
    more = len(names) - NAMED_MAX
    return ", ".join(names[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
