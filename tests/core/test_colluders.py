"""Two members lie together, in every way that a member can: whoever answers is `down` at no honest one.

One honest detector among members of whom two do what the dice say, as often as they like: they suspect (the
present incarnation, older and later ones), say no or yes to what they were asked and to what they were not, ask
without end, fall silent and come back. All others answer, late and sometimes not.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from random import Random

import pytest

from clanmesh_protocol.keys import NodeId
from clanmeshd.core.membership import Membership
from clanmeshd.core.subjects import Action, AskIndirect, Changed, SendPing, State
from tests.core.test_membership import OWN, peer

SECONDS = 60.0
LIES_EVERY_S = 0.15
LATE_S = 0.15  # at most, to answer
LOSS = 0.1
NUMBERS_AHEAD = 3  # of pings: a member sees those that come to it, and counts on
INCARNATION = 10
CASES = [(size, seed) for size in (4, 5, 8, 20) for seed in range(6)]


class Society:
    """An honest detector, two liars (the first of the peers), and the others, in virtual time."""

    def __init__(self, size: int, seed: int, loss: float = LOSS) -> None:
        self.rng = Random(f"colluders {size} {seed}")
        self.now_s = 100.0
        self.detector = Membership(OWN, self.rng, self.now_s)
        self.peers = [peer(number) for number in range(1, size)]
        self.liars, self.honest = self.peers[:2], self.peers[2:]
        self.unreached: set[NodeId] = set()  # by the detector: the others do reach them
        self.silent: set[NodeId] = set()
        self.loss = loss
        self.suspected: list[NodeId] = []
        self.downs: list[NodeId] = []
        self.lies = 0
        self._number = 0  # of the newest ping to a liar
        self._order = count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self.detector.set_members([OWN, *self.peers], self.now_s)
        for node in self.peers:
            self.detector.set_probeable(node, self.now_s)
            self.detector.set_incarnation(node, INCARNATION, self.now_s)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end_s = self.now_s + seconds
        while (due_s := min(self.detector.next_deadline(), self._due[0][0] if self._due else end_s)) < end_s:
            self.now_s = max(self.now_s, due_s)
            if self._due and self._due[0][0] <= self.now_s:
                heappop(self._due)[2]()
            else:
                self.detector.handle_deadline(self.now_s)
            self.drain()
        self.now_s = end_s

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something after so long."""
        heappush(self._due, (self.now_s + seconds, next(self._order), act))

    def drain(self) -> None:
        """Have all that the detector wants answered, and take its votes."""
        self.detector.ballot.take(self.now_s)
        for action in self.detector.actions():
            self.answer(action)

    def answer(self, action: Action) -> None:
        """What comes of an action."""
        match action:
            case SendPing(node=node, number=number):
                if node in self.liars:
                    self._number = number
                if node not in self.silent | self.unreached and self.rng.random() >= 2 * self.loss:
                    self.later(self.rng.uniform(0.001, LATE_S), lambda: self.acked(node, number))
            case AskIndirect(via=via, number=number) if via in self.honest and self.rng.random() >= 2 * self.loss:
                self.later(self.rng.uniform(0.002, 2 * LATE_S), lambda: self.vouch(via, number, reached=True))
            case AskIndirect(via=via, number=number) if via in self.liars:
                self.vouch(via, number, reached=False)
            case Changed(node=node, after=State.SUSPECT):
                self.suspected.append(node)
            case Changed(node=node, after=State.DOWN):
                self.downs.append(node)

    def acked(self, node: NodeId, number: int) -> None:
        """An answer comes."""
        self.detector.acked(node, number, self.now_s)
        self.detector.heard(node, self.now_s)

    def vouch(self, by: NodeId, number: int, *, reached: bool) -> None:
        """A report comes."""
        self.detector.vouched(by, number, reached=reached, now_s=self.now_s)

    # --- lies -------------------------------------------------------------------------------------------

    def begin_to_lie(self, kinds: str) -> None:
        """From now on, again and again."""
        self.lie(self.rng.choice(self.liars), self.rng.choice(kinds.split()))
        self.later(self.rng.uniform(0.0, 2 * LIES_EVERY_S), lambda: self.begin_to_lie(kinds))

    def lie(self, liar: NodeId, kind: str) -> None:
        """One lie of one of them."""
        self.lies += 1
        others = [node for node in self.peers if node != liar]
        match kind:
            case "suspect":
                incarnation = INCARNATION + self.rng.choice([0, 0, 0, -1, 1, 1 << 62])
                self.detector.suspected(liar, tuple((node, incarnation) for node in others), self.now_s)
            case "withdraw":
                self.detector.suspected(liar, (), self.now_s)
            case "report":
                for ahead in range(NUMBERS_AHEAD):
                    self.vouch(liar, self._number + ahead, reached=self.rng.random() < 0.1)
            case "ask":
                for number in range(100):
                    self.detector.asked(liar, number, self.rng.choice(others), self.now_s)
            case "vanish":
                self.silent ^= {liar}
            case "renew":
                self.detector.set_incarnation(liar, INCARNATION + self.lies, self.now_s)


ALL = "suspect suspect suspect withdraw report report ask vanish renew"


@pytest.mark.parametrize(("size", "seed"), CASES)
def test_whoever_answers_is_never_down(size: int, seed: int) -> None:
    society = Society(size, seed)
    society.run(5.0)
    society.begin_to_lie(ALL)
    society.run(SECONDS)
    assert society.lies > SECONDS / LIES_EVERY_S / 2
    assert not set(society.downs) & set(society.honest)


@pytest.mark.parametrize("kind", ["suspect", "report", "ask", "vanish"])
def test_nor_by_one_kind_of_lies_alone(kind: str) -> None:
    society = Society(8, 1)
    society.run(5.0)
    society.begin_to_lie(kind)
    society.run(SECONDS)
    assert not set(society.downs) & set(society.honest)


@pytest.mark.parametrize("size", [8, 20])
def test_false_reports_do_not_outweigh_a_true_one(size: int) -> None:
    """One whom the others reach and we do not is not even suspected, whatever two say of it, or of it unasked."""
    society = Society(size, 2, loss=0.0)
    society.run(5.0)
    society.unreached.add(society.honest[0])
    society.begin_to_lie("report")
    society.run(SECONDS)
    assert society.suspected == society.downs == []


def test_who_answers_nobody_is_down_in_such_company() -> None:
    """Else the tests above would show nothing."""
    society = Society(8, 1)
    society.run(5.0)
    society.begin_to_lie(ALL)
    society.unreached.add(society.honest[0])
    society.run(SECONDS)
    assert set(society.downs) & set(society.honest) == {society.honest[0]}
