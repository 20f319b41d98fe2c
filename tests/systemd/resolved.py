"""systemd-resolved in a container, in places of the container's own.

The package is unpacked into our cache, since installing it would change the machine's own resolver.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.systemd.container import CHECKOUT, Container
from tools import debian
from tools.console import Impossible

UNIT: Final = "systemd-resolved.service"
STUB: Final = "/run/systemd/resolve/stub-resolv.conf"
PROGRAM: Final = "usr/local/lib/systemd/systemd-resolved"

_CACHE: Final = CHECKOUT / ".cache"
_USER: Final = "systemd-resolve:x:971:971:systemd Resolver:/:/usr/sbin/nologin\n"
_GROUP: Final = "systemd-resolve:x:971:\n"


def unpacked() -> Path:
    """The folder with the package's files, of this machine's version of systemd. Raises Impossible."""
    told = subprocess.run(["systemctl", "--version"], capture_output=True, encoding="utf-8", check=True).stdout
    version = re.search(r"\((.*)\)", told)
    folder = _CACHE / f"systemd-resolved-{version[1] if version else 'unknown'}"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        debian.unpack(["systemd-resolved"], folder, _CACHE)
        if version is None or version[1] not in str(_version_of(_file(folder, "systemd-resolved"))):
            raise Impossible("the archive has another version of systemd-resolved than this machine of systemd")
        (folder / "complete").touch()
    return folder


def put_into(machine: Container, package: Path) -> None:
    """Install it in a container, where it runs and looks names up."""
    etc = machine.root / "etc"
    program = machine.local / "lib/systemd/systemd-resolved"
    program.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(_file(package, "systemd-resolved"), program)
    (machine.local / "bin").mkdir(exist_ok=True)
    shutil.copy2(_file(package, "resolvectl"), machine.local / "bin/resolvectl")
    (etc / "dbus-1/system.d").mkdir(parents=True, exist_ok=True)
    shutil.copy2(_file(package, "org.freedesktop.resolve1.conf"), etc / "dbus-1/system.d")
    unit = etc / "systemd/system" / UNIT
    unit.unlink(missing_ok=True)
    text = _file(package, UNIT).read_text()
    unit.write_text(re.sub(r"(ExecStart=!*)\S+", rf"\1/{PROGRAM}", text))
    for name, line in (("passwd", _USER), ("group", _GROUP)):
        if line.partition(":")[0] not in (etc / name).read_text():
            with (etc / name).open("a") as file:
                file.write(line)
    (etc / "resolv.conf").unlink(missing_ok=True)
    (etc / "resolv.conf").symlink_to(f"..{STUB}")
    machine.reload()
    machine.run("systemctl", "start", UNIT)


def _file(folder: Path, name: str) -> Path:
    """The one file of a name: distributions have merged /lib and /usr/lib, packages not all."""
    return next(path for path in sorted(folder.rglob(name)) if path.is_file() and "completion" not in str(path))


def _version_of(program: Path) -> str:
    told = subprocess.run([program, "--version"], capture_output=True, encoding="utf-8", check=False)
    return told.stdout
