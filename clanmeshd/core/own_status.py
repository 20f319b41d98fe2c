"""When this device says how it is: on change, on doubt, and now and then."""

from math import inf

from clanmesh_protocol.records import RolloutState, SecretsState, Status
from clanmeshd.core.buckets import TokenBucket
from clanmeshd.core.limits import (
    REFUTATION_INTERVAL_S,
    REFUTATIONS_BURST,
    REFUTATIONS_PER_S,
    STATUS_INTERVAL_S,
    STATUS_REFRESH_S,
    STATUS_REFRESH_S_PER_MEMBER,
    STATUS_TTL_REFRESHES,
)

_BLANK = Status(
    commit=None, wanted=None, rollout=RolloutState.CURRENT, secrets_epoch=0, secrets=SecretsState.CURRENT
)


def refresh_s(members: int) -> float:
    """The time between two sayings of an unchanged status in a clan of so many."""
    return max(STATUS_REFRESH_S, STATUS_REFRESH_S_PER_MEMBER * members)


class OwnStatus:
    """The newest status and when it is due. It is said first when it is set first, or doubted."""

    def __init__(self) -> None:
        self.value = _BLANK
        self._due_s = inf
        self._said_s = -inf
        self._refutations: TokenBucket | None = None

    def set(self, status: Status, now_s: float) -> None:
        """Take a new status; said at once, but not twice within a second."""
        if status != self.value or self._said_s == -inf:
            self.value = status
            self._due_s = min(self._due_s, max(now_s, self._said_s + STATUS_INTERVAL_S))

    def doubted(self, now_s: float) -> None:
        """Somebody suspects this device, or holds a later word of it: a new status is a new incarnation.

        One that is due soon is enough. Who is accused for long answers seldom: nobody is down by words alone.
        """
        soon_s = max(now_s, self._said_s + REFUTATION_INTERVAL_S)
        if self._due_s > soon_s:
            self._refutations = self._refutations or TokenBucket(REFUTATIONS_PER_S, REFUTATIONS_BURST, now_s)
            self._due_s = (
                soon_s if self._refutations.take(now_s) else min(self._due_s, now_s + 1 / REFUTATIONS_PER_S)
            )

    def next_deadline(self) -> float:
        """When `take` gives something; infinity for never."""
        return self._due_s

    def take(self, members: int, now_s: float) -> tuple[Status, int] | None:
        """Give the status and its time to live in seconds if it is due."""
        if now_s < self._due_s:
            return None
        self._said_s = now_s
        self._due_s = now_s + refresh_s(members)
        return self.value, int(STATUS_TTL_REFRESHES * refresh_s(members))
