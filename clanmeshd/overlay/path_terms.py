"""The words between the path engine and what surrounds it: what it is told, what it wants done, what it shows.

And its numbers, each with its unit and reason. Times are monotonic seconds.
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from math import inf
from random import Random
from typing import Final, NamedTuple, TypeAlias

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.signalling import CallKind, Candidate, NatKind

# --- Probing -------------------------------------------------------------------------------------------

PROBE_PAUSES_S: Final = (0.05, 0.15, 0.35, 0.8)  # between the tries of one spot in one search: five, all lost in 1
# of 100,000 with a tenth lost; the first is often a moment too early, before the peer knows who probes
BRIEF_TRIES: Final = 2  # in a search that is one of many: another one follows
PONGS_NEEDED: Final = 2  # one may be a stray; the second, or the peer's own probe, is none
PONGS_WITHOUT: Final = 1  # the same where nothing else leads to the peer
PROOF_S: Final = 10.0  # within which they must come, and for which they hold where nothing else shows life
SPOTS_MAX: Final = 16  # endpoints of one peer that are remembered: eight called, eight listed
SEARCH_S: Final = 2.5  # from its beginning on: calls, openers and all tries have had their time
CALL_PAUSES_S: Final = (0.3, 0.4, 0.8)  # until an answer comes, each time by somebody else
NEAR_DELAY_S: Final = 0.15  # of the call and the relay, where the peer may be on this network: that takes 3 ms
RELAY_DELAY_S: Final = 0.4  # of the relay, where a search may well succeed by then
WOKEN_RELAY_DELAY_S: Final = 0.1  # the same where a packet waits that is to arrive within a second
OPENED_TURN_S: Final = 0.15  # after both have opened, until the other one probes, too: whose router is harder is a
# guess where one member alone has seen both, and the one that begins needs no more than a round trip
OTHERS_TURN_S: Final = 1.2  # by when whose turn it is has not got through, the other one tries in any case

# --- Judging -------------------------------------------------------------------------------------------

RTT_GAIN: Final = 0.25  # of a new sample in the smoothed round trip
MARGIN_SHARE: Final = 0.2  # by how much another path must be faster: four times what noise of 5 % does
MARGIN_S: Final = 0.003  # and in any case; schedulers alone make 1 ms
SILENCE_S: Final = 0.45  # sent, and nothing received for so long: ask for a sign of life
ECHO_S: Final = 0.4  # between two such questions
LOOK_S: Final = 0.15  # between two looks for the answer
LOOKING_S: Final = 0.05  # that a look takes at most, which a relay waits for
LOOKED_S: Final = 1.0  # that a look before a relay is asked for is good for
DEAD_S: Final = 1.5  # of silence, four questions unanswered: counters that are looked at each second show silence
# after two at most, and half a second is left for the way elsewhere until four are over
CONFIRM_S: Final = 0.6  # after a change of addresses, for the former path to prove itself again
AVOID_S: Final = 60.0  # a spot or a relay that died is not gone back to for so long, unless it is proven again
AVOID_ALONE_S: Final = (
    4.0  # a relay that passed nothing on, where there is no other: the peer may not be there yet
)
AVOIDED_MAX: Final = 8  # relays of one peer that are remembered as bad, the newest

# --- Trying again --------------------------------------------------------------------------------------

RETRY_S: Final = (2.0, 5.0, 10.0, 20.0, 40.0)  # without a direct path; then the last for ever
SILENT_RETRY_S: Final = 300.0  # with no path at all, after those: who comes back searches by itself
SILENT_MAX: Final = 2  # searches in vain after which no relay is asked for one who does not call either
RETRY_JITTER: Final = 0.2  # of that, either way: two peers and many pairs do not try in step. 48 s at most
IMPROVE_S: Final = 45.0  # with a direct path that is none on this network: is there a better one?
ASKED_AGAIN_S: Final = 1.0  # what others do begins no search more often
RELAY_PATIENCE_S: Final = 1.5  # for a relay to answer: a connection and two round trips to the far side
RELAY_LINGER_S: Final = 10.0  # that a relay is kept after a direct path has begun, for what the peer still sends
DEATHS_MAX: Final = 3  # paths that die one after the other with nothing heard: then the peer is away, not they
SLEEP_CHECK_S: Final = 10.0  # how often, in a large clan, it is looked at who may sleep
SLEEP_AFTER_S: Final = 120.0  # without traffic, in a large clan: as long as WireGuard keeps a session going
AWAKE_MAX: Final = 64  # peers up to which nobody sleeps: 64 keepalives of 25 s are 3 packets a second
KEEPALIVE_S: Final = 25  # below the 30 s after which common routers forget a UDP flow


class PathKind(StrEnum):
    """How a peer's packets go."""

    LAN = "lan"
    DIRECT = "direct"
    RELAY = "relay"
    NONE = "none"


class Rank(IntEnum):
    """How near a spot is by its address alone."""

    LAN = 0  # on a network of this device
    PRIVATE = 1  # no address of the internet, but not on a network of this device
    DIRECT = 2


PENALTY_S: Final = {Rank.LAN: 0.0, Rank.PRIVATE: 0.002, Rank.DIRECT: 0.005}  # of its score


class Why(StrEnum):
    """Why a path is not direct, for people."""

    NOTHING = ""
    TRYING = "being tried"
    HARD_BOTH = "both routers are symmetric"
    HARD_ONE = "one router is symmetric, and the other lets in only whom it knows"
    BLOCKED_HERE = "UDP is blocked here"
    BLOCKED_THERE = "UDP is blocked at the other"
    SILENT = "the other does not answer probes"
    NO_CARRIER = "no member reaches both"
    ASLEEP = "nothing to send: it is tried with the first packet"


# --- What the engine is told ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Own:
    """This device."""

    address: bytes  # in the overlay, 16 bytes
    ips: frozenset[bytes]  # of its interfaces, packed
    candidates: tuple[Candidate, ...]  # where others may try its WireGuard
    nat: NatKind


@dataclass(frozen=True, slots=True)
class Fellow:
    """Another member, by its records."""

    address: bytes  # in the overlay, 16 bytes
    listed: tuple[Endpoint, ...]  # where its WireGuard is by its node record


@dataclass(frozen=True, slots=True)
class Relay:
    """A member that is up and relays."""

    node: NodeId
    rtt_s: float
    ips: frozenset[bytes]  # where its relay ports may be


@dataclass(slots=True)
class Around:
    """What all paths share."""

    own: Own
    dice: Random
    relays: tuple[Relay, ...] = ()
    looks_s: tuple[float, float] = (-inf, -inf)  # when counters were looked at: last, and before that
    is_crowd: bool = False  # there are so many peers that idle ones sleep


# --- What the engine wants done ------------------------------------------------------------------------


class Open(NamedTuple):
    """Send a packet from WireGuard's port that leaves the own router and does not arrive."""

    node: NodeId
    endpoint: Endpoint


class Probe(NamedTuple):
    """Send a probe from WireGuard's port."""

    node: NodeId
    endpoint: Endpoint


class MakeCall(NamedTuple):
    """Call the peer, directly or by way of a member; tell `not_carried` when nobody can."""

    node: NodeId
    kind: CallKind
    candidates: tuple[Candidate, ...]


class UseEndpoint(NamedTuple):
    """Have WireGuard send to the peer there. `begins`: this side makes the handshake if there is no session."""

    node: NodeId
    endpoint: Endpoint
    keepalive_s: int  # 0: off
    begins: bool


class Hold(NamedTuple):
    """Have WireGuard send to the peer nowhere until the next UseEndpoint, which comes soon.

    This device is behind another router now. One in front of the peer may take a packet that comes from there,
    before the peer has sent there, for a connection of its own, and would give the peer another port from then on.
    """

    node: NodeId


class AskRelay(NamedTuple):
    """Ask a member to relay for the pair; `carried`: by a stream, since no UDP passes here."""

    node: NodeId
    via: NodeId
    carried: bool


class DropRelay(NamedTuple):
    """Give a relay back."""

    node: NodeId
    via: NodeId


class Echo(NamedTuple):
    """Send something through the tunnel that the peer's system answers: the counters show whether it did."""

    node: NodeId


class Look(NamedTuple):
    """Tell `counted` of this peer now: a verdict waits for it."""

    node: NodeId


class Sleep(NamedTuple):
    """No keepalive, and nothing more from here, until WireGuard wants to send something: have it ring then."""

    node: NodeId


class Wake(NamedTuple):
    """Let WireGuard follow the peer again. Where it sends is for later."""

    node: NodeId


class Leave(NamedTuple):
    """Of one that slept: it is found nowhere. Have WireGuard send where its record says, and not ring any more."""

    node: NodeId


Action: TypeAlias = (
    Open | Probe | MakeCall | UseEndpoint | Hold | AskRelay | DropRelay | Echo | Look | Sleep | Wake | Leave
)


# --- What it shows -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Standing:
    """How it is with a peer, for people."""

    kind: PathKind
    endpoint: Endpoint | None
    via: NodeId | None  # the relay, where it is known who that is
    rtt_s: float | None  # of a direct path, as probes found it
    why: Why  # not direct; empty when it is
    next_try_s: float | None  # None: not by itself


# How much stands in the way of packets from outside: who has more of it begins.
HARDNESS: Final = {
    NatKind.NONE: 0,
    NatKind.EASY: 1,
    NatKind.UNKNOWN: 2,
    NatKind.HARD: 3,
    NatKind.BLOCKED: 4,
}
