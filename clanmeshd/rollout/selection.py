"""Which head to follow. Pure: the facts about descent come from git, the rule is here.

1. A head counts when a signer of the clan signed the statement that moves the ref to it, and every commit between
   it and what is accepted already (the anchor, the checkpoint) is signed by a signer.
2. Of the heads that count and the anchor, the tips are those that no other descends from.
3. One tip: follow it. It is the anchor itself, or descends from it: there is no other way forward.
4. Several tips: two signers moved the clan apart. Nothing moves until a head that descends from all tips counts,
   or an admin's resolution says which of them stands: the others do not count any more (see `resolutions`).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

SHORT_HEX: Final = 12  # digits of a commit in text for people
FORK_REMEDY: Final = (
    "merge them and push the merge, or let one stand: `clanctl rollout resolve COMMIT` on an admin's device"
)


@dataclass(frozen=True, slots=True)
class Follow:
    """Go to this commit, or stay on it."""

    commit: bytes


@dataclass(frozen=True, slots=True)
class Held:
    """Nothing moves: the heads diverge."""

    tips: tuple[bytes, ...]  # sorted
    why: str
    signers: tuple[str, ...] = ()  # of the tips, in their order

    @property
    def is_fork(self) -> bool:
        """Signers moved the clan apart; otherwise the one head that was followed does not hold any more."""
        return len(self.tips) > 1


@dataclass(frozen=True, slots=True)
class Nothing:
    """There is no head yet."""


Decision: TypeAlias = Follow | Held | Nothing


def select(anchor: bytes | None, heads: Mapping[bytes, str], tips: Collection[bytes]) -> Decision:
    """Decide. `heads` are those that count, with their signer's name; `tips` is a subset of heads and anchor."""
    known = set(heads) | ({anchor} if anchor is not None else set())
    assert set(tips) <= known
    assert bool(tips) == bool(known)
    if not tips:
        return Nothing()
    if len(tips) == 1:
        return Follow(next(iter(tips)))
    ordered = tuple(sorted(tips))
    signers = tuple(heads.get(tip, "the head until now") for tip in ordered)
    named = ", ".join(f"{short(tip)} by {signer}" for tip, signer in zip(ordered, signers, strict=True))
    return Held(ordered, f"heads diverge ({named}); {FORK_REMEDY}", signers)


def short(commit: bytes) -> str:
    """A commit as people read it."""
    return commit.hex()[:SHORT_HEX]
