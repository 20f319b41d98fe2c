"""The authority as it was last worked out, and when it is worked out again.

A fold costs milliseconds, a record that calls for one costs its sender nothing. So folds draw on a budget of time:
the first changes after quiet are folded at once, each by itself; where peers keep on changing something, several
changes share a fold. What this device says itself is folded at once, who is put out within half a second. What a
fold costs is estimated by the size of the record set, since there is no clock here.
"""

from math import inf
from typing import Final

from clanmesh_protocol.keys import RecordId
from clanmesh_protocol.records import Kind, Record
from clanmesh_protocol.signing import Verified
from clanmeshd.core.authority import AUTHORITY_KINDS, Authority, fold
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.limits import (
    FAREWELL_RECORDS_MAX,
    FOLD_S,
    FOLD_S_PER_RECORD,
    FOLDING_BURST_S,
    FOLDING_DEBT_S_MAX,
    FOLDING_SHARE,
    FOLDING_URGENT_S,
)
from clanmeshd.core.roster import prove

_PUTS_OUT: Final = frozenset({Kind.AUTHORITY, Kind.APPROVAL, Kind.REVOCATION})


class Pace:
    """How much time goes into folds: `FOLDING_SHARE` of it, and a little more after quiet. Monotonic seconds."""

    def __init__(self, now_s: float) -> None:
        self._level_s = FOLDING_BURST_S  # of folding that is left; below zero: what is owed
        self._at_s = now_s
        self._latest_s = inf

    def hurry(self, latest_s: float) -> None:
        """Something came that is to be folded by then, whatever is owed."""
        self._latest_s = min(self._latest_s, latest_s)

    def next_s(self) -> float:
        """From when on there may be a fold."""
        return min(self._latest_s, self._at_s + max(0.0, -self._level_s) / FOLDING_SHARE)

    def folded(self, records: int, now_s: float) -> None:
        """A record set of this size was folded."""
        gained_s = max(0.0, now_s - self._at_s) * FOLDING_SHARE
        left_s = min(FOLDING_BURST_S, self._level_s + gained_s) - FOLD_S - FOLD_S_PER_RECORD * records
        self._level_s, self._at_s = max(left_s, -FOLDING_DEBT_S_MAX), max(self._at_s, now_s)
        self._latest_s = inf


class Trust:
    """Holds the authority. `decisions` are the records that changed it since it was last worked out."""

    def __init__(self, ledger: Ledger, anchor: RecordId | None, now_s: float) -> None:
        self.authority: Authority = fold(ledger, anchor)
        self.decisions: list[Record] = []
        self._ledger = ledger
        self._version = -1
        self._seen = -1  # the last version of the whole set that was none for the authority
        self._pace = Pace(now_s)

    def learn(self, verified: Verified[Record], now_s: float, *, own: bool) -> None:
        """A record is new in the ledger; `own`: this device has just written it."""
        record = verified.value
        if record.kind not in AUTHORITY_KINDS:
            return
        prove(self._ledger, verified)
        # The newest tell who was put out why; other words only where there is room.
        several = sorted([*self.decisions, record], key=lambda each: each.kind in _PUTS_OUT)
        self.decisions = several[-FAREWELL_RECORDS_MAX:]
        if own:
            self.hurry(now_s)
        elif record.kind in _PUTS_OUT:
            self._pace.hurry(now_s + FOLDING_URGENT_S)

    def hurry(self, now_s: float) -> None:
        """Fold what waits at once: something is about to be built on it."""
        if self.is_stale:
            self._pace.hurry(now_s)

    @property
    def is_stale(self) -> bool:
        """The record set has changed since."""
        if self._seen == self._ledger.version:
            return False
        stale = self._version != self._ledger.version_of(*AUTHORITY_KINDS)
        if not stale:
            self._seen = self._ledger.version
        return stale

    def is_due(self, now_s: float) -> bool:
        """Whether `refold` has something to do and may do it."""
        return self.is_stale and self._pace.next_s() <= now_s

    def next_deadline(self) -> float:
        """When it is to be folded again; infinity while nothing has changed."""
        return self._pace.next_s() if self.is_stale else inf

    def refold(self, now_s: float) -> tuple[Authority, list[Record]]:
        """Work the authority out. Gives the former one, and what has changed it."""
        before, self.authority = self.authority, fold(self._ledger, self.authority.final)
        decisions, self.decisions = self.decisions, []
        self._ledger.touch(Kind.CREDENTIAL)  # who looks at versions may have looked before this fold
        self._version = self._ledger.version_of(*AUTHORITY_KINDS)
        self._pace.folded(len(self._ledger), now_s)
        return before, decisions
