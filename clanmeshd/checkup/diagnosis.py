"""From what was seen to what is said. Pure: one snapshot in, findings out, the worst first."""

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from clanmeshd.checkup import filtering, machine, members, network
from clanmeshd.checkup.terms import Finding, Level, Snapshot

FINDINGS_MAX: Final = 64  # a list that nobody reads to its end helps nobody

Check: TypeAlias = Callable[[Snapshot], Iterator[Finding]]

_CHECKS: Final[tuple[Check, ...]] = (
    machine.overlay,
    machine.clashes,
    filtering.firewall,
    network.udp,
    network.nat,
    network.router,
    network.probing,
    members.meeting,
    members.silent,
    members.tunnels,
    members.sizes,
    members.streams,
    members.relayed,
    members.same_network,
    members.clocks,
    members.versions,
    machine.names,
    machine.disk,
    machine.others,
)
# Of a device that is no member any more nobody hears, and it hears of nobody: what it is told says why.
_CHECKS_OUT: Final[tuple[Check, ...]] = (
    machine.others,
    machine.overlay,
    machine.clashes,
    machine.disk,
)
_ORDER: Final = (Level.PROBLEM, Level.NOTE, Level.OK)


def diagnose(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Everything there is to say, problems first; of each level in the order of the checks."""
    checks = _CHECKS if snapshot.is_member else _CHECKS_OUT
    found = [finding for check in checks for finding in check(snapshot)]
    return tuple(sorted(found, key=lambda finding: _ORDER.index(finding.level))[:FINDINGS_MAX])
