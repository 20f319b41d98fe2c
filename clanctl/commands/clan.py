"""`init`, `join` and `leave`: how this device comes into a clan, and out of it."""

import sys
import time
from typing import TYPE_CHECKING, Final

import click

from clanctl import render, show
from clanctl.asking import confirm
from clanctl.client import WORK_TIMEOUT_S, Instance, call
from clanctl.failures import EXIT_FAILED, Failure
from clanctl.options import json_option, pass_instance, qr_option, yes_option
from clanctl.paper import no_paper
from clanctl.render_members import left_text
from clanctl.signing import signer_line

if TYPE_CHECKING:
    from clanmesh_protocol.tokens import Token

TOKEN_CHARACTERS_MAX: Final = 16_384  # of what is pasted: a token and the white space of any mail program
CLOCK_TOLERANCE_S: Final = 600  # this device's clock may be off: the member that admits decides


@click.command()
@click.argument("name")
@click.option("--node-name", metavar="NAME", help="What this device is called in the clan [its host name].")
@click.option("--signer", "signers", multiple=True, metavar="FILE|LINE", help="An SSH key that may sign commits.")
@click.option("--no-recovery-key", is_flag=True, help="Make no key on paper; see `clanctl admin recover`.")
@qr_option
@json_option
@pass_instance
def init(
    where: Instance,
    name: str,
    node_name: str | None,
    signers: tuple[str, ...],
    no_recovery_key: bool,
    qr: bool | None,
    as_json: bool,
) -> None:
    """Found the clan NAME, with this device as its first admin.

    It shows a recovery key, once: keep it on paper.
    """
    args = {"name": name, "node_name": node_name, "signers": [signer_line(given) for given in signers]}
    result = call(where, "init", {**args, "no_recovery": no_recovery_key}, timeout_s=WORK_TIMEOUT_S)
    if as_json:
        show.as_json(result)
        return
    show.lines(render.introduction_text(result, "founded"))
    if result.get("recovery"):
        show.recovery_key(str(result["recovery"]), name, qr=qr)
    else:
        show.lines(no_paper())
    show.lines("\nnext: `clanctl invite` for each further device\n")


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
    called = result.get("self")
    if name is not None and called not in (None, name):
        show.lines(
            f"the invite calls this device {called}; on an admin's device: `clanctl rename {called} {name}`\n"
        )


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


@click.command()
@click.option("--force", is_flag=True, help="Leave even as an admin: what this device vouched for ends.")
@yes_option
@json_option
@pass_instance
def leave(where: Instance, force: bool, yes: bool, as_json: bool) -> None:
    """Take this device out of its clan, for ever: its keys and records are put aside, its secrets removed."""
    confirm("Shall this device leave its clan, and its key never come back?", "leaving", yes=yes)
    with show.progress("leaving") as progress:
        result = call(where, "leave", {"force": force}, progress=progress, timeout_s=WORK_TIMEOUT_S)
    show.answer(result, left_text, in_json=as_json)
