"""`signer`: the SSH keys whose signature makes a commit the clan's."""

import click

from clanctl import render, render_admins, show
from clanctl.client import Instance, call
from clanctl.groups import Group
from clanctl.options import json_option, pass_instance
from clanctl.signing import signer_line


@click.group(cls=Group)
def signer() -> None:
    """The SSH keys that may sign what the clan runs."""


@signer.command("list")
@json_option
@pass_instance
def list_signers(where: Instance, as_json: bool) -> None:
    """Show the keys."""
    _print(call(where, "signer-list"), as_json=as_json)


@signer.command()
@click.argument("key", metavar="FILE|LINE|-")
@json_option
@pass_instance
def add(where: Instance, key: str, as_json: bool) -> None:
    """Let a key sign: its public file, the line in it, or `-` for stdin."""
    _print(call(where, "signer-add", {"line": signer_line(key)}), as_json=as_json)


@signer.command()
@click.argument("key", metavar="FILE|LINE|COMMENT")
@json_option
@pass_instance
def remove(where: Instance, key: str, as_json: bool) -> None:
    """Let a key sign no more: by its public file, its line, or its comment."""
    _print(call(where, "signer-remove", {"line": signer_line(key, any_text=True)}), as_json=as_json)


def _print(result: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        show.as_json(result)
    elif not result.get("signers"):
        show.lines("no signer: nobody can push; `clanctl repo init PATH` or `clanctl signer add FILE` adds one")
    else:
        show.table(render.signers_sheet(result))
    if not as_json:
        show.lines(render_admins.waiting_text(result))
