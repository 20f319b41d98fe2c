"""Files that forget what was not synced: the file seam's stand-in for a power cut.

Every operation writes to memory. `power_cut(seed)` gives the files as a disk may hold them afterwards: what was
synced is whole; of an append that was under way, any prefix; of a rename that was not synced, the old or new.
"""

import random
from pathlib import Path


class PowerCut(Exception):
    """The current went away in the middle of an operation."""


class LossyFiles:
    """Durable and volatile content, apart. `cut_after` operations, the next one is cut short."""

    def __init__(self) -> None:
        self.durable: dict[Path, bytes] = {}
        self.cut_after: int | None = None
        self.random = random.Random(0)

    def read(self, path: Path) -> bytes:
        if path not in self.durable:
            raise FileNotFoundError(path)
        return self.durable[path]

    def write_atomic(self, path: Path, data: bytes, mode: int = 0o600) -> None:
        if self._cut():
            if self.random.random() < 0.5:
                self.durable[path] = data
            raise PowerCut
        self.durable[path] = data

    def append_synced(self, path: Path, data: bytes) -> None:
        before = self.durable.get(path, b"")
        if self._cut():
            # An append that was not synced may be on the disk in part, and a file may have grown over zeros.
            part = data[: self.random.randrange(len(data) + 1)]
            if self.random.random() < 0.3:
                part += bytes(self.random.randrange(len(data) - len(part) + 1))
            self.durable[path] = before + part
            raise PowerCut
        self.durable[path] = before + data

    def truncate_synced(self, path: Path, size: int) -> None:
        if self._cut():
            raise PowerCut
        self.durable[path] = self.durable[path][:size]

    def _cut(self) -> bool:
        if self.cut_after is None:
            return False
        self.cut_after -= 1
        return self.cut_after < 0
