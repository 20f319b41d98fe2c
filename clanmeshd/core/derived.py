"""The wanted states of the adapters, worked out again when what they rest on has changed, told when they have."""

from collections.abc import Sequence
from math import inf
from typing import TypeAlias

from clanmesh_protocol.keys import DeviceKeys, NodeId
from clanmesh_protocol.records import Kind
from clanmeshd.core import wanted
from clanmeshd.core.authority import AUTHORITY_KINDS, Authority
from clanmeshd.core.effects import Instant, SetNames, SetRollout, SetSecrets, SetTunnels
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.limits import EXPIRY_CHECK_S
from clanmeshd.core.paths import Paths
from clanmeshd.core.roster import EXPIRY_GRACE_S

WantedState: TypeAlias = SetTunnels | SetNames | SetSecrets | SetRollout


class Derived:
    """Remembers what was told last. The first answer tells all four."""

    def __init__(self, ledger: Ledger, paths: Paths, tunnel_port: int) -> None:
        self._ledger = ledger
        self._paths = paths
        self._tunnel_port = tunnel_port
        self._key: object = None
        self._told: dict[type[WantedState], WantedState] = {}
        self._expiry_s = inf

    def next_deadline(self) -> float:
        """When `handle_deadline` is to be called: a membership may have expired."""
        return self._expiry_s

    def handle_deadline(self, now_s: float) -> None:
        """Work everything out again the next time."""
        if self._expiry_s <= now_s:
            self._key, self._expiry_s = None, inf

    def changed(
        self, authority: Authority, keys: DeviceKeys, nearest: Sequence[NodeId], now: Instant
    ) -> list[WantedState]:
        """Give the wanted states that differ from what was told. `nearest` are the reachable members, in order."""
        versions = self._ledger.version_of(*AUTHORITY_KINDS, Kind.NODE, Kind.STATUS, Kind.HEAD, Kind.SECRET)
        key = (versions, self._paths.version, tuple(nearest), keys.tunnel_seed)
        if key == self._key:
            return []
        self._key = key
        self._expiry_s = now.monotonic_s + _next_expiry_s(authority, now.unix_s)
        states = self._work_out(authority, keys, nearest, now)
        fresh = [state for state in states if self._told.get(type(state)) != state]
        self._told.update((type(state), state) for state in fresh)
        return fresh

    def _work_out(
        self, authority: Authority, keys: DeviceKeys, nearest: Sequence[NodeId], now: Instant
    ) -> list[WantedState]:
        own = keys.node
        others = [node for node in authority.members if node != own]
        live = {node: at for node in others if (at := self._paths.live(node)) is not None}
        signed = {node: self._paths.signed(node) for node in nearest}
        return [
            wanted.tunnels(
                authority,
                self._ledger,
                keys,
                listen_port=self._tunnel_port,
                endpoints=live,
                now_unix_s=now.unix_s,
            ),
            wanted.names(authority, now.unix_s),
            wanted.secrets(authority, self._ledger, own),
            wanted.rollout(authority, self._ledger, own, reachable=nearest, endpoints=signed),
        ]


def _next_expiry_s(authority: Authority, now_unix_s: float) -> float:
    ahead = [member.expires_unix_s + EXPIRY_GRACE_S - now_unix_s + 1.0 for member in authority.members.values()]
    # The wall clock may jump over an expiry: look again now and then.
    return min([EXPIRY_CHECK_S, *(seconds for seconds in ahead if seconds > 0)])
