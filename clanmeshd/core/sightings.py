"""What members see of one another's addresses: each is to the others what a STUN server would be.

Said on an ACK, to whom it is about, when it has changed; and, since ACKs are lost and the other side forgets, now
and then again. Two that see each other at an address that is in the other's node record say nothing at all, so a
clan on one network costs nothing.

What is heard are hints. One word of each member is kept, for a while; what two say alike goes before what one
says, and no single one decides of which kind the router here is.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from math import inf
from typing import NamedTuple

from clanmesh_protocol.endpoints import Endpoint, is_candidate
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.records import Node
from clanmesh_protocol.signalling import NatKind, Seen
from clanmeshd.core.effects import Reflected
from clanmeshd.core.limits import LEFT_S, OBSERVERS_MAX, REFLECTIONS_MAX, SEEN_AGAIN_S, SEEN_LIFE_S, SEEN_TIMES


def is_meetable(ip: bytes, inside: bytes) -> bool:
    """Whether two devices may meet at this address: it is some machine's, and not inside of the clan's prefix.

    Of IPv6 only global unicast and unique local addresses are (2000::/3, fc00::/7); of IPv4 not 0.0.0.0/8.
    """
    if ip.startswith(inside) or not is_candidate(ip):
        return False
    return ip[0] != 0 if len(ip) == 4 else ip[0] >> 5 == 1 or ip[0] & 0xFE == 0xFC


def is_outer(ip: bytes) -> bool:
    """Whether an address means the same everywhere: none of RFC 1918, RFC 6598 (carriers' NATs) or RFC 4193."""
    if len(ip) == 16:
        return ip[0] & 0xFE != 0xFC
    first, second = ip[:2]
    is_home = first == 10 or (first, second) == (192, 168) or (first == 172 and 16 <= second < 32)
    return not (is_home or (first == 100 and 64 <= second < 128))


class _Told(NamedTuple):
    boot: bytes  # of the run that was told: a later one has forgotten it
    seen: Seen
    times: int
    at_s: float


class Tellings:
    """What this device tells the others. Bounded: one word for each member."""

    def __init__(self, inside: bytes) -> None:
        self._inside = inside
        self._tunnels: Mapping[NodeId, Endpoint] = {}
        self._told: dict[NodeId, _Told] = {}

    def retain(self, members: frozenset[NodeId]) -> None:
        """Forget all others."""
        self._told = {node: told for node, told in self._told.items() if node in members}

    def set_tunnels(self, tunnels: Mapping[NodeId, Endpoint]) -> list[NodeId]:
        """Take where WireGuard has its peers: all those whose packets came from there without a relay.

        Gives those that are elsewhere than before.
        """
        before, self._tunnels = self._tunnels, dict(tunnels)
        return [node for node, endpoint in tunnels.items() if before.get(node) != endpoint]

    def word(self, node: NodeId, source: Endpoint, boot: bytes, record: Node | None, now_s: float) -> Seen | None:
        """What to say on an ACK to a member whose ping came from `source`. None: nothing, or not again now."""
        seen = self._seen(node, source, record)
        if seen is None:
            return None
        told = self._told.get(node)
        if told is None or (told.boot, told.seen) != (boot, seen):
            told = _Told(boot, seen, 0, -inf)
        if told.times >= SEEN_TIMES:
            if now_s < told.at_s + SEEN_AGAIN_S:
                return None
            told = told._replace(times=SEEN_TIMES - 1)
        self._told[node] = told._replace(times=told.times + 1, at_s=now_s)
        return seen

    def _seen(self, node: NodeId, source: Endpoint, record: Node | None) -> Seen | None:
        listed, tunnel_port = ((), 0) if record is None else (record.endpoints, record.tunnel_port)
        control = source if source not in listed and is_meetable(source.ip, self._inside) else None
        tunnel = self._tunnels.get(node)
        if tunnel is not None and not self._is_news(tunnel, listed, tunnel_port):
            tunnel = None
        return Seen(control, tunnel) if control is not None or tunnel is not None else None

    def _is_news(self, tunnel: Endpoint, listed: Iterable[Endpoint], tunnel_port: int) -> bool:
        is_listed = tunnel.port == tunnel_port and any(tunnel.ip == each.ip for each in listed)
        return not is_listed and is_meetable(tunnel.ip, self._inside)


class Sightings:
    """What this device was told. Bounded: one word of each of so many members, the newest, for so long.

    Who has moved is told for a while where its tunnels came from before: members see another place only once they
    were sent something. Such words count only if an answer to a probe, which is fresh, says the same.
    """

    def __init__(self, inside: bytes) -> None:
        self.version = 0  # changes when what follows from the words may have
        self._inside = inside
        self._heard: dict[NodeId, tuple[Seen, float]] = {}  # the newest last
        self._probed: dict[NodeId, Endpoint] = {}  # where answers to probes saw the WireGuard port
        self._left: frozenset[Endpoint] = frozenset()  # where the tunnels came from before this device moved
        self._left_s = -inf

    def __len__(self) -> int:
        """How many words are remembered."""
        return len(self._heard)

    def retain(self, members: frozenset[NodeId]) -> None:
        """Forget what others said."""
        self._heard = {node: heard for node, heard in self._heard.items() if node in members}
        self._probed = {node: tunnel for node, tunnel in self._probed.items() if node in self._heard}
        self.version += 1

    def forget(self, now_s: float) -> None:
        """This device is somewhere else now: nothing that was seen before holds."""
        self._left = frozenset(seen.tunnel for seen, _ in self._heard.values() if seen.tunnel is not None)
        self._left_s = now_s
        self._heard.clear()
        self._probed.clear()
        self.version += 1

    def hear(self, observer: NodeId, seen: Seen, now_s: float) -> None:
        """Take a proven member's word. Addresses where nobody can be are dropped.

        Its WireGuard may not have been spoken to yet: a word that is silent of it takes back no answer to a probe.
        """
        before = self._heard.pop(observer, None)
        self.version += 1
        tunnel = seen.tunnel if seen.tunnel is not None else self._probed.get(observer)
        if tunnel in self._left and now_s < self._left_s + LEFT_S:
            tunnel = before[0].tunnel if before is not None else None
        kept = Seen(self._sound(seen.control), self._sound(tunnel))
        if kept != Seen(None, None):
            self._heard[observer] = (kept, now_s)
        if len(self._heard) > OBSERVERS_MAX:
            self._drop(next(iter(self._heard)))

    def answered(self, observer: NodeId, tunnel: Endpoint, own: Collection[Endpoint], now_s: float) -> None:
        """A member's answer to a probe says where it saw the WireGuard port. `own`: where that is by itself."""
        before, self._left = self._heard.get(observer), self._left - {tunnel}
        control = before[0].control if before is not None else None
        mapped = tunnel if tunnel not in own else None
        self._probed.pop(observer, None)
        self.hear(observer, Seen(control, mapped), now_s)
        if mapped is not None and observer in self._heard:
            self._probed[observer] = mapped

    def _sound(self, endpoint: Endpoint | None) -> Endpoint | None:
        return endpoint if endpoint is not None and is_meetable(endpoint.ip, self._inside) else None

    def lapse(self, now_s: float) -> None:
        """Forget what is too old."""
        while self._heard and now_s >= next(iter(self._heard.values()))[1] + SEEN_LIFE_S:
            self._drop(next(iter(self._heard)))
            self.version += 1

    def _drop(self, observer: NodeId) -> None:
        del self._heard[observer]
        self._probed.pop(observer, None)

    def reflected(self, own: Collection[bytes]) -> Reflected:
        """What follows from all words, for a device with these addresses of its own (4 or 16 bytes each)."""
        words = [seen for seen, _ in reversed(self._heard.values())]
        control = [seen.control for seen in words if seen.control is not None]
        tunnel = [seen.tunnel for seen in words if seen.tunnel is not None]
        kind = nat_kind(tunnel if len(tunnel) > 1 else control or tunnel, own)
        return Reflected(kind, _best_first(tunnel), _best_first(control))


def _best_first(seen: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """Each endpoint once: what most say, of equals the newest, those that mean the same everywhere first."""
    counts = Counter(seen)
    ordered = sorted(counts, key=lambda endpoint: (not is_outer(endpoint.ip), -counts[endpoint]))
    return tuple(ordered[:REFLECTIONS_MAX])


def nat_kind(seen: Collection[Endpoint], own: Collection[bytes]) -> NatKind:
    """Judge the router here by what each of several observers sees, of IPv4 if there is any.

    Easy takes over half of them, two at least: a single one that says something else does not decide.
    """
    size = 4 if any(len(endpoint.ip) == 4 for endpoint in seen) or any(len(ip) == 4 for ip in own) else 16
    family = [endpoint for endpoint in seen if len(endpoint.ip) == size]
    outer = [endpoint for endpoint in family if is_outer(endpoint.ip)]
    mapped = [endpoint for endpoint in outer or family if endpoint.ip not in own]
    if not mapped:
        has_own = any(len(ip) == size and is_outer(ip) for ip in own)
        return NatKind.NONE if family or has_own else NatKind.UNKNOWN
    if len(mapped) < 2:
        return NatKind.UNKNOWN
    agreeing = max(Counter(mapped).values())
    return NatKind.EASY if agreeing > 1 and 2 * agreeing > len(mapped) else NatKind.HARD
