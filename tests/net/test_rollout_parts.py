"""A head among real daemons: a network in three parts, an author that is off, a device that has nothing yet."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clanctl.demo import scripts
from clanctl.demo.lab import Lab, Node
from clanctl.demo.processes import wait_until
from clanctl.failures import Failure

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root: run `sudo make test`")

PATIENCE_S = 40.0
CONTACT_S = 10.0  # from contact to the right head, everywhere


class Clan:
    """An admin, an author who is none, and four others."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.settings = lab.directory / "plain.toml"
        self.settings.write_text('overlay = "none"\n')
        names = ("admin", "author", "beta", "gamma", "delta", "epsilon")
        self.nodes = [lab.start_node(name, "--config", str(self.settings), wait=False) for name in names]
        for node in self.nodes:
            lab.wait_ready(node)
        self.admin, self.author, *self.others = self.nodes
        self.ctl(self.admin, "init", "family", "--node-name", "admin")
        for node in self.nodes[1:]:
            self.ctl(node, "join", "-", "--name", node.name, stdin=self.invite())
        home = self.author.directory / "home"
        self.repository, key = home / "config", home / "key"
        self.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key), directory=home)
        self.lab.call(self.admin, "signer-add", {"line": key.with_suffix(".pub").read_text().strip()})
        self.run("git", "init", "-q", "-b", "main", str(self.repository), directory=home)
        for name, value in (("gpg.format", "ssh"), ("user.signingkey", str(key)), ("commit.gpgsign", "true")):
            self.run("git", "config", name, value, directory=self.repository)
        assert wait_until(lambda: self.lab.call(self.author, "signer-list")["signers"], PATIENCE_S)
        self.ctl(self.author, "repo", "init", str(self.repository))

    def invite(self) -> str:
        token: str = self.ctl(self.admin, "invite")["token"]
        return token

    def ctl(self, node: Node, *words: str, stdin: str = "") -> Any:
        done = self.lab.ctl(node, *words, "--json", stdin=stdin)
        assert done.returncode == 0, (node.name, words, done.stderr)
        return json.loads(done.stdout)

    def run(self, *words: str, directory: Path) -> str:
        done = self.lab.exec(self.author, words, directory=directory)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout.strip()

    def push(self, greeting: str) -> str:
        """Commit at the author's and push; the commit."""
        scripts.write(self.repository, greeting)
        self.run("git", "add", "--all", directory=self.repository)
        self.run("git", "commit", "--quiet", f"--message={greeting}", directory=self.repository)
        self.run("git", "push", "--quiet", "clan", "main", directory=self.repository)
        return self.run("git", "rev-parse", "HEAD", directory=self.repository)

    def runs(self, node: Node) -> str:
        """What a device runs; empty when it cannot say."""
        try:
            return str(self.lab.call(node, "rollout-status")["commit"] or "")
        except Failure:
            return ""

    def ups(self, node: Node) -> int:
        return sum(peer["state"] == "up" for peer in self.lab.call(node, "peers")["peers"])

    def await_head(self, commit: str, nodes: list[Node], within_s: float) -> None:
        arrived = wait_until(lambda: all(self.runs(node) == commit for node in nodes), within_s)
        seen = {node.name: (self.runs(node)[:12], self.lab.log_tail(node, 5)) for node in nodes}
        assert arrived, f"not everybody is on {commit[:12]} after {within_s} s: {seen}"


@pytest.fixture(scope="module")
def clan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clan]:
    with Lab(tmp_path_factory.mktemp("parts")) as lab:
        yield Clan(lab)


def test_parts_that_meet_without_the_author_are_on_its_head(clan: Clan) -> None:
    first = clan.push("good-morning")
    clan.await_head(first, clan.nodes, PATIENCE_S)
    beta, gamma, delta, epsilon = clan.others
    parts = [[clan.admin, beta], [gamma, delta], [clan.author, epsilon]]
    clan.lab.partition(*parts)

    def parted() -> bool:
        return all(clan.ups(node) == len(part) for part in parts for node in part)

    assert wait_until(parted, PATIENCE_S), "they do not notice that the others are gone"
    second = clan.push("good-day")
    clan.await_head(second, parts[2], PATIENCE_S)
    clan.lab.kill(clan.author)
    clan.lab.heal()
    begun = time.monotonic()
    clan.await_head(second, [clan.admin, *clan.others], CONTACT_S)
    assert time.monotonic() - begun <= CONTACT_S
    assert clan.author.daemon is None


def test_a_late_device_with_an_empty_disk_is_there_while_the_author_is_off(clan: Clan) -> None:
    assert clan.author.daemon is None, "the test before has ended its daemon"
    wanted = clan.runs(clan.admin)
    late = clan.lab.start_node("late", "--config", str(clan.settings))
    token = clan.invite()
    begun = time.monotonic()
    clan.ctl(late, "join", "-", "--name", "late", stdin=token)
    clan.await_head(wanted, [late], CONTACT_S - (time.monotonic() - begun))
    clan.lab.start_daemon(clan.author)
    clan.await_head(wanted, clan.nodes, PATIENCE_S)
