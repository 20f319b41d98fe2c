"""The demonstration, step by step, on a lab: what a person would type, and the proof that it had its effect.

Each step either holds within its bound or ends the story with its name and a reason. What is told goes out as
events, one JSON object a line; `clanctl.demo.telling` turns them into what people see.
"""

import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from clanctl.demo import network, scripts
from clanctl.demo.lab import RUNTIME_DIRECTORY, Lab, Node
from clanctl.demo.processes import LabError, wait_until
from clanctl.failures import Failure, one_line

CLAN: Final = "family"
TAG: Final = "backup"  # of the last machine alone
SECRET: Final = "backup-key"
CONVERGE_TIMEOUT_S: Final = 30.0  # of anything that the machines do among themselves
ROLLOUT_TIMEOUT_S: Final = 60.0
PING_TIMEOUT_S: Final = "0.5"  # the first one may be lost to WireGuard's handshake

Emit = Callable[[Mapping[str, Any]], None]


class StepFailed(Exception):
    """A step did not hold."""

    def __init__(self, step: str, why: str) -> None:
        super().__init__(step, why)
        self.step = step
        self.why = why


class Story:
    """One run. `started_monotonic_s` is when the person pressed Enter."""

    def __init__(self, lab: Lab, names: Sequence[str], emit: Emit, started_monotonic_s: float) -> None:
        self._lab = lab
        self._names = names
        self._emit = emit
        self._started_s = started_monotonic_s
        self._measured: dict[str, float] = {}
        self._steps: list[dict[str, Any]] = []

    def tell(self) -> dict[str, Any]:
        """Run all steps and give the summary. Raises StepFailed."""
        self._start_machines()
        self._form_clan()
        self._ping_all()
        self._share_secret()
        commit = self._push_good()
        self._push_bad(commit)
        return {
            "nodes": len(self._names),
            "steps": self._steps,
            **{name: round(seconds, 3) for name, seconds in self._measured.items()},
            "total_s": round(time.monotonic() - self._started_s, 3),
        }

    # --- the machinery of a step ---

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        self._emit({"begin": name})
        begun = time.monotonic()
        try:
            yield
        except (LabError, Failure) as error:
            raise StepFailed(name, str(error)) from error
        except subprocess.TimeoutExpired as error:
            raise StepFailed(
                name, f"{' '.join(error.cmd[-3:])} did not end within {error.timeout:.0f} s"
            ) from error
        step = {"name": name, "seconds": round(time.monotonic() - begun, 3)}
        self._steps.append(step)
        self._emit({"step": step})

    @property
    def _nodes(self) -> list[Node]:
        return list(self._lab.nodes.values())

    def _ctl(self, node: Node, *words: str, stdin: str = "") -> Any:
        """Type a command of clanctl on a machine, and give its JSON. Raises LabError with its complaint."""
        finished = self._lab.ctl(node, *words, "--json", stdin=stdin)
        if finished.returncode != 0:
            raise LabError(f"on {node.name}: {_complaint(finished)}")
        return json.loads(finished.stdout)

    def _run(self, node: Node, *words: str) -> str:
        """Type any other command in the configuration's repository. Raises LabError."""
        finished = self._lab.exec(node, words, directory=node.directory / "home" / "config")
        if finished.returncode != 0:
            raise LabError(f"on {node.name}: {' '.join(words[:2])}: {_complaint(finished)}")
        return finished.stdout.strip()

    def _read(self, node: Node, path: str) -> str | None:
        finished = self._lab.exec(node, ["cat", path])
        return finished.stdout if finished.returncode == 0 else None

    def _await(self, what: str, holds: Callable[[], bool], timeout_s: float = CONVERGE_TIMEOUT_S) -> None:
        if not wait_until(holds, timeout_s):
            raise LabError(f"{what} did not happen within {timeout_s:.0f} s; {self._problems()}")

    def _problems(self) -> str:
        """What the daemons themselves say is wrong."""
        found = []
        for node in self._nodes:
            try:
                status = self._lab.call(node, "status")
            except Failure as failure:
                found.append(f"{node.name}: {failure}")
                continue
            revision = status.get("revision") or {}
            words = [str(problem.get("what")) for problem in status.get("problems") or []]
            found.append(f"{node.name}: rollout {revision.get('state')}, {', '.join(words) or 'no problem known'}")
        return "; ".join(found)

    def _own(self, node: Node) -> dict[str, Any]:
        """A machine's own row of its peers."""
        result = self._lab.call(node, "peers")
        return next((dict(peer) for peer in result["peers"] if peer["name"] == result["self"]), {})

    # --- the steps ---

    def _start_machines(self) -> None:
        with self._step(f"{len(self._names)} machines on one network, a daemon on each"):
            for name in self._names:
                self._lab.start_node(name, wait=False)
            for node in self._nodes:
                self._lab.wait_ready(node)

    def _form_clan(self) -> None:
        founder, *others = self._nodes
        with self._step(f"{founder.name} founds the clan {CLAN}"):
            self._ctl(founder, "init", CLAN, "--node-name", founder.name)
        for node in others:
            tags = ["--tag", TAG] if node is others[-1] else []
            with self._step(f"{founder.name} invites, {node.name} joins"):
                token = self._ctl(founder, "invite", *tags)["token"]
                self._ctl(node, "join", "-", "--name", node.name, stdin=token)
        with self._step("every machine sees every other one up"):
            self._await("that all are up", self._all_up)

    def _all_up(self) -> bool:
        return all(
            [peer["state"] for peer in self._lab.call(node, "peers")["peers"]] == ["up"] * len(self._nodes)
            for node in self._nodes
        )

    def _ping_all(self) -> None:
        pairs = network.pairs(len(self._nodes))
        with self._step(f"every pair pings over the overlay ({len(pairs)} of {len(pairs)})"):
            addresses = {node.name: self._lab.address(node) for node in self._nodes}
            for one, other in pairs:
                self._await_ping(self._nodes[one], self._nodes[other], addresses)
        self._measured["formed_s"] = time.monotonic() - self._started_s

    def _await_ping(self, one: Node, other: Node, addresses: Mapping[str, str]) -> None:
        words = ["ping", "-6", "-n", "-c", "1", "-W", PING_TIMEOUT_S, addresses[other.name]]
        self._await(f"a ping from {one.name} to {other.name}", lambda: self._lab.exec(one, words).returncode == 0)

    def _share_secret(self) -> None:
        founder, path, value = self._nodes[0], f"{RUNTIME_DIRECTORY}/secrets/{SECRET}", secrets.token_hex(16)
        readers = [self._nodes[-1].name]
        with self._step(f"a secret for the tag {TAG} reaches {', '.join(readers)} and nobody else"):
            result = self._ctl(founder, "secrets", "set", SECRET, "--for", TAG, stdin=value)
            if result["recipients"] != readers:
                raise LabError(f"it was sealed to {result['recipients']}, not to {readers}")
            self._await("that all hear of the secret", lambda: all(map(self._knows_secret, self._nodes)))
            self._await("placing the secret", lambda: self._read(self._nodes[-1], path) == value)
            has = [node.name for node in self._nodes if self._read(node, path) is not None]
            if has != readers:
                raise LabError(f"it lies on {has}, not on {readers} alone")
            self._check_mode(path)

    def _knows_secret(self, node: Node) -> bool:
        return any(secret["name"] == SECRET for secret in self._lab.call(node, "secrets-list")["secrets"])

    def _check_mode(self, path: str) -> None:
        words = ["stat", "--dereference", "--format=%a %U:%G", path]
        found = self._lab.exec(self._nodes[-1], words).stdout.strip()
        if found != "400 root:root":
            raise LabError(f"it was placed as {found!r}, not as '400 root:root'")

    def _push_good(self) -> str:
        pusher = self._nodes[0]
        with self._step(f"{pusher.name} makes a repository that signs its commits"):
            self._ctl(pusher, "repo", "init", str(pusher.directory / "home" / "config"))
        with self._step("git push clan main: every machine runs it"):
            commit, pushed_s = self._push(pusher, scripts.GOOD, "The first configuration")
            self._await(
                "switching to it everywhere", lambda: self._all_in(commit, "current"), timeout_s=ROLLOUT_TIMEOUT_S
            )
            self._measured["push_s"] = time.monotonic() - pushed_s
            self._measured["build_s"] = max(self._build_seconds(node) for node in self._nodes)
            self._check_marker(scripts.GOOD)
        return commit

    def _push(self, node: Node, greeting: str, message: str) -> tuple[str, float]:
        """Commit a greeting and push it; gives the commit and when the push began."""
        scripts.write(node.directory / "home" / "config", greeting)
        self._run(node, "git", "add", "--all")
        self._run(node, "git", "commit", "--quiet", f"--message={message}")
        pushed_s = time.monotonic()
        self._run(node, "git", "push", "--quiet", "clan", "main")
        return self._run(node, "git", "rev-parse", "HEAD"), pushed_s

    def _all_in(self, commit: str, state: str) -> bool:
        return all(
            (row := self._own(node).get("revision", {})).get("wanted") == commit and row.get("state") == state
            for node in self._nodes
        )

    def _build_seconds(self, node: Node) -> float:
        stamps = [float(line) for line in (self._read(node, scripts.BUILD_TIMES) or "").split()]
        if len(stamps) < 2:
            raise LabError(f"{node.name} did not build the commit")
        return stamps[1] - stamps[0]

    def _check_marker(self, greeting: str) -> None:
        for node in self._nodes:
            found = (self._read(node, scripts.MARKER) or "").strip()
            if found != greeting:
                raise LabError(f"{node.name} runs {found!r}, not {greeting!r}")

    def _push_bad(self, good: str) -> None:
        pusher = self._nodes[0]
        with self._step("a commit with a failing health check: every machine goes back"):
            commit, pushed_s = self._push(pusher, scripts.BAD, "A configuration that breaks things")
            self._await(
                "going back everywhere",
                lambda: self._all_in(commit, "rolled-back"),
                timeout_s=ROLLOUT_TIMEOUT_S,
            )
            self._measured["rollback_s"] = time.monotonic() - pushed_s
            self._check_marker(scripts.GOOD)
            for node in self._nodes:
                self._check_went_back(node, good)
            self._await("that everybody knows of it", lambda: self._all_told(commit))

    def _check_went_back(self, node: Node, good: str) -> None:
        if self._own(node)["revision"]["commit"] != good:
            raise LabError(f"{node.name} does not say that it runs the last good commit")
        if scripts.BAD not in (self._read(node, scripts.PHASES) or ""):
            raise LabError(f"{node.name} never tried the commit")

    def _all_told(self, commit: str) -> bool:
        """Whether the first machine has heard of every machine's verdict: its table is what is shown last."""
        revisions = [peer["revision"] for peer in self._lab.call(self._nodes[0], "peers")["peers"]]
        return all(row["state"] == "rolled-back" and row["wanted"] == commit for row in revisions)


def _complaint(finished: "subprocess.CompletedProcess[str]") -> str:
    """The last line that a command said: those before it are progress."""
    lines = (finished.stderr.strip() or finished.stdout.strip()).splitlines()
    return one_line(lines[-1]) if lines else f"it ended with status {finished.returncode} and said nothing"
