"""The daemon upgrades itself on the path that all takes: its unit is one of those that a revision changes.

A daemon cannot restart itself in the midst of what it watches, nor judge whether it came back. So the activator,
which runs from the version before, restarts the daemon's unit as soon as the revision's `test` phase has changed
what it would start; health then asks the new one. Going back restarts the old one. Standard library only.
"""

from __future__ import annotations

from clanmeshd.rollout import scripts, systemctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from clanmeshd.rollout.activation import Activation
    from clanmeshd.rollout.baseline import Baseline


def renew(activation: Activation, since: systemctl.Identity | None) -> str | None:
    """Restart the daemon when its unit or program is another than `since`. Gives None, or why it does not run."""
    if not activation.unit or since is None:
        return None
    systemctl.reload()
    now = systemctl.identity(activation.unit)
    return _restart(activation) if now is not None and now.content != since.content else None


def bring_back(activation: Activation, before: Baseline) -> str | None:
    """After going back: the daemon of before runs, and each unit that ran. Gives None, or what does not."""
    if not activation.unit:
        return None
    trouble = None
    systemctl.reload()
    now = systemctl.identity(activation.unit)
    if now is None or now != before.daemon:  # the start it had last was of another version, or may have been
        trouble = _restart(activation)
    units = systemctl.units()
    if units is None:
        return trouble or "units: systemd does not answer"
    if failed := systemctl.newly_failed(before.units, units):
        systemctl.run("reset-failed", *failed)
    if stopped := systemctl.stopped(before.units, units):
        scripts.note(activation, f"starting again: {' '.join(stopped)}")
        systemctl.start(stopped)  # what does not start is named by the health check
    return trouble


def _restart(activation: Activation) -> str | None:
    scripts.note(activation, f"restarting {activation.unit}")
    trouble = systemctl.restart(activation.unit)
    return f"daemon: {trouble}" if trouble is not None else None
