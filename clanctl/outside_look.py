"""A look at a machine whose daemon does not run: why not, as far as that can be seen from outside of it."""

import errno
import os
import socket
import subprocess
import tomllib
from pathlib import Path
from typing import Any, Final

from clanctl.client import Instance
from clanctl.failures import Failure, one_line
from clanmesh_protocol.limits import PORT_DEFAULT, TUNNEL_PORT_DEFAULT

CONFIG_DIRECTORY: Final = Path("/etc/clanmesh")
SYSTEMD: Final = Path("/run/systemd/system")  # sd_booted(3)
ANSWER_S: Final = 3.0
FREE_BYTES_MIN: Final = 32 << 20
WORDS_MAX: Final = 300  # of the last line of a log

Found = dict[str, Any]


def findings(where: Instance, failure: Failure) -> list[Found]:
    """What is to be seen, in the form of the daemon's own findings."""
    found = [_finding("problem", "daemon", failure.what, failure.why, failure.remedy)]
    found += _unit(where)
    found += _ports(where)
    found += _disk(where)
    return found


def _finding(level: str, check: str, what: str, why: str = "", remedy: str = "") -> Found:
    return {"level": level, "check": check, "what": what, "why": why or None, "remedy": remedy or None}


def unit_name(where: Instance) -> str | None:
    """The unit that runs this instance; None for one that is run in another way."""
    _, dash, name = where.runtime_directory.name.partition("-")
    if where.is_default:
        return "clanmeshd.service"
    is_instance = where.runtime_directory.parent == Path("/run") and where.runtime_directory.name.startswith(
        "clanmesh"
    )
    return f"clanmeshd@{name}.service" if is_instance and dash and name else None


# --- its unit ------------------------------------------------------------------------------------------


def _unit(where: Instance) -> list[Found]:
    unit = unit_name(where)
    if unit is None or not SYSTEMD.is_dir():
        return []
    told = _run("systemctl", "show", unit, "--property=LoadState,ActiveState,Result,UnitFileState")
    state = dict(line.split("=", 1) for line in (told or "").splitlines() if "=" in line)
    return unit_findings(unit, state, lambda: _last_line(unit))


def unit_findings(unit: str, state: dict[str, str], last_line: Any) -> list[Found]:
    """What the state of a unit says, as systemctl shows it. `last_line` gives what its log ends with."""
    match state.get("LoadState"), state.get("ActiveState"):
        case (None, _):
            return []
        case ("not-found", _):
            remedy = "`sudo make install` in a checkout of clanmesh"
            return [_finding("problem", "unit", f"there is no {unit}", "it is not installed here", remedy)]
        case ("masked", _):
            return [
                _finding(
                    "problem", "unit", f"{unit} is masked", "somebody forbade it", f"`systemctl unmask {unit}`"
                )
            ]
        case (_, "failed" | "activating"):
            why = f"{state.get('Result') or 'it failed'}: {last_line() or 'its log says nothing'}"
            remedy = f"see `journalctl -u {unit.removesuffix('.service')}`"
            return [_finding("problem", "unit", f"{unit} does not come up", why, remedy)]
        case (_, "inactive"):
            found = [_finding("note", "unit", f"{unit} is stopped", "somebody or something stopped it")]
            if state.get("UnitFileState") == "disabled":
                remedy = f"`sudo systemctl enable --now {unit.removesuffix('.service')}`"
                found.append(_finding("note", "unit", f"{unit} is not started with the machine", "", remedy))
            return found
    return [
        _finding("note", "unit", f"{unit} is {state.get('ActiveState')}", "it may have only just been started")
    ]


def _last_line(unit: str) -> str:
    told = _run("journalctl", "--unit", unit, "--lines", "20", "--output", "cat", "--identifier", "clanmeshd")
    lines = [line for line in (told or "").splitlines() if line.strip() and not line.startswith("-- ")]
    return one_line(lines[-1])[:WORDS_MAX] if lines else ""


def _run(*words: str) -> str | None:
    try:
        done = subprocess.run(
            words, capture_output=True, encoding="utf-8", errors="replace", timeout=ANSWER_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout


# --- its ports -----------------------------------------------------------------------------------------


def _ports(where: Instance) -> list[Found]:
    path = config_file(where)
    if path is None:
        return []
    try:
        settings = tomllib.loads(path.read_text()) if path.exists() else {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return [
            _finding("problem", "configuration", f"{path} cannot be read", one_line(str(error)), "mend that file")
        ]
    port, tunnel = settings.get("port", PORT_DEFAULT), settings.get("tunnel_port", TUNNEL_PORT_DEFAULT)
    kinds = (
        (socket.SOCK_DGRAM, port, "UDP"),
        (socket.SOCK_STREAM, port, "TCP"),
        (socket.SOCK_DGRAM, tunnel, "UDP"),
    )
    taken = [(name, number) for kind, number, name in kinds if isinstance(number, int) and is_taken(kind, number)]
    if not taken:
        return [_finding("ok", "ports", "the ports of clanmesh are free")]
    return [
        _finding(
            "problem",
            "ports",
            f"{name} port {number} is in use by another program",
            "the daemon cannot start without it",
            f"`sudo ss -lnp 'sport = :{number}'` names it; end it, or set another port in {path}",
        )
        for name, number in taken
    ]


def config_file(where: Instance) -> Path | None:
    """The configuration of an instance; None where it is not known which."""
    unit = unit_name(where)
    if unit is None:
        return None
    name = unit.removesuffix(".service").partition("@")[2]
    return CONFIG_DIRECTORY / f"{name or 'clanmesh'}.toml"


def is_taken(kind: socket.SocketKind, port: int) -> bool:
    """Whether some program has a port of this machine."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            with socket.socket(family, kind) as opened:
                if family == socket.AF_INET6:
                    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                if kind == socket.SOCK_STREAM:
                    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections are none
                opened.bind(("", port))
        except (OSError, OverflowError) as error:
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                return True
    return False


# --- its disk ------------------------------------------------------------------------------------------


def _disk(where: Instance) -> list[Found]:
    try:
        told = os.statvfs(where.state_directory)
    except OSError:
        return []
    free = told.f_bavail * told.f_frsize
    if free >= FREE_BYTES_MIN:
        return []
    left = f"{free / 1e6:.0f} MB are left at {where.state_directory}"
    return [_finding("problem", "disk", "the disk is full", left, "make room there")]
