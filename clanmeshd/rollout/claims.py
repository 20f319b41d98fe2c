"""Signers' words for heads of one ref, as members bring them: which of them hold, and that none of them vanishes.

A member's record has room for one head of a ref, and the next one takes its place. So a word that was found to
hold for a head that is here and not followed is kept: else who made two heads could let one of them vanish again,
and whoever saw both would go on with the other.
"""

from collections.abc import Collection, Sequence
from hashlib import blake2b
from typing import Final, TypeVar

from clanmesh_protocol.control import Fault
from clanmeshd.core.effects import HeadClaim
from clanmeshd.rollout.commits import Authority, verify_head_untrusted
from clanmeshd.rollout.objects import is_commit_id
from clanmeshd.rollout.resolutions import left
from clanmeshd.rollout.selection import short

CLAIMS_MAX: Final = 1024  # one of each member; a clan has at most a thousand
VERDICTS_MAX: Final = 4096  # remembered; forgetting one costs a few milliseconds

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Claims:
    """What has been found of the signatures, and the words that are kept."""

    def __init__(self) -> None:
        self._verdicts: dict[tuple[bytes, bytes], str | Fault] = {}
        self.witnessed: tuple[HeadClaim, ...] = ()  # of heads that are here and not followed; kept by the journal

    def with_witnessed(self, claims: Sequence[HeadClaim], pushed: Collection[bytes]) -> list[HeadClaim]:
        """What is claimed, and what was of the heads in `pushed`."""
        kept = [claim for claim in self.witnessed if claim.new in pushed]
        return list(dict.fromkeys([*kept, *claims]))

    def witness(self, claims: Sequence[HeadClaim], authority: Authority, pushed: Collection[bytes]) -> None:
        """Keep one word that holds for each of the heads that are here and not followed."""
        signed = {claim.new: claim for claim in claims if isinstance(self._known(claim, authority), str)}
        self.witnessed = tuple(signed[commit] for commit in sorted(set(pushed) & set(signed)))

    async def signed(
        self, claims: Sequence[HeadClaim], authority: Authority, refused: list[str]
    ) -> dict[bytes, str]:
        """The commits whose head statement a signer of now signed, with the signer's name."""
        found: dict[bytes, str] = {}
        for claim in claims[:CLAIMS_MAX]:
            if not is_commit_id(claim.new) or left(claim.new, authority.resolutions):
                continue
            verdict = self._known(claim, authority)
            if verdict is None:
                verdict = await _check(claim, authority)
                remember(self._verdicts, (authority.digest, _fingerprint(claim)), verdict)
            if isinstance(verdict, Fault):
                refused.append(f"head {short(claim.new)}: {verdict.why}")
            else:
                found[claim.new] = verdict
        return found

    def _known(self, claim: HeadClaim, authority: Authority) -> str | Fault | None:
        return self._verdicts.get((authority.digest, _fingerprint(claim)))


def _fingerprint(claim: HeadClaim) -> bytes:
    """What a verdict on a claim's signature depends upon, in short: signatures are large and there may be many.

    Each part has its length in front: else a member could divide the same bytes in another way, and what is found
    of that would be said of the signer's own claim.
    """
    parts = (claim.old or b"", claim.new, claim.signature)
    return blake2b(b"".join(len(part).to_bytes(4, "big") + part for part in parts), digest_size=16).digest()


async def _check(claim: HeadClaim, authority: Authority) -> str | Fault:
    """The signer's name, or why the signature does not hold."""
    try:
        signer, _ = await verify_head_untrusted(authority, claim.ref, claim.old, claim.new, claim.signature)
    except Fault as fault:
        return fault
    return signer.name


def remember(table: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Put something into a table of bounded size; the oldest makes room."""
    if len(table) >= VERDICTS_MAX:
        table.pop(next(iter(table)))
    table[key] = value
