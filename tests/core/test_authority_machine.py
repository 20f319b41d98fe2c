"""Honest and hostile moves in any order: the moves of the seeded schedules, chosen and shrunk by hypothesis."""

import os
from contextlib import suppress
from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from clanmeshd.core.tree import grow
from tests.sim.honest import Device, is_over_a_pin
from tests.sim.schedules import KnownLimit, Schedule

EXAMPLES = 100
EXAMPLES_SOAK = 5_000
MOVES_MAX = 30
IN_SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"

DICE = st.randoms(use_true_random=False)


class Clan(RuleBasedStateMachine):
    """A clan whose every die is hypothesis's. At the end everybody hears everything."""

    schedule: Schedule

    @initialize(seed=st.integers(0, 999))
    def found(self, seed: int) -> None:
        self.schedule = Schedule(seed)

    def _roll(self, dice: Random) -> None:
        self.schedule.rng = dice
        self.schedule.now_s += dice.choice([0.1, 1.0, 20.0])

    @rule(dice=DICE)
    def somebody_operates(self, dice: Random) -> None:
        self._roll(dice)
        self.schedule.operate(dice.choice(self.schedule.devices))

    @rule(dice=DICE)
    def somebody_approves(self, dice: Random) -> None:
        self._roll(dice)
        self.schedule.approve(dice.choice(self.schedule.devices))

    @rule(dice=DICE)
    def some_agree(self, dice: Random) -> None:
        self._roll(dice)
        self.schedule.agree(dice.choice(self.schedule.devices))

    @precondition(lambda self: self.schedule.clan.has_recovery)
    @rule(dice=DICE)
    def somebody_recovers(self, dice: Random) -> None:
        self._roll(dice)
        self.schedule.recover(dice.choice(self.schedule.devices))

    @rule(dice=DICE)
    def something_fails(self, dice: Random) -> None:
        self._roll(dice)
        self.schedule.trouble(dice.choice(self.schedule.devices))

    @rule(dice=DICE)
    def somebody_attacks(self, dice: Random) -> None:
        self._roll(dice)
        self.schedule.attack()

    @rule(dice=DICE)
    def two_meet(self, dice: Random) -> None:
        self._roll(dice)
        self.schedule.meet()

    @invariant()
    def nobody_follows_who_is_out(self) -> None:
        for device in self.schedule.devices:
            assert not is_over_a_pin(device.ledger, device.authority.head)

    @invariant()
    def what_is_final_is_followed(self) -> None:
        for device in self.schedule.devices:
            final = device.authority.final
            assert final is None or device.authority.follows(final)

    @invariant()
    def the_hostile_party_governs_nowhere(self) -> None:
        for device in self.schedule.devices:
            assert self.schedule.is_safe(device.authority.chain) or self._was_given_away(device)

    def _was_given_away(self, device: Device) -> bool:
        """Whether honest people alone made the hostile party strong: two of them at once, each within reason."""
        tree, schedule = grow(device.ledger), self.schedule
        turning = [
            step
            for step in tree.steps[device.authority.head].ancestry()
            if step.parent and schedule.is_safe(step.parent.state) and not schedule.is_safe(step.state)
        ]
        return all(schedule.crew.isdisjoint(step.signers) for step in turning)

    def teardown(self) -> None:
        if hasattr(self, "schedule"):
            self.schedule.rng = Random(0)
            self.schedule.come_to_rest()
            with suppress(KnownLimit):
                self.schedule.compare()


TestClan = Clan.TestCase
TestClan.settings = settings(
    max_examples=EXAMPLES_SOAK if IN_SOAK else EXAMPLES,
    stateful_step_count=MOVES_MAX,
    deadline=None,
    derandomize=not IN_SOAK,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
