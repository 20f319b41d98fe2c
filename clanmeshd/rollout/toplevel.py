"""What can be read off a NixOS system in the store, and off the machine that runs one. Standard library only.

A system says by two small JSON files what a running machine cannot change, each a table of names and values:
`switch-inhibitors`, for which NixOS refuses to switch, and `reboot-triggers`, which wait for the next start.
"""

import json
import os
from pathlib import Path

JSON_BYTES_MAX = 1 << 20  # a handful of store paths
BOOT_FILE_BYTES_MAX = 1 << 20  # of one boot entry or menu; a menu of a hundred systems has 100 kB
BOOT_FILES_MAX = 512  # entries that are looked at

SWITCH = "bin/switch-to-configuration"
_UNITS = "etc/systemd/system"
_LOADED = ("kernel", "initrd", "kernel-modules")  # what only a start puts in use
_BOOT_FILES = ("loader/entries/*.conf", "grub/grub.cfg", "extlinux/extlinux.conf")
_ANY_SYSTEM = b"init=/nix/store/"


def is_system(path: Path) -> bool:
    """Say whether this is a NixOS system that can be switched to."""
    return (path / "nixos-version").is_file() and os.access(path / SWITCH, os.X_OK)


def inhibitors(running: Path, wanted: Path) -> list[str]:
    """What forbids to switch from one system to the other while it runs, by name."""
    return _differences(running, wanted, "switch-inhibitors")


def reboot_reasons(booted: Path, wanted: Path) -> list[str]:
    """What of a system is used only after the next start, by name. Nothing where nobody knows what was booted."""
    if not booted.exists():
        return []
    linked = [name for name in _LOADED if _target(booted / name) != _target(wanted / name)]
    return sorted({*linked, *_differences(booted, wanted, "reboot-triggers")})


def has_unit(system: Path, unit: str) -> bool:
    """Say whether a system brings a unit that can be started, itself or as a template's instance."""
    name, at, rest = unit.partition("@")
    template = f"{name}@.{rest.rpartition('.')[2]}" if at else unit
    files = [system / _UNITS / known for known in (unit, template)]
    return any(file.exists() and os.path.realpath(file) != os.devnull for file in files)


def boots(boot: Path, system: Path) -> bool:
    """Say whether the boot loader's files name a system; true as well where they name none of any kind.

    The installer of a boot loader may end well and have written nothing, on a full /boot for one. Boot loaders
    that keep what they start inside of images are not looked into.
    """
    wanted = f"init={system}/init".encode()
    texts = [_head(path) for pattern in _BOOT_FILES for path in sorted(boot.glob(pattern))[:BOOT_FILES_MAX]]
    return not any(_ANY_SYSTEM in text for text in texts) or any(wanted in text for text in texts)


def _differences(first: Path, second: Path, name: str) -> list[str]:
    """The names that both have, with other values. As NixOS compares them: what one lacks is no difference."""
    ours, theirs = _table(first / name), _table(second / name)
    return sorted(key for key in ours.keys() & theirs.keys() if ours[key] != theirs[key])


def _table(path: Path) -> dict[str, object]:
    try:
        value = json.loads(_head(path, JSON_BYTES_MAX))
    except ValueError:
        return {}  # there is none, or it is of a version that wrote another form
    return value if isinstance(value, dict) else {}


def _head(path: Path, bytes_max: int = BOOT_FILE_BYTES_MAX) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(bytes_max)
    except OSError:
        return b""


def _target(path: Path) -> str:
    return os.path.realpath(path) if path.exists() else ""
