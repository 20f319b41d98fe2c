"""The wanted states of the adapters, worked out again when what they rest on has changed, told when they have."""

from math import inf
from typing import TypeAlias

from clanmesh_protocol.keys import DeviceKeys
from clanmesh_protocol.records import Kind
from clanmeshd.core import wanted
from clanmeshd.core.authority import Authority
from clanmeshd.core.effects import Instant, SetNames, SetRollout, SetSecrets, SetTunnels
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.limits import EXPIRY_CHECK_S, REST_MEMBERS, REST_S_PER_MEMBER
from clanmeshd.core.membership import Membership
from clanmeshd.core.paths import Paths
from clanmeshd.core.peers import nearest
from clanmeshd.core.roster import EXPIRY_GRACE_S

WantedState: TypeAlias = SetTunnels | SetNames | SetSecrets | SetRollout


class Derived:
    """Remembers what was told last. The first answer tells all four."""

    def __init__(self, ledger: Ledger, paths: Paths, tunnel_port: int) -> None:
        self._ledger = ledger
        self._paths = paths
        self._tunnel_port = tunnel_port
        self._views = wanted.TunnelViews()
        self._sources: dict[type[WantedState], object] = {}  # what each state was worked out from
        self._versions: tuple[object, ...] = ()  # of everything that any of them rests on
        self._told: dict[type[WantedState], WantedState] = {}
        self._expiry_s = inf
        self._expired = 0  # counts the times that a membership may have expired
        self._rested_s = -inf  # until when a large clan's states rest
        self._waits = False
        self._authority: Authority | None = None
        self._folds = 0  # counts the authorities that were looked at

    def next_deadline(self) -> float:
        """When `handle_deadline` is to be called: a membership may have expired, or a rest is over."""
        return min(self._expiry_s, self._rested_s if self._waits else inf)

    def handle_deadline(self, now_s: float) -> None:
        """Work out anew the next time what rests on who is a member."""
        if self._expiry_s <= now_s:
            self._expired, self._expiry_s = self._expired + 1, inf
        self._waits = self._waits and now_s < self._rested_s

    def changed(
        self, authority: Authority, keys: DeviceKeys, membership: Membership, now: Instant
    ) -> list[WantedState] | None:
        """Give the wanted states that differ from what was told. None: nothing that they rest on has changed."""
        if authority is not self._authority:
            self._authority, self._folds = authority, self._folds + 1
        versions = (
            self._ledger.version,
            self._folds,
            self._expired,
            self._paths.version,
            membership.version,
            keys.tunnel_seed,
        )
        if versions == self._versions and not self._waits:
            return None
        self._versions = versions
        sources = self._sources_now(keys, membership)
        urgent = sources[SetNames] != self._sources.get(SetNames)  # who is a member
        self._waits = sources != self._sources and not urgent and now.monotonic_s < self._rested_s
        if self._waits or sources == self._sources:
            return []
        stale = [state for state, source in sources.items() if self._sources.get(state) != source]
        self._sources = sources
        self._expiry_s = now.monotonic_s + _next_expiry_s(authority, now.unix_s)
        self._rested_s = now.monotonic_s + REST_S_PER_MEMBER * max(0, len(authority.members) - REST_MEMBERS)
        states = [self._work_out(state, authority, keys, membership, now) for state in stale]
        fresh = [state for state in states if self._told.get(type(state)) != state]
        self._told.update((type(state), state) for state in fresh)
        return fresh

    def _sources_now(self, keys: DeviceKeys, membership: Membership) -> dict[type[WantedState], object]:
        version = self._ledger.version_of
        trust, paths = self._folds, self._paths.version
        return {
            SetTunnels: (trust, self._expired, version(Kind.NODE), paths, keys.tunnel_seed),
            SetNames: (trust, self._expired),
            SetSecrets: (trust, version(Kind.SECRET)),
            SetRollout: (
                trust,
                self._expired,
                version(Kind.HEAD, Kind.STATUS, Kind.DIRECTIVE),
                paths,
                membership.version,
            ),
        }

    def _work_out(
        self,
        state: type[WantedState],
        authority: Authority,
        keys: DeviceKeys,
        membership: Membership,
        now: Instant,
    ) -> WantedState:
        if state is SetTunnels:
            return self._tunnels(authority, keys, now)
        if state is SetNames:
            return wanted.names(authority, now.unix_s)
        if state is SetSecrets:
            return wanted.secrets(authority, self._ledger, keys.node)
        reachable = nearest(membership, keys.node)
        return wanted.rollout(
            authority,
            self._ledger,
            keys.node,
            reachable=reachable,
            endpoints=self._paths.signed,
            now_unix_s=now.unix_s,
        )

    def _tunnels(self, authority: Authority, keys: DeviceKeys, now: Instant) -> SetTunnels:
        others = [node for node in authority.members if node != keys.node]
        self._views.retain(authority.members)
        return wanted.tunnels(
            authority,
            self._ledger,
            keys,
            listen_port=self._tunnel_port,
            endpoints={node: at for node in others if (at := self._paths.plain(node)) is not None},
            now_unix_s=now.unix_s,
            known=self._views,
        )


def _next_expiry_s(authority: Authority, now_unix_s: float) -> float:
    ahead = [member.expires_unix_s + EXPIRY_GRACE_S - now_unix_s + 1.0 for member in authority.members.values()]
    # The wall clock may jump over an expiry: look again now and then.
    return min([EXPIRY_CHECK_S, *(seconds for seconds in ahead if seconds > 0)])
