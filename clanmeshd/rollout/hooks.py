"""Programs of the machine's owner that are told how an activation ended: once each, bounded, whatever dies.

Every executable in the directory is started, in the order of the names, with the outcome in its environment:
CLAN_RESULT is `good`, `rolled-back` or `failed`, CLAN_WHY a line for people (empty for `good`), CLAN_COMMIT the
commit that was tried, CLAN_RUNNING the one that runs now (empty when that is not known). The beginning of each is
recorded before it is started: one that was under way when the power went is not started again.

Standard library only.
"""

from __future__ import annotations

import os

from clanmeshd.rollout import scripts
from clanmeshd.rollout.activation import FAILED, FORMAT, GOOD, load_json, write_patiently

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from clanmeshd.rollout.activation import Activation, State

RECORD_NAME = "activation.hooks.json"
HOOKS_MAX = 16
HOOK_TIMEOUT_S = 60  # to send a message; a build of something is not for here
TOTAL_S = HOOKS_MAX * HOOK_TIMEOUT_S

_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?<!~)"  # as run-parts, with dots; no leftovers of editors


def due(directory: str | Path, activation: Activation) -> list[str]:
    """The hooks that were not begun yet for this activation, in their order. Raises OSError."""
    begun = _begun(directory, activation)
    return [name for name in names(activation.hooks) if name not in begun]


def names(directory: str) -> list[str]:
    """The hooks that a directory has; none when there is no directory."""
    try:
        entries = sorted(os.listdir(directory)) if directory else []
    except OSError:
        return []
    if not entries:
        return []
    import re  # most machines have no hooks

    return [
        name
        for name in entries
        if re.fullmatch(_NAME, name)
        and not name.endswith(".bak")
        and os.path.isfile(os.path.join(directory, name))
        and os.access(os.path.join(directory, name), os.X_OK)
    ][:HOOKS_MAX]


def run(directory: str | Path, activation: Activation, state: State) -> None:
    """Run what is due. A failure is in the log and changes nothing. Raises OSError when it can't be recorded."""
    begun = _begun(directory, activation)
    for name in due(directory, activation):
        begun = [*begun, name]
        write_patiently(directory, RECORD_NAME, {"format": FORMAT, "id": activation.id, "begun": begun})
        scripts.call(
            activation,
            [os.path.join(activation.hooks, name)],
            what=f"hook {name}",
            cwd="/",
            timeout_s=HOOK_TIMEOUT_S,
            extra=_environment(activation, state),
        )


def _environment(activation: Activation, state: State) -> dict[str, str]:
    good = activation.revision if state.result == GOOD else activation.last_good
    return {
        "CLAN_COMMIT": activation.revision.commit,
        "CLAN_PHASE": "outcome",
        "CLAN_RESULT": state.result or FAILED,
        "CLAN_WHY": state.why,
        "CLAN_RUNNING": good.commit if good is not None and state.result != FAILED else "",
    }


def _begun(directory: str | Path, activation: Activation) -> list[str]:
    try:
        value = load_json(os.path.join(directory, RECORD_NAME))
        return [str(name) for name in value["begun"]] if value["id"] == activation.id else []
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []
