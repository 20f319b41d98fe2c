"""The tests' own switch-to-configuration gives the exit codes that upstream gives, for the same reasons.

    0 done · 1 a check, the boot loader or the arguments · 2 the activation script · 4 a unit · 11 somebody else
    holds the lock · 100 another init

Each row is run for real. What the driver makes of the codes is for `test_nixos` and for `tests/nixos`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest

from tests.systemd.container import Container
from tests.systemd.nixos_system import UNITS, service, system_files, write_tree

SLEEP = service("/bin/sleep infinity")
BROKEN = service("/bin/false", kind="oneshot")
FAILING = "#!/bin/sh\nexit 3\n"


@dataclass
class Machine:
    """A container with systems in its store."""

    container: Container
    made: int = 0

    def system(self, files: Mapping[str, str] | None = None, **units: str) -> str:
        """Put a system into the store; give its path."""
        self.made += 1
        path = f"/nix/store/{self.made:032d}-nixos-system"
        write_tree(
            self.container.root / path[1:], {**system_files(**units), "nixos-version": "1\n", **(files or {})}
        )
        return path

    def switch(self, system: str, *words: str, **env: str) -> int:
        """Run its program; give the exit code."""
        return self.container.attempt(f"{system}/bin/switch-to-configuration", *words, env=env)[0]

    def running(self) -> str:
        return self.container.run("readlink", "-f", "/run/current-system").strip()

    def is_active(self, unit: str) -> bool:
        return self.container.attempt("systemctl", "is-active", "--quiet", unit)[0] == 0


@pytest.fixture(scope="module")
def booted(boot: Callable[[], Container]) -> Machine:
    container = boot()
    container.run("mkdir", "-p", "/nix/store", "/boot", "/etc/systemd/system/multi-user.target.wants")
    container.run("touch", "/etc/NIXOS")
    machine = Machine(container)
    first = machine.system()
    container.run(f"{first}/activate", first)  # as the start of a machine does
    return machine


@pytest.fixture
def machine(booted: Machine) -> Machine:
    """With a good system that runs."""
    assert booted.switch(booted.system(web=SLEEP), "test") == 0
    assert booted.is_active("web.service")
    return booted


@pytest.mark.parametrize(
    ("action", "files", "units", "code"),
    [
        ("test", {}, {"web": SLEEP}, 0),
        ("switch", {}, {"web": SLEEP}, 0),
        ("boot", {}, {"web": SLEEP}, 0),
        ("check", {}, {"web": SLEEP}, 0),
        ("dry-activate", {}, {"web": BROKEN}, 0),
        ("check", {"pre-switch-check": FAILING}, {"web": SLEEP}, 1),
        ("test", {"pre-switch-check": FAILING}, {"web": SLEEP}, 1),
        ("boot", {"pre-switch-check": FAILING}, {"web": SLEEP}, 1),
        ("boot", {"install-bootloader": FAILING}, {"web": SLEEP}, 1),
        ("switch", {"install-bootloader": FAILING}, {"web": SLEEP}, 1),
        ("test", {"install-bootloader": FAILING}, {"web": SLEEP}, 0),
        ("test", {"activate": FAILING}, {"web": SLEEP}, 2),
        ("test", {}, {"web": BROKEN}, 4),
        ("switch", {}, {"web": SLEEP, "other": BROKEN}, 4),
        ("test", {"init-interface-version": "2\n"}, {"web": SLEEP}, 100),
        ("boot", {"init-interface-version": "2\n"}, {"web": SLEEP}, 0),
    ],
)
def test_a_switch(machine: Machine, action: str, files: dict[str, str], units: dict[str, str], code: int) -> None:
    before = machine.running()
    wanted = machine.system(files, **units)
    assert machine.switch(wanted, action) == code
    changed = action in ("test", "switch") and code in (0, 4)
    assert machine.running() == (wanted if changed else before)


def test_a_unit_that_fails_hides_an_activation_script_that_failed(machine: Machine) -> None:
    """Its 2 becomes 4: nobody should decide by the code alone."""
    before = machine.running()
    assert machine.switch(machine.system({"more": "exit 5\n"}, web=BROKEN), "test") == 4
    assert machine.running() == before


def test_a_unit_that_had_failed_before_is_a_4_again(machine: Machine) -> None:
    assert machine.switch(machine.system(web=SLEEP, old=BROKEN), "test") == 4
    assert machine.switch(machine.system(web=SLEEP, old=BROKEN, more=SLEEP), "test") == 4
    assert machine.is_active("more.service")


def test_what_is_wrong_with_the_call(machine: Machine) -> None:
    system = machine.running()
    assert machine.switch(system) == 1
    assert machine.switch(system, "start") == 1
    program = f"{system}/bin/switch-to-configuration"
    assert machine.container.attempt("setpriv", "--reuid=65534", "--clear-groups", program, "test")[0] == 1
    machine.container.run("mv", "/etc/NIXOS", "/etc/NIXOS.away")
    assert machine.switch(system, "test") == 2
    machine.container.run("mv", "/etc/NIXOS.away", "/etc/NIXOS")


def test_one_at_a_time(machine: Machine) -> None:
    """EAGAIN of the lock is 11."""
    lock = "/run/nixos/switch-to-configuration.lock"
    program = f"{machine.running()}/bin/switch-to-configuration"
    assert machine.container.attempt("flock", lock, program, "test")[0] == 11


def test_what_must_not_change_in_a_running_machine(machine: Machine) -> None:
    """Names that both systems have, with other values; for `boot` they do not count."""
    inhibitors = "switch-inhibitors"
    assert machine.switch(machine.system({inhibitors: '{"dbus": "a"}'}, web=SLEEP), "test") == 0
    assert machine.switch(machine.system({inhibitors: '{"dbus": "a", "more": "1"}'}, web=SLEEP), "test") == 0
    other = machine.system({inhibitors: '{"dbus": "b"}'}, web=SLEEP)
    assert [machine.switch(other, action) for action in ("check", "test", "switch", "boot")] == [1, 1, 1, 0]
    assert machine.switch(other, "test", NIXOS_NO_CHECK="1") == 0
    assert machine.switch(machine.system(web=SLEEP), "test") == 0


def test_the_boot_loader_comes_before_the_activation(machine: Machine) -> None:
    order = "#!/bin/sh\ncat /root/order >>/root/seen 2>/dev/null\necho {} >>/root/order\n"
    files = {"install-bootloader": order.format("boot"), "activate": order.format("activate")}
    machine.container.run("rm", "-f", "/root/order")
    machine.switch(machine.system(files, web=SLEEP), "switch")
    assert machine.container.run("cat", "/root/order").split() == ["boot", "activate"]


def test_an_interrupted_run_is_carried_on(machine: Machine) -> None:
    """By whoever comes next, for all units in its lists, whether that one has them or not."""
    machine.container.run("systemctl", "stop", "web.service")
    machine.container.run("sh", "-c", "echo web.service >/run/nixos/start-list")
    assert machine.switch(machine.running(), "test") == 0
    assert machine.is_active("web.service")
    assert machine.container.attempt("test", "-e", "/run/nixos/start-list")[0] == 1
    machine.container.run("sh", "-c", "echo nobody-has.service >/run/nixos/start-list")
    assert machine.switch(machine.running(), "test") == 4


@pytest.mark.parametrize(
    ("directive", "is_restarted"),
    [("X-RestartIfChanged=true", True), ("X-RestartIfChanged=false", False), ("X-StopIfChanged=false", True)],
)
def test_a_changed_unit(machine: Machine, directive: str, is_restarted: bool) -> None:
    before = machine.container.show("web.service", "MainPID")
    text = service("/bin/sleep infinity", directive, "Environment=NEW=1")
    assert machine.switch(machine.system(web=text), "test") == 0
    assert machine.is_active("web.service")
    assert (machine.container.show("web.service", "MainPID") != before) is is_restarted


def test_a_unit_that_is_gone_is_stopped(machine: Machine) -> None:
    assert machine.switch(machine.system(other=SLEEP), "test") == 0
    assert not machine.is_active("web.service")
    assert machine.is_active("other.service")
    assert machine.container.attempt("test", "-e", f"/{UNITS}/web.service")[0] == 1
