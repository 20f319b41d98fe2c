"""A terminal for the tests of `clanctl`: a person who answers what is asked."""

import os
import pty
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30  # of a person before a terminal that says nothing


def at_a_terminal(runtime: Path, words: Sequence[str], *typed: str) -> tuple[int, str]:
    """Run `clanctl` with a terminal of its own; gives its status and all that the terminal showed."""
    host, guest = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "clanctl", "--runtime-dir", os.fspath(runtime), *words],
        stdin=guest,
        stdout=guest,
        stderr=guest,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protocol'}", "TERM": "dumb", "COLUMNS": "100"},
        start_new_session=True,
    )
    os.close(guest)
    shown = b""
    rest = list(typed)
    try:
        while select.select([host], [], [], PATIENCE_S)[0] and (chunk := os.read(host, 4096)):
            shown += chunk
            # A prompt has no line break: what follows is awaited.
            if rest and shown.rstrip(b" ").endswith((b":", b"?")):
                os.write(host, f"{rest.pop(0)}\n".encode())
    except OSError:
        pass  # the other end is closed: how a terminal says that all has ended
    os.close(host)
    return process.wait(PATIENCE_S), shown.decode()
