"""Starts, restarts, clocks set back, disks restored: a core must be back among its peers within seconds."""

from dataclasses import replace
from random import Random

import pytest

from clanmesh_protocol.encoding import UINT64_MAX
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.records import SINGLE_SLOT, Kind, Node, Record, Secret, Status
from clanmesh_protocol.signing import Verified
from clanmeshd.core.effects import Announce
from clanmeshd.core.hlc import HybridClock
from clanmeshd.core.prekeys import rotated, sending_prekey
from tests.core.test_mesh_records import formed, secret
from tests.core.worlds import UNIX_S, found, status
from tests.sim.world import World

HOUR_S = 3600.0
DAY_S = 86_400.0


def statuses(world: World, subject: int) -> list[int | None]:
    """What each running device believes to be another's newest status, by its number."""
    node = world.devices[subject].node
    entries = [world.mesh(index).ledger.get(node, Kind.STATUS, SINGLE_SLOT) for index in world.alive]
    contents = [entry.content if entry is not None else None for entry in entries]
    return [content.secrets_epoch if isinstance(content, Status) else None for content in contents]


def days_pass(world: World, days: int) -> None:
    """Let days pass in which the devices sleep, but for some seconds each night."""
    for _ in range(days):
        world.sleep(DAY_S)
        world.run(5.0)


def value(world: World, index: int, author: NodeId) -> Secret | None:
    """What a device holds as an author's secret."""
    entry = world.mesh(index).ledger.get(author, Kind.SECRET, "wifi")
    assert entry is None or isinstance(entry.content, Secret)
    return entry.content if entry is not None else None


class TestRestart:
    def test_is_noticed_and_over_within_a_second(self) -> None:
        world = formed(4)
        world.kill(1)
        world.run(0.2)
        world.start(1)
        assert world.run_until(world.all_up, 1.0)

    def test_gives_and_gets_every_status_at_once(self) -> None:
        world = formed(4)
        world.kill(1)
        world.run(10.0)
        world.start(1)
        assert world.run_until(lambda: all(statuses(world, subject) == [0] * 4 for subject in range(4)), 0.6)

    def test_after_being_down_too(self) -> None:
        world = formed(4)
        world.kill(1)
        assert world.run_until(lambda: all(world.state(i, 1) == "down" for i in world.alive), 10.0)
        world.start(1)
        assert world.run_until(lambda: world.all_up() and world.roots_equal(), 1.0)

    def test_all_at_once(self) -> None:
        world = formed(5)
        for index in range(5):
            world.kill(index)
        world.run(5.0)
        for index in range(5):
            world.start(index)
        assert world.run_until(lambda: world.all_up() and world.roots_equal(), 2.0)

    @pytest.mark.parametrize("hours_back", [1, 24 * 365 * 20])
    def test_with_the_clock_set_back(self, hours_back: int) -> None:
        world = formed(3)
        world.mesh(1).set_status(status(41), world.now(1))
        world.settle(1)
        world.kill(1)
        world.run(5.0)
        mesh = world.start(1, wall_offset_s=-hours_back * HOUR_S)
        world.mesh(1).set_status(status(42), world.now(1))
        world.settle(1)
        assert world.run_until(lambda: world.all_up() and world.roots_equal(), 3.0)
        assert world.run_until(lambda: statuses(world, 1) == [42, 42, 42], 3.0)
        record = mesh.publish(secret(7), slot="wifi", now=world.now(1))
        world.settle(1)
        assert world.run_until(lambda: all(world.holds(index, record) for index in range(3)), 2.0)

    def test_with_the_clock_set_back_and_the_status_lapsed_at_all_peers(self) -> None:
        world = formed(3)
        world.mesh(1).set_status(status(41), world.now(1))
        world.settle(1)
        world.run(1.0)
        world.kill(1)
        world.sleep(HOUR_S / 2)
        world.run(10.0)
        assert statuses(world, 1) == [None, None]
        world.start(1, wall_offset_s=-2 * HOUR_S)
        world.mesh(1).set_status(status(42), world.now(1))
        world.settle(1)
        assert world.run_until(lambda: statuses(world, 1) == [42, 42, 42], 5.0)

    def test_a_device_with_its_clock_ahead_hurts_nobody(self) -> None:
        world = World(3, 5)
        world.devices[1].wall_offset_s = 50 * 365 * DAY_S
        assert world.run_until(lambda: len(world.alive) == 3 and world.all_up() and world.roots_equal(), 10.0)
        world.kill(1)
        world.run(10.0)
        world.start(1, wall_offset_s=0.0)
        world.mesh(1).set_status(status(9), world.now(1))
        world.settle(1)
        assert world.run_until(lambda: statuses(world, 1) == [9, 9, 9], 5.0)


class TestRestoredDisk:
    def aged(self) -> tuple[World, list[Verified[Record]]]:
        """A world, and a copy of device 1's disk from before it wrote its secret."""
        world = formed(3)
        backup = list(world.devices[1].disk)
        for size in (10, 11):
            world.mesh(1).publish(secret(size), slot="wifi", now=world.now(1))
            world.settle(1)
            world.run(1.0)
        world.kill(1)
        world.run(6.0)
        world.devices[1].disk = backup
        return world, backup

    @pytest.mark.parametrize("clock_s", [0.0, -HOUR_S])
    def test_what_was_written_since_comes_back(self, clock_s: float) -> None:
        world, _ = self.aged()
        world.start(1, wall_offset_s=clock_s)
        assert world.run_until(lambda: world.all_up() and world.roots_equal(), 5.0)
        assert [value(world, index, world.devices[1].node) for index in range(3)] == [secret(11)] * 3

    @pytest.mark.parametrize("clock_s", [0.0, -HOUR_S])
    def test_what_is_written_before_that_stands_above_it(self, clock_s: float) -> None:
        # The first write of this run is numbered below what the peers hold: they show theirs, we say ours again.
        world, _ = self.aged()
        world.start(1, wall_offset_s=clock_s)
        world.mesh(1).publish(secret(99), slot="wifi", now=world.now(1))
        world.settle(1)
        assert world.run_until(lambda: world.all_up() and world.roots_equal(), 8.0)
        assert [value(world, index, world.devices[1].node) for index in range(3)] == [secret(99)] * 3

    def test_a_withdrawal_stands_too(self) -> None:
        world, _ = self.aged()
        world.start(1, wall_offset_s=-HOUR_S)
        gone = world.mesh(1).withdraw(Kind.SECRET, "wifi", world.now(1))
        world.settle(1)
        assert world.run_until(lambda: world.all_up() and world.roots_equal(), 8.0)
        assert gone.payload == b""
        entry = world.mesh(2).ledger.get(world.devices[1].node, Kind.SECRET, "wifi")
        assert entry is not None
        assert entry.value.payload == b""

    def test_keys_and_disk_of_last_month_are_enough(self) -> None:
        # The prekeys that peers would seal with are gone, and so are ours at their side.
        world = formed(3)
        backup, keys = list(world.devices[1].disk), world.devices[1].keys
        days_pass(world, 3)
        assert keys.prekeys[-1][0] not in {number for number, _, _ in world.devices[1].keys.prekeys}
        world.kill(1)
        world.run(10.0)
        world.devices[1].disk, world.devices[1].keys = backup, keys
        world.start(1, wall_offset_s=-3 * DAY_S)
        assert world.run_until(lambda: world.all_up() and world.roots_equal(), 10.0)


class TestClone:
    def test_an_argument_with_a_copy_of_oneself_ends_and_is_announced(self) -> None:
        # A copied disk: whatever this device says, peers show a later word under its own key.
        world = formed(2)
        mesh, peer = world.mesh(0), world.devices[1].node
        said = []
        for number in range(400):
            own = mesh.ledger.get(mesh.node, Kind.NODE, SINGLE_SLOT)
            assert own is not None
            assert isinstance(own.content, Node)
            other = replace(own.content, tunnel_port=number + 1)
            data = world.clan.sign(0, other, slot=SINGLE_SLOT, seq=own.value.seq + 10)
            mesh.receive_record(data, peer, world.now())
            said += [
                effect for effect in mesh.effects() if isinstance(effect, Announce) and effect.kind == "clone"
            ]
        assert mesh.ledger.get(mesh.node, Kind.NODE, SINGLE_SLOT) is not None
        assert len(said) == 1
        assert len(mesh.ledger) == len(world.mesh(1).ledger)

    def test_what_it_was_told_to_publish_is_said_again_a_bounded_number_of_times(self) -> None:
        world = formed(2)
        mesh, peer = world.mesh(0), world.devices[1].node
        mesh.publish(secret(1), slot="wifi", now=world.now())
        repeats = 0
        for number in range(400):
            own = mesh.ledger.get(mesh.node, Kind.SECRET, "wifi")
            assert own is not None
            data = world.clan.sign(0, secret(number + 2), slot="wifi", seq=own.value.seq + 10)
            mesh.receive_record(data, peer, world.now())
            repeats += value(world, 0, mesh.node) == secret(1)
        assert 100 <= repeats <= 130


class TestPrekeys:
    def test_change_daily_and_nobody_loses_anybody(self) -> None:
        world = formed(3)
        first = world.devices[0].keys.prekeys
        days_pass(world, 3)
        assert not set(first) & set(world.devices[0].keys.prekeys)
        assert world.run_until(world.all_up, 5.0)
        assert not [event for device in world.devices for _, event in device.events if event.kind == "member-down"]

    def test_are_stored_before_they_are_told(self) -> None:
        world = formed(2)
        days_pass(world, 2)
        for device in world.devices:
            entry = world.mesh(0).ledger.get(device.node, Kind.NODE, SINGLE_SLOT)
            assert entry is not None
            assert isinstance(entry.content, Node)
            assert [number for number, _ in entry.content.prekeys] == [n for n, _, _ in device.keys.prekeys]

    def test_two_who_missed_each_others_changes_find_together(self) -> None:
        world = formed(2)
        world.partition([0], [1])
        days_pass(world, 4)
        world.heal()
        assert world.run_until(lambda: world.all_up() and world.roots_equal(), 30.0)

    def test_bounds(self) -> None:
        keys = found(1).keys[0]
        rng = Random(1)
        for day in range(600):
            now_s = UNIX_S + day * DAY_S
            keys = rotated(keys, rng.randbytes, now_s) or keys
            numbers = [number for number, _, _ in keys.prekeys]
            assert len(numbers) == len(set(numbers)) <= 4

    def test_the_last_one_is_kept_however_old(self) -> None:
        keys = found(1).keys[0]
        after = rotated(keys, Random(1).randbytes, UNIX_S + 30 * DAY_S)
        assert after is not None
        assert [number for number, _, _ in after.prekeys] == [0, 1]

    def test_a_new_one_is_not_sealed_with_at_once(self) -> None:
        keys = rotated(found(1).keys[0], Random(1).randbytes, UNIX_S + DAY_S)
        assert keys is not None
        assert sending_prekey(keys, UNIX_S + DAY_S + 1) == keys.prekeys[-2][0]
        assert sending_prekey(keys, UNIX_S + DAY_S + 100) == keys.prekeys[-1][0]

    def test_a_clock_set_back_does_not_change_them_without_end(self) -> None:
        keys = found(1).keys[0]
        assert rotated(keys, Random(1).randbytes, UNIX_S - 10 * DAY_S) is None


class TestClock:
    def test_grows_past_everything_seen(self) -> None:
        clock = HybridClock()
        clock.observe(int(UNIX_S * 1000) << 20)
        assert clock.next(UNIX_S) == (int(UNIX_S * 1000) << 20) + 1

    def test_follows_the_wall_otherwise(self) -> None:
        assert HybridClock().next(UNIX_S) >> 16 == int(UNIX_S * 1000)

    @pytest.mark.parametrize("now_s", [-5.0, 0.0, 1e300])
    def test_survives_any_clock(self, now_s: float) -> None:
        clock = HybridClock()
        assert 0 < clock.next(now_s) <= UINT64_MAX
        assert clock.next(0.0) <= UINT64_MAX
