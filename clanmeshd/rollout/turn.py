"""Whether it is this device's turn, kept up to date: what `rings` decides about, and what follows from it."""

import logging
import math
from collections.abc import Sequence
from typing import Final

import trio

from clanmesh_protocol.control import Fault
from clanmesh_protocol.records import Verb
from clanmeshd.core.effects import Order, SetRollout
from clanmeshd.rollout.attempt import Attempt
from clanmeshd.rollout.build import read_config
from clanmeshd.rollout.config import FILE_NAME
from clanmeshd.rollout.following import REF
from clanmeshd.rollout.journal import Journal
from clanmeshd.rollout.objects import Objects
from clanmeshd.rollout.rings import Gate, Go, Ring, Wait, gate
from clanmeshd.rollout.selection import short

_UNKNOWN: Final = Wait("it is not worked out yet whose turn it is")

log = logging.getLogger(__name__)


class Turn:
    """What is ordered and shown, and what that means for the wanted commit. All methods may raise OSError."""

    def __init__(self, objects: Objects, journal: Journal, attempt: Attempt) -> None:
        self._objects = objects
        self._journal = journal
        self._attempt = attempt
        self._rings: tuple[Ring, ...] = ()
        self._rings_of: tuple[bytes | None, bytes | None] = (None, None)  # the running and the wanted commit then
        self._watched: tuple[str, float] | None = None  # the running commit, and until when it is watched
        self.wanted: SetRollout | None = None  # as it was taken last
        self._judged: tuple[bytes | None, Gate] = (None, Go())  # about which commit, and how

    @property
    def is_paused(self) -> bool:
        """An admin wants nothing to move."""
        return any(order.verb is Verb.PAUSE for order in self._orders)

    @property
    def has_rings(self) -> bool:
        """Devices wait for one another."""
        return bool(self._rings)

    @property
    def _orders(self) -> list[Order]:
        return [order for order in self.wanted.orders if order.ref == REF] if self.wanted is not None else []

    async def heed(self, value: SetRollout) -> None:
        """Take what admins order and others show; what failed may have to be tried again."""
        self.wanted = value
        for order in self._orders:
            if order.verb is Verb.RETRY and order.commit is not None:
                await self._attempt.heed_retry(order.author.hex(), order.seq, order.commit)

    async def read_rings(self, target: bytes) -> None:
        """Read who goes before whom: as the running revision says, since no commit decides who tries it.

        The first one has to, and so does the next where this version cannot read what another one ran.
        """
        good = self._journal.memory.good
        if self._rings_of != (good, target):
            self._rings, self._rings_of = await self._read_first([good, target]), (good, target)

    async def _read_first(self, sources: Sequence[bytes | None]) -> tuple[Ring, ...]:
        for source in filter(None, sources):
            try:
                return (await read_config(self._objects, source)).rings
            except Fault as fault:
                log.warning("%s of %s cannot be read: %s", FILE_NAME, short(source), fault)
        return ()  # trying it will say what is wrong with it

    def judge(self, target: bytes | None, held: str | None) -> None:
        """See whether `target` may be run now. A build of what has to wait is given up."""
        if self.wanted is not None and target is not None and self._rings_of[1] is not None:
            tags, trials = self.wanted.tags, self.wanted.trials
            verdict = gate(target, tags=tags, rings=self._rings, trials=trials, orders=self._orders, held=held)
            self._judged = target, verdict
        self._attempt.keep_only(target if isinstance(self.verdict(target), Go) else None)

    def verdict(self, target: bytes | None) -> Gate:
        """Whether a commit may be run now. Another than the one that was judged last may not."""
        return self._judged[1] if self._judged[0] == target else _UNKNOWN

    async def watch(self) -> float:
        """For how long the running revision is still to be watched; once that is over, it is remembered."""
        soak = self._journal.memory.soaking
        if soak is None:
            return math.inf
        if self._watched is None or self._watched[0] != soak.commit:
            self._watched = soak.commit, trio.current_time() + soak.seconds
        left_s = self._watched[1] - trio.current_time()
        if left_s > 0:
            return left_s
        await self._attempt.end_watch()
        return math.inf
