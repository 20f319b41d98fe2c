"""What an overlay costs beside the daemon's gossip: the difference of two idle clans, with and without one."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean
from typing import Final, NamedTuple

from bench.figures import Figure
from bench.processes import read_usage
from bench.serf_measures import ip_bytes
from bench.world import clan
from clanctl.demo.lab import Node
from clanctl.demo.network import INTERFACE

_MB: Final = 1e6


class Cost(NamedTuple):
    """Of one node, its processes together."""

    sent_bytes_per_s: float  # with IP headers
    cpu_percent: float
    proportional_mb: float


def overlay_cost(size: int, settle_s: float, seconds: float, say: Callable[[str], None]) -> list[Figure]:
    """Measure a clan of each kind; means of all nodes."""
    say(f"{size} nodes without an overlay")
    without = _cost(size, 'overlay = "none"\n', settle_s, seconds)
    say(f"{size} nodes with one")
    more = [b - a for a, b in zip(without, _cost(size, "", settle_s, seconds), strict=True)]
    label = f"overlay, clan of {size}: on top"
    return [
        Figure(f"{label}, sent", round(more[0], 1), "B/s"),
        Figure(f"{label}, CPU", round(more[1], 3), "%"),
        Figure(f"{label}, PSS of daemon and WireGuard", round(more[2], 1), "MB"),
    ]


def _cost(size: int, configuration: str, settle_s: float, seconds: float) -> Cost:
    with clan(size, configuration) as (_, nodes):
        time.sleep(settle_s)
        before = [_used(node) for node in nodes]
        begun_s = time.monotonic()
        time.sleep(seconds)
        after = [_used(node) for node in nodes]
        elapsed_s = time.monotonic() - begun_s
    pairs = list(zip(before, after, strict=True))
    return Cost(
        sent_bytes_per_s=mean(b[0] - a[0] for a, b in pairs) / elapsed_s,
        cpu_percent=mean(b[1] - a[1] for a, b in pairs) / elapsed_s / 1e7,
        proportional_mb=mean(b[2] for b in after) / _MB,
    )


def _used(node: Node) -> tuple[int, int, int]:
    """Bytes sent so far, CPU ns so far, PSS bytes."""
    usages = [read_usage(pid, INTERFACE) for pid in _family(node.daemon_pid)]
    return (
        ip_bytes(usages[0]),
        sum(usage.cpu_ns for usage in usages),
        sum(usage.proportional_bytes for usage in usages),
    )


def _family(pid: int) -> Iterator[int]:
    """A process and all that it started."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _family(int(child))
