"""An admin's device that comes back confirms nobody before it has heard whether the invite is contested."""

from collections.abc import Callable

import pytest

from clanmesh_protocol.keys import fingerprint_slot, sign_detached, signing_public
from clanmesh_protocol.records import Invite, Record, redemption_input
from clanmesh_protocol.streams import Join
from clanmeshd.core.limits import ARRIVAL_S_MAX, ARRIVAL_S_MIN
from tests.core.worlds import UNIX_S, found
from tests.sim.world import World

TOKEN = bytes(range(32))
ADMIN, OWNER, THIEF = 0, 4, 5  # 1 to 3 are members; the last two have one token
SEEDS = 5


def with_an_invite(seed: int, uses: int = 1) -> tuple[World, Record]:
    """A clan of four that has heard of an invite."""
    clan = found(6, seed, credentialed=4)
    world = World(6, seed, clan=clan, begins=False)
    for index in range(4):
        world.start(index)
    assert world.run_until(lambda: world.all_up() and world.roots_equal(), 20.0)
    world.run(2 * ARRIVAL_S_MAX)
    content = Invite(signing_public(TOKEN), None, (), uses, int(UNIX_S) + 86_400)
    invite = world.mesh(ADMIN).publish(content, slot=fingerprint_slot(content.key), now=world.now(ADMIN))
    world.settle(ADMIN)
    assert world.run_until(lambda: all(world.holds(index, invite) for index in world.alive), 5.0)
    return world, invite


def lets_in(world: World, member: int, invite: Record, device: int) -> None:
    """A device comes to a member's door with the token."""
    keys = world.clan.keys[device]
    statement = redemption_input(world.clan.id, invite.id, keys.node, f"new-{device}")
    proofs = sign_detached(TOKEN, statement), sign_detached(keys.identity_seed, statement)
    request = Join(invite.id, signing_public(TOKEN), keys.node, f"new-{device}", *proofs)
    world.mesh(member).admit(request, world.now(member))
    world.settle(member)


def confirmed(world: World, device: int) -> bool:
    """Whether an admin's word stands behind a device, as its own device knows."""
    member = world.mesh(ADMIN).authority.members.get(world.clan.keys[device].node)
    return member is not None and member.confirmed


def off(world: World) -> Callable[[], object]:
    """The admin's device is switched off, and on."""
    world.kill(ADMIN)
    return lambda: world.start(ADMIN)


def asleep(world: World) -> Callable[[], object]:
    """The admin's machine stands still; what comes for it waits in its socket."""
    world.pause(ADMIN, 30.0)
    return lambda: None


def parted(world: World) -> Callable[[], object]:
    """The admin's device reaches nobody."""
    return lambda: None


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("leaves", [off, asleep, parted])
def test_who_comes_back_to_a_contested_invite_confirms_neither(
    seed: int, leaves: Callable[[World], Callable[[], object]]
) -> None:
    print("seed", seed)
    world, invite = with_an_invite(seed)
    comes_back = leaves(world)
    world.partition([ADMIN], [1, 3], [2])
    world.run(29.0)
    lets_in(world, 1, invite, OWNER)
    lets_in(world, 2, invite, THIEF)
    world.run(1.0)
    world.heal()
    comes_back()
    world.run(4 * ARRIVAL_S_MAX)
    authority = world.mesh(ADMIN).authority
    assert authority.suspended == {world.clan.keys[index].node for index in (OWNER, THIEF)}


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("leaves", [off, asleep, parted])
def test_who_comes_back_confirms_whom_nobody_contests(
    seed: int, leaves: Callable[[World], Callable[[], object]]
) -> None:
    print("seed", seed)
    world, invite = with_an_invite(seed)
    comes_back = leaves(world)
    world.partition([ADMIN], [1, 2, 3])
    world.run(29.0)
    lets_in(world, 1, invite, OWNER)
    world.run(1.0)
    world.heal()
    comes_back()
    assert world.run_until(lambda: world.all_up(range(4)), 10.0)
    assert world.run_until(lambda: confirmed(world, OWNER), ARRIVAL_S_MAX)


def test_who_was_there_confirms_as_soon_as_it_hears_and_one_alone_at_its_own_door() -> None:
    world, invite = with_an_invite(1, uses=2)
    lets_in(world, 1, invite, OWNER)
    world.run(0.01)
    assert confirmed(world, OWNER)
    world.partition([ADMIN], [1, 2, 3])
    world.run(60.0)
    lets_in(world, ADMIN, invite, THIEF)
    assert confirmed(world, THIEF)


def test_a_start_among_members_that_hold_the_same_is_over_in_a_moment() -> None:
    world, _ = with_an_invite(1)
    world.kill(ADMIN)
    world.run(1.0)
    world.start(ADMIN)
    assert not world.mesh(ADMIN).has_arrived
    assert world.run_until(lambda: world.mesh(ADMIN).has_arrived, ARRIVAL_S_MIN + 0.3)
