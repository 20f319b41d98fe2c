"""The largest packet that arrives at a peer: tried, not computed. Pure but for what it is given to ask with.

The tunnel's headers make each packet larger, and not every way takes the 1500 bytes that are common. Where one
takes less, a router may say so, or drop without a word what is too large.

1. Nothing larger than what IPv6 guarantees is sent to a peer before one of that size was answered (an echo, by the
   peer's system). What passes the other way is the peer's to find out: its answer may come in pieces.
2. The largest is tried first, which most ways take: one packet. Else all sizes are tried at once, and the largest
   that was answered counts.
3. Pieces are no way out: where the system knows that the outer packet would be cut (a router said so, or a network
   card is smaller), only what fits uncut is tried.

It is searched when a path begins. Nothing is sent for it at any other time.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from clanmeshd.overlay.plan import MTU_BYTES, MTU_PROVEN_BYTES

STEP_BYTES: Final = 16  # WireGuard fills packets up to a multiple of it, as far as the interface takes
SMALL_BYTES: Final = 104  # goes everywhere: whether echoes are answered at all
TRIES: Final = 2  # of one size: with a tenth lost, a good way is taken for a smaller one in 1 of 25 searches
ROUNDS_MAX: Final = 3  # of the largest that is known to fit: routers tell of their limits one after the other

OUTER_BYTES: Final = {
    4: 60,
    16: 80,
}  # headers around a packet, by the length of the outer address: IP, UDP, WireGuard

_BELOW: Final = range(MTU_BYTES - MTU_BYTES % STEP_BYTES, MTU_PROVEN_BYTES - 1, -STEP_BYTES)
SIZES: Final[tuple[int, ...]] = (MTU_BYTES, *_BELOW)

Ask = Callable[[int], Awaitable[bool]]


def fitting(outer_bytes: int, ip: bytes) -> int:
    """The largest size of which the outer packet, to this address, has at most so many bytes; 0: none."""
    return next((size for size in SIZES if size + OUTER_BYTES[len(ip)] <= outer_bytes), 0)


async def find(ask: Ask, ceiling: Callable[[], int]) -> int | None:
    """The largest size that is answered; one below the least that IPv6 allows where only small packets are.

    `ask` sends one packet of a size and says whether it was answered. `ceiling` gives the largest size that the
    system would send uncut by now (0: none). None: nothing was answered.
    """
    for _ in range(ROUNDS_MAX):
        size = ceiling() or MTU_PROVEN_BYTES  # where even that is cut, it has to do
        if not await _is_answered(ask, size):
            break
        if (ceiling() or MTU_PROVEN_BYTES) >= size:
            return size
    return await _largest(ask, [size for size in SIZES if size <= (ceiling() or MTU_PROVEN_BYTES)])


async def _is_answered(ask: Ask, size: int) -> bool:
    for _ in range(TRIES):
        if await ask(size):
            return True
    return False


async def _largest(ask: Ask, sizes: Sequence[int]) -> int | None:
    answered: set[int] = set()

    async def attempt(size: int) -> None:
        if await ask(size):
            answered.add(size)

    for _ in range(TRIES):
        best = max(answered, default=0)
        async with trio.open_nursery() as nursery:
            for size in (*sizes, SMALL_BYTES):
                if size > best:
                    nursery.start_soon(attempt, size)
    return max(answered, default=None)
