"""What WireGuard has counted, as far as it is news: of hundreds of peers a few have traffic at a time."""

import time
from collections.abc import Awaitable, Callable, Collection, Mapping

import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmeshd.core.effects import SetTunnels, Tunnel
from clanmeshd.overlay.device import TunnelState, may_have_session


class Counting:
    """Remembers what each peer's counters were. `observe` gives them all, by public key."""

    def __init__(self, observe: Callable[[], Awaitable[Mapping[bytes, TunnelState]]]) -> None:
        self._observe = observe
        self._states: dict[bytes, TunnelState] = {}
        self._tunnels: dict[bytes, Tunnel] = {}  # by public key
        self._by_node: dict[NodeId, Tunnel] = {}
        self._lock = trio.Lock()  # of two that look at once the later would be told first

    def set_wanted(self, wanted: SetTunnels) -> dict[bytes, NodeId]:
        """Say which tunnels there shall be; gives their nodes, by public key."""
        self._tunnels = {tunnel.public_key: tunnel for tunnel in wanted.tunnels}
        self._by_node = {tunnel.node: tunnel for tunnel in wanted.tunnels}
        return {key: tunnel.node for key, tunnel in self._tunnels.items()}

    def tunnel(self, node: NodeId) -> Tunnel | None:
        """The wanted tunnel to a member."""
        return self._by_node.get(node)

    @property
    def passed_bytes(self) -> int:
        """All that went either way, by the last look."""
        return sum(state.tx_bytes + state.rx_bytes for state in self._states.values())

    async def changes(self) -> list[tuple[NodeId, TunnelState]]:
        """Look; give the members of whom anything is another than at the last look."""
        async with self._lock:
            before, self._states = self._states, dict(await self._observe())
            return [
                (tunnel.node, state)
                for key, state in self._states.items()
                if before.get(key) != state and (tunnel := self._tunnels.get(key)) is not None
            ]

    def has_session(self, node: NodeId) -> bool:
        """Whether there may be a session with a member, by the last look."""
        state = self._state(node)
        return state is not None and may_have_session(state, time.time())

    def is_known(self, node: NodeId) -> bool:
        """Whether WireGuard had the member at the last look."""
        return self._state(node) is not None

    def _state(self, node: NodeId) -> TunnelState | None:
        tunnel = self._by_node.get(node)
        return self._states.get(tunnel.public_key) if tunnel is not None else None


class Whereabouts:
    """Where WireGuard has the members whose packets come without a relay, to be told to them."""

    def __init__(self) -> None:
        self._seen: dict[NodeId, Endpoint] = {}
        self._told: dict[NodeId, Endpoint] = {}

    def take(self, node: NodeId, state: TunnelState, hidden: Collection[Endpoint | None]) -> None:
        """Take what WireGuard says of one; `hidden` are places where it is not itself."""
        if state.endpoint is not None and state.endpoint not in hidden and state.handshake_unix_s:
            self._seen[node] = state.endpoint
        else:
            self._seen.pop(node, None)

    def news(self, is_known: Callable[[NodeId], bool]) -> dict[NodeId, Endpoint] | None:
        """All that are still known, if any is another than when this was last asked."""
        self._seen = {node: at for node, at in self._seen.items() if is_known(node)}
        if self._seen == self._told:
            return None
        self._told = dict(self._seen)
        return self._told
