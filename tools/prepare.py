"""`tools/bootstrap`: what a checkout needs to run here. Standard library only; a moment when all is there."""

import argparse
import fcntl
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from tools import debian
from tools.console import Impossible, step
from tools.virtual import Environment, Lock

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
TOOLS = CACHE / "tools"

PROGRAMS = {  # what `make demo` runs, and the Debian package that has it
    "ip": "iproute2",
    "ping": "iputils-ping",
    "nft": "nftables",
    "ssh-keygen": "openssh-client",
    "wireguard-go": "wireguard-go",
}
TEST_PACKAGES = (  # what the tiers of `make test` run on beside these; see README.md
    *PROGRAMS.values(),
    "busybox-static",
    "cpio",
    "gcc",
    "git",
    "iptables",
    "kmod",
    "libc6-dev",
    "libsystemd-dev",
    "linux-image-amd64",
    "miniupnpd-nftables",
    "nix-bin",
    "pkg-config",
    "procps",
    "python3",
    "qemu-system-x86",
    "systemd-container",
    "util-linux",
    "wireguard-tools",
)
ARCHITECTURE_ONLY = {"linux-image-amd64": "x86_64", "qemu-system-x86": "x86_64"}


def main() -> int:
    """Prepare the checkout. Gives the exit status: 1 when something is missing and cannot be had."""
    parser = argparse.ArgumentParser(prog="tools/bootstrap", description="Prepare this checkout.")
    parser.add_argument("--test", action="store_true", help="also what `make test` needs; as root by apt")
    arguments = parser.parse_args()
    CACHE.mkdir(exist_ok=True)
    try:
        with (CACHE / "bootstrap.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two `make` at once would build one environment twice
            prepare(test=arguments.test)
    except Impossible as error:
        print(f"bootstrap: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def prepare(*, test: bool) -> None:
    """Bring environment and programs to what is needed. Raises Impossible."""
    if test:
        install_test_packages()
    make_environment(test=test)
    fetch_programs()


def make_environment(*, test: bool) -> None:
    """Bring `.venv` to the lock files. Raises Impossible."""
    environment = Environment(ROOT / ".venv", ROOT, CACHE)
    locks = [Lock(ROOT / "requirements.lock")]
    if test:
        locks.append(Lock(ROOT / "requirements-test.lock"))
    if not environment.runs() or any(environment.outdated(lock) for lock in locks):
        environment.make()
    wanted = [lock for lock in locks if not environment.has(lock)]
    if wanted:
        with step("Python packages into .venv"):
            environment.install(wanted)
    environment.link_project()
    if test:
        compile_systemd(environment)


def compile_systemd(environment: Environment) -> None:
    """Compile the binding to libsystemd; where that cannot be done, say so: one test then skips, loudly."""
    options = ("--no-build-isolation", "--no-deps", "--no-binary", ":all:")
    lock = Lock(ROOT / "requirements-systemd.lock", options)
    if environment.has(lock):
        return
    try:
        with step("compiling systemd-python"):
            environment.install([lock])
    except Impossible as error:
        print(
            f"bootstrap: {error}; tests of it are skipped (apt install gcc pkg-config libsystemd-dev)",
            file=sys.stderr,
        )


def fetch_programs() -> None:
    """Unpack the programs that the machine lacks. Raises Impossible."""
    lacking = {program: package for program, package in PROGRAMS.items() if find(program) is None}
    if not lacking:
        return
    if find("git") is None:
        raise Impossible("git is missing; apt install git")
    with step(f"{', '.join(lacking)} into .cache"):
        debian.unpack(sorted(set(lacking.values())), TOOLS, CACHE)
    still = [program for program in lacking if find(program) is None]
    if still:
        raise Impossible(
            f"{', '.join(still)} is still missing after unpacking; apt install {' '.join(lacking.values())}"
        )


def find(program: str) -> str | None:
    """Where a program is, among the system's and those that were unpacked."""
    system = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
    unpacked = [str(TOOLS / folder) for folder in ("usr/sbin", "usr/bin", "sbin", "bin")]
    return shutil.which(program, path=":".join([system, *unpacked]))


def install_test_packages() -> None:
    """Install what the test tiers run on, or say in one line what is missing. Raises Impossible."""
    lacking = debian.missing(wanted_packages())
    if not lacking:
        return
    if os.geteuid() != 0:
        print(
            f"bootstrap: not root, so some tests will be skipped; missing: apt install {' '.join(lacking)}",
            file=sys.stderr,
        )
        return
    if shutil.which("apt-get") is None:
        print(
            f"bootstrap: no apt here; some tests will be skipped for want of: {' '.join(lacking)}", file=sys.stderr
        )
        return
    with step(f"apt-get install {' '.join(lacking)}"):
        debian.install(lacking, CACHE)


def wanted_packages() -> list[str]:
    """The packages for the tests on this kind of machine."""
    machine = os.uname().machine
    packages = [name for name in TEST_PACKAGES if ARCHITECTURE_ONLY.get(name, machine) == machine]
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        packages.append("python3-dev")
    return sorted(packages)


if __name__ == "__main__":
    sys.exit(main())
