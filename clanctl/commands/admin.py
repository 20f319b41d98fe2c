"""`admin`: who decides for the clan, what waits to be decided, and the recovery key."""

import time

import click

from clanctl import render_admins, show
from clanctl.asking import confirm, recovery_key
from clanctl.client import WORK_TIMEOUT_S, Instance, call
from clanctl.commands.propose import add, ask, clan_name, propose, remove
from clanctl.failures import EXIT_USAGE, Failure
from clanctl.groups import Group
from clanctl.options import distrust_option, json_option, pass_instance, qr_option, seconds_or_none, yes_option


@click.group(cls=Group)
def admin() -> None:
    """Who decides for the clan: admins, what they propose and approve, and the recovery key."""


admin.add_command(add)
admin.add_command(remove)
admin.add_command(propose)


@admin.command("list")
@json_option
@pass_instance
def list_admins(where: Instance, as_json: bool) -> None:
    """Show the admins, and what decisions need."""
    result = call(where, "admin-list")
    if as_json:
        show.as_json(result)
        return
    show.table(render_admins.admins_sheet(result, time.time()))
    show.lines("\n" + render_admins.admins_text(result))


@admin.command()
@json_option
@pass_instance
def pending(where: Instance, as_json: bool) -> None:
    """Show what waits for more admins.

    Also the decisions that gave way to others.
    """
    result = call(where, "admin-pending")
    if as_json:
        show.as_json(result)
        return
    if result.get("pending"):
        show.table(render_admins.pending_sheet(result))
        show.lines(render_admins.pending_notes(result))
    else:
        show.lines("nothing waits")
    show.lines(render_admins.lost_text(result))


@admin.command()
@click.argument("proposal", metavar="ID")
@json_option
@pass_instance
def approve(where: Instance, proposal: str, as_json: bool) -> None:
    """Put this admin's name under a proposal. It cannot be taken back."""
    result = call(where, "admin-approve", {"id": proposal}, timeout_s=WORK_TIMEOUT_S)
    show.answer(result, render_admins.decision_text, in_json=as_json)


@admin.command()
@click.argument("proposal", metavar="ID")
@json_option
@pass_instance
def withdraw(where: Instance, proposal: str, as_json: bool) -> None:
    """Take a proposal back, so that nobody can approve it any more."""
    ask(where, "withdrawal", as_json=as_json, id=proposal)


@admin.command()
@click.option("--drill", is_flag=True, help="Only see that the key is the right one; change nothing.")
@click.option("--add", "added", metavar="NODE", help="Make this device an admin.")
@click.option("--remove", "removed", metavar="NODE", help="End this admin's say and put its device out.")
@click.option("--new-key", is_flag=True, help="Make a new recovery key; the old one becomes void.")
@click.option("--key", "path", metavar="FILE", help="Read the key from here, `-` for stdin [a prompt].")
@distrust_option
@qr_option
@yes_option
@json_option
@pass_instance
def recover(
    where: Instance,
    drill: bool,
    added: str | None,
    removed: str | None,
    new_key: bool,
    path: str | None,
    distrust: str | None,
    qr: bool | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Decide with the recovery key what no admin can.

    It works on any device of the clan. The key is asked for, or read from a file; it is never given as an
    argument, which others could see.
    """
    if not (drill or added or removed or new_key):
        remedy = "give --drill, --add NODE, --remove NODE or --new-key"
        raise Failure("admin recover", "nothing is to be done with the key", remedy, status=EXIT_USAGE)
    clan = clan_name(where)
    args = {"key": recovery_key(path), "drill": drill, "add": added, "remove": removed, "new_key": new_key}
    if not drill:
        confirm(_question(added, removed, new_key), "admin recover", yes=yes or not show.asks())
    args["distrust_s"] = seconds_or_none(distrust, "--distrust")
    result = call(where, "admin-recover", args, timeout_s=WORK_TIMEOUT_S)
    if as_json:
        show.as_json(result)
        return
    show.lines(render_admins.recovered_text(result))
    if result.get("recovery"):
        show.recovery_key(str(result["recovery"]), clan, qr=qr)


def _question(added: str | None, removed: str | None, new_key: bool) -> str:
    parts = [f"make {added} an admin"] if added else []
    parts += [f"put {removed} out for ever"] if removed else []
    parts += ["make the key on this paper void"] if new_key else []
    text = ", ".join(parts)
    return f"{text[:1].upper()}{text[1:]}?"
