"""NetworkManager in a container, unpacked there, since installing it would change the machine outside."""

import json
import shutil
from pathlib import Path
from typing import Final

from tests.systemd.container import CHECKOUT, Container
from tools import debian

UNIT: Final = "NetworkManager.service"
NAME: Final = "org.freedesktop.NetworkManager"

_TOP: Final = "/org/freedesktop/NetworkManager"
_CACHE: Final = CHECKOUT / ".cache"
_FOLDER: Final = _CACHE / "network-manager"
_TEXT: Final = f"""[Service]
Type=dbus
BusName={NAME}
Environment=LD_LIBRARY_PATH=/usr/local/lib/network-manager
ExecStart=/usr/local/lib/network-manager/NetworkManager --no-daemon
KillMode=process
"""
_PROFILE: Final = """[connection]
id={interface}
type=tun
interface-name={interface}
autoconnect=false
[tun]
mode=1
[ipv4]
method=disabled
[ipv6]
method=link-local
"""
# No policy kit here, and no udev, whose word on each interface it would wait for.
_SETTINGS: Final = "[main]\nauth-polkit=false\nplugins=keyfile\ndns=none\n"


def unpacked() -> Path:
    """The folder with the package's files. Raises Impossible."""
    if not (_FOLDER / "complete").exists():
        shutil.rmtree(_FOLDER, ignore_errors=True)
        debian.unpack(["network-manager"], _FOLDER, _CACHE)
        (_FOLDER / "complete").touch()
    return _FOLDER


def put_into(machine: Container, package: Path) -> None:
    """Install it in a container; it is not started."""
    place, etc = machine.local / "lib/network-manager", machine.root / "etc"
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy2(next(package.rglob("sbin/NetworkManager")), place)
    for library in package.rglob("libndp.so.*"):
        shutil.copy2(library, place)  # a link becomes the file that it leads to
    shutil.copy2(next(package.rglob(f"{NAME}.conf")), etc / "dbus-1/system.d")
    (etc / "NetworkManager/conf.d").mkdir(parents=True)
    (etc / "NetworkManager/NetworkManager.conf").write_text(_SETTINGS)
    (etc / "systemd/system" / UNIT).write_text(_TEXT)
    machine.reload()


def add_profile(machine: Container, interface: str) -> None:
    """Have it know an interface as one of its own, which shall have no address but a link-local one."""
    folder = machine.root / "etc/NetworkManager/system-connections"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{interface}.nmconnection").write_text(_PROFILE.format(interface=interface))
    (folder / f"{interface}.nmconnection").chmod(0o600)


def device(machine: Container, interface: str) -> str | None:
    """The object that stands for an interface; None as long as there is none."""
    code, said = _call(machine, _TOP, NAME, "GetDeviceByIpIface", "s", interface)
    return str(json.loads(said)["data"][0]) if code == 0 else None


def activate(machine: Container, interface: str) -> None:
    """Have the interface as its profile says."""
    code, said = _call(machine, _TOP, NAME, "ActivateConnection", "ooo", "/", str(device(machine, interface)), "/")
    assert code == 0, said


def disconnect(machine: Container, interface: str) -> None:
    """Have the interface as nothing says: one of this kind is deleted."""
    code, said = _call(machine, str(device(machine, interface)), f"{NAME}.Device", "Disconnect")
    assert code == 0, said


def _call(machine: Container, path: str, *words: str) -> tuple[int, str]:
    return machine.attempt("busctl", "--json=short", "call", NAME, path, *words)
