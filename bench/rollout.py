"""From `git push` to activated on every device of a clan, and what becomes of a push when devices are cut off.

Real daemons without overlays; a repository of 1 MB whose scripts use the shell alone, and no build. What a
device ran, and since when, is read from its own history. In turn:

- some pushes of a small change, and one of a whole new megabyte, whose bytes are counted at the pusher;
- a push whose author's cable is pulled as soon as the first other device has the commits;
- a push while the network is in three parts; then the author goes off, the parts meet, and at last a device joins
  that has nothing yet.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.figures import Figure, load, median, rounded, run
from bench.world import all_up, clan, enter, show_ended
from clanctl.demo.lab import Lab, Node
from clanctl.demo.network import INTERFACE
from clanctl.demo.processes import LabError, wait_until

NODES: Final = 20
RUNS: Final = 7
REST_S: Final = 3.0  # between two pushes: statuses of the last one still travel
REPOSITORY_BYTES: Final = 1_000_000
PUSH_S_TARGET: Final = 1.0
COPIES_TARGET: Final = 3.0
CONTACT_S_TARGET: Final = 10.0
GIVE_UP_S: Final = 60.0
POLL_S: Final = 0.02
PARTED_S: Final = 12.0  # until each part holds the others to be down

FILES: Final = {
    "clan.toml": '[rollout]\ndriver = "command"\nactivate = ["./activate"]\nhealth = ["./health"]\n',
    "activate": '#!/bin/sh\necho "$CLAN_PHASE $CLAN_COMMIT" >"$CLAN_RUNTIME_DIR/running"\n',
    "health": '#!/bin/sh\n[ -s "$CLAN_RUNTIME_DIR/running" ]\n',
}


@dataclass(frozen=True, slots=True)
class Pushed:
    """A push, and when it was activated on which device (s since its beginning)."""

    commit: str
    begun_unix_s: float
    command_s: float
    activated_s: dict[str, float]

    def worst_s(self, nodes: Sequence[Node]) -> float | None:
        """When the last of some devices had it; None when one of them never had."""
        found = [self.activated_s.get(node.name) for node in nodes]
        times = [seconds for seconds in found if seconds is not None]
        return round(max(times), 3) if len(times) == len(nodes) else None


class Bench:
    """A clan with a repository, and a pusher that is no admin."""

    def __init__(self, lab: Lab, nodes: Sequence[Node], rest_s: float) -> None:
        self.lab = lab
        self.nodes = list(nodes)
        self.admin, self.author = nodes[0], nodes[-1]
        self.others = self.nodes[:-1]
        self._rest_s = rest_s
        self._random = random.Random(1)
        self._changes = 0
        self._home = self.author.directory / "home"

    def prepare(self) -> None:
        """Make a key, have it a signer, and the repository, not pushed yet."""
        key = self._home / "key"
        self._do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
        self.lab.call(self.admin, "signer-add", {"line": key.with_suffix(".pub").read_text().strip()})
        path = self._home / "config"
        self._do("git", "init", "-q", "-b", "main", str(path))
        for name, value in (("gpg.format", "ssh"), ("user.signingkey", str(key)), ("commit.gpgsign", "true")):
            self._do("git", "-C", str(path), "config", name, value)
        done = self.lab.ctl(self.author, "repo", "init", str(path))
        if done.returncode != 0:
            sys.exit(f"bench.rollout: repo init: {done.stderr.strip()}")
        for name, text in FILES.items():
            (path / name).write_text(text)
            (path / name).chmod(0o755)
        self._await("that all know the signer", lambda: all(map(self._knows_signer, self.nodes)))

    def commit(self, *, whole: bool = False) -> str:
        """Commit a small change, or one that exchanges all of the data."""
        path, self._changes = self._home / "config", self._changes + 1
        (path / "number").write_text(f"{self._changes}\n")
        if whole:
            (path / "data").write_bytes(self._random.randbytes(REPOSITORY_BYTES))
        self._do("git", "-C", str(path), "add", "--all")
        self._do("git", "-C", str(path), "commit", "-q", "-m", f"change {self._changes}")
        time.sleep(self._rest_s)
        return self._do("git", "-C", str(path), "rev-parse", "HEAD")

    def push(self, commit: str, nodes: Sequence[Node], *, during: Callable[[], None] = lambda: None) -> Pushed:
        """Push, do something, and wait until some devices have activated the commit."""
        begun_s, unix_s = time.monotonic(), time.time()
        self._do("git", "-C", str(self._home / "config"), "push", "-q", "clan", "main")
        command_s = time.monotonic() - begun_s
        during()
        return Pushed(commit, unix_s, round(command_s, 3), self.activated(commit, nodes, unix_s))

    def activated(self, commit: str, nodes: Sequence[Node], since_unix_s: float) -> dict[str, float]:
        """Wait until devices run a commit; give when each began to (s), those that do not left out."""
        line = f'"good": "{commit}"'
        waiting = {node.name: node.instance.state_directory / "rollout" / "state.json" for node in nodes}
        deadline = time.monotonic() + GIVE_UP_S
        while waiting and time.monotonic() < deadline:
            waiting = {name: path for name, path in waiting.items() if line not in _text(path)}
            time.sleep(POLL_S)
        done = [node for node in nodes if node.name not in waiting]
        return {node.name: self._began(node, commit) - since_unix_s for node in done}

    def has_commits(self, node: Node, commit: str) -> bool:
        """Whether a device has verified and published a commit: it may be followed already, or not yet."""
        heads = node.instance.state_directory / "rollout" / "repo.git" / "refs" / "heads"
        return (heads / "pushed" / commit[:12]).exists() or _text(heads / "main").strip() == commit

    def sent_bytes(self) -> int:
        """What has left the pusher's machine."""
        counters = Path(f"/proc/{self.author.pid}/net/dev").read_text().split(f"{INTERFACE}:")[1]
        return int(counters.split()[8])

    def _began(self, node: Node, commit: str) -> float:
        entries = json.loads(_text(node.instance.state_directory / "rollout" / "state.json"))["history"]
        return max(float(entry["at_unix_s"]) for entry in entries if entry["commit"] == commit)

    def _knows_signer(self, node: Node) -> bool:
        return bool(self.lab.call(node, "signer-list")["signers"])

    def _await(self, what: str, holds: Callable[[], bool]) -> None:
        if not wait_until(holds, GIVE_UP_S):
            raise LabError(f"{what} did not happen within {GIVE_UP_S:.0f} s")

    def _do(self, *words: str) -> str:
        done = self.lab.exec(self.author, words)
        if done.returncode != 0:
            raise LabError(f"{' '.join(words[:4])}: {done.stderr.strip()}")
        return done.stdout.strip()

    def whole(self) -> None:
        """Wait until everybody sees everybody up."""
        self._await("that all see all up", lambda: all_up(self.lab, self.nodes))


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """All of it, in one clan."""
    busy = load("before")
    with clan(arguments.nodes, 'overlay = "none"\n') as (lab, nodes):
        bench = Bench(lab, nodes, arguments.rest)
        try:
            bench.prepare()
            figures = [*_pushes(bench, arguments.runs), *_cut_off(bench)]
            if not arguments.quick:
                figures += [*_parted(bench), *_late(bench)]
        except LabError as error:
            show_ended(lab, list(nodes))
            sys.exit(f"bench.rollout: {error}")
    return [*figures, busy]


def _pushes(bench: Bench, runs: int) -> list[Figure]:
    commit, before = bench.commit(whole=True), bench.sent_bytes()
    first = bench.push(commit, bench.nodes)
    copies = (bench.sent_bytes() - before) / REPOSITORY_BYTES
    pushes = [bench.push(bench.commit(), bench.nodes) for _ in range(runs)]
    worst = [push.worst_s(bench.nodes) for push in pushes]
    known = [seconds for seconds in worst if seconds is not None]
    nodes = [seconds for push in pushes for seconds in push.activated_s.values()]
    return [
        Figure(
            f"push to activated on all {len(bench.nodes)}, median of {runs}",
            median(known) if len(known) == runs else None,
            "s",
            PUSH_S_TARGET,
        ),
        Figure("the same, worst", max(known, default=None), "s"),
        Figure("the same on one device, median", rounded(median(nodes)), "s"),
        Figure("`git push` itself, median", median([push.command_s for push in pushes]), "s"),
        Figure("first push, of 1 MB, to activated on all", first.worst_s(bench.nodes), "s"),
        Figure("copies of that which its author sent", round(copies, 2), "", COPIES_TARGET),
    ]


def _cut_off(bench: Bench) -> list[Figure]:
    """Pull the author's cable as soon as another device has the commits."""
    cut_unix_s = 0.0

    def cut() -> None:
        nonlocal cut_unix_s
        deadline = time.monotonic() + GIVE_UP_S
        while not any(bench.has_commits(node, pushed) for node in bench.others):
            if time.monotonic() > deadline:
                raise LabError("nobody got the commits")
        bench.lab.plug(bench.author, up=False)
        cut_unix_s = time.time()

    pushed = bench.commit(whole=True)
    having_cut = bench.push(pushed, bench.others, during=cut)
    missing = len(bench.others) - len(having_cut.activated_s)
    last_s = having_cut.worst_s(bench.others)
    since_cut_s = last_s - (cut_unix_s - having_cut.begun_unix_s) if last_s is not None else None
    bench.lab.plug(bench.author, up=True)
    bench.whole()
    return [
        Figure("author cut off once one other has it: devices without it", missing, "", 0),
        Figure("the same: from the cut to activated on all others", rounded(since_cut_s), "s"),
    ]


def _parted(bench: Bench) -> list[Figure]:
    """Push in one of three parts; take the author off; let the parts meet."""
    third = len(bench.others) // 3
    parts = [bench.others[:third], bench.others[third : 2 * third], bench.others[2 * third :]]
    parts[2].append(bench.author)
    commit = bench.commit()
    bench.lab.partition(*parts)
    time.sleep(PARTED_S)
    bench.push(commit, parts[2])
    bench.lab.plug(bench.author, up=False)
    begun = time.time()
    bench.lab.heal()
    bench.lab.plug(bench.author, up=False)
    times = bench.activated(commit, bench.others, begun)
    worst = max(times.values()) if len(times) == len(bench.others) else None
    figure = Figure("parts meet, author off: to activated on all", rounded(worst), "s", CONTACT_S_TARGET)
    return [figure]


def _late(bench: Bench) -> list[Figure]:
    """A device joins that has nothing; the author is still off."""
    token = bench.lab.call(bench.admin, "invite", {"tags": [], "uses": 1, "ttl_s": 600})["token"]
    config = bench.admin.arguments
    node = bench.lab.start_node("late", *config)
    begun = time.time()
    bench.lab.call(node, "join", {"token": token, "name": node.name})
    head = _text(bench.admin.instance.state_directory / "rollout" / "repo.git" / "refs" / "heads" / "main").strip()
    times = bench.activated(head, [node], begun)
    return [
        Figure("late joiner with an empty disk: to activated", rounded(times.get("late")), "s", CONTACT_S_TARGET)
    ]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.rollout", description=__doc__)
    parser.add_argument("--nodes", type=int, default=NODES, help="daemons, one of which pushes")
    parser.add_argument("--runs", type=int, default=RUNS, help="pushes of a small change")
    parser.add_argument("--rest", type=float, default=REST_S, help="seconds before each push")
    parser.add_argument("--quick", action="store_true", help="without the parts and the late joiner")
    return parser


if __name__ == "__main__":
    enter()
    sys.exit(run("rollout", measure, _options()))
