"""Machines for faults: copies of one that was installed once, with a time for each to end.

Side by side, since most of the time they wait for systemd's pauses.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from tests.systemd.world import World


@contextmanager
def machines(make_folder: Callable[[], Path], wheels: Path, count: int) -> Iterator[list[World]]:
    """Copies of one machine, each in a folder of its own."""
    made: list[World] = []
    try:
        first = World(make_folder(), wheels)
        made.append(first)
        first.found()
        first.leave()
        for _ in range(count):
            copy = World(make_folder(), wheels)
            made.append(copy)
            copy.clone_of(first)
        yield made[1:]
    finally:
        for world in made:
            world.leave()


@contextmanager
def temporary_machines(wheels: Path, count: int) -> Iterator[list[World]]:
    """The same, of which nothing is left."""
    with tempfile.TemporaryDirectory(prefix="clanmesh-machines-") as folder:

        def make_folder() -> Path:
            return Path(tempfile.mkdtemp(dir=folder))

        with machines(make_folder, wheels, count) as made:
            yield made


@dataclass
class Numbers:
    """The numbers from `next` on, for several to take, until the time is up or one has failed."""

    next: int
    end: int
    minutes: float | None = None
    failed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = Lock()
        self._deadline_s = time.monotonic() + self.minutes * 60 if self.minutes is not None else None

    def __iter__(self) -> Iterator[int]:
        while True:
            with self._lock:
                late = self._deadline_s is not None and time.monotonic() >= self._deadline_s
                if self.failed or late or self.next >= self.end:
                    return
                number = self.next
                self.next += 1
            yield number

    def fail(self, number: int) -> None:
        """Let nobody take another one."""
        with self._lock:
            self.failed.append(number)


def campaign(description: str, first: str, count: int) -> argparse.ArgumentParser:
    """The arguments that a long run takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("first", type=int, help=f"number of the first {first}")
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument(
        "--minutes", type=float, help="begin none after this time; the last line says where to go on"
    )
    return parser
