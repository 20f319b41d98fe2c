"""A push: a bundle from a local user, checked in quarantine, then published.

What `git-remote-clan` does for it (the other end of the control call `push`):

1. `repo-info {}` gives `clan.id` (hex), `ref` ("main") and `head` (hex, or null before the first push).
2. For `git push clan SRC:refs/heads/main`: `old` = that head, `new` = `git rev-parse SRC^{commit}`. Only
   `refs/heads/main` can be pushed; the helper itself refuses a deletion. When `new` equals `old` there is
   nothing to do. The helper may say "fetch first" early, when `old` is not in the local repository or `git
   merge-base --is-ancestor` says no; the daemon checks it in any case.
3. The statement `clanmesh_protocol.records.head_statement(clan, "main", old or None, new)` is signed on stdin
   by `ssh-keygen -Y sign -n head@clanmesh -f FILE`. FILE is `git config user.signingkey` when that is a path;
   when it is a key itself (`key::ssh-ed25519 AAAA` or `ssh-ed25519 AAAA`), a temporary file with it, and the
   agent signs (`-U`, OpenSSH >= 8.9).
4. The bundle: `git bundle create --quiet FILE NAME ^old`. NAME must be the name of a ref, since a bundle
   takes no bare hash: `git update-ref refs/clanmesh/push NEW` before and its deletion after serve for any
   SRC. Leave `^old` out without an `old`, or when it is not in the local repository. `bundle_bytes` is the
   file's size.
5. `push {ref: "main", old: bytes | nil, new: bytes (20), signature: bytes (armored or binary),
   bundle_bytes}`, then frames `{"data": ...}` (1 MiB at most), `{"data": b""}`; then come `progress` frames
   and `result` or `error`. An error may come before all has been sent: on EPIPE, read the answer. An error's
   `what: why` belongs into git's line `error refs/heads/main WHY`, its remedy on stderr.

For fetching: `connect git-upload-pack` -> the call `git-upload-pack`, then bytes both ways, in git's protocol
version 0 (no GIT_PROTOCOL). Heads that diverge are `refs/heads/pushed/<hex>`, so the default refspec brings
them as `clan/pushed/<hex>`: merging them and pushing the merge ends a held rollout.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from clanmesh_protocol.control import Fault
from clanmeshd.core.effects import SetRollout
from clanmeshd.rollout.build import check_tree, read_config
from clanmeshd.rollout.bundle import BundleReader
from clanmeshd.rollout.commits import Authority, authority_of, no_signers, verify_head_untrusted
from clanmeshd.rollout.following import REF, Following
from clanmeshd.rollout.objects import is_commit_id
from clanmeshd.rollout.repository import PACK_BYTES_MAX, REPOSITORY_BYTES_MAX, Quarantine, Repository
from clanmeshd.rollout.selection import short

RECEIVE_STALL_S: Final = 30.0  # between two frames of a local client
RECEIVE_TIMEOUT_S: Final = 600.0  # of all of them: who pushes keeps one of a few places

Progress = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Push:
    """What a user asks for."""

    ref: str
    old: bytes | None
    new: bytes
    signature: bytes


async def receive_push(
    repository: Repository,
    following: Following,
    wanted: SetRollout,
    push: Push,
    bundle: AsyncIterator[bytes],
    progress: Progress,
) -> bytes:
    """Check a push and publish its commits; give the head's signature in binary form. Raises Fault, OSError.

    A refused push leaves nothing behind. The anchor does not move here but when the head record comes back from
    the core, so a daemon that dies in between has promised nothing.
    """
    authority = authority_of(wanted, REF)
    try:
        binary = await _check_request(authority, push)
        async with repository.quarantine() as quarantine, quarantine.asking():
            await _unpack(quarantine, bundle, progress)
            await progress("verifying signatures")
            base = await following.base(authority)
            await _check_place(repository, quarantine, push, base)
            await following.verify(quarantine, push.new, authority, base)
            await read_config(quarantine, push.new)
            await check_tree(quarantine, push.new)
            await _check_room(repository, quarantine, push.new)
            await following.publish_push(quarantine, push.new, quarantine.incoming)
    except Fault:
        await _drain(bundle)
        raise
    await progress("published")
    return binary


async def _check_request(authority: Authority, push: Push) -> bytes:
    """What can be checked without the commits."""
    if push.ref != REF:
        raise Fault("refused", "the push", f"only {REF} is followed", f"git push clan HEAD:{REF}")
    if not all(is_commit_id(commit) for commit in (push.new, push.old) if commit is not None):
        raise Fault(
            "refused",
            "the push",
            "the repository uses SHA-256 object names, which are not supported yet",
            "make it with `git init --object-format=sha1`",
        )
    if not authority.signers:
        raise no_signers()
    _, signature = await verify_head_untrusted(authority, REF, push.old, push.new, push.signature)
    return signature.binary


async def _unpack(quarantine: Quarantine, bundle: AsyncIterator[bytes], progress: Progress) -> None:
    """Write the bundle's pack to a file as it comes, and have git index and check it."""
    reader, pack = BundleReader(), quarantine.incoming
    total = await _write_pack(reader, bundle, pack)
    if total == 0 and not reader.prerequisites:
        pack.unlink()
        return  # nothing was sent: the commit may be here already
    if not reader.begun:
        raise Fault("refused", "the push", "the bundle ended within its header", "push again")
    missing = set(reader.prerequisites) - await quarantine.commits_here(set(reader.prerequisites))
    if missing:
        raise Fault(
            "refused",
            "the push",
            f"it builds upon {short(min(missing))}, which this device does not have (yet)",
            "`git pull clan main`, or wait until this device has caught up",
        )
    await progress(f"checking {total >> 10} KiB of objects")
    await quarantine.unpack_untrusted(pack)


async def _write_pack(reader: BundleReader, bundle: AsyncIterator[bytes], pack: Path) -> int:
    total = 0
    with trio.move_on_after(RECEIVE_TIMEOUT_S):
        async with await trio.open_file(pack, "wb") as file:
            while data := await _next(bundle):
                part = reader.feed_untrusted(data)
                total += len(part)
                if total > PACK_BYTES_MAX:
                    raise _too_large(f"it has over {PACK_BYTES_MAX >> 20} MiB")
                await file.write(part)
        return total
    raise Fault("refused", "the push", f"it took over {RECEIVE_TIMEOUT_S:.0f} s", "push again")


async def _next(bundle: AsyncIterator[bytes]) -> bytes:
    """The next bytes of a bundle; empty at its end. Raises Fault when the client stands still."""
    try:
        with trio.fail_after(RECEIVE_STALL_S):
            return await anext(bundle, b"")
    except trio.TooSlowError as error:
        raise Fault("refused", "the push", f"nothing came for {RECEIVE_STALL_S} s", "push again") from error


async def _check_place(repository: Repository, quarantine: Quarantine, push: Push, base: bytes | None) -> None:
    """The commit must be there, and ahead of everything that is followed or waits to be."""
    if not await quarantine.commits_here({push.new}):
        raise Fault("refused", "the push", f"{short(push.new)} is not in the bundle", "push again")
    ahead_of = {*repository.pushed, *([base] if base is not None else [])}
    for commit in sorted(ahead_of):
        if not await quarantine.descends(push.new, commit):
            raise _not_fast_forward(push.new, commit, is_fork=commit != base)


async def _check_room(repository: Repository, quarantine: Quarantine, head: bytes) -> None:
    """All of the repository must fit into one pack: so it comes to a device with an empty disk."""
    if not await repository.has_room(quarantine, head, REPOSITORY_BYTES_MAX):
        raise _too_large(
            f"the repository would have over {REPOSITORY_BYTES_MAX >> 20} MiB with all of its history"
        )


def _not_fast_forward(new: bytes, head: bytes, *, is_fork: bool) -> Fault:
    remedy = "`git pull clan main`, then push again"
    if is_fork:
        remedy = f"`git fetch clan && git merge clan/pushed/{short(head)}`, then push the merge"
    return Fault("refused", "the push", f"{short(new)} does not descend from the head {short(head)}", remedy)


def _too_large(why: str) -> Fault:
    remedy = "keep images and archives out of the configuration's repository"
    return Fault("refused", "the push is too large", why, remedy)


async def _drain(bundle: AsyncIterator[bytes]) -> None:
    """Read what the client still sends, for a while, so that it comes to read the answer."""
    try:
        with trio.move_on_after(RECEIVE_TIMEOUT_S):
            while await _next(bundle):
                pass
    except (Fault, trio.BrokenResourceError):
        return  # it is wrong in another way too; the first reason is the one to give
