"""`remove`, `rename`, `tag`, `renew`: what an admin says of a device of the clan."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from clanctl import render_members, show
from clanctl.answers import names_of, part_of, rows_of, word_of
from clanctl.asking import confirm
from clanctl.client import WORK_TIMEOUT_S, Instance, call
from clanctl.failures import EXIT_USAGE, Failure
from clanctl.options import distrust_option, json_option, pass_instance, seconds_or_none, words, yes_option


@click.command()
@click.argument("node")
@click.option("--reason", metavar="TEXT", help="Why, for the others to read.")
@distrust_option
@yes_option
@json_option
@pass_instance
def remove(where: Instance, node: str, reason: str | None, distrust: str | None, yes: bool, as_json: bool) -> None:
    """Put a device out of the clan, for ever: stolen, lost, sold or broken.

    It stays out whatever it does. The device itself can come back under a new key, by a new invite.
    """
    args = {"node": node, "reason": reason, "distrust_s": seconds_or_none(distrust, "--distrust")}
    plan, before = call(where, "remove", {**args, "dry": True}), call(where, "peers")
    clan, name = word_of(part_of(before, "clan").get("name")), word_of(plan.get("name"))
    if not yes and show.asks():
        _explain(before, plan, clan)
    confirm(f"Remove {name}?", f"removing {name}", yes=yes)
    with show.progress(f"removing {name}") as progress:
        result = call(where, "remove", args, progress=progress, timeout_s=WORK_TIMEOUT_S)
    show.answer(
        result, lambda _: render_members.removal_text(result, clan, unaware_of(result, before)), in_json=as_json
    )


def _explain(before: Mapping[str, Any], plan: Mapping[str, Any], clan: str) -> None:
    peer = next((peer for peer in rows_of(before, "peers") if peer.get("id") == plan.get("node")), plan)
    show.notice(render_members.removal_plan(peer, clan, plan))


def unaware_of(result: Mapping[str, Any], before: Mapping[str, Any]) -> Sequence[str]:
    """Who has not learnt of a removal: as the daemon knows it, else those who were not up before it."""
    if isinstance(result.get("unaware"), list):
        return names_of(result, "unaware")
    others = (peer for peer in rows_of(before, "peers") if peer.get("name") != result.get("name"))
    return [str(peer.get("name")) for peer in others if peer.get("state") != "up"]


@click.command()
@click.argument("node")
@click.argument("name")
@json_option
@pass_instance
def rename(where: Instance, node: str, name: str, as_json: bool) -> None:
    """Give NODE another NAME; its address and its keys stay."""
    result = call(where, "rename", {"node": node, "name": name})
    show.answer(result, f"{result.get('before')} is called {result.get('name')} now\n", in_json=as_json)


# A minus sign begins a tag here: only the long option asks for help, and no option is unknown.
@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@click.argument("node")
@click.argument("changes", nargs=-1, required=True, metavar="+TAG|-TAG...", type=click.UNPROCESSED)
@json_option
@pass_instance
def tag(where: Instance, node: str, changes: tuple[str, ...], as_json: bool) -> None:
    """Give NODE tags (+TAG) and take some away (-TAG).

    Secrets for a tag are opened to the devices that get it; what a device could read, it has read.
    """
    added, removed = changes_of(changes)
    result = call(where, "tag", {"node": node, "add": added, "remove": removed})
    show.answer(result, render_members.tagged_text, in_json=as_json)


def changes_of(changes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell `+home` from `-home`. Raises Failure."""
    for change in changes:
        if change[:1] not in ("+", "-") or len(change) == 1 or change.startswith("--"):
            remedy = "write +TAG to add it and -TAG to take it away"
            raise Failure(
                "the tags", f"{change!r} says neither to add nor to take away", remedy, status=EXIT_USAGE
            )
    added, removed = ([c[1:] for c in changes if c[0] == sign] for sign in "+-")
    return words(tuple(added)), words(tuple(removed))


@click.command()
@click.argument("node")
@click.option("--days", type=click.IntRange(min=1), help="For so long from now [the clan's rule, or for ever].")
@click.option("--for-ever", is_flag=True, help="Without an end.")
@json_option
@pass_instance
def renew(where: Instance, node: str, days: int | None, for_ever: bool, as_json: bool) -> None:
    """Prolong the membership of NODE. Mostly needless: admins' devices do it at two thirds of its life."""
    if for_ever and days is not None:
        raise click.UsageError("--days and --for-ever exclude each other")
    result = call(where, "renew", {"node": node, "days": 0 if for_ever else days})
    show.answer(result, render_members.renewed_text, in_json=as_json)
