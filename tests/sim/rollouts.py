"""A clan of whole cores whose devices roll commits out, by the daemon's rules and without its git and scripts.

What is real: the gossip of heads, statuses and directives, what the core tells the rollout, and every decision
about whose turn it is and what is shown. What stands in for git and activation: commits are numbers in a line, the
newest that is claimed is wanted, and trying one takes a time that the dice say.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Final

from clanmesh_protocol.records import Directive, Head, RolloutState, SecretsState, Status, Verb
from clanmesh_protocol.signing import read_untrusted
from clanmeshd.core.directives import directive
from clanmeshd.core.effects import SetRollout
from clanmeshd.rollout.journal import CURRENT, ROLLED_BACK, Entry, Memory
from clanmeshd.rollout.rings import Go, Ring, gate
from clanmeshd.rollout.standing import Facts, state_of
from tests.core.worlds import Clan, credential, found
from tests.sim.world import Device, World

REF: Final = "main"
TAG: Final = "testers"
TRYING_S: Final = (0.5, 5.0)  # building, activating and checking
LOOK_S: Final = 0.1  # how soon a device acts on what it was told
COMMIT_BYTES: Final = 20


def commit_of(number: int) -> bytes:
    """The n-th commit of the one line that there is."""
    return number.to_bytes(COMMIT_BYTES, "big")


def number_of(commit: bytes) -> int:
    """Its place in the line."""
    return int.from_bytes(commit, "big")


def clan_with_testers(size: int, testers: frozenset[int], seed: int) -> Clan:
    """A clan in which some devices have the tag."""
    plain = found(size, seed)
    told = [
        read_untrusted(credential(plain.id, plain.keys, index, (TAG,) if index in testers else ()), plain.id)
        for index in range(size)
    ]
    return replace(plain, records=(plain.records[0], *told))


@dataclass
class Machine:
    """What one device has on its disk, and what it is at."""

    memory: Memory = field(default_factory=lambda: Memory(good=commit_of(1)))
    trying: bytes | None = None
    run: int = 0  # of the device that is trying: one that died meanwhile begins anew
    watched_until_s: float | None = None
    shown: Status | None = None
    ran: list[bytes] = field(default_factory=list)  # that were ever activated, even to be undone


class Rollouts:
    """The rollout of every device in a world. `bad` commits fail wherever they are tried; `liars` lie."""

    def __init__(
        self,
        world: World,
        rings: tuple[Ring, ...],
        *,
        bad: frozenset[bytes],
        liars: frozenset[int] = frozenset(),
        fails_on: frozenset[int] | None = None,
    ) -> None:
        self.world = world
        self.rings = rings
        self.bad = bad
        self.liars = liars
        self.fails_on = fails_on  # a bad commit fails on these only; None: everywhere
        self.machines = [Machine() for _ in world.devices]
        self._rng = Random(f"rollouts {world.seed}")
        self._look()

    # --- what people do ------------------------------------------------------------------------------------

    def push(self, index: int, number: int) -> None:
        """Push a commit at a device."""
        head = Head(commit_of(number - 1), commit_of(number), b"signed")
        self.world.mesh(index).publish(head, slot=REF, now=self.world.now(index))
        self.world.settle(index)

    def order(self, index: int, verb: Verb, number: int | None = None) -> Directive:
        """Have an admin say something, at its device."""
        mesh = self.world.mesh(index)
        said = directive(mesh.authority, mesh.ledger, verb, REF, commit_of(number) if number is not None else None)
        mesh.publish(said, slot=said.slot, now=self.world.now(index))
        self.world.settle(index)
        return said

    # --- what devices do -----------------------------------------------------------------------------------

    def _look(self) -> None:
        """Have each device act on what its core told it, now and again and again."""
        for device in self.world.devices:
            if device.mesh is not None and self.world.now_s >= device.paused_until_s:
                self._act(device, self.machines[device.index])
        self.world.at(self.world.now_s + LOOK_S, self._look)

    def _act(self, device: Device, machine: Machine) -> None:
        told = device.states.get("SetRollout")
        if not told:
            return
        value = told[-1][1]
        assert isinstance(value, SetRollout)
        del told[:-1]
        if machine.run != device.run:  # it has just started: what it was at, and since when it watched, is gone
            machine.run, machine.trying, machine.watched_until_s, machine.shown = device.run, None, None, None
        self._heed_retries(machine, value)
        target = self._target(value)
        verdict = gate(target, tags=value.tags, rings=self.rings, trials=value.trials, orders=value.orders)
        is_open = target != machine.memory.good and machine.memory.failure_of(target) is None
        if machine.trying is None and is_open and isinstance(verdict, Go):
            machine.memory = machine.memory.with_soak(target, verdict.soak_s)
            machine.trying = target
            machine.ran.append(target)
            ends_s = self.world.now_s + self._rng.uniform(*TRYING_S)
            self.world.at(ends_s, partial(self._finish, device, machine, machine.run, target))
        self._watch(machine)
        facts = Facts(target, machine.memory, RolloutState.TESTING if machine.trying else None, gate=verdict)
        self._show(device, machine, target, state_of(facts))

    @staticmethod
    def _target(value: SetRollout) -> bytes:
        return max((claim.new for claim in value.heads), key=number_of, default=commit_of(1))

    @staticmethod
    def _heed_retries(machine: Machine, value: SetRollout) -> None:
        for order in value.orders:
            if order.verb is Verb.RETRY and order.commit is not None:
                machine.memory = machine.memory.with_retry(order.author.hex(), order.seq, order.commit)

    def _finish(self, device: Device, machine: Machine, run: int, commit: bytes) -> None:
        if device.mesh is None or device.run != run:
            return
        fails = commit in self.bad and (self.fails_on is None or device.index in self.fails_on)
        state = ROLLED_BACK if fails else CURRENT
        entry = Entry(commit.hex(), state, "it broke" if fails else "", self.world.now_s, 0.0)
        machine.memory = machine.memory.with_result(entry, "")
        machine.trying = machine.watched_until_s = None

    def _watch(self, machine: Machine) -> None:
        soak = machine.memory.soaking
        if soak is None or machine.trying is not None:
            return
        if machine.watched_until_s is None:
            machine.watched_until_s = self.world.now_s + soak.seconds
        elif self.world.now_s >= machine.watched_until_s:
            machine.memory, machine.watched_until_s = machine.memory.watched(), None

    def _show(self, device: Device, machine: Machine, target: bytes, state: RolloutState) -> None:
        commit, bad = machine.memory.good, machine.memory.bad_commits
        if device.index in self.liars:  # whatever is true, what harms most: the bad is well, the good is bad
            state, commit = RolloutState.CURRENT, target
            bad = () if target in self.bad else (target,)
        status = Status(commit, target, state, 0, SecretsState.CURRENT, bad)
        if status == machine.shown:
            return
        machine.shown, mesh = status, device.mesh
        assert mesh is not None
        mesh.set_status(status, self.world.clock(device))
        self.world.settle(device.index)

    # --- what came of it -----------------------------------------------------------------------------------

    def runs(self, index: int) -> int:
        """The commit that a device runs."""
        good = self.machines[index].memory.good
        assert good is not None
        return number_of(good)
