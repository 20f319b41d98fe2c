"""What was well before an activation: health is judged against it, and going back leads to it.

Written once per activation, durably, before the first step. Standard library only.
"""

from __future__ import annotations

import os

from clanmeshd.rollout import asking, systemctl
from clanmeshd.rollout.activation import FORMAT, load_json, write_durably

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any, NamedTuple

    from clanmeshd.rollout.activation import Activation
else:
    from clanmeshd.rollout.tuples import NamedTuple

BASELINE_NAME = "activation.before.json"
ASK_TIMEOUT_S = 5.0  # for `version`
LATELY_S = 60.0
REACH_TIMEOUT_S = 8.0  # for `reach`, which gives up by itself before
LIMIT_S = int(2 * ASK_TIMEOUT_S + REACH_TIMEOUT_S) + 2 * systemctl.QUERY_TIMEOUT_S  # to look at everything once

_REJECT = 0x0200  # RTF_REJECT: an entry of /proc/net/ipv6_route that leads nowhere


class Baseline(NamedTuple):
    """The state of things before an activation."""

    id: str
    units: dict[str, systemctl.Unit]  # empty where systemd does not run the daemon
    daemon: systemctl.Identity | None  # likewise
    routes: list[str]  # of `IPv4` and `IPv6`, those that had a default route
    answers: bool  # the daemon did, on its control socket
    reached: bool  # a peer was, over a new connection


def prepare(directory: str | Path, activation: Activation) -> tuple[Baseline, str | None]:
    """The baseline of this activation: the one on disk, or a new one; and None or why it could not be recorded.

    Who is to go back after a kill could not know then what ran before: it must not begin.
    """
    before = read(directory, activation)
    if before is None:
        before = look(activation)
        try:
            write_durably(directory, BASELINE_NAME, {"format": FORMAT, **_plain(before)})
        except OSError as error:
            return before, f"{os.path.join(directory, BASELINE_NAME)}: {error.strerror}"
    return before, None


def look(activation: Activation) -> Baseline:
    """How things are at this moment."""
    runtime = runtime_of(activation)
    lately = peer_reached_lately(runtime) if runtime is not None else None
    answers = lately is not None or (runtime is not None and daemon_answers(runtime))
    return Baseline(
        id=activation.id,
        units=(systemctl.units() or {}) if activation.unit else {},
        daemon=systemctl.identity(activation.unit) if activation.unit else None,
        routes=default_routes(),
        answers=answers,
        reached=runtime is not None and answers and (bool(lately) or peer_reached(runtime)),
    )


def read(directory: str | Path, activation: Activation) -> Baseline | None:
    """The baseline on disk, if it is of this activation and whole."""
    try:
        value = load_json(os.path.join(directory, BASELINE_NAME))
        if value["id"] != activation.id:
            return None
        return Baseline(
            id=activation.id,
            units={str(name): systemctl.Unit(*unit) for name, unit in value["units"].items()},
            daemon=systemctl.Identity(*value["daemon"]) if value["daemon"] is not None else None,
            routes=[str(family) for family in value["routes"]],
            answers=bool(value["answers"]),
            reached=bool(value["reached"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _plain(before: Baseline) -> dict[str, Any]:
    return {**before._asdict(), "units": {name: list(unit) for name, unit in before.units.items()}}


def runtime_of(activation: Activation) -> str | None:
    """The daemon's runtime directory."""
    return activation.environment.get("CLAN_RUNTIME_DIR") or None


def daemon_answers(runtime: str | Path) -> bool:
    """Ask the daemon for its version."""
    try:
        asking.ask(runtime, "version", ASK_TIMEOUT_S)
    except OSError:
        return False
    return True


def peer_reached_lately(runtime: str | Path) -> bool | None:
    """Whether the daemon had a new connection to a peer a moment ago, as who fetched a commit has.

    None when it does not say.
    """
    try:
        result = asking.ask(runtime, "reached", ASK_TIMEOUT_S)
    except OSError:
        return None
    age_s = result.get("age_s") if isinstance(result, dict) else None
    return isinstance(age_s, int | float) and age_s < LATELY_S


def peer_reached(runtime: str | Path) -> bool:
    """Let the daemon open a new connection to a peer."""
    try:
        result = asking.ask(runtime, "reach", REACH_TIMEOUT_S)
    except OSError:
        return False
    return isinstance(result, dict) and bool(result.get("reached"))


def default_routes(proc: str | Path = "/proc/net") -> list[str]:
    """The address families that have a default route."""
    found = []
    if any(fields[1] == fields[7] == "00000000" for fields in _rows(os.path.join(proc, "route"), 8)):
        found.append("IPv4")
    for fields in _rows(os.path.join(proc, "ipv6_route"), 10):
        if fields[0] == "0" * 32 and fields[1] == "00" and fields[9] != "lo" and not int(fields[8], 16) & _REJECT:
            found.append("IPv6")
            break
    return found


def _rows(path: str, fields_min: int) -> list[list[str]]:
    try:
        with open(path) as file:
            rows = [line.split() for line in file]
    except OSError:
        return []  # a kernel without this family
    return [row for row in rows if len(row) >= fields_min]
