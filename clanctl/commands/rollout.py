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
        node, commit = None, node
    whole = full_commit(where, commit, node) if commit else None
    result = call(where, "rollout-log", {"node": node, "commit": whole})
    if as_json:
        show.as_json(result)
    else:
        show.lines(str(result.get("text") or "nothing was said"))


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
@json_option
@pass_instance
def retry(where: Instance, as_json: bool) -> None:
    """Forget that revisions failed here, and try the wanted one again."""
    result = call(where, "rollout-retry")
    if as_json:
        show.as_json(result)
    else:
        show.lines("trying again; see `clanctl rollout status`")
