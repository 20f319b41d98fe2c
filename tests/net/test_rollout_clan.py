"""A rollout among real daemons: testers go first, admins pause and promote, a fork is named and ended."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clanctl.demo import scripts
from clanctl.demo.lab import Lab, Node
from clanctl.failures import Failure
from tests.clock import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root: run `sudo make test`")

PATIENCE_S = 40.0  # a commit needs about a second for each ring
TESTERS = ("tess", "tim", "tom")
RING = '\n[[rollout.ring]]\ntag = "testers"\nsoak_s = 1\n'


class Clan:
    """An admin's laptop, three testers and a NAS; the laptop has the repository."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        settings = lab.directory / "plain.toml"
        settings.write_text('overlay = "none"\n')
        names = ("laptop", *TESTERS, "nas")
        self.nodes = [lab.start_node(name, "--config", str(settings), wait=False) for name in names]
        for node in self.nodes:
            lab.wait_ready(node)
        self.laptop, self.nas = self.nodes[0], self.nodes[-1]
        self.others = [self.laptop, self.nas]
        self.testers = self.nodes[1:-1]
        self.ctl(self.laptop, "init", "family", "--node-name", "laptop")
        for node in self.nodes[1:]:
            tags = ["--tag", "testers"] if node in self.testers else []
            token = self.ctl(self.laptop, "invite", *tags)["token"]
            self.ctl(node, "join", "-", "--name", node.name, stdin=token)
        self.repository = self.laptop.directory / "home" / "config"
        self.ctl(self.laptop, "repo", "init", str(self.repository))

    def ctl(self, node: Node, *words: str, stdin: str = "") -> Any:
        done = self.lab.ctl(node, *words, "--json", stdin=stdin)
        assert done.returncode == 0, (node.name, words, done.stderr)
        return json.loads(done.stdout)

    def run(self, node: Node, *words: str, directory: Path) -> str:
        done = self.lab.exec(node, words, directory=directory)
        assert done.returncode == 0, (node.name, words, done.stderr)
        return done.stdout.strip()

    def push(self, greeting: str, node: Node | None = None, directory: Path | None = None) -> str:
        """Commit a greeting at a machine and push it; the commit."""
        node, directory = node or self.laptop, directory or self.repository
        scripts.write(directory, greeting)
        with (directory / "clan.toml").open("a") as opened:
            opened.write(RING)
        self.run(node, "git", "add", "--all", directory=directory)
        self.run(node, "git", "commit", "--quiet", "--allow-empty", f"--message={greeting}", directory=directory)
        self.run(node, "git", "push", "--quiet", "clan", "main", directory=directory)
        return self.run(node, "git", "rev-parse", "HEAD", directory=directory)

    def status(self, node: Node) -> Any:
        return self.lab.call(node, "rollout-status")

    def problems(self, node: Node) -> dict[str, str]:
        return {each["kind"]: each["what"] for each in self.lab.call(node, "status")["problems"]}

    def read(self, node: Node, path: str) -> str:
        try:
            return Path(f"/proc/{node.pid}/root{path}").read_text()
        except FileNotFoundError:
            return ""

    def await_all(self, holds: Callable[[Node], object], nodes: list[Node]) -> None:
        waiting = list(nodes)

        def none_left() -> bool:
            waiting[:] = [node for node in waiting if not _holds(holds, node)]
            return not waiting

        found = wait_until(none_left, PATIENCE_S)
        assert found, {node.name: (self.status(node), self.lab.log_tail(node, 5)) for node in waiting}

    def await_state(self, commit: str, state: str, nodes: list[Node]) -> None:
        def there(node: Node) -> bool:
            status = self.status(node)
            return bool(status["wanted"] == commit and status["state"] == state)

        self.await_all(there, nodes)


def _holds(holds: Callable[[Node], object], node: Node) -> bool:
    try:
        return bool(holds(node))
    except Failure:
        return False


@pytest.fixture(scope="module")
def clan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clan]:
    with Lab(tmp_path_factory.mktemp("rings")) as lab:
        made = Clan(lab)
        made.await_state(made.push("good-morning"), "current", made.nodes)
        yield made


def test_a_commit_that_testers_go_back_from_reaches_nobody_else(clan: Clan) -> None:
    bad = clan.push(scripts.BAD)
    clan.await_state(bad, "rolled-back", clan.testers)
    clan.await_state(bad, "held", clan.others)
    for node in clan.others:
        assert scripts.BAD not in clan.read(node, scripts.PHASES)
    clan.await_all(lambda node: "testers went back from it" in clan.problems(node).get("device", ""), clan.others)
    for node in clan.testers:
        assert scripts.BAD in clan.read(node, scripts.PHASES)
    better = clan.push("good-day")
    clan.await_state(better, "current", clan.nodes)
    clan.await_all(lambda node: not clan.problems(node), clan.nodes)


def test_a_pause_holds_every_machine_until_it_is_ended(clan: Clan) -> None:
    assert clan.lab.ctl(clan.nas, "rollout", "pause").returncode == 1, "the NAS is no admin"
    clan.ctl(clan.laptop, "rollout", "pause", "--reason", "holidays")
    clan.await_all(lambda node: clan.lab.call(node, "status")["notices"], clan.nodes)
    before = {node.name: clan.read(node, scripts.PHASES) for node in clan.nodes}
    commit = clan.push("good-evening")
    clan.await_state(commit, "held", clan.nodes)
    assert "laptop paused the rollout (holidays)" in clan.status(clan.nas)["why"]
    assert {node.name: clan.read(node, scripts.PHASES) for node in clan.nodes} == before
    clan.ctl(clan.laptop, "rollout", "resume")
    clan.await_state(commit, "current", clan.nodes)


def test_an_admin_promotes_what_absent_testers_cannot_find_well(clan: Clan) -> None:
    for node in clan.testers[:2]:
        clan.lab.kill(node)
    commit = clan.push("good-night")
    clan.await_state(commit, "current", clan.testers[2:])
    clan.await_state(commit, "behind", clan.others)
    clan.await_all(lambda node: "1 of the 2" in clan.status(node)["why"], clan.others)
    clan.ctl(clan.laptop, "rollout", "promote", commit[:8])
    clan.await_state(commit, "current", clan.others)
    for node in clan.testers[:2]:
        clan.lab.start_daemon(node)
    clan.await_state(commit, "current", clan.nodes)


def test_a_fork_is_named_everywhere_and_ended_by_an_admin(clan: Clan) -> None:
    second = clan.nas.directory / "home" / "config"
    shutil.copytree(clan.repository, second)
    key = clan.nas.directory / "home" / "bob"
    clan.run(
        clan.nas, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bob", "-f", str(key), directory=second
    )
    clan.run(clan.nas, "git", "config", "user.signingkey", f"{key}.pub", directory=second)
    clan.ctl(clan.laptop, "signer", "add", f"{key}.pub")
    clan.await_all(lambda node: len(clan.lab.call(node, "signer-list")["signers"]) == 2, clan.nodes)
    clan.lab.partition([clan.laptop, clan.testers[0]], [clan.nas, *clan.testers[1:]])
    left, right = clan.push("left"), clan.push("right", clan.nas, second)
    clan.await_state(right, "current", [clan.nas, *clan.testers[1:]])
    clan.await_state(left, "current", [clan.testers[0]])
    clan.await_state(left, "behind", [clan.laptop])
    clan.lab.heal()
    clan.await_all(lambda node: "fork" in clan.problems(node), clan.nodes)
    for node in clan.nodes:
        text = clan.problems(node)["fork"]
        assert f"{right[:12]} by bob" in text
        assert left[:12] in text
    clan.await_all(lambda node: clan.status(node)["state"] == "held", clan.nodes)
    assert any("diverge" in each["text"] for each in clan.lab.call(clan.testers[0], "events")["events"])
    clan.ctl(clan.laptop, "rollout", "resolve", left[:12], "--yes")
    clan.await_state(left, "current", clan.nodes)
    assert clan.read(clan.nas, scripts.MARKER).strip() == "left"
    clan.await_all(lambda node: "fork" not in clan.problems(node), clan.nodes)
