"""Records that no datagram can carry: asked for by short id over a stream, served to members."""

import logging
from dataclasses import replace
from typing import Final

import trio

from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import ClanId
from clanmesh_protocol.streams import End, Purpose, RecordData, WantRecords
from clanmeshd.core.effects import FetchRecords
from clanmeshd.core.mesh import Mesh
from clanmeshd.driver import Driver, instant
from clanmeshd.net import stream

FETCHES_AT_ONCE_MAX: Final = 4
FETCH_TIMEOUT_S: Final = 30.0

log = logging.getLogger(__name__)


async def fetch_records(driver: Driver, seed: bytes, clan: ClanId, ties: stream.Ties) -> None:
    """Perform the core's fetches for ever, a few at a time. A failing one is forgotten: the core asks again."""

    async def work() -> None:
        async for wanted in driver.fetches:
            # It may have come by a datagram or from somebody else while it waited.
            ids = tuple(each for each in wanted.ids if driver.mesh.ledger.by_short_id(each) is None)
            if not ids or not driver.mesh.authority.is_member(wanted.peer):
                continue
            try:
                with ties.tie(wanted.peer), trio.fail_after(FETCH_TIMEOUT_S):
                    await _fetch_one(driver, seed, clan, replace(wanted, ids=ids))
            except (OSError, ProtocolError, trio.TooSlowError) as error:
                log.debug("fetching %d records: %s", len(ids), error)

    async with trio.open_nursery() as nursery:
        for _ in range(FETCHES_AT_ONCE_MAX):  # what exceeds them waits in the driver's channel, which is bounded
            nursery.start_soon(work)


async def _fetch_one(driver: Driver, seed: bytes, clan: ClanId, wanted: FetchRecords) -> None:
    channel = await stream.connect(
        wanted.endpoints, server=wanted.peer, seed=seed, clan=clan, purpose=Purpose.RECORDS
    )
    async with channel:
        await channel.send(WantRecords(wanted.ids))
        for _ in range(len(wanted.ids)):
            frame = await channel.receive()
            if not isinstance(frame, RecordData):
                break
            driver.mesh.receive_record(frame.data, wanted.peer, instant())
            await driver.settle()


async def serve_records(mesh: Mesh, channel: stream.Stream) -> None:
    """Answer one request for records with those that are here."""
    frame = await channel.receive()
    if not isinstance(frame, WantRecords):
        return
    for short_id in frame.ids:
        record = mesh.ledger.by_short_id(short_id)
        if record is not None:
            await channel.send(RecordData(record.data))
    await channel.send(End())
