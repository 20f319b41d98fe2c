"""Tunnel keys that change in a clan of cores: everybody ends with the same keys, whoever crashes or is away."""

from itertools import pairwise
from random import Random

import pytest

from clanmesh_protocol.keys import exchange_public, tunnel_private
from clanmesh_protocol.records import Setting
from clanmeshd.core.effects import SetTunnels
from clanmeshd.core.limits import PREKEY_CHECK_S, TUNNEL_APPLY_S_MAX
from clanmeshd.core.tunnel_keys import SETTING
from tests.sim.world import Device, World

APPLY_S = 0.05  # what WireGuard takes to have another key
DONE_S = 30.0
DAY_S = 86_400.0


class Overlays(World):
    """A world whose devices have a WireGuard each: it does what it is told, a little later."""

    def _settle(self, device: Device) -> None:
        super()._settle(device)
        states = device.states.get("SetTunnels")
        if device.mesh is None or not states:
            return
        _, wanted = states[-1]
        assert isinstance(wanted, SetTunnels)
        if self.applied.get(device.index) != wanted.private_key:
            self.applied[device.index] = wanted.private_key
            self.history.append((self.now_s, device.index))
            run = device.run
            self.at(self.now_s + APPLY_S, lambda: self._tell(device, run, wanted.private_key))

    def _tell(self, device: Device, run: int, private_key: bytes) -> None:
        if device.mesh is not None and device.run == run:
            device.mesh.tunnel_key_applied(exchange_public(private_key), self.clock(device))
            self._settle(device)

    @property
    def applied(self) -> dict[int, bytes]:
        """The private key that each WireGuard was given last."""
        return self.__dict__.setdefault("_applied", {})

    @property
    def history(self) -> list[tuple[float, int]]:
        """When which device was given another one."""
        return self.__dict__.setdefault("_history", [])

    def rotate(self, index: int) -> bool:
        """What the command does."""
        begun = self.mesh(index).rotate(self.now(index))
        self.settle(index)
        return begun

    def numbers(self) -> list[int]:
        """How many tunnel keys each device has had, by its disk."""
        return [device.keys.tunnel_number for device in self.devices]

    def changing(self) -> bool:
        """Whether a change is under way anywhere."""
        return any(device.keys.tunnel_next is not None for device in self.devices)

    def agree(self) -> bool:
        """Whether each running device's tunnels are by the key that each other one's WireGuard has."""
        return all(self._has_right_keys(index) for index in self.alive)

    def _has_right_keys(self, index: int) -> bool:
        _, wanted = self.devices[index].states["SetTunnels"][-1]
        assert isinstance(wanted, SetTunnels)
        found = {tunnel.node: tunnel.public_key for tunnel in wanted.tunnels}
        return all(
            found.get(self.devices[other].node) == exchange_public(self.applied[other])
            for other in self.alive
            if other != index
        )


@pytest.fixture(params=range(3))
def world(request: pytest.FixtureRequest) -> Overlays:
    print(f"seed {request.param}")
    world = Overlays(3, request.param, loss=0.02, duplication=0.02)
    assert world.run_until(lambda: world.all_up(range(3)) and world.agree(), 30.0)
    return world


def test_all_change_at_the_same_moment_one_after_another(world: Overlays) -> None:
    world.history.clear()
    before = dict(world.applied)
    assert [world.rotate(index) for index in range(3)] == [True] * 3
    assert not world.rotate(0), "one is under way"
    assert world.run_until(lambda: world.numbers() == [2, 2, 2] and world.agree(), DONE_S)
    assert all(world.applied[index] != before[index] for index in range(3))
    times = [at_s for at_s, _ in world.history]
    assert all(later - earlier > 1.0 for earlier, later in pairwise(times)), times
    order = [world.devices[index].node for _, index in world.history]
    assert order == sorted(order)
    assert not world.changing()
    assert world.all_up()


def test_nobody_waits_for_one_that_is_away_and_it_comes_back(world: Overlays) -> None:
    world.kill(2)
    assert world.run_until(lambda: world.state(0, 2) == "down", 60.0)
    world.rotate(0)
    assert world.run_until(lambda: world.numbers()[0] == 2, DONE_S)
    world.start(2)
    assert world.run_until(lambda: world.all_up() and world.agree(), DONE_S)


def test_a_crash_at_any_moment_leaves_everybody_with_the_right_key(world: Overlays) -> None:
    rng = Random(f"crash {world.seed}")
    for _ in range(4):
        world.rotate(0)
        world.run(rng.uniform(0.0, 4.0))
        published = world.devices[0].keys.tunnel_seed
        world.kill(0)
        world.applied.pop(0)
        world.run(rng.uniform(0.0, 3.0))
        world.start(0)
        assert world.applied[0] == tunnel_private(published), "it comes back with the key that it had stored"
        done = world.run_until(lambda: not world.changing() and world.all_up() and world.agree(), 2 * DONE_S)
        assert done, world.numbers()


def test_a_key_changes_by_itself_when_it_is_old_unless_the_clan_says_never() -> None:
    world = Overlays(2, 11)
    assert world.run_until(lambda: world.all_up(range(2)) and world.agree(), 30.0)
    world.mesh(0).publish_operation(Setting(SETTING, "0"), world.now(0))
    world.settle(0)
    world.run(2.0)
    for device in world.devices:
        world.kill(device.index)
        device.wall_offset_s += 40 * DAY_S
        world.start(device.index)
    world.run(10.0)
    assert world.numbers() == [1, 1]
    world.mesh(0).publish_operation(Setting(SETTING, "10"), world.now(0))
    world.settle(0)
    assert world.run_until(lambda: world.numbers() == [2, 2], PREKEY_CHECK_S + 120.0)
    world.run(60.0)
    assert world.numbers() == [2, 2], "and not again"


def test_without_wireguard_the_change_ends_too() -> None:
    world = World(2, 7)
    assert world.run_until(lambda: world.all_up(range(2)), 30.0)
    assert world.mesh(0).rotate(world.now(0))
    world.settle(0)
    assert world.run_until(lambda: world.devices[0].keys.tunnel_number == 2, TUNNEL_APPLY_S_MAX + DONE_S)


def test_one_that_is_parted_changes_alone_and_is_understood_later(world: Overlays) -> None:
    world.partition([0, 1], [2])
    world.run(5.0)
    world.rotate(2)
    world.run(10.0)
    world.heal()
    assert world.run_until(lambda: world.all_up() and world.agree(), 60.0)


def test_the_next_key_is_stored_before_anybody_hears_of_it(world: Overlays) -> None:
    """The world asserts the order of effects; what must be in front is there at all."""
    world.rotate(1)
    assert world.devices[1].keys.tunnel_next is not None
    world.kill(1)
    world.start(1)
    assert world.run_until(lambda: world.numbers()[1] == 2 and world.agree(), DONE_S)
