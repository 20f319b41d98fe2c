"""Finding one another on a LAN: announce a tag, listen for the clan's, suggest addresses. Nothing is believed.

`run` is one long reconciliation: on whatever networks there are now it announces a fresh tag and listens; when
the addresses or the discovery secret change it starts afresh; while there is no network it says why and waits
for one.
"""

import errno
import logging
import os
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmeshd.net.addresses import AddressWatch, Interface, multicast_interfaces, watch_addresses
from clanmeshd.net.discovery import ENDPOINTS_PER_TAG_MAX, NONCE_BYTES, Sightings, make_tag, usable
from clanmeshd.net.radio import Radio
from clanmeshd.net.services import Service

RECHECK_S: Final = 30.0  # for changes of the networks that netlink had no room to tell
RETRY_FIRST_S: Final = 1.0
RETRY_S_MAX: Final = 60.0
RETRY_JITTER: Final = 0.25  # machines that lost their network together do not come back together
ANNOUNCE_PAUSES_S: Final = (1.0, 2.0)  # RFC 6762, 8.3: at least twice, a second apart, the pauses growing
FIND_RECHECK_S: Final = 1.0  # a person may be plugging in a cable while they join
NAME_BYTES: Final = 8  # random, so never taken

log = logging.getLogger(__name__)


class _Wanted(NamedTuple):
    """What a radio is opened for; when it changes, another one is."""

    secret: bytes
    former: tuple[bytes, ...]
    networks: tuple[Interface, ...]


async def run(
    *,
    secret: Callable[[], bytes],
    port: int,
    suggest: Callable[[Endpoint], None],
    report: Callable[[str | None], None] = lambda why: None,
    former: Callable[[], tuple[bytes, ...]] = lambda: (),
    renewed: Callable[[], Awaitable[object]] = trio.sleep_forever,
    misses: Callable[[], bool] = lambda: True,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Announce `port` and listen for others of the clan until cancelled; ends within a second then.

    `suggest` gets endpoints of services whose tag the secret made, or one of the `former`, since a member may have
    been away when the secret was changed: hints, now and then repeated. `renewed` waits until the secret may be
    another one. `misses`: whether there is anybody to be found yet, since only then others are asked who is there.
    `report` hears why nobody can be found, and None once it works; the same is logged in one line.
    The network's faults never end it.
    """
    task_status.started()
    complaint: str | None = None
    attempts = 0

    def tell(why: str | None) -> None:
        nonlocal complaint
        if why != complaint:
            log.log(logging.WARNING if why else logging.INFO, "mDNS: %s", why or "works")
            report(why)
        complaint = why

    with watch_addresses() as watch:
        while True:
            try:
                wanted = _wanted(secret(), former())
                with _on_air(wanted, misses) as radio:
                    tell(None)
                    attempts = 0
                    service = _service(wanted, port, nonce := os.urandom(NONCE_BYTES))
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(_announce, radio, service)
                        nursery.start_soon(radio.run)
                        nursery.start_soon(_pass_on, radio, nonce, suggest)
                        await _until_changed(watch, wanted, lambda: _wanted(secret(), former()), renewed)
                        nursery.cancel_scope.cancel()
            except OSError as error:
                attempts += 1
                tell(error.strerror or str(error))
                with trio.move_on_after(_pause_s(attempts)):
                    await watch.changed()


async def find(secret: bytes, timeout_s: float, found: Callable[[Endpoint], Awaitable[None]]) -> None:
    """Listen for members of the clan that the secret is of, for `timeout_s`; `found` gets each endpoint once.

    Announces nothing.
    """
    seen: set[Endpoint] = set()
    with trio.move_on_after(timeout_s):
        while True:
            try:
                wanted = _wanted(secret)
                with _on_air(wanted, lambda: True) as radio:
                    await _find_on(radio, wanted, seen, found)
            except OSError as error:
                log.debug("mDNS: %s", error)
                await trio.sleep(FIND_RECHECK_S)


async def _find_on(
    radio: Radio, wanted: _Wanted, seen: set[Endpoint], found: Callable[[Endpoint], Awaitable[None]]
) -> None:
    """Find on the networks that there are, until there are others."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(radio.run)
        while _wanted(wanted.secret) == wanted:
            for endpoint in await _heard_soon(radio):
                if endpoint not in seen:
                    seen.add(endpoint)
                    await found(endpoint)
        nursery.cancel_scope.cancel()


def _wanted(secret: bytes, former: tuple[bytes, ...] = ()) -> _Wanted:
    return _Wanted(secret, former, multicast_interfaces())


async def _until_changed(
    watch: AddressWatch,
    wanted: _Wanted,
    current: Callable[[], _Wanted],
    renewed: Callable[[], Awaitable[object]],
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_until_renewed, wanted, current, renewed, nursery.cancel_scope)
        while current() == wanted:
            with trio.move_on_after(RECHECK_S):
                await watch.changed()
        nursery.cancel_scope.cancel()


async def _until_renewed(
    wanted: _Wanted,
    current: Callable[[], _Wanted],
    renewed: Callable[[], Awaitable[object]],
    scope: trio.CancelScope,
) -> None:
    while current() == wanted:
        await renewed()
    scope.cancel()


def _pause_s(attempts: int) -> float:
    pause = min(RETRY_S_MAX, RETRY_FIRST_S * 2.0 ** min(attempts - 1, 10))
    return pause * (1 + RETRY_JITTER * random.random())


@contextmanager
def _on_air(wanted: _Wanted, misses: Callable[[], bool]) -> Iterator[Radio]:
    """Open a radio, and close it whatever happens. Raises OSError when it cannot be opened."""
    if not wanted.networks:
        why = "no network that can multicast (only loopback or tunnels have an address)"
        raise OSError(errno.ENETUNREACH, f"{why}: nobody nearby can be found until there is one")
    with Radio((wanted.secret, *wanted.former), wanted.networks, misses=misses) as radio:
        yield radio


def _service(wanted: _Wanted, port: int, nonce: bytes) -> Service:
    own = usable(Endpoint(address, port) for network in wanted.networks for address in network.addresses)
    addresses = tuple(each.ip for each in own[:ENDPOINTS_PER_TAG_MAX])
    return Service(os.urandom(NAME_BYTES).hex(), port, addresses, make_tag(wanted.secret, nonce))


async def _announce(radio: Radio, service: Service) -> None:
    if not service.addresses:
        return  # link-local ones alone mean nothing on another machine
    radio.announce(service)
    for pause_s in ANNOUNCE_PAUSES_S:
        await trio.sleep(pause_s)
        radio.announce(service)


async def _pass_on(radio: Radio, own_nonce: bytes, suggest: Callable[[Endpoint], None]) -> None:
    """Suggest what is heard, and again after growing pauses, as long as it is there."""
    sightings = Sightings()
    while True:
        fresh: list[Endpoint] = []
        with trio.move_on_at(sightings.next_at_s):
            sighting = await radio.sightings.receive()
            if sighting.nonce != own_nonce:
                fresh = sightings.note(sighting, trio.current_time())
        for endpoint in fresh + sightings.due(trio.current_time()):
            suggest(endpoint)


async def _heard_soon(radio: Radio) -> list[Endpoint]:
    with trio.move_on_after(FIND_RECHECK_S):
        sighting = await radio.sightings.receive()
        return usable(sighting.endpoints)[:ENDPOINTS_PER_TAG_MAX]
    return []
