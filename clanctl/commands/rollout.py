"""`rollout`: how far this device is with what the clan wants it to run."""

from typing import Final

import click

from clanctl import render, show
from clanctl.client import Instance, call
from clanctl.failures import Failure
from clanctl.options import json_option, pass_instance

COMMIT_DIGITS_FULL: Final = (40, 64)  # SHA-1 and SHA-256 in hex


@click.group()
def rollout() -> None:
    """How far this device is with the newest commit."""


@rollout.command()
@json_option
@pass_instance
def status(where: Instance, as_json: bool) -> None:
    """Show what is wanted, what runs, and why they differ."""
    result = call(where, "rollout-status")
    if as_json:
        show.as_json(result)
    else:
        show.lines(render.rollout_text(result))


@rollout.command()
@json_option
@pass_instance
def history(where: Instance, as_json: bool) -> None:
    """Show what was tried here and how it ended."""
    result = call(where, "rollout-history")
    if as_json:
        show.as_json(result)
    elif not result.get("entries"):
        show.lines("nothing was tried yet")
    else:
        show.table(render.history_sheet(result))


@rollout.command()
@click.argument("commit", required=False)
@json_option
@pass_instance
def log(where: Instance, commit: str | None, as_json: bool) -> None:
    """Print what building, activating and checking COMMIT said here [the last that was tried]."""
    result = call(where, "rollout-log", {"commit": full_commit(where, commit) if commit else None})
    if as_json:
        show.as_json(result)
    else:
        show.lines(str(result.get("text") or "nothing was said"))


def full_commit(where: Instance, start: str) -> str:
    """Find the commit that begins so among those tried here. Raises Failure."""
    if len(start) in COMMIT_DIGITS_FULL:
        return start
    entries = call(where, "rollout-history").get("entries") or []
    found = sorted({str(entry["commit"]) for entry in entries if str(entry.get("commit")).startswith(start)})
    if len(found) != 1:
        why = f"{len(found)} commits tried here begin so" if found else "no commit tried here begins so"
        raise Failure(f"commit {start!r}", why, "see `clanctl rollout history --json`")
    return found[0]


@rollout.command()
@json_option
@pass_instance
def retry(where: Instance, as_json: bool) -> None:
    """Forget that revisions failed here, and try the wanted one again."""
    result = call(where, "rollout-retry")
    if as_json:
        show.as_json(result)
    else:
        show.lines("trying again; see `clanctl rollout status`")
