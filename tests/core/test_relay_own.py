"""A device as a relay behind a router: which of its ports are to be mapped, and where it says that they lead."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmesh_protocol.keys import NodeId
from clanmeshd.config import Config
from clanmeshd.net.mapping.client import SETTLED_S, PortMapping
from clanmeshd.net.mapping.terms import Reason, Standing
from clanmeshd.relays import own
from clanmeshd.relays.own import MAPPED_MAX, OwnRelay

NODE = NodeId(bytes(32))
HOME, LISTED = endpoint("192.168.7.2", 1), endpoint("198.51.100.1", 51871)
OUTSIDE = endpoint("203.0.113.9", 1)


@dataclass
class Router:
    """Maps at once whatever it is asked for."""

    wanted: list[tuple[int, ...]] = field(default_factory=list)
    waited: list[int] = field(default_factory=list)

    def want(self, ports: Iterable[int]) -> None:
        """Map these."""
        self.wanted.append(tuple(ports))

    def external(self, port: int) -> tuple[Endpoint, ...]:
        """Where one leads."""
        return (Endpoint(OUTSIDE.ip, port + 1000),) if port in self.wanted[-1] else ()

    async def settled(self, port: int) -> None:
        """Note who waits."""
        self.waited.append(port)
        await trio.lowlevel.checkpoint()


def relay(router: Router | None, monkeypatch: pytest.MonkeyPatch) -> OwnRelay:
    """One at home that lists an address of its own as well."""
    monkeypatch.setattr(own, "local_endpoints", lambda port, inside: [Endpoint(HOME.ip, port)])
    driver: Any = None
    mapping: Any = router
    return OwnRelay(replace(Config(), endpoints=(LISTED,)), driver, NODE, bytes(6), mapping)


def test_what_is_mapped_stays_and_there_is_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    router = Router()
    device = relay(router, monkeypatch)
    crowd = range(100, 100 + MAPPED_MAX + 2)
    device._let_packets_in(crowd)
    assert router.wanted[-1] == tuple(crowd)[:MAPPED_MAX]
    device._let_packets_in([99, *crowd[1:]])
    assert router.wanted[-1] == (*crowd[1:MAPPED_MAX], 99), "none that is in use has to make room"
    device._let_packets_in([])
    assert router.wanted[-1] == ()


async def test_it_says_where_a_port_leads_and_waits_only_where_the_router_was_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    router = Router()
    device = relay(router, monkeypatch)
    device._let_packets_in([100])
    expected = (Endpoint(LISTED.ip, 100), Endpoint(OUTSIDE.ip, 1100), Endpoint(HOME.ip, 100))
    assert tuple(device._endpoints(100)) == expected
    for port in (100, 101):
        await device._settled(port)
    assert router.waited == [100]


async def test_without_port_mapping_it_relays_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    device = relay(None, monkeypatch)
    device._let_packets_in([100])
    await device._settled(100)
    assert tuple(device._endpoints(100)) == (Endpoint(LISTED.ip, 100), Endpoint(HOME.ip, 100))


async def _nothing() -> None:
    await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("by", "reason", "is_mapped_s", "waits_s"),
    [("PCP", None, 0.1, 0.1), ("UPnP", None, 9.0, SETTLED_S), (None, Reason.SILENT, 9.0, 0.0)],
)
async def test_a_port_is_waited_for_where_a_router_maps_any_and_not_for_long(
    autojump_clock: MockClock, by: str | None, reason: Reason | None, is_mapped_s: float, waits_s: float
) -> None:
    mapping = PortMapping((), bytes(32), _nothing)
    await mapping._ipv4._show(Standing(by, reason=reason, why="it is so" if reason is not None else None))
    began_s = trio.current_time()

    async def map_one() -> None:
        await trio.sleep(is_mapped_s)
        await mapping._ipv4._show(Standing(by, {100: OUTSIDE}))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(map_one)
        await mapping.settled(100)
        assert trio.current_time() - began_s == pytest.approx(waits_s)
        nursery.cancel_scope.cancel()
