"""The published commits, as others get them: as packs, or by git's own protocol."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import trio

from clanmesh_protocol.stream_rollout import Pack, WantPack
from clanmeshd.rollout.objects import Objects
from clanmeshd.rollout.packs import NoPack, Packs
from clanmeshd.rollout.transfer import SERVED_AT_ONCE_MAX, serve_upload_pack


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

    async def upload_pack(self, stream: trio.abc.Stream) -> None:
        """Serve one client of git, until it or git is done."""
        try:
            await self._prepare()
            async with self._serving:
                await serve_upload_pack(self._objects, stream)
        except OSError as error:
            self._note_trouble(str(error))

    @asynccontextmanager
    async def pack(self, want: WantPack) -> AsyncIterator[tuple[Pack, Iterator[bytes]]]:
        """Give a member a pack: the frame, and the bytes behind it. Raises NoPack, and what the block raises."""
        try:
            await self._prepare()
            offer = self._packs.offer(want)
            offered = await offer.__aenter__()
        except OSError as error:
            self._note_trouble(str(error))
            raise NoPack("absent", "this device has trouble with its disk") from error
        try:
            yield offered
        finally:
            await offer.__aexit__(None, None, None)
