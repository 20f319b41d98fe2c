"""Lets atheris look for damage that goes new ways through a reader, where atheris is installed.

`python -m tests.fuzz.coverage_guided READER [SECONDS] [SEED]`, with a name of `tests.fuzz.readers`, or `core` for
whole datagrams, frames and records at a real core. What it finds is written to the working directory, and is tried
again by naming that file in place of SECONDS. atheris is no dependency: install it beside the project's.
"""

import argparse
import importlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

SECONDS: Final = 60
INPUT_BYTES_MAX: Final = 4096  # larger ones cost time and show nothing new
INPUT_TIMEOUT_S: Final = 5
CORE: Final = "core"
PACKAGES: Final = ("clanmesh_protocol", "clanmeshd")


def target(name: str) -> tuple[Callable[[bytes], object], tuple[bytes, ...]]:
    """What to feed, and what to begin with."""
    if name != CORE:
        readers = importlib.import_module("tests.fuzz.readers")
        return readers.READERS[name].takes, readers.READERS[name].scraps()
    attacked = importlib.import_module("tests.fuzz.attacked").Attacked()
    begin = ((0, attacked.datagrams), (1, attacked.frames), (2, attacked.frames), (3, attacked.records))
    return attacked.takes, tuple(bytes([door]) + data for door, messages in begin for data in messages)


def main() -> int:
    """Fuzz one reader. Does not return once atheris is at work."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.coverage_guided", description=__doc__)
    parser.add_argument("reader")
    parser.add_argument("seconds", nargs="?", default=str(SECONDS), help="or a file with one input")
    parser.add_argument("seed", nargs="?", type=int, default=1)
    arguments = parser.parse_args()
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        print("atheris is not installed: `pip install atheris` into an environment of its own", file=sys.stderr)
        return 1
    with atheris.instrument_imports(include=list(PACKAGES)):
        takes, begin = target(arguments.reader)
    options = [f"-seed={arguments.seed}", f"-max_len={INPUT_BYTES_MAX}", f"-timeout={INPUT_TIMEOUT_S}"]
    if arguments.seconds.isdigit():
        folder = Path(tempfile.mkdtemp(prefix="clanmesh-fuzz-"))
        for number, data in enumerate(begin):
            (folder / f"{number:04d}").write_bytes(data[:INPUT_BYTES_MAX])
        options += [f"-max_total_time={arguments.seconds}", str(folder)]
    else:
        options.append(arguments.seconds)
    print(f"{arguments.reader}: seed {arguments.seed}, from {len(begin)} messages", file=sys.stderr)
    atheris.Setup([sys.argv[0], *options], takes)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
