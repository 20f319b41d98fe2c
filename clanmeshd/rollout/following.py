"""From claims to a decision: verify what others say the head is, fetch it, select, move the anchor.

Every device checks for itself, whoever it has a commit from. What has been checked is remembered under a digest of
the authority, so a change of signers or checkpoints has everything looked at anew.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from clanmesh_protocol.control import Fault
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import PACK_COMMITS_MAX
from clanmesh_protocol.records import RolloutState
from clanmeshd.core.effects import HeadClaim, Holder, SetRollout
from clanmeshd.rollout.claims import Claims, remember
from clanmeshd.rollout.commits import Authority, authority_of, verify_commits
from clanmeshd.rollout.fetching import NotACommit, Sources, fetch_commit_untrusted
from clanmeshd.rollout.objects import Objects, is_commit_id
from clanmeshd.rollout.packs import Packs
from clanmeshd.rollout.repository import PACK_BYTES_MAX, PUSHED_MAX, Quarantine, Repository
from clanmeshd.rollout.resolutions import refusal
from clanmeshd.rollout.selection import Decision, Follow, Held, Nothing, select, short

REF: Final = "main"  # the one that is followed
HAVES_MAX: Final = PACK_COMMITS_MAX
OVERSIZED_MAX: Final = 3  # packs of one head: how much it takes is up to who packed it, too

log = logging.getLogger(__name__)

Tell = Callable[[RolloutState], None]  # FETCHING or VERIFYING, for the status


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one look at the claims."""

    decision: Decision
    refused: tuple[str, ...]  # claims that do not count, each with its reason; for people
    missing: tuple[bytes, ...]  # claimed commits that no holder gave: look again


class Following:
    """The verified heads of one ref."""

    def __init__(self, repository: Repository, sources: Sources, packs: Packs) -> None:
        self._repository = repository
        self._sources = sources
        self._packs = packs
        self.claims = Claims()
        self._verdicts: dict[tuple[bytes, bytes], Fault | None] = {}
        self._refusals: dict[tuple[bytes, bytes], Fault | None] = {}
        self._failures: dict[bytes, Counter[NodeId]] = {}  # how often members were asked for a commit
        self._oversized: Counter[bytes] = Counter()  # how often a commit came and was too large
        self._pending: list[bytes] = []  # pushed here in this life of the daemon, not yet seen as a claim
        self.anchor_keys: frozenset[str] = frozenset()  # what it was verified upon; kept by the journal

    # --- what both a push and a claim need ---------------------------------------------------------------

    async def base(self, authority: Authority) -> bytes | None:
        """The head that others must descend from: the anchor while it holds, else the newest checkpoint here."""
        anchor = self._repository.main
        if anchor is not None and await self._anchor_holds(anchor, authority):
            return anchor
        here = await self._repository.commits_here(set(authority.checkpoints))
        for commit in reversed(authority.checkpoints):
            if commit in here and await self._refusal(commit, authority) is None:
                return commit
        return None

    async def _refusal(self, commit: bytes, authority: Authority) -> Fault | None:
        """Whether a published commit is on a side that was left for another head."""
        key = (authority.digest, commit)
        if key not in self._refusals:
            remember(self._refusals, key, await refusal(self._repository, commit, authority.resolutions))
        return self._refusals[key]

    async def _anchor_holds(self, anchor: bytes, authority: Authority) -> bool:
        keys = authority.grounds
        if await self._refusal(anchor, authority) is not None:
            return False  # for once the way does not lead forward
        if self.anchor_keys and self.anchor_keys <= keys:
            return True  # no signer and no checkpoint that it may rest upon has gone
        if await self._verdict(self._repository, anchor, authority, base=None) is not None:
            return False
        self.anchor_keys = keys
        return True

    async def verify(self, objects: Objects, head: bytes, authority: Authority, base: bytes | None) -> None:
        """Check the commits that a head adds. Raises Fault."""
        fault = await self._verdict(objects, head, authority, base)
        if fault is not None:
            raise fault

    async def _verdict(
        self, objects: Objects, head: bytes, authority: Authority, base: bytes | None
    ) -> Fault | None:
        """Why a head does not count, or None. `base` is one that counts: what it contains is not re-checked."""
        key = (authority.digest, head)
        if key not in self._verdicts:
            accepted = await objects.commits_here(
                {commit for commit in authority.checkpoints if is_commit_id(commit)}
            )
            if base is not None:
                accepted.add(base)
            try:
                verdict = await refusal(objects, head, authority.resolutions)
                if verdict is None:
                    await verify_commits(objects, authority, accepted, head)
            except Fault as fault:
                verdict = fault
            remember(self._verdicts, key, verdict)
        return self._verdicts[key]

    async def publish_push(self, quarantine: Quarantine, head: bytes, pack: Path) -> None:
        """Publish a verified head that was pushed here; it is followed once its record comes back as a claim."""
        self._pending.append(head)
        try:
            await self._publish(quarantine, head, pack, self._published)
        except BaseException:
            self._pending.remove(head)
            raise

    async def _publish(
        self, quarantine: Quarantine, head: bytes, pack: Path | None, base: Collection[bytes]
    ) -> None:
        """Publish a verified head, and pass the pack that brought it on to others who have `base`.

        That is all that was here to fill its gaps: what its sender says that it builds upon, nobody has checked.
        """
        await self._repository.publish(quarantine, head)
        if pack is not None and len(base) <= HAVES_MAX and await trio.Path(pack).exists():
            self._packs.keep(pack, head, base)
        self._packs.arrived()

    @property
    def head(self) -> bytes | None:
        """The newest head that others may build upon: what is followed, or was pushed here a moment ago."""
        return self._pending[-1] if self._pending else self._repository.main

    # --- claims ------------------------------------------------------------------------------------------

    async def decide(self, wanted: SetRollout, tell: Tell) -> Outcome:
        """Look at all claims, fetch what is missing, and move the anchor when one head is ahead of all others.

        Raises OSError for the world's faults on this device; a holder's faults end in `Outcome.missing`.
        """
        authority = authority_of(wanted, REF)
        refused: list[str] = []
        heads_of_ref = [claim for claim in wanted.heads if claim.ref == REF]
        claims = self.claims.with_witnessed(heads_of_ref, self._repository.pushed)
        signed = await self.claims.signed(claims, authority, refused)
        base = await self.base(authority)
        here = await self._repository.commits_here(set(signed) - self._surely_new(claims))
        for commit in _newest_first(claims, set(signed) - here):
            if commit in here:
                continue  # it came with a newer one
            tell(RolloutState.FETCHING)
            if await self._obtain(commit, signed[commit], wanted, authority, base, refused):
                here = await self._repository.commits_here(set(signed))
        tell(RolloutState.VERIFYING)
        heads = await self._counting(signed, here, authority, base, refused)
        tips = await self._repository.tips({*heads, *([base] if base else [])})
        decision = self._decision(base, heads, tips, authority)
        if isinstance(decision, Follow):
            await self._follow(decision.commit, authority)
        await self._forget_unclaimed(set(signed) - self._refused_commits(signed, authority))
        self.claims.witness(claims, authority, self._repository.pushed)
        missing = tuple(sorted(set(signed) - here - self._refused_commits(signed, authority)))
        self._failures = {commit: self._failures.get(commit, Counter()) for commit in missing}
        self._oversized = Counter({commit: self._oversized[commit] for commit in missing})
        return Outcome(decision, tuple(refused), missing)

    def _surely_new(self, claims: Sequence[HeadClaim]) -> set[bytes]:
        """Heads that move on from the one that is followed, and were not pushed here: git need not be asked."""
        moved = {claim.new for claim in claims if claim.old is not None and claim.old == self._repository.main}
        return moved - self._repository.pushed - {self._repository.main}

    def _decision(
        self, base: bytes | None, heads: dict[bytes, str], tips: frozenset[bytes], authority: Authority
    ) -> Decision:
        decision = select(base, heads, tips)
        anchor = self._repository.main
        if isinstance(decision, Held) or (isinstance(decision, Follow) and decision.commit in {*heads, anchor}):
            return decision
        # A checkpoint alone accepts history; nobody has said that this device should run it.
        return Nothing() if anchor is None else Held((anchor,), self._why_not(anchor, authority))

    def _why_not(self, anchor: bytes, authority: Authority) -> str:
        key = (authority.digest, anchor)
        verdict = self._refusals.get(key) or self._verdicts.get(key)
        return f"the head {short(anchor)} does not hold any more: {verdict}"

    async def _follow(self, commit: bytes, authority: Authority) -> None:
        if commit != self._repository.main:
            await self._repository.follow(commit)
        self.anchor_keys = authority.grounds

    async def _forget_unclaimed(self, signed: Collection[bytes]) -> None:
        """Drop heads that were pushed to a daemon that died before it could tell anybody."""
        self._pending = [head for head in self._pending if head not in signed]
        await self._repository.forget(self._repository.pushed - set(signed) - set(self._pending))

    async def _counting(
        self,
        signed: dict[bytes, str],
        here: Collection[bytes],
        authority: Authority,
        base: bytes | None,
        refused: list[str],
    ) -> dict[bytes, str]:
        """Of the signed heads that are here, those whose commits hold too.

        Old heads lie behind newer ones: only tips are checked, and what a refused tip hid comes up in its place.
        """
        left = {commit for commit in here if commit in signed}
        heads: dict[bytes, str] = {}
        for _ in range(len(left) + 1):
            tips = await self._repository.tips(left | ({base} if base else set()))
            bad = set()
            for commit in sorted(tips & left):
                fault = None if commit == base else await self._verdict(self._repository, commit, authority, base)
                if fault is None:
                    heads[commit] = signed[commit]
                else:
                    refused.append(f"head {short(commit)}: {fault}")
                    bad.add(commit)
            if not bad:
                break
            left -= bad
        return heads

    def _refused_commits(self, signed: Iterable[bytes], authority: Authority) -> set[bytes]:
        return {commit for commit in signed if self._verdicts.get((authority.digest, commit)) is not None}

    # --- fetching ----------------------------------------------------------------------------------------

    async def _obtain(
        self,
        commit: bytes,
        signer: str,
        wanted: SetRollout,
        authority: Authority,
        base: bytes | None,
        refused: list[str],
    ) -> bool:
        """Fetch a commit from whoever gives it, verify and publish it; say if it is here."""
        key = (authority.digest, commit)
        known = self._verdicts.get(key)
        if known is not None:
            refused.append(f"head {short(commit)}: {known}")
            return False
        if len(self._repository.pushed) >= PUSHED_MAX:
            refused.append(f"head {short(commit)} by {signer}: too many diverging heads are here already")
            return False
        haves, holders = self._haves(base), sources_of(commit, wanted)
        failures = self._failures.setdefault(commit, Counter())
        async with self._repository.quarantine() as quarantine, quarantine.asking():
            try:
                part = await fetch_commit_untrusted(self._sources, holders, commit, haves, quarantine, failures)
                if part is None:
                    return False
                await self.verify(quarantine, commit, authority, base)
                if not await self._repository.has_room(quarantine, commit, PACK_BYTES_MAX):
                    self._oversized[commit] += 1
                    raise _too_large(commit)
            except NotACommit as error:
                remember(self._verdicts, key, Fault("refused", f"head {short(commit)}", str(error)))
                refused.append(f"head {short(commit)}: {error}")
            except Fault as fault:
                if not 0 < self._oversized[commit] < OVERSIZED_MAX:  # else somebody may have packed it badly
                    remember(self._verdicts, key, fault)
                refused.append(f"head {short(commit)}: {fault}")
            else:
                pack = part.path if part.name is not None else None
                await self._publish(quarantine, commit, pack, haves)
                return True
        return False

    @property
    def _published(self) -> frozenset[bytes]:
        """The heads behind which all that is published here lies."""
        anchor = self._repository.main
        return self._repository.pushed | ({anchor} if anchor is not None else set())

    def _haves(self, base: bytes | None) -> list[bytes]:
        """Commits that a pack may build upon, the likeliest first."""
        likely = [commit for commit in (self._repository.main, base) if commit is not None]
        return list(dict.fromkeys([*likely, *sorted(self._repository.pushed)]))[:HAVES_MAX]


def sources_of(commit: bytes, wanted: SetRollout) -> list[Holder]:
    """Whom to ask for a commit, in this order.

    Others than its author that say they have it, the nearest first; where there are none yet, those who pass it on
    (see `clanmeshd.core.spreading`); then the author, whom all others ask as well.
    """
    authors = {claim.author for claim in wanted.heads if claim.new == commit}
    holders = [holder for holder in wanted.holders if commit in holder.commits]
    relays = [holder for holder in wanted.relays if commit in holder.commits]
    near = [holder for holder in holders if holder.node not in authors]
    found: dict[NodeId, Holder] = {}
    for holder in (*near, *relays, *holders):
        found.setdefault(holder.node, holder)
    return list(found.values())


def _too_large(head: bytes) -> Fault:
    """Each head may be small; what all of them take of everybody's disk has an end, whoever signs them."""
    why = f"the repository would have over {PACK_BYTES_MAX >> 20} MiB with it"
    return Fault("refused", f"head {short(head)}", why, "keep images and archives out of the configuration")


def _newest_first(claims: Sequence[HeadClaim], missing: Collection[bytes]) -> list[bytes]:
    """Missing commits in an order that fetches few: those that no claim moved on from come first."""
    left_behind = {claim.old for claim in claims}
    return sorted(missing, key=lambda commit: (commit in left_behind, commit))
