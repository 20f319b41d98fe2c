"""The discovery secret on whole cores: who replaces it when, of those that were there and those that come back."""

from collections.abc import Callable

import pytest

from clanmesh_protocol.keys import NodeId, RecordId, fingerprint_slot
from clanmesh_protocol.records import Revocation
from clanmeshd.core.limits import ARRIVAL_S_MAX
from clanmeshd.core.wanted import DISCOVERY_NAME, newest_secrets
from clanmeshd.nearby import told_secret
from clanmeshd.resealing import Keeper
from clanmeshd.secrets.grants import TURN_S
from tests.core.worlds import found
from tests.sim.world import World

SIZE = 4
LOOK_S = 0.25  # how often each device looks after the secrets
SEEDS = 4


class Keeping:
    """A world whose devices look after the clan's secrets, each with a keeper for each of its runs."""

    def __init__(self, seed: int) -> None:
        self.world = World(SIZE, seed, clan=found(SIZE, seed, admins=SIZE))
        self._keepers: dict[tuple[int, int], Keeper] = {}
        self.nodes = [device.node for device in self.world.devices]
        self.lowest = self.nodes.index(min(self.nodes))
        self.others = [index for index in range(SIZE) if index != self.lowest]
        assert self.world.run_until(lambda: self.world.all_up() and self.world.roots_equal(), 20.0)
        self.run(2 * ARRIVAL_S_MAX)
        self._withdrawn = 0

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end_s = self.world.now_s + seconds
        while self.world.now_s < end_s:
            self.world.run(LOOK_S)
            for index in self.world.alive:
                self._look(index)

    def _look(self, index: int) -> None:
        device, mesh = self.world.devices[index], self.world.mesh(index)
        if self.world.now_s < device.paused_until_s:
            return
        keeper = self._keepers.setdefault((index, device.run), Keeper(mesh, device.keys))
        keeper.keep(mesh.up(), self.world.now(index), has_arrived=mesh.has_arrived)
        self.world.settle(index)

    def withdraw(self, by: int) -> None:
        """An admin withdraws an invite."""
        self._withdrawn += 1
        key = NodeId(bytes([self._withdrawn]) * 32)
        content = Revocation(key, "invite withdrawn")
        self.world.mesh(by).publish(content, slot=fingerprint_slot(key), now=self.world.now(by))
        self.world.settle(by)

    def standing(self) -> RecordId:
        """The value that stands, which all know and can open."""
        found = set()
        for index in self.world.alive:
            mesh = self.world.mesh(index)
            [item] = [each for each in newest_secrets(mesh.ledger, mesh.authority) if each.name == DISCOVERY_NAME]
            assert told_secret(mesh, self.world.devices[index].keys) is not None
            found.add(item.record_id)
        [record] = found
        return record


def off(world: World, index: int, seconds: float) -> Callable[[], object]:
    """A device is switched off, and on."""
    world.kill(index)
    return lambda: world.start(index)


def asleep(world: World, index: int, seconds: float) -> Callable[[], object]:
    """A machine stands still; what comes for it waits in its socket."""
    world.pause(index, seconds)
    return lambda: None


def parted(world: World, index: int, seconds: float) -> Callable[[], object]:
    """A device reaches nobody."""
    world.partition([index], [other for other in range(SIZE) if other != index])
    return world.heal


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("leaves", [off, asleep, parted])
def test_who_comes_back_replaces_nothing_that_was_replaced_meanwhile(
    seed: int, leaves: Callable[[World, int, float], Callable[[], object]]
) -> None:
    print("seed", seed)
    keeping = Keeping(seed)
    keeping.withdraw(keeping.others[0])
    keeping.run(5.0)
    first = keeping.standing()
    comes_back = leaves(keeping.world, keeping.lowest, 60.0)
    keeping.run(40.0)
    keeping.withdraw(keeping.others[0])
    keeping.run(20.0)
    kept = keeping.world.mesh(keeping.others[0])
    second = next(each for each in newest_secrets(kept.ledger, kept.authority) if each.name == DISCOVERY_NAME)
    assert second.record_id != first
    assert second.author == min(keeping.nodes[index] for index in keeping.others)
    comes_back()
    keeping.run(10.0)
    assert keeping.standing() == second.record_id
    keeping.run(SIZE * TURN_S)
    assert keeping.standing() == second.record_id


@pytest.mark.parametrize("leaves", [off, asleep, parted])
def test_who_comes_back_replaces_the_next_one(
    leaves: Callable[[World, int, float], Callable[[], object]],
) -> None:
    keeping = Keeping(1)
    keeping.withdraw(keeping.others[0])
    keeping.run(5.0)
    comes_back = leaves(keeping.world, keeping.lowest, 40.0)
    keeping.run(40.0)
    comes_back()
    keeping.run(2 * ARRIVAL_S_MAX)
    before = keeping.standing()
    keeping.withdraw(keeping.others[0])
    keeping.run(2.0)
    assert keeping.standing() != before
