"""Who answers: SWIM with Lifeguard's local health, as one device's own and reversible opinion.

A member is `unknown` until it is heard, then `up`. Each device watches a few members, and is watched by as many
(`watching`). Once a second it pings the one of them that was heard or tried longest ago; every fifth time it pings
one of the others instead. Unanswered, it is repeated and three others are asked to try. Unanswered still, it is
pinged every quarter of a second, and after two (more where pings are lost) it is `suspect`: this device says so,
and others who hear of it, whether they watch it or not, ping it as often. It is `down` when all of these hold:

- it answered none of this device's own pings since,
- the refutation window is over, and no status with a higher seq came from it,
- enough distinct members suspect the incarnation that is held here; or so few witnesses are left that they
  cannot be enough, and it was silent for half a minute.

Whoever is down is tried for ever. Nothing here adds or removes a member, and nothing is believed of anyone but
the subject itself, except an indirect answer, which only ends one probe.
"""

from collections.abc import Iterable, Sequence
from math import inf
from random import Random  # noqa: TID251

from clanmesh_protocol.keys import NodeId
from clanmeshd.core.agenda import Agenda
from clanmeshd.core.limits import (
    CONFIRM_AGAIN_S,
    CONFIRM_INTERVAL_S,
    HELLO_EVERY,
    INDIRECT_PEERS,
    INDIRECT_TIMEOUT_S,
    LOCAL_HEALTH_MAX,
    MOVED_PINGS,
    PAUSE_S,
    PROBE_INTERVAL_S,
    PROBE_SLOWDOWN_MAX,
    REFUTATION_PAIR_S,
    REFUTATION_S,
    SUSPECT_INTERVAL_S,
    TURN_S_PER_MEMBER,
    TURNS_S_MAX,
    UNWITNESSED_S,
    WITNESSES_MAX,
)
from clanmeshd.core.relays import Relays
from clanmeshd.core.revival import Revival
from clanmeshd.core.roundtrip import Misses, PingNumbers
from clanmeshd.core.standings import Standings
from clanmeshd.core.subjects import Action, AskIndirect, Changed, SendPing, Stage, State, Subject
from clanmeshd.core.suspicions import Accusations, Ballot, Suspicions, quorum
from clanmeshd.core.turns import Rota


class Membership:
    """The failure detector. Takes what was heard and the time; gives actions, and votes to publish.

    All times are monotonic seconds. Methods that name a node expect a member, unless they say otherwise.
    """

    def __init__(self, own: NodeId, rng: Random, now_s: float) -> None:
        self.ballot = Ballot()
        self.version = 0  # grows whenever who is up has changed
        self._own = own
        self._rng = rng
        self._subjects: dict[NodeId, Subject] = {}
        self._standings = Standings()
        self._stages: Agenda[NodeId] = Agenda()  # when a member's stage goes on
        self._rota = Rota(own, rng)
        self._actions: list[Action] = []
        self._numbers = PingNumbers(rng.getrandbits(32))
        self._relays = Relays()
        self._suspicions = Suspicions()
        self._misses = Misses()
        self._accusations = Accusations(now_s)
        self._revival = Revival(rng)
        self._health = 0  # Lifeguard: 0 is well, 8 is a node that hears nobody
        self._awake_s = now_s  # since when we have been here without a pause
        self._probe_s = now_s

    # --- the members ------------------------------------------------------------------------------------

    def set_members(self, members: Iterable[NodeId], now_s: float) -> None:
        """Take the set of all members; new ones are tried soon."""
        wanted = sorted(set(members) - {self._own})
        for gone in sorted(set(self._subjects).difference(wanted)):
            self.ballot.withdraw(gone)
            self._stages.drop(gone)
        self._subjects = {node: self._subjects.get(node) or Subject(node) for node in wanted}
        self._suspicions.retain(frozenset(wanted))
        self._accusations.retain(self._subjects, now_s)
        self._revival.retain(self._subjects)
        self._standings.assign(self._subjects.values())
        self._rota.assign(self._subjects)
        self.version += 1
        self._hasten(now_s)

    def set_probeable(self, node: NodeId, now_s: float) -> None:
        """Say that an address of a member is known now."""
        subject = self._subjects[node]
        if not subject.probeable:
            subject.probeable = True
            self._rota.enter(subject)
            self._hasten(now_s)

    def state(self, node: NodeId) -> State:
        """The opinion of a member."""
        return self._subjects[node].state

    def heard_s(self, node: NodeId) -> float | None:
        """When a member was last heard; None for not since this device started."""
        heard_s = self._subjects[node].heard_s
        return heard_s if heard_s > -inf else None

    def round_trip_s(self, node: NodeId) -> float | None:
        """The smoothed round trip to a member."""
        return self._subjects[node].round_trip.smoothed_s

    def magnitude(self, node: NodeId) -> int:
        """How far away a member is, roughly."""
        return self._subjects[node].round_trip.magnitude

    def up(self) -> Sequence[NodeId]:
        """The members that are up, sorted."""
        return self._standings.up()

    def lost(self) -> list[NodeId]:
        """The members that are not up, sorted."""
        return self._standings.lost()

    # --- what was heard ---------------------------------------------------------------------------------

    def heard(self, node: NodeId, now_s: float) -> None:
        """A proven datagram came from a member: it lives."""
        subject = self._subjects[node]
        subject.heard_s = now_s
        self._actions += self._relays.heard(node)
        if subject.is_settled:
            return
        if subject.stage is Stage.CONFIRM:
            subject.confirmed_s = now_s
        elif subject.stage is Stage.DIRECT:
            self._misses.sample(missed=False)
        self._settle(subject, now_s)
        if subject.state is State.DOWN:
            self._revival.begin(self._standings.of(State.DOWN), now_s)
        self._change(subject, State.UP)

    def greeted(self, node: NodeId, now_s: float) -> None:
        """A hello was answered, as it seems: the next ping can be read, and need not wait. Only a few times."""
        subject = self._subjects.get(node)
        if subject is not None and subject.takes_greeting():
            self._ping(subject, now_s, wide=False)

    def acked(self, node: NodeId, number: int, now_s: float) -> float | None:
        """A member answered a ping: the round trip in seconds; None if it waited for no answer."""
        seconds = self._numbers.answered(node, number, now_s)
        if seconds is not None:
            self._subjects[node].round_trip.sample(seconds)
            self._health = max(0, self._health - 1)
        return seconds

    def asked(self, asker: NodeId, number: int, target: NodeId, now_s: float) -> None:
        """A member wants to know whether we reach `target`, which need not be a member."""
        subject = self._subjects.get(target)
        if subject is None or not subject.probeable or target == asker:
            return
        if self._relays.ask(asker, number, target, now_s + subject.round_trip.timeout_s):
            self._ping(subject, now_s, wide=False)

    def vouched(self, by: NodeId, number: int, *, reached: bool, now_s: float) -> None:
        """A member reports, once if it was asked, on a ping of ours. Reached: this probe is over, no more is."""
        for subject in self._subjects.values():
            if subject.stage is Stage.INDIRECT and subject.number == number and by in subject.asked:
                subject.asked.remove(by)
                if reached:
                    subject.greet_again()
                    self._settle(subject, now_s)
                    self._hasten(now_s)
                return

    def suspected(self, author: NodeId, suspects: tuple[tuple[NodeId, int], ...], now_s: float) -> None:
        """A signed suspicion by another member came."""
        self._suspicions.hear(author, suspects, now_s)
        for node, incarnation in suspects:
            subject = self._subjects.get(node)
            if subject is not None and subject.incarnation == incarnation and node != author:
                self._accused(subject, now_s)

    def set_incarnation(self, node: NodeId, seq: int, now_s: float) -> None:
        """A newer status of a member came: suspicions of older incarnations are refuted."""
        subject = self._subjects[node]
        if seq <= subject.incarnation:
            return
        subject.incarnation = seq
        if subject.stage in (Stage.CONFIRM, Stage.SUSPECT):
            subject.tried_s = -inf  # signed, but perhaps long on its way: it is the next that we try ourselves
            self._settle(subject, now_s)
            self._change(subject, State.UP)
        elif subject.state is State.DOWN and subject.probeable:
            self._ping(subject, now_s, wide=True)

    def ping(self, node: NodeId, now_s: float, *, wide: bool = False) -> None:
        """Ping a member out of turn, at its best endpoint, or at several, as if it had not been tried yet."""
        subject = self._subjects[node]
        subject.unanswered = 0 if wide else subject.unanswered
        self._ping(subject, now_s, wide=wide)

    def ping_some(self, now_s: float) -> None:
        """Ping a few members that are up: this device is elsewhere now, and wants to hear how it is seen there."""
        up = self.up()
        for node in self._rng.sample(up, min(MOVED_PINGS, len(up))):
            self.ping(node, now_s)

    def issue_number(self, node: NodeId, now_s: float) -> int:
        """A number for a ping that the caller sends to an address of its own choice."""
        return self._numbers.issue(node, now_s)

    # --- time -------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When `handle_deadline` or `ballot.take` has something to do; infinity for never."""
        return min(
            self._probe_s if self._rota.anybody() else inf,
            self._revival.next_deadline(),
            self._accusations.next_deadline(),
            self.ballot.next_deadline(),
            self._relays.next_deadline(),
            self._stages.next_s(),
        )

    def handle_deadline(self, now_s: float) -> None:
        """Do what is due."""
        if now_s > self.next_deadline() + PAUSE_S:
            self._resume(now_s)
        self._actions += self._relays.lapse(now_s)
        for node in sorted(self._stages.pop_due(now_s)):
            self._go_on(self._subjects[node], now_s)
        if self._probe_s <= now_s:
            self._probe_by_turn(now_s)
        for node in self._revival.take(self._standings.of(State.DOWN), now_s):
            self._ping(self._subjects[node], now_s, wide=True)
        while (accused := self._accusations.take(now_s)) is not None:
            subject = self._subjects[accused]
            if self._is_in_doubt(subject, now_s) and self._votes(subject, now_s):
                self._confirm(subject, now_s, self._patience_s())

    def actions(self) -> list[Action]:
        """Drain what is to be done."""
        actions, self._actions = self._actions, []
        return actions

    def _resume(self, now_s: float) -> None:
        # We were away, not they: no verdict may rest on answers that came while nobody was here to take them.
        self._health = min(LOCAL_HEALTH_MAX, self._health + 1)
        self._awake_s = now_s
        for subject in self._subjects.values():
            subject.silent_s = subject.accused_s = now_s
            subject.tried_s = -inf
            if subject.stage in (Stage.DIRECT, Stage.INDIRECT):
                self._settle(subject, now_s)
            self._rota.enter(subject)
        self._probe_s = now_s

    # --- probing by turns -------------------------------------------------------------------------------

    def _hasten(self, now_s: float) -> None:
        self._probe_s = min(self._probe_s, now_s + self._rota.greeting_pause_s())

    def _probe_by_turn(self, now_s: float) -> None:
        subject = self._rota.next()
        if subject is not None:
            self._advance(subject, Stage.DIRECT, now_s + subject.round_trip.timeout_s * (self._health + 1))
            self._ping(subject, now_s, wide=subject.state is State.UNKNOWN)
        self._probe_s = now_s + PROBE_INTERVAL_S * min(self._health + 1, PROBE_SLOWDOWN_MAX)
        self._hasten(now_s)

    def _ping(self, subject: Subject, now_s: float, *, wide: bool) -> None:
        if subject.unanswered == 0:
            subject.silent_s = now_s
        lost = subject.state in (State.UNKNOWN, State.DOWN)
        hello = lost and subject.unanswered % HELLO_EVERY == 0
        subject.unanswered += 1
        if subject.stage is not Stage.IDLE:
            subject.tried_s = now_s  # out of turn it is not repeated when it is lost: that is no try
        number = self._numbers.issue(subject.node, now_s)
        subject.number = number if subject.stage is not Stage.INDIRECT else subject.number
        self._actions.append(SendPing(subject.node, number, wide, hello))

    def _go_on(self, subject: Subject, now_s: float) -> None:
        match subject.stage:
            case Stage.DIRECT:
                self._misses.sample(missed=True)
                self._ask_others(subject, now_s)
            case Stage.INDIRECT:
                self._blame(subject)
                self._confirm(subject, now_s)
            case Stage.CONFIRM if now_s >= subject.confirmed_silent_s(self._misses.doubt_s):
                self._suspect(subject, now_s)
            case Stage.CONFIRM:
                self._advance(subject, Stage.CONFIRM, now_s + CONFIRM_INTERVAL_S)
                self._ping(subject, now_s, wide=True)
            case Stage.SUSPECT:
                self._judge(subject, now_s)
            case Stage.IDLE:
                pass

    def _ask_others(self, subject: Subject, now_s: float) -> None:
        others = [node for node in self.up() if node != subject.node]
        asked = self._rng.sample(others, min(INDIRECT_PEERS, len(others)))
        patience_s = INDIRECT_TIMEOUT_S if asked else subject.round_trip.timeout_s
        self._ping(subject, now_s, wide=True)
        self._advance(subject, Stage.INDIRECT, now_s + patience_s * (self._health + 1))
        subject.asked = set(asked)
        self._actions += [AskIndirect(via, subject.number, subject.node) for via in asked]

    def _blame(self, subject: Subject) -> None:
        # Lifeguard: those who were asked and said nothing make it likelier that the fault is on this side.
        missing = len(subject.asked) if subject.asked or len(self.up()) > 1 else 1
        self._health = min(LOCAL_HEALTH_MAX, self._health + missing)

    # --- suspicion --------------------------------------------------------------------------------------

    def _accused(self, subject: Subject, now_s: float) -> None:
        if subject.state is State.DOWN:
            if self._votes(subject, now_s) < WITNESSES_MAX:
                self.ballot.support(subject.node, subject.incarnation, now_s)
        elif subject.stage is Stage.SUSPECT:
            self._judge(subject, now_s, ping=False)
        elif self._is_in_doubt(subject, now_s) and self._accusations.admit(subject.node, now_s):
            self._confirm(subject, now_s, self._patience_s())

    def _is_in_doubt(self, subject: Subject, now_s: float) -> bool:
        is_tried = subject.stage in (Stage.CONFIRM, Stage.SUSPECT) or subject.state is State.DOWN
        answered_just_now = now_s < subject.confirmed_s + CONFIRM_AGAIN_S
        return subject.probeable and not is_tried and not answered_just_now

    def _votes(self, subject: Subject, now_s: float) -> int:
        return self._suspicions.against(subject.node, subject.incarnation, now_s)

    def _patience_s(self) -> float:
        # Not all at once: who comes later finds that enough has been said.
        return self._rng.random() * min(TURNS_S_MAX, TURN_S_PER_MEMBER * len(self._subjects))

    def _confirm(self, subject: Subject, now_s: float, patience_s: float = 0.0) -> None:
        # A vote costs everybody a record, and one more if it was rash: some pings of our own come first.
        subject.accused_s, subject.patience_s = now_s, patience_s
        self._advance(subject, Stage.CONFIRM, now_s + CONFIRM_INTERVAL_S)
        self._ping(subject, now_s, wide=True)

    def _suspect(self, subject: Subject, now_s: float) -> None:
        if self._votes(subject, now_s) < WITNESSES_MAX:  # else a thousand would say what three have said
            self.ballot.cast(subject.node, subject.incarnation, now_s)
        self._change(subject, State.SUSPECT)
        self._advance(subject, Stage.SUSPECT, now_s)
        self._judge(subject, now_s)

    def _judge(self, subject: Subject, now_s: float, *, ping: bool = True) -> None:
        window_s = REFUTATION_S if len(self._subjects) > 1 else REFUTATION_PAIR_S
        over_s = subject.accused_s + window_s
        if now_s >= over_s and self._is_enough(subject, now_s):
            self._settle(subject, now_s, withdraw=False)
            self.ballot.rest(subject.node)
            self._revival.lose(now_s)
            self._change(subject, State.DOWN)
            return
        if ping:
            self._ping(subject, now_s, wide=True)
            wait_s = CONFIRM_INTERVAL_S if now_s < over_s else SUSPECT_INTERVAL_S
            # Never late for the moment at which the verdict may fall.
            due_s = min(now_s + wait_s, over_s) if now_s < over_s else now_s + wait_s
            self._advance(subject, Stage.SUSPECT, due_s)

    def _is_enough(self, subject: Subject, now_s: float) -> bool:
        others = len(self._subjects) - 1  # the subject itself is suspect
        needed = quorum(2 + others - len(self._standings.of(State.DOWN)))
        votes = 1 + self._votes(subject, now_s)
        witnesses = 1 + len(self._standings.of(State.UP))
        silent_s = now_s - max(subject.silent_s, self._awake_s)
        return votes >= needed or (witnesses < needed and silent_s >= UNWITNESSED_S)

    # --- small steps ------------------------------------------------------------------------------------

    def _advance(self, subject: Subject, stage: Stage, due_s: float) -> None:
        subject.stage = stage
        self._stages.set(subject.node, due_s)

    def _settle(self, subject: Subject, now_s: float, *, withdraw: bool = True) -> None:
        self._advance(subject, Stage.IDLE, inf)
        subject.asked, subject.unanswered = set(), 0
        self._rota.enter(subject)
        self._probe_s = max(self._probe_s, now_s)  # it may have stood still while nobody awaited a turn
        if withdraw:
            self.ballot.withdraw(subject.node)

    def _change(self, subject: Subject, state: State) -> None:
        if subject.state is not state:
            self._actions.append(Changed(subject.node, subject.state, state))
            self._standings.move(subject.node, subject.state, state)
            subject.state = state
            self.version += 1
            self._rota.enter(subject)
