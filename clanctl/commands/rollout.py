"""`rollout`: how far this device is with what the clan wants it to run."""

import re
from typing import Final

import click

from clanctl import render, render_admins, show
from clanctl.asking import confirm
from clanctl.client import Instance, call
from clanctl.failures import Failure
from clanctl.groups import Group
from clanctl.options import json_option, pass_instance, yes_option

_COMMIT: Final = re.compile(r"[0-9a-f]+")  # the beginning of one's id
COMMIT_DIGITS_FULL: Final = (40, 64)  # SHA-1 and SHA-256 in hex


@click.group(cls=Group)
def rollout() -> None:
    """How far this device is with the newest commit, and what all of them shall do with it."""


@rollout.command()
@json_option
@pass_instance
def status(where: Instance, as_json: bool) -> None:
    """Show what is wanted, what runs, and why they differ."""
    result = call(where, "rollout-status")
    show.answer(result, render.rollout_text, in_json=as_json)


@rollout.command()
@click.argument("node", required=False)
@json_option
@pass_instance
def history(where: Instance, node: str | None, as_json: bool) -> None:
    """Show what was tried at NODE [here] and how it ended."""
    result = call(where, "rollout-history", {"node": node})
    if as_json:
        show.as_json(result)
    elif not result.get("entries"):
        show.lines(f"nothing was tried yet{f' at {node}' if node else ''}")
    else:
        show.table(render.history_sheet(result))


@rollout.command()
@click.argument("node", required=False)
@click.argument("commit", required=False)
@json_option
@pass_instance
def log(where: Instance, node: str | None, commit: str | None, as_json: bool) -> None:
    """Print what building, activating and checking COMMIT [the last that was tried] said at NODE [here]."""
    if node is not None and commit is None and not _is_member(where, node):
        if not _COMMIT.fullmatch(node):
            remedy = "see `clanctl peers`, and `clanctl rollout history` for the commits"
            raise Failure(f"{node!r}", "it is no device of the clan, and no commit's id begins so", remedy)
        node, commit = None, node
    whole = full_commit(where, commit, node) if commit else None
    result = call(where, "rollout-log", {"node": node, "commit": whole})
    show.answer(result, str(result.get("text") or "nothing was said"), in_json=as_json)


def _is_member(where: Instance, name: str) -> bool:
    """Whether a word that may be a commit is a device's name."""
    if len(name) in COMMIT_DIGITS_FULL:
        return False
    return name in {str(peer.get("name")) for peer in call(where, "peers").get("peers") or []}


def full_commit(where: Instance, start: str, node: str | None = None) -> str:
    """Find the commit that begins so among those tried at a device. Raises Failure."""
    if len(start) in COMMIT_DIGITS_FULL:
        return start
    entries = call(where, "rollout-history", {"node": node}).get("entries") or []
    found = sorted({str(entry["commit"]) for entry in entries if str(entry.get("commit")).startswith(start)})
    if len(found) != 1:
        place = f"at {node}" if node else "here"
        why = f"{len(found)} commits tried {place} begin so" if found else f"no commit tried {place} begins so"
        raise Failure(
            f"commit {start!r}", why, f"see `clanctl rollout history{f' {node}' if node else ''} --json`"
        )
    return found[0]


@rollout.command()
@click.option("--everywhere", is_flag=True, help="On every device where the wanted commit failed; for admins.")
@json_option
@pass_instance
def retry(where: Instance, everywhere: bool, as_json: bool) -> None:
    """Forget that revisions failed here, and try the wanted one again."""
    result = call(where, "rollout-retry", {"everywhere": everywhere})
    again = (
        f"{render.short_commit(result.get('commit'))} is tried again everywhere" if everywhere else "trying again"
    )
    show.answer(result, f"{again}; see `clanctl rollout status`", in_json=as_json)


@rollout.command()
@click.option("--reason", default="", help="One sentence for those who wonder.")
@json_option
@pass_instance
def pause(where: Instance, reason: str, as_json: bool) -> None:
    """Let no device begin to run another commit, until `resume`.

    What is being activated at this moment is taken to its end.
    """
    result = call(where, "rollout-pause", {"reason": reason})
    show.answer(result, "paused on every device; `clanctl rollout resume` ends it", in_json=as_json)


@rollout.command()
@json_option
@pass_instance
def resume(where: Instance, as_json: bool) -> None:
    """End a pause, whichever admin's it was."""
    result = call(where, "rollout-resume")
    show.answer(result, "it goes on" if result.get("state") == "resumed" else "it was not paused", in_json=as_json)


@rollout.command()
@click.argument("commit", required=False)
@json_option
@pass_instance
def promote(where: Instance, commit: str | None, as_json: bool) -> None:
    """Let every device run the wanted commit without waiting for rings; COMMIT says which one is meant."""
    result = call(where, "rollout-promote", {"commit": commit})
    show.answer(result, f"{render.short_commit(result.get('commit'))} waits for no ring", in_json=as_json)


@rollout.command()
@click.argument("head", metavar="COMMIT")
@yes_option
@json_option
@pass_instance
def resolve(where: Instance, head: str, yes: bool, as_json: bool) -> None:
    """Of heads that diverge let COMMIT stand; the others never count again.

    Devices that run one of the others change over. Merging them and pushing the merge ends a fork too, and loses
    nobody's work.
    """
    heads = call(where, "rollout-status").get("heads") or []
    left = [render.head_text(each) for each in heads if not str(each.get("commit")).startswith(head)]
    if left:
        confirm(f"Leave {' and '.join(left)} for ever?", "ending the fork", yes=yes)
    result = call(where, "rollout-resolve", {"head": head})
    show.answer(result, render_admins.decisions_text, in_json=as_json)
