"""Switching a NixOS machine from one system to another and back, by the systems' own `switch-to-configuration`.

    test      NEW/bin/switch-to-configuration test: what runs changes, what the next start takes does not
    commit    the profile `system` to NEW, then NEW/bin/switch-to-configuration boot
    rollback  OLD/bin/switch-to-configuration test; profile and boot loader too if they were moved

So a power cut before the commit comes back with the system before. The exit status of switch-to-configuration is
one witness among others: 4 is also what a unit gives that had failed before, 0 is also what a full /boot gives,
and an interrupted run leaves lists of units behind that the next one takes for its own. Standard library only.
"""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import IO, NamedTuple

from clanmeshd.rollout import scripts
from clanmeshd.rollout.activation import MARKER, Activation, Revision
from clanmeshd.rollout.toplevel import SWITCH, boots, has_unit, inhibitors, is_system

LOCK_WAIT_S: float = scripts.SWITCH_LOCK_WAIT_S
LOCK_PAUSE_S = 0.25
LISTS_BYTES_MAX = 1 << 20
NAMED_MAX = 8  # failed units in a reason; the log has all

OK = 0
UNITS_FAILED = 4
LOCKED = 11

# What upstream's exit codes mean; each of them may also mean something else, as the text above says.
MEANINGS = {
    1: "a check before the switch, the boot loader or systemd itself refused",
    2: "an activation script failed",
    UNITS_FAILED: "units failed",
    LOCKED: "somebody else is switching, or the sessions could not be listed",
    100: "its init cannot take over from the running one: it needs a reboot",
}


class Machine(NamedTuple):
    """The places of a NixOS machine that a switch is about."""

    profile: Path = Path("/nix/var/nix/profiles/system")
    running: Path = Path("/run/current-system")
    lists: Path = Path("/run/nixos")
    boot: Path = Path("/boot")


class Ran(NamedTuple):
    """How a program ended."""

    status: int | None  # None: it did not end by itself, or was never begun
    why: str | None  # None for status 0


def switch(
    activation: Activation,
    revision: Revision,
    phase: str,
    log: IO[bytes],
    machine: Machine = Machine(),  # noqa: B008 - immutable
) -> str | None:
    """Carry out one phase for a revision. Gives None, or why it failed."""
    switching = Switching(activation, revision, log, machine)
    steps = {scripts.TEST: switching.test, scripts.COMMIT: switching.commit, scripts.ROLLBACK: switching.roll_back}
    why = steps[phase]()
    if why is not None:
        switching.note(why)
    return why


class Switching:
    """One phase of one activation."""

    def __init__(self, activation: Activation, revision: Revision, log: IO[bytes], machine: Machine) -> None:
        self._activation = activation
        self._revision = revision
        self._log = log
        self._machine = machine
        self._system = Path(revision.toplevel)

    def note(self, text: str) -> None:
        """Add to the log, if it can be written: on a full disk it must hold nothing up."""
        with suppress(OSError):
            os.write(self._log.fileno(), f"--- {text}\n".encode())

    # --- phases ------------------------------------------------------------------------------------------

    def test(self) -> str | None:
        """Let the machine run the system, for now."""
        if not is_system(self._system):
            return f"{self._system} is not a NixOS system"
        held = inhibitors(self._machine.running, self._system)
        if held:
            return f"a running machine cannot change {_listed(held)}: it takes `nixos-rebuild boot` and a reboot"
        before = self._failed_units()
        ran = self._switch_to("test")
        if ran.status not in (OK, UNITS_FAILED):
            return ran.why
        if not self._runs(self._system):
            return f"{SWITCH} ended with {ran.status}, and {self._machine.running} is not {self._system}"
        failed = sorted(self._failed_units() - before)
        return f"units failed that had not before: {_listed(failed)}" if failed else None

    def commit(self) -> str | None:
        """Have the next start take the system, too."""
        return self._set_profile() or self._set_boot()

    def roll_back(self) -> str | None:
        """Let the machine run the system again that it ran before; health says whether that is enough."""
        if not is_system(self._system):
            return f"{self._system}, the system to go back to, is gone"
        try:
            self._keep_only_own_units()
        except OSError as error:
            self.note(f"{self._machine.lists}: {error}")
        ran = self._switch_to("test")
        why = None if self._runs(self._system) else ran.why or f"{self._machine.running} was not changed"
        if _resolved(self._machine.profile) == self._activation.revision.toplevel != self._revision.toplevel:
            # Whatever went wrong above: what the next start takes must not be what is being gone back from.
            return self._set_profile() or self._set_boot() or why
        return why

    # --- steps -------------------------------------------------------------------------------------------

    def _switch_to(self, action: str) -> Ran:
        """Run the system's own program, once nobody else does. It gives up at once where its lock is held."""
        what = f"switch-to-configuration {action}"
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            self._wait_for_lock(deadline)
            ran = self._run([str(self._system / SWITCH), action], what, self._revision.activate_timeout_s)
            if ran.status != LOCKED or not self._is_locked() or time.monotonic() >= deadline:
                break
        meaning = MEANINGS.get(ran.status) if ran.status is not None else None
        return ran._replace(why=f"{ran.why} ({meaning})") if meaning else ran

    def _set_profile(self) -> str | None:
        argv = ["nix-env", "--profile", str(self._machine.profile), "--set", str(self._system)]
        ran = self._run(argv, "setting the profile", scripts.PROFILE_TIMEOUT_S)
        if ran.why is None and _resolved(self._machine.profile) != str(self._system):
            return f"{self._machine.profile} is not {self._system} after it was set"
        return ran.why

    def _set_boot(self) -> str | None:
        why = self._switch_to("boot").why
        if why is None and not boots(self._machine.boot, self._system):
            return f"no boot entry names {self._system} after it was installed; is {self._machine.boot} full?"
        return why

    def _keep_only_own_units(self) -> None:
        """Take from an interrupted run's lists what this system does not have.

        What stays are the units that the other system had stopped or was about to restart: they come back. Those
        that only the other one has would fail.
        """
        for path in sorted(self._machine.lists.glob("*-list")):
            with open(path, "rb") as file:
                units = file.read(LISTS_BYTES_MAX).decode(errors="replace").splitlines()
            kept = [unit for unit in units if unit and "/" not in unit and has_unit(self._system, unit)]
            if kept != units:
                self.note(f"{path.name}: kept {_listed(kept) or 'nothing'} of {_listed(units)}")
                temporary = path.with_name(f".{path.name}.new")
                temporary.write_text("".join(f"{unit}\n" for unit in kept))
                temporary.rename(path)

    # --- looking -----------------------------------------------------------------------------------------

    def _runs(self, system: Path) -> bool:
        return _resolved(self._machine.running) == str(system)

    def _failed_units(self) -> set[str]:
        argv = ["systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--full", "--no-pager"]
        said = self._ask(argv)
        return {line.split()[0] for line in said.splitlines() if line.strip()}

    def _ask(self, argv: list[str]) -> str:
        """What a short program says; nothing when it fails, which other witnesses will notice."""
        try:
            process = Popen(
                argv,
                env=self._environment(),
                stdin=DEVNULL,
                stdout=PIPE,  # a pipe holds some hundreds of names; who writes more is killed for it
                stderr=self._log,
                start_new_session=True,
            )
        except OSError as error:
            self.note(f"{argv[0]} cannot be run: {error.strerror}")
            return ""
        with process:
            why = scripts.wait_for(
                process, self._activation.id, scripts.UNITS_TIMEOUT_S, self._log.fileno(), argv[0]
            )
            assert process.stdout is not None
            return "" if why else process.stdout.read(LISTS_BYTES_MAX).decode(errors="replace")

    def _is_locked(self) -> bool:
        try:
            descriptor = os.open(self._machine.lists / "switch-to-configuration.lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _wait_for_lock(self, deadline: float) -> None:
        if self._is_locked():
            self.note("somebody else is switching; waiting")
        while self._is_locked() and time.monotonic() < deadline:
            time.sleep(LOCK_PAUSE_S)

    # --- running -----------------------------------------------------------------------------------------

    def _run(self, argv: list[str], what: str, timeout_s: int) -> Ran:
        self.note(f"{what} of {self._system}")
        try:
            process = Popen(
                argv,
                cwd="/",
                env=self._environment(),
                stdin=DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
            )
        except OSError as error:
            return Ran(None, f"{what}: {argv[0]} cannot be run: {error.strerror}")
        why = scripts.wait_for(process, self._activation.id, timeout_s, self._log.fileno(), what)
        return Ran(process.returncode if process.returncode >= 0 else None, why)

    def _environment(self) -> dict[str, str]:
        return {**self._activation.environment, MARKER: self._activation.id}


def _resolved(path: Path) -> str:
    return os.path.realpath(path) if path.exists() else ""


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return ", ".join(names[:NAMED_MAX]) + more
