"""Repair: two nodes whose record sets differ find the difference and trade it.

The root of the set rides on every ping and ack, so agreement costs nothing. A difference that lasts longer than a
wave is looked into: ask once more (a ping), then send the digest of the whole set; the other answers each part
that differs with the ids in it, or with a digest of that part when it is large; whoever gets ids wants what it
lacks and gives what the other lacks. One side's digest repairs both. Rounds that change nothing come more and
more seldom, so a peer that lies about its set costs little.
"""

from dataclasses import dataclass
from math import inf

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.messages import Digest, Leaf
from clanmeshd.core.agenda import Agenda
from clanmeshd.core.buckets import Buckets
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.limits import (
    LEAF_IDS_MAX,
    SYNC_BACKOFF_S_MAX,
    SYNC_DELAY_S,
    SYNC_FRAMES_BURST,
    SYNC_FRAMES_PER_S,
    SYNC_INTERVAL_S,
    SYNC_SECOND_DELAY_S,
)

_EMPTY = bytes(8)
_DEPTH_MAX = 3  # digits of a prefix


@dataclass(slots=True)
class _Comparison:
    """How far the look at one peer's set has come."""

    asked: bool = False
    backoff_s: float = SYNC_INTERVAL_S
    last_s: float = -inf  # of the last digest sent
    last_roots: tuple[bytes, bytes] = (b"", b"")  # ours and theirs at that time


class AntiEntropy:
    """Compares with each peer. Knows the ledger, no signatures and no endpoints."""

    def __init__(self, own: NodeId, ledger: Ledger, leaf_ids_max: int = LEAF_IDS_MAX) -> None:
        self._own = own
        self._leaf_ids_max = leaf_ids_max
        self._ledger = ledger
        self._comparisons: dict[NodeId, _Comparison] = {}
        self._asks: Agenda[NodeId] = Agenda()  # when a peer is to be asked for its root
        self._budget: Buckets[NodeId] = Buckets(SYNC_FRAMES_PER_S, SYNC_FRAMES_BURST)

    def retain(self, members: frozenset[NodeId]) -> None:
        """Forget all others."""
        for gone in self._comparisons.keys() - members:
            del self._comparisons[gone]
            self._asks.drop(gone)
        self._budget.retain(members)

    # --- when -------------------------------------------------------------------------------------------

    def hear_root(self, peer: NodeId, root: bytes, now_s: float) -> list[Digest | Leaf]:
        """A ping or an ack told a peer's root: give what to send it now."""
        comparison = self._comparisons.get(peer)
        if comparison is None:
            comparison = self._comparisons[peer] = _Comparison()
        roots = (self._ledger.root(), root)
        if roots[0] == roots[1]:
            comparison.asked, comparison.backoff_s = False, SYNC_INTERVAL_S
            self._asks.drop(peer)
            return []
        if comparison.asked:
            return self._begin(comparison, peer, roots, now_s)
        if peer not in self._asks:
            delay_s = SYNC_DELAY_S + (SYNC_SECOND_DELAY_S if self._own > peer else 0.0)
            self._asks.set(peer, max(now_s + delay_s, comparison.last_s + comparison.backoff_s))
        return []

    def _begin(
        self, comparison: _Comparison, peer: NodeId, roots: tuple[bytes, bytes], now_s: float
    ) -> list[Digest | Leaf]:
        comparison.asked = False
        if comparison.last_roots == roots:
            comparison.backoff_s = min(comparison.backoff_s * 2, SYNC_BACKOFF_S_MAX)
        else:
            comparison.backoff_s = SYNC_INTERVAL_S
        comparison.last_s, comparison.last_roots = now_s, roots
        # The answer's own look comes when the trade is over, unless the roots are heard to be equal before.
        self._asks.set(peer, now_s + comparison.backoff_s)
        return [Digest(b"", self._ledger.digest(b""))] if self._budget.take(peer, now_s) else []

    def next_deadline(self) -> float:
        """When a peer is to be asked for its root; infinity for never."""
        return self._asks.next_s()

    def handle_deadline(self, now_s: float) -> list[NodeId]:
        """Give the peers to ping now, so that they say their root."""
        due = self._asks.pop_due(now_s)
        for node in due:
            self._comparisons[node].asked = True
        return due

    # --- what -------------------------------------------------------------------------------------------

    def hear_digest(self, peer: NodeId, digest: Digest, now_s: float) -> list[Digest | Leaf]:
        """A peer's digest came: give, for each part that differs, our ids or a digest of it."""
        if len(digest.prefix) >= _DEPTH_MAX or len(digest.buckets) != len(
            own := self._ledger.digest(digest.prefix)
        ):
            return []
        answer: list[Digest | Leaf] = []
        for digit, (ours, theirs) in enumerate(zip(own, digest.buckets, strict=True)):
            if ours == theirs:
                continue
            if not self._budget.take(peer, now_s):
                break
            answer.append(self._describe(digest.prefix + bytes([digit]), theirs))
        return answer

    def _describe(self, prefix: bytes, theirs: bytes) -> Digest | Leaf:
        if theirs != _EMPTY and self._ledger.count(prefix) > self._leaf_ids_max and len(prefix) < _DEPTH_MAX:
            return Digest(prefix, self._ledger.digest(prefix))
        return Leaf(prefix, self._ledger.leaf(prefix)[: self._leaf_ids_max])

    def hear_leaf(self, leaf: Leaf) -> tuple[list[bytes], list[bytes]]:
        """A peer's ids below a prefix came: give the short ids to want, and those to give."""
        ours = self._ledger.leaf(leaf.prefix)
        mine, theirs = set(ours), set(leaf.ids)
        wanted = [short_id for short_id in leaf.ids if short_id not in mine]
        return wanted, [short_id for short_id in ours if short_id not in theirs][: 2 * self._leaf_ids_max]
