"""Who signed what: head statements and commits, each checked by OpenSSH against the signers of now.

A commit's dates are the committer's own claim and play no part: the signers' file has no dates, so a key counts
as long as it is a signer and never after. Only exit codes are trusted; what is read out of a signature explains.
"""

import os
import tempfile
from collections.abc import AsyncIterator, Iterable, Sequence
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
from clanmeshd.rollout.objects import Objects, TooMany
from clanmeshd.rollout.selection import short
from clanmeshd.rollout.signers import (
    PRINCIPAL,
    Signature,
    Signer,
    fingerprint,
    read_signature_untrusted,
    read_signers,
)

KEYGEN_TIMEOUT_S: Final = 10.0  # 5 ms in practice
COMMITS_PER_CALL: Final = 64  # of one verify-commit; each costs two runs of ssh-keygen
VERIFY_TIMEOUT_S: Final = 30.0  # for that many
SUBJECT_CHARACTERS_MAX: Final = 60  # enough to recognise a commit by
COMMIT_BYTES_MAX: Final = 65_536  # of a commit object, when a refusal is explained

_PROGRAMS: Final = {
    "gpg.program": "/bin/false",  # an OpenPGP key in somebody's keyring is no signer of the clan
    "gpg.x509.program": "/bin/false",
    "gpg.ssh.program": "ssh-keygen",
    "gpg.ssh.revocationFile": "",
    "gpg.minTrustLevel": "fully",  # without it a key that nobody knows is told apart by the exit code alone
}
SIGNING_HELP: Final = (
    "sign with `git commit -S` (gpg.format=ssh, user.signingkey=FILE; commits that exist: "
    "`git rebase --exec 'git commit --amend --no-edit -S' COMMIT^`), or accept history with `clanctl repo init`"
)


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
    if not await _statement_holds(authority, head_statement(authority.clan, ref, old, new), claimed):
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


async def verify_commits(objects: Objects, authority: Authority, accepted: Iterable[bytes], head: bytes) -> int:
    """Check that every commit that `head` adds to `accepted` is signed by a signer of now; give their number.

    All of `accepted` must be in `objects`. Raises Fault naming the oldest commit that is not.
    """
    if not authority.signers:
        raise no_signers()
    try:
        commits = await objects.commits_between(accepted, head)
    except TooMany as error:
        raise Fault("refused", "the history", str(error), "accept it by hash with `clanctl repo init`") from error
    async with _allowed_signers(authority.signers) as allowed:
        for at in range(0, len(commits), COMMITS_PER_CALL):
            batch = commits[at : at + COMMITS_PER_CALL]
            if not await _all_signed(objects, batch, allowed):
                raise await _explain_refusal(objects, authority, batch, allowed)
    return len(commits)


async def _all_signed(objects: Objects, commits: Sequence[bytes], allowed: Path) -> bool:
    finished = await run_git(
        objects.path,
        "verify-commit",
        *[commit.hex() for commit in commits],
        config={**_PROGRAMS, "gpg.ssh.allowedSignersFile": str(allowed)},
        timeout_s=VERIFY_TIMEOUT_S,
    )
    if finished.timed_out:
        raise GitFailed("verify-commit", finished)
    return finished.returncode == 0


async def _explain_refusal(objects: Objects, authority: Authority, batch: Sequence[bytes], allowed: Path) -> Fault:
    """Find the oldest commit of a refused batch and say what is wrong with its signature."""
    for commit in batch:
        if not await _all_signed(objects, [commit], allowed):
            text = await objects.raw_commit(commit, COMMIT_BYTES_MAX)
            return _explain(commit, text, authority)
    raise AssertionError("a batch was refused in which every commit holds alone")


def _explain(commit: bytes, text: bytes, authority: Authority) -> Fault:
    what = f"commit {short(commit)} ({_subject(text)})"
    armor = _signature_header(text)
    if armor is None:
        return Fault("refused", what, "it is not signed", SIGNING_HELP)
    try:
        signature = read_signature_untrusted(armor)
    except MalformedError:
        return Fault("refused", what, "it is signed with something else than an SSH key", SIGNING_HELP)
    if authority.signer_of(signature) is None:
        return _unknown_key(what, signature.blob)
    return Fault("refused", what, "its signature does not fit its content", SIGNING_HELP)


def _subject(text: bytes) -> str:
    _, _, message = text.partition(b"\n\n")
    line = message.decode(errors="replace").strip().partition("\n")[0]
    return one_line(line)[:SUBJECT_CHARACTERS_MAX] or "no subject"


def _signature_header(text: bytes) -> bytes | None:
    """The `gpgsig` header of a commit object, its continuation lines joined."""
    head, _, _ = text.partition(b"\n\n")
    lines = head.split(b"\n")
    for at, line in enumerate(lines):
        if line.startswith(b"gpgsig "):
            rows = [line.removeprefix(b"gpgsig ")]
            for following in lines[at + 1 :]:
                if not following.startswith(b" "):
                    break
                rows.append(following[1:])
            return b"\n".join(rows) + b"\n"
    return None


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
