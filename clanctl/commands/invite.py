"""`invite`: tokens with which devices join, and what became of them."""

from typing import Final

import click
from click.core import ParameterSource

from clanctl import asking, render, render_members, show
from clanctl.answers import names_of
from clanctl.client import Instance, call
from clanctl.options import json_option, pass_instance, qr_option, seconds, words, yes_option
from clanmesh_protocol.limits import INVITE_USES_MAX

EXPIRES_DEFAULT: Final = "1d"


@click.group(invoke_without_command=True)
@click.option("--name", metavar="NAME", help="The name that the new device shall have.")
@click.option("--tag", "--tags", "tags", multiple=True, metavar="TAG,…", help="Its tags.")
@click.option(
    "--uses",
    type=click.IntRange(1, INVITE_USES_MAX),
    default=1,
    show_default=True,
    help="How many devices may join with it.",
)
@click.option(
    "--expires",
    "--ttl",
    "expires",
    default=EXPIRES_DEFAULT,
    show_default=True,
    metavar="SPAN",
    help="When it ends, such as 12h.",
)
@click.option("--replace", "succeeds", metavar="NODE", help="The new device takes this one's place and name.")
@qr_option
@json_option
@click.pass_context
def invite(
    context: click.Context,
    name: str | None,
    tags: tuple[str, ...],
    uses: int,
    expires: str,
    succeeds: str | None,
    qr: bool | None,
    as_json: bool,
) -> None:
    """Make a token with which one more device may join; or look after those that were made.

    The token is a key: give it to nobody but the one who installs the device.
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    args = {"name": name, "tags": words(tags), "uses": uses, "ttl_s": seconds(expires)}
    result = call(context.obj, "invite", {**args, "succeeds": succeeds} if succeeds else args)
    if as_json:
        show.as_json(result)
        return
    if show.is_terminal() if qr is None else qr:
        show.code(str(result["token"]))
    show.lines(render.invite_text(result))
    if succeeds:
        taken = (
            f"the place of {succeeds}, under the name {name}" if name else f"the place and the name of {succeeds}"
        )
        show.lines(f"Whoever joins with it takes {taken}; {succeeds} is out then.\n")


def _refuse_options(context: click.Context) -> None:
    given = [name for name in context.params if context.get_parameter_source(name) != ParameterSource.DEFAULT]
    if given:
        raise click.UsageError(f"options belong behind {context.invoked_subcommand}", context)


@invite.command("list")
@json_option
@pass_instance
def list_invites(where: Instance, as_json: bool) -> None:
    """Show the invites and who came by them."""
    result = call(where, "invite-list")
    if as_json:
        show.as_json(result)
    elif not result.get("invites"):
        show.lines("no invite: `clanctl invite` makes one")
    else:
        show.table(render_members.invites_sheet(result))
        show.lines(render_members.invites_notes(result))


@invite.command()
@click.argument("invite_id", metavar="ID")
@yes_option
@json_option
@pass_instance
def revoke(where: Instance, invite_id: str, yes: bool, as_json: bool) -> None:
    """Withdraw an invite.

    Nobody joins by it any more; who did, and was not confirmed yet, is out.
    """
    dropped = names_of(call(where, "invite-revoke", {"id": invite_id, "dry": True}), "dropped")
    if dropped:
        who = ", ".join(dropped)
        asking.confirm(f"Withdraw it, and put {who} out with it?", f"withdrawing invite {invite_id}", yes=yes)
    show.answer(call(where, "invite-revoke", {"id": invite_id}), render_members.withdrawn_text, in_json=as_json)


@invite.command()
@click.argument("invite_id", metavar="ID")
@click.argument("node", metavar="DEVICE")
@json_option
@pass_instance
def confirm(where: Instance, invite_id: str, node: str, as_json: bool) -> None:
    """Choose who may stay, of too many that came.

    When more devices came by an invite than it allows, somebody else had the token, and all of them wait.
    """
    args = {"id": invite_id, "node": node}
    show.answer(call(where, "invite-confirm", args), render_members.confirmed_text, in_json=as_json)
