"""`make install` and `make uninstall`: daemon and commands in the system, from this checkout.

Each release is a folder of its own with a virtual environment, and `current` names one: a daemon or an activation
that still runs keeps the files that it began with. The one before the newest is kept for that; older ones go.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from clanmeshd.naming import etc_files
from tools import debian
from tools.console import Impossible, read, step
from tools.virtual import Environment, Lock, download

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
WHEELS = ROOT / "wheels"

HOME = Path("/opt/clanmesh")
RELEASES = HOME / "releases"
CURRENT = HOME / "current"
COMMANDS = Path("/usr/local/bin")
COMMAND_NAMES = ("clanmeshd", "clanctl", "git-remote-clan")
UNITS = Path("/usr/local/lib/systemd/system")
USERS = Path("/usr/local/lib/sysusers.d/clanmesh.conf")
UNIT = "clanmeshd.service"
INSTANCES = "clanmeshd@.service"
RESUME = "clanmesh-resume.service"
ENABLED = Path("/etc/systemd/system")
GROUP = "clanmesh"
RUNTIME = Path("/run")
HOSTS = Path("/etc/hosts")
DNSMASQ = Path("/etc/NetworkManager/dnsmasq.d")
BOOTED = Path("/run/systemd/system")  # there when systemd is the first process

PROGRAMS = {"git": "git", "ssh-keygen": "openssh-client"}
OURS = re.compile(r"clanmeshd(@.*)?\.service|clanmesh-resume\.service")
RESTART_STEPS_SINCE = 254  # systemd's version


def main() -> int:
    """Do what is asked. Gives the exit status."""
    parser = argparse.ArgumentParser(prog="tools/install")
    parser.add_argument("action", choices=("install", "uninstall", "wheels"))
    parser.add_argument("--no-start", action="store_true", help="start nothing, now or at boot")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="the packages are here, none from the network")
    arguments = parser.parse_args()
    try:
        if arguments.action == "wheels":
            download_wheels(arguments.wheels or WHEELS)
        elif os.geteuid() != 0:
            raise Impossible(
                f"`make {arguments.action}` changes the system, which is for root: sudo make {arguments.action}"
            )
        elif arguments.action == "install":
            install(start=not arguments.no_start, wheels=arguments.wheels)
        else:
            uninstall()
    except Impossible as error:
        print(f"{arguments.action}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{arguments.action}: {error}", file=sys.stderr)
        return 1
    return 0


def install(*, start: bool, wheels: Path | None) -> None:
    """Install a new release and make it the current one. Raises Impossible or OSError."""
    if wheels is not None and not wheels.is_dir():
        raise Impossible(f"there is no folder {wheels}; `make wheels` fills one")
    require_programs()
    release = RELEASES / str(max((int(path.name) for path in releases()), default=0) + 1)
    with step(f"clanmesh into {release}"):
        build(release, wheels)
    make_current(release)
    for name in COMMAND_NAMES:
        link(COMMANDS / name, CURRENT / "bin" / name)
    make_group()
    write_units()
    start_service(start=start)


def build(release: Path, wheels: Path | None) -> None:
    """Make a release, whole or not at all. Raises Impossible."""
    release.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    environment = Environment(release, ROOT, CACHE)
    try:
        environment.make()
        environment.install([Lock(ROOT / "requirements.lock")], wheels=wheels.absolute() if wheels else None)
        environment.copy_project()
    except BaseException:
        shutil.rmtree(release, ignore_errors=True)
        raise


def make_current(release: Path) -> None:
    """Let `current` name the release, and keep the one before it and all that something runs from."""
    before = CURRENT.resolve() if CURRENT.is_symlink() else None
    link(CURRENT, release)
    running = command_lines()
    for path in releases():
        if path not in (release, before) and f"{path}/" not in running:
            shutil.rmtree(path)


def command_lines() -> str:
    """The command lines and environments of all processes: an activation may install twice, and lives on both."""
    texts = []
    for path in (*Path("/proc").glob("[0-9]*/cmdline"), *Path("/proc").glob("[0-9]*/environ")):
        try:
            texts.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue  # it has ended
    return "\n".join(texts)


def releases() -> list[Path]:
    """The releases that are there."""
    return [path for path in RELEASES.glob("*") if path.name.isdigit()]


def link(place: Path, target: Path) -> None:
    """Make a symbolic link, replacing what was there in one go."""
    place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = place.with_name(f".{place.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(place)


def require_programs() -> None:
    """Install what the daemon runs and the machine lacks. Raises Impossible."""
    lacking = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if shutil.which("wireguard-go") is None and not kernel_has_wireguard():
        lacking.append("wireguard-go")
    if not lacking:
        return
    if shutil.which("apt-get") is None:
        raise Impossible(f"missing: {' '.join(lacking)}; install it by your system's own means")
    with step(f"apt-get install {' '.join(lacking)}"):
        debian.install(lacking, CACHE)


def kernel_has_wireguard() -> bool:
    """Say whether the running kernel has WireGuard, or a module of it."""
    return Path("/sys/module/wireguard").exists() or read(["modinfo", "-n", "wireguard"]) is not None


def make_group() -> None:
    """Make the group whose members may ask the daemon. Raises Impossible."""
    USERS.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write(USERS, ROOT / "systemd" / "clanmesh.sysusers")
    for words in (["systemd-sysusers", str(USERS)], ["groupadd", "--system", GROUP]):
        if read(["getent", "group", GROUP]) is None:
            read(words)
    if read(["getent", "group", GROUP]) is None:
        raise Impossible(f"the group {GROUP} could not be made; make it by `groupadd --system {GROUP}`")


def write_units() -> None:
    """Put the units where systemd finds them."""
    UNITS.mkdir(mode=0o755, parents=True, exist_ok=True)
    for name in (UNIT, INSTANCES, RESUME):
        write(UNITS / name, ROOT / "systemd" / name)
    if systemd_version() >= RESTART_STEPS_SINCE:
        for unit in (UNIT, INSTANCES):
            (UNITS / f"{unit}.d").mkdir(mode=0o755, exist_ok=True)
            write(UNITS / f"{unit}.d" / "backoff.conf", ROOT / "systemd" / "backoff.conf")


def write(place: Path, source: Path) -> None:
    """Copy a file for all to read, whatever the umask and the checkout's modes."""
    place.write_bytes(source.read_bytes())
    place.chmod(0o644)


def systemd_version() -> int:
    """The version of the installed systemd, 0 without one."""
    told = re.match(r"systemd (\d+)", read(["systemctl", "--version"]) or "")
    return int(told[1]) if told else 0


def start_service(*, start: bool) -> None:
    """Start the daemon now and at each boot, where systemd runs. Raises Impossible."""
    if not BOOTED.is_dir():
        print("systemd is not running here, so nothing was started; by hand: clanmeshd")
        return
    systemctl("daemon-reload")
    if not start:
        print(f"installed, not started; to start it now and at each boot: systemctl enable --now {UNIT} {RESUME}")
        return
    systemctl("enable", "--quiet", UNIT, RESUME)
    systemctl("restart", UNIT)
    print("clanmeshd runs. Next: `clanctl init NAME` to found a clan, or `clanctl join TOKEN` to join one.")


def systemctl(*words: str) -> None:
    """Raises Impossible."""
    finished = subprocess.run(["systemctl", *words], capture_output=True, encoding="utf-8", check=False)
    if finished.returncode != 0:
        reason = finished.stderr.strip().splitlines() or ["it gave no reason"]
        raise Impossible(f"systemctl {' '.join(words)}: {reason[0]}; see `journalctl -u {UNIT}`")


def uninstall() -> None:
    """Take away what `install` made, however much of it there is. The state stays. Raises OSError."""
    if BOOTED.is_dir():
        read(["systemctl", "stop", UNIT, "clanmeshd@*.service", RESUME])
    remove([path for path in ENABLED.glob("*.wants/*") if OURS.fullmatch(path.name)])
    remove([UNITS / UNIT, UNITS / INSTANCES, UNITS / RESUME, UNITS / f"{UNIT}.d", UNITS / f"{INSTANCES}.d", USERS])
    remove([COMMANDS / name for name in COMMAND_NAMES if is_ours(COMMANDS / name)])
    remove_names()
    remove([HOME, *RUNTIME.glob("clanmesh"), *RUNTIME.glob("clanmesh-*")])
    for directory in (UNITS, UNITS.parent, USERS.parent):
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()
    if read(["getent", "group", GROUP]) is not None:
        read(["groupdel", GROUP])
    if BOOTED.is_dir():
        read(["systemctl", "daemon-reload"])
        read(["systemctl", "reset-failed", UNIT])
    kept = [str(path) for path in (Path("/var/lib/clanmesh"), Path("/etc/clanmesh")) if path.exists()]
    print(f"uninstalled{'; kept: ' + ' '.join(kept) + ', keys and all' if kept else ''}")


def remove_names() -> None:
    """Take names out of the files that a daemon which was killed left them in. Raises OSError."""
    with suppress(ValueError):  # a file that is somebody else's has none
        etc_files.clear(str(HOSTS))
    remove(list(DNSMASQ.glob("clanmesh-*.conf")))


def is_ours(command: Path) -> bool:
    """Say whether a command is a link into our folder; somebody else's of that name stays."""
    return command.is_symlink() and command.readlink().is_relative_to(HOME)


def remove(paths: Sequence[Path]) -> None:
    """Remove files, links and folders that are there. Raises OSError."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def download_wheels(directory: Path) -> None:
    """Fill a folder with the packages, for machines of this kind that have no network. Raises Impossible."""
    directory.mkdir(parents=True, exist_ok=True)
    with step(f"packages into {directory}"):
        download(Lock(ROOT / "requirements.lock"), directory, CACHE)


if __name__ == "__main__":
    sys.exit(main())
