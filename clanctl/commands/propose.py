"""`admin add`, `admin remove` and `admin propose`: operations on who decides, and on what all devices heed.

One admin's word suffices where there is one; otherwise it waits for the others' approval.
"""

from typing import Any

import click

from clanctl import render_admins, show
from clanctl.answers import part_of, rows_of, word_of
from clanctl.asking import confirm
from clanctl.client import WORK_TIMEOUT_S, Instance, call
from clanctl.groups import Group
from clanctl.options import distrust_option, json_option, pass_instance, qr_option, seconds_or_none, yes_option
from clanmesh_protocol.limits import ADMIN_WEIGHT_MAX


@click.group(cls=Group)
def propose() -> None:
    """Change what the admins must agree on.

    With one admin it is done at once.
    """


def clan_name(where: Instance) -> str:
    """What the clan is called. Raises Failure."""
    return word_of(part_of(call(where, "peers"), "clan").get("name"))


def ask(where: Instance, operation: str, *, as_json: bool, **args: Any) -> None:
    """Make a proposal and show how far it is. Raises Failure."""
    result = call(where, "admin-propose", {"operation": operation, **args}, timeout_s=WORK_TIMEOUT_S)
    show.answer(result, render_admins.proposal_text, in_json=as_json)


@propose.command()
@click.argument("node")
@click.option("--weight", default=1, show_default=True, type=click.IntRange(1, ADMIN_WEIGHT_MAX))
@yes_option
@json_option
@pass_instance
def add(where: Instance, node: str, weight: int, yes: bool, as_json: bool) -> None:
    """Make NODE an admin, or give an admin another weight."""
    if not yes and show.asks() and len(rows_of(call(where, "admin-list"), "admins")) == 1:
        show.notice(
            "With two admins of the same weight, both must agree to change admins, signers or the recovery key."
        )
        confirm(f"Make {node} the second admin?", f"adding {node}", yes=yes)
    ask(where, "add", as_json=as_json, node=node, weight=weight)


@propose.command()
@click.argument("node")
@distrust_option
@yes_option
@json_option
@pass_instance
def remove(where: Instance, node: str, distrust: str | None, yes: bool, as_json: bool) -> None:
    """End NODE being an admin, for ever.

    It stays a device of the clan; `clanctl remove` puts it out altogether.
    """
    distrust_s = seconds_or_none(distrust, "--distrust")
    question = f"End {node} being an admin? Its key can never be one again"
    confirm(question, f"removing the admin {node}", yes=yes)
    ask(where, "remove", as_json=as_json, node=node, distrust_s=distrust_s)


@propose.command()
@click.argument("node", metavar="OLD")
@click.argument("successor", metavar="NEW")
@distrust_option
@yes_option
@json_option
@pass_instance
def replace(where: Instance, node: str, successor: str, distrust: str | None, yes: bool, as_json: bool) -> None:
    """Put device NEW in the place of the admin OLD.

    It gets the weight and the seniority of the old one, whose key never is an admin's again.
    """
    distrust_s = seconds_or_none(distrust, "--distrust")
    question = f"Put {successor} in the place of {node}? The key of {node} can never be an admin's again"
    confirm(question, f"replacing the admin {node}", yes=yes)
    ask(where, "replace", as_json=as_json, node=node, by=successor, distrust_s=distrust_s)


@propose.command()
@click.option(
    "--govern", type=click.IntRange(min=0), help="For admins, recovery key and signers; over half at least."
)
@click.option("--routine", type=click.IntRange(min=0), help="For settings and checkpoints.")
@json_option
@pass_instance
def thresholds(where: Instance, govern: int | None, routine: int | None, as_json: bool) -> None:
    """Say how much weight decisions need.

    0 is the least that is possible.
    """
    if govern is None and routine is None:
        raise click.UsageError("give --govern or --routine")
    ask(where, "thresholds", as_json=as_json, govern=govern, routine=routine)


@propose.command()
@click.option("--none", "without", is_flag=True, help="Have no recovery key any more.")
@qr_option
@yes_option
@json_option
@pass_instance
def recovery(where: Instance, without: bool, qr: bool | None, yes: bool, as_json: bool) -> None:
    """Make a new recovery key.

    It is shown this one time, and the one on paper becomes void.
    """
    clan = clan_name(where)
    confirm("Make the recovery key that is on paper now void?", "a new recovery key", yes=yes)
    args = {"operation": "recovery", "none": without}
    result = call(where, "admin-propose", args, timeout_s=WORK_TIMEOUT_S)
    if as_json:
        show.as_json(result)
        return
    show.lines(render_admins.proposal_text(result))
    if result.get("recovery"):
        show.recovery_key(str(result["recovery"]), clan, qr=qr, proposed=result.get("state") == "pending")


@propose.command()
@click.argument("name")
@click.argument("value")
@click.option("--force", is_flag=True, help="Also a name that this version does not know.")
@json_option
@pass_instance
def setting(where: Instance, name: str, value: str, force: bool, as_json: bool) -> None:
    """Set NAME to VALUE for the whole clan.

    An empty VALUE takes it back. `credential-days` is for how many days a membership holds (0: for ever); the
    admins' devices renew it by themselves. `tunnel-key-days` is how long a tunnel key is used. Names that begin
    with `x-` are yours: no device heeds them.
    """
    ask(where, "setting", as_json=as_json, name=name, value=value, force=force)


@propose.command()
@click.argument("commit")
@click.option("--force", is_flag=True, help="Also a commit that this device has not got yet.")
@json_option
@pass_instance
def checkpoint(where: Instance, commit: str, force: bool, as_json: bool) -> None:
    """Accept a commit and all behind it.

    Whoever signed it; COMMIT is its whole id.
    """
    ask(where, "checkpoint", as_json=as_json, commit=commit, force=force)
