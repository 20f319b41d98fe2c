"""Two members behind one port of a relay: who of them is where, and where a packet goes. Pure.

The relay reads nothing and can say nothing of its own: it passes WireGuard's packets on as they are.

1. Each side has an *address*, where packets for it go. The first handshake that fits the other side's key gives it
   one, which is *proven* once the other side, from its own address, uses the index that came with that handshake.
2. A handshake from elsewhere is a *claim*: it is passed on, and so is each handshake of the other side to it. It
   becomes the address once the other side, from its own address, uses the index that came with the claim: that
   one's WireGuard has found the handshake authentic. Who merely knows a public key, or repeats an old packet,
   moves nobody.
3. Data is passed on from an address. From elsewhere it moves a side if it names an index that the other side has
   given out here: that one has roamed in the middle of a session. Where both have moved, neither can vouch for the
   other: data from one's claim then needs an index of the other's claim. Two keys are enough to lie so; but the
   data of the session that there was moves both back.
4. A Bind under a side's token moves it at once, also in a session that began on another path; and is answered. So
   is the handshake that came before it. (One's own handshake does not bring the other's: two that cross are lost.)
5. A stream that a side carries its packets on is its address until it ends, or the side moves as above.
6. Whatever else comes is dropped without an answer. What knowers of a key can make us pass on is few a second.

Addresses are whatever the sockets call them; nothing here looks into one.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Final, TypeAlias, TypeVar

from clanmesh_protocol.binds import BIND_MAGIC, Bound, make_bound, read_bind_untrusted
from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import BIND_BYTES
from clanmeshd.core.buckets import Budget, TokenBucket
from clanmeshd.overlay.wireguard_packets import (
    COOKIE,
    COOKIE_BYTES,
    DATA,
    DATA_BYTES_MIN,
    DATA_TYPE,
    RESPONSE,
    fits,
    is_handshake,
    mac1_key,
    receiver_index,
    sender_index,
)

INDEXES_MAX: Final = 8  # of one side; WireGuard has three sessions at most, and gives up a handshake after 5 s
CLAIMS_PER_S: Final = 4.0  # an honest side that moved sends one in 5 s, and both of a pair may have
CLAIMS_BURST: Final = 16.0
CLAIM_S: Final = 10.0  # to the other side's answer: two of WireGuard's tries
HELD_S: Final = 4.5  # then WireGuard is about to begin another one

T = TypeVar("T")

Address: TypeAlias = Hashable
Sent: TypeAlias = tuple[bytes, Address]  # a packet and where it goes


class Side:
    """One member of a pair. `packets` and `bytes` are what was passed on from it."""

    __slots__ = (
        "address",
        "bind_number",
        "bytes",
        "claim",
        "claim_s",
        "claimed",
        "held",
        "held_s",
        "indexes",
        "keys",
        "node",
        "other",
        "packets",
        "proven",
        "token",
        "until_s",
    )

    other: "Side"

    def __init__(self, node: NodeId) -> None:
        self.node = node
        self.keys: tuple[bytes, ...] = ()  # of mac1 in handshakes for this side
        self.address: Address | None = None
        self.proven = False
        self.indexes: dict[bytes, None] = {}  # that came from its address; the oldest first
        self.claim: Address | None = None
        self.claim_s = 0.0
        self.claimed: dict[bytes, Address] = {}  # that came from elsewhere
        self.held: bytes | None = None  # the last initiation for it while it had no address
        self.held_s = 0.0
        self.token: bytes | None = None
        self.bind_number = -1
        self.until_s = 0.0  # how long it wants the pair
        self.packets = 0
        self.bytes = 0


class Pair:
    """A pair and its port. `dropped` counts by name what was not passed on; `budget` is bytes that may be."""

    def __init__(self, one: NodeId, other: NodeId, now_s: float, budget: Budget) -> None:
        self.sides = (Side(one), Side(other))
        self.sides[0].other, self.sides[1].other = self.sides[1], self.sides[0]
        self.port = 0
        self.budget = budget
        self.used_s = now_s  # when anything was passed on last
        self.dropped: Counter[str] = Counter()
        self._bound: dict[Address, Side] = {}
        self._watchful = False  # a claim or an address waits for its proof: data is looked at
        self._claims = TokenBucket(CLAIMS_PER_S, CLAIMS_BURST, now_s)

    def side(self, node: NodeId) -> Side:
        """The side of a member of the pair."""
        return self.sides[0] if self.sides[0].node == node else self.sides[1]

    @property
    def indexes(self) -> set[bytes]:
        """All that data for one of the two may name."""
        return {index for side in self.sides for index in (*side.indexes, *side.claimed)}

    def set_keys(self, node: NodeId, public_keys: Sequence[bytes]) -> None:
        """WireGuard's public keys of a side: the one in use, and the next."""
        self.side(node).keys = tuple(map(mac1_key, public_keys))

    def set_token(self, node: NodeId, token: bytes) -> None:
        """A side was given a token: the one before counts no more, and numbers begin anew."""
        side = self.side(node)
        side.token, side.bind_number = token, -1

    def attach(self, node: NodeId, stream: Address, now_s: float) -> list[Sent]:
        """A side's packets travel on a stream from now on; who it is was proven there. What to send it at once."""
        side = self.side(node)
        self._move(side, stream, proven=True)
        return self._release(side, now_s)

    def detach(self, stream: Address) -> None:
        """The stream has ended."""
        side = self._bound.pop(stream, None)
        if side is not None:
            side.address, side.proven = None, False

    # --- what goes where -----------------------------------------------------------------------------

    def route(self, packet: memoryview, size: int, source: Address) -> Address | None:
        """Where the first `size` bytes go, if they are data from an address: the common case, and a quick one.

        None: ask `receive`.
        """
        side = self._bound.get(source)
        if side is None or self._watchful or size < DATA_BYTES_MIN or packet[0] != DATA_TYPE:
            return None
        to = side.other.address
        if to is not None:
            side.packets += 1
            side.bytes += size
        return to

    def receive(self, packet: bytes, source: Address, seen: Endpoint | None, now_s: float) -> list[Sent]:
        """What to send for any packet. `seen` is its source as a Bind's answer names it."""
        if self._watchful:
            self._forget_claims(now_s)
        if is_handshake(packet):
            return self._handshake(packet, source, now_s)
        kind, size = packet[:4], len(packet)
        if kind == DATA and size >= DATA_BYTES_MIN:
            return self._data(packet, source)
        if kind == COOKIE and size == COOKIE_BYTES:
            return self._cookie(packet, source)
        if kind == BIND_MAGIC and size == BIND_BYTES and seen is not None:
            return self._bind(packet, source, seen, now_s)
        return self._drop("junk")

    def _handshake(self, packet: bytes, source: Address, now_s: float) -> list[Sent]:
        side = next((side for side in self.sides if fits(packet, side.other.keys)), None)
        if side is None:
            return self._drop("mac1")
        if self._bound.get(source) is side.other:
            return self._drop("both")  # nobody is at both ends
        if side.address is None:
            self._move(side, source, proven=False)
        elif source != side.address and not self._claim(side, source, now_s):
            return self._drop("claims")
        if source == side.address:
            _remember(side.indexes, sender_index(packet), None)
        else:
            _remember(side.claimed, sender_index(packet), source)
        if packet[:4] == RESPONSE:
            return self._answer(packet, side, source)
        if side.other.address is None:
            side.other.held, side.other.held_s = packet, now_s
        return self._pass(packet, side, source, [side.other.address, side.other.claim])

    def _answer(self, packet: bytes, side: Side, source: Address) -> list[Sent]:
        """A response goes where the initiation came from, and proves that, if it comes from an address itself."""
        to = side.other
        if source == side.address:
            self._prove(to, receiver_index(packet))
        return self._pass(packet, side, source, [_named(to, receiver_index(packet))])

    def _cookie(self, packet: bytes, source: Address) -> list[Sent]:
        """A WireGuard under load asks for proof of an address. It proves nothing itself."""
        side = self._bound.get(source)
        if side is None:
            return self._drop("stranger")
        return self._pass(packet, side, source, [_named(side.other, receiver_index(packet))])

    def _data(self, packet: bytes, source: Address) -> list[Sent]:
        index, side = receiver_index(packet), self._bound.get(source)
        if side is None:
            side = next((side for side in self.sides if _may_roam(side, index, source)), None)
            if side is None:
                return self._drop("stranger")
            self._move(side, source, proven=True)
        self._prove(side.other, index)
        return self._pass(packet, side, source, [side.other.address])

    def _bind(self, packet: bytes, source: Address, seen: Endpoint, now_s: float) -> list[Sent]:
        for side in self.sides:
            try:
                number = read_bind_untrusted(side.token, packet) if side.token is not None else -1
            except ProtocolError:
                continue
            if number > side.bind_number and self._bound.get(source) is not side.other:
                side.bind_number = number
                self._move(side, source, proven=True)
                bound = Bound(number, seen, side.other.address is not None)
                return [(make_bound(side.token or b"", bound), source), *self._release(side, now_s)]
        return self._drop("bind")

    def _release(self, side: Side, now_s: float) -> list[Sent]:
        """Give a side that is there now the handshake that came for it: the next try would be in five seconds."""
        held, side.held = side.held, None
        if held is None or now_s > side.held_s + HELD_S or side.address is None:
            return []
        return [(held, side.address)]

    # --- who is where --------------------------------------------------------------------------------

    def _claim(self, side: Side, source: Address, now_s: float) -> bool:
        if not self._claims.take(now_s):
            return False
        side.claim, side.claim_s = source, now_s
        self._watchful = True
        return True

    def _prove(self, side: Side, index: bytes) -> None:
        """The other side has used an index: it holds what came with it for authentic."""
        if index not in side.indexes and index in side.claimed:
            self._move(side, side.claimed[index], proven=True)
        elif index in side.indexes and not side.proven:
            side.proven = True
            self._look()

    def _move(self, side: Side, address: Address, *, proven: bool) -> None:
        if self._bound.get(address) is side.other:
            return
        if side.address is not None:
            self._bound.pop(side.address, None)
        if not side.proven and side.address != address:
            side.indexes.clear()  # of somebody who was not it, for all we know
        side.address, side.proven = address, proven
        self._bound[address] = side
        for index in [index for index, at in side.claimed.items() if at == address]:
            del side.claimed[index]
            _remember(side.indexes, index, None)
        if side.claim == address:
            side.claim = None
        self._look()

    def _forget_claims(self, now_s: float) -> None:
        for side in self.sides:
            if side.claim is not None and now_s >= side.claim_s + CLAIM_S:
                side.claim = None
                side.claimed.clear()
        self._look()

    def _look(self) -> None:
        self._watchful = any(
            side.claim is not None or (side.address is not None and not side.proven) for side in self.sides
        )

    def _pass(self, packet: bytes, side: Side, source: Address, to: Sequence[Address | None]) -> list[Sent]:
        sent = [(packet, address) for address in dict.fromkeys(to) if address not in (None, source)]
        if not sent:
            return self._drop("unbound")
        side.packets += 1
        side.bytes += len(packet)
        return sent

    def _drop(self, why: str) -> list[Sent]:
        self.dropped[why] += 1
        return []


def _may_roam(side: Side, index: bytes, source: Address) -> bool:
    given = side.other
    return index in given.indexes or (index in given.claimed and (not side.proven or side.claim == source))


def _named(side: Side, index: bytes) -> Address | None:
    """Where the handshake came from that named this index."""
    return side.address if index in side.indexes else side.claimed.get(index)


def _remember(indexes: dict[bytes, T], index: bytes, source: T) -> None:
    """The first one to name an index keeps it: who repeats another's packet comes later."""
    indexes.setdefault(index, source)
    if len(indexes) > INDEXES_MAX:
        del indexes[next(iter(indexes))]
