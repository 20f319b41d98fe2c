"""A head among real daemons: a network in three parts, an author that is off, a device that has nothing yet."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clanctl.demo import scripts
from clanctl.demo.lab import Lab, Node
from tests.clock import Stopwatch, wait_until
from tests.net.clan_of_daemons import Clan

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root: run `sudo make test`")

PATIENCE_S = 40.0
CONTACT_S = 10.0  # from contact to the right head, everywhere


class Parts(Clan):
    """An admin, an author who is none, and four others."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, 'overlay = "none"\n', "admin", "author", "beta", "gamma", "delta", "epsilon")
        self.admin, self.author, *self.others = self.nodes
        home = self.author.directory / "home"
        self.repository, key = home / "config", home / "key"
        self.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key), directory=home)
        lab.call(self.admin, "signer-add", {"line": key.with_suffix(".pub").read_text().strip()})
        self.run("git", "init", "-q", "-b", "main", str(self.repository), directory=home)
        for name, value in (("gpg.format", "ssh"), ("user.signingkey", str(key)), ("commit.gpgsign", "true")):
            self.run("git", "config", name, value, directory=self.repository)
        assert wait_until(lambda: lab.call(self.author, "signer-list")["signers"], PATIENCE_S)
        self.ctl(self.author, "repo", "init", str(self.repository))

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
        """What a device runs. Raises Failure when it cannot say."""
        return str(self.lab.call(node, "rollout-status")["commit"])

    def await_head(self, commit: str, nodes: list[Node], within_s: float) -> None:
        self.await_all(lambda node: self.runs(node) == commit, nodes, within_s=within_s)


@pytest.fixture(scope="module")
def clan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with Lab(tmp_path_factory.mktemp("parts")) as lab:
        yield Parts(lab)


def test_parts_that_meet_without_the_author_are_on_its_head(clan: Parts) -> None:
    first = clan.push("good-morning")
    clan.await_head(first, clan.nodes, PATIENCE_S)
    beta, gamma, delta, epsilon = clan.others
    parts = [[clan.admin, beta], [gamma, delta], [clan.author, epsilon]]
    clan.lab.partition(*parts)

    for part in parts:
        clan.await_all(lambda node: list(clan.states(node).values()).count("up") == 2, part)
    second = clan.push("good-day")
    clan.await_head(second, parts[2], PATIENCE_S)
    clan.lab.kill(clan.author)
    clan.lab.heal()
    with Stopwatch() as watch:
        clan.await_head(second, [clan.admin, *clan.others], CONTACT_S)
    assert watch.passed_s <= CONTACT_S
    assert clan.author.daemon is None


def test_a_late_device_with_an_empty_disk_is_there_while_the_author_is_off(clan: Parts) -> None:
    assert clan.author.daemon is None, "the test before has ended its daemon"
    wanted = clan.runs(clan.admin)
    late, token = clan.start("late"), clan.token()
    with Stopwatch() as watch:
        clan.join(late, token)
        clan.await_head(wanted, [late], CONTACT_S - watch.passed_s)
    clan.lab.start_daemon(clan.author)
    clan.await_head(wanted, clan.nodes, PATIENCE_S)
