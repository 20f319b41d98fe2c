"""One token in many hands while devices come and go: random schedules on whole cores, with clocks years off."""

from contextlib import suppress
from random import Random

import pytest

from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import NodeId, fingerprint_slot, sign_detached, signing_public
from clanmesh_protocol.records import Invite, Record, Revocation, redemption_input
from clanmesh_protocol.streams import Join
from clanmeshd.core.admission import Refusal
from clanmeshd.core.alarms import Outlook, alarms
from clanmeshd.core.limits import ARRIVAL_S_MAX, UPKEEP_S
from tests.core.worlds import UNIX_S, found
from tests.sim.world import World

TOKEN = bytes(range(32))
MEMBERS, COMERS = 5, 4  # the clan's devices; those that hold the token
STEPS = 14
SEEDS = 12
YEAR_S = 365 * 86_400.0


class Schedule:
    """One run of a seed. The first `admins` devices are admins; the token is for `uses` devices."""

    def __init__(self, seed: int, admins: int, uses: int) -> None:
        self.dice = Random(f"tokens {seed}")
        clan = found(MEMBERS + COMERS, seed, credentialed=MEMBERS, admins=admins)
        self.world = World(MEMBERS + COMERS, seed, clan=clan, begins=False)
        for index in range(MEMBERS):
            self.world.start(index)
        self.members = range(MEMBERS)
        self.admins = admins
        self.uses = uses
        assert self.world.run_until(lambda: self.world.all_up() and self.world.roots_equal(), 20.0)
        self.world.run(2 * ARRIVAL_S_MAX)
        content = Invite(signing_public(TOKEN), None, (), uses, int(UNIX_S) + 86_400)
        self.invite: Record = self.says(0, content, fingerprint_slot(content.key))
        assert self.world.run_until(lambda: all(self.world.holds(each, self.invite) for each in self.members), 5.0)
        self.withdrawn = False

    def says(self, index: int, content: Invite | Revocation, slot: str) -> Record:
        """A device publishes something."""
        record = self.world.mesh(index).publish(content, slot=slot, now=self.world.now(index))
        self.world.settle(index)
        return record

    def comes(self, device: int, member: int) -> None:
        """Whoever has the token is at a member's door."""
        keys, name = self.world.clan.keys[device], f"new-{device}"
        statement = redemption_input(self.world.clan.id, self.invite.id, keys.node, name)
        proofs = sign_detached(TOKEN, statement), sign_detached(keys.identity_seed, statement)
        with suppress(Refusal, ProtocolError):
            request = Join(self.invite.id, signing_public(TOKEN), keys.node, name, *proofs)
            self.world.mesh(member).admit(request, self.world.now(member))
        self.world.settle(member)

    def step(self) -> None:
        """Something happens."""
        up = [index for index in self.members if index in self.world.alive]
        index = self.dice.choice(self.members)
        match self.dice.choices(("come", "off", "on", "part", "heal", "withdraw"), (8, 4, 4, 3, 3, 1))[0]:
            case "come":
                several = self.dice.sample(up, min(len(up), self.dice.randint(1, 2)))
                for member in several:
                    self.comes(MEMBERS + self.dice.randrange(COMERS), member)
            case "off" if index in up and len(up) > 1:
                self.world.kill(index)
            case "on" if index not in up:
                self.world.start(index, wall_offset_s=self.dice.choice((0.0, 0.0, YEAR_S, -YEAR_S)))
            case "part":
                group = self.dice.sample(self.members, 2)
                self.world.partition(group, [each for each in self.members if each not in group])
            case "heal":
                self.world.heal()
            case "withdraw" if 0 in up:
                key = NodeId(signing_public(TOKEN))
                self.says(0, Revocation(key, "stolen"), fingerprint_slot(key))
                self.withdrawn = True
        self.world.run(self.dice.choice((0.0, 0.05, 1.0, 8.0)))

    def end(self) -> None:
        """All are up again, reach one another, and do what they do by themselves."""
        self.world.heal()
        for index in self.world.stopped:
            if index in self.members:
                self.world.start(index, wall_offset_s=0.0)
        self.world.run(4 * ARRIVAL_S_MAX + 2 * UPKEEP_S)
        assert self.world.roots_equal()

    def inside(self) -> list[NodeId]:
        """Those that hold the token and are members, as all agree."""
        comers = {self.world.clan.keys[MEMBERS + each].node for each in range(COMERS)}
        [inside] = {frozenset(self.world.mesh(each).authority.members.keys() & comers) for each in self.members}
        return sorted(inside)

    def told(self) -> set[str]:
        """What an admin's person is told to look into."""
        mesh = self.world.mesh(0)
        outlook = Outlook(mesh.node, mesh.ledger, mesh.authority, {}, self.world.now(0))
        return {each.kind for each in alarms(outlook)}


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize(("admins", "uses"), [(1, 1), (1, 2), (2, 1)])
def test_no_more_come_in_than_a_token_allows_or_a_person_is_told(seed: int, admins: int, uses: int) -> None:
    print("seed", seed)
    schedule = Schedule(seed, admins, uses)
    for _ in range(STEPS):
        schedule.step()
    schedule.end()
    inside, authority = schedule.inside(), schedule.world.mesh(0).authority
    assert all(authority.members[node].confirmed for node in inside)
    if len(inside) > uses:
        assert admins > 1, "a single admin's device knows whom it has let in"
        assert schedule.withdrawn or "contested-invite" in schedule.told()
    waiting = {node for each in authority.invites.values() for node in each.redeemed_by} - set(inside)
    assert bool(waiting) <= ("contested-invite" in schedule.told())
