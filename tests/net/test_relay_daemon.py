"""A real daemon relays for members of its clan when it has the tag, and for nobody else."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clanctl.demo.lab import Lab, Node
from clanmeshd.store import Store
from tests.clock import wait_until
from tests.net.clan_of_daemons import Clan

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root: run `sudo make test`")

CHECKOUT = Path(__file__).resolve().parents[2]
HEARD_S = 10.0


@pytest.fixture
def clan(tmp_path: Path) -> Iterator[Clan]:
    """Three members whose daemons have overlays, if nothing else."""
    with Lab(tmp_path) as lab:
        yield Clan(lab, "", "alpha", "beta", "gamma")
    for log in tmp_path.glob("*/daemon.log"):
        assert "Traceback" not in log.read_text(), log.parent.name


def identity(node: Node) -> str:
    """A machine's node id, in hex."""
    keys = Store(node.instance.state_directory).load_keys()
    assert keys is not None
    return keys.node.hex()


def asked(clan: Clan, asker: Node, relay: Node, peer: Node) -> str:
    """What a member is answered that asks another one to relay."""
    address = str(relay.place.ipv4).partition("/")[0]
    words = [os.fspath(asker.instance.state_directory), identity(relay), address, identity(peer)]
    done = clan.lab.exec(asker, [sys.executable, "-m", "tests.net.relay_member", *words], directory=CHECKOUT)
    assert done.returncode == 0, done.stderr
    return str(done.stdout).strip()


def test_a_tag_makes_a_relay_and_a_removal_ends_it(clan: Clan) -> None:
    alpha, beta, gamma = clan.nodes
    assert asked(clan, beta, alpha, gamma) == "unwilling"
    clan.ctl(alpha, "tag", "alpha", "+relay")
    assert wait_until(lambda: asked(clan, beta, alpha, gamma) != "unwilling", HEARD_S)
    address = str(alpha.place.ipv4).partition("/")[0]
    assert f"{address}:51873" in asked(clan, beta, alpha, gamma)
    assert asked(clan, gamma, alpha, beta) == asked(clan, beta, alpha, gamma)
    assert asked(clan, beta, gamma, alpha) == "unwilling"
    assert ":51873" in clan.lab.exec(alpha, ["ss", "-lun"]).stdout
    clan.ctl(alpha, "remove", "gamma", "--yes")
    assert asked(clan, beta, alpha, gamma) == "not-a-member"
    assert wait_until(lambda: ":51873" not in clan.lab.exec(alpha, ["ss", "-lun"]).stdout, HEARD_S)
