"""A clan of one under the real unit: its rollout, its secrets and its state, in the sandbox of the unit."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.clock import wait_until
from tests.systemd.container import IDENTITY, Container

UNIT = "clanmeshd.service"
REPOSITORY = "/root/config"
WITNESS = "/usr/local/activated"  # a place that the daemon's own sandbox makes read-only
ROLLOUT_TIMEOUT_S = 90.0  # of what takes seconds on an idle machine


@pytest.fixture(scope="module")
def machine(boot: Callable[[], Container]) -> Container:
    """A machine that founded a clan, and has a repository with a signed commit that was pushed."""
    container = boot()
    container.run("make", "-C", "/root/clanmesh", "install", "WHEELS=/wheels")
    container.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
    container.run("clanctl", "init", "family", "--node-name", "nas", "--signer", "/root/.ssh/id_ed25519.pub")
    container.run("clanctl", "repo", "init", REPOSITORY)
    lines = (f"grep . /proc/self/cgroup > {WITNESS}", 'echo "$CLAN_PHASE" >> /root/phases')
    write(container, "activate", "#!/bin/sh", "set -eu", *lines)
    push(container, "First")
    return container


def write(container: Container, name: str, *lines: str) -> None:
    """Write an executable of the repository."""
    container.run("sh", "-c", 'printf "%s\\n" "$@" > "$0"', f"{REPOSITORY}/{name}", *lines)
    container.run("chmod", "+x", f"{REPOSITORY}/{name}")


def push(container: Container, message: str) -> str:
    """Commit everything and push it; gives the commit."""
    container.run("git", "-C", REPOSITORY, "add", "--all")
    container.run("git", "-C", REPOSITORY, "commit", "--quiet", "--message", message, env=IDENTITY)
    container.run("git", "-C", REPOSITORY, "push", "--quiet", "clan", "main", env=IDENTITY)
    return container.run("git", "-C", REPOSITORY, "rev-parse", "HEAD").strip()


def rollout(container: Container) -> dict[str, Any]:
    """What the daemon says of its rollout."""
    status, said = container.attempt("clanctl", "rollout", "status", "--json")
    value: dict[str, Any] = json.loads(said) if status in (0, 4) else {}
    return value


def reaches(container: Container, state: str, **wanted: str) -> bool:
    """Wait until the rollout is in a state."""

    def holds() -> bool:
        try:
            now = container.ask("rollout-status")
        except OSError:
            return False
        return now.get("state") == state and all(now.get(key) == value for key, value in wanted.items())

    return wait_until(holds, ROLLOUT_TIMEOUT_S)


def head(container: Container) -> str:
    """The newest commit of the repository."""
    return container.run("git", "-C", REPOSITORY, "rev-parse", "HEAD").strip()


def test_a_pushed_commit_is_activated_outside_of_the_daemons_sandbox(machine: Container) -> None:
    """In a unit of its own: it may write where the daemon may not, and outlives the daemon."""
    assert reaches(machine, "current", commit=head(machine)), rollout(machine)
    groups = machine.run("cat", WITNESS)
    assert "clanmesh-activation-" in groups
    assert UNIT not in groups
    assert machine.run("cat", "/root/phases").split()[:2] == ["test", "commit"]


def test_an_unhealthy_commit_is_undone(machine: Container) -> None:
    """The machine says so, and runs what it ran before."""
    assert reaches(machine, "current", commit=head(machine)), rollout(machine)
    good = head(machine)
    write(machine, "health", "#!/bin/sh", "exit 1")
    push(machine, "Unhealthy")
    assert reaches(machine, "rolled-back", commit=good), rollout(machine)
    write(machine, "health", "#!/bin/sh", "exit 0")
    repaired = push(machine, "Healthy")
    assert reaches(machine, "current", commit=repaired), rollout(machine)


def test_an_activation_that_restarts_the_daemon_gets_to_its_end(machine: Container) -> None:
    """As any commit will that upgrades clanmesh itself."""
    before = machine.show(UNIT, "MainPID")
    write(machine, "activate", "#!/bin/sh", "set -eu", f"systemctl restart {UNIT}", "echo done >> /root/restarts")
    commit = push(machine, "Restart")
    assert reaches(machine, "current", commit=commit), rollout(machine)
    assert machine.show(UNIT, "MainPID") != before
    assert "done" in machine.run("cat", "/root/restarts")
    write(machine, "activate", "#!/bin/sh", "exit 0")
    assert reaches(machine, "current", commit=push(machine, "Quiet")), rollout(machine)


def test_secrets_stay_placed_while_the_daemon_is_away(machine: Container) -> None:
    """Services read them; they must not lose them to an upgrade of the daemon."""
    machine.run("sh", "-c", "printf hunter2 > /root/value")
    machine.run(
        "clanctl", "secrets", "set", "backup-key", "--for", "all", "--mode", "0440", "--file", "/root/value"
    )
    path = "/run/clanmesh/secrets/backup-key"
    assert wait_until(lambda: machine.attempt("cat", path) == (0, "hunter2"), ROLLOUT_TIMEOUT_S)
    assert machine.run("stat", "--format=%U %a", "--dereference", path).strip() == "root 440"
    assert machine.run("stat", "--file-system", "--format=%T", path).strip() in ("tmpfs", "ramfs")
    machine.run("systemctl", "stop", UNIT)
    assert machine.run("cat", path) == "hunter2"
    # Asked while nobody writes there: grep calls a file that went away an error.
    assert machine.attempt("grep", "-r", "hunter2", "/var/lib/clanmesh")[0] == 1
    machine.run("systemctl", "start", UNIT)
    assert machine.run("cat", path) == "hunter2"
    assert "hunter2" not in machine.journal()


def test_it_is_in_the_clan_after_a_restart_and_after_a_kill(machine: Container) -> None:
    """Nothing has to be typed again, ever."""
    for words in (("systemctl", "restart", UNIT), ("systemctl", "kill", "--signal=KILL", UNIT)):
        before = machine.show(UNIT, "MainPID")
        machine.run(*words)
        assert wait_until(lambda: _is_in_clan(machine), ROLLOUT_TIMEOUT_S), words
        assert machine.show(UNIT, "MainPID") != before
        assert "in clan family" in machine.show(UNIT, "StatusText")["StatusText"]


def _is_in_clan(machine: Container) -> bool:
    status, said = machine.attempt("clanctl", "peers", "--json")
    return status == 0 and [peer["name"] for peer in json.loads(said)["peers"]] == ["nas"]
