"""A ping at an even pace from one machine to another, and how long it was without answers."""

import itertools
import os
import re
import subprocess
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self

from clanctl.demo.lab import Node
from clanctl.demo.network import network_words

INTERVAL_S: Final = 0.05
SILENCE_S: Final = 0.5  # longer than that between two answers is no traffic
_READ_BYTES: Final = 65_536
_REPLY: Final = re.compile(r"^\[([\d.]+)\] .*icmp_seq=\d+ .*time=([\d.]+) ms", re.MULTILINE)


class Reply(NamedTuple):
    """One answer, in seconds since 1970."""

    at_s: float
    asked_s: float


class Pings:
    """Runs as long as the context does. `replies` are all that came."""

    def __init__(self, node: Node, address: str, interval_s: float = INTERVAL_S) -> None:
        words = ["ping", "-6", "-n", "-D", "-i", str(interval_s), address]
        entering = network_words(node.pid)  # this alone: it is ping that we end
        self.replies: list[Reply] = []
        self._process = subprocess.Popen([*entering, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._rest = ""
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def read(self) -> list[Reply]:
        """Take what has come since the last time, and give it."""
        assert self._process.stdout is not None
        try:
            self._rest += os.read(self._process.stdout.fileno(), _READ_BYTES).decode(errors="replace")
        except BlockingIOError:
            return []
        said, newline, self._rest = self._rest.rpartition("\n")
        came = read_replies(said + newline)
        self.replies += came
        return came

    def is_steady(self, seconds: float) -> bool:
        """Whether answers have come for so long, without a silence."""
        self.read()
        now_s = time.time()
        times = [now_s - seconds, *(each.at_s for each in self.replies if each.at_s > now_s - seconds), now_s]
        return len(times) > 2 and longest_s(times) <= SILENCE_S


def read_replies(said: str) -> list[Reply]:
    """What `ping -D` has said of answers."""
    return [Reply(float(at), float(at) - float(ms) / 1000) for at, ms in _REPLY.findall(said)]


def longest_s(times: Sequence[float]) -> float:
    """The longest between two neighbours."""
    return max(b - a for a, b in itertools.pairwise(times))


def back_s(replies: Sequence[Reply], fault_s: float, until_s: float) -> float | None:
    """How long after a fault the last silence ended; 0 when there was none, None when it lasts still."""
    times = [fault_s, *(each.at_s for each in replies if fault_s < each.at_s <= until_s)]
    if until_s - times[-1] > SILENCE_S:
        return None
    ends = [b for a, b in itertools.pairwise(times) if b - a > SILENCE_S]
    return max(ends, default=fault_s) - fault_s
