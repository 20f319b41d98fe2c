"""Half of a large clan vanishes at once, and comes back: neither may drown those who are left, nor take long."""

from random import Random

from tests.core.test_mesh_records import secret
from tests.sim.settled import part, settled
from tests.sim.world import World

SIZE = 40
DATAGRAMS_MAX = 1200  # of a device, while it loses half of the others: a dozen pings to each, and the news
HEALED_S = 6.0  # the records are there before; it is the last pair that has not spoken yet
RECORDS = 20  # of each half
SPREAD_S = 3.0


def halves() -> tuple[range, range]:
    """The two groups."""
    return range(SIZE // 2), range(SIZE // 2, SIZE)


def sent(world: World) -> float:
    """Datagrams that a device has sent, on average."""
    return sum(device.datagrams_sent for device in world.devices) / SIZE


def test_a_cut_is_known_to_all_without_a_storm() -> None:
    world = settled(SIZE, 1)
    here, there = halves()
    world.partition(here, there)
    before = sent(world)
    known = lambda: all(world.state(observer, lost) == "down" for observer in here for lost in there)  # noqa: E731
    assert world.run_until(known, 30.0)
    print(f"{sent(world) - before:.0f} datagrams of each by {world.now_s:.1f} s")
    assert sent(world) - before <= DATAGRAMS_MAX


def test_what_either_half_wrote_is_soon_everywhere_when_they_meet() -> None:
    world, rng = settled(SIZE, 2), Random(2)
    part(world, *halves())
    records = []
    for number in range(RECORDS):
        for half in halves():
            index = rng.choice(half)
            records.append(world.mesh(index).publish(secret(64), slot=f"s{number}", now=world.now(index)))
            world.settle(index)
    world.run(10.0)
    assert not world.roots_equal()
    world.heal()
    began_s = world.now_s
    everywhere = lambda: all(world.holds(index, record) for index in range(SIZE) for record in records)  # noqa: E731
    assert world.run_until(everywhere, SPREAD_S)
    print(f"everywhere after {world.now_s - began_s:.1f} s")
    assert world.run_until(world.all_up, HEALED_S)
    assert world.roots_equal()
