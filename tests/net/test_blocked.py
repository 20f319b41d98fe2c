"""Real daemons one of which no UDP reaches: it takes part by a stream, and by datagrams again when they pass."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from clanctl.demo.lab import Lab, Node
from tests.clock import wait_until
from tests.net.clan_of_daemons import Clan

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft") is None, reason="namespaces need root: run `sudo make test`"
)

HEARD_S = 8.0  # a second and a half on a quiet machine
OPEN_S = 60.0  # until no stream is needed any more; eight on a quiet machine
SILENT = 'overlay = "none"\n'
RULES = """
table inet blocked {
  chain in { type filter hook input priority 0; meta l4proto udp drop; }
  chain out { type filter hook output priority 0; meta l4proto udp drop; }
}
"""


@pytest.fixture
def clan(tmp_path: Path) -> Iterator[Clan]:
    """Three members."""
    with Lab(tmp_path) as lab:
        yield Clan(lab, SILENT, "alpha", "beta", "gamma")
    for log in tmp_path.glob("*/daemon.log"):
        assert "Traceback" not in log.read_text(), log.parent.name


def nft(clan: Clan, node: Node, words: list[str], text: str = "") -> None:
    """Change what a machine's kernel lets pass."""
    path = clan.lab.directory / "rules.nft"
    path.write_text(text)
    done = clan.lab.exec(node, ["nft", *words, *([str(path)] if text else [])])
    assert done.returncode == 0, done.stderr


def streams(clan: Clan, node: Node) -> int:
    """How many connections of its own a machine has open to control ports."""
    said = str(clan.lab.exec(node, ["ss", "-Htn", "state", "established", "dport = :51871"]).stdout)
    return len(said.splitlines())


def test_no_udp_is_no_reason_to_miss_anything(clan: Clan) -> None:
    alpha, beta, gamma = clan.nodes
    assert wait_until(lambda: streams(clan, gamma) == 0, HEARD_S), "what joining has opened is over"
    nft(clan, gamma, ["-f"], RULES)
    assert wait_until(lambda: streams(clan, gamma) > 0, HEARD_S)
    clan.set_secret(beta, "told-to-one-behind")
    clan.await_all(lambda node: "told-to-one-behind" in clan.secrets(node), [gamma], within_s=HEARD_S)
    clan.set_secret(gamma, "told-by-one-behind")
    clan.await_all(lambda node: "told-by-one-behind" in clan.secrets(node), [alpha, beta], within_s=HEARD_S)
    clan.await_whole()
    clan.restart(gamma)
    clan.await_whole()
    assert streams(clan, gamma) > 0
    nft(clan, gamma, ["flush", "ruleset"])
    assert wait_until(lambda: streams(clan, gamma) == 0, OPEN_S)
    clan.await_whole()


def test_who_joins_without_udp_hears_of_later_members(clan: Clan) -> None:
    delta = clan.start("delta")
    nft(clan, delta, ["-f"], RULES)
    clan.join(delta, clan.token())
    clan.await_whole(delta)
    epsilon = clan.start("epsilon")
    clan.join(epsilon, clan.token())
    clan.await_all(lambda node: "epsilon" in clan.states(node), [delta], within_s=HEARD_S)
    clan.await_all(lambda node: clan.states(node).get("delta") == "up", [clan.founder], within_s=HEARD_S)
