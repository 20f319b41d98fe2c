"""Twenty devices, one or two hostile, every fault there is; then the faults stop, and all is as it should be.

200 seeds in `make test`; any number with CLANMESH_SEED (see tests/soak).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Final

import pytest

from clanmesh_protocol.records import Record
from clanmeshd.core.authority import fold
from clanmeshd.core.ledger import Ledger
from tests.core.test_mesh_records import secret
from tests.faults.villains import VILLAINS, let_loose
from tests.seeds import seeds
from tests.sim.settled import settled
from tests.sim.world import Disk, World

SIZE: Final = 20
SEEDS: Final = 200
SEEDS_EACH: Final = 10  # of one test: enough to tell how far it is
TROUBLES: Final = 6
YEAR_S: Final = 365 * 86_400.0
AGREED_S: Final = 45.0  # after the last fault: who is down is tried every 5 s
BYTES_PER_S_MAX: Final = 30_000.0  # sent by an honest device in the worst of it, when what peers may ask at once
BYTES_AT_ONCE_MAX: Final = 600_000  # is spent: records served, votes confirmed, words passed on
SLOTS: Final = 6
GONE_S: Final = 15.0  # until all others know of a death among liars


@dataclass
class Story:
    """One seed."""

    seed: int
    rng: Random = field(init=False)
    world: World = field(init=False)
    villains: dict[int, str] = field(init=False)
    snapshots: dict[int, Disk] = field(default_factory=dict)
    written: dict[tuple[object, ...], Record] = field(default_factory=dict)
    restored: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.rng = Random(f"faults {self.seed}")
        latency_s = (0.0005, self.rng.choice([0.003, 0.05]))
        self.world = settled(SIZE, self.seed, loss=self.rng.choice([0.0, 0.05, 0.15]), latency_s=latency_s)
        self.world.duplication = self.rng.choice([0.0, 0.05])
        chosen = self.rng.sample(range(1, SIZE), self.rng.choice([1, 2]))
        self.villains = {index: self.rng.choice(sorted(VILLAINS)) for index in chosen}

    @property
    def honest(self) -> list[int]:
        """Who keeps to the rules."""
        return [index for index in range(SIZE) if index not in self.villains]

    def play(self) -> None:
        """Trouble; then none."""
        began_s = self.world.now_s
        for index, kind in self.villains.items():
            let_loose(self.world, kind, index, self.rng, began_s + TROUBLES)
        for _ in range(TROUBLES):
            self.trouble()
            self.world.run(self.rng.uniform(0.1, 1.4))
        self.world.heal()
        self.world.loss = self.world.duplication = 0.0
        for index in range(SIZE):
            if self.world.devices[index].mesh is None:
                self.world.start(index, wall_offset_s=0.0)

    def trouble(self) -> None:
        """One fault, or one word."""
        world, index = self.world, self.rng.choice(self.honest)
        runs = world.devices[index].mesh is not None
        match self.rng.randrange(10):
            case 0 if runs:
                self.crash(index)
            case 1:
                self.restart(self.rng.choice(world.stopped or [index]))
            case 2:
                world.cut |= {(index, self.rng.randrange(SIZE)) for _ in range(3)}
            case 3:
                side = set(self.rng.sample(range(SIZE), self.rng.randrange(1, SIZE)))
                world.partition(side, set(range(SIZE)) - side)
            case 4:
                world.heal()
            case 5 if runs:
                world.pause(index, self.rng.uniform(0.5, 8.0))
            case 6:
                self.snapshots[index] = world.snapshot(index)
            case 7 if index in self.snapshots and runs:
                world.kill(index)
                world.restore(index, self.snapshots[index])
                self.restored.add(index)
                world.start(index)
            case _ if runs:
                self.write(index)

    def crash(self, index: int) -> None:
        """Cut the power while something is being written: half of it lies on the disk, and nobody was told."""
        self.world.mesh(index).publish(
            secret(20), slot=f"torn-{self.rng.randrange(SLOTS)}", now=self.world.now(index)
        )
        self.world.kill(index)

    def restart(self, index: int) -> None:
        """Start a device, now and then with a clock that is a year off."""
        self.world.kill(index)
        self.world.start(index, wall_offset_s=self.rng.choice([0.0, 0.0, YEAR_S, -YEAR_S]))

    def write(self, index: int) -> None:
        """Publish something, sometimes too large for a datagram; it is on the disk when this returns."""
        size = self.rng.choice([10, 200, 3000])
        slot = f"s{self.rng.randrange(SLOTS)}"
        record = self.world.mesh(index).publish(secret(size), slot=slot, now=self.world.now(index))
        self.world.settle(index)
        self.written[record.register] = record


def agree(story: Story) -> bool:
    """Whether all honest devices see each other up, and hold the same records."""
    return story.world.all_up(story.honest) and story.world.roots_equal(story.honest)


@pytest.mark.parametrize("group", seeds(SEEDS // SEEDS_EACH))
def test_whatever_happened_all_agree_and_nothing_is_lost(group: int) -> None:
    for number in range(SEEDS_EACH):
        seed = group * SEEDS_EACH + number
        story = Story(seed)
        print(f"seed {seed}: {story.villains}")
        story.play()
        world, honest = story.world, story.honest
        assert world.run_until(lambda: agree(story), AGREED_S), seed  # noqa: B023
        for record in story.written.values():
            # Of a device that was restored from a backup a word may be older than one it said in its place.
            held = world.mesh(honest[0]).ledger.get(*record.register)
            assert held is not None, (seed, record.register)
            assert held.value.seq >= record.seq, (seed, record.register)
        check_state(story)
        check_bounds(story)


def check_state(story: Story) -> None:
    """State is a function of the record set, in whatever order that came."""
    world, some = story.world, story.honest[0]
    mesh = world.mesh(some)
    records = [entry for kind in range(16) for entry in mesh.ledger.of_kind(kind)]
    story.rng.shuffle(records)
    other = Ledger(world.clan.id)
    for entry in records:
        other.apply(entry, world.now_s)
    assert other.root() == mesh.ledger.root(), story.seed
    assert fold(other, mesh.authority.final).members == mesh.authority.members, story.seed
    heads = {world.mesh(index).authority.head for index in story.honest}
    assert heads == {mesh.authority.head}, story.seed


def check_bounds(story: Story) -> None:
    """Nobody was made to send without end, and no honest device was said to be down that could be reached."""
    lasted_s = story.world.now_s - 300.0
    for index in story.honest:
        sent = story.world.devices[index].bytes_sent
        assert sent <= BYTES_AT_ONCE_MAX + BYTES_PER_S_MAX * lasted_s, (story.seed, index, sent, lasted_s)


def downs_of(world: World, observers: Iterable[int], subjects: Iterable[int]) -> list[tuple[int, float]]:
    """When any of some devices said of any of some others that it is down."""
    nodes = {world.devices[index].node for index in subjects}
    return [
        (index, at_s)
        for index in observers
        for at_s, event in world.devices[index].events
        if event.kind == "member-down" and event.node in nodes
    ]


@pytest.mark.parametrize("size", [4, 6, SIZE])
@pytest.mark.parametrize("seed", seeds(2))
def test_two_who_lie_together_make_nobody_down(seed: int, size: int) -> None:
    print(f"seed {seed}")
    rng = Random(f"{seed} {size}")
    world = settled(size, seed, loss=rng.choice([0.0, 0.05, 0.1]))
    liars = rng.sample(range(1, size), 2)
    for index in liars:
        let_loose(world, "colluder", index, rng, world.now_s + 30.0)
    world.run(45.0)
    honest = [index for index in range(size) if index not in liars]
    assert downs_of(world, honest, honest) == []
    assert world.all_up(honest)


@pytest.mark.parametrize("seed", seeds(2))
def test_nor_with_the_help_of_a_broken_link(seed: int) -> None:
    """One honest device cannot reach another: with two liars it may say so, and nobody believes it who can."""
    print(f"seed {seed}")
    rng = Random(f"{seed} cut")
    world = settled(SIZE, seed, loss=0.05)
    liars = rng.sample(range(SIZE), 2)
    honest = [index for index in range(SIZE) if index not in liars]
    blind, unseen = rng.sample(honest, 2)
    world.cut |= {(blind, unseen), (unseen, blind)}
    for index in liars:
        let_loose(world, "colluder", index, rng, world.now_s + 30.0)
    world.run(40.0)
    assert downs_of(world, [index for index in honest if index not in (blind, unseen)], honest) == []


def test_who_is_gone_is_down_whatever_two_say() -> None:
    """Else the tests above would show nothing: the same liars, and one device that does not run."""
    rng, world = Random(1), settled(SIZE, 1)
    for index in (3, 7):
        let_loose(world, "colluder", index, rng, world.now_s + 30.0)
    world.kill(5)
    honest = [index for index in world.alive if index not in (3, 7)]
    assert world.run_until(lambda: all(world.state(index, 5) == "down" for index in honest), GONE_S)
    assert {index for index, _ in downs_of(world, honest, [5])} == set(honest)
