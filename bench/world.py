"""A world of namespaces around a benchmark, and clans of real daemons in it."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from clanctl.demo.lab import Lab, Node
from clanctl.demo.network import names, unshare_words
from clanctl.demo.processes import LabError, wait_until
from clanctl.failures import Failure

INSIDE = "CLANMESH_BENCH_INSIDE"
FORM_TIMEOUT_S = 60.0


def enter() -> None:
    """Run this same command again inside a world of its own, unless we are in it. Does not return outside.

    All that is started inside ends with it, whatever way this process ends.
    """
    if os.environ.get(INSIDE):
        return
    words = [*unshare_words(mapped_root=os.geteuid() != 0), *sys.orig_argv]
    sys.exit(subprocess.run(words, env={**os.environ, INSIDE: "1"}, check=False).returncode)


@contextmanager
def clan(
    size: int, configuration: str = "", *, programs: Mapping[str, str] | None = None
) -> Iterator[tuple[Lab, list[Node]]]:
    """A clan of real daemons in which everyone sees everyone up. `programs`: modules of those that run another."""
    with tempfile.TemporaryDirectory(prefix="clanmesh-bench-") as folder:
        settings = Path(folder) / "clanmesh.toml"
        settings.write_text(configuration)
        with Lab(Path(folder)) as lab:
            for name in names(size):
                program = (programs or {}).get(name, "clanmeshd")
                lab.start_node(name, "--config", str(settings), program=program, wait=False)
            nodes = list(lab.nodes.values())
            for node in nodes:
                lab.wait_ready(node)
            try:
                form(lab, nodes)
                yield lab, nodes
            except (Failure, LabError):
                show_ended(lab, nodes)
                raise


def show_ended(lab: Lab, nodes: list[Node]) -> None:
    """Show the last words of daemons that ended: the folder that holds them goes now."""
    for node in nodes:
        if node.daemon is None or node.daemon.poll() is not None:
            print(f"--- {node.name} ended:\n{lab.log_tail(node)}", file=sys.stderr)


def form(lab: Lab, nodes: list[Node]) -> None:
    """Found a clan on the first machine, let the others join, and wait until all see all."""
    founder, *others = nodes
    lab.call(founder, "init", {"name": "bench", "node_name": founder.name, "signers": []})
    for node in others:
        token = lab.call(founder, "invite", {"tags": [], "uses": 1, "ttl_s": 600})["token"]
        lab.call(node, "join", {"token": token, "name": node.name})
    if not wait_until(lambda: all_up(lab, nodes), FORM_TIMEOUT_S):
        sys.exit(f"the clan of {len(nodes)} did not form within {FORM_TIMEOUT_S:.0f} s")


def all_up(lab: Lab, nodes: list[Node]) -> bool:
    """Whether every machine sees every one up."""
    return all(
        [peer["state"] for peer in lab.call(node, "peers")["peers"]] == ["up"] * len(nodes) for node in nodes
    )
