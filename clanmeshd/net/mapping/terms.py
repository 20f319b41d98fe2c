"""The words of port mapping: what is wanted, what a router granted, what to do next, and why there is none."""

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Final, Protocol, TypeVar

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.errors import ProtocolError

LIFETIME_S: Final = 7200  # what we ask for: RFC 6886, 3.3; a device that vanished leaves a hole for so long
LIFETIME_S_MIN: Final = 120  # RFC 6887, 15: who grants less is renewed as if it were this, or it could chase us
LIFETIME_S_MAX: Final = 86_400  # RFC 6887, 15
WHY_OFFLINE: Final = "the router has no address of the internet: it is offline, or behind another NAT"
ANSWERS_READ_MAX: Final = 8  # to one request: late answers to earlier ones, or a router that babbles

T = TypeVar("T")


class Transport(IntEnum):
    """Protocols above IP, by their IANA numbers."""

    TCP = 6
    UDP = 17


class Reason(Enum):
    """Why no port is mapped."""

    OFF = "off"  # by the configuration
    NO_ROUTER = "no-router"
    NOT_NEEDED = "public"  # this device has an address of the internet itself
    NO_ADDRESS = "no-address"  # of IPv6 that anybody outside could reach
    SEARCHING = "searching"
    SILENT = "silent"
    REFUSED = "refused"
    BEHIND_NAT = "behind-nat"


@dataclass(frozen=True, slots=True)
class Forward:
    """A port of this device that others shall reach."""

    transport: Transport
    port: int


Door = tuple[Forward, ...]  # forwards that need the same port number outside


@dataclass(frozen=True, slots=True)
class Link:
    """How the router is reached: packed addresses of 4 or 16 bytes, and the interface of a link-local one."""

    gateway: bytes
    own: bytes
    scope: int = 0


@dataclass(frozen=True, slots=True)
class Grant:
    """What the router gave: the port outside, and for how long."""

    external_port: int
    lifetime_s: float


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands: `external` has the endpoint outside of each own port that is mapped.

    `reason` and `why` (for people) say what is missing; both None when nothing is.
    """

    by: str | None = None
    external: Mapping[int, Endpoint] = field(default_factory=dict)
    reason: Reason | None = None
    why: str | None = None


# --- what shall be done, and what came of it -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Datagram:
    """Send to the router's port of PCP and NAT-PMP (nothing: only listen), and wait for an answer from there."""

    data: bytes
    wait_s: float


@dataclass(frozen=True, slots=True)
class Search:
    """Ask the LAN for UPnP devices (nothing: only listen), and wait for an answer of the router."""

    data: bytes
    wait_s: float


@dataclass(frozen=True, slots=True)
class Ask:
    """Say this to a TCP port of the router, and read its answer to the end."""

    port: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Rest:
    """Do nothing for a while; if it wakes, until the router or the network may have changed.

    If it heeds wishes, until other doors are wanted.
    """

    wait_s: float
    wakes: bool = True
    heeds: bool = False


@dataclass(frozen=True, slots=True)
class Show:
    """This is how it stands now."""

    standing: Standing


Effect = Datagram | Search | Ask | Rest | Show


@dataclass(frozen=True, slots=True)
class Heard:
    """What an effect is resumed with: an answer or None, when, and how long that took.

    `refused`: the router's system says that nobody listens there. `woken`: a rest was ended early by the network,
    `asked`: by a wish.
    """

    now_s: float
    data: bytes | None = None
    waited_s: float = 0.0
    refused: bool = False
    woken: bool = False
    asked: bool = False


Talk = Generator[Effect, Heard, T]


class Silent(Exception):
    """The router does not speak this protocol, or not now."""


class Refused(Exception):
    """The router answered no; the text says why, for people."""


class Taken(Refused):
    """Somebody else has that port of the router; another one may do."""


class Dialect(Protocol):
    """One protocol, spoken with one router. All but `remove` raise Silent and Refused."""

    name: str
    external_ip: bytes | None  # packed, once it is known

    def add(self, forward: Forward, external_port: int) -> Talk[Grant]:
        """Map a port, or renew it. The port outside is a suggestion."""
        ...

    def remove(self, forward: Forward, external_port: int) -> Talk[None]:
        """Withdraw a mapping; that it is gone already is fine, and so is silence."""
        ...

    def is_unchanged(self, forward: Forward, external_port: int) -> Talk[bool]:
        """Whether the router has the address and the mappings that it had."""
        ...


def exchange(
    request: bytes,
    waits_s: Iterable[float],
    read_untrusted: Callable[[bytes], T],
    by: type[Datagram] | type[Search] = Datagram,
) -> Talk[tuple[T, float]]:
    """Send until there is an answer that `read_untrusted` takes; that, and the time. Raises Silent."""
    for wait_s in waits_s:
        data, left_s = request, wait_s
        for _ in range(ANSWERS_READ_MAX):
            heard = yield by(data, left_s)
            if heard.refused:
                raise Silent
            if heard.data is None:
                break
            try:
                return read_untrusted(heard.data), heard.now_s
            except ProtocolError:
                data, left_s = b"", max(0.0, left_s - heard.waited_s)
    raise Silent


def bounded_lifetime_s(lifetime_s: float) -> float:
    """The lifetime that a router named, as we go by it."""
    return min(max(lifetime_s, LIFETIME_S_MIN), LIFETIME_S_MAX)


class Epoch:
    """A router's own clock in seconds, which starts anew when it lost its mappings."""

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None

    def note(self, router_s: int, now_s: float) -> bool:
        """Take the router's clock; whether it went on from the last time (RFC 6886, 3.6).

        A clock may be slower by an eighth, and two seconds are forgiven. One that is fast says nothing is lost.
        """
        last, self._last = self._last, (router_s, now_s)
        return last is None or router_s >= last[0] + (now_s - last[1]) * 7 / 8 - 2
