"""`clan.toml` at the repository's root: what a commit's signer decides about its own rollout."""

import re
import tomllib
from dataclasses import dataclass
from typing import Any, Final

from clanmesh_protocol.control import Fault
from clanmesh_protocol.names import TAG_ALL, is_label
from clanmeshd.rollout.activation import COMMAND, NIXOS, SETTLE_S
from clanmeshd.rollout.git import one_line
from clanmeshd.rollout.rings import HEALTHY_MAX, RINGS_MAX, SOAK_S, SOAK_S_MAX, Ring

FILE_NAME: Final = "clan.toml"
FILE_BYTES_MAX: Final = 65_536  # a page of settings
LINE_DOTS_MAX: Final = 128  # a name of n parts takes the square of n to read: 20 s for a file that is one name
ARGUMENTS_MAX: Final = 64
ARGUMENT_BYTES_MAX: Final = 4096

URL_CHARACTERS_MAX: Final = 1024
_URL: Final = re.compile(r"(https://|ssh://|file:///)[A-Za-z0-9/][A-Za-z0-9@:/._~%+-]*")  # no host begins with `-`

HEALTH_TIMEOUT_S: Final = 30
HEALTH_TIMEOUT_S_MAX: Final = 3600
BUILD_TIMEOUT_S_MAX: Final = 86_400
ACTIVATE_TIMEOUT_S_MAX: Final = 3600
BUILDERS_MAX: Final = 16  # tags and names of devices

# Where nothing is said. Who builds a kernel needs hours; a switch waits for services that take their time to end.
BUILD_TIMEOUT_S: Final = {COMMAND: 1800, NIXOS: 14_400}
ACTIVATE_TIMEOUT_S: Final = {COMMAND: 300, NIXOS: 900}

SETTLE_S_MAX: Final = 600
UNITS_MAX: Final = 64

EXAMPLE: Final = '[rollout] with driver = "command", activate = ["./activate"] and health = ["./health"]'
_UNIT: Final = re.compile(r"[A-Za-z0-9:_.\\@-]{1,240}\.[a-z]{4,9}")  # systemd.unit(5)
_TABLES: Final = frozenset({"rollout"})
_COMMON: Final = frozenset(
    {
        "driver",
        "health",
        "health_timeout_s",
        "health_units",
        "settle_s",
        "build_timeout_s",
        "activate_timeout_s",
        "ring",
        "upstream",
    }
)
_KEYS: Final = {COMMAND: _COMMON | {"build", "activate"}, NIXOS: _COMMON | {"builders"}}
_RING_KEYS: Final = frozenset({"tag", "healthy", "soak_s"})


@dataclass(frozen=True, slots=True)
class RolloutConfig:
    """How a commit is built, activated and found healthy."""

    driver: str
    build: tuple[str, ...]  # empty: nothing to build, or the driver knows how
    activate: tuple[str, ...]  # empty where the driver knows how
    health: tuple[str, ...]  # empty: the repository has no check of its own
    builders: tuple[str, ...]  # tags and names of devices whose store paths the others believe
    health_timeout_s: int
    build_timeout_s: int
    activate_timeout_s: int
    rings: tuple[Ring, ...] = ()  # who goes before whom; in order
    upstream: str = ""  # a URL where signed heads may be found, too
    health_units: tuple[str, ...] = ()  # have to be active
    settle_s: int = SETTLE_S  # how long units that were started are watched


def parse_config_untrusted(data: bytes | None) -> RolloutConfig:
    """Read the file's content; None means that the commit has none. Raises Fault with the line or the key."""
    if data is None:
        raise _refused("the commit has none", f"put a {FILE_NAME} at the repository's root: {EXAMPLE}")
    if len(data) > FILE_BYTES_MAX:
        raise _refused(f"it is over {FILE_BYTES_MAX} bytes", "leave out what is not a setting of the rollout")
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.count(b".") > LINE_DOTS_MAX:
            raise _refused(f"line {number} has over {LINE_DOTS_MAX} dots", "write it as several lines")
    try:
        document = tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise _refused("it is not UTF-8", "save it as UTF-8") from error
    except ValueError as error:  # a TOMLDecodeError, or Python's own of a number with thousands of digits
        raise _refused(one_line(str(error)), "correct the file") from error
    except RecursionError as error:
        raise _refused("it nests too deeply", "correct the file") from error
    _check_keys(document, _TABLES, "", data)
    table = document.get("rollout")
    if not isinstance(table, dict):
        raise _refused("it has no table [rollout]", f"the least of it is {EXAMPLE}")
    driver = table.get("driver")
    if not isinstance(driver, str) or driver not in _KEYS:
        raise _refused(f"rollout.driver is {_shown(driver)}", 'this version knows driver = "command" and "nixos"')
    _check_keys(table, _KEYS[driver], "rollout.", data)
    build_s, activate_s = BUILD_TIMEOUT_S[driver], ACTIVATE_TIMEOUT_S[driver]
    return RolloutConfig(
        driver=driver,
        build=_command(table, "build", required=False),
        activate=_command(table, "activate", required=driver == COMMAND),
        health=_command(table, "health", required=driver == COMMAND),
        builders=_labels(table, "builders"),
        health_timeout_s=_seconds(table, "health_timeout_s", HEALTH_TIMEOUT_S, HEALTH_TIMEOUT_S_MAX),
        build_timeout_s=_seconds(table, "build_timeout_s", build_s, BUILD_TIMEOUT_S_MAX),
        activate_timeout_s=_seconds(table, "activate_timeout_s", activate_s, ACTIVATE_TIMEOUT_S_MAX),
        rings=_rings(table.get("ring", []), data),
        upstream=_upstream(table.get("upstream", "")),
        health_units=_units(table),
        settle_s=_seconds(table, "settle_s", SETTLE_S, SETTLE_S_MAX, minimum=0),
    )


def _upstream(value: Any) -> str:
    """A URL of a few kinds alone: git has others, some of which are commands."""
    if not isinstance(value, str) or (value and not _URL.fullmatch(value)) or len(value) > URL_CHARACTERS_MAX:
        raise _refused(
            "rollout.upstream is no URL of https, ssh or a file", 'write it as in "https://example.org/x"'
        )
    return value


def _rings(value: Any, data: bytes) -> tuple[Ring, ...]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise _refused("rollout.ring is no list of tables", "begin each ring with a line [[rollout.ring]]")
    if len(value) > RINGS_MAX:
        raise _refused(f"it has over {RINGS_MAX} rings", "join some of them")
    rings = tuple(_ring(table, data) for table in value)
    tags = [ring.tag for ring in rings]
    if len(set(tags)) != len(tags):
        raise _refused("two rings are of one tag", "name each tag once")
    return rings


def _ring(table: dict[str, Any], data: bytes) -> Ring:
    _check_keys(table, _RING_KEYS, "rollout.ring.", data)
    tag = table.get("tag")
    if not isinstance(tag, str) or not is_label(tag) or tag == TAG_ALL:
        remedy = 'give the tag of the devices that go first, as in tag = "testers"'
        raise _refused(f"rollout.ring.tag is {_shown(tag)}", remedy)
    healthy = _number(table, "ring.healthy", 0, 1, HEALTHY_MAX, "a number")
    return Ring(tag, healthy, _number(table, "ring.soak_s", SOAK_S, 0, SOAK_S_MAX, "whole seconds"))


def _check_keys(table: dict[str, Any], known: frozenset[str], prefix: str, data: bytes) -> None:
    for key in table:
        if key not in known:
            where = _line_of(key, data)
            raise _refused(
                f"no setting {prefix}{one_line(key)}{where}",
                f"known are {', '.join(sorted(known))}; correct or remove it",
            )


def _line_of(key: str, data: bytes) -> str:
    """Where a key stands, as well as a search can tell (tomllib keeps no positions)."""
    for number, line in enumerate(data.decode().splitlines(), 1):
        bare = line.strip().strip("[]").strip()
        if bare.split("=")[0].split(".")[0].strip().strip("\"'") == key:
            return f" (line {number})"
    return ""


def _command(table: dict[str, Any], key: str, *, required: bool) -> tuple[str, ...]:
    value = table.get(key)
    if value is None and not required:
        return ()
    if value is None:
        raise _refused(f"rollout.{key} is missing", f"the least of it is {EXAMPLE}")
    if (
        not isinstance(value, list)
        or not all(isinstance(word, str) for word in value)
        or not value
        or not value[0]
    ):
        raise _refused(f"rollout.{key} is not a list of words", f'write it as {key} = ["./{key}"]')
    if len(value) > ARGUMENTS_MAX or any(len(word.encode()) > ARGUMENT_BYTES_MAX for word in value):
        raise _refused(f"rollout.{key} is too long", "put it into a script of the repository")
    if any("\0" in word for word in value):
        raise _refused(f"rollout.{key} has a zero byte", "remove it")
    return tuple(value)


def _labels(table: dict[str, Any], key: str) -> tuple[str, ...]:
    """Tags and names of devices."""
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(label, str) and label for label in value):
        raise _refused(f"rollout.{key} is not a list of tags and names", f'write it as {key} = ["a-tag"]')
    if TAG_ALL in value:
        remedy = "who builds for others is root on them: give those few a tag"
        raise _refused(f"rollout.{key} names {TAG_ALL!r}", remedy)
    if len(value) > BUILDERS_MAX:
        raise _refused(f"rollout.{key} names over {BUILDERS_MAX}", "give these devices a tag, and name that")
    return tuple(value)


def _seconds(table: dict[str, Any], key: str, default: int, maximum: int, *, minimum: int = 1) -> int:
    return _number(table, key, default, minimum, maximum, "whole seconds")


def _number(table: dict[str, Any], key: str, default: int, minimum: int, maximum: int, what: str) -> int:
    value = table.get(key.rpartition(".")[2])
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        raise _refused(f"rollout.{key} is {_shown(value)}", f"give {what} from {minimum} to {maximum}")
    return value


def _units(table: dict[str, Any]) -> tuple[str, ...]:
    value = table.get("health_units", [])
    if not isinstance(value, list) or not all(isinstance(name, str) and _UNIT.fullmatch(name) for name in value):
        raise _refused(
            "rollout.health_units is not a list of units", 'write it as health_units = ["sshd.service"]'
        )
    if len(value) > UNITS_MAX:
        raise _refused(f"rollout.health_units names over {UNITS_MAX}", "name those that matter most")
    return tuple(value)


def _shown(value: Any) -> str:
    """A value as a person finds it again, in a line."""
    try:
        return one_line(repr(value))
    except ValueError:
        return "a number with thousands of digits"


def _refused(why: str, remedy: str) -> Fault:
    return Fault("refused", FILE_NAME, why, remedy)
