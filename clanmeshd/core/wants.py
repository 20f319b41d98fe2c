"""Records that others have and this node lacks: whom to ask, when to ask again, when to fetch over a stream.

An IHAVE that says an id twice tells that no datagram can carry the record: it is fetched over a stream. What was
refused (stale, or by nobody we know) is not wanted again for a while, or until the authority changes.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf

from clanmesh_protocol.keys import NodeId
from clanmeshd.core.agenda import Agenda
from clanmeshd.core.limits import (
    ADVERTISERS_MAX,
    FETCH_TIMEOUT_S,
    REFUSED_MAX,
    REFUSED_S,
    WANT_AGAIN_S,
    WANT_FETCH_TRY,
    WANT_TIMEOUT_S,
    WANT_TRIES_MAX,
    WANTS_MAX,
    WANTS_PER_PEER_MAX,
)

Asked = dict[NodeId, list[bytes]]


@dataclass(slots=True)
class _Want:
    advertisers: list[NodeId]
    asked_s: float  # when last
    tries: int = 1
    by_stream: bool = False

    def add(self, peer: NodeId) -> None:
        """Another has it, too."""
        if peer not in self.advertisers and len(self.advertisers) < ADVERTISERS_MAX:
            self.advertisers.append(peer)

    def prefer(self, peer: NodeId) -> bool:
        """Ask this one first; False when it was one too many to be remembered."""
        if peer not in self.advertisers:
            return False
        self.advertisers = [peer, *(node for node in self.advertisers if node != peer)]
        return True


class Wants:
    """Bounded in ids, advertisers and tries. Gives lists of (peer, ids) to ask by datagram or by stream."""

    def __init__(self) -> None:
        self._wants: dict[bytes, _Want] = {}
        self._due: Agenda[bytes] = Agenda()  # when each is asked for again
        self._refused: dict[bytes, float] = {}

    def advertised(
        self, peer: NodeId, ids: Iterable[bytes], known: Callable[[bytes], bool], now_s: float
    ) -> list[bytes]:
        """A peer has these: give the ids to ask it for."""
        ask: list[bytes] = []
        for short_id in ids:
            want = self._wants.get(short_id)
            if want is not None:
                if self._is_to_be_asked(want, peer, now_s):
                    ask.append(short_id)
            elif self._is_welcome(short_id, peer, known, now_s):
                self._wants[short_id] = _Want([peer], now_s)
                self._due.set(short_id, now_s + WANT_TIMEOUT_S)
                ask.append(short_id)
        return ask

    def lacking(
        self, peer: NodeId, ids: Iterable[bytes], known: Callable[[bytes], bool], now_s: float
    ) -> list[bytes]:
        """A peer has these, which are too large or too many for datagrams: give the ids to fetch over a stream."""
        fetch: list[bytes] = []
        for short_id in ids:
            want = self._wants.get(short_id)
            if want is None and self._is_welcome(short_id, peer, known, now_s):
                want = self._wants[short_id] = _Want([peer], now_s)
            elif want is not None:
                want.add(peer)
            if want is not None and not want.by_stream and want.prefer(peer):
                self._turn_to_stream(short_id, want, now_s)
                fetch.append(short_id)
        return fetch

    def retain(self, members: frozenset[NodeId]) -> None:
        """Ask nobody else any more."""
        for short_id, want in list(self._wants.items()):
            want.advertisers = [node for node in want.advertisers if node in members]
            if not want.advertisers:
                self.arrived(short_id)

    def arrived(self, short_id: bytes) -> None:
        """The record came, whatever became of it."""
        self._wants.pop(short_id, None)
        self._due.drop(short_id)

    def refuse(self, short_id: bytes, now_s: float) -> None:
        """Do not want this one for a while."""
        self._refused.pop(short_id, None)
        self._refused[short_id] = now_s + REFUSED_S
        if len(self._refused) > REFUSED_MAX:
            del self._refused[next(iter(self._refused))]

    def reconsider(self) -> None:
        """The authority has changed: what was refused may be welcome now."""
        self._refused.clear()

    def next_deadline(self) -> float:
        """When to ask again; infinity for never."""
        return self._due.next_s()

    def handle_deadline(self, now_s: float) -> tuple[Asked, Asked]:
        """Give whom to ask again by datagram, and from whom to fetch over a stream."""
        ask: Asked = {}
        fetch: Asked = {}
        for short_id in self._due.pop_due(now_s):
            want = self._wants[short_id]
            if want.tries >= WANT_TRIES_MAX:
                del self._wants[short_id]
                continue
            self._try_again(short_id, want, now_s)
            (fetch if want.by_stream else ask).setdefault(want.advertisers[0], []).append(short_id)
        return ask, fetch

    def _try_again(self, short_id: bytes, want: _Want, now_s: float) -> None:
        want.tries += 1
        want.asked_s = now_s
        want.advertisers.append(want.advertisers.pop(0))
        if want.by_stream or want.tries == WANT_FETCH_TRY:
            # Two datagrams were lost, or the peer is too busy to answer them: a stream gets through.
            self._turn_to_stream(short_id, want, now_s)
        else:
            self._due.set(short_id, now_s + WANT_TIMEOUT_S * 2 ** (want.tries - 1))

    def _is_to_be_asked(self, want: _Want, peer: NodeId, now_s: float) -> bool:
        """It was told of once more: whether to ask this one now, since the answer is long in coming."""
        if want.by_stream or now_s < want.asked_s + WANT_AGAIN_S:
            want.add(peer)
            return False
        want.asked_s = now_s
        want.advertisers = [peer, *(node for node in want.advertisers if node != peer)][:ADVERTISERS_MAX]
        return True

    def _turn_to_stream(self, short_id: bytes, want: _Want, now_s: float) -> None:
        want.by_stream = True
        self._due.set(short_id, now_s + FETCH_TIMEOUT_S)

    def _is_welcome(self, short_id: bytes, peer: NodeId, known: Callable[[bytes], bool], now_s: float) -> bool:
        refused = now_s < self._refused.get(short_id, -inf)
        return not refused and not known(short_id) and self._has_room(peer)

    def _has_room(self, peer: NodeId) -> bool:
        if len(self._wants) < WANTS_PER_PEER_MAX:
            return True
        share = sum(1 for want in self._wants.values() if want.advertisers[0] == peer)
        return len(self._wants) < WANTS_MAX and share < WANTS_PER_PEER_MAX
