"""What the failure detector knows of one member, and what it can want done."""

from dataclasses import dataclass, field
from enum import Enum, StrEnum
from math import inf
from typing import NamedTuple, TypeAlias

from clanmesh_protocol.keys import NodeId
from clanmeshd.core.limits import CONFIRM_FAILED_S, DOUBT_S, GREETINGS_AGAIN
from clanmeshd.core.relays import Relayed
from clanmeshd.core.roundtrip import RoundTrip


class State(StrEnum):
    """This device's opinion of a member."""

    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"
    UNKNOWN = "unknown"  # not heard since this device started


class Stage(Enum):
    """What is under way with a member."""

    IDLE = 0
    DIRECT = 1  # pinged by turn
    INDIRECT = 2  # pinged again, and others asked
    CONFIRM = 3  # somebody suspects it: do we reach it?
    SUSPECT = 4  # we do not


class SendPing(NamedTuple):
    """Ping a member, at its best endpoint or (wide) at all of them; with our node record when it may lack it."""

    node: NodeId
    number: int
    wide: bool
    hello: bool


class AskIndirect(NamedTuple):
    """Ask `via` to ping `target`."""

    via: NodeId
    number: int
    target: NodeId


class Changed(NamedTuple):
    """The opinion of a member changed."""

    node: NodeId
    before: State
    after: State


Action: TypeAlias = SendPing | AskIndirect | Relayed | Changed


@dataclass(slots=True)
class Subject:
    """One member under observation. Times are monotonic seconds."""

    node: NodeId
    state: State = State.UNKNOWN
    stage: Stage = Stage.IDLE
    probeable: bool = False  # an address of it is known
    heard_s: float = -inf
    tried_s: float = -inf
    unanswered: int = 0  # pings since it was heard
    silent_s: float = 0.0  # when the first of them was sent
    accused_s: float = 0.0  # beginning of the refutation window
    patience_s: float = 0.0  # until we say so, too, when others have said it first
    confirmed_s: float = -inf  # when it last answered a confirmation
    incarnation: int = 0
    number: int = 0  # of the ping that others were asked about
    asked: set[NodeId] = field(default_factory=set)  # to try it, and have said nothing yet
    greeted_again: int = 0
    round_trip: RoundTrip = field(default_factory=RoundTrip)

    def greet_again(self) -> None:
        """After others reached it: if it was never heard here, count it as untried, a few times."""
        if self.takes_greeting():
            self.tried_s = -inf

    def takes_greeting(self) -> bool:
        """Whether it may be tried out of turn, since something says that it is there; counts."""
        # A link that never works must not take the turns of those that do.
        if self.state is not State.UNKNOWN or self.greeted_again >= GREETINGS_AGAIN:
            return False
        self.greeted_again += 1
        return True

    def confirmed_silent_s(self, doubt_s: float) -> float:
        """When it has been tried by ourselves for long enough that a vote is not rash.

        `doubt_s` counts for whom we have heard: whoever starts alone in the dark soon knows it.
        """
        pause_s = doubt_s if self.state is State.UP else DOUBT_S
        return max(self.silent_s + CONFIRM_FAILED_S, self.accused_s + pause_s) + self.patience_s

    @property
    def is_settled(self) -> bool:
        """It is up, nothing is under way, no ping is unanswered: hearing it once more changes nothing."""
        return self.stage is Stage.IDLE and self.state is State.UP and not self.unanswered

    @property
    def turn(self) -> float:
        """Lowest goes first in the probing order."""
        return self.heard_s if self.heard_s > self.tried_s else self.tried_s

    @property
    def awaits_turn(self) -> bool:
        """Whether it is probed by turns: the down have their own schedule, the suspect are pinged anyway."""
        return self.probeable and self.stage is Stage.IDLE and self.state is not State.DOWN
