"""Options and arguments that several commands share, and how they are read."""

import re
from collections.abc import Iterable
from typing import Final

import click

from clanctl.client import Instance
from clanctl.failures import EXIT_USAGE, Failure

pass_instance: Final = click.make_pass_decorator(Instance)

json_option: Final = click.option("--json", "as_json", is_flag=True, help="Print the daemon's answer as JSON.")
yes_option: Final = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
qr_option: Final = click.option("--qr/--no-qr", default=None, help="Draw a QR code [when stdout is a terminal].")
distrust_option: Final = click.option(
    "--distrust", metavar="SPAN", help="Let lapse what it said so lately, such as 7d."
)

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN: Final = re.compile(r"(\d{1,9})([smhd]?)")


def seconds(text: str, option: str = "--expires") -> int:
    """Read a span such as `90s`, `30m`, `12h` or `7d`. Raises Failure."""
    match = _SPAN.fullmatch(text.strip().lower())
    if match is None or int(match[1]) == 0:
        raise Failure(option, f"{text!r} is no span of time", "write 30m, 12h or 7d", status=EXIT_USAGE)
    return int(match[1]) * _UNITS_S[match[2] or "s"]


def seconds_or_none(text: str | None, option: str) -> int | None:
    """Read a span where one was given. Raises Failure."""
    return seconds(text, option) if text is not None else None


def words(given: Iterable[str]) -> list[str]:
    """Take an option that can be repeated, or hold several words between commas."""
    return [word.strip() for text in given for word in text.split(",") if word.strip()]
