"""`reach`, on real daemons: somebody answers over a new connection, or nobody does."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clanctl.demo.lab import Lab, Node
from tests.clock import wait_until
from tests.net.clan_of_daemons import PATIENCE_S, Clan


@pytest.fixture
def clan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clan]:
    with Lab(tmp_path_factory.mktemp("reaching")) as lab:
        yield Clan(lab, 'overlay = "none"\n', "alpha", "beta", "gamma")


@contextmanager
def _hanging(node: Node) -> Iterator[None]:
    assert node.daemon is not None
    pid = node.daemon_pid
    os.kill(pid, signal.SIGSTOP)
    assert wait_until(lambda: _is_stopped(pid), PATIENCE_S)
    try:
        yield
    finally:
        for each in (node.daemon.pid, pid):  # nsenter stops with its child
            os.kill(each, signal.SIGCONT)


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_whoever_answers_is_enough(clan: Clan) -> None:
    """One that hangs costs half a second; when all do, that is said in time."""
    lab, [asker, *others] = clan.lab, clan.nodes
    names = {node.name for node in others}
    before_s = lab.call(asker, "reached", {})["age_s"]
    assert lab.call(asker, "reach", {})["reached"] in names
    after_s = lab.call(asker, "reached", {})["age_s"]
    assert after_s is before_s is None or after_s > before_s, "that does not count"
    first, second = others
    with _hanging(first):
        assert lab.call(asker, "reach", {}) == {"reached": second.name, "tried": 2}
        with _hanging(second):
            assert lab.call(asker, "reach", {}) == {"reached": None, "tried": 2}
