"""Who signed what: head statements and commits, each checked against the signers of now.

A commit's dates are the committer's own claim and play no part: the signers' file has no dates, so a key counts
as long as it is a signer and never after. What `sshsig` cannot say yes to is for OpenSSH, of which only the exit
code is trusted; what is read out of a signature explains.
"""

import os
import tempfile
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

from clanmesh_protocol.control import Fault
from clanmesh_protocol.errors import MalformedError
from clanmesh_protocol.keys import ClanId
from clanmesh_protocol.records import HEAD_NAMESPACE, Resolution, head_statement
from clanmeshd import process
from clanmeshd.core.effects import SetRollout
from clanmeshd.rollout.git import GitFailed, one_line, run_git
from clanmeshd.rollout.history import Commit, added, added_nearby
from clanmeshd.rollout.objects import Objects, TooMany
from clanmeshd.rollout.selection import short
from clanmeshd.rollout.signers import (
    COMMIT_NAMESPACE,
    PRINCIPAL,
    Signature,
    Signer,
    fingerprint,
    read_signature_untrusted,
    read_signers,
)
from clanmeshd.rollout.sshsig import surely_signed

KEYGEN_TIMEOUT_S: Final = 10.0  # 5 ms in practice
COMMITS_PER_CALL: Final = 64  # of one verify-commit; each costs two runs of ssh-keygen, 10 ms
VERIFY_TIMEOUT_S: Final = 30.0  # for that many
SUBJECT_CHARACTERS_MAX: Final = 60  # enough to recognise a commit by

_PROGRAMS: Final = {
    "gpg.program": "/bin/false",  # an OpenPGP key in somebody's keyring is no signer of the clan
    "gpg.x509.program": "/bin/false",
    "gpg.ssh.program": "ssh-keygen",
    "gpg.ssh.revocationFile": "",
    "gpg.minTrustLevel": "fully",  # without it a key that nobody knows is told apart by the exit code alone
}
SIGNING_HELP: Final = (
    "sign with `git commit -S` (gpg.format=ssh, user.signingkey=FILE; commits that exist: "
    "`git rebase --exec 'git commit --amend --no-edit -S' COMMIT^`), accept history with `clanctl repo init`, or "
    "vouch for a branch in the signed merge that brings it: a last line `Clan-Vouches: <its commit's whole id>`"
)
FORGE_HELP: Final = "merge at home instead, where `git merge -S` signs with your own key"
_FORGE: Final = b"<noreply@github.com>"  # who commits what is edited or merged there


@dataclass(frozen=True, slots=True)
class Authority:
    """Who may sign for a clan, which history is accepted by hash, and which heads were left for ever."""

    clan: ClanId
    signers: tuple[Signer, ...]
    checkpoints: tuple[bytes, ...]  # of the followed ref, newest last
    resolutions: tuple[Resolution, ...] = ()  # likewise

    @property
    def digest(self) -> bytes:
        """The same for the same signers, checkpoints and resolutions: verdicts are cached under it."""
        parts = [signer.blob for signer in self.signers] + [b"checkpoints", *self.checkpoints]
        for resolution in self.resolutions:
            parts += [b"resolution", resolution.head, *resolution.abandoned]
        return blake2b(b"".join(len(part).to_bytes(4, "big") + part for part in parts), digest_size=16).digest()

    @property
    def grounds(self) -> frozenset[str]:
        """All that makes commits count, by name: what counted upon some of it counts as long as that stays."""
        return frozenset(
            [signer.fingerprint for signer in self.signers] + [commit.hex() for commit in self.checkpoints]
        )

    def signer_of(self, signature: Signature) -> Signer | None:
        """Which signer a signature names."""
        return next((signer for signer in self.signers if signer.blob == signature.blob), None)


def authority_of(wanted: SetRollout, ref: str) -> Authority:
    """Who may sign, by the core's word."""
    checkpoints = tuple(commit for name, commit in wanted.checkpoints if name == ref)
    resolutions = tuple(each for each in wanted.resolutions if each.ref == ref)
    return Authority(wanted.clan, read_signers(wanted.signers), checkpoints, resolutions)


@asynccontextmanager
async def _allowed_signers(signers: Sequence[Signer]) -> AsyncIterator[Path]:
    descriptor, name = tempfile.mkstemp(prefix="clanmesh-signers-")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.writelines(signer.allowed_line for signer in signers)
        yield Path(name)
    finally:
        os.unlink(name)


# --- head statements -----------------------------------------------------------------------------------


async def verify_head_untrusted(
    authority: Authority, ref: str, old: bytes | None, new: bytes, signature: bytes
) -> tuple[Signer, Signature]:
    """Check the signature of a head statement; give the signer. Raises Fault."""
    what = "the head's signature"
    try:
        claimed = read_signature_untrusted(signature)
    except MalformedError as error:
        raise Fault("refused", what, str(error), "push with git-remote-clan of this version") from error
    if claimed.namespace != HEAD_NAMESPACE:
        why = f"it was made for {claimed.namespace!r}, not for {HEAD_NAMESPACE}"
        raise Fault("refused", what, why, "push with git-remote-clan of this version")
    signer = authority.signer_of(claimed)
    if signer is None:
        raise _unknown_key(what, claimed.blob)
    statement = head_statement(authority.clan, ref, old, new)
    if surely_signed(signer, claimed, HEAD_NAMESPACE, statement):
        return signer, claimed
    if not await _statement_holds(authority, statement, claimed):
        why = f"{signer.name} signed something else: another clan, ref or commit"
        raise Fault("refused", what, why, "`git fetch clan`, then push again")
    return signer, claimed


async def _statement_holds(authority: Authority, statement: bytes, signature: Signature) -> bool:
    with tempfile.NamedTemporaryFile(prefix="clanmesh-signature-") as file:
        file.write(signature.armored)
        file.flush()
        async with _allowed_signers(authority.signers) as allowed:
            words = ["ssh-keygen", "-Y", "verify", "-n", HEAD_NAMESPACE, "-f", str(allowed), "-I", PRINCIPAL]
            finished = await process.run([*words, "-s", file.name], stdin=statement, timeout_s=KEYGEN_TIMEOUT_S)
    if finished.timed_out:
        raise GitFailed("ssh-keygen", finished)
    return finished.ok


# --- commits -------------------------------------------------------------------------------------------


async def verify_commits(objects: Objects, authority: Authority, accepted: Collection[bytes], head: bytes) -> int:
    """Check that every commit that `head` adds to `accepted` is signed by a signer of now; give their number.

    All of `accepted` must be in `objects`. Raises Fault naming the oldest commit that is not.
    """
    if not authority.signers:
        raise no_signers()
    async with objects.asking():
        near = await added_nearby(objects, accepted, head)
        if near is not None and all(_surely_signed(commit, authority) for commit in near):
            return len(near)
        try:
            commits = await added(objects, accepted, head)
        except TooMany as error:
            remedy = "accept it by hash with `clanctl repo init`"
            raise Fault("refused", "the history", str(error), remedy) from error
        doubtful = [commit for commit in commits if not _surely_signed(commit, authority)]
        async with _allowed_signers(authority.signers) as allowed:
            for at in range(0, len(doubtful), COMMITS_PER_CALL):
                batch = doubtful[at : at + COMMITS_PER_CALL]
                if not await _all_signed(objects, batch, allowed):
                    raise await _explain_refusal(objects, authority, batch, allowed)
    return len(commits)


def _surely_signed(commit: Commit, authority: Authority) -> bool:
    if commit.signature is None:
        return False
    try:
        signature = read_signature_untrusted(commit.signature)
    except MalformedError:
        return False
    signer = authority.signer_of(signature)
    return signer is not None and surely_signed(signer, signature, COMMIT_NAMESPACE, commit.signed)


async def _all_signed(objects: Objects, commits: Sequence[Commit], allowed: Path) -> bool:
    finished = await run_git(
        objects.path,
        "verify-commit",
        *[commit.id.hex() for commit in commits],
        config={**_PROGRAMS, "gpg.ssh.allowedSignersFile": str(allowed)},
        timeout_s=VERIFY_TIMEOUT_S,
    )
    if finished.timed_out:
        raise GitFailed("verify-commit", finished)
    return finished.returncode == 0


async def _explain_refusal(
    objects: Objects, authority: Authority, batch: Sequence[Commit], allowed: Path
) -> Fault:
    """Find the oldest commit of a refused batch and say what is wrong with its signature."""
    for commit in batch:
        if not await _all_signed(objects, [commit], allowed):
            return _explain(commit, authority)
    raise AssertionError("a batch was refused in which every commit holds alone")


def _explain(commit: Commit, authority: Authority) -> Fault:
    what = f"commit {short(commit.id)} ({_subject(commit)})"
    if commit.signature is None:
        why = "it has several signatures" if commit.signatures > 1 else "it is not signed"
        return Fault("refused", what, why, SIGNING_HELP)
    try:
        signature = read_signature_untrusted(commit.signature)
    except MalformedError:
        if _FORGE in commit.committer:
            return Fault("refused", what, "it was made on the web page of a forge, by the forge's key", FORGE_HELP)
        return Fault("refused", what, "it is signed with something else than an SSH key", SIGNING_HELP)
    if authority.signer_of(signature) is None:
        return _unknown_key(what, signature.blob)
    return Fault("refused", what, "its signature does not fit its content", SIGNING_HELP)


def _subject(commit: Commit) -> str:
    line = commit.message.decode(errors="replace").strip().partition("\n")[0]
    return one_line(line)[:SUBJECT_CHARACTERS_MAX] or "no subject"


def _unknown_key(what: str, blob: bytes) -> Fault:
    return Fault(
        "refused",
        what,
        f"it is signed by {fingerprint(blob)}, which is no signer of the clan",
        "if it should be one: `clanctl signer add FILE.pub` on an admin's device",
    )


def no_signers() -> Fault:
    """Nobody may sign yet, so nothing can be verified."""
    return Fault(
        "refused",
        "the push",
        "the clan has no signer yet",
        "`clanctl signer add ~/.ssh/id_ed25519.pub` on an admin's device",
    )
