"""Who suspects whom: the newest signed suspicion of each member, how many it takes, and this device's own.

A vote names an incarnation, which is the seq of the subject's status record. It counts only while it names the
incarnation held here: an older one was refuted by the subject's own signature, and a higher one was never shown
to us, so nobody can vote against a future that the subject could not refute.
"""

from collections.abc import Collection, Iterable, Mapping
from math import inf

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import SUSPICIONS_MAX
from clanmeshd.core.buckets import TokenBucket
from clanmeshd.core.limits import (
    CONFIRMATIONS_BURST,
    CONFIRMATIONS_PER_S,
    CONFIRMATIONS_S,
    SUSPICION_INTERVAL_S,
    SUSPICION_REPEAT_S,
    SUSPICION_TTL_S,
    WITHDRAWAL_S,
    WITNESSES_MAX,
)

Votes = tuple[tuple[NodeId, int], ...]


def quorum(members: int) -> int:
    """How many distinct suspicions it takes in a clan of so many members that are not down."""
    return max(1, min(WITNESSES_MAX, members // 2))  # members // 2 is half of the others, rounded up


class Suspicions:
    """The votes of all other authors. Bounded: one record each, of at most SUSPICIONS_MAX subjects."""

    def __init__(self) -> None:
        self._votes: dict[NodeId, tuple[Mapping[NodeId, int], float]] = {}
        self._against: dict[NodeId, set[NodeId]] = {}  # whoever has voted against a member

    def hear(self, author: NodeId, suspects: Iterable[tuple[NodeId, int]], now_s: float) -> None:
        """Replace what `author` suspects. Votes against oneself are none."""
        self._forget(author)
        votes = {node: incarnation for node, incarnation in suspects if node != author}
        if votes:
            self._votes[author] = (votes, now_s + SUSPICION_TTL_S)
        for node in votes:
            self._against.setdefault(node, set()).add(author)

    def _forget(self, author: NodeId) -> None:
        before, _ = self._votes.pop(author, ({}, 0.0))
        for node in before:
            self._against[node].discard(author)
            if not self._against[node]:
                del self._against[node]

    def against(self, node: NodeId, incarnation: int, now_s: float) -> int:
        """Count the members whose standing vote is against this incarnation of `node`."""
        voters = (self._votes[author] for author in self._against.get(node, ()))
        return sum(1 for votes, lapses_s in voters if votes[node] == incarnation and now_s < lapses_s)

    def retain(self, members: frozenset[NodeId]) -> None:
        """Forget the votes of all others."""
        for author in self._votes.keys() - members:
            self._forget(author)


class Accusations:
    """Members that others suspect, to be tried by this device as fast as its budget allows, the oldest first.

    Bounded by the members, and in what they can make us do.
    """

    def __init__(self, now_s: float) -> None:
        self._pace_s = 1 / CONFIRMATIONS_PER_S
        self._budget = TokenBucket(CONFIRMATIONS_PER_S, CONFIRMATIONS_BURST, now_s)
        self._waiting: dict[NodeId, None] = {}
        self._due_s = inf

    def retain(self, members: Collection[NodeId], now_s: float) -> None:
        """Forget all others; the budget grows with their number."""
        pace_s = min(1 / CONFIRMATIONS_PER_S, CONFIRMATIONS_S / max(1, len(members)))
        if pace_s != self._pace_s:
            self._pace_s, self._budget = pace_s, TokenBucket(1 / pace_s, CONFIRMATIONS_BURST, now_s)
        self._waiting = {node: None for node in self._waiting if node in members}

    def admit(self, node: NodeId, now_s: float) -> bool:
        """Say whether to try this one now; else it waits."""
        if not self._waiting and self._budget.take(now_s):
            return True
        self._due_s = self._due_s if self._waiting else now_s + self._pace_s
        self._waiting[node] = None
        return False

    def next_deadline(self) -> float:
        """When `take` gives one; infinity for never."""
        return self._due_s if self._waiting else inf

    def take(self, now_s: float) -> NodeId | None:
        """Give one of those that wait, if there is budget."""
        if now_s < self.next_deadline():
            return None
        node = next(iter(self._waiting)) if self._budget.take(now_s) else None
        if node is None:
            self._due_s = now_s + self._pace_s
        else:
            del self._waiting[node]
        return node


class Ballot:
    """This device's own votes, and when they are to be published."""

    def __init__(self) -> None:
        self._votes: dict[NodeId, tuple[int, float]] = {}  # node -> (incarnation, until when it is said)
        self._standing: set[NodeId] = set()  # suspected still: said again and again
        self._changed = False
        self._withdrawn = False
        self._published_s = -inf

    def cast(self, node: NodeId, incarnation: int, now_s: float) -> None:
        """Suspect a member from now on."""
        self._standing.add(node)
        self._say(node, incarnation, now_s)

    def support(self, node: NodeId, incarnation: int, now_s: float) -> None:
        """Say once more, for another who asks, that a member is down; a vote that is out already is enough."""
        before = self._votes.get(node)
        if before is None or before[0] != incarnation or before[1] <= now_s + SUSPICION_REPEAT_S:
            self._say(node, incarnation, now_s)

    def _say(self, node: NodeId, incarnation: int, now_s: float) -> None:
        self._votes[node] = (incarnation, now_s + SUSPICION_TTL_S)
        self._changed = True

    def rest(self, node: NodeId) -> None:
        """The verdict stands: the vote need not be said again, and lapses."""
        self._standing.discard(node)

    def withdraw(self, node: NodeId) -> None:
        """Suspect a member no more."""
        self._standing.discard(node)
        if self._votes.pop(node, None) is not None:
            self._withdrawn = True

    def stands(self, node: NodeId) -> bool:
        """Say whether this device suspects a member now."""
        return node in self._standing

    @property
    def is_open(self) -> bool:
        """Whether this device suspects anybody of whom no verdict has fallen yet."""
        return bool(self._standing)

    def next_deadline(self) -> float:
        """When `take` will give something; infinity for never."""
        if self._changed:
            return self._published_s + SUSPICION_INTERVAL_S
        if self._withdrawn:
            return self._published_s + WITHDRAWAL_S
        return self._published_s + SUSPICION_REPEAT_S if self._standing else inf

    def take(self, now_s: float) -> Votes | None:
        """Give the votes to publish if it is time; the newest when a record cannot hold all."""
        if now_s < self.next_deadline():
            return None
        for node in self._standing:
            self._votes[node] = (self._votes[node][0], now_s + SUSPICION_TTL_S)
        self._votes = {node: vote for node, vote in self._votes.items() if vote[1] > now_s}
        self._changed = self._withdrawn = False
        self._published_s = now_s
        newest = sorted(self._votes.items(), key=lambda item: (-item[1][1], item[0]))[:SUSPICIONS_MAX]
        return tuple(sorted((node, incarnation) for node, (incarnation, _) in newest))
