"""What Debian's archive has: unpacked into a folder for anybody, or installed by root. Starts no service, ever.

A package list of our own is fetched when the machine's is missing or too old; the machine's is left as it is.
"""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.console import Impossible, read, run, show_end_of

POLICY = Path("/usr/sbin/policy-rc.d")  # asked by every package before it starts a service
POLICY_TEXT = "#!/bin/sh\n# By clanmesh's `make test`, while it installs: no service is started.\nexit 101\n"
_WILL_INSTALL = re.compile(r"^Inst (\S+) \((?!\[)", re.MULTILINE)  # `Inst NAME [OLD] (NEW` would replace: left out


def missing(packages: Sequence[str]) -> list[str]:
    """The packages that are not installed. All of them where there is no dpkg."""
    return [package for package in packages if not is_installed(package)]


def is_installed(package: str) -> bool:
    """Say whether dpkg knows the package as installed."""
    status = read(["dpkg-query", "-W", "-f", "${db:Status-Status}", package])
    return status == "installed"


def unpack(packages: Sequence[str], target: Path, cache: Path) -> None:
    """Download packages with whatever they need that is not installed, and unpack all into a folder.

    Raises Impossible.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Impossible(
            f"missing: {' '.join(packages)}; there is no apt here, install it by your system's own means"
        )
    log = cache / "logs" / "apt.log"
    log.unlink(missing_ok=True)
    for own_lists in (False, True):
        options = _options(cache, own_lists=own_lists)
        if own_lists and not _apt_get(["update", "-q"], options, log):
            break
        if _download_and_unpack(packages, target, cache, options, log):
            return
    show_end_of(log)
    raise Impossible(
        f"missing: {' '.join(packages)}; apt could not fetch it, for the reason above; as root `apt install` may"
    )


def install(packages: Sequence[str], cache: Path) -> None:
    """Install packages as root; none of their services is started. Raises Impossible."""
    log = cache / "logs" / "apt-install.log"
    log.unlink(missing_ok=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}
    quick = [
        "-o",
        "DPkg::Options::=--force-unsafe-io",
    ]  # a kernel and an emulator are many files to sync one by one
    words = ["install", "-y", "-q", "--no-install-recommends", *quick, *packages]
    with _no_service_starts():
        _apt_get(["update", "-q"], (), log, environment)  # old lists may do as well
        if not _apt_get(words, (), log, environment):
            show_end_of(log)
            raise Impossible(f"apt could not install {' '.join(packages)}; its reason is above")


@contextmanager
def _no_service_starts() -> Iterator[None]:
    before = POLICY.read_text() if POLICY.exists() else None
    if before == POLICY_TEXT:
        before = None  # ours, left by a run that was killed
    mode = POLICY.stat().st_mode if before is not None else 0o755
    POLICY.write_text(POLICY_TEXT)
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        if before is None:
            POLICY.unlink(missing_ok=True)
        else:
            POLICY.write_text(before)
            POLICY.chmod(mode)


def _options(cache: Path, *, own_lists: bool) -> tuple[str, ...]:
    """Options with which apt, even as root, writes into our cache alone; it reads package lists there if asked."""
    lists, archives, logs = (cache / "apt" / name for name in ("lists", "cache", "log"))
    for directory in (lists / "partial", archives / "archives" / "partial", logs):
        directory.mkdir(parents=True, exist_ok=True)
    options = [f"Dir::Cache={archives}", f"Dir::Log={logs}"]
    if own_lists:
        options.append(f"Dir::State::lists={lists}")
    if os.geteuid() == 0:
        options.append("APT::Sandbox::User=root")  # the checkout may lie where apt's own user cannot look
    return tuple(word for option in options for word in ("-o", option))


def _download_and_unpack(
    packages: Sequence[str], target: Path, cache: Path, options: Sequence[str], log: Path
) -> bool:
    plan = read(["apt-get", *options, "-s", "-q", "--no-install-recommends", "install", *packages])
    if plan is None:
        return False
    names = sorted(set(_WILL_INSTALL.findall(plan))) or list(packages)
    debs = cache / "debs"
    shutil.rmtree(debs, ignore_errors=True)
    debs.mkdir(parents=True)
    if not _apt_get(["download", "-q", *names], options, log, directory=debs):
        return False
    target.mkdir(parents=True, exist_ok=True)
    unpacked = [run(["dpkg-deb", "-x", deb, target], log=log) for deb in sorted(debs.glob("*.deb"))]
    shutil.rmtree(debs)
    return bool(unpacked) and all(unpacked)


def _apt_get(
    words: Sequence[str],
    options: Sequence[str],
    log: Path,
    environment: dict[str, str] | None = None,
    directory: Path | None = None,
) -> bool:
    return run(["apt-get", *options, *words], log=log, env=environment, directory=directory)
