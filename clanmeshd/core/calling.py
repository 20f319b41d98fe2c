"""Calls between two members that cannot reach each other: made here, passed on for others, and taken.

One member that is up carries a call, another one each time until all had their turn: nobody knows who reaches
both. First come those who are reached at an address that means the same everywhere, since others can reach them.
To a callee that is up a call also goes straight: which of the two ways still works is what a device that has just
moved does not know. The one that comes later is stale.

A carrier passes on what the caller itself gave it, once, within a budget for each caller. The callee believes the
caller's signature alone, and only numbers that grow: above the last one that was taken, and above the caller's
node record, which is on this device's disk, so that a restart does not make yesterday's calls good again.
"""

from collections import deque
from collections.abc import Iterable
from random import Random  # noqa: TID251

from clanmesh_protocol.errors import LimitError, StaleError, UnauthorizedError
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.records import SINGLE_SLOT, Kind
from clanmesh_protocol.signalling import (
    Call,
    CallKind,
    Candidate,
    CandidateKind,
    NatKind,
    check_call_untrusted,
)
from clanmeshd.core.author import Author
from clanmeshd.core.buckets import Buckets
from clanmeshd.core.effects import Called, Instant
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.limits import (
    CALLS_BURST,
    CALLS_CARRIED_BURST,
    CALLS_CARRIED_PER_S,
    CALLS_CHECKED_BURST,
    CALLS_CHECKED_PER_S,
    CALLS_PER_S,
    CALLS_WAITING_MAX,
    CARRIERS_REMEMBERED,
)
from clanmeshd.core.membership import Membership
from clanmeshd.core.outbox import URGENCY_PROBE, Outbox
from clanmeshd.core.paths import Paths
from clanmeshd.core.sightings import is_meetable, is_outer
from clanmeshd.core.subjects import State

_KINDS = frozenset(CallKind)
_NATS = frozenset(NatKind)
_CANDIDATES = frozenset(CandidateKind)


class Calling:
    """Bounded: a number, a few carriers and some budgets for each member."""

    def __init__(
        self,
        author: Author,
        ledger: Ledger,
        membership: Membership,
        paths: Paths,
        outbox: Outbox,
        rng: Random,
        inside: bytes,
    ) -> None:
        self._author = author
        self._ledger = ledger
        self._membership = membership
        self._paths = paths
        self._outbox = outbox
        self._rng = rng
        self._inside = inside
        self._members: frozenset[NodeId] = frozenset()
        self._numbers: dict[NodeId, int] = {}  # of the last call that was taken from each
        self._carriers: dict[NodeId, deque[NodeId]] = {}  # who was asked to reach each, the last last
        self._meetable: frozenset[NodeId] = frozenset()
        self._meetable_versions = (-1, -1)  # of what it was worked out from
        self._checked: Buckets[NodeId] = Buckets(CALLS_CHECKED_PER_S, CALLS_CHECKED_BURST)
        self._taken: Buckets[NodeId] = Buckets(CALLS_PER_S, CALLS_BURST)
        self._carried: Buckets[NodeId] = Buckets(CALLS_CARRIED_PER_S, CALLS_CARRIED_BURST)
        self._waiting: deque[Called] = deque(maxlen=CALLS_WAITING_MAX)

    def retain(self, members: frozenset[NodeId]) -> None:
        """Forget all others; these may call."""
        self._members = members
        self._numbers = {node: number for node, number in self._numbers.items() if node in members}
        self._carriers = {node: tried for node, tried in self._carriers.items() if node in members}
        for budget in (self._checked, self._taken, self._carried):
            budget.retain(members)

    def drain(self) -> list[Called]:
        """Give the calls that were taken."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    # --- out --------------------------------------------------------------------------------------------

    def call(
        self, callee: NodeId, kind: CallKind, nat: NatKind, candidates: Iterable[Candidate], now: Instant
    ) -> bool:
        """Call a member. False: nobody can take it there."""
        if callee not in self._members:
            return False
        ways = [callee] if self._membership.state(callee) is State.UP else []
        carrier = self._next_carrier(callee)
        ways += [carrier] if carrier is not None else []
        if ways:
            call = self._author.call(callee, kind, nat, candidates, now.unix_s)
            for way in ways:
                self._outbox.put(way, call, URGENCY_PROBE)
        return bool(ways)

    def _next_carrier(self, callee: NodeId) -> NodeId | None:
        others = [node for node in self._membership.up() if node != callee]
        if not others:
            return None
        tried = self._carriers.setdefault(callee, deque(maxlen=CARRIERS_REMEMBERED))
        fresh = [node for node in others if node not in tried]
        if not fresh:
            tried.clear()
        among, meetable = fresh or others, self._meetable_now()
        via = self._rng.choice([node for node in among if node in meetable] or among)
        tried.append(via)
        return via

    def _meetable_now(self) -> frozenset[NodeId]:
        """Those who are up where others can reach them: one look at hundreds does for many calls."""
        versions = self._membership.version, self._paths.version
        if versions != self._meetable_versions:
            self._meetable_versions = versions
            self._meetable = frozenset(node for node in self._membership.up() if not self._is_nearby(node))
        return self._meetable

    def _is_nearby(self, node: NodeId) -> bool:
        live = self._paths.live(node)
        return live is None or not is_outer(live.ip) or not is_meetable(live.ip, self._inside)

    # --- in ---------------------------------------------------------------------------------------------

    def hear_untrusted(self, call: Call, sender: NodeId, now_s: float) -> None:
        """A proven member sent a call. Raises ProtocolError; it had no effect then."""
        if call.callee == self._author.node:
            self._take_untrusted(call, sender, now_s)
        elif call.caller == sender:
            self._carry(call, now_s)
        else:
            raise UnauthorizedError("a call that was passed on before")

    def _carry(self, call: Call, now_s: float) -> None:
        # The caller's seal stands for it as far as here; what its signature is worth is for the callee to say.
        if call.callee not in self._members or self._membership.state(call.callee) is not State.UP:
            raise UnauthorizedError("a call for somebody who is not reached from here")
        if not self._carried.take(call.caller, now_s):
            raise LimitError("more calls to pass on than one member may have")
        self._outbox.put(call.callee, call, URGENCY_PROBE)

    def _take_untrusted(self, call: Call, sender: NodeId, now_s: float) -> None:
        caller = call.caller
        if caller not in self._members:
            raise UnauthorizedError("a call by somebody who is no member")
        if call.number <= max(self._numbers.get(caller, -1), self._floor(caller)):
            raise StaleError("a call that is not the newest of its caller")
        if not self._checked.take(sender, now_s):
            raise LimitError("more signatures of calls than one member may have checked")
        check_call_untrusted(call, self._ledger.clan)
        if not self._taken.take(caller, now_s):
            raise LimitError("more calls than one member may make")
        self._numbers[caller] = call.number
        if call.kind in _KINDS:
            nat = NatKind(call.nat) if call.nat in _NATS else NatKind.UNKNOWN
            self._waiting.append(Called(caller, CallKind(call.kind), nat, self._sound(call.candidates)))

    def _sound(self, candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
        known = (each for each in candidates if each.kind in _CANDIDATES)
        return tuple(dict.fromkeys(each for each in known if is_meetable(each.endpoint.ip, self._inside)))

    def _floor(self, caller: NodeId) -> int:
        entry = self._ledger.get(caller, Kind.NODE, SINGLE_SLOT)
        return entry.value.seq if entry is not None else 0
