"""Who carries this device's datagrams on streams while no UDP reaches it: whom to ask, and for how long.

No datagram of any member, not even through a tunnel, means that nobody is there or that the network here lets no
UDP pass. Who opens a stream finds out. Some members are tried at a time, those first that were reached so before,
then those with an address of the internet; whoever lets this device in carries. Where nobody does, the
pauses grow. Once datagrams pass again for a while, the streams are ended.
"""

from collections.abc import Iterable
from math import inf
from typing import Final

from clanmesh_protocol.keys import NodeId
from clanmeshd.core.effects import Holder, SetCarriers
from clanmeshd.core.limits import (
    ALONE_S,
    CARRIERS_KEPT,
    CARRIERS_PAUSES_S,
    CARRIERS_ROUND_MAX,
    CARRIERS_TRIED,
    OPEN_AGAIN_S,
    SILENT_S,
)
from clanmeshd.core.paths import Paths
from clanmeshd.core.sightings import is_outer

_NOBODY: Final = SetCarriers(())


class Carriers:
    """Decides for one device. Times are monotonic seconds. Bounded: one word for each member."""

    def __init__(self, paths: Paths, now_s: float) -> None:
        self._paths = paths
        self._members: tuple[NodeId, ...] = ()
        self._began_s = now_s  # when this device came to where it is
        self._open_since_s = inf  # datagrams pass, without such a pause as says that they do not
        self._asked: dict[NodeId, bool] = {}  # to whom a stream shall be: whether it is there
        self._waiting: list[NodeId] = []  # to be tried in this round
        self._tried: dict[NodeId, int] = {}  # in which round each was tried last
        self._good: set[NodeId] = set()  # who carried before
        self._round = 0
        self._failures = 0  # rounds in vain, one after the other
        self._round_s = now_s + ALONE_S  # when a round may begin; infinity: with the next silence
        self._told = _NOBODY

    @property
    def is_blocked(self) -> bool:
        """Whether a stream passes where no datagram does."""
        return self._open_since_s == inf and any(self._asked.values())

    def retain(self, members: frozenset[NodeId], now_s: float) -> None:
        """Forget all others. Those that are new are worth a try soon, but have to start first."""
        if not self._asked and not members <= set(self._members) and now_s >= self._began_s + ALONE_S:
            self._failures, self._round_s = 0, now_s + SILENT_S
        self._members = tuple(sorted(members))
        self._asked = {node: is_open for node, is_open in self._asked.items() if node in members}
        self._waiting = [node for node in self._waiting if node in members]
        self._tried = {node: number for node, number in self._tried.items() if node in members}
        self._good &= members

    def moved(self, now_s: float) -> None:
        """This device has other addresses: it may be where no UDP passes, or no more."""
        self._began_s, self._failures = now_s, 0
        if not self._asked:
            self._round_s = now_s + ALONE_S

    def carried(self, node: NodeId, now_s: float, *, is_carried: bool) -> None:
        """A stream carries, or has ended or failed. One that was not asked for makes no difference."""
        if node not in self._asked:
            return
        if is_carried:
            self._asked[node] = True
            self._good.add(node)
            self._failures = 0
            if sum(self._asked.values()) >= CARRIERS_KEPT:
                self._asked = {other: True for other, is_open in self._asked.items() if is_open}
                self._waiting = []
            return
        del self._asked[node]
        self._go_on(now_s)

    # --- time -------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When `handle_deadline` has something to do, with nothing else that calls it each second."""
        return self._round_s if self._members else inf

    def handle_deadline(self, now_s: float) -> None:
        """Begin, or end, as datagrams come or not. Call it with each other deadline, too."""
        is_open = now_s < self._paths.open_s + SILENT_S
        self._open_since_s = min(self._open_since_s, self._paths.open_s) if is_open else inf
        if self._asked or self._waiting:
            if now_s >= max(self._open_since_s, self._began_s) + OPEN_AGAIN_S:
                self._asked, self._waiting, self._failures = {}, [], 0
                self._round_s = inf
            return
        if not self._is_alone(now_s):
            self._round_s = inf
        elif now_s >= self._round_s or self._round_s == inf:
            self._begin_round(now_s)

    def _is_alone(self, now_s: float) -> bool:
        heard_s = self._paths.heard_s
        silent_s = SILENT_S if heard_s >= self._began_s else ALONE_S
        return now_s >= max(heard_s, self._began_s) + silent_s

    def _begin_round(self, now_s: float) -> None:
        self._round += 1
        known = [node for node in self._members if self._paths.signed(node)]
        self._waiting = sorted(known, key=self._worth)[:CARRIERS_ROUND_MAX]
        self._round_s = inf
        self._go_on(now_s)

    def _worth(self, node: NodeId) -> tuple[bool, int, bool, NodeId]:
        is_outside = any(is_outer(endpoint.ip) for endpoint in self._paths.signed(node))
        return node not in self._good, self._tried.get(node, 0), not is_outside, node

    def _go_on(self, now_s: float) -> None:
        while self._waiting and len(self._asked) < CARRIERS_TRIED:
            node = self._waiting.pop(0)
            self._tried[node], self._asked[node] = self._round, False
        if not self._asked:
            pause_s = CARRIERS_PAUSES_S[min(self._failures, len(CARRIERS_PAUSES_S) - 1)]
            self._failures += 1
            self._round_s = now_s + pause_s

    # --- what is wanted ---------------------------------------------------------------------------------

    def changed(self) -> Iterable[SetCarriers]:
        """Whom to have streams to, if those are others than before."""
        wanted = _NOBODY
        if self._asked:
            at = self._paths.signed
            wanted = SetCarriers(tuple(Holder(node, at(node), frozenset()) for node in self._asked))
        if {each.node for each in wanted.carriers} == {each.node for each in self._told.carriers}:
            return ()
        self._told = wanted
        return (wanted,)
