"""Real daemons with a copied state directory: all say so, the two themselves too, and nobody is put out."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from clanctl.demo.lab import Lab
from tests.net.clan_of_daemons import Clan

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root: run `sudo make test`")

NOTICED_S = 20.0  # 4 s on a quiet machine
SILENT = 'overlay = "none"\n'


@pytest.fixture
def clan(tmp_path: Path) -> Iterator[Clan]:
    """Two members; the one that is copied is a guest."""
    with Lab(tmp_path) as lab:
        yield Clan(lab, SILENT, "alpha", "beta")


def test_a_copied_disk_is_told_by_all_who_meet_it(clan: Clan) -> None:
    original = clan.guest("gamma")
    copied = clan.lab.directory / "copied"
    clan.lab.kill(original)  # nobody writes there while it is copied
    shutil.copytree(original.instance.state_directory, copied)
    clan.lab.start_daemon(original)  # which alone is no reason
    clan.await_whole(original)
    assert not any("clone" in clan.problems(node) for node in (*clan.nodes, original))
    twin = clan.restored("delta", copied)
    everybody = [*clan.nodes, original, twin]
    clan.await_all(lambda node: "clone" in clan.problems(node), everybody, within_s=NOTICED_S)
    told = {node.name: clan.problems(node)["clone"] for node in everybody}
    assert {told["alpha"], told["beta"]} == {"gamma runs twice with one key: its disk was copied"}, told
    assert all("this device" in told[name] for name in ("gamma", "delta")), told
    assert clan.states(clan.founder) == {"alpha": "up", "beta": "up", "gamma": "up"}
