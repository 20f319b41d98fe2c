"""The driver `nixos` under the real unit: a real Nix with its daemon, store, profile, generations and roots.

What is switched, and by what, is this project's own (see `nixos_system`): what it cannot show is NixOS' own
activation, boot loaders and kernels.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.systemd.container import IDENTITY, Container
from tests.systemd.nixos_system import (
    FLAKE,
    MAKE_SYSTEM,
    NIX_CONFIGURATION,
    service,
    system_files,
    write_tree,
)
from tests.systemd.test_clan import REPOSITORY, reaches, rollout

PYTHON = "/opt/clanmesh/current/bin/python"
BORROW = Path(__file__).with_name("borrow.py")
PROFILE = "/nix/var/nix/profiles/system"
SLEEP = service("/bin/sleep infinity")
BROKEN = service("/bin/false", kind="oneshot")
CLAN_TOML = (
    '[rollout]\ndriver = "nixos"\nhealth = ["./health"]\n'
    "build_timeout_s = 60\nactivate_timeout_s = 20\nsettle_s = 1\n"
)
NIX_DAEMON = "[Service]\nExecStart=/usr/bin/nix-daemon\n"


@dataclass
class Machine:
    """A NixOS machine, as far as its clan can tell."""

    container: Container
    commit: str = ""  # the newest that was pushed

    def write(self, files: Mapping[str, str] | None = None, **units: str) -> None:
        """Make the repository's working tree that of a system. `flaky` has failed in all of them, ever."""
        tree = self.container.root / REPOSITORY[1:]
        self.container.run("rm", "-rf", f"{REPOSITORY}/system")
        write_tree(tree / "system", {**system_files(flaky=BROKEN, **units), **(files or {})})
        flake = FLAKE.replace("@SYSTEM@", f"{os.uname().machine}-linux")
        write_tree(tree, {"clan.toml": CLAN_TOML, "flake.nix": flake, "make-system": MAKE_SYSTEM})

    def push(self, files: Mapping[str, str] | None = None, **units: str) -> str:
        """Commit a system and push it; give the commit."""
        self.write(files, **units)
        return self.push_tree()

    def push_tree(self) -> str:
        """Commit the working tree as it is, and push it."""
        git = ("git", "-C", REPOSITORY)
        self.container.run(*git, "add", "--all")
        self.container.run(*git, "commit", "--quiet", "--allow-empty", "--message", "A system", env=IDENTITY)
        self.container.run(*git, "push", "--quiet", "clan", "main", env=IDENTITY)
        self.commit = self.container.run(*git, "rev-parse", "HEAD").strip()
        return self.commit

    def ends_in(self, state: str, commit: str) -> str:
        """Wait until the newest commit has come to this; give the reason that is shown."""
        assert reaches(self.container, state, wanted=self.commit, commit=commit), (
            f"{rollout(self.container)}\n{self.container.attempt('clanctl', 'rollout', 'log')[1]}"
        )
        return str(rollout(self.container)["why"])

    def link(self, path: str) -> str:
        return self.container.run("readlink", "-f", path).strip()

    def version(self, system: str = "/run/current-system") -> str:
        """The commit that a system was built from."""
        return self.container.run("cat", f"{system}/nixos-version").strip()

    def is_active(self, unit: str) -> bool:
        return self.container.attempt("systemctl", "is-active", "--quiet", unit)[0] == 0

    def generations(self) -> list[str]:
        listed = self.container.run("nix-env", "--profile", PROFILE, "--list-generations").split("\n")
        return [line.split()[0] for line in listed if line.strip()]

    def boots(self) -> str:
        return self.container.run("sh", "-c", "cat /boot/loader/entries/*")


@pytest.fixture(scope="module")
def machine(boot: Callable[[], Container]) -> Machine:
    """It runs a system that somebody installed by hand, and is in a clan."""
    container = boot()
    if container.attempt("nix-daemon", "--version")[0] != 0:
        pytest.skip("needs: apt install nix-bin")
    write_tree(
        container.root,
        {
            "etc/NIXOS": "",
            "etc/nix/nix.conf": NIX_CONFIGURATION,
            "etc/systemd/system/nix-daemon.service": NIX_DAEMON,
            "boot/README": "",
        },
    )
    container.run("systemctl", "daemon-reload")
    container.run("systemctl", "start", "nix-daemon.service")
    container.run("make", "-C", "/root/clanmesh", "install", "WHEELS=/wheels")
    container.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
    container.run("clanctl", "init", "family", "--node-name", "nas", "--signer", "/root/.ssh/id_ed25519.pub")
    container.run("clanctl", "repo", "init", REPOSITORY)
    machine = Machine(container)
    machine.write(by_hand=SLEEP)
    attribute = "nixosConfigurations.nas.config.system.build.toplevel"
    outputs = f"((import {REPOSITORY}/flake.nix).outputs {{ self = {{ }}; }}).{attribute}"
    first = container.run("nix-build", "--expr", outputs, "--out-link", "/root/first").split()[-1]
    container.run("nix-env", "--profile", PROFILE, "--set", first)
    container.run(f"{first}/activate", first)  # as the start of a machine does
    assert container.attempt(f"{first}/bin/switch-to-configuration", "switch")[0] == 4, "flaky fails"
    container.run("ln", "-sfn", first, "/run/booted-system")
    return machine


@pytest.fixture
def good(machine: Machine) -> str:
    """A commit that runs, and brings `web`: that of the test before, if it left one; give it."""
    running = str(rollout(machine.container)["commit"])
    if running != machine.version() or not machine.is_active("web.service"):
        running = machine.push(web=SLEEP)
        machine.ends_in("current", running)
    return running


def test_a_first_commit_that_is_bad_goes_back_to_what_was_there(machine: Machine) -> None:
    """The system that nobody in the clan knows is the way back."""
    before = machine.link("/run/current-system")
    machine.push(by_hand=BROKEN)
    said = rollout_why(machine, "rolled-back")
    assert "units failed that had not before: by_hand.service" in said
    assert machine.link("/run/current-system") == machine.link(PROFILE) == before
    assert machine.is_active("by_hand.service")


def rollout_why(machine: Machine, state: str) -> str:
    """The same for a device that has no good commit yet."""
    assert reaches(machine.container, state, wanted=machine.commit), (
        f"{rollout(machine.container)}\n{machine.container.attempt('clanctl', 'rollout', 'log')[1]}"
    )
    return str(rollout(machine.container)["why"])


def test_a_commit_is_built_and_switched_to(machine: Machine) -> None:
    """What runs, what the next start takes, and what the collector must leave are the same."""
    generations = machine.generations()
    commit = machine.push(web=SLEEP)
    machine.ends_in("current", commit)
    system = machine.link("/run/current-system")
    assert machine.version() == commit
    assert machine.link(PROFILE) == system
    assert f"init={system}/init" in machine.boots()
    assert len(machine.generations()) == len(generations) + 1
    assert machine.is_active("web.service")
    assert not machine.is_active("by_hand.service")
    assert system == machine.link(f"/var/lib/clanmesh/rollout/roots/{commit}")
    machine.container.run("nix-collect-garbage")
    assert machine.version() == commit


def test_a_unit_that_fails_is_undone(machine: Machine, good: str) -> None:
    """Nothing of it was made what the next start takes."""
    generations, boots = machine.generations(), machine.boots()
    machine.push(web=BROKEN, more=SLEEP)
    assert "units failed that had not before: web.service" in machine.ends_in("rolled-back", good)
    assert machine.version() == good
    assert machine.is_active("web.service")
    assert not machine.is_active("more.service")
    assert (machine.generations(), machine.boots()) == (generations, boots)


def test_an_unhealthy_system_is_undone(machine: Machine, good: str) -> None:
    """The repository's own check has its say, too."""
    write_tree(machine.container.root / REPOSITORY[1:], {"health": "#!/bin/sh\nexit 1\n"})
    machine.push(web=SLEEP, more=SLEEP)
    machine.ends_in("rolled-back", good)
    assert machine.version() == good
    write_tree(machine.container.root / REPOSITORY[1:], {"health": "#!/bin/sh\n"})


def test_an_activation_script_that_fails_is_undone(machine: Machine, good: str) -> None:
    """Though its exit code is hidden by that of `flaky`, which fails each time."""
    machine.push({"more": "exit 9\n"}, web=SLEEP)
    assert "ended with 4, and /run/current-system is not" in machine.ends_in("rolled-back", good)
    assert machine.version() == good


def test_a_full_boot_is_noticed(machine: Machine, good: str) -> None:
    """Its installer ends well and writes nothing."""
    machine.container.run("touch", "/boot/full")
    machine.push(web=SLEEP, more=SLEEP)
    assert "no boot entry names" in machine.ends_in("rolled-back", good)
    assert machine.version() == machine.version(PROFILE) == good
    machine.container.run("rm", "/boot/full")


def test_what_a_running_machine_cannot_change_is_left(machine: Machine) -> None:
    """It says so, and switches nothing."""
    good = machine.push({"switch-inhibitors": '{"dbus": "a"}'}, web=SLEEP)
    machine.ends_in("current", good)
    before = machine.container.show("web.service", "MainPID")
    machine.push({"switch-inhibitors": '{"dbus": "b"}'}, web=service("/bin/sleep 1000000"))
    assert "a running machine cannot change dbus" in machine.ends_in("rolled-back", good)
    assert machine.version() == good
    assert machine.container.show("web.service", "MainPID") == before


def test_what_waits_for_a_reboot_is_said(machine: Machine, good: str) -> None:
    assert rollout(machine.container)["reboot"] == []
    commit = machine.push({"kernel": "6.1\n"}, web=SLEEP)
    machine.ends_in("current", commit)
    assert rollout(machine.container)["reboot"] == ["kernel"]
    assert "kernel" in machine.container.run("clanctl", "rollout", "status")


def test_what_cannot_be_built_touches_nothing(machine: Machine, good: str) -> None:
    """And is not tried again, though Nix' daemon ends every failure with 1."""
    tree = machine.container.root / REPOSITORY[1:]
    write_tree(tree, {"make-system": "echo broken >&2; exit 8\n"})
    machine.push_tree()
    assert "failed with exit code 8" in machine.ends_in("failed", good)
    assert "broken" in machine.container.run("clanctl", "rollout", "log")
    write_tree(tree, {"flake.nix": "{ outputs = { self }: { }; }\n"})
    machine.push_tree()
    assert "does not provide attribute" in machine.ends_in("failed", good)
    assert machine.version() == good


def test_a_switch_that_was_killed_half_way_is_undone(machine: Machine, good: str) -> None:
    """With the guard: the units that it had stopped come back, those that only it had are forgotten."""
    kill = "kill -9 $(pgrep -f clanmeshd.rollout.activator)\nsleep 1000\n"
    changed = service("/bin/sleep infinity", "Environment=NEW=1")
    machine.push({"activate": f"#!/bin/sh\necho only-new.service >>/run/nixos/start-list\n{kill}"}, web=changed)
    assert "killed" in machine.ends_in("rolled-back", good)
    assert machine.is_active("web.service")
    assert machine.version() == machine.version(PROFILE) == good
    assert machine.container.attempt("test", "-e", "/run/nixos/start-list")[0] == 1
    assert "kept web.service of web.service, only-new.service" in machine.container.run(
        "clanctl", "rollout", "log"
    )


def test_somebody_elses_switch_is_waited_for(machine: Machine, good: str) -> None:
    holding = ("flock", "/run/nixos/switch-to-configuration.lock", "sleep", "3")
    machine.container.run("systemd-run", "--quiet", *holding)
    commit = machine.push(web=SLEEP, more=SLEEP)
    machine.ends_in("current", commit)


def test_a_builder_lends_what_it_signed(machine: Machine, good: str) -> None:
    """Over a stream of the real daemon, and only once the commit that runs says so."""
    container = machine.container
    container.run("mkdir", "-p", "/root/borrower")
    (container.root / "root/borrow.py").write_text(BORROW.read_text())
    assert borrow(container, machine.link("/run/current-system")) == ""
    tree = container.root / REPOSITORY[1:]
    write_tree(tree, {"clan.toml": CLAN_TOML + 'builders = ["nas"]\n', "system/more": "true\n"})
    machine.ends_in("current", machine.push_tree())
    system = machine.link("/run/current-system")
    assert borrow(container, system, f"/nix/store/{'0' * 32}-nobody-has-it") == system
    told = container.run("cat", f"/root/other{system}/nixos-version")
    assert told.strip() == machine.commit
    unsigned = machine.link("/root/first")
    assert borrow(container, unsigned) == "", "it was built before, and by nobody's key"


def borrow(container: Container, *paths: str) -> str:
    """Borrow into a store of its own; give what came."""
    env = {"NIX_REMOTE": "local?root=/root/other", "PYTHONPATH": "/root/clanmesh:/root/clanmesh/protocol"}
    # What serves is the daemon's own process, with the daemon's own environment.
    return container.run(PYTHON, "-B", "/root/borrow.py", *paths, env=env).strip()


def test_the_status_is_json(machine: Machine, good: str) -> None:
    """With what waits for a reboot among it, also on devices of other drivers."""
    said = json.loads(machine.container.run("clanctl", "rollout", "status", "--json"))
    assert isinstance(said["reboot"], list)
