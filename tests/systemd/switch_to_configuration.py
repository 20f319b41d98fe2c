#!/usr/bin/python3
"""A `switch-to-configuration` for tests: NixOS' own needs a nixpkgs, which there is none of here.

It keeps to upstream's order of steps, its lists in /run/nixos, its lock, the X- directives of units, and its exit
codes; `test_switch_to_configuration` holds it to them. It leaves out what the driver never sees: users' own units,
fstab, swap, sockets, a new systemd. What upstream has compiled in, it takes from files of the system:

    pre-switch-check ACTION   what the system checks beside its inhibitors
    install-bootloader        called for `switch` and `boot`
    activate                  called for `switch` and `test`; links units and /run/current-system
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

SYSTEM = Path(sys.argv[0]).resolve().parent.parent
RUNNING = Path("/run/current-system")
ETC = Path("/etc/systemd/system")
LISTS = Path("/run/nixos")
RELOAD_TIMEOUT_S = 180
SETTLE_S = 0.25  # upstream waits until the bus has been silent for so long
WANTS_ALL = "multi-user.target"  # of the targets, which upstream starts again, that on which services hang
NEVER_DIRECTLY = ("sysinit.target", "basic.target", "multi-user.target", "graphical.target")

start: set[str] = set()
restart: set[str] = set()
reload: set[str] = set()
stop: set[str] = set()
skip: set[str] = set()


def main() -> int:
    """Give the exit code."""
    actions = ("check", "switch", "boot", "test", "dry-activate")
    action = sys.argv[1] if len(sys.argv) == 2 else ""
    if action not in actions:
        return _say(f"Usage: switch-to-configuration [{'|'.join(actions)}]", 1)
    if os.geteuid() != 0:
        return _say("switch-to-configuration must be run as the root user", 1)
    if not Path("/etc/NIXOS").is_file():
        return _say("This is not a NixOS installation!", 2)  # errno of the file that is not there
    LISTS.mkdir(mode=0o755, exist_ok=True)
    lock = os.open(LISTS / "switch-to-configuration.lock", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        return _say("Could not acquire lock", error.errno or 1)
    if os.environ.get("NIXOS_NO_CHECK") != "1" and not _checks(action):
        return _say("Pre-switch checks failed", 1)
    if action == "check":
        return 0
    if action in ("switch", "boot") and not _call("install-bootloader"):
        return _say("Failed to install bootloader", 1)
    os.sync()
    if action == "boot":
        return 0
    if _text(RUNNING / "init-interface-version") != _text(SYSTEM / "init-interface-version"):
        return _say("the new init is incompatible with the current one: reboot", 100)
    return _activate(dry=action == "dry-activate")


def _activate(dry: bool) -> int:
    for units, name in ((start, "start-list"), (restart, "restart-list"), (reload, "reload-list")):
        units |= set(_text(LISTS / name).split())
    _compare(dry)
    if dry:
        return _say(f"would stop: {sorted(stop)}; would restart: {sorted(restart)}", 0)
    if stop:
        _say(f"stopping the following units: {', '.join(sorted(stop))}")
        _systemctl("stop", *sorted(stop))
    if skip:
        _say(f"NOT restarting the following changed units: {', '.join(sorted(skip))}")
    _say("activating the configuration...")
    code = 0 if _call("activate") else _say("Failed to run activate script", 2)
    _by_activation()
    _systemctl("reset-failed")
    if not _systemctl("daemon-reload", timeout_s=RELOAD_TIMEOUT_S):
        return _say("systemd daemon reload failed", 1)
    for verb, units, name in (("reload", reload, "reload-list"), ("restart", restart, "restart-list")):
        if units and not _systemctl(verb, *sorted(units)):
            code = _say(f"Failed to {verb} one of {sorted(units)}", 4)
        (LISTS / name).unlink(missing_ok=True)
    if not _systemctl("start", *sorted({*start, WANTS_ALL})):
        code = _say(f"Failed to start one of {sorted(start)}", 4)
    (LISTS / "start-list").unlink(missing_ok=True)
    time.sleep(SETTLE_S)
    failed = _listed("--state=failed") | _crashing()
    if failed:
        _systemctl("status", "--no-pager", "--full", *sorted(failed))
        code = _say(f"warning: the following units failed: {', '.join(sorted(failed))}", 4)
    return code


# --- units -------------------------------------------------------------------------------------------------


def _compare(dry: bool) -> None:
    """Find what is to be done with each unit of the running system."""
    for unit in _listed("--state=active,activating"):
        old, new = ETC / unit, SYSTEM / "etc/systemd/system" / unit
        if not os.path.realpath(old).startswith("/nix/store/"):
            continue  # not a unit of this kind of system
        if not new.exists() or os.path.realpath(new) == os.devnull:
            if _flag(old, "X-StopOnRemoval", True):
                stop.add(unit)
        elif unit.endswith(".target"):
            if not (_flag(new, "X-OnlyManualStart", False) or _flag(new, "RefuseManualStart", False)):
                start.add(unit)
        elif _text(old) != _text(new):
            _changed(unit, new, dry)


def _changed(unit: str, new: Path, dry: bool) -> None:
    if unit in NEVER_DIRECTLY or unit.endswith((".path", ".slice")):
        return
    if _flag(new, "X-ReloadIfChanged", False):
        reload.add(unit)
        _record("reload-list", unit, dry)
    elif not _flag(new, "X-RestartIfChanged", True) or _flag(new, "RefuseManualStop", False):
        skip.add(unit)
    elif not _flag(new, "X-StopIfChanged", True):
        restart.add(unit)
        _record("restart-list", unit, dry)
    else:
        start.add(unit)
        _record("start-list", unit, dry)
        stop.add(unit)


def _by_activation() -> None:
    """What the activation script asked for."""
    active = _listed("--state=active,activating")
    for name, wanted, otherwise in (
        ("activation-restart-list", restart, start),
        ("activation-reload-list", reload, None),
    ):
        for unit in _text(LISTS / name).split():
            if unit in active:
                wanted.add(unit)
            elif otherwise is not None:
                otherwise.add(unit)
        (LISTS / name).unlink(missing_ok=True)


def _crashing() -> set[str]:
    """Services that wait to be started again since their last start failed."""
    waiting = {unit for unit in _listed("--state=auto-restart") if unit.endswith(".service")}
    return {unit for unit in waiting if _shown(unit, "ExecMainStatus") != "0"}


def _flag(unit: Path, name: str, default: bool) -> bool:
    values = [line.partition("=")[2].strip() for line in _text(unit).splitlines() if line.startswith(f"{name}=")]
    return values[-1].lower() in ("1", "yes", "true", "on") if values else default


def _record(name: str, unit: str, dry: bool) -> None:
    """So that whoever comes after an interruption goes on from here."""
    if not dry:
        with open(LISTS / name, "a") as file:
            file.write(f"{unit}\n")


# --- programs ----------------------------------------------------------------------------------------------


def _checks(action: str) -> bool:
    """What must not differ from the running system, and what the system checks beside that."""
    running, wanted = (_table(system / "switch-inhibitors") for system in (RUNNING, SYSTEM))
    changed = [name for name in running.keys() & wanted.keys() if running[name] != wanted[name]]
    if changed and action in ("switch", "test", "check"):
        _say(f"There are changes to critical components of the system: {changed}")
        return False
    return _call("pre-switch-check", action)


def _table(path: Path) -> dict[str, str]:
    value: dict[str, str] = json.loads(_text(path) or "{}")
    return value


def _call(name: str, *arguments: str) -> bool:
    program = SYSTEM / name
    return not program.exists() or subprocess.run([program, SYSTEM, *arguments], check=False).returncode == 0


def _systemctl(*words: str, timeout_s: float | None = None) -> bool:
    try:
        return subprocess.run(["systemctl", *words], timeout=timeout_s, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _listed(*filters: str) -> set[str]:
    words = ["systemctl", "list-units", "--plain", "--no-legend", "--full", *filters]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return {line.split()[0] for line in told.splitlines() if line.strip()}


def _shown(unit: str, name: str) -> str:
    words = ["systemctl", "show", "--value", f"--property={name}", unit]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _say(text: str, code: int = 0) -> int:
    print(text, file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
