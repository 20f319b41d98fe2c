"""The one configuration file, read once into a frozen value."""

import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from clanmesh_protocol.endpoints import Endpoint, parse_endpoint
from clanmesh_protocol.limits import PORT_DEFAULT, TUNNEL_PORT_DEFAULT
from clanmeshd.overlay.path_terms import AWAKE_MAX

STATE_DIRECTORY: Final = Path("/var/lib/clanmesh")
RUNTIME_DIRECTORY: Final = Path("/run/clanmesh")
CONFIG_FILE: Final = Path("/etc/clanmesh/clanmesh.toml")
HOOKS: Final = Path("/etc/clanmesh/hooks.d")
CONFIG_BYTES_MAX: Final = 65_536  # a handful of lines in practice
INTERFACE_BYTES_MAX: Final = 15  # IFNAMSIZ less its final zero

AUTO: Final = "auto"
OVERLAY_BACKENDS: Final = (AUTO, "kernel", "userspace", "none")


class ConfigError(Exception):
    """The configuration cannot be used: one line with the file, the key and what would be right."""


@dataclass(frozen=True, slots=True)
class Config:
    """What a person may set. The defaults need no file at all."""

    state_directory: Path = STATE_DIRECTORY
    runtime_directory: Path = RUNTIME_DIRECTORY
    port: int = PORT_DEFAULT  # UDP gossip and TCP streams
    tunnel_port: int = TUNNEL_PORT_DEFAULT
    interface: str = "clan0"
    overlay: str = AUTO
    mdns: bool = True
    names: bool = True  # answered on the overlay address, and told to the system's resolver
    endpoints: tuple[Endpoint, ...] = field(default=())  # where others reach us, beside what we see ourselves
    port_mapping: bool = True  # whether to ask the home router to forward our ports
    relay: bool | str = AUTO  # for other members; by itself with the tag `relay`, or a public address
    awake: int = AWAKE_MAX  # in a clan of more others than this, tunnels with nothing to send sleep
    hooks: Path = HOOKS  # its programs are told how each activation ended


_KEYS: Final = frozenset(
    {
        "port",
        "tunnel_port",
        "interface",
        "overlay",
        "mdns",
        "names",
        "endpoints",
        "port_mapping",
        "relay",
        "awake",
        "hooks",
    }
)


def load_config(path: Path | None, state_directory: Path | None, runtime_directory: Path | None) -> Config:
    """Read the file (the default one may be missing), then the directories of the command line on top.

    Raises ConfigError.
    """
    values = _read(path or CONFIG_FILE, required=path is not None)
    unknown = sorted(set(values) - _KEYS)
    if unknown:
        raise ConfigError(
            f"{path or CONFIG_FILE}: no setting {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}"
        )
    try:
        return Config(
            state_directory=_directory(state_directory, "CLANMESH_STATE_DIR", STATE_DIRECTORY),
            runtime_directory=_directory(runtime_directory, "CLANMESH_RUNTIME_DIR", RUNTIME_DIRECTORY),
            port=_port(values, "port", PORT_DEFAULT),
            tunnel_port=_port(values, "tunnel_port", TUNNEL_PORT_DEFAULT),
            interface=_interface(values),
            overlay=_overlay(values),
            mdns=_typed(values, "mdns", bool, True),
            names=_typed(values, "names", bool, True),
            endpoints=tuple(parse_endpoint(str(text)) for text in _typed(values, "endpoints", list, [])),
            port_mapping=_typed(values, "port_mapping", bool, True),
            relay=_relay(values),
            awake=_awake(values),
            hooks=_absolute(values, "hooks", HOOKS),
        )
    except ValueError as error:
        raise ConfigError(f"{path or CONFIG_FILE}: {error}") from error


def _directory(given: Path | None, variable: str, default: Path) -> Path:
    return (given or Path(os.environ.get(variable) or default)).absolute()


def _read(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        if path.stat().st_size > CONFIG_BYTES_MAX:
            raise ConfigError(f"{path}: over {CONFIG_BYTES_MAX} bytes, which no configuration needs")
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        if required:
            raise ConfigError(f"{path}: no such file; leave --config out to use the defaults") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        why = str(error.strerror if isinstance(error, OSError) else error)
        raise ConfigError(f"{path}: {why[:1].lower()}{why[1:]}; mend that file") from error


# How people call what TOML has.
_KINDS: Final = {bool: "true or false", int: "a whole number", str: "a text in quotes", list: "a list in brackets"}
_WORDS_MAX: Final = 200  # of a line about a value that may be as long as the file


def _typed(values: dict[str, Any], key: str, kind: type, default: Any) -> Any:
    value = values.get(key, default)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        spelt = str(value).lower() if isinstance(value, bool) else repr(value)
        raise ValueError(f"{key} must be {_KINDS[kind]}, and is {spelt}"[:_WORDS_MAX])
    return value


def _absolute(values: dict[str, Any], key: str, default: Path) -> Path:
    path = Path(_typed(values, key, str, str(default)))
    if not path.is_absolute():
        raise ValueError(f"{key} must be an absolute path")
    return path


def _port(values: dict[str, Any], key: str, default: int) -> int:
    port: int = _typed(values, key, int, default)
    if not 0 < port < 65_536:
        raise ValueError(f"{key} must be from 1 to 65535")
    return port


def _interface(values: dict[str, Any]) -> str:
    name: str = _typed(values, "interface", str, "clan0")
    if not 0 < len(name.encode()) <= INTERFACE_BYTES_MAX or any(each in "/:" or each.isspace() for each in name):
        raise ValueError(f"interface {name!r} is not a name of at most {INTERFACE_BYTES_MAX} characters")
    return name


def _relay(values: dict[str, Any]) -> bool | str:
    value: bool | str = values.get("relay", AUTO)
    if not isinstance(value, bool) and value != AUTO:
        raise ValueError(f"relay must be true, false or {AUTO!r}")
    return value


def _awake(values: dict[str, Any]) -> int:
    count: int = _typed(values, "awake", int, AWAKE_MAX)
    if count < 0:
        raise ValueError("awake must be a number of devices, 0 or more")
    return count


def _overlay(values: dict[str, Any]) -> str:
    backend: str = _typed(values, "overlay", str, AUTO)
    if backend not in OVERLAY_BACKENDS:
        raise ValueError(f"overlay must be one of {', '.join(OVERLAY_BACKENDS)}")
    return backend
