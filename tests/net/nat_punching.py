"""How two hosts behind routers find a path, with raw probes alone: each asks two observers where it is seen.

The laboratory itself tells each where the other is seen, and there is no WireGuard here. Both open the way by a
probe that dies behind their own routers. Then the one with the harder router probes for good, and each probes back
to wherever it hears the other from. A path is proven once each has an answer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

import trio

from clanmesh_protocol.endpoints import Endpoint, endpoint
from tests.net.nat_lab import RTT_S, Host
from tests.net.nat_models import TUNNEL_PORT
from tests.net.probing import Prober

LEARN_ROUNDS: Final = 3  # of questions to both observers, so that a machine that stands still costs one
TOLD_S: Final = RTT_S  # until the second one knows that the first one looks for it: by way of a third
OPEN_S: Final = 0.03  # from the openers to the first probe: they have passed their own routers by then
RETRY_S: Final = 0.1


@dataclass
class Station:
    """A host that probes from WireGuard's port. `seen` is where the observers see it."""

    name: str
    host: Host
    prober: Prober
    seen: list[Endpoint] = field(default_factory=list)
    openers_arrive: bool = False
    is_told: Endpoint | None = None  # what others are told of it in place of that

    @property
    def endpoint(self) -> Endpoint:
        """Its own, as it knows it itself."""
        return endpoint(self.host.address, TUNNEL_PORT)

    @property
    def target(self) -> Endpoint | None:
        """Where others shall try it."""
        return self.is_told or (self.seen[-1] if self.seen else None)

    @property
    def is_hard(self) -> bool:
        """Whether each that it speaks to sees another port of it."""
        return len({each.port for each in self.seen}) > 1

    def proves(self, other: str) -> bool:
        """Whether a path to another station is proven."""
        return any(name == other for name, _ in self.prober.proven)


def stations(hosts: dict[str, Host]) -> dict[str, Station]:
    """A station on each host, all of which know each other."""
    made = {}
    for name, host in hosts.items():
        prober = Prober(name, hosts.keys() - {name}, TUNNEL_PORT, host.inside)
        made[name] = Station(name, host, prober)
    return made


async def learn(station: Station, observers: Sequence[Station]) -> None:
    """Find out where the observers see a station. Who sees nothing of it answers nothing."""
    for _ in range(LEARN_ROUNDS):
        for observer in observers:
            if not station.proves(observer.name):
                station.prober.probe(observer.name, observer.endpoint)
        with trio.move_on_after(RETRY_S):
            while not all(station.proves(each.name) for each in observers):
                await station.prober.learns()
            break
    proven = dict(station.prober.proven)
    station.seen = [proven[each.name].observed for each in observers if each.name in proven]


async def punch(one: Station, other: Station, within_s: float) -> float | None:
    """Look for a path between two stations; the seconds that it took, or None where there was none in time."""
    began_s = trio.current_time()
    harder, easier = (one, other) if (one.is_hard, one.name) > (other.is_hard, other.name) else (other, one)
    at = {station.name: station.target for station in (one, other)}
    harder_at, easier_at = at[harder.name], at[easier.name]
    if harder_at is None or easier_at is None:
        return None
    with trio.move_on_after(within_s):
        async with trio.open_nursery() as nursery:
            for station, peer, peer_at, wait_s in (
                (harder, easier.name, easier_at, TOLD_S),
                (easier, harder.name, harder_at, OPEN_S),
            ):
                opens = station.prober.probe if station.openers_arrive else station.prober.open
                opens(peer, peer_at)
                nursery.start_soon(_answer_back, station, peer)
                await trio.sleep(wait_s)
            while not (harder.proves(easier.name) and easier.proves(harder.name)):
                if not harder.proves(easier.name):
                    harder.prober.probe(easier.name, easier_at)
                with trio.move_on_after(RETRY_S):
                    await _either_learns(harder, easier)
            nursery.cancel_scope.cancel()
        return trio.current_time() - began_s
    return None


async def _answer_back(station: Station, peer: str) -> None:
    """Probe wherever a peer is heard from, once each."""
    tried: set[Endpoint] = set()
    while True:
        for name, heard in station.prober.heard:
            if name == peer and heard.source not in tried:
                tried.add(heard.source)
                station.prober.probe(peer, heard.source)
        await station.prober.learns()


async def _either_learns(one: Station, other: Station) -> None:
    async with trio.open_nursery() as nursery:

        async def wait(station: Station) -> None:
            await station.prober.learns()
            nursery.cancel_scope.cancel()

        nursery.start_soon(wait, one)
        nursery.start_soon(wait, other)


async def punch_all(
    made: dict[str, Station],
    observers: Iterable[str],
    within_s: float,
    *,
    pairs: Iterable[tuple[str, str]] | None = None,
    at_once: bool = True,
) -> dict[tuple[str, str], float | None]:
    """Let all but the observers learn where they are, then look for paths between pairs of them: all if unsaid."""
    watching = [made[name] for name in observers]
    others = [name for name, station in made.items() if station not in watching]
    found: dict[tuple[str, str], float | None] = {}
    turns = trio.CapacityLimiter(len(others) ** 2 if at_once else 1)

    async def look(one: str, other: str) -> None:
        async with turns:
            found[one, other] = await punch(made[one], made[other], within_s)

    async with trio.open_nursery() as answering:
        for station in made.values():
            answering.start_soon(station.prober.run)
        async with trio.open_nursery() as nursery:
            for name in others:
                nursery.start_soon(learn, made[name], watching)
        async with trio.open_nursery() as nursery:
            for pair in combinations(others, 2) if pairs is None else pairs:
                nursery.start_soon(look, *pair)
        answering.cancel_scope.cancel()
    return found
