"""`init`, `invite` and `join`: how a clan comes to be and how it grows."""

import re
import sys
import time
from typing import TYPE_CHECKING, Final

import click

from clanctl import render, show
from clanctl.client import WORK_TIMEOUT_S, Instance, call
from clanctl.failures import EXIT_FAILED, EXIT_USAGE, Failure
from clanctl.options import json_option, pass_instance
from clanctl.signing import signer_line

if TYPE_CHECKING:
    from clanmesh_protocol.tokens import Token

TTL_DEFAULT: Final = "1d"
TOKEN_CHARACTERS_MAX: Final = 16_384  # of what is pasted: a token and the white space of any mail program
CLOCK_TOLERANCE_S: Final = 600  # this device's clock may be off: the member that admits decides

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN: Final = re.compile(r"(\d{1,9})([smhd]?)")


@click.command()
@click.argument("name")
@click.option("--node-name", metavar="NAME", help="What this device is called in the clan [its host name].")
@click.option("--signer", "signers", multiple=True, metavar="FILE|LINE", help="An SSH key that may sign commits.")
@json_option
@pass_instance
def init(where: Instance, name: str, node_name: str | None, signers: tuple[str, ...], as_json: bool) -> None:
    """Found the clan NAME, with this device as its first admin."""
    args = {"name": name, "node_name": node_name, "signers": [signer_line(given) for given in signers]}
    result = call(where, "init", args, timeout_s=WORK_TIMEOUT_S)
    if as_json:
        show.as_json(result)
        return
    show.lines(render.introduction_text(result, "founded"))
    show.lines(render.recovery_text(result))
    show.lines("\nnext: `clanctl invite` for each further device\n")


def seconds(text: str) -> int:
    """Read a span such as `90s`, `30m`, `12h` or `7d`. Raises Failure."""
    match = _SPAN.fullmatch(text.strip().lower())
    if match is None or int(match[1]) == 0:
        raise Failure("--ttl", f"{text!r} is no span of time", "write 30m, 12h or 7d", status=EXIT_USAGE)
    return int(match[1]) * _UNITS_S[match[2] or "s"]


@click.command()
@click.option("--name", metavar="NAME", help="The name that the new device shall have.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="A tag of the new device; repeat for more.")
@click.option("--uses", default=1, show_default=True, help="How many devices may join with it.")
@click.option("--ttl", default=TTL_DEFAULT, show_default=True, metavar="SPAN", help="How long it is good for.")
@click.option("--qr/--no-qr", default=None, help="Draw a QR code [when stdout is a terminal].")
@json_option
@pass_instance
def invite(
    where: Instance,
    name: str | None,
    tags: tuple[str, ...],
    uses: int,
    ttl: str,
    qr: bool | None,
    as_json: bool,
) -> None:
    """Make a token with which one more device may join."""
    result = call(where, "invite", {"name": name, "tags": list(tags), "uses": uses, "ttl_s": seconds(ttl)})
    if as_json:
        show.as_json(result)
        return
    if show.is_terminal() if qr is None else qr:
        _draw_code(str(result["token"]))
    show.lines(render.invite_text(result))


def _draw_code(token: str) -> None:
    from clanctl.qr import drawing, squares

    picture = drawing(squares(token), show.width())
    if "utf" not in (sys.stdout.encoding or "").lower():
        print("(no QR code: this terminal has no block characters)\n")
    elif picture is None:
        print("(no QR code: it is wider than this terminal)\n")
    else:
        print(picture)


@click.command()
@click.argument("token")
@click.option("--name", metavar="NAME", help="What this device is called in the clan [its host name].")
@json_option
@pass_instance
def join(where: Instance, token: str, name: str | None, as_json: bool) -> None:
    """Join a clan with a TOKEN that a member made by `clanctl invite`; `-` reads it from stdin.

    From stdin it stays out of the shell's history and of the list of processes.
    """
    text = sys.stdin.read(TOKEN_CHARACTERS_MAX) if token == "-" else token
    check_token(text, time.time())
    with show.progress("joining") as progress:
        result = call(where, "join", {"token": text, "name": name}, progress=progress, timeout_s=WORK_TIMEOUT_S)
    if as_json:
        show.as_json(result)
        return
    show.lines(render.introduction_text(result, "joined"))


def check_token(text: str, now_unix_s: float) -> "Token":
    """Read a token and tell what is wrong with it before anybody is asked. Raises Failure."""
    from clanmesh_protocol.errors import ProtocolError, VersionError
    from clanmesh_protocol.tokens import decode_token_untrusted

    if not text.strip():
        raise Failure("the token", "it is empty", "give the whole word that `clanctl invite` printed")
    try:
        token = decode_token_untrusted(text)
    except VersionError as error:
        remedy = "update clanmesh on this device"
        raise Failure("the token", "it was made by a later version of clanmesh", remedy) from error
    except ProtocolError as error:
        why = str(error).removeprefix("the token is ")
        raise Failure("the token", why, "copy it again, whole, from `clanctl invite`") from error
    over_s = now_unix_s - token.expires_unix_s
    if over_s > CLOCK_TOLERANCE_S:
        why = f"it expired {render.duration(over_s)} ago"
        remedy = f"ask a member of {token.clan_name} for a new one, and see that this clock is right"
        raise Failure("the token", why, remedy, status=EXIT_FAILED)
    return token
