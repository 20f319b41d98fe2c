"""The demonstration's inside: runs as the first process of a world of its own, and tells in JSON lines.

When it ends, everything that it started ends: the kernel sees to that.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from clanctl.demo import network
from clanctl.demo.lab import Lab
from clanctl.demo.processes import LabError
from clanctl.demo.story import StepFailed, Story
from clanctl.failures import Failure

_kept = threading.Event()  # the clan shall outlive the command


def main() -> int:
    """Run the story in this namespace."""
    arguments = _parse()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # a first process is deaf to what it does not handle
    threading.Thread(target=_end_with_parent, args=(arguments.lifeline, arguments.directory), daemon=True).start()
    _mount(arguments.directory)
    try:
        lab = Lab(arguments.directory)
    except LabError as error:
        emit({"failed": {"step": "making a network", "why": str(error), "logs": {}}})
        return 1
    return _tell(lab, arguments)


def _tell(lab: Lab, arguments: argparse.Namespace) -> int:
    status = 0
    try:
        summary = Story(lab, network.names(arguments.nodes), emit, arguments.started).tell()
        first = next(iter(lab.nodes.values()))
        emit({"summary": {**summary, "peers": lab.call(first, "peers")}})
    except StepFailed as failure:
        logs = {node.name: lab.log_tail(node) for node in lab.nodes.values()}
        emit({"failed": {"step": failure.step, "why": failure.why, "logs": logs}})
        status = 1
    except Failure as failure:
        emit({"failed": {"step": "showing the peers", "why": str(failure), "logs": {}}})
        status = 1
    if arguments.keep and lab.nodes:
        _keep(lab, arguments.directory)
    return status


def emit(event: Mapping[str, Any]) -> None:
    """Tell one thing."""
    print(json.dumps(event), flush=True)


def _keep(lab: Lab, directory: Path) -> None:
    """Leave everything up until SIGTERM: the outside is told where it is, and ends."""
    for node in lab.nodes.values():
        (node.directory / "enter").write_text(enter_script(lab.environment(node), node.directory))
    _kept.set()
    emit({"kept": {node.name: [node.pid, os.fspath(node.directory / "enter")] for node in lab.nodes.values()}})
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    signal.signal(signal.SIGTERM, lambda *_: _vanish(directory))
    while True:
        signal.pause()


def _vanish(directory: Path) -> None:
    """End, and with us everything; the empty directory under our mount is of the system outside."""
    subprocess.run(["umount", "--lazy", os.fspath(directory)], stderr=subprocess.DEVNULL, check=False)
    with suppress(OSError):
        directory.rmdir()
    os._exit(0)


def enter_script(environment: Mapping[str, str], directory: Path) -> str:
    """What `sh` reads to become a person at that machine."""
    chosen = ("HOME", "PATH", "PYTHONPATH", "GIT_CONFIG_NOSYSTEM")
    names = [*chosen, *(name for name in environment if name.startswith(("GIT_AUTHOR", "GIT_COMMITTER")))]
    exports = "".join(f"export {name}={shlex.quote(environment[name])}\n" for name in names)
    return f'{exports}cd {shlex.quote(os.fspath(directory / "home"))}\nexec "${{@:-sh}}"\n'


def _end_with_parent(lifeline: int, directory: Path) -> None:
    """End when the outside does, unless the clan shall stay: the pipe closes whatever way it ended."""
    os.read(lifeline, 1)
    if not _kept.is_set():
        _vanish(directory)


def _mount(directory: Path) -> None:
    """Keep all files of the demonstration in memory; the mount is seen from inside alone."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", os.fspath(directory)], check=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="clanctl demo (inside)")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--started", type=float, required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
