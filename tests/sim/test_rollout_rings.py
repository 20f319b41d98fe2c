"""No bad commit gets past the testers, over many clans with lost links, late testers and testers that lie."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import pytest

from clanmesh_protocol.records import Kind, RolloutState, Verb
from clanmeshd.rollout.rings import Ring
from tests.seeds import seeds
from tests.sim.rollouts import Rollouts, clan_with_testers, commit_of
from tests.sim.world import World

RUNS = 104
LOOKED_AT = 6  # of those, whether they show anything
TROUBLES = 8  # in each run
BETWEEN_S = 4.0  # two of them
SUSPENDED_S = 10.0  # at most
HEALED_S = 30.0  # after the last one, until the better commit runs everywhere: mostly enough
HEALED_ROUNDS = 4  # and this often, where a device knew nobody
SOAK_S = 5
GOOD, BAD, BETTER = 2, 3, 4


@dataclass
class Story:
    """One clan, and what happens to it."""

    seed: int

    def __post_init__(self) -> None:
        self.rng = Random(f"rings {self.seed}")
        self.testers = frozenset(range(1, 1 + self.rng.choice((3, 3, 3, 4, 5))))
        self.size = len(self.testers) + self.rng.randint(2, 4)
        self.others = [index for index in range(self.size) if index not in self.testers]
        self.liars = (
            frozenset(self.rng.sample(sorted(self.testers), 1)) if self.rng.random() < 0.6 else frozenset()
        )
        self.late = frozenset(self.rng.sample(sorted(self.testers - self.liars), 1))
        clan = clan_with_testers(self.size, self.testers, self.seed)
        self.world = World(self.size, self.seed, clan=clan, loss=self.rng.choice((0.0, 0.05)), begins=False)
        rings = (Ring("testers", 0, SOAK_S),)
        self.rollouts = Rollouts(self.world, rings, bad=frozenset({commit_of(BAD)}), liars=self.liars)

    def tell(self) -> None:
        """A good commit, a bad one, trouble, and a better one at the end."""
        for index in range(self.size):
            if index not in self.late:
                self.world.start(index)
        self.rollouts.push(0, GOOD)
        self.trouble(TROUBLES // 3)
        self.rollouts.push(self.rng.choice(self.world.alive), BAD)
        self.trouble(TROUBLES)
        self.heal()
        self.rollouts.push(0, BETTER)

    def trouble(self, times: int) -> None:
        """Things that happen, one after the other; what must never be is looked for in between."""
        for _ in range(times):
            self.rng.choice((self.part, self.part, self.kill, self.start, self.suspend, self.hide))()
            self.world.run(self.rng.uniform(0.5, 2 * BETWEEN_S))
            self.look()

    def part(self) -> None:
        """Break the network in two or three, or mend it."""
        pieces = self.rng.randint(1, 3)
        sides = [[index for index in range(self.size) if index % pieces == side] for side in range(pieces)]
        self.world.heal()
        self.world.partition(*sides)

    def hide(self) -> None:
        """Cut the testers off from all others."""
        self.world.partition(sorted(self.testers), self.others)

    def kill(self) -> None:
        """Take a device's power."""
        victims = [index for index in self.world.alive if index]
        if len(victims) > self.size // 2:
            self.world.kill(self.rng.choice(victims))

    def start(self) -> None:
        """Switch one on that is off: a late tester among them."""
        if self.world.stopped:
            self.world.start(self.rng.choice(self.world.stopped))

    def suspend(self) -> None:
        """Let a device hang for a while."""
        self.world.pause(self.rng.choice(self.world.alive), self.rng.uniform(1.0, SUSPENDED_S))

    def heal(self) -> None:
        """Mend everything."""
        self.world.heal()
        for index in self.world.stopped:
            self.world.start(index)

    def comes_to_all(self, number: int) -> bool:
        """Whether all honest devices run a commit in time."""
        honest = [index for index in range(self.size) if index not in self.liars]
        for _ in range(HEALED_ROUNDS):
            if self.world.run_until(lambda: all(self.rollouts.runs(i) == number for i in honest), HEALED_S):
                return True
            self.world.heal()  # who still knows nobody is told of somebody once more, as mDNS would
        return False

    def look(self) -> None:
        """No device outside of the ring has ever begun to run the bad commit."""
        for index in self.others:
            assert commit_of(BAD) not in self.rollouts.machines[index].ran, (self.seed, index)


@pytest.mark.parametrize("seed", seeds(RUNS))
def test_no_other_device_ever_runs_what_testers_go_back_from(seed: int) -> None:
    story = Story(seed)
    story.tell()
    done = story.comes_to_all(BETTER)
    story.look()
    runs = {index: story.rollouts.runs(index) for index in range(story.size)}
    assert done, f"seed {seed}: the better commit did not come to all: {runs}, liars {sorted(story.liars)}"


def test_in_most_of_them_testers_did_try_it() -> None:
    """Else what holds above would hold for nothing."""
    tried = 0
    for seed in seeds(LOOKED_AT):
        story = Story(seed)
        story.tell()
        tried += any(commit_of(BAD) in story.rollouts.machines[index].ran for index in story.testers - story.liars)
    assert tried >= LOOKED_AT - 1


# --- what people say -----------------------------------------------------------------------------------


def calm(testers: int, *, bad: bool = True, liars: frozenset[int] = frozenset()) -> tuple[World, Rollouts]:
    """A clan of some testers and three others without trouble, all up."""
    size = testers + 4
    clan = clan_with_testers(size, frozenset(range(1, testers + 1)), 7)
    world = World(size, 7, clan=clan, begins=False)
    rings = (Ring("testers", 0, SOAK_S),)
    broken = frozenset({commit_of(BAD)} if bad else ())
    rollouts = Rollouts(world, rings, bad=broken, liars=liars)
    for index in range(size):
        world.start(index)
    assert world.run_until(world.all_up, 30.0)
    return world, rollouts


def everywhere(rollouts: Rollouts, number: int) -> Callable[[], bool]:
    return lambda: all(rollouts.runs(index) == number for index in range(len(rollouts.machines)))


def test_a_commit_goes_to_the_testers_first_and_to_the_others_after_its_time() -> None:
    world, rollouts = calm(3)
    began_s = world.now_s
    rollouts.push(5, GOOD)
    assert world.run_until(lambda: any(rollouts.runs(index) == GOOD for index in (4, 5, 6)), 60.0)
    assert world.now_s >= began_s + SOAK_S
    assert sum(rollouts.runs(index) == GOOD for index in (1, 2, 3)) >= 2
    assert world.run_until(everywhere(rollouts, GOOD), 60.0)


def test_one_tester_cannot_veto_and_its_word_is_known_everywhere() -> None:
    world, rollouts = calm(3, bad=False, liars=frozenset({2}))
    rollouts.push(0, GOOD)
    honest = [index for index in range(7) if index != 2]
    assert world.run_until(lambda: all(rollouts.runs(index) == GOOD for index in honest), 60.0)


def test_a_bad_commit_is_known_to_be_bad_everywhere() -> None:
    world, rollouts = calm(3)
    rollouts.push(0, BAD)
    node = world.devices[1].node

    def known() -> bool:
        shown = (
            next(peer.status for peer in world.mesh(index).peers(world.now(index)) if peer.node == node)
            for index in range(7)
        )
        return all(status is not None and commit_of(BAD) in status.bad_commits for status in shown)

    assert world.run_until(known, 60.0)
    world.run(60.0)
    assert {rollouts.runs(index) for index in range(7)} == {1}


def test_a_pause_holds_testers_too_and_a_promotion_lets_all_go() -> None:
    world, rollouts = calm(3, bad=False)
    rollouts.order(0, Verb.PAUSE)
    world.run(2.0)
    rollouts.push(4, GOOD)
    world.run(60.0)
    assert {rollouts.runs(index) for index in range(7)} == {1}
    rollouts.order(0, Verb.PROMOTE, GOOD)
    began_s = world.now_s
    rollouts.order(0, Verb.RESUME)
    assert world.run_until(lambda: all(rollouts.runs(index) == GOOD for index in (4, 5, 6)), SOAK_S + 2.0)
    assert world.now_s < began_s + SOAK_S + 2.0


def test_a_retry_by_an_admin_reaches_every_device_where_it_failed() -> None:
    world, rollouts = calm(3)
    rollouts.push(0, BAD)
    assert world.run_until(lambda: all(rollouts.machines[i].memory.bad for i in (1, 2, 3)), 60.0)
    rollouts.bad = frozenset()  # it was the weather
    rollouts.order(0, Verb.RETRY, BAD)
    assert world.run_until(everywhere(rollouts, BAD), 120.0)
    tried = [machine.ran.count(commit_of(BAD)) for machine in rollouts.machines]
    assert tried[1:4] == [2, 2, 2]


def test_statuses_do_not_keep_a_clan_busy() -> None:
    world, rollouts = calm(3, bad=False)
    rollouts.push(0, GOOD)
    assert world.run_until(everywhere(rollouts, GOOD), 60.0)
    world.run(20.0)
    said = statuses(world)
    assert len(said) == 7
    world.run(60.0)
    assert statuses(world) == said
    assert {state_of_device(world, index) for index in range(7)} == {RolloutState.CURRENT}


def statuses(world: World) -> set[bytes]:
    """The words that all have of how each is."""
    return {entry.value.id for entry in world.mesh(0).ledger.of_kind(Kind.STATUS)}


def state_of_device(world: World, index: int) -> RolloutState:
    status = next(
        peer.status for peer in world.mesh(0).peers(world.now(0)) if peer.node == world.devices[index].node
    )
    assert status is not None
    return status.rollout
