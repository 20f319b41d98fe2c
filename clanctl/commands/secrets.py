"""`secrets`: values that only chosen devices can read."""

import sys
from pathlib import Path
from typing import Any, BinaryIO, Final

import click

from clanctl import render, show
from clanctl.answers import names_of, rows_of
from clanctl.asking import confirm
from clanctl.client import Instance, call
from clanctl.failures import EXIT_USAGE, Failure
from clanctl.groups import Group
from clanctl.options import json_option, pass_instance, words
from clanmesh_protocol.limits import SECRET_VALUE_BYTES_MAX

MODE_MAX: Final = 0o777
RANDOM_BYTES_DEFAULT: Final = 32  # no key of today is longer

random_option: Final = click.option(
    "--random",
    "count",
    type=click.IntRange(min=1),
    is_flag=False,
    flag_value=RANDOM_BYTES_DEFAULT,
    metavar="[BYTES]",
    help=f"Throw dice for the value: so many random bytes [{RANDOM_BYTES_DEFAULT}], spelled as text.",
)


@click.group(cls=Group)
def secrets() -> None:
    """Values that only chosen devices can read."""


@secrets.command("set")
@click.argument("name")
@click.option("--for", "targets", multiple=True, required=True, metavar="TAG|NODE[,...]", help="Who may read it.")
@click.option("--file", "path", metavar="FILE", help="Read the value from here [stdin, or a prompt].")
@click.option("--owner", default="root", show_default=True, metavar="USER", help="Who owns the placed file.")
@click.option("--group", default="root", show_default=True, metavar="GROUP", help="Its group.")
@click.option("--mode", default="0400", show_default=True, metavar="OCTAL", help="Its mode.")
@random_option
@json_option
@pass_instance
def set_secret(
    where: Instance,
    name: str,
    targets: tuple[str, ...],
    path: str | None,
    owner: str,
    group: str,
    mode: str,
    count: int | None,
    as_json: bool,
) -> None:
    """Give the secret NAME a value, from a file, from stdin (every byte counts, a last line break too), or typed.

    With --random nobody has to know it, and it is replaced by itself when a device that could read it is removed.
    Each device it is for finds it at /run/clanmesh/secrets/NAME. `--for all` is every device; a TAG goes to those
    that get the tag later, too, and a NODE keeps it when it is renamed.
    """
    args = {"name": name, "for": words(targets), "owner": owner, "group": group, "mode": file_mode(mode)}
    if _is_typed(path, count):
        call(where, "secrets-set", {**args, "check": True})
    _tell(call(where, "secrets-set", {**args, **_value_args(path, name, count)}), as_json=as_json)


@secrets.command("rotate")
@click.argument("name")
@click.option("--file", "path", metavar="FILE", help="Read the new value from here [stdin, or a prompt].")
@random_option
@json_option
@pass_instance
def rotate_secret(where: Instance, name: str, path: str | None, count: int | None, as_json: bool) -> None:
    """Give the secret NAME another value; who may read it and where it lies stay.

    A random one gets a new random value. For one that a person chose, give the new value, or --random.
    """
    args: dict[str, Any] = {}
    if path is not None or count is not None or not _is_random(where, name):
        if _is_typed(path, count):
            call(where, "secrets-rotate", {"name": name, "check": True})
        args = _value_args(path, name, count)
    _tell(call(where, "secrets-rotate", {"name": name, **args}), as_json=as_json)


@secrets.command("remove")
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_instance
def remove_secret(where: Instance, name: str, yes: bool, as_json: bool) -> None:
    """Take the secret NAME away from all devices. What they did with its value they did: it is not unknown."""
    if name not in _names(where):
        raise Failure(f"secret {name!r}", "the clan has none of that name", "see `clanctl secrets list`")
    confirm(f"take the secret {name} away from every device?", f"removing the secret {name}", yes=yes)
    result = call(where, "secrets-remove", {"name": name})
    gone = f"the secret {name} is gone; whoever could read it may know its value still"
    show.answer(result, gone, in_json=as_json)


def _names(where: Instance) -> list[str]:
    return [str(secret.get("name")) for secret in rows_of(call(where, "secrets-list"), "secrets")]


def _is_random(where: Instance, name: str) -> bool:
    """Whether the daemon can make the next value by itself. What it does not know, it is to refuse."""
    known = rows_of(call(where, "secrets-list"), "secrets")
    return all(secret.get("random_bytes") for secret in known if secret.get("name") == name)


def _is_typed(path: str | None, count: int | None) -> bool:
    """Whether a person is asked for the value, who should not type it in vain."""
    return path is None and count is None and show.asks()


def _value_args(path: str | None, name: str, count: int | None) -> dict[str, Any]:
    if count is None:
        return {"value": read_value(path, name)}
    if path is not None:
        raise Failure("--random", "the value is in a file already", "give one of the two", status=EXIT_USAGE)
    return {"random": count}


def _tell(result: Any, *, as_json: bool) -> None:
    if as_json:
        show.as_json(result)
        return
    readers = " ".join(map(str, result.get("recipients") or [])) or "nobody"
    show.lines(f"{result.get('name')} (epoch {result.get('epoch')}) can be read by: {readers}")


def file_mode(text: str) -> int:
    """Read an octal mode. Raises Failure."""
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= MODE_MAX:
        raise Failure("--mode", f"{text!r} is not from 0000 to 0777", "write 0400 or 0440", status=EXIT_USAGE)
    return mode


def read_value(path: str | None, name: str) -> bytes:
    """Read the value from where it was said to be. Raises Failure."""
    if path is not None and path != "-":
        try:
            with Path(path).open("rb") as opened:
                return _bounded(opened)
        except OSError as error:
            raise Failure("--file", f"{path}: {error.strerror}", "name a file that you can read") from error
    if path is None and show.asks():
        typed = str(click.prompt(f"value of {name}", hide_input=True, confirmation_prompt=True, err=True))
        return typed.encode()
    return _bounded(sys.stdin.buffer)


def _bounded(source: BinaryIO) -> bytes:
    value = source.read(SECRET_VALUE_BYTES_MAX + 1)
    if not value:
        raise Failure(
            "the value", "it is empty", "give it by --file, on stdin or at the prompt", status=EXIT_USAGE
        )
    if len(value) > SECRET_VALUE_BYTES_MAX:
        raise Failure("the value", f"it has over {SECRET_VALUE_BYTES_MAX} bytes", "share a key, not the data")
    return value


@secrets.command("list")
@json_option
@pass_instance
def list_secrets(where: Instance, as_json: bool) -> None:
    """Show names and readers, never values."""
    result = call(where, "secrets-list")
    if as_json:
        show.as_json(result)
    elif not result.get("secrets"):
        show.lines("no secret yet: `clanctl secrets set NAME --for TAG` makes one")
    else:
        show.table(render.secrets_sheet(result))
        for line in exposed_notes(result):
            show.lines(line)


def exposed_notes(result: dict[str, Any]) -> list[str]:
    """What removed devices know of the secrets, and what to do about it."""
    notes = []
    for secret in rows_of(result, "secrets"):
        if secret.get("exposed"):
            who, remedy = names_of(secret, "exposed"), str(secret.get("remedy"))
            known = f"{' and '.join(who)} {'knows' if len(who) == 1 else 'know'}"
            then = "nobody is left that it is for: " if " remove " in remedy else ""
            notes.append(f"{secret.get('name')}: {known} this value; {then}`{remedy}`")
    return notes


@secrets.command("show")
@click.argument("name")
@json_option
@pass_instance
def show_secret(where: Instance, name: str, as_json: bool) -> None:
    """Print the value of NAME, byte by byte, if this device may read it."""
    result = call(where, "secrets-show", {"name": name})
    if as_json:
        show.as_json(_as_text(result))
        return
    value = bytes(result["value"])
    if show.is_terminal():
        show.lines(value.decode("utf-8", "replace"))
    else:
        sys.stdout.buffer.write(value)


def _as_text(result: dict[str, Any]) -> dict[str, Any]:
    """JSON has no bytes: text stays text, anything else becomes base64 under a name of its own."""
    value = bytes(result["value"])
    try:
        return {**result, "value": value.decode()}
    except UnicodeDecodeError:
        return {"value_base64": value}
