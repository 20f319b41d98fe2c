"""Whether this device has heard by now what was said while it was away.

One that starts, wakes, or was reached by nobody for a while hears the rest within a second or two, in no order: of
two who came by one invite perhaps first one, of a removal and the secret that was replaced for it perhaps first
the one or the other. So what cannot be taken back, or what somebody else has done meanwhile, waits for a moment.

This device has arrived when somebody answered a ping of this time and holds the same records, nobody who answered
holds others, and all who are there had the time to answer; or when that takes too long, since a member may lie
about what it holds. Who is alone has arrived, too, until it meets somebody. Those who come in while this device is
there are no reason to think that it was away.
"""

from math import inf

from clanmesh_protocol.keys import NodeId
from clanmeshd.core.effects import Instant
from clanmeshd.core.limits import ARRIVAL_S_MAX, ARRIVAL_S_MIN, AWAY_S


class Arrival:
    """The opinion of one device about itself. Times are monotonic seconds. Bounded by the members."""

    def __init__(self, now: Instant) -> None:
        self._since_s: float | None = now.monotonic_s  # it has been arriving; None: it has arrived
        self._met_s = inf  # when somebody was first heard since
        self._answered: dict[NodeId, bool] = {}  # since; whether they hold what this device holds
        self._heard_s = now.monotonic_s  # when somebody was heard last
        self._wall_s = now.unix_s - now.monotonic_s  # what the wall clock is ahead
        self._others: frozenset[NodeId] | None = None
        self._new: set[NodeId] = set()  # members that came meanwhile, and were not heard yet

    @property
    def is_over(self) -> bool:
        """Whether this device knows what there is to know, as far as can be told."""
        return self._since_s is None

    def enlist(self, others: frozenset[NodeId]) -> None:
        """Take the other members. With none there is nobody to hear from."""
        if self._others is not None:
            self._new |= others - self._others
        self._new &= others
        self._answered = {node: alike for node, alike in self._answered.items() if node in others}
        self._others = others
        if not others:
            self._since_s = None

    def look(self, now: Instant, due_s: float | None) -> None:
        """Take the time before anything else is concluded. `due_s`: when this device wanted to be woken.

        The monotonic clock may stand still while a machine sleeps; then the other one seems to jump.
        """
        wall_s = now.unix_s - now.monotonic_s
        has_slept = abs(wall_s - self._wall_s) >= AWAY_S
        has_stood = due_s is not None and now.monotonic_s >= due_s + AWAY_S
        self._wall_s = wall_s
        if (has_slept or has_stood) and self._others:
            self._begin(now.monotonic_s)

    def heard(self, node: NodeId, now_s: float) -> None:
        """Something came from a member."""
        if node in self._new:
            self._new.discard(node)
        elif now_s >= self._heard_s + AWAY_S and self.is_over:
            self._begin(now_s)
        self._heard_s = now_s
        if self._since_s is not None:
            self._met_s = min(self._met_s, now_s)

    def answered(self, node: NodeId, asked_s: float, *, is_alike: bool) -> None:
        """A member answered a ping of that time. Alike: it holds the records that this device holds."""
        if self._since_s is not None and asked_s >= self._since_s:
            self._answered[node] = is_alike

    def next_deadline(self) -> float:
        """When `handle_deadline` has something to do; infinity for never."""
        if self._since_s is None:
            return inf
        if self._met_s == inf:
            return self._since_s + ARRIVAL_S_MAX
        is_agreed = bool(self._answered) and all(self._answered.values())
        return self._met_s + (ARRIVAL_S_MIN if is_agreed else ARRIVAL_S_MAX)

    def handle_deadline(self, now_s: float) -> bool:
        """Give whether this device has arrived now."""
        if now_s < self.next_deadline():
            return False
        self._since_s = None
        return True

    def _begin(self, now_s: float) -> None:
        self._since_s, self._met_s = now_s, inf
        self._answered.clear()
