"""Which protocol is spoken with a router, and how mappings are made, renewed, made anew and withdrawn. Pure.

1. PCP, then NAT-PMP, then UPnP: the first that the router speaks and grants is kept. A router that speaks none is
   asked again after a minute, later every two hours: a handful of small packets each time.
2. The forwards of a door need the same port outside. What the router gives the first of them is suggested for the
   others; if that fails, another port is tried for all of them, a few times. A port that another door has is not
   asked for: some routers would take it from there.
3. Every five minutes it is seen whether the router went on as it was. If not, when router or network may have
   changed, and at half of the life of a mapping, all are mapped again: renewing is the same as mapping.
4. A router that is silent meanwhile is asked again for some minutes, and given up then.
5. What is wanted beside the doors that stay is mapped when it is asked for, and goes when it is not any more. That
   a router refuses it is no reason to complain.
6. An address outside that is none of the internet's is behind another NAT: mappings there lead nowhere, and go.
"""

import ipaddress
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Final

from clanmesh_protocol.endpoints import Endpoint, is_public
from clanmeshd.net.mapping.terms import (
    LIFETIME_S_MAX,
    WHY_OFFLINE,
    Dialect,
    Door,
    Forward,
    Link,
    Reason,
    Refused,
    Rest,
    Show,
    Silent,
    Standing,
    Taken,
    Talk,
)

RETRY_S_MIN: Final = 60.0  # after a power cut a router's services come later than its network
RETRY_S_MAX: Final = 7200.0  # 600 bytes each: 0.1 B/s
RETRY_FACTOR: Final = 4
CHECK_S: Final = 300.0  # 120 bytes each with PCP, 2 kB with UPnP: 7 B/s at most
CHECK_S_MIN: Final = 10.0  # however often the network or the router claims to have changed
PATIENCE_S: Final = 30.0  # until a router that was silent is asked again,
SILENCES_MAX: Final = 8  # as often: restarting takes it a minute or two, some five
EXTERNAL_PORTS: Final = (49_152, 65_535)  # for a second try: what routers let anybody have (RFC 6335, 6)
PORT_TRIES_MAX: Final = 4

_WHY_SEARCHING: Final = "the router is being asked"
_WHY_GONE: Final = "the router answers no more"
_WHY_DIFFERENT: Final = "the router gives UDP and TCP different ports"
_WHY_SILENT: Final = {  # by the bytes of an address
    4: "the router speaks neither PCP nor NAT-PMP nor UPnP, or has them switched off",
    16: "the router speaks no PCP by IPv6, or has it switched off",
}


class _Unmapped(Exception):
    """There is no mapping, or none any more."""

    def __init__(self, reason: Reason, why: str) -> None:
        super().__init__(why)
        self.reason = reason
        self.why = why


class Keeper:
    """Keeps some ports mapped at one router: let `run` run, then what `withdrawals` gives."""

    def __init__(
        self,
        link: Link,
        doors: Sequence[Door],
        nonce_of: Callable[[Forward], bytes],
        dice: Random,
        now_s: float,
    ) -> None:
        self._link = link
        self._doors = tuple(doors)
        self._nonce_of = nonce_of
        self._dice = dice
        self._now_s = now_s  # at the end of the last rest: what is granted later lasts longer than we think
        self._dialect: Dialect | None = None
        self._granted: dict[Forward, int] = {}  # the ports outside
        self._external: dict[int, Endpoint] = {}  # of each door, by its port here
        self._refusal: Refused | None = None  # of a door that stays
        self._more: tuple[Door, ...] = ()  # wanted for a while
        self._asked: list[Door] = []  # which of these the router was asked for
        self._renew_s = now_s

    def want(self, more: Sequence[Door]) -> None:
        """Keep these mapped as well, and none that was wanted before: from the end of a rest that heeds it on."""
        self._more = tuple(more)

    def run(self) -> Talk[None]:
        """Keep the ports mapped for ever."""
        retry_s = RETRY_S_MIN
        yield Show(Standing(reason=Reason.SEARCHING, why=_WHY_SEARCHING))
        while True:
            try:
                dialect = yield from self._find()
                retry_s = RETRY_S_MIN
                yield from self._hold(dialect)
            except _Unmapped as failure:
                yield Show(Standing(reason=failure.reason, why=failure.why))
                yield from self.withdraw()
            yield from self._rest(retry_s)
            retry_s = min(retry_s * RETRY_FACTOR, RETRY_S_MAX)

    def withdraw(self) -> Talk[None]:
        """Take back what the router has given."""
        for talk in self.withdrawals():
            yield from talk

    def withdrawals(self) -> list[Talk[None]]:
        """The same in parts, which may go on side by side: some routers take a third of a second for each."""
        dialect, self._dialect = self._dialect, None
        granted, self._granted = self._granted, {}
        return [dialect.remove(forward, port) for forward, port in granted.items()] if dialect is not None else []

    def _rest(self, wait_s: float, *, heeds: bool = False) -> Talk[bool]:
        """Wait; whether a change of router or network has ended that, not at once. A wish does that at once."""
        heard = yield Rest(min(wait_s, CHECK_S_MIN), wakes=False, heeds=heeds)
        if not heard.asked:
            heard = yield Rest(max(0.0, wait_s - CHECK_S_MIN), heeds=heeds)
        self._now_s = heard.now_s
        return heard.woken

    # --- finding and holding ---

    def _dialects(self) -> Iterator[Dialect]:
        # Loaded when they are needed: most routers speak one of them, and many devices have no such router.
        from clanmeshd.net.mapping.pcp import Pcp

        yield Pcp(self._link, self._nonce_of)
        if len(self._link.own) != 4:
            return  # NAT-PMP knows no IPv6, and UPnP has another service for it, which few routers offer
        from clanmeshd.net.mapping.natpmp import NatPmp

        yield NatPmp()
        from clanmeshd.net.mapping.upnp import Upnp

        yield Upnp(self._link)

    def _find(self) -> Talk[Dialect]:
        """Map by the first protocol that does it. Raises _Unmapped."""
        refusal: _Unmapped | None = None
        for dialect in self._dialects():
            self._dialect = dialect
            try:
                yield from self._map(dialect)
                return dialect
            except Silent:
                pass
            except Refused as refused:
                refusal = refusal or _Unmapped(Reason.REFUSED, f"{refused} ({dialect.name})")
            yield from self.withdraw()
        raise refusal or _Unmapped(Reason.SILENT, _WHY_SILENT[len(self._link.own)])

    def _hold(self, dialect: Dialect) -> Talk[None]:
        """Check and renew. Raises _Unmapped when the mappings are lost."""
        silences = 0
        while True:
            wait_s = PATIENCE_S if silences else min(CHECK_S, self._renew_s - self._now_s)
            is_woken = yield from self._rest(wait_s, heeds=True)
            try:
                yield from self._follow(dialect)
                is_unchanged = yield from self._is_unchanged(dialect)  # which looks at the address as well
                if is_woken or self._now_s >= self._renew_s or not is_unchanged:
                    yield from self._map(dialect)
                silences = 0
            except Silent:
                silences += 1
                if silences > SILENCES_MAX:
                    raise _Unmapped(Reason.SILENT, _WHY_GONE) from None
            except Refused as refused:
                raise _Unmapped(Reason.REFUSED, f"{refused} ({dialect.name})") from None

    def _is_unchanged(self, dialect: Dialect) -> Talk[bool]:
        for forward, port in self._granted.items():
            return (yield from dialect.is_unchanged(forward, port))
        return False

    # --- mapping ---

    def _map(self, dialect: Dialect) -> Talk[None]:
        """Map or renew all doors. Raises Silent; Refused when no door is had; _Unmapped behind another NAT."""
        self._renew_s = self._now_s + LIFETIME_S_MAX
        self._external, self._asked = {}, list(self._more)
        refusals: list[Refused] = []
        try:
            for door in self._doors:
                refusals += yield from self._try(dialect, door)
            for door in self._asked.copy():
                yield from self._try(dialect, door)
        except Silent:
            self._renew_s = self._now_s  # what was left is to be had as soon as the router answers again
            raise
        if refusals and not self._external:
            raise refusals[0]
        self._refusal = refusals[0] if refusals else None
        yield self._standing(dialect)

    def _follow(self, dialect: Dialect) -> Talk[None]:
        """Map what else is wanted by now, and withdraw what is not any more. Raises as `_map`."""
        wanted, before = self._more, self._external.copy()
        for door in [each for each in self._asked if each not in wanted]:
            self._asked.remove(door)
            self._external.pop(door[0].port, None)
            yield from self._remove_all(dialect, door)
        for door in [each for each in wanted if each not in self._asked]:
            yield from self._try(dialect, door)
            self._asked.append(door)
        if self._external != before:
            yield self._standing(dialect)

    def _standing(self, dialect: Dialect) -> Show:
        reason = Reason.REFUSED if self._refusal is not None else None
        why = str(self._refusal) if self._refusal is not None else None
        return Show(Standing(dialect.name, dict(self._external), reason, why))

    def _try(self, dialect: Dialect, door: Door) -> Talk[list[Refused]]:
        """Map one door, or give why it is not had. Raises Silent; _Unmapped behind another NAT."""
        try:
            port = yield from self._map_door(dialect, door)
        except Refused as refused:
            return [refused]
        assert dialect.external_ip is not None, "a grant tells it"
        self._external[door[0].port] = Endpoint(dialect.external_ip, port)
        return []

    def _map_door(self, dialect: Dialect, door: Door) -> Talk[int]:
        """Map all forwards of a door to one port outside; that port."""
        suggestion = self._granted.get(door[0], door[0].port)
        refusal = Refused(_WHY_DIFFERENT)
        for _ in range(PORT_TRIES_MAX):
            others = {port for forward, port in self._granted.items() if forward not in door}
            while suggestion in others:
                suggestion = self._dice.randint(*EXTERNAL_PORTS)
            try:
                ports = yield from self._add_all(dialect, door, suggestion)
            except Taken as taken:
                refusal = taken
            else:
                if len(ports) == 1 and not ports & others:
                    return ports.pop()
                if ports & others:
                    self._renew_s = self._now_s  # another door may have lost it: see to that soon
            yield from self._remove_all(dialect, door)
            suggestion = self._dice.randint(*EXTERNAL_PORTS)
        raise refusal

    def _add_all(self, dialect: Dialect, door: Door, suggestion: int) -> Talk[set[int]]:
        """Map each forward of a door; the ports that came of it."""
        ports: set[int] = set()
        for forward in door:
            grant = yield from dialect.add(forward, suggestion)
            suggestion = self._granted[forward] = grant.external_port
            self._renew_s = min(self._renew_s, self._now_s + grant.lifetime_s / 2)
            ports.add(grant.external_port)
            self._insist_on_public(dialect.external_ip)
        return ports

    def _remove_all(self, dialect: Dialect, door: Door) -> Talk[None]:
        for forward in door:
            if forward in self._granted:
                yield from dialect.remove(forward, self._granted.pop(forward))

    def _insist_on_public(self, ip: bytes | None) -> None:
        if ip is None or is_public(ip):
            return
        address = ipaddress.ip_address(ip)
        why = f"the router is behind another NAT: its own address is {address}" if any(ip) else WHY_OFFLINE
        raise _Unmapped(Reason.BEHIND_NAT, why)
