"""What the tools say to a person: one line a step, one line when it cannot go on."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

LOG_LINES_SHOWN = 12  # of a program that failed: its reason is mostly among the last


class Impossible(Exception):
    """It cannot go on: one line with what is missing, why, and what to do."""


@contextmanager
def step(name: str) -> Iterator[None]:
    """Show a step with the time that it took."""
    started_s = time.monotonic()
    if sys.stdout.isatty():
        print(f"           {name} ...", end="\r", flush=True)
    yield
    print(f"{time.monotonic() - started_s:7.1f} s  {name}    ", flush=True)


def run(
    words: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None, directory: Path | None = None
) -> bool:
    """Run a program with its output in a log file. Gives whether it succeeded. Raises OSError."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        finished = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, cwd=directory, check=False
        )
    return finished.returncode == 0


def read(words: Sequence[str | Path]) -> str | None:
    """Give what a program prints, or None when it fails or is missing."""
    try:
        finished = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace", check=False
        )
    except OSError:
        return None
    return finished.stdout if finished.returncode == 0 else None


def show_end_of(log: Path) -> None:
    """Print the last lines of a log file to stderr."""
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
    print("\n".join(f"    {line}" for line in lines), file=sys.stderr)
