"""Lets atheris look for damage that goes new ways through a reader, where atheris is installed.

`tools/env .venv/bin/python -m tests.fuzz.coverage_guided READER [SECONDS] [SEED]`, with a name of
`tests.fuzz.readers`, or `core` for whole datagrams, frames and records at a real core, or `all` for one after the
other, as `make soak` does. What it finds is written to `.cache/fuzz`, and is tried again by naming that file in
place of SECONDS. atheris is no dependency; `python3 -m pip install --target .cache/atheris atheris` puts it where
it is found.
"""

import argparse
import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

SECONDS: Final = 60
INPUT_BYTES_MAX: Final = 4096  # larger ones cost time and show nothing new
INPUT_TIMEOUT_S: Final = 5
CORE: Final = "core"
ALL: Final = "all"
PACKAGES: Final = ("clanmesh_protocol", "clanmeshd")
MISSING: Final = 77  # the exit status of what was skipped
ROOT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = ROOT / ".cache"
FOUND: Final = CACHE / "fuzz"


def target(name: str) -> tuple[Callable[[bytes], object], tuple[bytes, ...]]:
    """What to feed, and what to begin with."""
    if name != CORE:
        readers = importlib.import_module("tests.fuzz.readers")
        return readers.READERS[name].takes, readers.READERS[name].scraps()
    attacked = importlib.import_module("tests.fuzz.attacked").Attacked()
    begin = ((0, attacked.datagrams), (1, attacked.frames), (2, attacked.frames), (3, attacked.records))
    return attacked.takes, tuple(bytes([door]) + data for door, messages in begin for data in messages)


def fuzz(atheris: Any, name: str, seconds: str, seed: int) -> None:
    """Fuzz one reader, or try one input. Does not return: the process ends, with another status after a find."""
    with atheris.instrument_imports(include=list(PACKAGES)):
        takes, begin = target(name)
    FOUND.mkdir(parents=True, exist_ok=True)
    options = [f"-seed={seed}", f"-max_len={INPUT_BYTES_MAX}", f"-timeout={INPUT_TIMEOUT_S}"]
    options.append(f"-artifact_prefix={FOUND}/{name.replace(' ', '-')}-")
    if seconds.isdigit():
        folder = FOUND / "corpus" / name  # grows by what went new ways: the next time begins there
        folder.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(begin):
            (folder / f"{number:04d}").write_bytes(data[:INPUT_BYTES_MAX])
        options += [f"-max_total_time={seconds}", str(folder)]
    else:
        options.append(seconds)
    print(f"{name}: seed {seed}, from {len(begin)} messages", file=sys.stderr)
    atheris.Setup([sys.argv[0], *options], takes)
    atheris.Fuzz()


def fuzz_all(seconds: str, seed: int) -> int:
    """Fuzz each reader in a process of its own. Gives the first status that is not 0."""
    names = [*importlib.import_module("tests.fuzz.readers").READERS, CORE]
    for number, name in enumerate(names, 1):
        print(f"fuzzing by coverage: {name} ({number} of {len(names)}), {seconds} s, seed {seed}", flush=True)
        words = [sys.executable, "-m", "tests.fuzz.coverage_guided", name, seconds, str(seed)]
        ended = subprocess.run(
            words, cwd=ROOT, capture_output=True, encoding="utf-8", errors="replace", check=False
        )
        if ended.returncode != 0:
            print(f"{ended.stderr[-4000:]}\nfailed: {name}; what did it lies in {FOUND}", file=sys.stderr)
            return ended.returncode
    return 0


def main() -> int:
    """Fuzz what the arguments name. Gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.coverage_guided", description=__doc__)
    parser.add_argument("reader")
    parser.add_argument("seconds", nargs="?", default=str(SECONDS), help="or a file with one input")
    parser.add_argument("seed", nargs="?", type=int, default=1)
    arguments = parser.parse_args()
    sys.path.append(str(CACHE / "atheris"))
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        print("SKIPPED: no reader is fuzzed by coverage: atheris is not installed; to have it:", file=sys.stderr)
        print("    python3 -m pip install --target .cache/atheris atheris", file=sys.stderr)
        return MISSING
    if arguments.reader == ALL:
        return fuzz_all(arguments.seconds, arguments.seed)
    fuzz(atheris, arguments.reader, arguments.seconds, arguments.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
