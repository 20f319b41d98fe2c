"""Forks that an admin ended: which heads do not count any more, and why.

A head that was left counts never again, nor does one that is built on it, whoever signs it. The one way back in is
a head that contains what stands: that is a merge, and the fork is healed by it.
"""

from collections.abc import Sequence

from clanmesh_protocol.control import Fault
from clanmesh_protocol.records import Resolution
from clanmeshd.rollout.objects import Objects
from clanmeshd.rollout.selection import short


def left(commit: bytes, resolutions: Sequence[Resolution]) -> Resolution | None:
    """The resolution that names this very commit as left, if one does."""
    return next((each for each in reversed(resolutions) if commit in each.abandoned), None)


async def refusal(objects: Objects, head: bytes, resolutions: Sequence[Resolution]) -> Fault | None:
    """Why a head that is in `objects` does not count: it is built on one that was left. Raises OSError."""
    if not resolutions:
        return None
    here = await objects.commits_here({commit for each in resolutions for commit in (each.head, *each.abandoned)})

    async def contains(commit: bytes) -> bool:
        return commit in here and await objects.descends(head, commit)

    for each in reversed(resolutions):
        for commit in each.abandoned:
            if await contains(commit) and not await contains(each.head):
                return fault(head, commit, each)
    return None


def fault(head: bytes, commit: bytes, resolution: Resolution) -> Fault:
    """What a person reads who still builds on a head that was left."""
    stands = short(resolution.head)
    why = (
        f"it was left for {stands}"
        if head == commit
        else f"it is built on {short(commit)}, which was left for {stands}"
    )
    return Fault("refused", f"head {short(head)}", why, f"`git rebase {stands}`, or merge that, then push again")
