"""What `git push clan main` sends: a head statement under an SSH signature, and a bundle of the commits.

The statement says from which commit to which the clan's branch moves: a signed commit alone does not say that it
is meant for the clan.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clanctl.client import CHUNK_BYTES, WORK_TIMEOUT_S, Conversation, Instance, Progress
from clanctl.failures import Failure
from clanctl.programs import ended, git_or_none, output, said, start
from clanctl.render import size
from clanctl.signing import SigningKey, configured_key, key_of, sign
from clanmesh_protocol.heads import HEAD_NAMESPACE, head_statement

BRANCH: Final = "main"
REF: Final = f"refs/heads/{BRANCH}"


@dataclass(frozen=True, slots=True)
class Move:
    """The branch's way: `old` is where the clan's head is (None: nowhere yet). Commit ids in hex."""

    clan: bytes
    old: str | None
    new: str
    objects: Path  # the folder that the commits are in


def plan_move(info: Mapping[str, Any], source: str) -> Move:
    """Say what pushing `source` moves, and refuse what no daemon would take. Raises Failure."""
    with start(["git", "rev-parse", "--is-shallow-repository", "--git-path", "objects"]) as looking:
        new = git_or_none("rev-parse", "--verify", "--end-of-options", f"{source}^{{commit}}")
        if new is None:
            raise _not_there(source)
        shallow, _, objects = output(ended(looking), "git rev-parse").partition("\n")
    old = info.get("head")
    if shallow == "true":
        raise Failure("the push", "this clone is shallow", "complete it: `git fetch --unshallow clan`")
    if old is not None and git_or_none("merge-base", "--is-ancestor", old, new) is None:
        why = f"it does not build upon {old[:7]}, which the clan follows: its history only moves forward"
        raise Failure("the push", why, "`git pull --rebase clan main`, then push again")
    return Move(bytes.fromhex(str(info["clan"]["id"])), old, new, Path(objects).absolute())


def _not_there(source: str) -> Failure:
    if git_or_none("rev-parse", "--git-dir") is None:
        remedy = "change into the clan's repository; `clanctl repo init PATH` makes one"
        return Failure(f"finding {source}", "this directory is in no git repository", remedy)
    return Failure(f"finding {source}", "this repository has no such commit", "see `git log --all --oneline`")


def find_key(info: Mapping[str, Any]) -> SigningKey:
    """The key that signs here, if it is one of the clan's signers. Raises Failure."""
    key = configured_key()
    if key is None:
        why = "git is not set to sign by SSH here"
        remedy = "`clanctl repo init .` does it, or set gpg.format to ssh and user.signingkey to your key"
        raise Failure("the push", why, remedy)
    signers = [str(line) for line in info.get("signers") or []]
    if key_of(key.line) not in {key_of(line) for line in signers}:
        remedy = f"on an admin's device: `sudo clanctl signer add '{key.line}'`"
        raise Failure("the push", "the key that signs here is no signer of the clan", remedy)
    return key


def statement_of(move: Move) -> bytes:
    """What is signed: the text that a branch moves."""
    old = bytes.fromhex(move.old) if move.old is not None else None
    return head_statement(move.clan, BRANCH, old, bytes.fromhex(move.new))


def push(where: Instance, move: Move, key: SigningKey, progress: Progress) -> None:
    """Sign and send; returns once the clan's daemon has verified and published it. Raises Failure."""
    with _bundle(move) as (path, packing):
        signature = sign(key, HEAD_NAMESPACE, statement_of(move))
        finished = ended(packing)
        if finished.returncode != 0:
            raise Failure("packing the commits", said(finished), "see `git fsck` in this repository")
        progress(f"sending {size(path.stat().st_size)}")
        args = {"ref": BRANCH, "old": move.old, "new": move.new, "signature": signature}
        _send(where, args, path, progress)
    progress(f"published {move.new[:7]}")


def _send(where: Instance, args: Mapping[str, Any], bundle: Path, progress: Progress) -> None:
    with Conversation.open(where) as conversation:
        conversation.ask("push", {**args, "bundle_bytes": bundle.stat().st_size}, WORK_TIMEOUT_S)
        with bundle.open("rb") as opened:
            while chunk := opened.read(CHUNK_BYTES):
                conversation.send({"data": chunk})
        conversation.send({"data": b""})
        conversation.result(progress)


@contextmanager
def _bundle(move: Move) -> Iterator[tuple[Path, "subprocess.Popen[bytes]"]]:
    """Pack the commits from `old` to `new` into a file, under the name that the branch has in the clan.

    A bundle names refs, and what is pushed may be any commit: so it is made in a bare repository that has this
    one ref and borrows the objects. It is whole once the program that is given with it has ended.
    """
    with tempfile.TemporaryDirectory(prefix="clanmesh-push-") as directory:
        bare, path = Path(directory) / "repo.git", Path(directory) / "bundle"
        _make_bare(bare, move.objects, move.new)
        known = [f"^{move.old}"] if move.old else []
        words: list[str | Path] = ["git", f"--git-dir={bare}", "bundle", "create", "--quiet", path, REF, *known]
        with start(words) as packing:
            try:
                yield path, packing
            except BaseException:
                packing.kill()  # what it packs is not wanted any more
                raise


def _make_bare(bare: Path, objects: Path, commit: str) -> None:
    for part in ("objects/info", "refs/heads"):
        (bare / part).mkdir(parents=True)
    (bare / "HEAD").write_text(f"ref: {REF}\n")
    (bare / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = true\n")
    (bare / REF).write_text(f"{commit}\n")
    (bare / "objects/info/alternates").write_bytes(os.fsencode(objects) + b"\n")
