"""`repo init`: a git repository that signs its commits and can be pushed to the clan."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from clanctl import render, show
from clanctl.client import Instance, call
from clanctl.failures import Failure
from clanctl.groups import Group
from clanctl.options import json_option, pass_instance
from clanctl.programs import git, git_or_none
from clanctl.pushing import find_key, plan_move, statement_of
from clanctl.render_admins import waiting_text
from clanctl.signing import SigningKey, configured_key, find_or_make_key, key_of, sign
from clanctl.starter import write_starter
from clanmesh_protocol.heads import HEAD_NAMESPACE, OFFERED

REMOTE: Final = "clan"
BRANCH: Final = "main"
RUNTIME_SETTING: Final = "clanmesh.runtimedir"  # tells git-remote-clan which instance, where it is not the default


@click.group(cls=Group)
def repo() -> None:
    """The git repository that the clan follows."""


@repo.command()
@click.argument("path", type=click.Path(file_okay=False, path_type=Path), default=Path())
@json_option
@pass_instance
def init(where: Instance, path: Path, as_json: bool) -> None:
    """Make a git repository at PATH, or take the one there, that signs its commits and pushes to the clan.

    It signs with ~/.ssh/id_ed25519, or with a key made for it, which becomes a signer of the clan. History that
    is there already is accepted as it is; what comes after it must be signed.
    """
    info = call(where, "repo-info")
    root = take_or_make(path)
    key, made = _signing_key(root)
    _configure(root, info, key, where)
    written = write_starter(root)
    done = {
        "path": os.fspath(root),
        "key": os.fspath(key.path) if key.path else key.line,
        "key_made": made,
        "remote": f"{REMOTE} -> clan::{info['clan']['name']}",
        "wrote": written,
    }
    if not as_json:
        show.lines(_report(done))
    _register(where, key, info, as_json=as_json)
    checkpoint = _accept_history(where, root, info, as_json=as_json)
    if as_json:
        show.as_json({**done, "checkpoint": checkpoint})
    else:
        show.lines(_next_steps(root, info, checkpoint))


@repo.command()
@click.argument("remote")
@click.option("--commit", default="HEAD", help="what the clan shall follow [HEAD]")
@json_option
@pass_instance
def offer(where: Instance, remote: str, commit: str, as_json: bool) -> None:
    """Sign a commit as the clan's next head, and push both to REMOTE, the clan's upstream.

    A member that watches the upstream (`upstream` in clan.toml) takes it from there: a push by way of a forge. The
    device that this is typed on must be in the clan, since it knows what the clan follows.
    """
    info = call(where, "repo-info")
    move, key = plan_move(info, commit), find_key(info)
    statement = statement_of(move)
    text = statement + sign(key, HEAD_NAMESPACE, statement)
    blob = git("hash-object", "-w", "--stdin", stdin=text, what="keeping the signed head")
    git("push", "--quiet", "--", remote, f"{move.new}:refs/heads/{BRANCH}", f"+{blob}:{OFFERED}", what="the push")
    done = f"{remote} has {render.short_commit(move.new)} as the clan's next head, signed"
    show.answer({"remote": remote, "commit": move.new, "old": move.old}, done, in_json=as_json)


def take_or_make(path: Path) -> Path:
    """Give the top of the repository at `path`, made if there is none. Raises Failure."""
    root = path.expanduser().absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"{root}", str(error.strerror), "choose a directory that you may write") from error
    top = git_or_none("rev-parse", "--show-toplevel", directory=root)
    if top is None:
        git("init", "--quiet", f"--initial-branch={BRANCH}", directory=root, what=f"making a repository at {root}")
    elif Path(top).resolve() != root.resolve():
        raise Failure(f"{root}", f"it lies inside the repository {top}", "give that one, or a directory outside")
    return root


def _signing_key(root: Path) -> tuple[SigningKey, bool]:
    configured = configured_key(root)
    return (configured, False) if configured is not None else find_or_make_key()


def _configure(root: Path, info: Mapping[str, Any], key: SigningKey, where: Instance) -> None:
    settings = {
        "gpg.format": "ssh",
        "user.signingkey": os.fspath(key.path) if key.path else f"key::{key.line}",
        "commit.gpgsign": "true",
    }
    if not where.is_default:
        settings[RUNTIME_SETTING] = os.fspath(where.runtime_directory)
    url = f"clan::{info['clan']['name']}"
    present = git_or_none("config", f"remote.{REMOTE}.url", directory=root)
    if present not in (None, url):
        remedy = f"rename it: `git -C {root} remote rename {REMOTE} OTHER`"
        raise Failure(f"the remote {REMOTE} of {root}", f"it leads to {present}", remedy)
    for name, value in settings.items():
        git("config", "--local", name, value, directory=root)
    if present is None:
        git("remote", "add", REMOTE, url, directory=root)


def _register(where: Instance, key: SigningKey, info: Mapping[str, Any], *, as_json: bool) -> None:
    if key_of(key.line) in {key_of(str(line)) for line in info.get("signers") or []}:
        return
    try:
        result = call(where, "signer-add", {"line": key.line})
    except Failure as failure:
        what = "the repository is ready, but its key is no signer yet"
        raise Failure(what, failure.why, _add_remedy(failure, key), status=failure.status) from failure
    if not as_json:
        show.lines(waiting_text(result))


def _add_remedy(failure: Failure, key: SigningKey) -> str:
    sudo = "sudo " if os.geteuid() != 0 else ""
    place = f" ({failure.remedy})" if failure.remedy else ""
    return f"run `{sudo}clanctl signer add '{key.line}'`{place}"


def _accept_history(where: Instance, root: Path, info: Mapping[str, Any], *, as_json: bool) -> str | None:
    """Set the clan's checkpoint to what is in the repository, when the clan follows nothing yet."""
    head = git_or_none("rev-parse", "--verify", "--quiet", "HEAD^{commit}", directory=root)
    if head is None or info.get("head") is not None:
        return None
    result = call(where, "repo-checkpoint", {"commit": head})
    if not as_json:
        show.lines(waiting_text(result))
    return None if waiting_text(result) else head


def _report(done: Mapping[str, Any]) -> str:
    text = f"repository  {done['path']}\nsigns with  {done['key']}\nremote      {done['remote']}\n"
    if done["wrote"]:
        text += f"wrote       {' '.join(done['wrote'])}\n"
    if done["key_made"]:
        text += "The key was made just now and has no passphrase: whoever can read it can sign for the clan.\n"
    return text


def _next_steps(root: Path, info: Mapping[str, Any], checkpoint: str | None) -> str:
    branch = git_or_none("symbolic-ref", "--short", "HEAD", directory=root) or BRANCH
    source = BRANCH if branch == BRANCH else f"{branch}:{BRANCH}"
    accepted = f"accepted as it is: {render.short_commit(checkpoint)} and all behind it\n" if checkpoint else ""
    if info.get("head") and git_or_none("cat-file", "-e", str(info["head"]), directory=root) is None:
        return f"{accepted}next: `git -C {root} pull {REMOTE} {BRANCH}`: the clan has a history already"
    return f"{accepted}next: edit, `git commit`, and `git -C {root} push {REMOTE} {source}`"
