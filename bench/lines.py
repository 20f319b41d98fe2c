"""A clan of five real daemons on one LAN in which two have a direct tunnel, and two more one by way of a relay."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from bench.world import clan
from clanctl.demo.lab import Lab, Node
from clanctl.demo.processes import wait_until

PATH_TIMEOUT_S: Final = 20.0
_CLAN: Final = 5


@dataclass(frozen=True, slots=True)
class Line:
    """Two machines, and the address of the second one by which the first reaches it."""

    one: Node
    other: Node
    address: str
    daemons: tuple[int, ...] = ()  # processes in whose hands it is


@contextmanager
def lines_of_clan() -> Iterator[tuple[Lab, dict[str, Line]]]:
    """Form it, and wait for the paths. Lines: `direct` with its two daemons, `relayed` with the relay's."""
    with clan(_CLAN) as (lab, (relay, one, other, first, second)):
        lab.call(relay, "tag", {"node": relay.name, "add": ["relay"], "remove": []})
        lab.isolate(first, second)
        _await_path(lab, one, other, "lan")
        _await_path(lab, first, second, "relay")
        yield (
            lab,
            {
                "direct": Line(one, other, lab.address(other), (one.daemon_pid, other.daemon_pid)),
                "relayed": Line(first, second, lab.address(second), (relay.daemon_pid,)),
            },
        )


def path(lab: Lab, node: Node, other: Node) -> str:
    """How a machine reaches another one: `lan`, `direct`, `relay` or `none`."""
    peers = lab.call(node, "peers")["peers"]
    return next(str(peer["path"]["kind"]) for peer in peers if peer["name"] == other.name)


def _await_path(lab: Lab, node: Node, other: Node, kind: str) -> None:
    if not wait_until(lambda: path(lab, node, other) == kind, PATH_TIMEOUT_S):
        sys.exit(f"{node.name} reaches {other.name} by {path(lab, node, other)}, not by {kind}")
