"""The pairs that this device relays for: who may have a port here, for how long, and how much passes. Pure.

A member asks for a pair of which it is one, and asks again before its time is over. The pair stays as long as one
of the two wants it. Where all ports are taken, the pair that nothing has passed for longest gives its port up, if
that is long enough. What passes is counted, and bounded for each pair and for all: this device has other things to
do.
"""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from clanmesh_protocol.keys import Entropy, NodeId
from clanmesh_protocol.limits import RELAY_TOKEN_BYTES
from clanmeshd.core.buckets import Budget
from clanmeshd.overlay.relay_pair import Pair

PAIRS_MAX: Final = 64  # ports, and sockets, of a clan of a dozen in which nobody reaches anybody
PAIRS_PER_MEMBER_MAX: Final = 16  # that one member has asked for: none takes all ports
PAIR_BYTES_PER_S: Final = 62_500_000.0  # 500 Mbit/s: above what WireGuard in user space does on small machines
ALL_BYTES_PER_S: Final = 100_000_000.0  # 800 Mbit/s: what a core passes on beside its other work
BURST_S: Final = 0.25  # of either, at once
LIFETIME_S: Final = 300.0  # from one request to the next; asking costs 3 ms, so twice in that time is nothing
IDLE_S: Final = 180.0  # without a packet, a pair has no session of WireGuard's: it may have to give way

KeysOf: TypeAlias = Callable[[NodeId], Sequence[bytes]]  # WireGuard's public keys of a member: in use, and next


class NotRelayed(Exception):
    """This device does not relay for a pair: a code for programs and a sentence for people."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


@dataclass(frozen=True, slots=True)
class Quotas:
    """What relaying may cost this device. Bytes are those of WireGuard's packets, each counted once."""

    pairs: int = PAIRS_MAX
    pairs_per_member: int = PAIRS_PER_MEMBER_MAX
    pair_bytes_per_s: float = PAIR_BYTES_PER_S
    all_bytes_per_s: float = ALL_BYTES_PER_S


class Relay:
    """The pairs, and what they have used. What is in `pairs` has a port, or is about to get one."""

    def __init__(self, own: NodeId, entropy: Entropy, now_s: float, quotas: Quotas = Quotas()) -> None:
        self.quotas = quotas
        self.pairs: dict[frozenset[NodeId], Pair] = {}
        self._own = own
        self._entropy = entropy
        self._all = Budget(quotas.all_bytes_per_s, quotas.all_bytes_per_s * BURST_S, now_s)

    def grant(self, asker: NodeId, peer: NodeId, keys_of: KeysOf, now_s: float) -> tuple[Pair, bytes]:
        """Relay for a pair, or go on to: the pair, and the asker's token. Raises NotRelayed.

        Whether this device is willing, and whether both are members, is for the caller to know.
        """
        if asker == peer or self._own in (asker, peer):
            raise NotRelayed("no-pair", "a relay is for two members that are not the relay")
        keys = {node: keys_of(node) for node in (asker, peer)}
        if not all(keys.values()):
            raise NotRelayed("unknown-key", "the relay has not heard of the tunnel keys of both yet")
        name = frozenset((asker, peer))
        self.expire(now_s)
        if name not in self.pairs:
            self._make_room(asker, now_s)
            per_s = self.quotas.pair_bytes_per_s
            self.pairs[name] = Pair(asker, peer, now_s, Budget(per_s, per_s * BURST_S, now_s))
        pair, token = self.pairs[name], self._entropy(RELAY_TOKEN_BYTES)
        for node in (asker, peer):
            pair.set_keys(node, keys[node])
        pair.set_token(asker, token)
        pair.side(asker).until_s = max(now_s + LIFETIME_S, pair.side(asker).until_s)
        return pair, token

    def release(self, asker: NodeId, peer: NodeId, now_s: float) -> None:
        """The asker does not want a pair any more; the peer may."""
        pair = self.pairs.get(frozenset((asker, peer)))
        if pair is not None:
            pair.side(asker).until_s = now_s
            self.expire(now_s)

    def abandon(self, pair: Pair) -> None:
        """There is no port for a pair."""
        self.pairs.pop(frozenset(side.node for side in pair.sides), None)

    def retain(self, members: Container[NodeId], keys_of: KeysOf) -> None:
        """End the pairs of those who are no members, and learn the keys of those who are."""
        for name, pair in list(self.pairs.items()):
            if not all(node in members for node in name):
                del self.pairs[name]
                continue
            for side in pair.sides:
                keys = keys_of(side.node)
                if keys:
                    pair.set_keys(side.node, keys)

    def expire(self, now_s: float) -> None:
        """End the pairs that nobody has asked for again."""
        for name, pair in list(self.pairs.items()):
            if all(side.until_s <= now_s for side in pair.sides):
                del self.pairs[name]

    def has_room(self, pair: Pair, now_s: float) -> bool:
        """Whether anything of a pair's may be passed on now."""
        return self._all.has_room(now_s) and pair.budget.has_room(now_s)

    def spend(self, pair: Pair, size: int, now_s: float) -> None:
        """So many bytes of a pair's were passed on."""
        pair.used_s = now_s
        pair.budget.spend(size)
        self._all.spend(size)

    def used(self) -> tuple[int, int]:
        """Packets and bytes that were passed on for the pairs there are."""
        sides = [side for pair in self.pairs.values() for side in pair.sides]
        return sum(side.packets for side in sides), sum(side.bytes for side in sides)

    def _make_room(self, asker: NodeId, now_s: float) -> None:
        asked = sum(pair.side(asker).until_s > now_s for name, pair in self.pairs.items() if asker in name)
        if asked >= self.quotas.pairs_per_member:
            raise NotRelayed("full", f"one member may have {self.quotas.pairs_per_member} pairs at this relay")
        if len(self.pairs) < self.quotas.pairs:
            return
        name = min(self.pairs, key=lambda name: self.pairs[name].used_s)
        if self.pairs[name].used_s > now_s - IDLE_S:
            raise NotRelayed("full", f"all {self.quotas.pairs} ports of this relay are in use")
        del self.pairs[name]
