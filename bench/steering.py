"""What steering hundreds of tunnels costs, without the core, the probes and WireGuard, on a virtual clock.

`python -m bench.steering [--members 500] [--minutes 10] [--json] [--check]`.

- idle: nothing moves. It is looked each second whether anything does, and each ten who is up.
- traffic: packets pass each second, of one member, so all counters are looked at.
- changes, ten of each kind, with what follows from them: a record names another address; a member comes up;
  WireGuard rings for one that sleeps, which is found; the router is seen to give another port; this device is
  elsewhere.
- news: for ten seconds 50 records a second that are about nothing of that.
- hub: all of them wake at once, have traffic each second, are all found, and then this device is elsewhere.

Time is that of the processor in a step: between two moments at which others can have it. To look at WireGuard is
free here: `tests/net/test_wireguard_scale.py` has what that costs.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import trio
from trio.testing import MockClock

from bench.figures import Figure, run
from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.messages import RecordFrame
from clanmesh_protocol.records import SINGLE_SLOT
from clanmesh_protocol.signalling import NatKind
from clanmeshd import memory
from clanmeshd.core.author import node_content
from clanmeshd.core.effects import Effect, Reflected, SendDatagram
from clanmeshd.driver import Driver, instant
from clanmeshd.net.strangers import Strangers
from clanmeshd.overlay.device import TunnelState
from clanmeshd.steering import Steering
from clanmeshd.store import Store
from tests.core.steering_world import World
from tests.core.worlds import PORT, START_SEQ, Puppet, endpoint_of, found, make_mesh, status

MEMBERS: Final = 500
MEMBERS_MIN: Final = 200  # more than are awake, and some for each kind of change
MINUTES: Final = 10
TUNNEL_PORT: Final = PORT + 1
CHANGES: Final = 10  # of each kind
REST_S: Final = 10.0  # longer than a large clan's wanted states rest, and than a search takes
LAST_ASLEEP: Final = 100  # the first that WireGuard rings for
FOUND_S: Final = 10  # by when all are
NEWS_S: Final = 10
NEWS_PER_S: Final = 50
STEP_MS_MAX: Final = 20.0  # others on the thread wait for it: datagrams, and packets of relays
ALL_MOVE_MS_MAX: Final = 40.0  # a step in which 500 paths, none of which sleeps, are begun anew: once in a move
MEMBER_MINUTE_US_MAX: Final = 240.0  # of 500 a fifth of a percent of a core
BUSY_MINUTE_US_MAX: Final = 1200.0  # of 500 one percent of a core
NEWS_PERCENT_MAX: Final = 2.0  # of a core


class Meter(trio.abc.Instrument):
    """The processor's time in the steps of steering's tasks, and in what is told to it."""

    def __init__(self) -> None:
        self.total_s = self.worst_s = 0.0
        self._began_s = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """A step begins."""
        self._began_s = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """A step is over."""
        if ".Steering." in task.name:
            self._add(time.thread_time() - self._began_s)

    def told(self, tell: Callable[[], None]) -> None:
        """Measure what others call."""
        began_s = time.thread_time()
        tell()
        self._add(time.thread_time() - began_s)

    def _add(self, seconds: float) -> None:
        self.total_s += seconds
        self.worst_s = max(self.worst_s, seconds)

    @contextmanager
    def anew(self) -> Iterator[None]:
        """Count what happens in the block alone."""
        self.total_s = self.worst_s = 0.0
        yield

    def worst(self, of_what: str, ms_max: float = STEP_MS_MAX) -> Figure:
        """The longest step."""
        return Figure(f"{of_what}: worst step", round(1000 * self.worst_s, 1), "ms", ms_max)


class Wire:
    """A port that keeps what is sent."""

    def __init__(self) -> None:
        self.strangers = Strangers()
        self.sent: list[Effect] = []

    def send(self, data: bytes, destination: Endpoint) -> None:
        """Keep it."""
        self.sent.append(SendDatagram(data, destination))

    def take(self) -> list[Effect]:
        """What was sent since."""
        sent, self.sent = self.sent, []
        return sent


class Forgetful(Driver):
    """Stores nothing: a virtual clock does not wait for a disk."""

    async def _make_durable(self, effects: list[Effect]) -> None:
        await trio.lowlevel.checkpoint()


class Crowd:
    """One device, its steering, and the members around it."""

    def __init__(self, members: int, meter: Meter, directory: Path) -> None:
        self.meter = meter
        self.world = World()
        self.clan = found(members + 1)
        self.mesh = make_mesh(self.clan, 0, now=instant())
        self.mesh.set_endpoints([endpoint_of(0)], instant())
        self.wire = Wire()
        self.driver = Forgetful(self.mesh, Store(directory), self.wire)
        self.members = [Puppet(self.clan, index, self.mesh) for index in range(1, members + 1)]
        for index, member in enumerate(self.members, 1):
            member.record = self._record(index, member.at, START_SEQ + 60)
        self.steering = Steering(
            self.driver, self.mesh.node, TUNNEL_PORT, self.world.machine(), self.world, self.world, self.world
        )

    async def meet_all(self) -> None:
        """All are up but the last few, of whom there are records."""
        for member in self.members[:-CHANGES]:
            await self._meet(member)
        for member in self.members[-CHANGES:]:
            await self._hear(member, member.record)

    async def _meet(self, member: Puppet) -> None:
        hello = member.sessions.seal_hello(self.mesh.node, RecordFrame(member.record))
        assert hello is not None
        self.mesh.receive(hello, member.at, instant())
        await self.driver.settle()
        for _ in range(2):  # the second one has the token
            await self._ping(member)

    async def _ping(self, member: Puppet) -> None:
        member.read(self.wire.take())
        self.mesh.receive(member.seal(member.ping()), member.at, instant())
        await self.driver.settle()

    async def _hear(self, member: Puppet, record: bytes) -> None:
        self.mesh.receive_record(record, NodeId(member.node), instant())
        await self.driver.settle()

    def _record(self, index: int, at: Endpoint, seq: int) -> bytes:
        content = node_content(self.clan.keys[index], self.clan.id, [at], TUNNEL_PORT)
        return self.clan.sign(index, content, slot=SINGLE_SLOT, seq=seq)

    async def rest(self) -> None:
        """Let all follow that follows, of the core's wanted states first."""
        await trio.sleep(REST_S)
        await self._ping(self.members[0])
        await trio.sleep(REST_S)

    # --- what happens -----------------------------------------------------------------------------------

    def pass_packets(self, number: int | None) -> None:
        """Something goes to one member, or to all, and comes back."""
        wanted = self.driver.slots.tunnels.newest
        assert wanted is not None
        self.world.packets += 2
        passed = 100 * self.world.packets
        self.world.counts = {each.public_key: TunnelState(each.endpoint, 0, 0, 0) for each in wanted.tunnels}
        busy = wanted.tunnels if number is None else [wanted.tunnels[number]]
        for each in busy:
            self.world.counts[each.public_key] = TunnelState(each.endpoint, int(time.time()), passed, passed)

    async def lists_another(self, number: int) -> None:
        """A member's record names another address."""
        record = self._record(number + 1, endpoint_of(5000 + number), START_SEQ + 100)
        await self._hear(self.members[number], record)

    async def comes_up(self, number: int) -> None:
        """A member comes up."""
        await self._meet(self.members[-1 - number])

    async def rings(self, number: int) -> None:
        """WireGuard has something for one that sleeps; it is found, and packets pass."""
        member = self.members[LAST_ASLEEP + number]
        node, at = NodeId(member.node), Endpoint(member.at.ip, TUNNEL_PORT)
        self.meter.told(lambda: self.steering.rung(node, bytes(148)))
        for _ in range(2):
            await trio.sleep(0.04)
            self.meter.told(lambda: self.steering.proven(node, at, 0.04, endpoint_of(0)))
        self.pass_packets(LAST_ASLEEP + number)

    async def is_seen(self, number: int) -> None:
        """The router is seen to give this device another port."""
        seen = Endpoint(endpoint_of(6000).ip, 1000 + number)
        self.meter.told(lambda: self.driver.on_signal(Reflected(NatKind.EASY, (seen,), ())))

    async def is_elsewhere(self, number: int) -> None:
        """This device has another address."""
        self.mesh.set_endpoints([endpoint_of(7000 + number)], instant())
        await self.driver.settle()
        self.meter.told(self.steering.look_around)

    async def serve(self, seconds: int) -> None:
        """Traffic with all for a while; whoever is probed answers."""
        for _ in range(seconds):
            self.pass_packets(None)
            probed, self.world.probed = self.world.probed, []
            for node, at in probed:
                self.meter.told(partial(self.steering.proven, node, at, 0.04, endpoint_of(0)))
            await trio.sleep(1.0)

    async def says_something(self, number: int) -> None:
        """A member publishes what concerns no tunnel."""
        index = 1 + number % len(self.members)
        record = self.clan.sign(index, status(number), slot=SINGLE_SLOT, seq=START_SEQ + 200 + number)
        await self._hear(self.members[index - 1], record)


async def measure_all(members: int, minutes: int, directory: Path) -> list[Figure]:
    """All parts, in their order."""
    meter = Meter()
    trio.lowlevel.add_instrument(meter)
    crowd = Crowd(members, meter, directory)
    await crowd.meet_all()
    memory.search_rarely()  # as the daemon does: the members' own keys and sessions are none of its memory
    figures = []
    async with trio.open_nursery() as nursery:
        with meter.anew():
            nursery.start_soon(crowd.steering.run)
            await crowd.rest()
            figures.append(meter.worst("start"))
        with meter.anew():
            await trio.sleep(60 * minutes)
            figures += _by_member("idle", meter, members * minutes)
        with meter.anew():
            for _ in range(60 * minutes):
                crowd.pass_packets(0)
                await trio.sleep(1.0)
            figures += _by_member("traffic", meter, members * minutes)
        changes = crowd.lists_another, crowd.comes_up, crowd.rings, crowd.is_seen, crowd.is_elsewhere
        for change in changes:
            with meter.anew():
                for number in range(CHANGES):
                    await change(number)
                    await crowd.rest()
            name = change.__name__.replace("_", " ")
            figures += [
                Figure(f"{name}: all of it", round(1000 * meter.total_s / CHANGES, 1), "ms"),
                meter.worst(name),
            ]
        with meter.anew():
            for number in range(NEWS_S * NEWS_PER_S):
                await crowd.says_something(number)
                await trio.sleep(1 / NEWS_PER_S)
            share = round(100 * meter.total_s / NEWS_S, 2)
            figures += [Figure("news", share, "% of a core", NEWS_PERCENT_MAX), meter.worst("news")]
        figures += await _hub(crowd, meter)
        nursery.cancel_scope.cancel()
    return figures


async def _hub(crowd: Crowd, meter: Meter) -> list[Figure]:
    with meter.anew():
        await crowd.serve(FOUND_S)
        figures = [meter.worst("all wake")]
    with meter.anew():
        await crowd.serve(60)
        figures += _by_member("all busy", meter, len(crowd.members), BUSY_MINUTE_US_MAX)
    with meter.anew():
        await crowd.is_elsewhere(CHANGES)
        await crowd.serve(FOUND_S)
        figures += [
            Figure("all move: all of it", round(1000 * meter.total_s), "ms"),
            meter.worst("all move", ALL_MOVE_MS_MAX),
        ]
    return figures


def _by_member(name: str, meter: Meter, member_minutes: int, us_max: float = MEMBER_MINUTE_US_MAX) -> list[Figure]:
    each_us = round(1e6 * meter.total_s / member_minutes)
    return [Figure(f"{name}: a member's minute", each_us, "us", us_max), meter.worst(name)]


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """Run it on a virtual clock."""
    members, minutes = max(MEMBERS_MIN, arguments.members), arguments.minutes
    with TemporaryDirectory() as directory:
        return trio.run(measure_all, members, minutes, Path(directory), clock=MockClock(autojump_threshold=0))


def main() -> int:
    """Parse the command line, measure, print."""
    options = argparse.ArgumentParser(prog="python -m bench.steering")
    options.add_argument("--members", type=int, default=MEMBERS, help="beside this device")
    options.add_argument(
        "--minutes", type=int, default=MINUTES, help="of virtual time, idle and with traffic each"
    )
    return run("steering", measure, options)


if __name__ == "__main__":
    sys.exit(main())
