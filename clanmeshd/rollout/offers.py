"""The published commits, as others get them: as packs, or by git's own protocol."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from typing import Final

import trio

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.stream_rollout import Pack, WantPack
from clanmeshd.rollout.objects import Objects
from clanmeshd.rollout.packs import NoPack, Packs
from clanmeshd.rollout.places import Places, Taken
from clanmeshd.rollout.transfer import SERVED_AT_ONCE_MAX, serve_upload_pack

SERVED_EACH_MAX: Final = 2  # of one member at once: what it gets now, and what was cut off a moment ago
SERVE_PACK_TIMEOUT_S: Final = 600.0  # whoever reads this slowly has left by then


class Offers:
    """What a device serves of its repository. Its own troubles are noted here, and are none of a client's."""

    def __init__(
        self,
        objects: Objects,
        packs: Packs,
        prepare: Callable[[], Awaitable[None]],
        note_trouble: Callable[[str], None],
    ) -> None:
        self._objects = objects
        self._packs = packs
        self._prepare = prepare
        self._note_trouble = note_trouble
        self._serving = trio.CapacityLimiter(SERVED_AT_ONCE_MAX)
        self._places = Places(SERVED_EACH_MAX)

    async def upload_pack(self, stream: trio.abc.Stream, client: NodeId | None = None) -> None:
        """Serve one client of git (None: a user of this device), until it or git is done."""
        try:
            await self._prepare()
            with self._place(client):
                async with self._serving:
                    await serve_upload_pack(self._objects, stream)
        except Taken:
            return  # git has no words for that: it sees the stream end, and asks another member
        except OSError as error:
            self._note_trouble(str(error))

    def _place(self, client: NodeId | None) -> AbstractContextManager[None]:
        return self._places.take(client) if client is not None else nullcontext()

    @asynccontextmanager
    async def pack(self, want: WantPack, client: NodeId) -> AsyncIterator[tuple[Pack, Iterator[bytes]]]:
        """Give a member a pack: the frame, and the bytes behind it. Raises NoPack, and what the block raises.

        The block is left early when it takes too long.
        """
        async with AsyncExitStack() as stack:
            try:
                stack.enter_context(self._places.take(client))
                await self._prepare()
                offered = await stack.enter_async_context(self._packs.offer(want))
            except Taken as taken:
                raise NoPack("busy", "this member is served already") from taken
            except OSError as error:
                self._note_trouble(str(error))
                raise NoPack("absent", "this device has trouble with its disk") from error
            with trio.move_on_after(SERVE_PACK_TIMEOUT_S):
                yield offered
