"""The phases of a switch: a real nix-env with a profile and a store of its own, systems whose program is a script.

How a whole machine is switched under a real systemd is in `tests/systemd/test_nixos`.
"""

import fcntl
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clanmeshd.rollout import scripts, switching
from clanmeshd.rollout.activation import NIXOS, Activation, Revision
from clanmeshd.rollout.switching import Machine, switch
from clanmeshd.rollout.toplevel import boots, has_unit, inhibitors, is_system, reboot_reasons

PROGRAM = """\
#!/bin/sh
echo "$1 ${0%/bin/*}" >>"$PLACE/trace"
system=${0%/bin/*}
case $1 in
test) ln -sfn "$system" "$PLACE/current-system"; . "$system/on-test" ;;
boot) mkdir -p "$PLACE/boot/loader/entries"; . "$system/on-boot" ;;
esac
"""
SYSTEMCTL = '#!/bin/sh\ncat "$PLACE/failed"\n'
ON_BOOT = 'echo "options init=$system/init" >"$PLACE/boot/loader/entries/nixos.conf"\n'
needs_nix = pytest.mark.skipif(shutil.which("nix-env") is None, reason="needs: apt install nix-bin")


class Stage:
    """A machine in a folder, and two systems."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.machine = Machine(root / "profile", root / "current-system", root / "lists", root / "boot")
        (root / "lists").mkdir()
        (root / "bin").mkdir()
        (root / "bin" / "systemctl").write_text(SYSTEMCTL)
        (root / "bin" / "systemctl").chmod(0o755)
        (root / "failed").write_text("old.service loaded failed failed x\n")
        self.environment = {
            **{name: value for name, value in os.environ.items() if name.startswith("NIX_")},
            "PATH": f"{root / 'bin'}:{os.environ['PATH']}",
            "PLACE": str(root),
            "HOME": str(root),
        }
        self.old = self.system("old", units=("web", "stopped"))
        self.run("nix-env", "--profile", self.machine.profile, "--set", self.old)
        self.machine.running.symlink_to(self.old)

    def run(self, *words: str | Path) -> str:
        return subprocess.run(
            words, env=self.environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    def system(self, name: str, on_test: str = "", on_boot: str = ON_BOOT, units: tuple[str, ...] = ()) -> str:
        """Put a system into the store; give its path."""
        folder = self.root / f"nixos-system-{name}"
        (folder / "bin").mkdir(parents=True)
        (folder / "etc/systemd/system").mkdir(parents=True)
        for unit in units:
            (folder / "etc/systemd/system" / f"{unit}.service").write_text("")
        for file, text in (("nixos-version", name), ("on-test", on_test), ("on-boot", on_boot)):
            (folder / file).write_text(text)
        (folder / "bin/switch-to-configuration").write_text(PROGRAM)
        (folder / "bin/switch-to-configuration").chmod(0o755)
        return self.run("nix-store", "--add", folder)

    def switch(self, phase: str, new: str, to: str | None = None, timeout_s: int = 10) -> str | None:
        """Carry out a phase of an activation of `new`."""
        revisions = {system: revision(system, timeout_s) for system in (new, self.old)}
        log = self.root / "log"
        activation = Activation("id1", revisions[new], revisions[self.old], self.environment, str(log))
        with open(log, "ab") as file:
            return switch(activation, revisions[to or new], phase, file, self.machine)

    @property
    def trace(self) -> list[str]:
        path = self.root / "trace"
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []

    def profile(self) -> str:
        return os.path.realpath(self.machine.profile)

    def running(self) -> str:
        return os.path.realpath(self.machine.running)


def revision(system: str, timeout_s: int) -> Revision:
    return Revision("c" * 40, "/", [], [], 5, timeout_s, NIXOS, system)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    for name in ("store", "state", "log", "conf"):
        monkeypatch.setenv(f"NIX_{name.upper()}_DIR", str(tmp_path / "nix" / name))
    monkeypatch.delenv("NIX_REMOTE", raising=False)
    yield Stage(tmp_path)
    for folder, _, _ in os.walk(tmp_path / "nix"):
        Path(folder).chmod(0o755)


# --- test --------------------------------------------------------------------------------------------------


@needs_nix
@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("", None),
        ("exit 4\n", None),
        (
            'echo "new.service loaded failed" >>$PLACE/failed; exit 4\n',
            "units failed that had not before: new.service",
        ),
        ('echo "new.service loaded failed" >>$PLACE/failed\n', "units failed that had not before: new.service"),
        ("exit 1\n", "exited with 1 (a check before the switch"),
        ("exit 2\n", "exited with 2 (an activation script failed)"),
        ("exit 11\n", "exited with 11 (somebody else"),
        ("exit 100\n", "it needs a reboot"),
        ("exit 77\n", "exited with 77"),
        ("kill -9 $$\n", "killed by SIGKILL"),
        ('ln -sfn / "$PLACE/current-system"\n', "is not /"),
        ('ln -sfn / "$PLACE/current-system"; exit 4\n', "ended with 4, and"),
    ],
)
def test_a_test(stage: Stage, script: str, why: str | None) -> None:
    """Neither 0 nor 4 are taken at their word, and nothing is made what the next start takes."""
    new = stage.system("new", script)
    said = stage.switch(scripts.TEST, new)
    assert (said is None) if why is None else (said is not None and why in said), said
    assert stage.profile() == stage.old
    assert stage.trace == ["test"]


@needs_nix
def test_a_test_that_hangs_is_ended(stage: Stage) -> None:
    new = stage.system("new", "sleep 1000\n")
    said = stage.switch(scripts.TEST, new, timeout_s=1)
    assert said == "switch-to-configuration test did not end within 1 s"


@needs_nix
def test_what_is_no_system_is_not_switched_to(stage: Stage) -> None:
    said = stage.switch(scripts.TEST, str(stage.root))
    assert said is not None
    assert "is not a NixOS system" in said


@needs_nix
def test_a_held_lock_is_waited_for(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no longer than its bound."""
    monkeypatch.setattr(switching, "LOCK_PAUSE_S", 0.01)
    lock = stage.machine.lists / "switch-to-configuration.lock"
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        said: list[str | None] = []
        new = stage.system("new")
        waiting = threading.Thread(target=lambda: said.append(stage.switch(scripts.TEST, new)))
        waiting.start()
        log = stage.root / "log"
        deadline = time.monotonic() + 20
        while not (log.exists() and "somebody else is switching" in log.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert stage.trace == []
        fcntl.flock(file, fcntl.LOCK_UN)
        waiting.join(20)
        assert said == [None]
        monkeypatch.setattr(switching, "LOCK_WAIT_S", 0.05)
        fcntl.flock(file, fcntl.LOCK_EX)
        refused = stage.system("refused", "exit 11\n")
        why = stage.switch(scripts.TEST, refused)
        assert why is not None
        assert "exited with 11" in why


# --- commit ------------------------------------------------------------------------------------------------


@needs_nix
def test_a_commit(stage: Stage) -> None:
    """The profile has a new generation, the boot loader names it."""
    new = stage.system("new")
    assert stage.switch(scripts.COMMIT, new) is None
    assert stage.profile() == new
    assert stage.trace == ["boot"]
    assert len(stage.run("nix-env", "--profile", stage.machine.profile, "--list-generations").splitlines()) == 2


@needs_nix
@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 1\n", "switch-to-configuration boot exited with 1"),
        ('echo "init=/nix/store/x-other/init" >"$PLACE/boot/loader/entries/nixos.conf"\n', "no boot entry names"),
    ],
)
def test_a_commit_that_fails_is_taken_back(stage: Stage, script: str, why: str) -> None:
    new = stage.system("new", on_boot=script)
    said = stage.switch(scripts.COMMIT, new)
    assert said is not None
    assert why in said
    assert stage.switch(scripts.ROLLBACK, new, to=stage.old) is None
    assert stage.profile() == stage.running() == stage.old
    assert stage.trace == ["boot", "test", "boot"]
    assert stage.old in (stage.root / "boot/loader/entries/nixos.conf").read_text()


@needs_nix
def test_a_profile_that_cannot_be_set(stage: Stage) -> None:
    """A path that is in no store."""
    folder = stage.root / "nixos-system-new"
    stage.system("new")
    said = stage.switch(scripts.COMMIT, str(folder))
    assert said is not None
    assert "setting the profile" in said
    assert stage.trace == []


# --- rollback ----------------------------------------------------------------------------------------------


@needs_nix
def test_a_rollback_brings_stopped_units_back(stage: Stage) -> None:
    """Of an interrupted run's lists those stay that the old system has."""
    new = stage.system("new", units=("web", "only-new"))
    stage.switch(scripts.TEST, new)
    lists = {
        "start-list": "stopped.service\nonly-new.service\n",
        "restart-list": "only-new.service\n",
        "reload-list": "web.service\n",
        "activation-restart-list": "../../passwd\n\n",
    }
    for name, text in lists.items():
        (stage.machine.lists / name).write_text(text)
    assert stage.switch(scripts.ROLLBACK, new, to=stage.old) is None
    kept = {name: (stage.machine.lists / name).read_text() for name in lists}
    assert kept == {
        "start-list": "stopped.service\n",
        "restart-list": "",
        "reload-list": "web.service\n",
        "activation-restart-list": "",
    }
    assert stage.running() == stage.old
    assert stage.trace == ["test", "test"], "the profile was not moved, so nothing is installed"


@needs_nix
def test_a_rollback_to_what_is_gone_says_so(stage: Stage) -> None:
    new = stage.system("new")
    gone = str(stage.root / "gone")
    activation = Activation("id1", revision(new, 5), revision(gone, 5), stage.environment, str(stage.root / "log"))
    with open(stage.root / "log", "ab") as log:
        why = switch(activation, revision(gone, 5), scripts.ROLLBACK, log, stage.machine)
    assert why is not None
    assert "is gone" in why


@needs_nix
def test_a_system_that_differs_in_nothing_goes_back_to_itself(stage: Stage) -> None:
    """Two commits may build the same system: its profile is not moved twice."""
    assert stage.switch(scripts.ROLLBACK, stage.old, to=stage.old) is None
    assert stage.trace == ["test"]


# --- reading systems ---------------------------------------------------------------------------------------


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", "-")).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("running", "wanted", "found"),
    [
        ("{}", "{}", []),
        ('{"dbus": "a"}', '{"dbus": "a"}', []),
        ('{"dbus": "a", "b": "1"}', '{"dbus": "b", "b": "2"}', ["b", "dbus"]),
        ('{"dbus": "a"}', "{}", []),
        ("{}", '{"dbus": "a"}', []),
        ("/nix/store/x\n", '{"dbus": "a"}', []),
        ("[1]", '{"dbus": "a"}', []),
        ("\xff", "{", []),
    ],
)
def test_inhibitors(tmp_path: Path, running: str, wanted: str, found: list[str]) -> None:
    first, second = (
        write(tmp_path / "1", switch_inhibitors=running),
        write(tmp_path / "2", switch_inhibitors=wanted),
    )
    assert inhibitors(first, second) == found


def test_reasons_for_a_reboot(tmp_path: Path) -> None:
    booted = write(tmp_path / "1", kernel="", initrd="", reboot_triggers='{"firmware": "a"}')
    wanted = write(tmp_path / "2", initrd="", reboot_triggers='{"firmware": "b"}')
    (wanted / "kernel").symlink_to(booted / "kernel")
    assert reboot_reasons(booted, wanted) == ["firmware", "initrd"]
    assert reboot_reasons(booted, booted) == []
    assert reboot_reasons(tmp_path / "unknown", wanted) == []


@pytest.mark.parametrize(
    ("unit", "has"),
    [
        ("web.service", True),
        ("other.service", False),
        ("mask.service", False),
        ("back@nas.service", True),
        ("back@a.b.service", True),
        ("back@nas.timer", False),
    ],
)
def test_units_of_a_system(tmp_path: Path, unit: str, has: bool) -> None:
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    (units / "web.service").touch()
    (units / "back@.service").touch()
    (units / "mask.service").symlink_to("/dev/null")
    assert has_unit(tmp_path, unit) is has


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ({}, True),
        ({"loader/entries/nixos-generation-1.conf": "options init=/nix/store/ours/init quiet\n"}, True),
        ({"loader/entries/nixos-generation-1.conf": "options init=/nix/store/other/init\n"}, False),
        ({"loader/entries/arch.conf": "linux /vmlinuz\n"}, True),
        ({"grub/grub.cfg": "linux /x init=/nix/store/other/init\nlinux /y init=/nix/store/ours/init\n"}, True),
        ({"extlinux/extlinux.conf": "APPEND init=/nix/store/other/init\n"}, False),
    ],
)
def test_boot_entries(tmp_path: Path, files: dict[str, str], names: bool) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    assert boots(tmp_path, Path("/nix/store/ours")) is names


def test_a_system_is_told_from_a_folder(tmp_path: Path) -> None:
    assert not is_system(tmp_path)
    write(tmp_path, nixos_version="1")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/switch-to-configuration").touch(0o644)
    assert not is_system(tmp_path)
    (tmp_path / "bin/switch-to-configuration").chmod(0o755)
    assert is_system(tmp_path)
